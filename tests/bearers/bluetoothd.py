"""A bluetoothd that answers on a D-Bus of one's own, with the settings of one adapter."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

ADDRESS = "BA:27:EB:00:00:02"


class Bluetoothd:
    """Sets as 5.82 does: nothing of Connectable while it is discoverable for a time, and both at once."""

    def __init__(self, **settings: bool | int) -> None:
        self._dbus = pytest.importorskip("dbus_fast")
        self.settings: dict[str, Any] = {"Pairable": False, "PairableTimeout": 0, **settings}
        self.told: list[tuple[str, Any]] = []
        """What was set, in order."""
        self.asked_for_agent = asyncio.Event()
        self.registers_agents = True
        """Else whoever wants to be its agent waits for ever."""

    async def __aenter__(self) -> Bluetoothd:
        from dbus_fast.aio import MessageBus

        self._bus = await MessageBus().connect()
        self._bus.add_message_handler(self._answer)
        await self._bus.request_name("org.bluez")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._bus.disconnect()
        with contextlib.suppress(EOFError):
            await self._bus.wait_for_disconnect()

    def _answer(self, message: Any) -> Any:
        match message.member, message.body:
            case "GetAll", _:
                found = {name: self._variant(name) for name in self.settings}
                return self._dbus.Message.new_method_return(message, "a{sv}", [found])
            case "Get", [_, "Address"]:
                return self._dbus.Message.new_method_return(message, "v", [self._dbus.Variant("s", ADDRESS)])
            case "Get", [_, name]:
                return self._dbus.Message.new_method_return(message, "v", [self._variant(name)])
            case "Set", [_, "Connectable", _] if self._is_discoverable_for_a_time():
                return self._dbus.Message.new_error(message, "org.bluez.Error.Failed", "")
            case "Set", [_, name, value]:
                self.settings[name] = value.value
                self.told.append((name, value.value))
                if name == "Discoverable":
                    self.settings["Connectable"] = value.value
                return self._dbus.Message.new_method_return(message)
            case "RegisterAgent" | "RequestDefaultAgent", _:
                self.asked_for_agent.set()
                return self._dbus.Message.new_method_return(message) if self.registers_agents else True
        return None

    def _is_discoverable_for_a_time(self) -> bool:
        return bool(self.settings.get("Discoverable") and self.settings.get("DiscoverableTimeout"))

    def _variant(self, name: str) -> Any:
        value = self.settings[name]
        return self._dbus.Variant("b" if isinstance(value, bool) else "u", value)
