"""What an analysis found. The fields are the keys of `sweep analyse --json`; docs/sweep.md explains them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timedelta
from heapq import merge
from itertools import chain
from typing import Any, Final, overload

from bt_selfsecure.stats.losses import KEY_BITS
from bt_selfsecure.sweep.plain_json import json_of

BITS = (40, 80, 128)
"""Strengths of a key for which the packets are given."""
LEAP: Final = timedelta(days=365)
"""Between two runs of a record: beyond that a clock that nobody had set is likelier. A Pi's begins in 1970."""
DROPS: Final = "~"
"""Marks verdicts of a receiver of Eve's that drops damaged copies."""
DAMAGED: Final = ("heard", "lost")
"""As what packets count of which Eve has damaged copies alone."""
NO_KEY, BROKEN, WEAK, HOLDS = VERDICTS = ("no key", "broken", "weak", "holds")


@dataclass(frozen=True, slots=True)
class Setting:
    """This is what the runs have in common that are counted together."""

    distance_m: float | None
    bearer: str
    size_bytes: int
    packets: int | None
    sender: str
    tx_power_dbm: float | None
    conditions: tuple[tuple[str, str], ...] = ()
    """What was so, by name: free, as the runs' notes say it."""

    def __str__(self) -> str:
        parts = ["no common distance" if self.distance_m is None else f"{self.distance_m:g} m", self.bearer]
        parts.append(f"{self.size_bytes} B" if self.packets is None else f"{self.packets} x {self.size_bytes} B")
        if self.tx_power_dbm is not None:
            parts.append(f"{self.tx_power_dbm:g} dBm")
        parts += [f"{name} {value}" for name, value in self.conditions]
        return ", ".join(parts) + f", sent by {self.sender}"


@dataclass(frozen=True, slots=True)
class Fit:
    """This is Gilbert's two-state chain, fitted."""

    p: float
    r: float
    mean_burst: float | None
    """Packets; None if no burst ended."""
    p_value: float
    """P(so bursty, if losses were independent)."""


@dataclass(frozen=True, slots=True)
class ListenerLosses:
    """Holds the losses of one listener."""

    setting: Setting
    listener: str
    distance_m: float | None
    """Its own, from the sender; None if nobody told, or where it was not the same in all runs."""
    nearest_m: float | None
    farthest_m: float | None
    """Of its distances in the runs; None if nobody told any."""
    sent: int
    heard: int
    loss: float
    loss_low: float
    loss_high: float
    burst_lengths: dict[int, int]
    """How often so many packets in a row were lost."""
    gilbert_elliott: Fit | None
    """None unless some were lost and some not."""
    stationary_p: float | None
    """P(windows of 100 packets so different, if the loss were the same); None with too few losses to say."""
    rssi_dbm: float | None
    copies: float | None
    """Mean of the packets that were heard."""


@dataclass(frozen=True, slots=True)
class InRun:
    """Says what a key of one run is worth, by that run alone."""

    run: int
    sent: int
    bob_heard: int
    eve_missed_given_bob: int
    e_given_b: float | None
    """None if Bob heard nothing."""
    bound: float
    """This run's e|B is at least this: one-sided 95 %."""
    secret_bits: float | None
    """|S| * -log2(1 - bound), never more than what Eve's missing packets hide; None if Bob heard nothing."""
    verdict: str
    """no key: Bob heard nothing; broken: Eve missed nothing that Bob heard; weak: less than 128 bits; else holds."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Says what a pair's keys are worth if what Eve has damaged copies of is counted in one of the two ways."""

    eve_missed_given_bob: int
    e_given_b: float | None
    bound: float
    secret_bits: float | None
    verdict: str


@dataclass(frozen=True, slots=True)
class Pair:
    """Takes one listener as Bob, another as Eve. Counts and shares are of all runs pooled, unless they say
    otherwise."""

    setting: Setting
    bob: str
    eve: str
    bob_distance_m: float | None
    eve_distance_m: float | None
    sent: int
    bob_heard: int
    eve_heard: int
    both: int
    bob_only: int
    eve_only: int
    neither: int
    eve_missed_given_bob: int
    """k: packets that Bob heard and Eve missed."""
    d: float
    e: float
    e_given_b: float | None
    """None if Bob heard nothing."""
    ci_low: float
    ci_high: float
    pooled_bound: float
    """The e|B of all runs together is at least this: one-sided 95 %. No key is planned on it."""
    phi: float
    phi_low: float
    phi_high: float
    entropy_correlation: float
    capacity: float
    """(1-d) e|B, secret packets per packet sent."""
    misses_fit: Fit | None
    """Of Eve's misses among the packets that Bob heard, in order."""
    stationary_p: float | None
    runs: int
    runs_without_key: int
    """Of which Bob heard nothing."""
    runs_broken: int
    """Of which Eve heard every packet that Bob did."""
    broken_share: float | None
    """Of the runs with a key; None if there are none."""
    broken_high: float
    """One-sided 95 %; about 3/R if none of R was broken."""
    broken_expected: float | None
    """The share that independent misses of probability e|B would give."""
    each_run: Sequence[InRun]
    least_e_given_b: float | None
    """Of the runs with a key; not always that of the worst run, which may have fewer packets. None if there is none."""
    median_e_given_b: float | None
    greatest_e_given_b: float | None
    worst_run: int | None
    """The run whose key is worth least; None if there is no key."""
    bound: float
    """That of the worst run; keys are planned on each run's own."""
    secret_bits: float | None
    """Of the worst run's key."""
    packets_needed: dict[str, int | None]
    """|S| for 40, 80 and 128 bits by the least bound of a run; None if that is 0."""
    packets_to_send: dict[str, int | None]
    """N, so that Bob keeps as many with 99 % probability, in the run that takes most; None if no number is enough."""
    verdict: str
    """no key, or broken: in all runs; weak: the worst run is worth less than 128 bits; else holds."""
    eve_damaged_given_bob: int
    """Packets that Bob heard, and of which Eve has damaged copies alone."""
    eve_hands_on_damaged: bool
    """Whether Eve's receiver handed on damaged copies. If not, who has a sniffer at her place misses less than this."""
    damaged_heard: Judged
    damaged_lost: Judged
    """What it comes to where those packets count as heard by Eve, as is right, and as lost."""

    @property
    def marked_verdict(self) -> str:
        """Return the verdict, with a mark where it is of a receiver that drops damaged copies, and so may be kind."""
        may_be_kind = self.verdict in (WEAK, HOLDS) and not self.eve_hands_on_damaged
        return self.verdict + DROPS * may_be_kind

    @property
    def worst(self) -> InRun | None:
        """Return the worst run."""
        return next((run for run in self.each_run if run.run == self.worst_run), None)

    @property
    def strength(self) -> tuple[float, float, float]:
        """Return a key to sort by, weakest first; a pair without a key comes last."""
        return (KEY_BITS + 1.0 if self.secret_bits is None else self.secret_bits, self.bound, self.pooled_bound)


@dataclass(frozen=True, slots=True)
class Collusion:
    """Holds the best that so many Eves can do together against one Bob: over all runs pooled, and in a single run."""

    setting: Setting
    bob: str
    eves: int
    worst: tuple[str, ...]
    """Those who together miss least of all runs pooled."""
    bob_heard: int
    missed_given_bob: int
    """Packets that Bob heard and all of them missed."""
    e_given_b: float | None
    pooled_bound: float
    if_independent: float | None
    """Product of the e|B of each."""
    runs: int
    runs_without_key: int
    runs_broken: int
    """The most that so many, always the same, hold whole."""
    broken_high: float
    worst_in_run: tuple[str, ...]
    """Those who leave the least worth of a run's key."""
    in_run: InRun | None
    """That run, judged against them."""
    pooled_packets_needed: dict[str, int | None]
    """|S| for 40, 80 and 128 bits by the pooled bound."""
    packets_needed: dict[str, int | None]
    """The same by the least bound of a run."""

    @property
    def strength(self) -> tuple[float, float]:
        """Return a key to sort by, best Eves first; those without a key come last."""
        known = self.in_run.secret_bits if self.in_run else None
        return (KEY_BITS + 1.0 if known is None else known, self.pooled_bound)


@dataclass(frozen=True, slots=True)
class Share:
    """P(Bob hears, so many Eves all miss), the mean over every choice of Bob and Eves."""

    setting: Setting
    eves: int
    secret_share: float


@dataclass(frozen=True, slots=True)
class AtDistance:
    """Loss against distance, listener by listener or (None) of all together."""

    listener: str | None
    bearer: str
    size_bytes: int
    packets: int | None
    conditions: tuple[tuple[str, str], ...]
    from_m: float
    to_m: float
    """The same as from_m for one distance; else from_m <= distance < to_m."""
    sent: int
    lost: int
    loss: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class OneRun:
    """Is one run at one listener, for what changes from run to run."""

    run: int
    setting: Setting
    listener: str
    distance_m: float | None
    started: str | None
    sent: int
    lost: int
    lost_in_queue: int
    rssi_dbm: float | None

    def since(self, other: OneRun) -> timedelta:
        """Return the time from the beginning of the other to that of this one; 0 where it is not known of both."""
        if not (self.started and other.started):
            return timedelta(0)
        return datetime.fromisoformat(self.started) - datetime.fromisoformat(other.started)


class Rows(Sequence[OneRun]):
    """Holds rows of several settings, each in the order of its runs, that need not be in memory."""

    def __init__(self, parts: Iterable[Sequence[OneRun]]) -> None:
        self._parts = list(parts)

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __iter__(self) -> Iterator[OneRun]:
        return chain.from_iterable(self._parts)

    @overload
    def __getitem__(self, index: int) -> OneRun: ...
    @overload
    def __getitem__(self, index: slice) -> list[OneRun]: ...
    def __getitem__(self, index: int | slice) -> OneRun | list[OneRun]:
        return list(self)[index]

    def by_run(self) -> Iterator[OneRun]:
        """Yield them by the numbers of their runs, whatever the setting."""
        return merge(*self._parts, key=lambda row: row.run)


@dataclass(frozen=True, slots=True)
class Analysis:
    """Holds everything that came out."""

    sweep: str
    runs: int
    withdrawn: int
    lost_in_queue: int
    """Packets that never went on the air for some listener. They are in no table."""
    pairs: list[Pair]
    listeners: list[ListenerLosses]
    colluding: list[Collusion]
    shares: list[Share]
    loss_by_distance: list[AtDistance]
    each_run: Rows
    roles: dict[str, dict[str, str]]
    """Sender, then listener: the part it plays by the plan (bob or eve), if all runs of this sender say the same."""
    damaged: str
    """What packets count as in all figures, of which Eve has damaged copies alone: heard or lost."""
    warnings: list[str] = field(default_factory=list)

    def part(self, setting: Setting, listener: str) -> str | None:
        """Return what a listener is by the plan: bob, eve, or None if it says nothing."""
        return self.roles.get(setting.sender, {}).get(listener)

    def planned(self) -> list[Pair]:
        """Return the pairs whose Bob and Eve the plan names; all where it names none."""
        named = [
            pair
            for pair in self.pairs
            if self.part(pair.setting, pair.bob) == "bob" and self.part(pair.setting, pair.eve) == "eve"
        ]
        return named or self.pairs

    def times_astray(self) -> tuple[OneRun, OneRun] | None:
        """Return two runs of one sender, one after the other, of whose times one is wrong: the later run began earlier,
        or more than `LEAP` after. None where all times can be right."""
        before: dict[str, OneRun] = {}
        for row in self.each_run.by_run():
            sender, last = row.setting.sender, before.get(row.setting.sender)
            if last and row.run != last.run and not timedelta(0) <= row.since(last) <= LEAP:
                return last, row
            if row.started:
                before[sender] = row
        return None

    def as_json(self) -> dict[str, Any]:
        """Return it for `json.dumps`: the setting's fields stand beside those of each row."""
        return {name: list(value) if isinstance(value, Iterator) else value for name, value in self._json_values()}

    def json_text(self) -> Iterator[str]:
        """Yield it as one JSON object, in parts: a row is made when it is written, for there are some for every run."""
        before = "{"
        for name, value in self._json_values():
            yield f"{before}\n {json_of(name)}: "
            before = ","
            if isinstance(value, Iterator):
                yield from _array(value)
            else:
                yield json_of(value, indent=1).replace("\n", "\n ")
        yield "\n}"

    def _json_values(self) -> Iterator[tuple[str, Any]]:
        for each in fields(self):
            value = getattr(self, each.name)
            has_rows = isinstance(value, Rows | list) and each.name != "warnings"
            yield each.name, map(_json_row, value) if has_rows else value


def _json_row(of: Any) -> dict[str, Any]:
    row = asdict(replace(of, each_run=list(of.each_run)) if isinstance(of, Pair) else of)
    row = {**row.pop("setting", {}), **row}
    if "conditions" in row:
        row["conditions"] = dict(row["conditions"])
    return row


def _array(rows: Iterator[dict[str, Any]]) -> Iterator[str]:
    before = "["
    for row in rows:
        yield f"{before}\n  " + json_of(row, indent=1).replace("\n", "\n  ")
        before = ","
    yield "\n ]" if before == "," else "[]"
