"""The air between Bumble's controllers: a link that loses what a radio loses, and lets taps listen.

Bumble 0.0.236 joins controllers by a `LocalLink` on which nothing is ever lost. `LossyLink` asks a loss model instead,
once for each packet that a transmitter sends, and gives each tap what its listener heard. What becomes of a loss:

    advertisement                        gone for whoever did not hear it
    flushable L2CAP PDU (BR/EDR)         sent again until its flush timeout, then gone
    other PDU (RFCOMM, LE connections)   sent again until heard: a delay; past the supervision timeout the link ends
    page                                 tried again until the page timeout; whose host does not answer it in the
                                         connection accept timeout, refuses it

A tap has a chance with every repetition. Limits: acknowledgements are never lost and nothing collides; the two
directions of a connection do not wait for each other's slots, nor a first attempt on LE for its connection event; LMP
and LL control packets are neither lost nor tapped; taps hear nothing of a PDU that leaves encrypted. Lost flushable
packets alone never end a connection.

The controllers may serve hosts in this process or other machines over a transport: see `controller.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final

from bumble import hci, ll, lmp
from bumble.core import PhysicalTransport
from bumble.link import LocalLink

from bt_selfsecure.air.capture import (
    ADV_IND,
    ADV_NONCONN_IND,
    ADV_SCAN_IND,
    FIRST_LE_HANDLE,
    LINKTYPE_BLUETOOTH_HCI_H4_WITH_PHDR,
    LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR,
    Tap,
    acl_packet,
    advertising_pdu,
    le_packet,
)
from bt_selfsecure.air.controller import RSSI_NOT_AVAILABLE, SLOT_S, AdvScanInd
from bt_selfsecure.air.reception import ReceptionModel, Rssi
from bt_selfsecure.bearers.limits import ACL_PACKET_BYTES
from bt_selfsecure.errors import UsageError

_Connections = Callable[[Any], dict[Any, Any]]
"""Of a controller: `_classic` or `_le`, its connections by the peer's address."""

ACL_PACKETS: Final = ((27, 1), (183, 3), (ACL_PACKET_BYTES, 5))
"""Payload octets and slots of DH1, DH3 and DH5 (Core Vol 2 Part B 6.5.4)."""
SUPERVISION_TIMEOUT_S: Final = 20.0
"""Seconds without a packet until a BR/EDR connection counts as lost (Core Vol 4 Part E 6.21, the default)."""
PAGE_SCAN_INTERVAL_S: Final = 1.28
"""Seconds between two chances of a page (Core Vol 4 Part E 6.8, the default)."""
CONNECTION_ACCEPT_TIMEOUT_S: Final = 5.0
"""Seconds that a host has to answer a connection request (Core Vol 4 Part E 6.7, the default)."""
LE_INTERVAL_S: Final = 1.25e-3
"""Seconds of one unit of a connection interval."""
UNANSWERED_INTERVALS: Final = 6
"""After so many without an answer an LE connection was not established (Core Vol 6 Part B 4.5.2)."""
LE_OCTET_S: Final = 8e-6
"""Seconds of one octet on LE's 1 Mbit/s radio."""
LE_OVERHEAD_BYTES: Final = 10
"""Preamble, access address, header and CRC around an LE payload (Core Vol 6 Part B 2.1)."""
LE_PACKET_BYTES: Final = 251
"""Of a data packet, with the data length extension (Core Vol 6 Part B 4.5.10)."""
LE_ACKNOWLEDGEMENT_S: Final = 2 * 150e-6 + LE_OVERHEAD_BYTES * LE_OCTET_S
"""Seconds of two inter-frame spaces and an empty packet."""
LE_CONNECTION_INTERVAL_S: Final = 0.03
"""Seconds until a lost LE packet is tried again: Linux's shortest default interval (net/bluetooth/hci_core.c)."""


def start_worker(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """Start a task in the background whose failure, if it ever fails, reaches the event loop's exception handler at
    once."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(lambda done: None if done.cancelled() else done.result())
    return task


class LossyLink(LocalLink):  # type: ignore[misc]
    """Is the air: joins controllers by their names, loses what `heard` says, and lets the taps listen.

    Names of controllers and taps are what `heard` is asked about, taps last. `rssi`, where the model knows it, is what
    controllers report. Raises `UsageError` for a name used twice.
    """

    def __init__(self, heard: ReceptionModel, taps: Mapping[str, Tap], rssi: Rssi | None = None) -> None:
        super().__init__()
        self.heard = heard
        self.taps = dict(taps)
        self._rssi = rssi
        self._ways: dict[tuple[Any, Any, Any], _AclDirection] = {}
        self._captured: dict[bool, dict[frozenset[str], tuple[int, str]]] = {False: {}, True: {}}
        """By whether it is LE, and by who talks: handle, and who spoke first."""
        self._pages: dict[tuple[Any, Any], asyncio.Task[None]] = {}

    def rssi(self, sender: str, listener: str) -> int:
        """Return what a controller reports, in dBm."""
        told = self._rssi(sender, listener) if self._rssi else None
        return RSSI_NOT_AVAILABLE if told is None else told

    def add_controller(self, controller: Any) -> None:
        if controller.name in self.taps or any(controller.name == other.name for other in self.controllers):
            raise UsageError(f"two devices on the air are named {controller.name}; give each its own name")
        super().add_controller(controller)

    def remove_controller(self, controller: Any) -> None:
        """Its power is cut."""
        self.forget_connections(controller)
        super().remove_controller(controller)

    def forget_connections(self, controller: Any) -> None:
        """This controller falls silent on all its connections, as at a reset: its peers notice when the supervision
        timeouts are over."""
        loop = asyncio.get_running_loop()
        for connections in (_classic, _le):
            for connection in connections(controller).values():
                if peer := self.peer_of(connection):
                    theirs = connections(peer)[connection.self_address]
                    loop.call_later(_supervision_timeout(theirs), self._lose, peer, connections, theirs)
            connections(controller).clear()
        for way in [way for way in self._ways if way[0] is controller]:
            self._ways.pop(way).close()
        for page in [page for page in self._pages if page[0] is controller]:
            self._pages.pop(page).cancel()

    def close(self) -> None:
        """Fall silent: what is on its way is gone, nobody advertises."""
        for way in self._ways.values():
            way.close()
        for page in self._pages.values():
            page.cancel()
        for controller in self.controllers:
            controller.le_legacy_advertiser.stop()

    # --- advertising

    def send_advertising_pdu(self, sender_controller: Any, packet: Any) -> None:
        match packet:
            case ll.AdvInd():
                pdu_type = ADV_IND
            case AdvScanInd():
                pdu_type = ADV_SCAN_IND
            case ll.AdvNonConnInd():
                pdu_type = ADV_NONCONN_IND
            case ll.ConnectInd():
                super().send_advertising_pdu(sender_controller, packet)
                asyncio.get_running_loop().call_soon(self._see_whether_answered, sender_controller, packet)
                return
            case _:  # connection set-up and extended advertising: Bumble's own, lossless
                super().send_advertising_pdu(sender_controller, packet)
                return
        scanners = {
            c.name: c for c in self.controllers if c is not sender_controller and c.is_listening_for_advertisements
        }
        loop = asyncio.get_running_loop()
        heard = self.heard(sender_controller.name, (*sorted(scanners), *self.taps), loop.time())
        address = packet.advertiser_address
        pdu = advertising_pdu(pdu_type, bytes(address), bytes(packet.data), random_address=not address.is_public)
        # A scanner listens on one channel at a time, so an event on three channels is one chance: on the first of them.
        channel_map = sender_controller.le_legacy_advertiser.advertising_channel_map & 0b111 or 0b111
        on_air = le_packet(37 + (channel_map & -channel_map).bit_length() - 1, pdu)
        air_time = (len(pdu) - 2 + LE_OVERHEAD_BYTES) * LE_OCTET_S
        for name in sorted(scanners):
            if name in heard:
                loop.call_later(air_time, scanners[name].on_ll_advertising_pdu, packet)
        for name, tap in self.taps.items():
            tap_time, receive = loop.time() + air_time, tap.hear if name in heard else tap.miss
            loop.call_at(tap_time, receive, tap_time, LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR, on_air)

    def _see_whether_answered(self, initiator: Any, packet: Any) -> None:
        """Of several that answer one advertisement the first is connected; to the others nobody ever speaks."""
        connection = _le(initiator).get(packet.advertiser_address)
        if connection is None or self.peer_of(connection) is not None:
            return

        def fail() -> None:
            if _le(initiator).get(packet.advertiser_address) is connection:
                initiator.on_le_disconnected(connection, hci.HCI_ErrorCode.CONNECTION_FAILED_TO_BE_ESTABLISHED_ERROR)

        wait = UNANSWERED_INTERVALS * packet.interval * LE_INTERVAL_S
        asyncio.get_running_loop().call_later(wait, fail)

    # --- connections

    def send_acl_data(self, sender_controller: Any, destination_address: Any, transport: Any, data: bytes) -> None:
        connections = _le if transport == PhysicalTransport.LE else _classic
        connection = connections(sender_controller).get(destination_address)
        if connection is None:
            return
        packets = sender_controller.take_uncompleted(connection.handle)
        flush_timeout = sender_controller.flush_timeout(connection.handle)
        key = (sender_controller, destination_address, transport)
        if key not in self._ways:
            self._ways[key] = _AclDirection(self, sender_controller, destination_address, transport)
        self._ways[key].send(_Pdu(bytes(data), flush_timeout, connection, packets))

    def peer_of(self, connection: Any) -> Any:
        """Return the controller at the other end, as long as it is there and connected; or None."""
        le = connection.transport == PhysicalTransport.LE
        peer = (self.find_le_controller if le else self.find_classic_controller)(connection.peer_address)
        return peer if peer and connection.self_address in (_le if le else _classic)(peer) else None

    def captured_as(self, sender: str, receiver: str, *, le: bool) -> tuple[int, bool]:
        """Return the handle of the connection between these two in captures, and whether this direction counts as
        `sent`: it does for the end that spoke first."""
        known = self._captured[le]
        begins = FIRST_LE_HANDLE if le else 0
        number, first = known.setdefault(frozenset((sender, receiver)), (begins + len(known) + 1, sender))
        return number, first == sender

    def lose_connection(self, controller: Any, connection: Any) -> None:
        """Both ends, as far as they are still there, are told that the supervision timeout is over."""
        peer = self.peer_of(connection)
        connections = _le if connection.transport == PhysicalTransport.LE else _classic
        if peer:
            self._lose(peer, connections, connections(peer)[connection.self_address])
        self._lose(controller, connections, connection)

    def _lose(self, controller: Any, connections: _Connections, connection: Any) -> None:
        ended_already = connections(controller).get(connection.peer_address) is not connection
        if ended_already:
            return
        if connections is _le:
            controller.on_le_disconnected(connection, hci.HCI_ErrorCode.CONNECTION_TIMEOUT_ERROR)
        else:
            controller.on_classic_disconnected(connection.peer_address, hci.HCI_ErrorCode.CONNECTION_TIMEOUT_ERROR)

    def send_ll_control_pdu(self, sender_address: Any, receiver_address: Any, packet: Any) -> None:
        receiver = self.find_le_controller(receiver_address)
        if receiver and sender_address in receiver.le_connections:  # else it is gone, and nobody hears
            asyncio.get_running_loop().call_soon(receiver.on_ll_control_pdu, sender_address, packet)

    def send_lmp_packet(self, sender_controller: Any, receiver_address: Any, packet: Any) -> None:
        source, loop = sender_controller.public_address, asyncio.get_running_loop()
        if isinstance(packet, lmp.LmpHostConnectionReq):
            page = start_worker(self._page(sender_controller, receiver_address, packet), "page")
            self._pages[sender_controller, receiver_address] = page
            return
        receiver = self.find_classic_controller(receiver_address)
        connected = receiver and source in receiver.classic_connections
        if connected or (receiver and isinstance(packet, lmp.LmpNameReq | lmp.LmpNameRes)):
            loop.call_soon(receiver.on_lmp_packet, source, packet)

    def cancel_page(self, controller: Any, address: Any) -> bool:
        """Return whether a page of this address was under way."""
        page = self._pages.get((controller, address))
        under_way = page is not None and _is_half_made(controller, address, _classic(controller).get(address))
        return under_way and self._pages.pop((controller, address)).cancel()

    async def _page(self, sender: Any, address: Any, packet: Any) -> None:
        """Call a device until it answers or the page timeout is over (Core Vol 2 Part B 8.3)."""
        waited = 0.0
        while waited < sender.page_timeout:
            receiver = self.find_classic_controller(address)
            now = asyncio.get_running_loop().time()
            listeners = (receiver.name,) if receiver and receiver.is_page_scanning else ()
            heard = self.heard(sender.name, (*listeners, *self.taps), now)
            if receiver and receiver.name in heard:
                if old := receiver.classic_connections.get(sender.public_address):
                    self._lose(receiver, _classic, old)  # its other end has forgotten it, or it would not call
                receiver.on_lmp_packet(sender.public_address, packet)
                await self._wait_for_answer(sender, receiver)
                return
            await asyncio.sleep(PAGE_SCAN_INTERVAL_S)
            waited += PAGE_SCAN_INTERVAL_S
        refused = lmp.LmpNotAccepted(lmp.Opcode.LMP_HOST_CONNECTION_REQ, hci.HCI_ErrorCode.PAGE_TIMEOUT_ERROR)
        sender.on_lmp_packet(address, refused)

    async def _wait_for_answer(self, sender: Any, receiver: Any) -> None:
        """A host that shuts down, or was just reset, never answers a connection request; its controller does then."""
        source, address = sender.public_address, receiver.public_address
        theirs, own = _classic(receiver).get(source), _classic(sender).get(address)
        reason = hci.HCI_ErrorCode.CONNECTION_ACCEPT_TIMEOUT_ERROR
        try:
            await asyncio.sleep(CONNECTION_ACCEPT_TIMEOUT_S)
        finally:
            if _is_half_made(receiver, source, theirs):
                receiver.on_classic_connection_complete(source, reason)
        if _is_half_made(sender, address, own):
            sender.on_lmp_packet(address, lmp.LmpNotAccepted(lmp.Opcode.LMP_HOST_CONNECTION_REQ, reason))


def _is_half_made(controller: Any, address: Any, connection: Any) -> bool:
    """Whether the controller still has this connection, and no handle for it yet."""
    present = _classic(controller).get(address)
    return present is not None and present is connection and not present.handle


def _classic(controller: Any) -> dict[Any, Any]:
    connections: dict[Any, Any] = controller.classic_connections
    return connections


def _le(controller: Any) -> dict[Any, Any]:
    connections: dict[Any, Any] = controller.le_connections
    return connections


def _supervision_timeout(connection: Any) -> float:
    timeout: float = getattr(connection, "supervision_timeout", SUPERVISION_TIMEOUT_S)
    return timeout


@dataclass
class _Pdu:
    data: bytes
    flush_timeout: float
    connection: Any
    """Bumble's: a PDU never leaves on a later connection than its own."""
    packets: int
    """HCI packets that it came in, and that are reported completed when it has left."""


class _AclDirection:
    """One direction of a connection: stop-and-wait with repetition, ARQ (Core Vol 2 Part B 7.6, Vol 6 Part B 4.5.9)."""

    def __init__(self, link: LossyLink, sender: Any, address: Any, transport: Any) -> None:
        self._link, self._sender, self._address, self._transport = link, sender, address, transport
        self._le: Final[bool] = transport == PhysicalTransport.LE
        self._queue: asyncio.Queue[_Pdu] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    def send(self, pdu: _Pdu) -> None:
        self._queue.put_nowait(pdu)
        if self._task is None:
            self._task = start_worker(self._run(), f"{self._sender.name} to {self._address}")

    def close(self) -> None:
        if self._task:
            self._task.cancel()

    async def _run(self) -> None:
        while True:
            pdu = await self._queue.get()
            arrived = await self._transmit(pdu)
            if not self._is_current(pdu):
                continue
            self._sender.complete(pdu.connection.handle, pdu.packets)
            if not arrived:
                self._sender.flushed(pdu.connection.handle)
            if arrived and (receiver := self._link.peer_of(pdu.connection)):
                receiver.on_link_acl_data(pdu.connection.self_address, self._transport, pdu.data)

    def _is_current(self, pdu: _Pdu) -> bool:
        connections = _le(self._sender) if self._le else _classic(self._sender)
        return connections.get(self._address) is pdu.connection

    async def _transmit(self, pdu: _Pdu) -> bool:
        """Send a PDU in as many packets as it needs; whether all of them arrived. Times are those of the air, however
        late this process is."""
        elapsed, octets = 0.0, LE_PACKET_BYTES if self._le else ACL_PACKET_BYTES
        offsets = range(0, len(pdu.data), octets)
        receiver = self._link.peer_of(pdu.connection)
        name = receiver.name if receiver else ""
        missing = {name: set(offsets) for name in (name, *self._link.taps)}
        for offset in offsets:
            size, silence = min(octets, len(pdu.data) - offset), 0.0
            while offset in missing[name]:
                if not self._is_current(pdu):
                    return False  # disconnected meanwhile
                if 0 < elapsed >= pdu.flush_timeout:
                    return False
                if silence >= _supervision_timeout(pdu.connection):
                    self._link.lose_connection(self._sender, pdu.connection)
                    return False
                now = asyncio.get_running_loop().time()
                listeners = tuple(missing) if self._link.peer_of(pdu.connection) else tuple(self._link.taps)
                heard = self._link.heard(self._sender.name, listeners, now)
                seconds = self._packet_seconds(size) if name in heard or not self._le else LE_CONNECTION_INTERVAL_S
                await asyncio.sleep(seconds)
                elapsed, silence = elapsed + seconds, silence + seconds
                self._strike_out(pdu, offset, heard, missing)
        return True

    def _packet_seconds(self, size: int) -> float:
        """Of a packet and its acknowledgement."""
        if self._le:
            return (size + LE_OVERHEAD_BYTES) * LE_OCTET_S + LE_ACKNOWLEDGEMENT_S
        return (next(slots for octets, slots in ACL_PACKETS if size <= octets) + 1) * SLOT_S

    def _strike_out(self, pdu: _Pdu, offset: int, heard: frozenset[str], missing: dict[str, set[int]]) -> None:
        """Note who heard this packet. A tap gets a PDU once, when she has heard every packet of it."""
        receiver = next(iter(missing))
        for name, offsets in missing.items():
            if name in heard and offset in offsets:
                offsets.remove(offset)
                if not offsets and name != receiver and not getattr(pdu.connection, "encrypted", False):
                    number, sent = self._link.captured_as(self._sender.name, receiver, le=self._le)
                    time = asyncio.get_running_loop().time()
                    packet = acl_packet(number, pdu.data, sent=sent)
                    self._link.taps[name].hear(time, LINKTYPE_BLUETOOTH_HCI_H4_WITH_PHDR, packet)
