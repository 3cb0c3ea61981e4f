"""Speed of Eve's sources: a file of LE advertisements, against scapy's full dissection in the same run.

In CPU time: nothing here waits, and what else the machine does is no matter.
"""

from __future__ import annotations

import random
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING

import pytest
from scapy.layers import bluetooth4LE  # noqa: F401 - else scapy does not know what link type 256 is
from scapy.utils import PcapReader

from bt_selfsecure.air import capture
from bt_selfsecure.bearers.advertising_data import manufacturer_data
from bt_selfsecure.eve.haoxiao.format import HAOXIAO
from bt_selfsecure.eve.haoxiao.verdict import Judge
from bt_selfsecure.eve.reading import Reader
from bt_selfsecure.eve.sources import Capture
from bt_selfsecure.protocols.haoxiao.frames import Frame, Kind, Profile, encode
from bt_selfsecure.protocols.haoxiao.material import pair_id
from bt_selfsecure.protocols.haoxiao.received_set import encode_received_set

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

PACKETS, SLOW_PACKETS = 200_000, 2_000


@pytest.fixture(scope="module")
def advertisements(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half of them ours; each sender and payload is there once among the few, which the many repeat."""
    draw, directory = random.Random(1), tmp_path_factory.mktemp("eve")
    packets = [packet(draw, ours=number % 2 == 0) for number in range(SLOW_PACKETS)]
    for name, count in (("many", PACKETS), ("few", SLOW_PACKETS)):
        with capture.PcapngWriter(directory / f"{name}.pcapng") as writer:
            for number in range(count):
                writer.write(number / 1000, capture.LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR, packets[number % SLOW_PACKETS])
    return directory


def packet(draw: random.Random, *, ours: bool) -> bytes:
    payload = draw.randbytes(24)
    data = manufacturer_data(payload) if ours else bytes([27, 0xFF, 0x4C, 0]) + payload
    pdu = capture.advertising_pdu(capture.ADV_NONCONN_IND, draw.randbytes(6), data, random_address=True)
    return capture.le_packet(draw.choice((37, 38, 39)), pdu)


def listen(path: Path) -> int:
    """Packets whose checksum, reckoned here, is right."""
    with Capture(str(path)) as source:
        return sum(heard.crc_ok is True for heard in source)


def read(path: Path) -> int:
    """Datagrams that may be ours: all that `eve read` does before it decodes them."""
    with Capture(str(path)) as source:
        return sum(1 for _ in Reader(HAOXIAO).read_all(source))


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """4 MB: a thousand responders to one request, each with a response, forged, that claims 31 000 packets."""
    draw, s = random.Random(1), encode_received_set(range(31_000), 32_000)
    offer = bytes(7) + (400).to_bytes(2) + (4500).to_bytes(4) + bytes(32)
    request = Frame(Profile.HARDENED, Kind.REQUEST, rand=draw.randbytes(16), message=offer)
    frames = [request]
    for _ in range(1000):
        accept = Frame(Profile.HARDENED, Kind.ACCEPT, rand=draw.randbytes(16), message=request.rand[:8] + bytes(7))
        message, nonce = pair_id(request, accept) + s, draw.randbytes(16)
        frames += [accept, Frame(Profile.HARDENED, Kind.RESPONSE, 0, 0, nonce, message, draw.randbytes(16))]
    with capture.PcapngWriter(path := tmp_path / "hostile.pcapng") as writer:
        for frame in frames:
            writer.write(0, capture.LINKTYPE_USER0, encode(frame))
    return path


def test_a_verdict_over_4_mb_made_to_take_for_ever_is_there_in_half_a_minute(hostile: Path) -> None:
    """Seen: 7 to 13 s. It took 168 s when each response was decoded as often as its received set was asked for."""
    began, judge = process_time(), Judge()
    with Capture(str(hostile)) as source:
        judge.hear_all(source)
    report = judge.report()
    assert process_time() - began < 30
    assert len(report.verdicts) + report.left_out == 1000
    assert report.decided is (report.left_out == 0)


def dissect(path: Path) -> int:
    with PcapReader(str(path)) as packets:
        return sum(packet.haslayer("BTLE_ADV") for packet in packets)


@pytest.mark.benchmark(timer=process_time)
def test_at_least_300_000_advertisements_a_second(benchmark: BenchmarkFixture, advertisements: Path) -> None:
    """Checked and searched for datagrams, as `eve read` does; half of them hold one."""
    benchmark.extra_info["packets"] = PACKETS
    ours = benchmark.pedantic(read, args=(advertisements / "many.pcapng",), rounds=9, warmup_rounds=1)
    assert ours == PACKETS // 2
    assert PACKETS / benchmark.stats.stats.min >= 300_000


def test_every_checksum_is_reckoned(advertisements: Path) -> None:
    assert listen(advertisements / "many.pcapng") == PACKETS


@pytest.mark.benchmark(timer=process_time)
def test_at_least_twenty_times_scapys_full_dissection_in_the_same_run(
    benchmark: BenchmarkFixture, advertisements: Path
) -> None:
    assert dissect(advertisements / "few.pcapng") == SLOW_PACKETS
    benchmark.pedantic(dissect, args=(advertisements / "few.pcapng",), rounds=3)
    slow = benchmark.stats.stats.min / SLOW_PACKETS
    began = process_time()
    assert read(advertisements / "many.pcapng") == PACKETS // 2
    fast = (process_time() - began) / PACKETS
    benchmark.extra_info["times_faster"] = slow / fast
    assert slow >= 20 * fast
