"""Captures as they are found: packed, cut by a snap length, from a Mac, under PPI, with times that no calendar has."""

from __future__ import annotations

import gzip
import importlib
import os
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from capture_tools import btsnoop, fields, packetlogger, packets_of_tshark, read
from carriers import CONNECTED, HCI, LE, advertisement, by_rfcomm, report, run, wires, write

from bt_selfsecure.cli.main import main
from bt_selfsecure.errors import UsageError
from bt_selfsecure.eve.haoxiao.format import HAOXIAO
from bt_selfsecure.eve.reading import Reader
from bt_selfsecure.eve.sources import NO_TIME, UNREADABLE, Capture, Direction, open_source
from bt_selfsecure.eve.sources import compressed as compressed_source
from bt_selfsecure.eve.sources.packet import BOMB, CUT, CUT_SHORT, DAMAGED
from bt_selfsecure.protocols.haoxiao.frames import Kind, peek_kind

PACKET = bytes.fromhex("d6be898e4209060504030201020106fcb633")
"""An advertisement on the air, from access address to CRC."""


def pcap(linktype: int, packets: list[tuple[bytes, int]], magic: int = 0xA1B2C3D4, order: str = "<") -> bytes:
    """Packets and their lengths before they were cut."""
    head = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, linktype)
    between = bytes(8) if magic == 0xA1B2CD34 else b""
    return head + b"".join(
        struct.pack(order + "IIII", 1, 250_000, len(data), sent) + between + data for data, sent in packets
    )


def block(kind: int, body: bytes, total: int | None = None) -> bytes:
    """Of pcapng; `total` is a second length that may be wrong."""
    size = len(body) + 12
    return struct.pack("<II", kind, size) + body + struct.pack("<I", size if total is None else total)


SECTION = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))


def interface(linktype: int, options: bytes = b"", snap: int = 0) -> bytes:
    return block(1, struct.pack("<HHI", linktype, 0, snap) + options)


def enhanced(data: bytes, sent: int | None = None) -> bytes:
    padded = data + bytes(-len(data) % 4)
    return block(6, struct.pack("<IIIII", 0, 0, 1000, len(data), len(data) if sent is None else sent) + padded)


# --- PPI --------------------------------------------------------------------------------------------------------------


def ppi(inner: int, kind: int | None) -> bytes:
    field = b"" if kind is None else struct.pack("<HHBHBIbbbB", kind, 12, 0, 2402, 0, 0, -40, -60, -50, 1)
    return struct.pack("<BBHI", 0, 0, 8 + len(field), inner) + field + PACKET


@pytest.mark.parametrize(
    ("inner", "kind", "is_le"),
    [
        (251, 30006, True),
        (251, None, True),
        (147, 30006, True),
        (147, None, False),
        (147, 30005, False),
        (1, 30006, False),
    ],
)
def test_le_under_ppi_is_read_where_the_inner_type_or_the_field_says_so(
    inner: int, kind: int | None, is_le: bool, tmp_path: Path
) -> None:
    (path := tmp_path / "ppi.pcap").write_bytes(pcap(192, [(ppi(inner, kind), len(ppi(inner, kind)))]))
    capture, heard = read(path)
    assert [(packet.bytes, packet.crc_ok) for packet in heard] == [(PACKET, True)] * is_le
    assert capture.skipped == ({} if is_le else {UNREADABLE: 1})
    if is_le and kind:
        assert (heard[0].channel, heard[0].rssi) == (37, -50)


# --- a snap length ----------------------------------------------------------------------------------------------------

CUT_FILES = {
    "pcap 251": pcap(251, [(PACKET[:14], 18), (PACKET, 18)]),
    "pcap 256": pcap(LE, [(advertisement(b"x")[:24], len(advertisement(b"x"))), (advertisement(b"x"),) * 1 + (1,)]),
    "modified pcap": pcap(251, [(PACKET[:14], 18), (PACKET, 18)], 0xA1B2CD34),
    "pcapng": SECTION + interface(251) + enhanced(PACKET[:14], 18) + enhanced(PACKET),
    "pcapng, simple": SECTION + interface(251, snap=12) + block(3, struct.pack("<I", 18) + PACKET[:12])
    + interface(251) + block(6, struct.pack("<IIIII", 1, 0, 0, 18, 18) + PACKET + bytes(2)),
    "pcapng, old": SECTION + interface(251) + block(2, struct.pack("<HHIIII", 0, 0, 0, 0, 12, 18) + PACKET[:12])
    + enhanced(PACKET),
    "btsnoop": btsnoop(1002, [(1, report(b"p")[1][4:])])
    + struct.pack(">IIIIq", 40, 7, 1, 0, 0x00DCDDB30F2F8000) + report(b"p")[1][4:11],
}  # fmt: skip


@pytest.mark.parametrize("form", CUT_FILES)
def test_a_packet_that_was_cut_when_captured_is_counted_as_cut_and_is_no_wrong_crc(form: str, tmp_path: Path) -> None:
    (path := tmp_path / "cut").write_bytes(CUT_FILES[form])
    capture, heard = read(path)
    assert (capture.packets, capture.skipped[CUT], len(heard)) == (2, 1, 1)
    assert all(packet.crc_ok is not False for packet in heard)
    assert capture.packets == packets_of_tshark(path)


def test_the_length_of_a_cut_packet_is_what_tshark_says(tmp_path: Path) -> None:
    (path := tmp_path / "cut.pcapng").write_bytes(CUT_FILES["pcapng, simple"])
    assert fields(path, "frame.cap_len", "frame.len") == [["12", "18"], ["18", "18"]]


# --- damage -----------------------------------------------------------------------------------------------------------

WRONG_TRAILERS = {
    "a packet's": enhanced(PACKET)[:-4] + struct.pack("<I", 56),
    "an interface's": interface(251)[:-4] + bytes(4),
    "a simple packet's": block(3, struct.pack("<I", 4) + b"four", 24),
    "an unknown block's": block(0xBAD, b"", 16),
    "a section's": SECTION[:-4] + struct.pack("<I", 32),
}


@pytest.mark.parametrize("whose", WRONG_TRAILERS)
def test_a_wrong_length_at_the_end_of_a_block_is_damage_and_what_came_before_counts(whose: str, tmp_path: Path) -> None:
    path = tmp_path / "trail.pcapng"
    path.write_bytes(SECTION + interface(251) + enhanced(PACKET) + WRONG_TRAILERS[whose] + enhanced(PACKET))
    capture, heard = read(path)
    assert (len(heard), capture.skipped) == (1, {DAMAGED: 1})
    if whose != "a section's":  # there it reads on
        assert packets_of_tshark(path) <= 1


# --- times ------------------------------------------------------------------------------------------------------------


def with_times(tmp_path: Path, offset: int, resolution: int = 6) -> Path:
    """A burst, as advertisements under an interface whose clock is set off by so many seconds."""
    options = struct.pack("<HHB3x", 9, 1, resolution) + struct.pack("<HHq", 14, 8, offset) + bytes(4)
    path = tmp_path / "times.pcapng"
    path.write_bytes(
        SECTION
        + interface(LE, options)
        + b"".join(enhanced(advertisement(w)) for w in wires() if peek_kind(w) is Kind.RAND_COMPACT)
    )
    return path


@pytest.mark.parametrize(
    ("resolution", "offset"),
    [(6, 2**62), (6, -(2**62)), (6, 2**63 - 1), (6, -(2**63)), (0, 10**12), (127, 0), (255, -1)],
)
def test_no_clock_of_an_interface_breaks_a_reader_or_an_import(resolution: int, offset: int, tmp_path: Path) -> None:
    path = with_times(tmp_path, offset, resolution)
    capture, heard = read(path)
    assert len(heard) == 2
    assert packets_of_tshark(path) == 2 or resolution in (127, 255)  # newer ones refuse what no clock can be
    assert all(packet.time == 0 for packet in heard) or resolution == 127
    assert capture.skipped == ({NO_TIME: len(heard)} if offset else {})
    assert main(["sweep", "import", "--distance", "3", "--out", str(tmp_path / "mine.db"), f"bob={path}"]) == 0


def test_an_offset_that_a_calendar_has_is_heeded(tmp_path: Path) -> None:
    assert {packet.time for packet in read(with_times(tmp_path, 1_700_000_000))[1]} == {1_700_000_000.001}


# --- modified pcap ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"])
def test_modified_pcap_of_either_byte_order_is_read(order: str, tmp_path: Path) -> None:
    (path := tmp_path / "modified.pcap").write_bytes(pcap(251, [(PACKET, 18)] * 3, 0xA1B2CD34, order))
    assert [(packet.time, packet.bytes) for packet in read(path)[1]] == [(1.25, PACKET)] * 3
    assert packets_of_tshark(path) == 3


def test_modified_pcap_that_editcap_writes_means_the_same(tmp_path: Path) -> None:
    (plain := tmp_path / "plain.pcap").write_bytes(pcap(251, [(PACKET, 18)] * 9))
    run("editcap", "-F", "modpcap", plain, tmp_path / "modified.pcap")
    assert (tmp_path / "modified.pcap").read_bytes()[:4] == b"\x34\xcd\xb2\xa1"
    assert read(tmp_path / "modified.pcap")[1] == read(plain)[1]


# --- PacketLogger -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"])
def test_packetloggers_file_says_the_same_as_a_capture_of_link_type_201(order: str, tmp_path: Path) -> None:
    packets = [CONNECTED, *by_rfcomm(wires()), report(b"payload", rssi=-47)]
    logged = [((bytes([0, 3, 2, 9, 1])[data[4]]) if data[4] != 2 else 2 + data[3], data[5:]) for _, data in packets]
    (path := tmp_path / "mac.pklg").write_bytes(packetlogger(logged, order))
    capture, heard = read(path)
    expected = read(write(tmp_path / "same.pcapng", packets))[1]
    assert [packet._replace(time=0) for packet in heard] == [packet._replace(time=0) for packet in expected]
    assert capture.linktypes == {HCI: len(packets)}
    assert [packet.time for packet in heard] == pytest.approx([float(t) for (t,) in fields(path, "frame.time_epoch")])
    reader = Reader(HAOXIAO)
    assert sum(len(reader.read(packet)) for packet in heard) >= len(wires())


def test_what_a_mac_says_of_itself_is_a_note_without_a_packet(tmp_path: Path) -> None:
    records = [(0xFC, b"a note\0"), (1, report(b"x")[1][5:]), (8, b"\x0b\0\x00"), (0x0B, b"lmp"), (0xF7, b"syslog")]
    (path := tmp_path / "mac.pklg").write_bytes(packetlogger(records))
    capture, heard = read(path)
    assert [packet.bytes[:1] for packet in heard] == [b"", b"\x04", b"\x03", b"", b""]
    assert [packet.direction for packet in heard][1:3] == [Direction.RECEIVED, Direction.SENT]
    assert capture.packets == packets_of_tshark(path) == 5


@pytest.mark.parametrize("wrong", [(0x0C, 9, 0), (1, 8, 0), (1, 65537, 0), (1, 20, 1_000_000)])
def test_a_beginning_that_no_packetlogger_writes_is_not_taken_for_one(
    wrong: tuple[int, int, int], tmp_path: Path
) -> None:
    kind, size, microseconds = wrong
    (path := tmp_path / "strange").write_bytes(struct.pack(">IIIB", size, 1, microseconds, kind) + bytes(80_000))
    with pytest.raises(UsageError, match=r"is no capture that can be read: .*PacketLogger"):
        read(path)


# --- packed files -----------------------------------------------------------------------------------------------------


def packed(data: bytes, form: str) -> bytes:
    if form == "gz":
        return gzip.compress(data)
    if sys.version_info >= (3, 14):
        library = importlib.import_module("compression.zstd")
        return bytes(library.compress(data, options={library.CompressionParameter.checksum_flag: 1}))
    return bytes(pytest.importorskip("zstandard").ZstdCompressor(write_checksum=True).compress(data))


FORMS = ["gz", "zst"]
INSIDE = {
    "pcap": pcap(251, [(PACKET, 18)] * 9),
    "pcapng": SECTION + interface(251) + enhanced(PACKET) * 9,
    "btsnoop": btsnoop(1002, [(1, report(b"payload")[1][4:])] * 9),
    "PacketLogger": packetlogger([(1, report(b"payload")[1][5:])] * 9),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("container", INSIDE)
def test_every_container_is_read_packed_as_it_is_read_plain(form: str, container: str, tmp_path: Path) -> None:
    (plain := tmp_path / "plain").write_bytes(INSIDE[container])
    (path := tmp_path / f"packed.{form}").write_bytes(packed(INSIDE[container], form))
    assert read(path)[1] == read(plain)[1] != []
    assert read(path)[0].skipped == {}


@pytest.mark.parametrize("form", FORMS)
def test_files_that_were_packed_one_after_the_other_are_one(form: str, tmp_path: Path) -> None:
    """As gzip and zstd themselves unpack them: a rotating capture, joined by cat."""
    one = INSIDE["pcapng"]
    (path := tmp_path / "joined").write_bytes(packed(one, form) + packed(one, form))
    assert len(read(path)[1]) == 18


@pytest.mark.parametrize("form", FORMS)
def test_damage_in_a_packed_file_is_said_and_what_came_before_counts(form: str, tmp_path: Path) -> None:
    whole = packed(SECTION + interface(251) + b"".join(enhanced(os.urandom(64)) for _ in range(9000)), form)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0x55
    for content, reasons in ((whole[: len(whole) // 2], {CUT_SHORT}), (bytes(flipped), {DAMAGED, CUT_SHORT})):
        (path := tmp_path / "damaged").write_bytes(content)
        capture, _ = read(path)
        assert capture.packets <= 9000
        assert capture.skipped.keys() & reasons
        assert all(count == 1 for why, count in capture.skipped.items() if why in reasons)


@pytest.mark.parametrize("form", FORMS)
def test_a_packed_file_without_content_is_empty(form: str, tmp_path: Path) -> None:
    (path := tmp_path / "nothing").write_bytes(packed(b"", form))
    with pytest.raises(UsageError, match="is empty"):
        read(path)


@pytest.mark.parametrize("form", FORMS)
def test_what_is_packed_and_no_capture_is_said(form: str, tmp_path: Path) -> None:
    (path := tmp_path / "text").write_bytes(packed(b"#!/bin/sh\necho no capture\n", form))
    with pytest.raises(UsageError, match="is no capture that can be read"):
        read(path)


@pytest.mark.parametrize("form", FORMS)
def test_a_packed_file_that_claims_much_more_than_it_is_ends_at_a_stated_size(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the bytes unpacked: what any real capture comes to is read, however long."""
    monkeypatch.setattr(compressed_source, "FREE_BYTES", 1 << 20)
    zeros = struct.pack("<IIII", 1, 0, 1 << 17, 1 << 17) + bytes(1 << 17)
    bomb = packed(pcap(251, []) + zeros * 400, form)
    (path := tmp_path / "bomb").write_bytes(bomb)
    capture, _ = read(path)
    assert capture.skipped[BOMB] == 1
    assert capture.packets * (1 << 17) <= (1 << 20) + compressed_source.MOST_EXPANDED * (len(bomb) + (1 << 18))
    noise = pcap(251, []) + b"".join(struct.pack("<IIII", 1, 0, 999, 999) + os.urandom(999) for _ in range(3000))
    path.write_bytes(packed(noise, form))
    assert (read(path)[0].packets, read(path)[0].skipped) == (3000, {})


def test_without_a_library_zstandard_is_named_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("zstandard", "compression", "compression.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    (path := tmp_path / "x.zst").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(40))
    with pytest.raises(UsageError, match=r"x\.zst' is in Zstandard: pip install zstandard, or unpack it first"):
        read(path)


def test_a_packed_capture_is_read_from_a_pipe_as_it_comes(tmp_path: Path) -> None:
    packer = subprocess.Popen(["gzip", "-c"], stdin=subprocess.PIPE, stdout=(fifo := os.pipe())[1])
    os.close(fifo[1])

    def write_all() -> None:
        assert packer.stdin
        with packer.stdin as out:
            out.write(INSIDE["pcap"])

    (thread := threading.Thread(target=write_all)).start()
    with open_source(f"/dev/fd/{fifo[0]}") as source:
        assert isinstance(source, Capture)
        assert len(list(source)) == 9
    thread.join()
    os.close(fifo[0])
    assert packer.wait(60) == 0
