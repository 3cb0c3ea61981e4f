"""Capture files: as many packets as tshark finds, and what stands in them as tshark says."""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
import sys
import threading
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from amounts import PEAK_KIB
from bumble import hci, snoop
from capture_tools import OTHERS, btsnoop, fields, packets_of_tshark, read
from carriers import (
    CONNECTED,
    FIXTURES,
    HCI,
    LE,
    RAW,
    advertisement,
    bare,
    by_rfcomm,
    l2cap,
    report,
    run,
    write,
)
from scapy.all import PcapNgWriter, PcapWriter, RawPcapWriter
from scapy.layers.bluetooth4LE import BTLE, BTLE_ADV, BTLE_ADV_NONCONN_IND, BTLE_PPI, BTLE_RF
from scapy.layers.ppi import PPI, PPI_Hdr

from bt_selfsecure.eve.sources import UNREADABLE, Capture, Direction
from bt_selfsecure.eve.sources.files import recognise
from bt_selfsecure.eve.sources.linktypes import crc_ok
from bt_selfsecure.eve.sources.packet import CUT


@pytest.fixture(params=OTHERS)
def others(request: pytest.FixtureRequest) -> Path:
    """A capture that another sniffer made."""
    return FIXTURES / f"{request.param}.pcapng"


# --- what other tools wrote -------------------------------------------------------------------------------------------


def test_the_fixtures_are_what_their_manifest_says() -> None:
    for entry in tomllib.loads((FIXTURES / "manifest.toml").read_text())["capture"]:
        assert hashlib.sha256((FIXTURES / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
        assert read(FIXTURES / entry["file"])[0].packets == entry["packets"]


def test_packets_and_times_are_those_of_tshark(others: Path) -> None:
    capture, heard = read(others)
    times = [float(time) for (time,) in fields(others, "frame.time_epoch")]
    assert capture.packets == len(heard) == len(times) > 800
    assert [packet.time for packet in heard] == pytest.approx(times, abs=1e-6, rel=0)
    assert not capture.skipped


@pytest.mark.long
def test_wrong_checksums_of_ubertooth_are_those_that_tshark_finds_or_stumbles_at() -> None:
    """It gives up before the checksum where the damage makes a packet malformed."""
    path = FIXTURES / "ubertooth.pcapng"
    wrong = {number for number, heard in enumerate(read(path)[1], 1) if heard.crc_ok is False}
    found, stumbled = (
        {int(row[0]) for row in fields(path, "frame.number", only=only)}
        for only in ("btle.crc.incorrect", "_ws.malformed")
    )
    assert found <= wrong <= found | stumbled
    assert len(found) > 50


@pytest.mark.long
def test_signal_and_channel_of_ubertooth_are_those_of_tshark() -> None:
    path = FIXTURES / "ubertooth.pcapng"
    rows = fields(path, "btle_rf.signal_dbm", "btle_rf.channel")
    index = {0: 37, 12: 38, 39: 39}
    assert [(heard.rssi, heard.channel) for heard in read(path)[1]] == [
        (int(rssi), index.get(int(k), int(k) - (1 if int(k) < 12 else 2))) for rssi, k in rows
    ]


@pytest.mark.long
def test_signal_channel_and_checksum_of_nordic_are_those_of_tshark() -> None:
    path = FIXTURES / "nrf52_sniffer.pcapng"
    rows = fields(path, "nordic_ble.rssi", "nordic_ble.channel", "nordic_ble.crcok")
    assert [(heard.rssi, heard.channel, heard.crc_ok) for heard in read(path)[1]] == [
        (int(rssi), int(channel), ok == "1") for rssi, channel, ok in rows
    ]
    assert {heard.crc_ok for heard in read(path)[1]} == {True, False}


def test_nordics_checksums_agree_with_ours() -> None:
    """Its firmware checks them before it tells; where it says that one is right, so does our CRC."""
    heard = read(FIXTURES / "nrf52_sniffer.pcapng")[1]
    right = [packet for packet in heard if packet.crc_ok and crc_ok(packet.bytes) is not None]
    assert len(right) > 500
    assert all(crc_ok(packet.bytes) for packet in right)


def raw_nordic() -> bytes:
    """A packet of the fixture whose CRC is right, with its sniffer's header: 7 bytes, then the length and flags of the
    event, 10 bytes in all."""
    with (FIXTURES / "nrf52_sniffer.pcapng").open("rb", buffering=0) as file:
        return next(packet for _, _, packet, _ in recognise(file, Counter()) if packet[8] & 1)


@pytest.mark.long
def test_what_nordics_flags_say_of_a_connection_is_what_tshark_says(tmp_path: Path) -> None:
    usual = raw_nordic()
    data = usual[:17] + b"\x01\x02\x03\x04" + usual[21:]
    sent, received = (data[:8] + bytes([flags]) + data[9:] for flags in (0x03, 0x01))
    path = write(tmp_path / "data.pcapng", [(272, usual), (272, sent), (272, received)])
    assert [h.direction for h in read(path)[1]] == [Direction.UNKNOWN, Direction.SENT, Direction.RECEIVED]
    assert [direction for (direction,) in fields(path, "nordic_ble.direction")][1:] == ["1", "0"]


@pytest.mark.long
def test_the_coding_indicator_of_nordics_coded_packets_is_left_out(tmp_path: Path) -> None:
    usual = raw_nordic()
    head = usual[:1] + bytes([usual[1] + 1]) + usual[2:8]  # its length of what follows
    coded = head + bytes([usual[8] | 0x20]) + usual[9:21] + b"\x01" + usual[21:]
    path = write(tmp_path / "coded.pcapng", [(272, coded)])
    assert fields(path, "btle.coding_indicator") == [["1"]]
    [heard] = read(path)[1]
    assert heard.bytes == usual[17:]


def test_what_nordics_sniffer_says_of_itself_is_skipped_as_a_note(tmp_path: Path) -> None:
    usual = raw_nordic()
    path = write(tmp_path / "note.pcapng", [(272, usual[:6] + b"\x0e" + usual[7:])])
    capture, heard = read(path)
    assert (heard, capture.skipped) == ([], {UNREADABLE: 1})


@pytest.mark.long
@pytest.mark.parametrize("form", ["pcap", "nsecpcap", "pcapng"])
def test_a_file_means_the_same_in_every_container_that_editcap_writes(others: Path, form: str, tmp_path: Path) -> None:
    converted = tmp_path / "converted"
    run("editcap", "-F", form, others, converted)
    assert [p._replace(time=0) for p in read(converted)[1]] == [p._replace(time=0) for p in read(others)[1]]
    assert [p.time for p in read(converted)[1]] == pytest.approx([p.time for p in read(others)[1]], abs=2e-6, rel=0)


@pytest.mark.long
def test_link_types_may_be_mixed_in_one_file(tmp_path: Path) -> None:
    ours = write(tmp_path / "ours.pcapng", [*bare([b"one", b"two"]), report(b"x"), l2cap(b"sdu")])
    foreign = tmp_path / "wlan.pcap"
    with RawPcapWriter(str(foreign), linktype=105) as writer:
        writer.write(bytes(60))
    mixed = tmp_path / "mixed.pcapng"
    run("mergecap", "-a", "-w", mixed, ours, foreign, *(FIXTURES / f"{name}.pcapng" for name in OTHERS))
    capture, heard = read(mixed)
    assert capture.packets == packets_of_tshark(mixed)
    assert capture.linktypes == {RAW: 2, HCI: 2, 105: 1, LE: 1106, 272: 832}
    assert capture.skipped == {"link type 105 is not read": 1}
    assert len(heard) == capture.packets - 1


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("nano", [False, True])
def test_scapys_pcap_files_of_either_byte_order_are_read(endian: str, nano: bool, tmp_path: Path) -> None:
    path, data = tmp_path / "scapy.pcap", advertisement(b"payload")
    with RawPcapWriter(str(path), linktype=LE, endianness=endian, nano=nano) as writer:
        writer.write_header(None)
        writer.write_packet(data, sec=1_700_000_000, usec=250_000_000 if nano else 250_000)
    [heard] = read(path)[1]
    assert (heard.time, heard.channel, heard.bytes, heard.crc_ok) == (1_700_000_000.25, 37, data[10:], True)


def test_scapys_pcapng_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "scapy.pcapng"
    writer = PcapNgWriter(str(path))
    writer.write(BTLE_RF(advertisement(b"payload")))
    writer.close()
    assert [heard.bytes for heard in read(path)[1]] == [advertisement(b"payload")[10:]]


def test_le_without_and_with_scapys_ppi_header_is_read(tmp_path: Path) -> None:
    packet = BTLE(access_addr=0x8E89BED6) / BTLE_ADV() / BTLE_ADV_NONCONN_IND(AdvA="02:00:00:00:00:01", data=[])
    plain, wrapped = tmp_path / "plain.pcap", tmp_path / "ppi.pcap"
    with PcapWriter(str(plain), linktype=251) as writer:
        writer.write(packet)
    field = BTLE_PPI(btle_channel=2426, rssi_max=-50, rssi_min=-70, rssi_avg=-61)
    with PcapWriter(str(wrapped), linktype=192) as writer:
        writer.write(PPI(dlt=251, headers=[PPI_Hdr() / field]) / packet)
    [heard] = read(plain)[1]
    assert (heard.bytes, heard.crc_ok, heard.rssi) == (bytes(packet), True, None)
    [wrapped_heard] = read(wrapped)[1]
    assert wrapped_heard == heard._replace(rssi=-61, channel=38, linktype=192, time=wrapped_heard.time)
    field_of_version = [struct.pack("<HHBH", 30006, 12, version, 2426) for version in (0, 1)]
    later = wrapped.read_bytes().replace(*field_of_version)
    wrapped.write_bytes(later)  # of a version that may mean something else by its fields
    assert [(h.rssi, h.bytes) for h in read(wrapped)[1]] == [(None, bytes(packet))]


@pytest.mark.long
def test_bumbles_btsnoop_is_read_with_its_directions_and_times(tmp_path: Path) -> None:
    path = tmp_path / "bumble.btsnoop"
    command, event = bytes(hci.HCI_Reset_Command()), report(b"payload", rssi=-47)[1][4:]
    with path.open("wb") as file:
        snooper = snoop.BtSnooper(file)
        snooper.snoop(command, snoop.Snooper.Direction.HOST_TO_CONTROLLER)
        snooper.snoop(event, snoop.Snooper.Direction.CONTROLLER_TO_HOST)
    capture, heard = read(path)
    assert [(h.direction, h.bytes, h.rssi) for h in heard] == [
        (Direction.SENT, command, None),
        (Direction.RECEIVED, event, -47),
    ]
    assert capture.linktypes == {HCI: 2}
    assert [h.time for h in heard] == pytest.approx([float(t) for (t,) in fields(path, "frame.time_epoch")], abs=1e-5)


@pytest.mark.long
def test_the_h1_btsnoop_that_editcap_writes_says_the_same_as_its_source(tmp_path: Path) -> None:
    source = write(tmp_path / "h4.pcapng", [CONNECTED, *by_rfcomm([b"\x23x" * 20]), report(b"payload")])
    converted = tmp_path / "h4.btsnoop"
    run("editcap", "-F", "btsnoop", source, converted)
    assert [h._replace(time=0) for h in read(converted)[1]] == [h._replace(time=0) for h in read(source)[1]]


@pytest.mark.long
def test_btmons_btsnoop_and_link_type_254_say_the_same_and_as_many_packets_as_tshark(tmp_path: Path) -> None:
    event, acl = report(b"payload", rssi=-47)[1][5:], l2cap(b"sdu")[1][5:]
    records = [(3, event), (4, acl), (5, acl), (13, b"a note of btmon's\0")]
    snooped = tmp_path / "btmon.btsnoop"
    snooped.write_bytes(btsnoop(2001, records))
    monitored = write(tmp_path / "254.pcapng", [(254, struct.pack(">HH", 0, op) + data) for op, data in records])
    capture, heard = read(snooped)
    assert [h._replace(time=0) for h in heard] == [h._replace(time=0) for h in read(monitored)[1]]
    assert [(h.bytes, h.direction, h.rssi) for h in heard] == [
        (b"\x04" + event, Direction.RECEIVED, -47),
        (b"\x02" + acl, Direction.SENT, None),
        (b"\x02" + acl, Direction.RECEIVED, None),
        (b"", Direction.UNKNOWN, None),
    ]
    assert capture.packets == packets_of_tshark(snooped) == packets_of_tshark(monitored) == 4


def test_h4_without_directions_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "187.pcapng", [(187, report(b"payload")[1][4:])])
    [heard] = read(path)[1]
    assert (heard.bytes, heard.direction) == (report(b"payload")[1][4:], Direction.UNKNOWN)


def block(kind: int, body: bytes) -> bytes:
    """Of pcapng, little-endian."""
    return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)


@pytest.mark.long
def test_resolution_and_offset_of_pcapngs_times_are_heeded(tmp_path: Path) -> None:
    """if_tsresol of 10^-9, 2^-10 and, without one, 10^-6 seconds; if_tsoffset of 1000 seconds."""
    path = write(tmp_path / "times.pcapng", [])
    options = [b"\x09\0\x01\0\x09\0\0\0", b"\x09\0\x01\0\x8a\0\0\0", b""]
    offset = b"\x0e\0\x08\0" + struct.pack("<q", 1000)
    interfaces = [block(1, struct.pack("<HHI", RAW, 0, 0) + option + offset + bytes(4)) for option in options]
    packets = [block(6, struct.pack("<IIIII", number, 0, 3 << 20, 4, 4) + b"four") for number in range(3)]
    path.write_bytes(path.read_bytes() + b"".join(interfaces + packets))
    times = [h.time for h in read(path)[1]]
    assert times == pytest.approx([1000 + 3 * 2**20 / 1e9, 1000 + 3 * 2**10, 1000 + 3 * 2**20 / 1e6])
    assert times == pytest.approx([float(time) for (time,) in fields(path, "frame.time_epoch")], abs=1e-6, rel=0)


@pytest.mark.long
def test_a_simple_packet_longer_than_its_interface_allows_was_cut(tmp_path: Path) -> None:
    path = write(tmp_path / "simple.pcapng", [])
    interface = block(1, struct.pack("<HHI", RAW, 0, 3))
    path.write_bytes(path.read_bytes() + interface + block(3, struct.pack("<I", 9) + b"cut\0"))
    capture, heard = read(path)
    assert (heard, capture.skipped) == ([], {CUT: 1})
    assert fields(path, "frame.cap_len", "frame.len") == [["3", "9"]]


@pytest.mark.long
def test_old_and_simple_packets_of_pcapng_are_read(tmp_path: Path) -> None:
    path = tmp_path / "old.pcapng"
    write(path, [])
    data = b"four"
    interface = block(1, struct.pack("<HHI", RAW, 0, 0))
    old = block(2, struct.pack("<HHIIII", 0, 0, 1, 0, 4, 4) + data)
    path.write_bytes(path.read_bytes() + interface + old + block(3, struct.pack("<I", 4) + data) + block(0xBAD, b""))
    capture, heard = read(path)
    assert [(h.time, h.bytes) for h in heard] == [(pytest.approx(2**32 / 1e6), data), (0, data)]
    assert capture.packets == packets_of_tshark(path) == 2


# --- streams ----------------------------------------------------------------------------------------------------------


def test_a_fifo_is_read_packet_by_packet_as_it_is_written(tmp_path: Path) -> None:
    fifo, file = tmp_path / "fifo", (FIXTURES / "ubertooth.pcapng").read_bytes()
    os.mkfifo(fifo)
    goes_on = threading.Event()

    def sniffer() -> None:
        with fifo.open("wb", buffering=0) as out:
            out.write(file[:20_000])
            assert goes_on.wait(60)
            out.write(file[20_000:])

    thread = threading.Thread(target=sniffer)
    thread.start()
    with Capture(str(fifo)) as capture:
        packets = iter(capture)
        next(packets)  # comes although the file is not over
        assert capture.packets == 1
        goes_on.set()
        assert 1 + len(list(packets)) == 1106
    thread.join()


def test_standard_input_is_read_and_left_open() -> None:
    program = (
        "import sys\nfrom bt_selfsecure.eve.sources import Capture\n"
        "with Capture('-') as c: print(len(list(c)))\nassert not sys.stdin.closed"
    )
    with (FIXTURES / "nrf52_sniffer.pcapng").open("rb") as file:
        done = subprocess.run([sys.executable, "-c", program], stdin=file, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("832\n", "")


@pytest.mark.long
def test_memory_does_not_grow_with_the_file() -> None:
    """300 000 advertisements through a pipe take no more than ten thousand do."""
    few, many = peak_of(10_000), peak_of(300_000)
    assert many - few < 4 * 1024, (few, many)


def peak_of(packets: int) -> int:
    """Greatest resident memory, in KiB, of a process that reads so many packets."""
    program = (
        "from bt_selfsecure.eve.haoxiao.format import HAOXIAO\n"
        "from bt_selfsecure.eve.reading import Reader\nfrom bt_selfsecure.eve.sources import Capture\n"
        "reader = Reader(HAOXIAO)\n"
        "with Capture('-') as capture: ours = sum(len(reader.read(heard)) for heard in capture)\n"
        f"print(ours, {PEAK_KIB})"
    )
    one = advertisement(bytes([0x23]) * 24)
    record = struct.pack("<IIII", 0, 0, len(one), len(one)) + one
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        reader.stdin.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, LE))
        for _ in range(packets // 1000):
            reader.stdin.write(record * 1000)
        reader.stdin.close()
        ours, peak = reader.stdout.read().split()
    assert int(ours) == packets
    return int(peak)
