"""bluetoothd over D-Bus, as far as RFCOMM needs it: an agent that pairs, a service that is found by SDP.

All of it is gone when the connection to the bus ends, as BlueZ has it for its clients.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from bt_selfsecure.bearers.base import BearerError
from bt_selfsecure.bearers.pairing import Pairing
from bt_selfsecure.bearers.system_bus import SystemBusError, connect_system_bus

if TYPE_CHECKING:
    from dbus_fast import Message
    from dbus_fast.aio import MessageBus

log = logging.getLogger(__name__)

BLUEZ: Final = "org.bluez"
ROOT: Final = "/org/bluez"
AGENT_PATH: Final = "/bt_selfsecure/agent"
PROFILE_PATH: Final = "/bt_selfsecure/profile"
ANSWER_S: Final = 25.0
"""bluetoothd has so long for a call, as with every client of libdbus."""
READY_S: Final = 5.0
"""Between two looks at whether pairing is needed, and the adapter connectable."""
_PAIRING: Final = (errno.EACCES, errno.EBADE)
"""Authentication failed; PIN or key missing (net/bluetooth/lib.c, bt_to_errno)."""


class BlueZ:
    """Holds a connection to the system bus. Make it with `connect`; methods raise `BearerError` with BlueZ's own
    words."""

    def __init__(self, bus: MessageBus, adapter: str) -> None:
        self._bus, self._adapter = bus, f"{ROOT}/{adapter}"
        self._on_lost: list[Callable[[], None]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._pairing: Pairing | None = None
        self.is_lost = False
        """bluetoothd has left the bus, or the bus us: whatever was registered is gone."""

    @classmethod
    async def connect(cls, adapter: str) -> BlueZ | None:
        """Connect, or return None where there is no bluetoothd with this adapter on the bus. Raises
        `SystemBusError`."""
        bus = await connect_system_bus()
        bluez = cls(bus, adapter)
        try:
            await bluez._watch()
            await bluez.get("Address")
        except BaseException as error:
            bus.disconnect()
            if isinstance(error, BearerError) and not isinstance(error, SystemBusError):
                return None
            raise
        bluez._tasks.append(asyncio.create_task(bluez._outlive(), name="system bus"))
        return bluez

    @classmethod
    async def prepare(cls, adapter: str, pairing: Pairing) -> BlueZ | None:
        """Connect, make the adapter connectable, and be its agent if `pairing` answers; None as of `connect`."""
        bluez = await cls.connect(adapter)
        if bluez:
            try:
                bluez._pairing = pairing
                await pairing.begin(bluez)
                await bluez.make_connectable()
                if pairing.answers:
                    await bluez.register_agent(pairing)
                    await bluez._set_pairable(pairing.needed())
                bluez._tasks.append(asyncio.create_task(bluez._keep_ready(pairing), name="pairable, connectable"))
            except BaseException:
                await bluez.close()
                raise
        return bluez

    async def make_connectable(self) -> None:
        """Let peers call the adapter, for as long as it is on. Before BlueZ had a property for that only what is
        discoverable, seen by everybody's inquiry, could be called by a stranger."""
        if not await self._make_callable():
            await self.set("DiscoverableTimeout", "u", 0)
            await self.set("Discoverable", "b", True)

    async def _make_callable(self) -> bool:
        """Return False where this bluetoothd has no property for it. BlueZ 5.82 refuses to set it, whatever to, while
        the adapter is discoverable for a time; then it is connectable, but no longer than that."""
        try:
            connectable = await self.get("Connectable")
        except BearerError:
            return False
        if not connectable:
            await self.set("Connectable", "b", True)
        return True

    async def register_agent(self, pairing: Pairing) -> None:
        """Pair with those who may, without asking anybody: a Pi has neither keys nor display.

        It is said to have both. For one that has not the kernel accepts Just Works from anybody, and asks no agent
        (net/bluetooth/hci_event.c, hci_user_confirm_request_evt; smp.c, tk_request).
        """
        from bt_selfsecure.bearers.bluez_objects import PairingAgent

        self._bus.export(AGENT_PATH, PairingAgent(pairing.allows))
        await self._call(ROOT, "org.bluez.AgentManager1", "RegisterAgent", "os", AGENT_PATH, "DisplayYesNo")
        await self._call(ROOT, "org.bluez.AgentManager1", "RequestDefaultAgent", "o", AGENT_PATH)

    async def register_profile(self, uuid: str, name: str, on_connection: Callable[[socket.socket], None]) -> None:
        """Listen on a free RFCOMM channel that SDP tells; connections come as sockets, `on_connection` owns them."""
        from dbus_fast import Variant

        from bt_selfsecure.bearers.bluez_objects import ServiceProfile

        self._bus.export(PROFILE_PATH, ServiceProfile(on_connection))
        options = {
            "Name": Variant("s", name),
            "Role": Variant("s", "server"),
            "Channel": Variant("q", 0),
            "RequireAuthentication": Variant("b", True),  # BT_SECURITY_MEDIUM: see sockets.require_bond
            "RequireAuthorization": Variant("b", False),
        }
        await self._call(ROOT, "org.bluez.ProfileManager1", "RegisterProfile", "osa{sv}", PROFILE_PATH, uuid, options)

    async def unregister_profile(self) -> None:
        """Listen no more; does no harm where nothing was registered."""
        with contextlib.suppress(BearerError):
            await self._call(ROOT, "org.bluez.ProfileManager1", "UnregisterProfile", "o", PROFILE_PATH)
        self._bus.unexport(PROFILE_PATH)

    async def forget_after(self, error: OSError, peer: str) -> None:
        """Remove, where pairing was the trouble, what BlueZ knows of this peer, its link key too: the peer may have
        lost its own, and only so can the two pair anew. What travels is secured above the link, so nothing rests on
        it."""
        if error.errno not in _PAIRING:
            return
        log.info("%s: pairing failed (%s), its link key is forgotten", peer, error)
        device = f"{self._adapter}/dev_{peer.replace(':', '_')}"
        with contextlib.suppress(BearerError):
            await self._call(self._adapter, "org.bluez.Adapter1", "RemoveDevice", "o", device)

    def on_lost(self, call: Callable[[], None]) -> None:
        """Let `call` be called once when bluetoothd or the bus is gone."""
        self._on_lost.append(call)

    async def close(self) -> None:
        """Put the adapter's settings back, and leave the bus."""
        for task in self._tasks[1:]:  # what they have asked for comes before what is asked for now
            task.cancel()
        if self._pairing:
            await self._pairing.end(self)
        self._bus.disconnect()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def settings(self, names: Iterable[str]) -> dict[str, Any]:
        """Return those of the adapter's properties that this bluetoothd has. Raises `BearerError`."""
        properties = "org.freedesktop.DBus.Properties"
        (found,) = await self._call(self._adapter, properties, "GetAll", "s", "org.bluez.Adapter1")
        return {name: found[name].value for name in names if name in found}

    async def get(self, name: str) -> Any:
        """Return a property of the adapter. Raises `BearerError`."""
        answer = await self._call(
            self._adapter, "org.freedesktop.DBus.Properties", "Get", "ss", "org.bluez.Adapter1", name
        )
        return answer[0].value

    async def set(self, name: str, signature: str, value: Any) -> None:
        """Change a property of the adapter. Raises `BearerError`."""
        from dbus_fast import Variant

        properties, adapter = "org.freedesktop.DBus.Properties", "org.bluez.Adapter1"
        await self._call(self._adapter, properties, "Set", "ssv", adapter, name, Variant(signature, value))

    # --- how it works

    async def _watch(self) -> None:
        from dbus_fast import Message

        rule = f"type='signal',interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='{BLUEZ}'"
        self._bus.add_message_handler(self._on_message)
        await self._ask(
            Message(
                destination="org.freedesktop.DBus",
                path="/org/freedesktop/DBus",
                interface="org.freedesktop.DBus",
                member="AddMatch",
                signature="s",
                body=[rule],
            )
        )

    async def _outlive(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            await self._bus.wait_for_disconnect()  # type: ignore[no-untyped-call]
        self._lose()

    def _on_message(self, message: Any) -> None:
        if message.member == "NameOwnerChanged" and message.body and message.body[0] == BLUEZ and message.body[1]:
            self._lose()

    def _lose(self) -> None:
        if not self.is_lost:
            self.is_lost = True
            for call in self._on_lost:
                call()

    async def _set_pairable(self, pairable: bool) -> None:
        if pairable:
            await self.set("PairableTimeout", "u", 0)
        await self.set("Pairable", "b", pairable)

    async def _keep_ready(self, pairing: Pairing) -> None:
        """Be connectable, and pairable while a peer that may pair is missing and no longer."""
        now = pairing.needed()
        while not self.is_lost:
            await asyncio.sleep(READY_S)
            with contextlib.suppress(BearerError):
                await self._make_callable()
                if pairing.answers and pairing.needed() != now:
                    await self._set_pairable(not now)
                    now = not now

    async def _call(self, path: str, interface: str, member: str, signature: str, *body: Any) -> list[Any]:
        from dbus_fast import Message, MessageType

        message = Message(
            destination=BLUEZ, path=path, interface=interface, member=member, signature=signature, body=list(body)
        )
        answer = await self._ask(message)
        if answer is None or answer.message_type == MessageType.ERROR:
            words = f"{answer.error_name}: {answer.body[0] if answer.body else ''}" if answer else "no answer"
            raise BearerError(f"bluetoothd refused {member} ({words}): see systemctl status bluetooth", transient=True)
        return list(answer.body)

    async def _ask(self, message: Message) -> Message | None:
        """The answer, which may be an error. Raises `SystemBusError`."""
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self._bus.call(message)
        except TimeoutError as error:
            self._lose()
            raise SystemBusError("bluetoothd hangs: sudo systemctl restart bluetooth", transient=True) from error
        except (OSError, EOFError) as error:
            self._lose()
            raise SystemBusError(f"the system bus is gone ({error})", transient=True) from error
