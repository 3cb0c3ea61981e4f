"""D-OTP's keys beside the paper's list, and what they add to sessions, few and many.

A session is five GETs, each with its answer, through both ends. Its overhead is what it takes more than the same layer
with one static key, run in turns with it.
"""

from __future__ import annotations

import statistics
import time

from bt_selfsecure.bench.coap.figures import POLICIES, ObjectSessions
from bt_selfsecure.protocols.dotp.keys import HardenedKeys, Keys, PaperKeys, Policy

SECRET, SN = bytes(range(32)), 1234
SESSIONS, FEW, IO = 9100, 100, 5
NUMBERS = SESSIONS * IO
MOST_KEYS_S = 0.020
MOST_POINTS = 1.0


def run(sessions: ObjectSessions) -> float:
    """Return the CPU seconds of the few sessions."""
    begin = time.process_time()
    for _ in range(FEW):
        sessions.run()
    return time.process_time() - begin


def begin() -> tuple[ObjectSessions, ObjectSessions]:
    """D-OTP's, and all of it but its keys."""
    start = POLICIES["hardened 256"]
    return ObjectSessions(start), ObjectSessions(start, static=True)


def overhead(ours: list[float], bare: list[float]) -> float:
    """Return the percentage, from the turns that were disturbed least and most alike."""
    return 100 * (statistics.median(a / b for a, b in zip(ours, bare, strict=True)) - 1)


def make(keys: Keys, count: int) -> float:
    begin = time.process_time()
    for number in range(count):
        keys.key(number)
    return time.process_time() - begin


def test_45500_keys_that_never_repeat_take_at_most_20_ms() -> None:
    ours = min(make(HardenedKeys(SECRET), NUMBERS) for _ in range(5))
    keys = HardenedKeys(SECRET)
    assert len({keys.key(number) for number in range(NUMBERS)}) == NUMBERS
    print(f"\n{NUMBERS} hardened keys: {1000 * ours:.1f} ms")
    for sessions in (100, 1100, 4100, 9100):
        listed, drawn = (make(PaperKeys(SN, policy), sessions * IO) for policy in list(Policy)[:1:-1])
        print(f"paper, {sessions} sessions: list {1000 * listed:.1f} ms, without {1000 * drawn:.1f} ms")
    assert ours <= MOST_KEYS_S


def test_9100_sessions_cost_within_a_percentage_point_of_what_100_cost() -> None:
    few: tuple[list[float], list[float]] = ([], [])
    many: tuple[list[float], list[float]] = ([], [])
    same = begin()
    for _ in range(SESSIONS // FEW):  # each time the first 100 of a new pair, and 100 more of the one
        for sessions, seconds in zip((*begin(), *same), (*few, *many), strict=True):
            seconds.append(run(sessions))
    at_few, at_many = overhead(*few), overhead(*many)
    total = 100 * (sum(many[0]) / sum(many[1]) - 1)
    print(f"\nover one static key: {FEW} sessions {at_few:.2f} %, {SESSIONS} {at_many:.2f} % (all: {total:.2f} %)")
    assert abs(at_many - at_few) <= MOST_POINTS
