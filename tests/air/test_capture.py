"""Captures: what tshark makes of our files."""

from __future__ import annotations

import io
import random
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from bumble import rfcomm

from bt_selfsecure.air import capture
from bt_selfsecure.air.capture import CaptureTap, PcapngWriter, Sniffer
from bt_selfsecure.bearers.advertising_data import manufacturer_data
from bt_selfsecure.errors import UsageError
from bt_selfsecure.eve.sources import open_source

ADDRESS = bytes.fromhex("010000000002")  # 02:00:00:00:00:01, little-endian
HCI, LE, RAW = (
    capture.LINKTYPE_BLUETOOTH_HCI_H4_WITH_PHDR,
    capture.LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR,
    capture.LINKTYPE_USER0,
)


def advertisement(payload: bytes, channel: int = 37) -> bytes:
    data = manufacturer_data(payload)
    pdu = capture.advertising_pdu(capture.ADV_NONCONN_IND, ADDRESS, data, random_address=False)
    return capture.le_packet(channel, pdu)


def l2cap(payload: bytes, cid: int = 0x40, *, sent: bool = True) -> bytes:
    return capture.acl_packet(1, struct.pack("<HH", len(payload), cid) + payload, sent=sent)


def uih(information: bytes, *, channel: int = 1, credits_given: int | None = None) -> bytes:
    """An RFCOMM data frame as Bumble builds it."""
    if credits_given is None:
        return bytes(rfcomm.RFCOMM_Frame.uih(1, channel << 1, information))
    return bytes(rfcomm.RFCOMM_Frame.uih(1, channel << 1, bytes([credits_given]) + information, p_f=1))


def tshark(path: Path, *arguments: str) -> str:
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed (apt-get install tshark)")
    done = subprocess.run(["tshark", "-r", path, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def complaints(path: Path) -> str:
    return tshark(path, "-Y", '_ws.malformed || _ws.expert.severity == "Error" || _ws.expert.severity == "Warning"')


# --- the file ---------------------------------------------------------------------------------------------------------


def test_a_file_of_one_packet_has_these_bytes() -> None:
    """Worked out by hand from draft-ietf-opsawg-pcapng, 4.1 to 4.3."""
    file = io.BytesIO()
    PcapngWriter(file).write(2.5, RAW, b"\x01\x02\x03\x04\x05", comment="hi")
    section = "0a0d0d0a 34000000 4d3c2b1a 01000000 ffffffff ffffffff 04000d00 62745f73 656c6673 65637572 65000000"
    section += "00000000 34000000"
    interface = "01000000 20000000 93000000 00000000 09000100 09000000 00000000 20000000"
    packet = "06000000 34000000 00000000 00000000 00f90295 05000000 05000000 01020304 05000000 01000200 68690000"
    packet += "00000000 34000000"
    assert file.getvalue() == bytes.fromhex(section + interface + packet)


def test_tshark_reads_all_link_types_times_and_comments_of_one_file(tmp_path: Path) -> None:
    path = tmp_path / "all.pcapng"
    with PcapngWriter(path) as writer:
        writer.write(0.0, RAW, b"\x23frame", comment="bare")
        writer.write(1.000000001, LE, advertisement(b"payload"))
        writer.write(2.5, HCI, l2cap(b"sdu"))
        writer.write(3.0, RAW, b"\x23again")
    rows = tshark(path, "-T", "fields", "-e", "frame.time_epoch", "-e", "frame.len", "-e", "frame.comment").splitlines()
    assert [row.split("\t") for row in rows] == [
        ["0.000000000", "6", "bare"],
        ["1.000000001", str(len(advertisement(b"payload"))), ""],
        ["2.500000000", "12", ""],
        ["3.000000000", "6", ""],
    ]


def test_tshark_opens_the_capture_of_an_eve_who_heard_nothing(tmp_path: Path) -> None:
    path = tmp_path / "empty.pcapng"
    PcapngWriter(path).close()
    assert tshark(path) == ""


def test_tshark_decodes_our_advertisements_on_all_channels_and_finds_their_checksums_right(tmp_path: Path) -> None:
    path, draw = tmp_path / "adverts.pcapng", random.Random(1)
    adverts = [(channel, draw.randbytes(length)) for channel in (37, 38, 39) for length in range(1, 28)]
    with PcapngWriter(path) as writer:
        for number, (channel, payload) in enumerate(adverts):
            writer.write(number / 10, LE, advertisement(payload, channel))
    fields = ("btle_rf.channel", "btle.advertising_address", "btcommon.eir_ad.entry.company_id")
    rows = tshark(path, "-T", "fields", *(x for f in fields for x in ("-e", f)), "-e", "btcommon.eir_ad.entry.data")
    index = {37: "0", 38: "12", 39: "39"}
    assert [row.split("\t") for row in rows.splitlines()] == [
        [index[channel], "02:00:00:00:00:01", "0xffff", payload.hex()] for channel, payload in adverts
    ]
    assert complaints(path) == ""


def test_tshark_would_have_noticed_a_wrong_checksum(tmp_path: Path) -> None:
    path = tmp_path / "wrong.pcapng"
    right = advertisement(b"payload")
    with PcapngWriter(path) as writer:
        writer.write(0, LE, right[:-1] + bytes([right[-1] ^ 1]))
    assert complaints(path) != ""


def test_a_sniffer_hands_on_what_it_missed_with_a_wrong_crc(tmp_path: Path) -> None:
    path, whole = tmp_path / "sniffer.pcapng", advertisement(b"payload")
    with PcapngWriter(path) as writer:
        sniffer = Sniffer(writer, random.Random(1))
        sniffer.hear(0.0, LE, whole)
        for number in range(100):
            sniffer.miss(number, LE, whole)
    with open_source(str(path)) as source:
        heard = list(source)
    wrong = [(int.from_bytes(copy.bytes) ^ int.from_bytes(heard[0].bytes)).bit_count() for copy in heard[1:]]
    assert set(wrong) == {1, 2}
    assert [copy.crc_ok for copy in heard] == [True] + [False] * 100
    assert {copy.bytes[:6] for copy in heard} == {heard[0].bytes[:6]}  # of the same length for whoever reads it


def test_tshark_does_not_complain_about_a_connection_whose_beginning_was_not_heard(tmp_path: Path) -> None:
    path = tmp_path / "acl.pcapng"
    with PcapngWriter(path) as writer:
        tap = CaptureTap(writer)
        tap.hear(1.0, HCI, l2cap(b"first"))
        tap.hear(2.0, HCI, l2cap(b"second", sent=False))
    assert complaints(path) == ""
    rows = tshark(path, "-T", "fields", "-e", "frame.comment", "-e", "btl2cap.payload").splitlines()
    assert [row.split("\t") for row in rows] == [
        ["Not heard: added so that Wireshark knows the connection.", ""],
        ["", b"first".hex()],
        ["", b"second".hex()],
    ]


@pytest.mark.parametrize(("handle", "code"), [(1, "0x03"), (capture.FIRST_LE_HANDLE, "0x3e,0x01")])
def test_a_connection_is_introduced_as_what_it_is(handle: int, code: str, tmp_path: Path) -> None:
    path = tmp_path / "acl.pcapng"
    with PcapngWriter(path) as writer:
        CaptureTap(writer).hear(1.0, HCI, capture.acl_packet(handle, struct.pack("<HH", 1, 0x40) + b"x", sent=True))
    assert complaints(path) == ""
    fields = tshark(
        path, "-T", "fields", "-e", "bthci_evt.code", "-e", "bthci_evt.le_meta_subevent", "-E", "separator=,"
    )
    assert fields.splitlines()[0].strip(",") == code


def test_a_capture_that_cannot_be_written_is_reported_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^can't write the capture .*missing.*; name a writable file$"):
        PcapngWriter(tmp_path / "missing" / "eve.pcapng")


def test_who_looks_on_sees_each_packet_as_soon_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "growing.pcapng"
    with PcapngWriter(path) as writer:
        for number in range(3):
            writer.write(1.0, RAW, bytes([number]))
            with open_source(str(path)) as seen:
                assert [heard.bytes for heard in seen] == [bytes([n]) for n in range(number + 1)]


def test_a_writer_leaves_a_file_open_that_it_did_not_open() -> None:
    file = io.BytesIO()
    with PcapngWriter(file) as writer:
        writer.write(0, RAW, b"frame")
    assert not file.closed
