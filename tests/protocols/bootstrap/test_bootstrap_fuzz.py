"""Mutated and strange datagrams at every input in every state: no exception, bounded memory, nothing changed.

pytest -m long tests/protocols/bootstrap/test_bootstrap_fuzz.py        a million datagrams
"""

from __future__ import annotations

import random

import pytest
from bootstrap_ends import Ends, PaperEnds, written
from fuzzing import mutated, weight

from bt_selfsecure.protocols.bootstrap import limits
from bt_selfsecure.protocols.bootstrap.messages import decode
from bt_selfsecure.protocols.bootstrap.records import BootstrapRecordError, read_record
from bt_selfsecure.protocols.bootstrap.sbi import SbiState

MOST_WEIGHT = 60_000
"""Bytes and elements that an end may hold, beside its disk: events and flights that wait."""
CHECKED_EVERY = 500
ENDS = ("sbi", "sbr", "sbs")


def hostile(data: bytes, rng: random.Random) -> bytes:
    """Return the datagram changed, or all of it by chance."""
    if rng.random() < 0.15:
        return data[: rng.randrange(3)] + rng.randbytes(rng.randrange(100))
    changed = mutated(data, rng, longest=60)
    return bytes([*changed[:1], rng.randrange(10), *changed[2:]]) if rng.random() < 0.1 else changed


def fuzz(seed: int, datagrams: int) -> None:
    rng = random.Random(seed)
    ends = Ends(f"fuzzed {seed}")
    spoken: set[bytes] = set()
    tape = Ends(f"another {seed}").join() + ends.join()
    spoken.update(tape)
    states: set[SbiState] = set()
    watched = bool(seed % 2)  # else events wait, until there is no room
    for number in range(datagrams):
        name = rng.choice(ENDS)
        end = getattr(ends, name)
        before = ends.disks[name].copy()
        data = hostile(rng.choice(tape), rng)
        end.receive_frame(data, float(number))
        if watched:
            ends.say(name)
            asks = name == "sbr" and len(data) == 34 and data[:2] == b"\x01\x01"  # anybody can show a flight 1
            assert data in spoken or asks or ends.disks[name] == before
        elif rng.random() < 0.02:
            ends.say(name)
        if number % 40 == 0:  # every state has its turn
            said = honest(ends, rng)
            spoken.update(said)
            tape = [*tape, *said][-40:]
        states.add(ends.sbi.state)
        if number % CHECKED_EVERY == 0:
            assert all(weight(getattr(ends, each)) < MOST_WEIGHT for each in ENDS)
            ends.disks["sbr"] = {}  # a controller's disk holds what people show it
            ends.begin("sbr")
        ends.told = {each: [] for each in ends.told}
        assert ends.network_key in ends.node_keys
    assert {SbiState.READY, SbiState.SHOWING, SbiState.PROVING} <= states


def honest(ends: Ends, rng: random.Random) -> list[bytes]:
    """Let the node begin to join, and go on for some flights."""
    if ends.sbi.state is not SbiState.PROVING or rng.random() < 0.5:
        ends.sbi.start(0.0, anew=True)
    said = ends.say("sbi") or [ends.sbi.record.flight5]
    data = said[-1:]
    for name in ("sbr", "sbs", "sbr", "sbi", "sbr", "sbs", "sbr", "sbi")[: rng.randrange(1, 12)]:
        if not data or (decode(data[0]).kind == 5 and name != "sbr"):
            break
        data = ends.give(name, data)
        said += data
    return said


def test_no_datagram_raises_or_stays_and_none_of_a_stranger_changes_anything() -> None:
    for seed in (1, 2, 3):
        fuzz(seed, 3_000)


def test_no_datagram_raises_in_paper() -> None:
    fuzz_paper(1, 6_000)


def fuzz_paper(seed: int, datagrams: int) -> None:
    rng = random.Random(seed)
    tape = PaperEnds(f"another {seed}").join()
    ends = PaperEnds(f"fuzzed {seed}")
    for number in range(datagrams):
        if number % 20 == 0:
            ends.sbi.start(0.0)
            tape = [*tape, *ends.sbi.frames_to_send(0.0)]
        name = rng.choice(ENDS)
        tape = [*tape, *ends.give(name, mutated(rng.choice(tape), rng) if rng.random() < 0.9 else rng.choice(tape))][
            -30:
        ]
        if number % CHECKED_EVERY == 0:
            assert all(weight(getattr(ends, each)) < MOST_WEIGHT for each in ENDS)


def test_events_that_nobody_takes_do_not_pile_up() -> None:
    ends = Ends()
    tape = ends.join()
    for end, data in ((ends.sbi, tape[3]), (ends.sbr, tape[2]), (ends.sbs, b"?"), (ends.sbs, tape[1])):
        for _ in range(limits.MOST_EVENTS + 10):
            end.receive_frame(data, 0.0)
    assert len(written(ends.sbi, {})) == len(written(ends.sbr, {})) == len(written(ends.sbs, {})) == limits.MOST_EVENTS


def test_no_text_raises_anything_but_what_it_says_as_a_record() -> None:
    rng = random.Random(7)
    ends = Ends()
    ends.join()
    texts = [record.to_json().encode() for disk in ends.disks.values() for record in disk.values()]
    for _ in range(5_000):
        try:
            read_record(mutated(rng.choice(texts), rng))
        except BootstrapRecordError:
            continue


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(10))
def test_a_million_datagrams(part: int) -> None:
    fuzz(100 + part, 90_000)
    fuzz_paper(100 + part, 10_000)
