"""Bumble's controllers and hosts, fit for a radio on which packets are lost.

The subclasses below each cure one thing that Bumble 0.0.236 lacks, in a form that its own source could take over; each
says which. Nothing here needs the host in the same process: a controller may as well serve another machine over a
transport. The air between them is in `link.py`.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any, Final

from bumble import hci, ll
from bumble.controller import Controller, LegacyAdvertiser
from bumble.host import Host

SLOT_S: Final = 625e-6
"""Seconds of a BR/EDR time slot, the unit of HCI's times too (Core Vol 2 Part B 2.2.3)."""
ADVERTISING_DELAY_S: Final = 0.010
"""Seconds: an advertiser adds a random part of this to each interval (Core Vol 6 Part B 4.4.2.2.1)."""
RSSI_NOT_AVAILABLE: Final = 127
"""Core Vol 4 Part E 7.7.65.2: where the model says who heard, not how loudly."""
PAGE_TIMEOUT_S: Final = 5.12
"""Seconds that a device is called before it counts as absent (Core Vol 4 Part E 6.6, the default)."""


@dataclass
class HCI_Write_Automatic_Flush_Timeout_ReturnParameters(hci.HCI_StatusReturnParameters):  # type: ignore[misc]  # noqa: N801
    connection_handle: int = field(metadata=hci.metadata(2))


@hci.HCI_SyncCommand.sync_command(HCI_Write_Automatic_Flush_Timeout_ReturnParameters)
@dataclass
class HCI_Write_Automatic_Flush_Timeout_Command(hci.HCI_SyncCommand):  # type: ignore[misc]  # noqa: N801
    """Is the command of Core Vol 4 Part E 7.3.30. Bumble knows its number and has no class for it."""

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


@dataclass
class AdvScanInd(ll.AdvNonConnInd):  # type: ignore[misc]
    """Is ADV_SCAN_IND, which Bumble has no class for: not connectable, but a scanner may ask for a scan response."""


class RadioAdvertiser(LegacyAdvertiser):  # type: ignore[misc]
    """Bumble's advertiser sends connectable advertisements only, and takes the interval's 0.625 ms for milliseconds."""

    def _on_timer_fired(self) -> None:
        self.send_advertising_data()
        interval = self.advertising_interval_min * SLOT_S + self.controller.random.uniform(0, ADVERTISING_DELAY_S)
        self.timer_handle = asyncio.get_running_loop().call_later(interval, self._on_timer_fired)

    def catch_up(self) -> None:
        """Hold the event that is overdue, where the computer was too busy to hold it in time."""
        next_event, now = self.timer_handle, asyncio.get_running_loop().time()
        if isinstance(next_event, asyncio.TimerHandle) and next_event.when() <= now:
            next_event.cancel()
            self._on_timer_fired()

    def send_advertising_data(self) -> None:
        kinds = hci.HCI_LE_Set_Advertising_Parameters_Command.AdvertisingType
        packets = {kinds.ADV_NONCONN_IND: ll.AdvNonConnInd, kinds.ADV_SCAN_IND: AdvScanInd}
        if self.enabled and self.advertising_type in packets:
            self.controller.send_advertising_pdu(packets[self.advertising_type](self.address, self.advertising_data))
        else:
            super().send_advertising_data()


class RadioController(Controller):  # type: ignore[misc]
    """Is a dual-mode controller with a Raspberry Pi's abilities: BR/EDR with flushable packets, legacy advertising.

    Bumble's reports no advertisement that is not connectable, and adds to each one a scan response that nobody sent;
    it knows no flush timeout and reports every packet completed before it was sent; its packets of 27 octets would cut
    each PDU; it offers extended advertising without its commands; a refused connection stays in its list. It tells a
    peripheral's host an interval and a timeout of its own invention: Linux asks for another interval then, with that
    timeout, and the central's keeps both for the next connection, too, which four lost packets in a row would end.
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
    le_acl_data_packet_length = 251
    total_num_le_acl_data_packets = 8
    page_timeout = PAGE_TIMEOUT_S

    def __init__(self, name: str, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.random = random.Random(name)
        self.le_legacy_advertiser = RadioAdvertiser(self)
        self.flush_timeout_slots: dict[int, int] = {}
        """By connection handle; 0 or missing is no timeout (Core Vol 4 Part E 7.3.29)."""
        self._flushable: dict[int, bool] = {}
        self._uncompleted: dict[int, int] = {}
        self._connect_ind: ll.ConnectInd | None = None
        """The latest on the air."""

    @property
    def is_page_scanning(self) -> bool:
        return bool(self.classic_scan_enable & 0b10)

    @property
    def is_listening_for_advertisements(self) -> bool:
        return bool(self.le_scan_enable or self.pending_le_connection)

    def flush_timeout(self, handle: int) -> float:
        """Return the seconds that the latest PDU on this connection may be tried; infinite where it is not to be
        flushed."""
        slots = self.flush_timeout_slots.get(handle, 0)
        return slots * SLOT_S if slots and self._flushable.get(handle) else float("inf")

    def on_hci_write_automatic_flush_timeout_command(self, command: Any) -> Any:
        self.flush_timeout_slots[command.connection_handle] = command.flush_timeout
        success = hci.HCI_ErrorCode.SUCCESS
        return HCI_Write_Automatic_Flush_Timeout_ReturnParameters(success, command.connection_handle)

    def on_hci_write_secure_connections_host_support_command(self, _command: Any) -> Any:
        """Bumble's host sends it to every controller; nothing here is encrypted, so it changes nothing."""
        return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.SUCCESS)

    def on_hci_command_packet(self, command: Any) -> None:
        """asyncio reads before it looks at its timers: new data would take the place of what should be on the air."""
        self.le_legacy_advertiser.catch_up()
        super().on_hci_command_packet(command)

    def on_hci_acl_data_packet(self, packet: Any) -> None:
        """Bumble's reports the packet completed at once; here the link does it when the packet has left."""
        handle = packet.connection_handle
        if (connection := self.find_connection_by_handle(handle)) is None:
            return  # it ended while the packet was on its way
        if packet.pb_flag != hci.HCI_ACL_PB_CONTINUATION:
            self._flushable[handle] = packet.pb_flag == hci.HCI_ACL_PB_FIRST_FLUSHABLE
        self._uncompleted[handle] = self._uncompleted.get(handle, 0) + 1
        connection.assembler.feed_packet(packet)

    def take_uncompleted(self, handle: int) -> int:
        """Return how many HCI packets the PDU came in that is now given to the link."""
        return self._uncompleted.pop(handle, 0)

    def complete(self, handle: int, packets: int) -> None:
        """A PDU of so many HCI packets has left or was flushed: its buffers are free (Core Vol 4 Part E 4.1.1)."""
        if packets:
            self.send_hci_packet(hci.HCI_Number_Of_Completed_Packets_Event([handle], [packets]))

    def flushed(self, handle: int) -> None:
        """A PDU was given up after the flush timeout. Bumble's host does not know that event."""

    def on_ll_advertising_pdu(self, packet: Any) -> None:
        kinds = hci.HCI_LE_Advertising_Report_Event.EventType
        match packet:
            case AdvScanInd():
                self._report(kinds.ADV_SCAN_IND, packet)
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
            self.report(event_type, packet.advertiser_address, packet.data)

    def report(self, event_type: int, address: Any, data: bytes) -> None:
        """Tell the host of an advertisement or scan response."""
        advertiser = self.link.find_le_controller(address)
        rssi = self.link.rssi(advertiser.name, self.name) if advertiser else RSSI_NOT_AVAILABLE
        report = hci.HCI_LE_Advertising_Report_Event.Report(event_type, address.address_type, address, data, rssi)
        self.send_hci_packet(hci.HCI_LE_Advertising_Report_Event([report]))

    def on_le_connect_ind(self, packet: Any) -> None:
        self._connect_ind = packet
        super().on_le_connect_ind(packet)

    def send_hci_packet(self, packet: Any) -> None:
        """Tell the host the timing of an LE connection the connection lives by."""
        timing = self._connect_ind
        if timing and isinstance(packet, hci.HCI_LE_Connection_Complete_Event) and packet.role == hci.Role.PERIPHERAL:
            packet.connection_interval, packet.peripheral_latency = timing.interval, timing.latency
            packet.supervision_timeout = timing.timeout
        if isinstance(packet, hci.HCI_LE_Connection_Complete_Event | hci.HCI_LE_Connection_Update_Complete_Event) and (
            connection := self.find_le_connection_by_handle(packet.connection_handle)
        ):
            connection.supervision_timeout = packet.supervision_timeout * 0.01  # units: Core Vol 4 Part E 7.8.12
        super().send_hci_packet(packet)

    def on_classic_connection_complete(self, peer_address: Any, status: int) -> None:
        super().on_classic_connection_complete(peer_address, status)
        if status != hci.HCI_ErrorCode.SUCCESS:
            self.classic_connections.pop(peer_address, None)

    def on_le_disconnected(self, connection: Any, reason: int) -> None:
        self._forget(connection)
        super().on_le_disconnected(connection, reason)

    def on_classic_disconnected(self, peer_address: Any, reason: int) -> None:
        if connection := self.classic_connections.get(peer_address):
            self._forget(connection)
            super().on_classic_disconnected(peer_address, reason)

    def _forget(self, connection: Any) -> None:
        for kept in (self.flush_timeout_slots, self._flushable, self._uncompleted):
            kept.pop(connection.handle, None)
