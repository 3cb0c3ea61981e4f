"""Capture files that end anywhere, lie about sizes, or are none: a message or a counted skip, never a traceback."""

from __future__ import annotations

import gzip
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from amounts import part_of
from capture_tools import OTHERS, btsnoop, packetlogger, packets_of_tshark, read
from carriers import FIXTURES, HCI, LE, advertisement, l2cap, report, run, write
from hypothesis import given, settings
from hypothesis import strategies as st

from bt_selfsecure.errors import UsageError
from bt_selfsecure.eve.sources import UNREADABLE, Capture
from bt_selfsecure.eve.sources.files import MAX_PACKET_BYTES
from bt_selfsecure.eve.sources.linktypes import READ
from bt_selfsecure.eve.sources.packet import CUT_SHORT, DAMAGED

FORMS = ["pcap", "modpcap", "pcapng", "btsnoop", "packetlogger"]


def small_file(tmp_path: Path, form: str) -> bytes:
    if form == "packetlogger":
        return packetlogger([(1, report(b"payload")[1][5:]), (2, l2cap(b"sdu")[1][5:])])
    if form == "btsnoop":
        return btsnoop(1002, [(1, report(b"payload")[1][4:]), (0, l2cap(b"sdu")[1][4:])])
    path = write(tmp_path / "small.pcapng", [(LE, advertisement(b"one")), (LE, advertisement(b"second"))])
    if form == "pcapng":
        return path.read_bytes()
    run("editcap", "-F", form, path, tmp_path / "small.pcap")
    return (tmp_path / "small.pcap").read_bytes()


@pytest.mark.long
@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_ends_anywhere_is_read_up_to_there(form: str, tmp_path: Path) -> None:
    whole, path, before = small_file(tmp_path, form), tmp_path / "cut", 0
    for size in range(1, len(whole)):
        path.write_bytes(whole[:size])
        if size < {"btsnoop": 8, "packetlogger": 13}.get(form, 4):
            with pytest.raises(UsageError, match="is no capture"):
                read(path)
            continue
        capture, heard = read(path)
        assert before <= len(heard) <= 2
        before = len(heard)
        assert capture.skipped in ({CUT_SHORT: 1}, {DAMAGED: 1}, {})
        if size in range(60, len(whole), 37):
            assert capture.packets == packets_of_tshark(path), size
    assert before == 1


@pytest.mark.parametrize("form", FORMS)
def test_a_packet_that_claims_a_gigantic_size_ends_the_file(form: str, tmp_path: Path) -> None:
    whole, path = small_file(tmp_path, form), tmp_path / "giant"
    second = 4 + int.from_bytes(whole[:4])  # the first record of PacketLogger has to be sound: there is no magic number
    at = {"pcap": 32, "modpcap": 32, "pcapng": 88, "btsnoop": 20, "packetlogger": second}[form]
    order = ">" if form in ("btsnoop", "packetlogger") else "<"
    for size in (MAX_PACKET_BYTES + 4, 1 << 28, (1 << 32) - 4):
        path.write_bytes(whole[:at] + struct.pack(order + "I", size) + whole[at + 4 :])
        capture, heard = read(path)
        assert len(heard) == (form == "packetlogger")
        assert sum(capture.skipped[why] for why in (DAMAGED, CUT_SHORT)) == 1


@pytest.mark.long
@pytest.mark.parametrize("linktype", sorted(READ))
def test_packets_of_every_length_and_zero_are_counted_and_break_nothing(linktype: int, tmp_path: Path) -> None:
    packets = [octet * size for octet in (b"\0", b"\xff") for size in range(40)]
    capture, heard = read(write(tmp_path / "short.pcapng", [(linktype, packet) for packet in packets]))
    assert capture.packets == 80
    assert len(heard) + capture.skipped[UNREADABLE] == 80
    # tshark ends at a packet that is shorter than these link types' own heads: here it is only skipped.
    least = {201: 4, 254: 4}.get(linktype, 0)
    whole = write(tmp_path / "whole.pcapng", [(linktype, packet) for packet in packets if len(packet) >= least])
    assert read(whole)[0].packets == packets_of_tshark(whole)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"#!/bin/sh\n", "is no capture that can be read: give pcap, pcapng, btsnoop or PacketLogger"),
        (b"BZh91AY&SY" + bytes(20), "is no capture that can be read: .* also in .gz or .zst"),
        (b"btsnoop\0" + struct.pack(">II", 1, 1003), "is btsnoop version 1 of data link 1003"),
    ],
)
def test_what_is_no_capture_is_said_with_its_name_and_a_remedy(content: bytes, message: str, tmp_path: Path) -> None:
    (path := tmp_path / "strange").write_bytes(content)
    with pytest.raises(UsageError, match=message) as refused:
        read(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_a_file_that_can_not_be_opened_is_said(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give a capture file, a FIFO, or - for stdin"):
        read(tmp_path / name)


def compress_zstandard(content: bytes) -> bytes:
    name = "compression.zstd" if sys.version_info >= (3, 14) else "zstandard"
    return bytes(pytest.importorskip(name).compress(content))


def all_of(content: bytes) -> None:
    """As a file of these bytes is read: gives no more than it should, or says why not."""
    reading, writing = os.pipe()
    os.write(writing, content)
    os.close(writing)
    said = ""
    try:
        with Capture(f"/dev/fd/{reading}") as capture:
            assert len(list(capture)) <= capture.packets
    except UsageError as refused:
        said = str(refused)
    finally:
        os.close(reading)
    assert "\n" not in said


BEGINNINGS = st.sampled_from(
    [
        struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, LE),
        struct.pack(">IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, HCI),
        struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)
        + struct.pack("<IIHHII", 1, 20, LE, 0, 0, 20)
        + struct.pack("<IIHHII", 1, 20, 272, 0, 0, 20),
        b"btsnoop\0" + struct.pack(">II", 1, 2001),
        struct.pack("<IHHiIII", 0xA1B2CD34, 2, 4, 0, 0, 65535, 192),
        struct.pack(">IIIB", 12, 0, 0, 1) + b"\x0e\x01\x00",
        struct.pack("<IIIB", 9, 0, 0, 0xFC),
        b"",
    ]
)


@given(BEGINNINGS, st.binary(max_size=400))
def test_any_bytes_are_a_capture_or_refused_in_one_line(beginning: bytes, rest: bytes) -> None:
    all_of(beginning + rest)


@given(st.sampled_from([gzip.compress, compress_zstandard]), BEGINNINGS, st.binary(max_size=400))
def test_any_bytes_in_a_packed_file_are_a_capture_or_refused(
    pack: Callable[[bytes], bytes], beginning: bytes, rest: bytes
) -> None:
    all_of(pack(beginning + rest))


@given(
    st.sampled_from([gzip.compress, compress_zstandard]),
    st.integers(0, 4000),
    st.lists(st.tuples(st.integers(0, 4000), st.binary(min_size=1, max_size=8)), max_size=12),
)
def test_damage_anywhere_in_a_packed_capture_breaks_nothing(
    pack: Callable[[bytes], bytes], end: int, damages: list[tuple[int, bytes]]
) -> None:
    content = bytearray(pack((FIXTURES / "ubertooth.pcapng").read_bytes()[:8000])[: end + 8])
    for at, data in damages:
        content[at : at + len(data)] = data
    all_of(bytes(content))


@settings(max_examples=part_of(40))
@given(
    st.sampled_from(OTHERS), st.lists(st.tuples(st.integers(0, 8000), st.binary(min_size=1, max_size=8)), max_size=12)
)
def test_damage_anywhere_in_a_real_capture_breaks_nothing(name: str, damages: list[tuple[int, bytes]]) -> None:
    content = bytearray((FIXTURES / f"{name}.pcapng").read_bytes()[:8000])
    for at, data in damages:
        content[at : at + len(data)] = data
    all_of(bytes(content))


@given(st.sampled_from(sorted(READ)), st.binary(max_size=300))
def test_any_packet_of_any_link_type_is_read_or_skipped(linktype: int, packet: bytes) -> None:
    heard = READ[linktype](0.0, packet)
    assert heard is None or heard.linktype == linktype
