"""Several receivers' clocks made one, from the times at which they heard the same packets.

A clock is `t + offset + drift * (t - middle)` by the reference's. Where both logs come from the same packets, the true
offset makes them agree as well as the clocks and computers do, while one that is a packet off leaves all the jitter of
the sender between them (BLE delays each advertisement by 0 to 10 ms at random for that). A sender without jitter, and
losses that are independent, leave no trace by which neighbouring packets could be told apart: then we say so.
Times are seconds, sorted arrays of float64; no file, no clock, nothing random.
"""

from __future__ import annotations

import math
from copy import copy
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
MOST_DIFFERENCES: Final = 4_000_000
PIECE: Final = 4096
"""Packets on which all that could be is tried, before the best is fitted to all."""
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
    """This is how a receiver's clock was set by the reference's."""

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

    def at(self, moment: float) -> float:
        """Return the offset in seconds at a time."""
        return self.offset_s + self.drift * (moment - self.middle)

    def __call__(self, times: Times) -> Times:
        """Return times by the reference's clock."""
        return times + self.offset_s + self.drift * (times - self.middle)


def usual_gap(times: Times) -> float:
    """Return the interval of a sender of which `times` are the packets that came, some of them several times over.

    Copies follow each other quickly; losses make multiples of the interval. Raises `UsageError` with too few packets.
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
    """Return in what steps, in seconds, a clock was written down: 1, 0.1 and so on to 0.001; 0 if finer."""
    for step in (1.0, 0.1, 0.01, 0.001):
        steps = times / step
        if np.all(np.abs(steps - np.rint(steps)) < 1e-3):
            return step
    return 0.0


def align(reference: Times, times: Times, interval: float, told: float | None) -> Clock:
    """Return the clock of `times`, of which no packet comes twice. `told` is the offset to within half an interval, if
    known.

    UsageError, to follow the receiver's name, where nothing is certain.
    """
    two = _Two(reference, times, interval)
    found = [two.piece(centre).best_fits(told) for centre in (int(share * len(times)) for share in CHUNKS)]
    if not any(found):
        raise UsageError(
            f"has fewer than {COMMON} packets in common with the reference, or none to be recognised: give longer logs"
        )
    first = best_of([fit for fits in found for fit in fits], interval)
    piece = two.piece(int(np.searchsorted(times, first.middle)))
    candidates = [fit for fits in found for each in fits if (fit := piece.refitted(each))]
    chosen = _unrivalled(piece, candidates or [first], told is not None)
    whole = two.grown(int(np.searchsorted(times, chosen.middle)), chosen)
    if whole is None or whole.matched < chosen.matched:
        raise UsageError(
            "agrees with the reference in a piece only: give logs of the same time, of clocks that run evenly"
        )
    two.check_even(whole)
    return replace(whole, rival=chosen.rival)


def as_it_is(reference: Times, times: Times, interval: float) -> Clock:
    """Return the fit of logs by one clock. Raises `UsageError` if they have too little in common to see whether that is
    so."""
    two = _Two(reference, times, interval)
    clock = two.judged(0.0, 0.0, float(np.mean(times)) if len(times) else 0.0)
    if clock is None:
        raise UsageError(f"has fewer than {COMMON} packets in common with the reference: is it one clock?")
    _unrivalled(two.piece(len(times) // 2), [clock], True)
    two.check_even(clock)
    return clock


def best_of(fits: list[Clock], interval: float) -> Clock:
    """Return the fit that tells most: many packets, each much nearer than chance would put it."""
    return max(fits, key=lambda fit: fit.matched * math.log(interval / 2 / fit.residual_s))


def _unrivalled(piece: _Two, fits: list[Clock], told: bool) -> Clock:
    """Return the best fit to a piece. Raises `UsageError` if another one, some packets off, is as good; if told: is
    better."""
    best = best_of(fits, piece.interval)
    certain = SURE + 4 / math.sqrt(best.matched)

    def another(fit: Clock) -> bool:
        return abs(fit.at(best.middle) - best.offset_s) > piece.interval / 2 and fit.matched > best.matched / 2

    rivals = [*fits, *piece.shifted(best)]
    if told:
        least = min((fit.residual_s for fit in (*rivals, *piece.best_fits(None)) if another(fit)), default=math.inf)
        if best.residual_s > least * math.exp(certain):
            raise UsageError(
                f"fits {best.residual_s / least:.1f} times better some packets off the offset that was told: look at "
                "--clock-offset, --one-clock"
            )
        if any(another(fit) and fit.residual_s < best.residual_s * math.exp(certain) for fit in fits):
            raise UsageError(
                "has a clock that drifts so far that the offset that was told fits one part of the log, and not "
                "another: cut the log into runs (column run), or tell it more exactly"
            )
        return replace(best, rival=None)
    if best_of(rivals, piece.interval) is not best:
        best = best_of(rivals, piece.interval)
        rivals += piece.shifted(best)
    ratio = min((fit.residual_s for fit in rivals if another(fit)), default=math.inf) / best.residual_s
    if math.log(ratio) < certain:
        raise UsageError(
            f"may be a packet or more off: another offset fits as well ({1000 * best.residual_s:.2f} and "
            f"{1000 * ratio * best.residual_s:.2f} ms between {best.matched} packets). Packets that come evenly look "
            "alike: say how far this clock is ahead, --clock-offset RECEIVER=SECONDS, or --one-clock"
        )
    return replace(best, rival=None if math.isinf(ratio) else ratio)


class _Two:
    """This is the reference's log and another."""

    def __init__(self, reference: Times, times: Times, interval: float) -> None:
        coarse = max(resolution(reference), resolution(times))
        if coarse > interval / COARSE:
            raise UsageError(
                f"has, or the reference has, times in steps of {coarse:g} s: give finer ones, or a column seq"
            )
        self.reference, self.times, self.interval = reference, times, interval
        self.floor = max(interval / 2000, coarse / 4)
        """Two clocks can't agree better than this, but by chance."""

    def piece(self, centre: int) -> _Two:
        """Return a piece of the log, so much about a packet that all that could be is tried on it."""
        piece = copy(self)
        low = max(0, min(centre, len(self.times) - 1) - PIECE // 2)
        piece.times = self.times[low : low + PIECE]
        return piece

    def best_fits(self, told: float | None) -> list[Clock]:
        """Return the fits that begin from the offsets by which most packets in the middle fall on the reference's."""
        centre = len(self.times) // 2
        fits = (
            self.grown(centre, Clock(offset, 0.0, float(self.times[centre]), 0, 0.0, None))
            for offset in self._peaks(centre, told)
        )
        return [fit for fit in fits if fit]

    def refitted(self, clock: Clock) -> Clock | None:
        """Return the fit made anew to this piece."""
        middle = float(self.times[0] + self.times[-1]) / 2
        return self._fit(self.times, clock.at(middle), clock.drift, middle, FEW)

    def shifted(self, fit: Clock) -> list[Clock]:
        """Return the same fit, some packets off."""
        moved = (
            self._fit(self.times, fit.offset_s + shift * self.interval, fit.drift, fit.middle, FEW)
            for shift in range(-SHIFTS, SHIFTS + 1)
            if shift
        )
        return [each for each in moved if each]

    def check_even(self, clock: Clock) -> None:
        """Raise `UsageError` if a part of the log fits much worse, as after a clock was set."""
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
        """Return a clock, and how well it fits; None with too little to tell."""
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

    def grown(self, centre: int, fit: Clock) -> Clock | None:
        """Return a fit to what is about `centre`, then to twice as much, and so on: drift is learnt before it
        counts."""
        offset, drift, middle, half = (
            fit.at(float(self.times[centre])),
            fit.drift,
            float(self.times[centre]),
            CHUNK // 2,
        )
        while half < len(self.times):
            near = self.times[max(0, centre - half) : centre + half]
            if better := self._fit(near, offset, drift, middle, FEW):
                offset, drift = better.offset_s, better.drift
            half *= 2  # if nothing of the reference was there, more of the log may have it
        whole = float(self.times[0] + self.times[-1]) / 2
        return self._fit(self.times, offset + drift * (whole - middle), drift, whole)

    def _fit(self, times: Times, offset: float, drift: float, middle: float, least: int = COMMON) -> Clock | None:
        """Return a straight line through what is each other's nearest; None if that is too little, or no clock."""
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
        """Return times that have a partner, each other's nearest; and how much later that comes."""
        if len(self.reference) < 2 or len(times) < 2:
            return np.empty(0, np.int64), np.empty(0)
        there = nearest(self.reference, times)
        mutual = nearest(times, self.reference[there]) == np.arange(len(times))
        later = self.reference[there] - times
        chosen = np.flatnonzero(mutual & (np.abs(later) < self.interval / 2))
        return chosen, later[chosen]


def nearest(reference: Times, times: Times) -> Numbers:
    """Return, for each time, where in the reference the nearest is."""
    at = np.clip(np.searchsorted(reference, times), 1, len(reference) - 1)
    return at - (times - reference[at - 1] < reference[at] - times)


def _line(x: Times, y: Times) -> tuple[float, float]:
    """Return slope and height at 0 of the line of least squares."""
    mean = float(np.mean(x))
    spread = float(np.sum((x - mean) ** 2))
    slope = float(np.sum((x - mean) * y)) / spread if spread > 0 and len(x) > FEW else 0.0
    return slope, float(np.mean(y)) - slope * mean
