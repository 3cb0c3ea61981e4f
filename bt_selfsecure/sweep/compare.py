"""Two sweeps side by side: a rehearsal and the field, two places, the paper's Fig. 7 and ours."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bt_selfsecure.errors import UsageError
from bt_selfsecure.sweep.results import Analysis, Listener, Pair

TABLE = {"distance_m", "packets", "loss"}
"""Columns of figures that were read off a paper; packets is sent in all, over the repeats."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One share of one sweep."""

    count: int
    of: int

    @property
    def share(self) -> float:
        return self.count / self.of if self.of else math.nan


Figures = dict[tuple[float | None, str], Measured]
"""By distance and by what it is a share of."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure in both."""

    distance_m: float | None
    figure: str
    a: float | None
    b: float | None
    """None where one of them does not have it."""
    difference: float | None
    """b - a"""
    low: float | None
    high: float | None
    """95 % interval of the difference."""
    differs: bool | None
    """Whether 0 lies outside."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def figures_of(analysis: Analysis) -> Figures:
    """Losses of each listener and e|B of each pair, by distance; all bearers, sizes and powers of a distance together.

    A listener is called by the part that it plays, if the plan names one: then sweeps with other devices compare.
    """
    sums: dict[tuple[float | None, str], list[int]] = defaultdict(lambda: [0, 0])

    def name(row: Listener | Pair, listener: str) -> str:
        return analysis.part(row.setting, listener) or listener

    for row in analysis.listeners:
        total = sums[row.setting.distance_m, f"{name(row, row.listener)} lost"]
        total[0] += row.sent - row.heard
        total[1] += row.sent
    for pair in analysis.pairs:
        total = sums[pair.setting.distance_m, f"{name(pair, pair.eve)} missed of {name(pair, pair.bob)}'s"]
        total[0] += pair.eve_missed_given_bob
        total[1] += pair.bob_heard
    return {key: Measured(*counts) for key, counts in sums.items()}


def figures_read_off(file: Path) -> Figures | None:
    """Bob's losses from a CSV file with the columns distance_m, packets and loss (0..1); None if it has others."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text, skipinitialspace=True)
            if not set(reader.fieldnames or ()) >= TABLE:
                return None
            sums: dict[float, list[int]] = defaultdict(lambda: [0, 0])
            for row in reader:
                try:
                    metres, packets, loss = float(row["distance_m"]), int(row["packets"]), float(row["loss"])
                    if not 0 <= loss <= 1 or packets < 1:
                        raise ValueError
                except (TypeError, ValueError):
                    raise UsageError(
                        f"{file}:{reader.line_num}: not a loss: give metres, packets sent and the share lost, 0 to 1"
                    ) from None
                sums[metres][0] += round(loss * packets)
                sums[metres][1] += packets
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"can't read {file} ({error}): name a sweep or a CSV file") from error
    return {(metres, "bob lost"): Measured(*counts) for metres, counts in sums.items()}


def compare(a: Figures, b: Figures) -> Iterator[Row]:
    """What either has, by distance. UsageError if they have nothing in common."""
    if not set(a) & set(b):
        raise UsageError("the two have no figure at one distance in common: there is nothing to compare")
    for key in sorted({**a, **b}, key=lambda key: (key[0] is None, key[0] or 0, key[1])):
        one, other = a.get(key), b.get(key)
        if one and other and one.of and other.of:
            low, high = _interval(one, other)
            yield Row(*key, one.share, other.share, other.share - one.share, low, high, not low <= 0 <= high)
        else:
            yield Row(*key, _share(one), _share(other), None, None, None, None)


def _share(one: Measured | None) -> float | None:
    return one.share if one and one.of else None


def _interval(a: Measured, b: Measured) -> tuple[float, float]:
    """95 % interval of b - a for independent packets (Newcombe's method 10, Statistics in Medicine 17, 1998)."""
    (low_a, high_a), (low_b, high_b) = _wilson(a), _wilson(b)
    difference = b.share - a.share
    below = math.hypot(b.share - low_b, high_a - a.share)
    above = math.hypot(high_b - b.share, a.share - low_a)
    return difference - below, difference + above


def _wilson(one: Measured, z: float = 1.959964) -> tuple[float, float]:
    p, n = one.share, one.of
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n))
