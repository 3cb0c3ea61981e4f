"""Speed of Eve's sources: a file of LE advertisements, against scapy's full dissection in the same run."""

from __future__ import annotations

import random
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import pytest
from scapy.layers import bluetooth4LE  # noqa: F401 - else scapy does not know what link type 256 is
from scapy.utils import PcapReader

from bt_selfsecure.air import capture
from bt_selfsecure.eve.reading import Reader
from bt_selfsecure.eve.sources import Capture

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

PACKETS, SLOW_PACKETS = 200_000, 2_000


@pytest.fixture(scope="module")
def advertisements(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As an office has them: half of them ours, with everybody's payloads different; the first for scapy are the same."""
    draw, directory = random.Random(1), tmp_path_factory.mktemp("eve")
    packets = [packet(draw, ours=number % 2 == 0) for number in range(SLOW_PACKETS)]
    for name, count in (("many", PACKETS), ("few", SLOW_PACKETS)):
        with capture.PcapngWriter(directory / f"{name}.pcapng") as writer:
            for number in range(count):
                writer.write(number / 1000, capture.LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR, packets[number % SLOW_PACKETS])
    return directory


def packet(draw: random.Random, *, ours: bool) -> bytes:
    payload = draw.randbytes(24)
    data = capture.manufacturer_data(payload) if ours else bytes([27, 0xFF, 0x4C, 0]) + payload
    pdu = capture.advertising_pdu(capture.ADV_NONCONN_IND, draw.randbytes(6), data, random_address=True)
    return capture.le_packet(draw.choice((37, 38, 39)), pdu)


def read(path: Path) -> tuple[int, int]:
    """Packets with a right CRC, and datagrams that may be ours: all that `eve read` does before it decodes them."""
    reader, right, found = Reader(), 0, 0
    with Capture(str(path)) as source:
        for heard in source:
            right += heard.crc_ok is True
            found += len(reader.read(heard))
    return right, found


def dissect(path: Path) -> int:
    with PcapReader(str(path)) as packets:
        return sum(packet.haslayer("BTLE_ADV") for packet in packets)


def test_at_least_150_000_advertisements_a_second(benchmark: BenchmarkFixture, advertisements: Path) -> None:
    benchmark.extra_info["packets"] = PACKETS
    found = benchmark.pedantic(read, args=(advertisements / "many.pcapng",), rounds=3, warmup_rounds=1)
    assert found == (PACKETS, PACKETS // 2)
    assert PACKETS / benchmark.stats.stats.min >= 150_000


def test_at_least_twenty_times_scapys_full_dissection_in_the_same_run(
    benchmark: BenchmarkFixture, advertisements: Path
) -> None:
    assert dissect(advertisements / "few.pcapng") == SLOW_PACKETS
    benchmark.pedantic(dissect, args=(advertisements / "few.pcapng",), rounds=3)
    slow = benchmark.stats.stats.min / SLOW_PACKETS
    began = perf_counter()
    read(advertisements / "many.pcapng")
    fast = (perf_counter() - began) / PACKETS
    benchmark.extra_info["times_faster"] = slow / fast
    assert slow >= 20 * fast
