"""Several receivers' clocks made one, from the times at which they heard the same packets.

A clock is `t + offset + drift * (t - middle)` by the reference's. Where both logs come from the same packets, the true
offset makes them agree as well as the clocks and computers do, while one that is a packet off leaves all the jitter of
the sender between them (BLE delays each advertisement by 0 to 10 ms at random for that). A sender without jitter, and
losses that are independent, leave no trace by which neighbouring packets could be told apart: then we say so.
Times are seconds, sorted arrays of float64; no file, no clock, nothing random.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bt_selfsecure.errors import UsageError

Times = NDArray[np.float64]
Numbers = NDArray[np.int64]

COMMON: Final = 30
"""Packets that two logs must have in common to be aligned."""
MOST_DRIFT: Final = 1e-3
"""Of a clock against another; crystals keep 1e-4."""
CHUNK: Final = 64
"""Packets over which drift does not count, to begin with."""
CHUNKS: Final = (0.5, 0.25, 0.75)
"""Where in the log."""
WIDTHS: Final = (1 / 10, 1 / 50, 1 / 250)
"""Of the interval, within which packets of a chunk are to agree: clocks may be fine or coarse."""
PEAKS: Final = 6
"""Offsets that are tried of each chunk and width."""
SURE: Final = 0.1
"""Logarithm of how many times worse any other fit is at least; more where few packets tell."""
SHIFTS: Final = 24
"""Packets by which a fit is moved to see whether that fits as well."""
MOST_DIFFERENCES: Final = 20_000_000
EVEN: Final = 4.0
"""A clock runs evenly if no part of the log fits so many times worse than the middling one."""
PART: Final = 40
"""Packets of a part."""
FEW: Final = 8
"""Packets that make a first line."""
COARSE: Final = 8
"""Times are written down in steps of less than this part of the interval."""


@dataclass(frozen=True, slots=True)
class Clock:
    """How a receiver's clock was set by the reference's."""

    offset_s: float
    """To be added in the middle of its log."""
    drift: float
    middle: float
    matched: int
    """Packets that both heard."""
    residual_s: float
    """Mean distance of these in time, after the fit."""
    rival: float | None
    """How many times worse the next best fit is, some packets off; None where the offset was told."""

    def __call__(self, times: Times) -> Times:
        """By the reference's clock."""
        return times + self.offset_s + self.drift * (times - self.middle)


def usual_gap(times: Times) -> float:
    """The interval of a sender of which `times` are the packets that came, some of them several times over.

    Copies follow each other quickly; losses make multiples of the interval. UsageError with too few packets.
    """
    gaps = np.diff(times)
    gaps = np.sort(gaps[gaps > 0])
    if len(gaps) < COMMON:
        raise UsageError(f"{len(times)} rows are too few to find the interval of the packets: say it, --interval MS")
    weights = np.cumsum(np.minimum(gaps, 20 * np.median(gaps)))  # a pause weighs little, and so do copies
    typical = gaps[np.searchsorted(weights, weights[-1] / 2)]
    gaps = gaps[gaps > typical / 6]
    interval = float(np.quantile(gaps, 0.03)) * 1.1
    for _ in range(4):
        near = gaps[(gaps > 0.6 * interval) & (gaps < 1.5 * interval)]
        if len(near):
            interval = float(np.median(near))
    return interval


def resolution(times: Times) -> float:
    """In what steps a clock was written down: 1 s, 0.1 s and so on to 1 ms; 0 if finer."""
    for step in (1.0, 0.1, 0.01, 0.001):
        steps = times / step
        if np.all(np.abs(steps - np.rint(steps)) < 1e-3):
            return step
    return 0.0


def align(reference: Times, times: Times, interval: float, told: float | None) -> Clock:
    """The clock of `times`, of which no packet comes twice. `told` is the offset to within half an interval, if known.

    UsageError, to follow the receiver's name, where nothing is certain.
    """
    two = _Two(reference, times, interval)
    fits = list(two.fits(told))
    if not fits:
        raise UsageError(
            f"has fewer than {COMMON} packets in common with the reference, or none to be recognised: give longer logs"
        )
    best = two.best(fits)
    if told is None:
        fits += two.shifted(best)
        if two.best(fits) is not best:
            best = two.best(fits)
            fits += two.shifted(best)
        best = _unrivalled(best, fits, interval)
    elif better := two.better_than(best):
        raise UsageError(f"is not as far ahead as was told: {better}. Leave --clock-offset out, or say the right one")
    two.check_even(best)
    return best


def as_it_is(reference: Times, times: Times, interval: float) -> Clock:
    """Of logs by one clock. UsageError if they have too little in common to see whether that is so, or show another."""
    two = _Two(reference, times, interval)
    clock = two.judged(0.0, 0.0, two.whole)
    if clock is None:
        raise UsageError(f"has fewer than {COMMON} packets in common with the reference: is it one clock?")
    if better := two.better_than(clock):
        raise UsageError(f"is of another clock: {better}. Leave --one-clock out")
    return clock


def _unrivalled(best: Clock, fits: list[Clock], interval: float) -> Clock:
    rivals = [
        fit.residual_s
        for fit in fits
        if abs(fit.offset_s - best.offset_s) > interval / 2 and fit.matched > best.matched / 2
    ]
    ratio = min(rivals, default=math.inf) / best.residual_s
    if math.log(ratio) < _sure(best):
        raise UsageError(
            f"may be a packet or more off: another offset fits as well ({1000 * best.residual_s:.2f} and "
            f"{1000 * ratio * best.residual_s:.2f} ms between {best.matched} packets). Packets that come evenly look "
            "alike: say how far this clock is ahead, --clock-offset RECEIVER=SECONDS, or --one-clock"
        )
    return replace(best, rival=None if math.isinf(ratio) else ratio)


def _sure(fit: Clock) -> float:
    """Logarithm of how many times worse another fit is, if this is no chance."""
    return SURE + 4 / math.sqrt(fit.matched)


class _Two:
    """The reference's log and another."""

    def __init__(self, reference: Times, times: Times, interval: float) -> None:
        coarse = max(resolution(reference), resolution(times))
        if coarse > interval / COARSE:
            raise UsageError(
                f"has, or the reference has, times in steps of {coarse:g} s: give finer ones, or a column seq"
            )
        self.reference, self.times, self.interval = reference, times, interval
        self.whole = float(times[0] + times[-1]) / 2 if len(times) else 0.0
        """The middle of its log."""
        self.floor = max(interval / 2000, coarse / 4)
        """Two clocks can't agree better than this, but by chance."""

    def best(self, fits: list[Clock]) -> Clock:
        """That which tells most: many packets, each much nearer than chance would put it."""
        return max(fits, key=lambda fit: fit.matched * math.log(self.interval / 2 / fit.residual_s))

    def fits(self, told: float | None) -> Iterator[Clock]:
        """From the offsets by which most packets of a piece of the log fall on the reference's."""
        for share in CHUNKS:
            centre = int(share * len(self.times))
            for offset in self._peaks(centre, told):
                if fit := self._grown(centre, offset):
                    yield fit

    def shifted(self, fit: Clock) -> list[Clock]:
        """The same, some packets off."""
        moved = (
            self._fit(self.times, fit.offset_s + shift * self.interval, fit.drift, fit.middle, FEW)
            for shift in range(-SHIFTS, SHIFTS + 1)
            if shift
        )
        return [each for each in moved if each]

    def better_than(self, told: Clock) -> str:
        """Which fit, packets off, is clearly better than the one that was told, in words; "" if there is none."""
        own = self._fit(self.times, told.offset_s, told.drift, told.middle) or told
        for fit in (*self.fits(None), *self.shifted(own)):
            ratio = own.residual_s / fit.residual_s
            aside = fit.offset_s - own.offset_s
            if abs(aside) > self.interval / 2 and 2 * fit.matched > own.matched and math.log(ratio) > _sure(fit):
                return f"with its times {aside:+.3f} s from there, {fit.matched} packets agree {ratio:.1f} times better"
        return ""

    def check_even(self, clock: Clock) -> None:
        """UsageError if a part of the log fits much worse, as after a clock was set."""
        chosen, later = self._pairs(clock(self.times))
        parts = np.array_split(np.abs(later), max(1, len(later) // PART))
        worse = np.array([np.median(part) for part in parts])
        worst, usual = int(np.argmax(worse)), float(np.median(worse))
        if worse[worst] > EVEN * max(usual, self.floor) + self.interval / 50:
            at = self.times[chosen][min(PART * worst, len(chosen) - 1)] - self.times[0]
            raise UsageError(
                f"has a clock that does not run evenly: {1000 * worse[worst]:.1f} ms off {at:.0f} s after its first "
                f"row, else {1000 * usual:.1f} ms. Was it set meanwhile? Cut the log there, into runs (column run)"
            )

    def judged(self, offset: float, drift: float, middle: float, least: int = COMMON) -> Clock | None:
        """A clock, and how well it fits; None with too little to tell."""
        clock = Clock(offset, drift, middle, 0, 0.0, None)
        _, later = self._pairs(clock(self.times))
        if len(later) < least:
            return None
        return replace(clock, matched=len(later), residual_s=max(float(np.mean(np.abs(later))), self.floor))

    def _peaks(self, centre: int, told: float | None) -> list[float]:
        size = max(8, min(CHUNK, MOST_DIFFERENCES // len(self.reference)))
        chunk = self.times[max(0, centre - size // 2) : centre + size // 2]
        differences = (self.reference[:, None] - chunk[None, :]).ravel()
        half = self.interval / 2
        if told is not None:
            differences = differences[np.abs(differences - told) < half]
        differences.sort()
        peaks: list[float] = []
        for width in WIDTHS:
            counts = np.searchsorted(differences, differences + width * self.interval) - np.arange(len(differences))
            for _ in range(PEAKS if len(counts) else 0):
                most = int(np.argmax(counts))
                peaks.append(float(np.mean(differences[most : most + max(1, counts[most])])))
                low, high = np.searchsorted(differences, (peaks[-1] - half, peaks[-1] + half))
                counts[low:high] = 0
        return peaks

    def _grown(self, centre: int, offset: float) -> Clock | None:
        """A fit to the piece about `centre`, then to twice as much, and so on: drift is learnt before it counts."""
        middle = float(self.times[centre])
        drift, half = 0.0, CHUNK // 2
        while half < len(self.times):
            piece = self.times[max(0, centre - half) : centre + half]
            if fit := self._fit(piece, offset, drift, middle, FEW):
                offset, drift = fit.offset_s, fit.drift
            half *= 2  # if nothing of the reference was there, more of the log may have it
        return self._fit(self.times, offset + drift * (self.whole - middle), drift, self.whole)

    def _fit(self, times: Times, offset: float, drift: float, middle: float, least: int = COMMON) -> Clock | None:
        """A straight line through what is each other's nearest; None if that is too little, or no clock."""
        for _ in range(4):
            moved = Clock(offset, drift, middle, 0, 0.0, None)(times)
            chosen, later = self._pairs(moved)
            if len(chosen) < least:
                return None
            off = np.abs(later - np.median(later))
            trusted = off <= 4 * np.median(off) + self.floor
            slope, height = _line(times[chosen][trusted] - middle, later[trusted])
            offset, drift = offset + height, drift + slope
            if abs(drift) > MOST_DRIFT:
                return None
        return self.judged(offset, drift, middle, least)

    def _pairs(self, times: Times) -> tuple[Numbers, Times]:
        """Times that have a partner, each other's nearest; and how much later that comes."""
        if len(self.reference) < 2 or len(times) < 2:
            return np.empty(0, np.int64), np.empty(0)
        there = nearest(self.reference, times)
        mutual = nearest(times, self.reference)[there] == np.arange(len(times))
        later = self.reference[there] - times
        chosen = np.flatnonzero(mutual & (np.abs(later) < self.interval / 2))
        return chosen, later[chosen]


def nearest(reference: Times, times: Times) -> Numbers:
    """For each time, where in the reference the nearest is."""
    at = np.clip(np.searchsorted(reference, times), 1, len(reference) - 1)
    return at - (times - reference[at - 1] < reference[at] - times)


def _line(x: Times, y: Times) -> tuple[float, float]:
    """Slope and height at 0 of the least squares."""
    mean = float(np.mean(x))
    spread = float(np.sum((x - mean) ** 2))
    slope = float(np.sum((x - mean) * y)) / spread if spread > 0 and len(x) > FEW else 0.0
    return slope, float(np.mean(y)) - slope * mean
