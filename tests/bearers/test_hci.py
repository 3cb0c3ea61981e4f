"""What raw HCI brings: the events and reports of Core Vol 4 Part E 7.7, byte for byte and malformed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bt_selfsecure.bearers import hci, hci_events
from bt_selfsecure.bearers.advertising_data import manufacturer_data, manufacturer_datagrams
from bt_selfsecure.bearers.base import BearerError

REPORT = bytes.fromhex("03 00 010000eb27ba 08 07ff ffff 0badcafe bf")
"""ADV_NONCONN_IND, public BA:27:EB:00:00:01, eight bytes of data, -65 dBm."""


def test_an_event_is_cut_at_its_length() -> None:
    assert hci_events.parse_event(b"\x04\x0e\x04\x01\x0a\x20\x00") == (0x0E, b"\x01\x0a\x20\x00")
    assert hci_events.parse_event(b"\x04\x10\x00") == (0x10, b"")
    for wrong in (b"", b"\x04\x0e", b"\x02\x0e\x00", b"\x04\x0e\x01", b"\x04\x0e\x00\x00"):
        assert hci_events.parse_event(wrong) is None


def test_command_complete_and_a_refusing_command_status_answer_a_command_and_nothing_else_does() -> None:
    assert hci_events.answered(0x0E, b"\x01\x0a\x20\x00\x42") == (hci.LE_SET_ADVERTISING_ENABLE, b"\x00\x42")
    assert hci_events.answered(0x0F, b"\x0c\x01\x0b\x20") == (hci.LE_SET_SCAN_PARAMETERS, b"\x0c")
    assert hci_events.answered(0x0F, b"\x00\x01\x0b\x20") == (0, b"")  # pending: the answer follows
    assert hci_events.answered(0x0E, b"\x01\x0a") == (0, b"")
    assert hci_events.answered(0x3E, b"\x01\x0a\x20\x00") == (0, b"")


def test_a_report_says_who_advertised_what_and_how_loud() -> None:
    event = hci_events.parse_event(b"\x04\x3e" + bytes([2 + len(REPORT)]) + b"\x02\x01" + REPORT)
    assert event is not None
    report = hci_events.AdvertisingReport(3, "BA:27:EB:00:00:01", bytes.fromhex("07ffffff0badcafe"), -65)
    assert hci_events.parse_reports(event[1]) == [report]
    assert hci_events.parse_reports(b"\x02\x02" + REPORT + REPORT) == [report, report]
    assert manufacturer_datagrams(report.data) == [b"\x0b\xad\xca\xfe"]
    assert hci_events.parse_reports(b"\x02\x01" + REPORT[:-1] + b"\x7f") == [report._replace(rssi=None)]


def test_of_reports_what_is_cut_off_or_of_another_kind_is_left_out() -> None:
    assert len(hci_events.parse_reports(b"\x02\x02" + REPORT + REPORT[:-1])) == 1
    assert hci_events.parse_reports(b"\x02\x01" + REPORT[:8]) == []
    assert hci_events.parse_reports(b"\x02\x00" + REPORT) == []
    assert hci_events.parse_reports(b"\x0d\x01" + REPORT) == []
    assert hci_events.parse_reports(b"\x02") == []


def test_manufacturer_data_are_found_among_other_fields_and_only_the_named_companys() -> None:
    data = bytes.fromhex("020106 05ffffff0102 05ff0a000304 04ffffff05 0000 03ffffff")
    assert manufacturer_datagrams(data, 0xFFFF) == [b"\x01\x02", b"\x05"]  # a field of length 0 ends the data
    assert manufacturer_datagrams(data, 0x000A) == [b"\x03\x04"]
    assert manufacturer_datagrams(bytes.fromhex("03ffffff"), 0xFFFF) == [b""]
    assert manufacturer_datagrams(bytes.fromhex("02ffff"), 0xFFFF) == []
    assert manufacturer_datagrams(bytes.fromhex("06ffffff01"), 0xFFFF) == []


@given(st.binary(max_size=80))
def test_no_bytes_raise(data: bytes) -> None:
    event = hci_events.parse_event(data)
    if event:
        hci_events.answered(*event)
    for code in (hci_events.COMMAND_COMPLETE, hci_events.COMMAND_STATUS, hci_events.LE_META):
        opcode, returned = hci_events.answered(code, data)
        assert 0 <= opcode <= 0xFFFF
        assert returned in data
    for parameters in (data, b"\x02" + data, b"\x02\xff" + data):
        for report in hci_events.parse_reports(parameters):
            assert report.data in data
            assert report.rssi is None or -128 <= report.rssi < 127
    for found in manufacturer_datagrams(data, 0xFFFF):
        assert b"\xff\xff\xff" + found in data


@given(st.binary(max_size=27))
def test_what_goes_into_manufacturer_data_comes_out_again(payload: bytes) -> None:
    assert manufacturer_datagrams(manufacturer_data(payload)) == [payload]


@pytest.mark.parametrize("adapter", ["", "hci", "usb0", "hci-1", "hci0x", "hci65536", "hci99999999999"])
def test_an_adapter_is_named_hci_and_a_number(adapter: str) -> None:
    assert hci.adapter_number("hci12") == 12
    with pytest.raises(BearerError, match="take a name as in hci0"):
        hci.adapter_number(adapter)
