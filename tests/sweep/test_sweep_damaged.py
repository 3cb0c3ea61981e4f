"""A packet of which Eve has a damaged copy is one that she heard; and what it says of a receiver that drops them."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from random import Random

import pytest
from sweep_data import OFFICE, info, recorded

from bt_selfsecure.air import capture
from bt_selfsecure.bearers.advertising_data import manufacturer_data
from bt_selfsecure.cli import sweep_text as terminal
from bt_selfsecure.cli.main import main
from bt_selfsecure.protocols.haoxiao.frames import Frame, Kind, Profile, encode
from bt_selfsecure.stats.losses import guess_space
from bt_selfsecure.sweep import captured, worth
from bt_selfsecure.sweep.analysis import analyse
from bt_selfsecure.sweep.compare import figures_of
from bt_selfsecure.sweep.packing import Reception
from bt_selfsecure.sweep.report import html
from bt_selfsecure.sweep.results import Analysis, Pair
from bt_selfsecure.sweep.store import Store

PACKETS = 400
Fates = dict[str, list[str]]
"""By listener, a letter a packet: heard, damaged, or missed."""


def drawn(random: Random, names: int, packets: int = PACKETS) -> Fates:
    """Of many listeners each hears little, lest there be nothing that all of them lack."""
    weights = (6, 2, 2) if names < 10 else (1, 1, 18)
    return {f"n{name}": random.choices("hdm", weights, k=packets) for name in range(names)}


def rows(fates: Fates) -> list[Reception]:
    return [
        Reception(seq, name, fate == "h", copies={"h": 1, "d": 2, "m": 0}[fate])
        for name, letters in fates.items()
        for seq, fate in enumerate(letters)
    ]


def both_ways(path: Path, *runs: Fates) -> dict[str, Analysis]:
    sweep = recorded(path, *((info(PACKETS, repeat=repeat), rows(fates)) for repeat, fates in enumerate(runs)))
    with Store(sweep) as store:
        return {how: analyse(store, damaged=how) for how in ("heard", "lost")}


def the(analysis: Analysis, bob: str, eve: str) -> Pair:
    (pair,) = (pair for pair in analysis.pairs if (pair.bob, pair.eve) == (bob, eve))
    return pair


@pytest.mark.parametrize("names", [2, 4, 7, 17])
def test_what_eve_has_damaged_copies_of_counts_as_heard_and_on_demand_as_lost(tmp_path: Path, names: int) -> None:
    random = Random(names)
    runs = [drawn(random, names) for _ in range(3)]
    found = both_ways(tmp_path / "s.db", *runs)
    for how, taken in (("heard", "hd"), ("lost", "h")):
        for bob, eve in list(combinations(runs[0], 2))[:12]:
            kept = [[(b, e) for b, e in zip(run[bob], run[eve], strict=True) if b == "h"] for run in runs]
            missed = [sum(e not in taken for _, e in run) for run in kept]
            pair = the(found[how], bob, eve)
            assert pair.bob_heard == sum(map(len, kept))  # what came damaged Bob did not hear, whoever counts
            assert pair.eve_missed_given_bob == pair.bob_only == sum(missed)
            assert [run.eve_missed_given_bob for run in pair.each_run] == missed
            assert pair.eve_heard == sum(e in taken for run in runs for e in run[eve])
            assert pair.both + pair.bob_only + pair.eve_only + pair.neither == 3 * PACKETS
            assert pair.eve_damaged_given_bob == sum(e == "d" for run in kept for _, e in run)
            assert pair.eve_hands_on_damaged
            for field, other in ((pair.damaged_heard, "heard"), (pair.damaged_lost, "lost")):
                same = the(found[other], bob, eve)
                assert (field.bound, field.secret_bits, field.verdict) == (same.bound, same.secret_bits, same.verdict)
                assert field.e_given_b == same.e_given_b
        for row in found[how].colluding:
            assert row.in_run is not None
            run = runs[row.in_run.run - 1]
            left = sum(
                fate == "h" and all(run[eve][seq] not in taken for eve in row.worst_in_run)
                for seq, fate in enumerate(run[row.bob])
            )
            assert row.in_run.eve_missed_given_bob == left
            assert row.missed_given_bob <= row.bob_heard


def test_a_key_that_only_damaged_copies_protect_is_broken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fates = {"bob": ["h"] * PACKETS, "eve": ["h", "d"] * (PACKETS // 2)}
    sweep = recorded(tmp_path / "s.db", (info(PACKETS), rows(fates)))
    told = {}
    for how in ("heard", "lost"):
        assert main(["sweep", "analyse", "--json", "--damaged", how, sweep]) == 0
        told[how] = json.loads(capsys.readouterr().out)
        assert told[how]["damaged"] == how
    pairs = {how: next(row for row in each["pairs"] if row["bob"] == "bob") for how, each in told.items()}
    assert (pairs["heard"]["verdict"], pairs["heard"]["secret_bits"]) == ("broken", 0)
    assert (pairs["lost"]["verdict"], pairs["lost"]["secret_bits"] > 128) == ("holds", True)
    assert pairs["heard"]["damaged_lost"] == pairs["lost"]["damaged_lost"]
    with Store(sweep) as store:
        shown = [terminal.table(analyse(store, damaged=how)) for how in ("heard", "lost")]
        compared = [
            next(
                share.share for figure, share in figures_of(analyse(store, damaged=how)).items() if figure.bob == "bob"
            )
            for how in ("heard", "lost")
        ]
        assert "made good" in html(store, analyse(store))
    assert ["count as heard" in shown[0], "count as lost" in shown[1]] == [True, True]
    assert compared == [0, 0.5]


def test_a_bound_of_a_receiver_that_drops_damaged_copies_is_marked_wherever_it_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deaf = {"bob": ["h"] * PACKETS, "eve": ["h", "m"] * (PACKETS // 2)}
    sniffer = {"bob": ["h"] * PACKETS, "eve": ["h", "m", "m", "d"] * (PACKETS // 4)}
    for fates, mark in ((deaf, True), (sniffer, False)):
        sweep = recorded(tmp_path / f"{mark}.db", (info(PACKETS), rows(fates)))
        with Store(sweep) as store:
            analysis = analyse(store)
            page = html(store, analysis)
        pair = the(analysis, "bob", "eve")
        assert pair.eve_hands_on_damaged is not mark
        text = terminal.table(analysis)
        assert bool(re.search(r"bob +eve .* holds~$", text, re.MULTILINE)) is mark
        assert ("drops damaged copies, as BlueZ does" in text) is mark
        assert (">holds~<" in page, "drops damaged copies, as BlueZ does" in page) == (mark, mark)
        assert all(len(line) <= 80 for line in text.splitlines())
    assert main(["sweep", "analyse", "--json", str(OFFICE)]) == 0
    assert not any(row["eve_hands_on_damaged"] for row in json.loads(capsys.readouterr().out)["pairs"])


def burst(random: Random) -> list[bytes]:
    frames = (Frame(Profile.HARDENED, Kind.RAND_COMPACT, 0, seq, b"aa", random.randbytes(16)) for seq in range(200))
    return [encode(frame) for frame in frames]


def on_air(frame: bytes) -> bytes:
    data = manufacturer_data(frame)
    pdu = capture.advertising_pdu(capture.ADV_NONCONN_IND, bytes(6), data, random_address=False)
    return capture.le_packet(37, pdu)


def damage(packet: bytes, places: list[int]) -> bytes:
    """Flip these bits of our frame, which stands before the CRC; nobody checked the packet."""
    flipped = bytearray(packet)
    for place in places:
        flipped[len(packet) - 3 - 24 + place // 8] ^= 1 << place % 8
    return bytes(flipped[:8] + bytes([flipped[8], flipped[9] & 0xF3]) + flipped[10:])


def test_whatever_can_be_made_good_is_looked_up() -> None:
    reach = max(wrong for wrong in range(192) if guess_space(wrong, 192) <= 80)
    assert reach == captured.SEGMENTS - 1


@pytest.mark.parametrize(("wrong", "repaired"), [(1, True), (2, True), (17, True), (18, False), (40, False)])
def test_a_sniffers_damaged_advertisements_are_told_apart_by_what_others_heard(
    tmp_path: Path, wrong: int, repaired: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert repaired is (guess_space(wrong, 192) <= 80)
    random = Random(wrong)
    frames = burst(random)
    lacks = set(random.sample(range(200), 60))
    lost = set(random.sample(sorted(lacks), 20))
    for name in ("bob", "eve"):
        with capture.PcapngWriter(tmp_path / f"{name}.pcapng") as writer:
            for seq, frame in enumerate(frames):
                packet = on_air(frame)
                if name == "eve" and seq in lost:
                    continue
                if name == "eve" and seq in lacks:
                    packet = damage(packet, random.sample(range(192), wrong))
                writer.write(1000.0 + seq / 10, capture.LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR, packet)
    sources = [f"{name}={tmp_path}/{name}.pcapng" for name in ("bob", "eve")]
    assert main(["sweep", "import", "--out", str(tmp_path / "s.db"), *sources]) == 0
    with Store(tmp_path / "s.db") as store:
        pair = the(analyse(store), "bob", "eve")
        kept = store.packed(1)["eve"].rows("eve")
        assert {row.seq for row in kept if row.copies and not row.heard} == ((lacks - lost) if repaired else set())
        assert store.runs()[0].info.size_bytes == 24
    assert pair.eve_missed_given_bob == (20 if repaired else 60)
    assert pair.damaged_lost.eve_missed_given_bob == 60
    assert pair.eve_hands_on_damaged  # her radio does, whatever can be made of it
    capsys.readouterr()
    assert main(["sweep", "export", str(tmp_path / "s.db"), "--out", str(tmp_path / "s.csv")]) == 0
    assert main(["sweep", "import", "--out", str(tmp_path / "again.db"), str(tmp_path / "s.csv")]) == 0
    with Store(tmp_path / "again.db") as store:
        assert the(analyse(store), "bob", "eve").eve_missed_given_bob == pair.eve_missed_given_bob


@pytest.mark.parametrize(
    ("size", "bits"), [(6, 0), (12, 0), (20, 64), (24, 96), (37, 96), (60, 96), (61, 224), (64, 224), (335, 224)]
)
def test_a_missed_packet_hides_the_random_bits_that_the_list_does_not_give_away(size: int, bits: int) -> None:
    assert worth.hidden_bits(size) == bits
    key = worth.in_run(1, 3000, 3000, 1, size)
    assert key.verdict == "weak"
    assert key.secret_bits == pytest.approx(0.074 if bits else 0, abs=0.001)
