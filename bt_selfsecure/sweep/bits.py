"""Packets as the bits of one number: Python counts and moves millions of them at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

LONGEST: Final = 64
"""Packets in a row: longer bursts are not found bit by bit."""


def steps(lost: int, among: int) -> tuple[int, int, int, int]:
    """Count successive packets `among` those of a set, by what became of the first and the second: kept-kept,
    kept-lost, lost-kept, lost-lost. Those that are lost are of the set."""
    if not among:
        return 0, 0, 0, 0
    # Added to the packets that are not of the set, a lost one's next neighbour is carried to the next one of the set.
    outside = ~among & ((1 << among.bit_length()) - 1)
    after_lost = (lost << 1) + outside
    twice = (after_lost & lost).bit_count()
    all_lost = lost.bit_count()
    first = lost >> (among & -among).bit_length() - 1 & 1
    last = lost >> among.bit_length() - 1 & 1
    then_kept, then_lost = all_lost - last - twice, all_lost - first - twice
    return among.bit_count() - 1 - then_kept - then_lost - twice, then_lost, then_kept, twice


def bursts(lost: int) -> Counter[int]:
    """Return how often so many packets in a row were lost; empty if none was, or if more than `LONGEST` were."""
    at_least: list[int] = []  # by length: where so many begin
    while lost and len(at_least) < LONGEST:
        at_least.append(lost.bit_count())
        lost &= lost >> 1
    if lost:
        return Counter()
    at_least += [0, 0]
    lengths = zip(at_least, at_least[1:], at_least[2:], strict=False)
    return Counter({n: a - 2 * b + c for n, (a, b, c) in enumerate(lengths, start=1) if a - 2 * b + c})


def alone(heard_by: Sequence[int], by_eve: Sequence[int]) -> Iterator[int]:
    """Return, of each as Bob, the packets that it heard and no other as Eve, who may count as having heard more."""
    once = twice = 0
    for heard in by_eve:
        twice |= once & heard
        once |= heard
    return ((heard & ~twice).bit_count() for heard in heard_by)


def unions(heard_by: Sequence[int]) -> list[int]:
    """Return what each set of them heard together, by set: bit i for the one at i."""
    sets = [0]
    for heard in heard_by:
        sets += [together | heard for together in sets]
    return sets
