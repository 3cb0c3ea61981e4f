"""Damaged copies in the verdict: what Eve can make good she has heard, and where her radio drops them it is said."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from bt_selfsecure.air.capture import LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR, LINKTYPE_USER0
from bt_selfsecure.bench.haoxiao.attacks import _clear
from bt_selfsecure.bench.haoxiao.testbed import Testbed
from bt_selfsecure.cli.main import main
from bt_selfsecure.eve.haoxiao.report import EstablishmentVerdict
from bt_selfsecure.eve.haoxiao.verdict import Judge
from bt_selfsecure.eve.reading import damaged
from bt_selfsecure.eve.sources.linktypes import READ
from bt_selfsecure.eve.sources.packet import CapturedPacket, Direction
from bt_selfsecure.protocols.haoxiao.frames import Kind, Profile, decode
from bt_selfsecure.stats.losses import lower_bound

CAPTURES = Path(__file__).parents[2] / "captures"
CRC = bytes(3)


def with_wrong_crc(frame: bytes, *places: int) -> CapturedPacket:
    data = (int.from_bytes(frame) ^ sum(1 << place for place in places)).to_bytes(len(frame))
    for front in range(40):
        heard = CapturedPacket(
            0.0, None, False, bytes(front) + data + CRC, False, LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR, Direction.UNKNOWN
        )
        if damaged(heard, 24) == data:
            return heard
    raise AssertionError


def judged(lacks: int, copies: int, wrong: int, *, damaged_heard: bool = True) -> EstablishmentVerdict:
    """Eve lacks so many of S, and has damaged copies of so many of those, of all that she heard, and of strangers."""
    draw, capture = Random(lacks), list[tuple[float, bytes]]()
    scene = Testbed(
        Profile.HARDENED, 1, _clear(eve=0.0), burst=100, compact=True, tap=lambda t, data: capture.append((t, data))
    )
    scene.establish()
    s = sorted(scene.keys["bob"].received)
    lost = set(draw.sample(s, lacks))
    kept = set(draw.sample(sorted(lost), copies))
    judge, packets = Judge(damaged_heard=damaged_heard), list[CapturedPacket]()
    for time, data in capture:
        frame = decode(data)
        compact = frame.kind is Kind.RAND_COMPACT
        if compact and (frame.seq in kept or frame.seq not in lost):
            packets.append(with_wrong_crc(data, *draw.sample(range(192), wrong)))
            packets.append(with_wrong_crc(draw.randbytes(24)))
        if (not compact or frame.seq not in lost) and (heard := READ[LINKTYPE_USER0](time, data)):
            packets.append(heard)
    judge.hear_all(packets)
    (verdict,) = judge.report().verdicts
    assert verdict.heard_by_bob == len(s)
    return verdict


@pytest.mark.parametrize("wrong", [0, 2, 8])
@pytest.mark.parametrize(("lacks", "copies"), [(10, 0), (10, 4), (10, 10), (30, 29)])
def test_a_damaged_copy_of_what_eve_lacks_counts_as_heard_and_those_of_others_do_not(
    lacks: int, copies: int, wrong: int
) -> None:
    heard, lost = (judged(lacks, copies, wrong, damaged_heard=which) for which in (True, False))
    assert heard.heard_by_bob
    assert (heard.missed_given_bob, heard.damaged_given_bob) == (lacks, copies)
    assert heard.e_given_bob_low == lower_bound(lacks - copies, heard.heard_by_bob)
    assert lost.e_given_bob_low == lower_bound(lacks, heard.heard_by_bob)
    assert (heard.damaged_heard, heard.damaged_lost) == (lost.damaged_heard, lost.damaged_lost)
    assert heard.damaged_heard
    assert heard.damaged_lost
    assert heard.secret_bits == heard.damaged_heard.secret_bits <= heard.damaged_lost.secret_bits == lost.secret_bits
    assert (heard.secret_bits == 0) is (copies == lacks)
    assert ("Locked out" in heard.sentence) is (copies < lacks)
    assert heard.hands_on_damaged
    assert heard.judged
    assert lost.judged
    assert (heard.judged.bob_only, lost.judged.bob_only) == (lacks - copies, lacks)
    assert heard.judged.received == lost.judged.received == heard.heard_by_bob


def test_too_many_copies_to_be_told_apart_count_each_for_another_packet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bt_selfsecure.eve.haoxiao.verdict.MOST_COMPARED", 10)
    assert judged(10, 4, 2).damaged_given_bob == 10


def test_the_report_says_what_damaged_copies_count_as_and_when_the_radio_drops_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repair, passive = (str(CAPTURES / f"{name}-hardened.pcapng") for name in ("repair", "passive"))
    told = {}
    for how in ("heard", "lost"):
        assert main(["eve", "report", "--damaged", how, "--json", repair]) == 0
        (told[how],) = json.loads(capsys.readouterr().out)["verdicts"]
    assert told["heard"]["secret_bits"] == told["lost"]["damaged_heard"]["secret_bits"] == 0
    assert told["lost"]["secret_bits"] == told["heard"]["damaged_lost"]["secret_bits"] > 4
    page = tmp_path / "page.html"
    assert main(["eve", "report", repair, "--html", str(page)]) == 0
    assert "damaged copies of: counted as heard" in page.read_text()
    out = capsys.readouterr().out
    assert "0.0 bits if heard, 5.0 if lost" in out
    assert "Locked out" not in out
    assert "no bound against a sniffer" not in out
    assert main(["eve", "report", passive, "--html", str(page)]) == 0
    assert "no bound against one" in page.read_text()
    assert "dropped by her radio: no bound against a sniffer" in capsys.readouterr().out
