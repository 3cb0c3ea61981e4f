"""Memory of Eve's report by what a capture holds: bounded in its bytes, whatever its packets claim."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from amounts import PEAK_KIB, at_length

from bt_selfsecure.air.capture import LINKTYPE_USER0, PcapngWriter
from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.frames import Frame, Kind, Profile, encode

MEASURED = f"""
import sys
from bt_selfsecure.cli.main import main
status = main(["eve", *sys.argv[1:]])
print("MIB", {PEAK_KIB} / 1024)
"""
MOST_MIB = 100
FEW, FOURFOLD, MANY = 20_000, 80_000, 320_000
Make = Callable[[random.Random, int], Frame]


def burst(draw: random.Random, number: int) -> Frame:
    session, message = draw.randbytes(limits.SESSION_ID_BYTES), draw.randbytes(limits.BURST_MESSAGE_BYTES)
    return Frame(Profile.HARDENED, Kind.RAND, 0, number % 400, session, message)


def request(draw: random.Random, number: int) -> Frame:
    return Frame(Profile.HARDENED, Kind.REQUEST, rand=draw.randbytes(limits.NONCE_BYTES), message=draw.randbytes(20))


def accept(draw: random.Random, number: int) -> Frame:
    session = draw.randbytes(limits.SESSION_ID_BYTES) if number % 2 else bytes(limits.SESSION_ID_BYTES)
    return Frame(Profile.HARDENED, Kind.ACCEPT, rand=draw.randbytes(limits.NONCE_BYTES), message=session + bytes(7))


def response(draw: random.Random, number: int) -> Frame:
    pair = draw.randbytes(limits.PAIR_ID_BYTES) if number % 2 else bytes(limits.PAIR_ID_BYTES)
    return Frame(Profile.HARDENED, Kind.RESPONSE, rand=bytes(limits.NONCE_BYTES), message=pair, mac=draw.randbytes(16))


def last_of_the_longest(draw: random.Random, number: int) -> Frame:
    """One packet, which claims a burst of 32 000."""
    session = draw.randbytes(limits.SESSION_ID_BYTES)
    return Frame(Profile.HARDENED, Kind.RAND, 0, limits.MAX_BURST - 1, session, bytes(limits.BURST_MESSAGE_BYTES))


def long_accept(draw: random.Random, number: int) -> Frame:
    """The longest that goes out: whoever pads what others need not read fills no more than the rest."""
    session = draw.randbytes(limits.SESSION_ID_BYTES)
    message = session + bytes(limits.MAX_LEN - limits.SESSION_ID_BYTES)
    return Frame(Profile.HARDENED, Kind.ACCEPT, rand=draw.randbytes(limits.NONCE_BYTES), message=message)


def data(draw: random.Random, number: int) -> Frame:
    return Frame(Profile.HARDENED, Kind.DATA, 0, number % 256, message=draw.randbytes(8), mac=draw.randbytes(16))


def mebibytes(folder: Path, make: Make, count: int, *command: str) -> float:
    """Of a report over so many of these packets, in a process of its own."""
    draw = random.Random(1)
    with (folder / "made-up.pcapng").open("wb") as file, PcapngWriter(file) as writer:
        for number in range(count):
            writer.write(number / 1000, LINKTYPE_USER0, encode(make(draw, number)))
    arguments = [*(command or ("report",)), str(folder / "made-up.pcapng")]
    done = subprocess.run([sys.executable, "-c", MEASURED, *arguments], capture_output=True, text=True)
    assert "MIB" in done.stdout, done.stderr
    return float(done.stdout.rpartition("MIB")[2])


def test_what_a_child_took_of_memory_is_not_what_its_parent_has() -> None:
    ours = bytearray(b"x") * 200_000_000
    child = [sys.executable, "-c", f"print({PEAK_KIB})"]
    assert int(subprocess.run(child, capture_output=True, text=True, check=True).stdout) < len(ours) // 1024 // 2


@pytest.mark.parametrize(
    "make",
    [
        burst,
        request,
        *(at_length(make) for make in (accept, response, last_of_the_longest, data)),
    ],
)
def test_a_report_over_packets_of_made_up_sessions_grows_by_less_than_the_capture(tmp_path: Path, make: Make) -> None:
    few, fourfold = (mebibytes(tmp_path, make, count) for count in (FEW, FOURFOLD))
    assert math.log(fourfold / few, 4) < 0.3


@pytest.mark.long
@pytest.mark.parametrize("make", [burst, request, accept, response, last_of_the_longest, data])
def test_a_report_over_320_000_packets_of_made_up_sessions_takes_at_most_100_mib(tmp_path: Path, make: Make) -> None:
    few, many = (mebibytes(tmp_path, make, count) for count in (FEW, MANY))
    assert many <= MOST_MIB
    assert math.log(many / few, 16) < 0.3


@pytest.mark.long
def test_a_report_over_made_up_sessions_of_the_greatest_length_is_bounded_too(tmp_path: Path) -> None:
    few, many = (mebibytes(tmp_path, long_accept, count) for count in (FEW, 2 * FEW))
    assert few <= 1.2 * MOST_MIB
    assert math.log(many / few, 2) < 0.1


@pytest.mark.long
def test_a_page_over_320_000_packets_of_made_up_sessions_takes_at_most_100_mib(tmp_path: Path) -> None:
    page = ["report", "--html", str(tmp_path / "page.html")]
    assert mebibytes(tmp_path, burst, MANY, *page) <= MOST_MIB
    assert (tmp_path / "page.html").stat().st_size > 1e6


def test_a_page_takes_hardly_more_memory_than_the_report_for_people(tmp_path: Path) -> None:
    page = ["report", "--html", str(tmp_path / "page.html")]
    text, html = (mebibytes(tmp_path, burst, FEW, *command) for command in (("report",), page))
    assert html < 1.7 * text


def test_a_few_packets_of_a_seq_that_no_burst_reaches_take_no_more_room_than_others(tmp_path: Path) -> None:
    def beyond(draw: random.Random, number: int) -> Frame:
        session = draw.randbytes(limits.SESSION_ID_BYTES)
        return Frame(Profile.HARDENED, Kind.RAND, 0, 0xFFFF, session, bytes(limits.BURST_MESSAGE_BYTES))

    assert mebibytes(tmp_path, beyond, 400) <= 1.2 * mebibytes(tmp_path, burst, 400)


def test_a_report_for_programs_takes_hardly_more_memory_than_the_one_for_people(tmp_path: Path) -> None:
    text, as_json = (mebibytes(tmp_path, burst, FEW, *command) for command in (("report",), ("report", "--json")))
    assert as_json < 1.3 * text
