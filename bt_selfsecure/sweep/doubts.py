"""Which of a sweep's figures rest on an assumption that the data contradict. One sentence each, for people.

Tests are at 1 % for the whole sweep: with many pairs each is tested so much harder (Bonferroni), lest there always be
something to warn of.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta

from bt_selfsecure.stats.losses import binomial_tail, secret_bits
from bt_selfsecure.sweep.counting import MOST_TOGETHER
from bt_selfsecure.sweep.results import BITS, Analysis, Collusion, OneRun, Pair, Setting
from bt_selfsecure.sweep.statistics import chi_squared_tail
from bt_selfsecure.sweep.words import bits, conditions, percent
from bt_selfsecure.wording import counted

LEVEL = 0.01
HIDDEN = ("rfcomm", "ipsp")
"""Bearers whose link sends again until a packet arrives."""
UNICAST = ("l2cap", "rfcomm", "ipsp")
"""Bearers with a link of its own to each listener."""


def doubts(analysis: Analysis) -> Iterator[str]:
    """Return the warnings, gravest first."""
    pairs = analysis.pairs
    level = LEVEL / max(1, len(pairs))
    yield from _no_key(pairs)
    yield from _kind_mean(pairs)
    yield from _broken_more_often(pairs, level)
    yield from _bursts(pairs, level)
    yield from _changing(pairs, level)
    yield from _eves_alike(analysis.colluding)
    yield from _too_many_together(analysis)
    yield from _longer_runs_lose_more(analysis.each_run)
    yield from _bearers(analysis)
    yield from _times_astray(analysis)
    if analysis.lost_in_queue:
        yield (
            f"{counted(analysis.lost_in_queue, 'packet')} never left the sender's queue, and count in no table: what "
            "nobody could hear is worth nothing; but if Bob's loss seemed larger on the spot, that is why."
        )
    few = min((pair.runs for pair in pairs), default=0)
    if 0 < few < 10:
        yield (
            f"a setting has {counted(few, 'run')} only: whether the loss is the same from run to run, and "
            "how often a run is broken, takes ten or more."
        )


def _no_key(pairs: Sequence[Pair]) -> Iterator[str]:
    bad = [pair for pair in pairs if 0 < pair.runs_without_key < pair.runs]
    if bad:
        worst = max(bad, key=lambda pair: pair.runs_without_key / pair.runs)
        yield (
            f"{_some(bad, pairs)}: in some runs Bob heard nothing, {worst.runs_without_key} of {worst.runs} "
            f"({_name(worst)}). They give no key, and are in no verdict."
        )


def _kind_mean(pairs: Sequence[Pair]) -> Iterator[str]:
    """Warn of a key that the mean of all runs would call strong, and a run does not."""
    bad = [pair for pair in pairs if _below(pair) and pair.pooled_bound > pair.bound and _pooled_bits(pair) >= BITS[-1]]
    if bad:
        worst = min(bad, key=lambda pair: pair.strength)
        yield (
            f"{_some(bad, pairs)}: e|B of all runs pooled would give every run a key of {BITS[-1]} bits, and a run by "
            f"itself does not, as run {worst.worst_run} with {bits(worst.secret_bits)} bits ({_name(worst)}). The "
            "verdict is the run's."
        )


def _below(pair: Pair) -> bool:
    return pair.secret_bits is not None and pair.secret_bits < BITS[-1]


def _pooled_bits(pair: Pair) -> float:
    """Return what the worst run's key would be worth by the mean."""
    return secret_bits(pair.worst.bob_heard, pair.pooled_bound) if pair.worst else 0.0


def _broken_more_often(pairs: Sequence[Pair], level: float) -> Iterator[str]:
    def keys(pair: Pair) -> int:
        return pair.runs - pair.runs_without_key

    bad = [
        pair
        for pair in pairs
        if pair.runs_broken
        and pair.eve_missed_given_bob
        and binomial_tail(pair.runs_broken, keys(pair), pair.broken_expected or 0.0) < level
    ]
    if bad:
        worst = max(bad, key=lambda pair: pair.runs_broken / keys(pair))
        yield (
            f"{_some(bad, pairs)}: Eve had all of Bob's packets in more runs than independent losses would give, "
            f"{worst.runs_broken} of {keys(worst)} instead of {percent(worst.broken_expected)} of them "
            f"({_name(worst)}). Believe the measured share, not the bits."
        )


def _bursts(pairs: Sequence[Pair], level: float) -> Iterator[str]:
    bad = [pair for pair in pairs if pair.misses_fit and pair.misses_fit.p_value < level]
    if bad:
        worst = min(bad, key=lambda pair: pair.misses_fit.p_value if pair.misses_fit else 1.0)
        burst, alone = worst.misses_fit and worst.misses_fit.mean_burst, 1 - (worst.e_given_b or 0.0)
        how = f", {burst:.2f} packets long on average instead of {1 / alone:.2f}" if burst and alone else ""
        yield (
            f"{_some(bad, pairs)}: Eve's misses among Bob's packets are not independent but depend on the packet "
            f"before{how} ({_name(worst)}). The intervals of e|B, the bound, the secret bits and the packets needed "
            "suppose independence: where misses come in bursts all of them are too good."
        )


def _changing(pairs: Sequence[Pair], level: float) -> Iterator[str]:
    bad = [pair for pair in pairs if pair.stationary_p is not None and pair.stationary_p < level]
    if bad:
        yield (
            f"{_some(bad, pairs)}: Eve's misses are not the same all the time ({_name(bad[0])}): windows of 100 "
            "packets differ by more than chance. The pooled e|B holds for none of them, and a run's own bound only for "
            "the mean of that run; plan on the worst run, or measure for longer."
        )


def _eves_alike(rows: Sequence[Collusion]) -> Iterator[str]:
    """Warn of Eves who are alike. Each row is the worst of many sets of Eves, and so below its product by chance: every
    set counts as a test."""
    others: dict[tuple[Setting, str], int] = {}
    for row in rows:
        others[row.setting, row.bob] = max(row.eves, others.get((row.setting, row.bob), 0))
    several = [row for row in rows if row.eves > 1 and row.bob_heard]
    sets = [math.comb(others[row.setting, row.bob], row.eves) for row in several]
    bad = [
        row
        for row in several
        if row.if_independent
        and 1 - binomial_tail(row.missed_given_bob + 1, row.bob_heard, row.if_independent) < LEVEL / sum(sets)
    ]
    if bad:
        worst = min(bad, key=lambda row: (row.e_given_b or 0.0) / (row.if_independent or 1.0))
        yield (
            f"colluding Eves are better together than the product of their losses says, in {len(bad)} of "
            f"{len(several)} cases: against {worst.bob}, {' and '.join(worst.worst)} all miss "
            f"{percent(worst.e_given_b)} instead of {percent(worst.if_independent)}. Don't plan with e^k; take the "
            "measured row."
        )


def _too_many_together(analysis: Analysis) -> Iterator[str]:
    listeners: dict[Setting, set[str]] = {}
    for row in analysis.listeners:
        listeners.setdefault(row.setting, set()).add(row.listener)
    most = max(map(len, listeners.values()), default=0)
    if most > MOST_TOGETHER:
        yield (
            f"{most} listeners have too many sets of colluding Eves to judge each: only one Eve, and all of them "
            f"together, who bound every number in between. Choose up to {MOST_TOGETHER} with --listeners NAME,NAME."
        )


def _longer_runs_lose_more(rows: Iterable[OneRun]) -> Iterator[str]:
    def place(row: OneRun) -> tuple[object, ...]:
        setting = row.setting
        kind = setting.sender, setting.bearer, setting.size_bytes, setting.conditions
        return row.listener, kind, setting.distance_m, row.distance_m

    places: dict[tuple[object, ...], dict[int, _Runs]] = {}
    for row in rows:
        if row.setting.packets is not None:
            runs = places.setdefault(place(row), {}).setdefault(row.setting.packets, _Runs(row))
            runs.sent.append(row.sent)
            runs.lost.append(row.lost)
    several = [groups for groups in places.values() if len(groups) > 1]
    bad = [groups for groups in several if _differ(list(groups.values())) < LEVEL / len(several)]
    if bad:
        first = next(iter(bad[0].values())).first
        text = ", ".join(f"{percent(runs.loss)} of {packets}" for packets, runs in sorted(bad[0].items()))
        yield (
            f"at {len(bad)} of {len(several)} places and listeners the loss depends on how many packets a run has, "
            f"as at {first.setting.distance_m:g} m ({first.listener}): {text}. On the air it should not: look for a "
            "queue that overflows, at the sender or in the receiver."
        )


class _Runs:
    """These are of one N, at one place: packets sent and lost, run by run."""

    def __init__(self, first: OneRun) -> None:
        self.first = first
        self.sent, self.lost = array("q"), array("q")

    @property
    def loss(self) -> float:
        return _loss([self])


def _loss(groups: Sequence[_Runs]) -> float:
    sent = sum(sum(runs.sent) for runs in groups)
    return sum(sum(runs.lost) for runs in groups) / sent if sent else 0.0


def _differ(groups: Sequence[_Runs]) -> float:
    """Return P(losses of groups so different, if they were one): Pearson, over the runs' own spread if that is more
    than independent packets would have."""
    p = _loss(groups)
    if not 0 < p < 1:
        return 1.0
    within = sum(_pearson(zip(runs.sent, runs.lost, strict=True), runs.loss) for runs in groups)
    freedom = sum(len(runs.sent) for runs in groups) - len(groups)
    spread = max(1.0, within / freedom) if freedom else 1.0
    between = _pearson(((sum(runs.sent), sum(runs.lost)) for runs in groups), p)
    return chi_squared_tail(between / spread, len(groups) - 1)


def _pearson(counts: Iterable[tuple[int, int]], p: float) -> float:
    """Return it of packets sent and lost."""
    if not 0 < p < 1:
        return 0.0
    return sum((k - n * p) ** 2 / (n * p * (1 - p)) for n, k in counts if n)


def _bearers(analysis: Analysis) -> Iterator[str]:
    bearers = {row.setting.bearer for row in analysis.listeners}
    if hidden := sorted(bearers.intersection(HIDDEN)):
        yield (
            f"{' and '.join(hidden)} hides losses: the link sends again until a packet arrives, so a loss of 0 says "
            "nothing of the radio."
        )
    if unicast := sorted(bearers.intersection(UNICAST)):
        yield (
            f"on {' and '.join(unicast)} each listener had a link of its own, and its own copy of each packet: that "
            "they miss different ones is not what an eavesdropper on one link would see. Joint losses of one radio "
            "packet take le_advert, or a sniffer."
        )


def _times_astray(analysis: Analysis) -> Iterator[str]:
    if astray := analysis.times_astray():
        before, after = astray
        apart = after.since(before)
        which = "before" if apart < timedelta(0) else "after"
        yield (
            f"by the clock run {after.run} began {_span(abs(apart))} {which} run {before.run}: the clock was set "
            "between them, as on a Pi without one when it hears of the time, or the runs were not imported in their "
            "order. Losses are plotted by run and not by time; no verdict depends on it."
        )


def _span(apart: timedelta) -> str:
    days = apart / timedelta(days=1)
    if days >= 730:
        return f"{days / 365.25:.0f} years"
    return f"{days:.0f} days" if days >= 2 else f"{apart.total_seconds() / 60:.0f} min"


def _some(bad: Sequence[Pair], all_of_them: Sequence[Pair]) -> str:
    return f"{len(bad)} of {len(all_of_them)} pairs"


def _name(pair: Pair) -> str:
    where = "" if pair.setting.distance_m is None else f" at {pair.setting.distance_m:g} m"
    so = f", {conditions(pair.setting.conditions)}" if pair.setting.conditions else ""
    return f"Bob {pair.bob}, Eve {pair.eve}{where}{so}"
