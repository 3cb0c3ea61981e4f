"""A Bluetooth controller that Linux takes for a Raspberry Pi's.

Bumble 0.0.236's controller, even as `RadioController`, does not bring up a Linux host. What is added here, each method
in the form that Bumble's own source could take over:

    commands that Linux (6.1, 6.12) sends and Bumble does not answer, so that the host gives up: inquiry, set-up
        values, link encryption, refusing and cancelling connections, flush timeouts, RSSI
    Reset forgets connections, advertising and scanning
    link keys are asked for before two hosts pair anew, and must be the same at both ends
    key type of Just Works: Bumble claims an authenticated P-256 key, for which Linux demands AES-CCM
    packets for the host are cut to what its UART driver takes (1028 octets)
    scanning by the accept list, without duplicates, with the scan responses that advertisers really have

What it does not model: encryption is a state only, no key is ever used; LMP and LL control packets are never lost.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from dataclasses import dataclass, field
from typing import Any, Final

from bumble import hci, ll, lmp
from bumble.controller import SspState
from bumble.core import PhysicalTransport

from bt_selfsecure.air.controller import SLOT_S, AdvScanInd, RadioAdvertiser, RadioController

logger = logging.getLogger(__name__)

OK: Final = hci.HCI_ErrorCode.SUCCESS
INQUIRY_UNIT_S: Final = 1.28
"""Seconds, unit of an inquiry's length (Core Vol 4 Part E 7.1.1)."""
GENERAL_INQUIRY_LAP: Final = bytes.fromhex("338b9e")

_SETTINGS: Final = frozenset(
    {
        hci.HCI_SET_EVENT_FILTER_COMMAND,
        hci.HCI_WRITE_CONNECTION_ACCEPT_TIMEOUT_COMMAND,
        hci.HCI_WRITE_PAGE_SCAN_ACTIVITY_COMMAND,
        hci.HCI_WRITE_INQUIRY_SCAN_ACTIVITY_COMMAND,
        hci.HCI_WRITE_VOICE_SETTING_COMMAND,
        hci.HCI_WRITE_INQUIRY_SCAN_TYPE_COMMAND,
        hci.HCI_WRITE_INQUIRY_MODE_COMMAND,
        hci.HCI_WRITE_PAGE_SCAN_TYPE_COMMAND,
        hci.HCI_WRITE_CURRENT_IAC_LAP_COMMAND,
        hci.HCI_WRITE_DEFAULT_LINK_POLICY_SETTINGS_COMMAND,
        hci.HCI_INQUIRY_CANCEL_COMMAND,
    }
)
"""Commands whose values change nothing that is modelled, and that are answered by a status alone."""


@dataclass
class HCI_Read_Automatic_Flush_Timeout_ReturnParameters(hci.HCI_StatusReturnParameters):  # type: ignore[misc]  # noqa: N801
    connection_handle: int = field(metadata=hci.metadata(2))
    flush_timeout: int = field(metadata=hci.metadata(2))


@hci.HCI_SyncCommand.sync_command(HCI_Read_Automatic_Flush_Timeout_ReturnParameters)
@dataclass
class HCI_Read_Automatic_Flush_Timeout_Command(hci.HCI_SyncCommand):  # type: ignore[misc]  # noqa: N801
    """Is the command of Core Vol 4 Part E 7.3.29. Bumble knows its number and has no class for it."""

    connection_handle: int = field(metadata=hci.metadata(2))


class LinuxController(RadioController):
    """Serves one Linux host; `link` is the project's air. What it does not know it logs once."""

    lmp_features = (
        RadioController.lmp_features
        | hci.LmpFeatureMask.ENCRYPTION
        | hci.LmpFeatureMask.ROLE_SWITCH
        | hci.LmpFeatureMask.LMP_3_SLOT_PACKETS
        | hci.LmpFeatureMask.LMP_5_SLOT_PACKETS
        | hci.LmpFeatureMask.SECURE_SIMPLE_PAIRING_CONTROLLER_SUPPORT
    )
    le_features = (
        RadioController.le_features
        | hci.LeFeatureMask.PERIPHERAL_INITIATED_FEATURE_EXCHANGE
        | hci.LeFeatureMask.LE_PING
    )
    supported_max_tx_octets = supported_max_rx_octets = suggested_max_tx_octets = 251
    supported_max_tx_time = supported_max_rx_time = 2120
    filter_accept_list_size = 16

    def __init__(self, name: str, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self._own_features = self.lmp_features
        self._unknown: set[int] = set()
        self._clear()

    def _clear(self) -> None:
        self.le_legacy_advertiser.stop()
        self.le_legacy_advertiser = RadioAdvertiser(self)
        self.lmp_features = self._own_features  # Bumble notes the host's features in them
        self.classic_pending_commands.clear()
        self.pending_le_connection: Any = None
        self.le_scan_enable, self.classic_scan_enable = False, 0
        self._accepted: set[bytes] = set()
        self._reported: set[tuple[int, bytes, bytes]] = set()
        self._key_checks: dict[Any, bytes] = {}

    # --- the host's commands

    def on_hci_reset_command(self, command: Any) -> Any:
        self.link.forget_connections(self)
        self._clear()
        return super().on_hci_reset_command(command)

    def on_hci_command(self, command: Any) -> Any:
        """Answer what has no method of its own: a setting that changes nothing here, or Unknown HCI Command."""
        status = OK if command.op_code in _SETTINGS else hci.HCI_ErrorCode.UNKNOWN_HCI_COMMAND_ERROR
        if status != OK and command.op_code not in self._unknown:
            self._unknown.add(command.op_code)
            logger.warning("%s: its host sent %s, which is not known here", self.name, command.name)
        returned = hci.HCI_StatusReturnParameters(status)
        if isinstance(command, hci.HCI_SyncCommand):
            return returned
        # Bumble answers by itself only those that it has a class for.
        self.send_hci_packet(hci.HCI_Command_Complete_Event(1, command.op_code, returned))
        return None

    def on_hci_read_voice_setting_command(self, _command: Any) -> Any:
        return hci.HCI_Read_Voice_Setting_ReturnParameters(OK, 0x0060)

    def on_hci_read_number_of_supported_iac_command(self, _command: Any) -> Any:
        return hci.HCI_Read_Number_Of_Supported_IAC_ReturnParameters(OK, 1)

    def on_hci_read_current_iac_lap_command(self, _command: Any) -> Any:
        return hci.HCI_Read_Current_IAC_LAP_ReturnParameters(OK, 1, GENERAL_INQUIRY_LAP)

    def on_hci_read_page_scan_activity_command(self, _command: Any) -> Any:
        return hci.HCI_Read_Page_Scan_Activity_ReturnParameters(OK, 0x0800, 0x0012)

    def on_hci_read_page_scan_type_command(self, _command: Any) -> Any:
        return hci.HCI_Read_Page_Scan_Type_ReturnParameters(OK, 0)

    def on_hci_read_inquiry_response_transmit_power_level_command(self, _command: Any) -> Any:
        return hci.HCI_Read_Inquiry_Response_Transmit_Power_Level_ReturnParameters(OK, 0)

    def on_hci_read_stored_link_key_command(self, _command: Any) -> Any:
        return hci.HCI_Read_Stored_Link_Key_ReturnParameters(OK, 0, 0)

    def on_hci_delete_stored_link_key_command(self, _command: Any) -> Any:
        return hci.HCI_Delete_Stored_Link_Key_ReturnParameters(OK, 0)

    def on_hci_write_page_timeout_command(self, command: Any) -> Any:
        self.page_timeout = command.page_timeout * SLOT_S
        return hci.HCI_StatusReturnParameters(OK)

    def on_hci_write_link_policy_settings_command(self, command: Any) -> Any:
        return hci.HCI_StatusAndConnectionHandleReturnParameters(OK, command.connection_handle)

    def on_hci_le_set_data_length_command(self, command: Any) -> Any:
        return hci.HCI_StatusAndConnectionHandleReturnParameters(OK, command.connection_handle)

    def on_hci_read_automatic_flush_timeout_command(self, command: Any) -> Any:
        slots = self.flush_timeout_slots.get(command.connection_handle, 0)
        return HCI_Read_Automatic_Flush_Timeout_ReturnParameters(OK, command.connection_handle, slots)

    def on_hci_read_rssi_command(self, command: Any) -> Any:
        connection = self.find_connection_by_handle(command.handle)
        peer = self.link.peer_of(connection) if connection else None
        rssi = self.link.rssi(peer.name, self.name) if peer else 0
        return hci.HCI_Read_RSSI_ReturnParameters(OK, command.handle, rssi)

    def on_hci_read_encryption_key_size_command(self, command: Any) -> Any:
        return hci.HCI_Read_Encryption_Key_Size_ReturnParameters(OK, command.connection_handle, 16)

    def flushed(self, handle: int) -> None:
        self._send_event(hci.HCI_FLUSH_OCCURRED_EVENT, struct.pack("<H", handle))  # Core Vol 4 Part E 7.7.17

    # --- inquiry

    def on_hci_inquiry_command(self, command: Any) -> None:
        """Report each device whose inquiry scan is on, once (Core Vol 4 Part E 7.1.1)."""
        self._send_hci_command_status(OK, command.op_code)
        loop = asyncio.get_running_loop()
        for other in self.link.controllers:
            if other is not self and other.classic_scan_enable & 0b01:
                result = bytes([1]) + bytes(other.public_address) + bytes(8)
                loop.call_later(0.1, self._send_event, hci.HCI_INQUIRY_RESULT_EVENT, result)
        end = command.inquiry_length * INQUIRY_UNIT_S
        loop.call_later(end, self._send_event, hci.HCI_INQUIRY_COMPLETE_EVENT, bytes([OK]))

    def _send_event(self, code: int, parameters: bytes) -> None:
        if self.host:
            self.host.on_packet(bytes([4, code, len(parameters)]) + parameters)

    # --- BR/EDR connections

    def on_hci_create_connection_cancel_command(self, command: Any) -> Any:
        status = OK
        if self.link.cancel_page(self, command.bd_addr):
            cancelled = hci.HCI_ErrorCode.UNKNOWN_CONNECTION_IDENTIFIER_ERROR
            self.on_classic_connection_complete(command.bd_addr, cancelled)
        else:
            status = hci.HCI_ErrorCode.UNKNOWN_CONNECTION_IDENTIFIER_ERROR
        return hci.HCI_StatusAndAddressReturnParameters(status, command.bd_addr)

    def on_hci_reject_connection_request_command(self, command: Any) -> None:
        self._send_hci_command_status(OK, command.op_code)
        refused = lmp.LmpNotAccepted(lmp.Opcode.LMP_HOST_CONNECTION_REQ, command.reason)
        self.send_lmp_packet(command.bd_addr, refused)
        self.on_classic_connection_complete(command.bd_addr, command.reason)

    def on_hci_change_connection_packet_type_command(self, command: Any) -> None:
        self._send_hci_command_status(OK, command.op_code)
        handle = struct.pack("<H", command.connection_handle)
        self._send_event(hci.HCI_CONNECTION_PACKET_TYPE_CHANGED_EVENT, bytes([OK]) + handle + b"\x18\xcc")

    def on_hci_read_clock_offset_command(self, command: Any) -> None:
        self._send_hci_command_status(OK, command.op_code)
        handle = struct.pack("<H", command.connection_handle)
        self._send_event(hci.HCI_READ_CLOCK_OFFSET_COMPLETE_EVENT, bytes([OK]) + handle + bytes(2))

    def on_hci_read_remote_version_information_command(self, command: Any) -> None:
        self._send_hci_command_status(OK, command.op_code)
        event = struct.pack(
            "<BHBHH", OK, command.connection_handle, self.lmp_version, self.manufacturer_company_identifier, 0
        )
        self._send_event(hci.HCI_READ_REMOTE_VERSION_INFORMATION_COMPLETE_EVENT, event)

    def on_hci_set_connection_encryption_command(self, command: Any) -> None:
        """Both hosts are told; from now on taps hear nothing of this connection (Core Vol 4 Part E 7.1.16)."""
        self._send_hci_command_status(OK, command.op_code)
        connection = self.find_classic_connection_by_handle(command.connection_handle)
        peer = self.link.peer_of(connection) if connection else None
        if peer is None:
            return
        for controller, end in ((self, connection), (peer, peer.classic_connections[self.public_address])):
            end.encrypted = bool(command.encryption_enable)
            controller.send_hci_packet(hci.HCI_Encryption_Change_Event(OK, end.handle, command.encryption_enable))

    # --- link keys

    def on_hci_authentication_requested_command(self, command: Any) -> None:
        """Ask the host for a link key; only without one the two pair (Core Vol 2 Part F 4.2)."""
        connection = self.find_classic_connection_by_handle(command.connection_handle)
        if connection is None:
            unknown = hci.HCI_ErrorCode.UNKNOWN_CONNECTION_IDENTIFIER_ERROR
            self._send_hci_command_status(unknown, command.op_code)
            return
        self._send_hci_command_status(OK, command.op_code)
        connection.ssp_state = SspState(is_initiator=True)
        self.send_hci_packet(hci.HCI_Link_Key_Request_Event(bd_addr=connection.peer_address))

    def on_hci_link_key_request_reply_command(self, command: Any) -> Any:
        if connection := self.classic_connections.get(command.bd_addr):
            self._on_link_key(connection, bytes(command.link_key))
        return hci.HCI_StatusAndAddressReturnParameters(OK, command.bd_addr)

    def on_hci_link_key_request_negative_reply_command(self, command: Any) -> Any:
        connection = self.classic_connections.get(command.bd_addr)
        if connection and command.bd_addr in self._key_checks:
            self._on_link_key(connection, b"")
            return hci.HCI_StatusAndAddressReturnParameters(OK, command.bd_addr)
        if connection and (peer := self.link.peer_of(connection)):
            peer.classic_connections[self.public_address].ssp_state = SspState()
        return super().on_hci_link_key_request_negative_reply_command(command)

    def _on_link_key(self, connection: Any, key: bytes) -> None:
        """The host's key: the peer's host is asked for its own, or the two are compared."""
        peer = self.link.peer_of(connection)
        if peer is None:
            return
        wanted = self._key_checks.pop(connection.peer_address, None)
        if wanted is None:
            peer.ask_for_link_key(self.public_address, key)
            return
        status = OK if key == wanted else hci.HCI_ErrorCode.AUTHENTICATION_FAILURE_ERROR
        if not key:
            status = hci.HCI_ErrorCode.PIN_OR_KEY_MISSING_ERROR
        theirs = peer.classic_connections[self.public_address]
        peer.send_hci_packet(hci.HCI_Authentication_Complete_Event(status, theirs.handle))

    def ask_for_link_key(self, address: Any, wanted: bytes) -> None:
        """The other end of a connection has proved `wanted`."""
        self._key_checks[address] = wanted
        self.send_hci_packet(hci.HCI_Link_Key_Request_Event(bd_addr=address))

    def send_hci_packet(self, packet: Any) -> None:
        if isinstance(packet, hci.HCI_Link_Key_Notification_Event):
            packet = hci.HCI_Link_Key_Notification_Event(
                bd_addr=packet.bd_addr,
                link_key=packet.link_key,
                key_type=hci.LinkKeyType.UNAUTHENTICATED_COMBINATION_KEY_GENERATED_FROM_P_192,
            )
        super().send_hci_packet(packet)

    # --- LE

    def on_hci_le_add_device_to_filter_accept_list_command(self, command: Any) -> Any:
        self._accepted.add(bytes([command.address_type]) + bytes(command.address))
        return hci.HCI_StatusReturnParameters(OK)

    def on_hci_le_remove_device_from_filter_accept_list_command(self, command: Any) -> Any:
        self._accepted.discard(bytes([command.address_type]) + bytes(command.address))
        return hci.HCI_StatusReturnParameters(OK)

    def on_hci_le_clear_filter_accept_list_command(self, _command: Any) -> Any:
        self._accepted.clear()
        return hci.HCI_StatusReturnParameters(OK)

    def on_hci_le_set_scan_enable_command(self, command: Any) -> Any:
        self._reported.clear()
        return super().on_hci_le_set_scan_enable_command(command)

    def on_hci_le_create_connection_cancel_command(self, _command: Any) -> Any:
        if self.pending_le_connection is None:
            return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.COMMAND_DISALLOWED_ERROR)
        self.pending_le_connection = None
        cancelled = bytes([1, hci.HCI_ErrorCode.UNKNOWN_CONNECTION_IDENTIFIER_ERROR]) + bytes(17)
        asyncio.get_running_loop().call_soon(self._send_event, hci.HCI_LE_META_EVENT, cancelled)
        return hci.HCI_StatusReturnParameters(OK)

    def on_ll_advertising_pdu(self, packet: Any) -> None:
        if isinstance(packet, ll.AdvInd | ll.AdvNonConnInd):
            known = bytes([packet.advertiser_address.address_type]) + bytes(packet.advertiser_address)
            self._scan(packet, known)
            if isinstance(packet, ll.AdvInd):
                self._connect(packet, known)
        else:
            super().on_ll_advertising_pdu(packet)

    def _scan(self, packet: Any, known: bytes) -> None:
        kinds = hci.HCI_LE_Advertising_Report_Event.EventType
        if not self.le_scan_enable or (self.le_scanning_filter_policy & 1 and known not in self._accepted):
            return
        if isinstance(packet, AdvScanInd):
            kind = kinds.ADV_SCAN_IND
        else:
            kind = kinds.ADV_IND if isinstance(packet, ll.AdvInd) else kinds.ADV_NONCONN_IND
        self._report_once(kind, packet.advertiser_address, known, bytes(packet.data))
        advertiser = self.link.find_le_controller(packet.advertiser_address)
        if self.le_scan_type and kind != kinds.ADV_NONCONN_IND and advertiser:
            response = bytes(advertiser.le_legacy_advertiser.scan_response_data)
            self._report_once(kinds.SCAN_RSP, packet.advertiser_address, known, response)

    def _report_once(self, kind: int, address: Any, known: bytes, data: bytes) -> None:
        """Real chips tell duplicates by address, or by address and data; this one by both and the type."""
        if not self.filter_duplicates or (kind, known, data) not in self._reported:
            self._reported.add((kind, known, data))
            self.report(kind, address, data)

    def _connect(self, packet: Any, known: bytes) -> None:
        pending = self.pending_le_connection
        if pending is None:
            return
        if pending.initiator_filter_policy and known in self._accepted:
            pending.peer_address = packet.advertiser_address
        if pending.peer_address == packet.advertiser_address:
            self.create_le_connection(packet.advertiser_address)

    # --- data for the host

    def on_link_acl_data(self, sender_address: Any, transport: Any, data: bytes) -> None:
        le = transport == PhysicalTransport.LE
        connection = (self.le_connections if le else self.classic_connections).get(sender_address)
        if connection is None:
            return
        size = self.le_acl_data_packet_length if le else self.acl_data_packet_length
        for offset in range(0, len(data), size):
            boundary = hci.HCI_ACL_PB_CONTINUATION if offset else hci.HCI_ACL_PB_FIRST_FLUSHABLE
            piece = data[offset : offset + size]
            self.send_hci_packet(hci.HCI_AclDataPacket(connection.handle, boundary, 0, len(piece), piece))
