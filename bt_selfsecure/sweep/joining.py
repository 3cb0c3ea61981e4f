"""Logs without numbers joined by time: which receiver heard which packet, from the moments at which each heard one.

The receivers' clocks are made one (`clocks`). What then came within half an interval is one packet; the interval tells
how many packets nobody heard between two. Before the last receiver's log begins, and after the first one's ends, nobody
knows who would have heard what: that is left out. So are packets that can't be told from their neighbour; if these are
many, nothing is certain, and nothing is joined. No file, no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, Final

import numpy as np

from bt_selfsecure.errors import UsageError
from bt_selfsecure.sweep.clocks import COMMON, Clock, Numbers, Times, align, as_it_is, usual_gap
from bt_selfsecure.wording import counted

MOST_LEFT_OUT: Final = 0.05
"""Of all packets: more that can't be told apart is no result."""
MOST_UNCERTAIN: Final = 0.03
"""Of all gaps: more that are no multiple of the interval mean that there is none."""
MOST_RESIDUAL: Final = 1 / 8
"""Of the interval, between two clocks on average."""
SHORT: Final = 4
"""Packets: over fewer, jitter that adds up is still small against the interval."""
USUAL: Final = 6.0
"""A packet is told from its neighbour unless its times are so many times farther off than is usual in these logs."""
LEAST_TOGETHER: Final = 100
"""Packets heard by several, below which one row in the wrong place would change a share by more than a hundredth."""
LONG: Final = 50
"""Packets: so many in a row that nobody heard may have been a pause."""


@dataclass(frozen=True, slots=True)
class KnownTiming:
    """This is what the user knows."""

    interval_s: float | None = None
    offsets_s: Mapping[str, float] = field(default_factory=dict)
    """How far a receiver's clock is ahead of those of which nothing is told, to within half an interval."""
    one_clock: bool = False
    """All logs are by one clock, or by clocks that agree to within a fraction of the interval."""
    pause_s: float | None = None
    """So long a silence of all parts two runs; 0: none does."""
    packets: int | None = None
    """N of each run."""


@dataclass(frozen=True, slots=True)
class JoinedRun:
    """This is the packets of one run."""

    began: float
    """When the first came, by the reference's clock."""
    packets: int
    heard: Mapping[str, Numbers]
    """By receiver, for each packet the row of its log, or -1: missed."""
    copies: Mapping[str, Numbers]


@dataclass(frozen=True, slots=True)
class Joined:
    """These are the runs, and how sure they are."""

    bursts: list[JoinedRun]
    reference: str
    interval_s: float
    interval_told: bool
    clocks: Mapping[str, Clock]
    by_several: int
    """Packets that two receivers or more heard."""
    by_one: int
    by_none: int
    """Gaps that were filled: sent, as the interval tells, and heard by nobody."""
    uncertain: int
    """Of these gaps, which may have a packet more or less. That changes N, and nothing of e given B."""
    left_out: int
    """Packets that could not be told from their neighbour."""
    outside: int
    """Packets of before the last log began or after the first one ended."""
    silences: Mapping[str, int]
    """The most packets in a row that a receiver missed while others heard some of them."""

    def as_json(self) -> dict[str, Any]:
        """Return what the manifest says: everything but the packets."""
        told = {name: getattr(self, name) for name in self.__slots__ if name not in ("bursts", "clocks")}
        clocks = {name: asdict(clock) for name, clock in self.clocks.items()}
        return told | {"clocks": clocks, "packets": [burst.packets for burst in self.bursts]}


def join(
    logs: Mapping[str, Times], told: KnownTiming, progress: Callable[[int, int], None] = lambda done, of: None
) -> Joined:
    """Return the runs in `logs`, which has the times of each receiver's rows, sorted, in seconds by its clock; two
    receivers or more. `progress` is told the receivers done and to do. Raises `UsageError`, one sentence with what to
    give, where the join is not certain."""
    if len(logs) < 2:
        raise UsageError(f"only {', '.join(logs)} has rows: to join logs by time takes two receivers or more")
    if strangers := sorted(set(told.offsets_s) - set(logs)):
        raise UsageError(
            f"--clock-offset names {strangers[0]!r}, and the logs are of {', '.join(logs)}: name one of them"
        )
    if few := [name for name, times in logs.items() if len(times) < COMMON]:
        raise UsageError(
            f"{few[0]!r} has {counted(len(logs[few[0]]), 'row')}, too few: to join a log by time takes {COMMON} "
            "packets or more that another receiver heard, too; give longer logs, or number the packets (a column seq)"
        )
    untold = [name for name in logs if name not in told.offsets_s]  # the offsets that are told are ahead of these
    reference = max(untold or logs, key=lambda name: len(logs[name]))
    interval = told.interval_s or usual_gap(logs[reference])
    firsts = {name: _first_copies(name, times, interval) for name, times in logs.items()}
    clocks = {}
    for number, (name, first) in enumerate(firsts.items()):
        progress(number, len(firsts))
        clocks[name] = _clock(name, logs[name][first], logs[reference][firsts[reference]], interval, told, reference)
    pool = _Pool(logs, firsts, clocks, interval)
    interval = pool.refined(interval)
    steps, uncertain = pool.steps(interval)
    pool.leave_out(interval)
    return _joined(pool, steps, uncertain, told, interval, reference)


def _first_copies(name: str, times: Times, interval: float) -> Numbers:
    """Return rows that are no copy of the one before. Raises `UsageError` if rows come one after another all the
    time."""
    first = np.flatnonzero(np.diff(times, prepend=-np.inf) > interval / 4)
    spans = times[np.append(first[1:], len(times)) - 1] - times[first]
    if np.mean(spans > interval / 2) > MOST_LEFT_OUT:
        raise UsageError(
            f"{name!r} has rows all the time, more than one in {1000 * interval:.3g} ms: say the interval of the "
            "packets, --interval MS, and whose they are, --sender ADDRESS"
        )
    return first


def _clock(name: str, times: Times, reference: Times, interval: float, told: KnownTiming, ahead_of: str) -> Clock:
    if name == ahead_of:
        return Clock(0.0, 0.0, 0.0, len(times), 0.0, None)
    offset = None
    if name in told.offsets_s:
        offset = told.offsets_s.get(ahead_of, 0.0) - told.offsets_s[name]
    try:
        clock = as_it_is(reference, times, interval) if told.one_clock else align(reference, times, interval, offset)
        if clock.residual_s > MOST_RESIDUAL * interval:
            raise UsageError(
                f"agrees to {1000 * clock.residual_s:.1f} ms only, and packets come every {1000 * interval:.3g} ms: "
                + (
                    "is it one clock? Else leave --one-clock out"
                    if told.one_clock
                    else "its times are too coarse to tell packets apart: give finer ones, or a column seq"
                )
            )
    except UsageError as error:
        raise UsageError(f"{name!r} {error}") from None
    return clock


class _Pool:
    """These are all receivers' rows on one clock, in groups of which each is a packet."""

    def __init__(
        self, logs: Mapping[str, Times], firsts: Mapping[str, Numbers], clocks: Mapping[str, Clock], interval: float
    ) -> None:
        self.names, self.clocks = list(logs), clocks
        times = np.concatenate([clocks[name](logs[name][firsts[name]]) for name in self.names])
        who = np.repeat(np.arange(len(self.names)), [len(firsts[name]) for name in self.names])
        row = np.concatenate([firsts[name] for name in self.names])
        copies = np.concatenate([np.diff(np.append(firsts[name], len(logs[name]))) for name in self.names])
        order = np.argsort(times, kind="stable")
        self.times, self.who, self.row, self.copies = times[order], who[order], row[order], copies[order]
        self.group = np.cumsum(np.diff(self.times, prepend=self.times[0]) > interval / 2)
        sizes = np.bincount(self.group)
        self.centre = np.bincount(self.group, weights=self.times - self.times[0]) / sizes + self.times[0]
        self.count = len(sizes)
        self.doubtful = np.zeros(self.count, bool)

    def refined(self, interval: float) -> float:
        """Return the mean interval in seconds, over short gaps. Raises `UsageError` if it is not the one that was told,
        or there is none."""
        gaps = np.diff(self.centre)
        mean = interval
        for _ in range(5):
            steps = np.rint(gaps / mean)
            short = (steps > 0) & (steps < SHORT)
            if not short.any():
                break
            mean = float(gaps[short].sum() / steps[short].sum())
        if abs(mean / interval - 1) > 0.25:
            raise UsageError(
                f"packets come every {1000 * mean:.4g} ms on average, not {1000 * interval:.4g}: say the right "
                "--interval"
            )
        return mean

    def steps(self, interval: float) -> tuple[Numbers, int]:
        """Return how many packets each gap goes on, and how many gaps are uncertain. Raises `UsageError` if too many
        are."""
        gaps = np.diff(self.centre) / interval
        steps = np.maximum(np.rint(gaps), 1)
        odd = np.abs(gaps - steps)
        near = (gaps < 0.7) | ((steps < SHORT) & (odd > np.clip(USUAL * np.median(odd[steps < SHORT]), 0.05, 0.3)))
        self.doubtful[:-1] |= near
        self.doubtful[1:] |= near
        uncertain = int(np.sum((odd > 0.3) & (steps < LONG)))
        if uncertain > max(1.0, MOST_UNCERTAIN * len(gaps)):
            raise UsageError(
                f"the packets have no constant interval: {uncertain} of {len(gaps)} gaps are no multiple of "
                f"{1000 * interval:.4g} ms, so what all missed can't be counted. Say the right --interval MS and one "
                "--sender"
            )
        return steps.astype(np.int64), uncertain

    def leave_out(self, interval: float) -> None:
        """Mark packets that can't be told apart: a receiver twice in one, too wide, or one row far off the others."""
        keys, counts = np.unique(self.group * len(self.names) + self.who, return_counts=True)
        twice = keys[counts > 1] // len(self.names)
        start = np.flatnonzero(np.diff(self.group, prepend=-1))
        spans = self.times[np.append(start[1:], len(self.times)) - 1] - self.times[start]
        usual = np.median(spans[spans > 0]) if (spans > 0).any() else 0.0
        wide = np.flatnonzero(spans > np.clip(USUAL * usual, interval / 50, interval / 4))
        odd = np.unique(np.concatenate([twice, wide]))
        for aside in (-1, 0, 1):
            beside = np.clip(odd + aside, 0, self.count - 1)
            near = np.abs(self.centre[beside] - self.centre[odd]) < 1.5 * interval
            self.doubtful[beside[near]] = True
        if self.doubtful.sum() > MOST_LEFT_OUT * self.count:
            raise UsageError(
                f"{int(self.doubtful.sum())} of {self.count} packets can't be told from their neighbour (they come "
                f"every {1000 * interval:.4g} ms): give logs with finer times, one --sender, the right --interval"
            )


def _joined(pool: _Pool, steps: Numbers, uncertain: int, told: KnownTiming, interval: float, reference: str) -> Joined:
    number = np.concatenate([[0], np.cumsum(steps)])
    parts = _parts(pool, steps, told, interval)
    has = [np.unique(pool.group[pool.who == index]) for index in range(len(pool.names))]
    first, last = max(int(each[0]) for each in has), min(int(each[-1]) for each in has)
    if first > last:
        raise UsageError("the logs do not overlap in time: give logs of the same time")
    heard_by = np.bincount(np.unique(pool.group * len(pool.names) + pool.who) // len(pool.names))
    bursts, by_none, outside, left_out = [], 0, 0, 0
    kept_all = np.zeros(pool.count, bool)
    for low, high in parts:
        groups = np.arange(low, high)
        kept = (groups >= first) & (groups <= last)
        outside += int((~kept).sum())
        left_out += int((kept & pool.doubtful[low:high]).sum())
        kept &= ~pool.doubtful[low:high]
        if not kept.any():
            continue
        groups = groups[kept]
        kept_all[groups] = True
        bursts.append(_burst(pool, groups, number, told.packets))
        by_none += bursts[-1].packets - len(groups)
    if not bursts:
        raise UsageError("no packet is left that can be told apart: give longer logs")
    if (together := int((heard_by[kept_all] > 1).sum())) < LEAST_TOGETHER:
        raise UsageError(
            f"only {together} packets were heard by several, and a join takes {LEAST_TOGETHER}: one wrong row would be "
            "more than a hundredth of them; give longer logs"
        )
    return Joined(
        bursts,
        reference,
        interval,
        told.interval_s is not None,
        pool.clocks,
        together,
        int((heard_by[kept_all] == 1).sum()),
        by_none,
        uncertain,
        left_out,
        outside,
        {name: max(_longest(burst.heard[name]) for burst in bursts) for name in pool.names},
    )


def _parts(pool: _Pool, steps: Numbers, told: KnownTiming, interval: float) -> list[tuple[int, int]]:
    """Return the first and the last group of each run. Raises `UsageError` for a silence that may be a pause or not."""
    if told.pause_s is None:
        if np.any(steps > LONG):
            at = int(np.argmax(steps))
            seconds = pool.centre[at + 1] - pool.centre[at]
            raise UsageError(
                f"nobody heard anything for {seconds:.3g} s, time for {steps[at] - 1} packets. If nothing was sent, "
                f"say how long a pause parts two runs, --pause {max(1, int(seconds / 2))}; if it was, --pause 0"
            )
        return [(0, pool.count)]
    if 0 < told.pause_s < 2 * interval:
        raise UsageError(
            f"--pause {told.pause_s:g} is less than two packets are apart ({1000 * interval:.4g} ms each): it would "
            "part runs at every loss; give more seconds, or 0 if none parts runs"
        )
    cuts = np.flatnonzero(steps * interval >= told.pause_s) + 1 if told.pause_s else np.empty(0, np.int64)
    edges = [0, *cuts.tolist(), pool.count]
    return list(pairwise(edges))


def _burst(pool: _Pool, groups: Numbers, number: Numbers, packets: int | None) -> JoinedRun:
    """Return the packets of these groups and of the gaps between them; those that are left out are not even counted."""
    skipped = np.cumsum(np.diff(groups, prepend=groups[0] - 1) - 1)
    place = np.full(pool.count, -1, np.int64)
    place[groups] = number[groups] - number[groups[0]] - skipped
    count = int(place[groups[-1]]) + 1
    if packets is not None and count > packets:
        raise UsageError(
            f"{count} packets were counted in a run, and --packets says {packets}: look at --interval and --pause"
        )
    count = packets or count
    heard, copies = {}, {}
    for index, name in enumerate(pool.names):
        mine = (pool.who == index) & (place[pool.group] >= 0)
        heard[name], copies[name] = np.full(count, -1, np.int64), np.zeros(count, np.int64)
        heard[name][place[pool.group[mine]]] = pool.row[mine]
        copies[name][place[pool.group[mine]]] = pool.copies[mine]
    return JoinedRun(float(pool.centre[groups[0]]), count, heard, copies)


def _longest(heard: Numbers) -> int:
    """Return the most packets in a row that were missed."""
    there = np.flatnonzero(np.concatenate([[True], heard >= 0, [True]]))
    return int(np.diff(there).max()) - 1
