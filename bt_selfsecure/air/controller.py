"""Bumble's radio with losses: a link that loses what a radio loses, controllers and hosts fit for it.

Bumble 0.0.236 joins controllers by a `LocalLink` on which nothing is ever lost. `LossyLink` asks a loss model instead,
once for each packet that a transmitter sends, and gives each tap what its listener heard. What becomes of a loss:

    advertisement             gone for whoever did not hear it
    flushable L2CAP PDU       sent again until its flush timeout, then gone
    other L2CAP PDU (RFCOMM)  sent again until heard: a delay; past the supervision timeout the connection ends

A tap has a chance with every repetition. Limits: acknowledgements are never lost and nothing collides; the two
directions of a connection do not wait for each other's slots; a controller's buffers never fill; paging, LMP and LE
connections are neither lost nor tapped; nobody asks for scan responses; nothing on the air is encrypted, where two Pis
encrypt BR/EDR by default. Lost flushable packets alone never end a connection.

The subclasses below each cure one thing that Bumble lacks, in a form that its own source could take over; each says
which. Nothing here needs the host in the same process: a controller may as well serve another machine over a transport.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bumble import hci, ll
from bumble.controller import Controller, LegacyAdvertiser
from bumble.core import PhysicalTransport
from bumble.host import Host
from bumble.link import LocalLink

from bt_selfsecure.air.capture import (
    ADV_IND,
    ADV_NONCONN_IND,
    LINKTYPE_BLUETOOTH_HCI_H4_WITH_PHDR,
    LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR,
    Tap,
    acl_packet,
    advertising_pdu,
    le_packet,
)
from bt_selfsecure.errors import UsageError

Heard = Callable[[str, Sequence[str], float], frozenset[str]]
"""`heard(sender, listeners, now)`: which of the listeners receive the packet that the sender begins to send now."""

SLOT: Final = 625e-6
"""Seconds of a BR/EDR time slot, the unit of HCI's times too (Core Vol 2 Part B 2.2.3)."""
ACL_PACKETS: Final = ((27, 1), (183, 3), (339, 5))
"""Payload octets and slots of DH1, DH3 and DH5 (Core Vol 2 Part B 6.5.4)."""
ACL_PACKET_OCTETS: Final = ACL_PACKETS[-1][0]
SUPERVISION_TIMEOUT: Final = 20.0
"""Seconds without a packet until a BR/EDR connection counts as lost (Core Vol 4 Part E 6.21, the default)."""
ADVERTISING_DELAY: Final = 0.010
"""Seconds: an advertiser adds a random part of this to each interval (Core Vol 6 Part B 4.4.2.2.1)."""
LE_OCTET: Final = 8e-6
"""Seconds of one octet on LE's 1 Mbit/s radio."""
LE_OVERHEAD_OCTETS: Final = 10
"""Preamble, access address, header and CRC around an LE payload (Core Vol 6 Part B 2.1)."""
RSSI_NOT_AVAILABLE: Final = 127
"""Core Vol 4 Part E 7.7.65.2: the model says who heard, not how loudly."""


def start_worker(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """A task in the background whose failure, if it ever fails, reaches the event loop's exception handler at once."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(lambda done: None if done.cancelled() else done.result())
    return task


@dataclass
class HCI_Write_Automatic_Flush_Timeout_ReturnParameters(hci.HCI_StatusReturnParameters):  # type: ignore[misc]  # noqa: N801
    connection_handle: int = field(metadata=hci.metadata(2))


@hci.HCI_SyncCommand.sync_command(HCI_Write_Automatic_Flush_Timeout_ReturnParameters)
@dataclass
class HCI_Write_Automatic_Flush_Timeout_Command(hci.HCI_SyncCommand):  # type: ignore[misc]  # noqa: N801
    """Core Vol 4 Part E 7.3.30. Bumble knows its number and has no class for it."""

    connection_handle: int = field(metadata=hci.metadata(2))
    flush_timeout: int = field(metadata=hci.metadata(2))


class FlushableHost(Host):  # type: ignore[misc]
    """Bumble's host marks every PDU as not to be flushed. This one marks those of chosen L2CAP channels flushable."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.flushable_channels: set[tuple[int, int]] = set()
        """(connection handle, the peer's CID): Linux's BT_FLUSHABLE socket option."""

    def send_hci_packet(self, packet: Any) -> None:
        if isinstance(packet, hci.HCI_AclDataPacket) and packet.pb_flag == hci.HCI_ACL_PB_FIRST_NON_FLUSHABLE:
            cid = int.from_bytes(packet.data[2:4], "little")
            if (packet.connection_handle, cid) in self.flushable_channels:
                packet.pb_flag = hci.HCI_ACL_PB_FIRST_FLUSHABLE
        super().send_hci_packet(packet)


class RadioAdvertiser(LegacyAdvertiser):  # type: ignore[misc]
    """Bumble's advertiser sends connectable advertisements only, and takes the interval's 0.625 ms for milliseconds."""

    def _on_timer_fired(self) -> None:
        self.send_advertising_data()
        interval = self.advertising_interval_min * SLOT + self.controller.random.uniform(0, ADVERTISING_DELAY)
        self.timer_handle = asyncio.get_running_loop().call_later(interval, self._on_timer_fired)

    def send_advertising_data(self) -> None:
        kinds = hci.HCI_LE_Set_Advertising_Parameters_Command.AdvertisingType
        if self.enabled and self.advertising_type == kinds.ADV_NONCONN_IND:
            self.controller.send_advertising_pdu(ll.AdvNonConnInd(self.address, self.advertising_data))
        else:
            super().send_advertising_data()


class RadioController(Controller):  # type: ignore[misc]
    """A dual-mode controller of a Raspberry Pi's abilities: BR/EDR with flushable packets, legacy advertising.

    Bumble's reports no advertisement that is not connectable, and adds to each one a scan response that nobody sent;
    it knows no flush timeout; its packets of 27 octets would cut each PDU; it offers extended advertising without its
    commands.
    """

    lmp_features = (
        hci.LmpFeatureMask.LE_SUPPORTED_CONTROLLER
        | hci.LmpFeatureMask.EXTENDED_FEATURES
        | hci.LmpFeatureMask.NON_FLUSHABLE_PACKET_BOUNDARY_FLAG
    )
    lmp_features_max_page_number = 1
    le_features = hci.LeFeatureMask.LE_ENCRYPTION | hci.LeFeatureMask.LE_DATA_PACKET_LENGTH_EXTENSION
    acl_data_packet_length = 1021
    total_num_acl_data_packets = 8

    def __init__(self, name: str, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.random = random.Random(name)
        self.le_legacy_advertiser = RadioAdvertiser(self)
        self._flush_timeouts: dict[int, float] = {}
        self._flushable: dict[int, bool] = {}

    @property
    def is_listening_for_advertisements(self) -> bool:
        return bool(self.le_scan_enable or self.pending_le_connection)

    def flush_timeout(self, handle: int) -> float:
        """Seconds that the latest PDU on this connection may be tried; infinite where it is not to be flushed."""
        return self._flush_timeouts.get(handle, float("inf")) if self._flushable.get(handle) else float("inf")

    def on_hci_write_automatic_flush_timeout_command(self, command: Any) -> Any:
        handle, slots = command.connection_handle, command.flush_timeout
        self._flush_timeouts[handle] = slots * SLOT if slots else float("inf")
        return HCI_Write_Automatic_Flush_Timeout_ReturnParameters(hci.HCI_ErrorCode.SUCCESS, handle)

    def on_hci_write_secure_connections_host_support_command(self, _command: Any) -> Any:
        """Bumble's host sends it to every controller; nothing here is encrypted, so it changes nothing."""
        return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.SUCCESS)

    def on_hci_acl_data_packet(self, packet: Any) -> None:
        if packet.pb_flag != hci.HCI_ACL_PB_CONTINUATION:
            self._flushable[packet.connection_handle] = packet.pb_flag == hci.HCI_ACL_PB_FIRST_FLUSHABLE
        super().on_hci_acl_data_packet(packet)

    def on_ll_advertising_pdu(self, packet: Any) -> None:
        kinds = hci.HCI_LE_Advertising_Report_Event.EventType
        match packet:
            case ll.AdvNonConnInd():
                self._report(kinds.ADV_NONCONN_IND, packet)
            case ll.AdvInd():
                self._report(kinds.ADV_IND, packet)
                wanted = self.pending_le_connection
                if wanted and wanted.peer_address == packet.advertiser_address:
                    self.create_le_connection(packet.advertiser_address)
            case _:
                super().on_ll_advertising_pdu(packet)

    def _report(self, event_type: int, packet: Any) -> None:
        if self.le_scan_enable:
            address = packet.advertiser_address
            report = hci.HCI_LE_Advertising_Report_Event.Report(
                event_type, address.address_type, address, packet.data, RSSI_NOT_AVAILABLE
            )
            self.send_hci_packet(hci.HCI_LE_Advertising_Report_Event([report]))

    def on_classic_disconnected(self, peer_address: Any, reason: int) -> None:
        if connection := self.classic_connections.get(peer_address):
            self._flush_timeouts.pop(connection.handle, None)
            self._flushable.pop(connection.handle, None)
        super().on_classic_disconnected(peer_address, reason)


class LossyLink(LocalLink):  # type: ignore[misc]
    """The air: joins controllers by their names, loses what `heard` says, and lets the taps listen.

    Names of controllers and taps are what `heard` is asked about, taps last. Raises `UsageError` for a name used twice.
    """

    def __init__(self, heard: Heard, taps: Mapping[str, Tap]) -> None:
        super().__init__()
        self.heard = heard
        self.taps = dict(taps)
        self._ways: dict[tuple[str, str], _AclWay] = {}

    def add_controller(self, controller: Any) -> None:
        if controller.name in self.taps or any(controller.name == other.name for other in self.controllers):
            raise UsageError(f"two devices on the air are named {controller.name}; give each its own name")
        super().add_controller(controller)

    def close(self) -> None:
        """Silence: what is on its way is gone, nobody advertises."""
        for way in self._ways.values():
            way.close()
        for controller in self.controllers:
            controller.le_legacy_advertiser.stop()

    # --- advertising

    def send_advertising_pdu(self, sender_controller: Any, packet: Any) -> None:
        match packet:
            case ll.AdvInd():
                pdu_type = ADV_IND
            case ll.AdvNonConnInd():
                pdu_type = ADV_NONCONN_IND
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
        air_time = (len(pdu) - 2 + LE_OVERHEAD_OCTETS) * LE_OCTET
        for name in sorted(scanners):
            if name in heard:
                loop.call_later(air_time, scanners[name].on_ll_advertising_pdu, packet)
        for name, tap in self.taps.items():
            if name in heard:
                tap_time = loop.time() + air_time
                loop.call_at(tap_time, tap.hear, tap_time, LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR, on_air)

    # --- BR/EDR

    def send_acl_data(self, sender_controller: Any, destination_address: Any, transport: Any, data: bytes) -> None:
        if transport == PhysicalTransport.LE:
            # Lossless. Bumble takes the sender's random address even where the connection is made with the public one.
            source = sender_controller.le_connections[destination_address].self_address
            if receiver := self.find_le_controller(destination_address):
                asyncio.get_running_loop().call_soon(receiver.on_link_acl_data, source, transport, data)
        elif receiver := self.find_classic_controller(destination_address):
            connection = sender_controller.classic_connections[destination_address]
            flush_timeout = sender_controller.flush_timeout(connection.handle)
            self._way(sender_controller, receiver).send(_Pdu(bytes(data), flush_timeout, connection))

    def _way(self, sender: Any, receiver: Any) -> _AclWay:
        """The direction of an ACL; in captures, `sent` is the way of the end that spoke first."""
        if (sender.name, receiver.name) not in self._ways:
            number = len(self._ways) // 2 + 1
            self._ways[sender.name, receiver.name] = _AclWay(self, sender, receiver, number, sent=True)
            self._ways[receiver.name, sender.name] = _AclWay(self, receiver, sender, number, sent=False)
        return self._ways[sender.name, receiver.name]


@dataclass
class _Pdu:
    data: bytes
    flush_timeout: float
    connection: Any
    """Bumble's: a PDU never leaves on a later connection than its own."""


class _AclWay:
    """One direction of a BR/EDR connection: stop-and-wait with repetition, ARQ (Core Vol 2 Part B 7.6)."""

    def __init__(self, link: LossyLink, sender: Any, receiver: Any, number: int, *, sent: bool) -> None:
        self._link, self._sender, self._receiver, self._number, self._sent = link, sender, receiver, number, sent
        self._queue: asyncio.Queue[_Pdu] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    def send(self, pdu: _Pdu) -> None:
        self._queue.put_nowait(pdu)
        if self._task is None:
            self._task = start_worker(self._run(), f"{self._sender.name} to {self._receiver.name}")

    def close(self) -> None:
        if self._task:
            self._task.cancel()

    async def _run(self) -> None:
        while True:
            pdu = await self._queue.get()
            if await self._transmit(pdu):
                self._receiver.on_link_acl_data(self._sender.public_address, PhysicalTransport.BR_EDR, pdu.data)

    async def _transmit(self, pdu: _Pdu) -> bool:
        """Send a PDU in as many baseband packets as it needs; whether all of them arrived."""
        begun = asyncio.get_running_loop().time()
        offsets = range(0, len(pdu.data), ACL_PACKET_OCTETS)
        missing = {name: set(offsets) for name in (self._receiver.name, *self._link.taps)}
        for offset in offsets:
            size = min(ACL_PACKET_OCTETS, len(pdu.data) - offset)
            slots = next(slots for octets, slots in ACL_PACKETS if size <= octets)
            tried = asyncio.get_running_loop().time()
            while offset in missing[self._receiver.name]:
                now = asyncio.get_running_loop().time()
                if self._sender.classic_connections.get(self._receiver.public_address) is not pdu.connection:
                    return False  # disconnected meanwhile
                if now > begun and now - begun >= pdu.flush_timeout:
                    return False
                if now - tried >= SUPERVISION_TIMEOUT:
                    self._lose_connection()
                    return False
                heard = self._link.heard(self._sender.name, tuple(missing), now)
                await asyncio.sleep((slots + 1) * SLOT)  # and the slot in which the receiver acknowledges
                self._strike_out(pdu.data, offset, heard, missing)
        return True

    def _strike_out(self, pdu: bytes, offset: int, heard: frozenset[str], missing: dict[str, set[int]]) -> None:
        """Note who heard this packet. A tap gets a PDU once, when she has heard every packet of it."""
        for name, offsets in missing.items():
            if name in heard and offset in offsets:
                offsets.remove(offset)
                if not offsets and name in self._link.taps:
                    packet = acl_packet(self._number, pdu, sent=self._sent)
                    time = asyncio.get_running_loop().time()
                    self._link.taps[name].hear(time, LINKTYPE_BLUETOOTH_HCI_H4_WITH_PHDR, packet)

    def _lose_connection(self) -> None:
        reason = hci.HCI_ErrorCode.CONNECTION_TIMEOUT_ERROR
        self._sender.on_classic_disconnected(self._receiver.public_address, reason)
        self._receiver.on_classic_disconnected(self._sender.public_address, reason)
