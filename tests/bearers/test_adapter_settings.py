"""What is set of an adapter for our peers' sake, of which BlueZ 5.82 refuses some at times."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from own_bus import own_bus

from bt_selfsecure.bearers import bluez
from bt_selfsecure.bearers.pairing import Pairing

dbus = pytest.importorskip("dbus_fast")
BOB = "BA:27:EB:00:00:02"


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with own_bus(tmp_path, monkeypatch):
        yield


class Bluetoothd:
    """Sets as 5.82 does: nothing of Connectable while it is discoverable for a time, and both at once."""

    def __init__(self, **settings: bool | int) -> None:
        self.settings: dict[str, Any] = {"Pairable": False, "PairableTimeout": 0, **settings}

    async def __aenter__(self) -> Bluetoothd:
        from dbus_fast.aio import MessageBus

        self._bus = await MessageBus().connect()
        self._bus.add_message_handler(self._answer)
        await self._bus.request_name("org.bluez")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._bus.disconnect()

    def _answer(self, message: Any) -> Any:
        match message.member, message.body:
            case "GetAll", _:
                found = {name: self._variant(name) for name in self.settings}
                return dbus.Message.new_method_return(message, "a{sv}", [found])
            case "Get", [_, "Address"]:
                return dbus.Message.new_method_return(message, "v", [dbus.Variant("s", BOB)])
            case "Get", [_, name]:
                return dbus.Message.new_method_return(message, "v", [self._variant(name)])
            case "Set", [_, "Connectable", _] if self.settings["Discoverable"] and self.settings["DiscoverableTimeout"]:
                return dbus.Message.new_error(message, "org.bluez.Error.Failed", "")
            case "Set", [_, name, value]:
                self.settings[name] = value.value
                if name == "Discoverable":
                    self.settings["Connectable"] = value.value
                return dbus.Message.new_method_return(message)
            case "RegisterAgent" | "RequestDefaultAgent", _:
                return dbus.Message.new_method_return(message)
        return None

    def _variant(self, name: str) -> Any:
        value = self.settings[name]
        return dbus.Variant("b" if isinstance(value, bool) else "u", value)


@pytest.mark.parametrize("needed", [True, False])
def test_an_adapter_that_is_discoverable_for_a_time_is_left_so(bus: None, needed: bool, tmp_path: Path) -> None:
    async def test() -> None:
        memory = tmp_path / "before"
        async with Bluetoothd(Discoverable=True, DiscoverableTimeout=77, Connectable=True) as bluetoothd:
            before = dict(bluetoothd.settings)
            adapter = await bluez.BlueZ.prepare("hci0", Pairing(needed=lambda: needed, memory=memory))
            assert adapter
            assert bluetoothd.settings == {**before, "Pairable": needed}
            await adapter.close()
            assert bluetoothd.settings == before
            assert not memory.exists()

    asyncio.run(test())


def test_an_adapter_stays_connectable_when_its_time_of_being_discoverable_is_over(
    bus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bluez, "READY_S", 0.01)

    async def test() -> None:
        async with Bluetoothd(Discoverable=True, DiscoverableTimeout=77, Connectable=True) as bluetoothd:
            adapter = await bluez.BlueZ.prepare("hci0", Pairing(answers=False))
            assert adapter
            bluetoothd.settings |= {"Discoverable": False, "Connectable": False}
            async with asyncio.timeout(30):
                while not bluetoothd.settings["Connectable"]:
                    await asyncio.sleep(0.01)
            await adapter.close()

    asyncio.run(test())


def test_what_was_made_discoverable_meanwhile_is_hidden_again_and_no_longer_connectable(bus: None) -> None:
    async def test() -> None:
        async with Bluetoothd(Discoverable=False, DiscoverableTimeout=180, Connectable=False) as bluetoothd:
            before = dict(bluetoothd.settings)
            adapter = await bluez.BlueZ.prepare("hci0", Pairing())
            assert adapter
            bluetoothd.settings |= {"Discoverable": True, "DiscoverableTimeout": 900}
            await adapter.close()
            assert bluetoothd.settings == before

    asyncio.run(test())
