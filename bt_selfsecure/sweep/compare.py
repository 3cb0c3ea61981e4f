"""Two sweeps side by side: a rehearsal and the field, two places, the paper's Fig. 7 and ours."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bt_selfsecure.errors import UsageError
from bt_selfsecure.sweep.results import Analysis, ListenerLosses, Pair
from bt_selfsecure.sweep.runs import METRES

TABLE = {"distance_m", "packets", "loss"}
"""Columns of figures that were read off a paper; packets is sent in all, over the repeats."""


@dataclass(frozen=True, slots=True)
class Measured:
    """This is one share of one sweep."""

    count: int
    of: int

    @property
    def share(self) -> float:
        return self.count / self.of if self.of else math.nan


Conditions = tuple[tuple[str, str], ...]


class Figure(NamedTuple):
    """This is a share of packets: lost by a listener or, where there is a Bob, missed by an Eve of what he heard."""

    distance_m: float | None
    conditions: Conditions
    listener: str
    bob: str | None = None
    least_of_a_run: bool = False
    """The least that there was in a run; else of all runs pooled."""

    def __str__(self) -> str:
        missed = f"{self.listener} missed of {self.bob}'s" if self.bob else f"{self.listener} lost"
        return f"{missed}, least of a run" if self.least_of_a_run else missed


Figures = dict[Figure, Measured]


@dataclass(frozen=True, slots=True)
class FigureDifference:
    """This is one figure in both."""

    figure: Figure
    a: float | None
    b: float | None
    """None where one of them does not have it."""
    difference: float | None
    """b - a"""
    low: float | None
    high: float | None
    """95 % interval of the difference; None for the least of several runs, which no interval fits."""
    differs: bool | None
    """Whether 0 lies outside."""

    def as_json(self) -> dict[str, Any]:
        figure = self.figure._asdict() | {"conditions": dict(self.figure.conditions), "figure": str(self.figure)}
        return figure | {name: value for name, value in asdict(self).items() if name != "figure"}


def figures_of(analysis: Analysis) -> Figures:
    """Return losses of each listener and e|B of each pair; all bearers, sizes and powers of a distance together.

    e|B is there twice: of all runs pooled, and the least of a run. A listener is called by the part that it plays, if
    the plan names one: then sweeps with other devices compare.
    """
    figures: Figures = {}

    def name(row: ListenerLosses | Pair, listener: str) -> str:
        return analysis.part(row.setting, listener) or listener

    for row in analysis.listeners:
        figure = Figure(row.setting.distance_m, row.setting.conditions, name(row, row.listener))
        _add(figures, figure, Measured(row.sent - row.heard, row.sent))
    for pair in analysis.pairs:
        figure = Figure(pair.setting.distance_m, pair.setting.conditions, name(pair, pair.eve), name(pair, pair.bob))
        _add(figures, figure, Measured(pair.eve_missed_given_bob, pair.bob_heard))
        for run in pair.each_run:
            if run.bob_heard:
                measured = Measured(run.eve_missed_given_bob, run.bob_heard)
                _add(figures, figure._replace(least_of_a_run=True), measured)
    return figures


def _add(figures: Figures, figure: Figure, one: Measured) -> None:
    """Add a share: it is pooled, or the less of two stays."""
    if (other := figures.get(figure)) is None:
        figures[figure] = one
    elif figure.least_of_a_run:
        figures[figure] = min(one, other, key=lambda each: each.share)
    else:
        figures[figure] = Measured(one.count + other.count, one.of + other.of)


def _anyhow(figures: Figures) -> Figures:
    """Return the figures whatever the conditions."""
    together: Figures = {}
    for figure, measured in figures.items():
        _add(together, figure._replace(conditions=()), measured)
    return together


def figures_read_off(file: Path) -> Figures | None:
    """Return Bob's losses from a CSV file with the columns distance_m, packets and loss (0..1); None if it has
    others."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text, skipinitialspace=True)
            if not set(reader.fieldnames or ()) >= TABLE:
                return None
            sums: dict[float, list[int]] = defaultdict(lambda: [0, 0])
            for row in reader:
                try:
                    metres, packets, loss = float(row["distance_m"]), int(row["packets"]), float(row["loss"])
                    named = not row.get("") and not row.get(None)
                    if not (0 <= loss <= 1 and packets >= 1 and METRES.has(metres) and named):
                        raise ValueError
                except (TypeError, ValueError):
                    raise UsageError(
                        f"{file}:{reader.line_num}: not a loss: give metres, packets sent and the share lost, 0 to 1"
                    ) from None
                sums[metres][0] += round(loss * packets)
                sums[metres][1] += packets
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"can't read {file} ({error}): name a sweep or a CSV file") from error
    return {Figure(metres, (), "bob"): Measured(*counts) for metres, counts in sums.items()}


def compare(a: Figures, b: Figures) -> Iterator[FigureDifference]:
    """Return what either has, by distance and conditions; by distance alone if they don't name the same conditions.

    Raises `UsageError` if they have nothing in common.
    """
    named = [{name for figure in one for name, _ in figure.conditions} for one in (a, b)]
    if named[0] != named[1]:
        a, b = _anyhow(a), _anyhow(b)
    if not set(a) & set(b):
        raise UsageError("the two have no figure at one distance in common: there is nothing to compare")
    for figure in sorted({**a, **b}, key=_order):
        one, other = a.get(figure), b.get(figure)
        if one and other and one.of and other.of:
            difference = other.share - one.share
            low, high = (None, None) if figure.least_of_a_run else _interval(one, other)
            differs = None if low is None or high is None else not low <= 0 <= high
            yield FigureDifference(figure, one.share, other.share, difference, low, high, differs)
        else:
            yield FigureDifference(figure, _share(one), _share(other), None, None, None, None)


def _order(figure: Figure) -> tuple[object, ...]:
    metres = figure.distance_m
    return figure.conditions, metres is None, metres or 0, figure.bob or "", figure.listener, figure.least_of_a_run


def _share(one: Measured | None) -> float | None:
    return one.share if one and one.of else None


def _interval(a: Measured, b: Measured) -> tuple[float, float]:
    """Return the 95 % interval of b - a for independent packets (Newcombe's method 10, Statistics in Medicine 17,
    1998)."""
    (low_a, high_a), (low_b, high_b) = _wilson(a), _wilson(b)
    difference = b.share - a.share
    below = math.hypot(b.share - low_b, high_a - a.share)
    above = math.hypot(high_b - b.share, a.share - low_a)
    return difference - below, difference + above


def _wilson(one: Measured, z: float = 1.959964) -> tuple[float, float]:
    p, n = one.share, one.of
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n))
