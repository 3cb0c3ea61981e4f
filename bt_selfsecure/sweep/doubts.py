"""Which of a sweep's figures rest on an assumption that the data contradict. One sentence each, for people.

Tests are at 1 % for the whole sweep: with many pairs each is tested so much harder (Bonferroni), lest there always be
something to warn of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from bt_selfsecure.core.losses import binomial_tail
from bt_selfsecure.sweep.results import Analysis, AtDistance, Collusion, Pair
from bt_selfsecure.sweep.statistics import chi_squared_tail

LEVEL = 0.01
HIDDEN = ("rfcomm", "ipsp")
"""Bearers whose link sends again until a packet arrives."""
UNICAST = ("l2cap", "rfcomm", "ipsp")
"""Bearers with a link of its own to each listener."""


def doubts(analysis: Analysis) -> Iterator[str]:
    """The warnings, gravest first."""
    pairs = analysis.pairs
    level = LEVEL / max(1, len(pairs))
    yield from _broken_more_often(pairs, level)
    yield from _bursts(pairs, level)
    yield from _changing(pairs, level)
    yield from _eves_alike(analysis.colluding, LEVEL / max(1, len(analysis.colluding)))
    yield from _longer_bursts_lose_more(analysis.loss_by_distance)
    yield from _bearers(analysis)
    if analysis.lost_in_queue:
        yield (
            f"{analysis.lost_in_queue} packets never left the sender's queue. They are in no table: nobody could hear "
            "them, so they are worth nothing; but if Bob's loss seemed larger on the spot, that is why."
        )
    few = min((pair.runs for pair in pairs), default=0)
    if 0 < few < 10:
        yield (
            f"a setting has {few} run{'s' if few > 1 else ''} only: whether the loss is the same from run to run, and "
            "how often a run is broken, takes ten or more."
        )


def _broken_more_often(pairs: Sequence[Pair], level: float) -> Iterator[str]:
    bad = [p for p in pairs if p.runs_broken and binomial_tail(p.runs_broken, p.runs, p.broken_expected) < level]
    bad = [pair for pair in bad if pair.eve_missed_given_bob]
    if bad:
        worst = max(bad, key=lambda pair: pair.broken_share)
        yield (
            f"{_some(bad, pairs)}: Eve had all of Bob's packets in more runs than independent losses would give, "
            f"{worst.runs_broken} of {worst.runs} instead of {worst.broken_expected:.2g} of them ({_name(worst)}). "
            "Believe the measured share, not the bits."
        )


def _bursts(pairs: Sequence[Pair], level: float) -> Iterator[str]:
    bad = [pair for pair in pairs if pair.misses_fit and pair.misses_fit.p_value < level]
    if bad:
        worst = min(bad, key=lambda pair: pair.misses_fit.p_value if pair.misses_fit else 1.0)
        burst, alone = worst.misses_fit and worst.misses_fit.mean_burst, 1 - worst.e_given_b
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
            "packets differ by more than chance. One e|B for all of them does not hold for each; plan on the worst "
            "place and time, or measure for longer."
        )


def _eves_alike(rows: Sequence[Collusion], level: float) -> Iterator[str]:
    bad = [
        row
        for row in rows
        if row.eves > 1
        and row.bob_heard
        and 1 - binomial_tail(row.missed_given_bob + 1, row.bob_heard, row.if_independent) < level
    ]
    if bad:
        worst = min(bad, key=lambda row: row.e_given_b / row.if_independent)
        yield (
            f"colluding Eves are better together than the product of their losses says, in {len(bad)} of "
            f"{sum(row.eves > 1 for row in rows)} cases: against {worst.bob}, {' and '.join(worst.worst)} all miss "
            f"{100 * worst.e_given_b:.2g} % instead of {100 * worst.if_independent:.2g} %. Don't plan with e^k; take "
            "the measured row."
        )


def _longer_bursts_lose_more(rows: Sequence[AtDistance]) -> Iterator[str]:
    def place(row: AtDistance) -> tuple[str, str, int, float]:
        return row.listener or "", row.bearer, row.size_bytes, row.from_m

    places = [list(group) for _, group in groupby(sorted((r for r in rows if r.listener), key=place), key=place)]
    several = [group for group in places if len(group) > 1]
    bad = [group for group in several if _differ(group) < LEVEL / len(several)]
    if bad:
        group = sorted(bad[0], key=lambda row: row.packets or 0)
        text = ", ".join(f"{100 * row.loss:.2g} % of {row.packets}" for row in group)
        yield (
            f"at {len(bad)} of {len(several)} places and listeners the loss depends on how many packets a run has, "
            f"as at {group[0].from_m:g} m ({group[0].listener}): {text}. On the air it should not: look "
            "for a queue that overflows, at the sender or in the receiver."
        )


def _differ(rows: Iterable[AtDistance]) -> float:
    """P(losses so different, if they were one): Pearson."""
    rows = list(rows)
    sent, lost = sum(row.sent for row in rows), sum(row.lost for row in rows)
    if not 0 < lost < sent:
        return 1.0
    p = lost / sent
    return chi_squared_tail(
        sum((row.lost - row.sent * p) ** 2 / (row.sent * p * (1 - p)) for row in rows), len(rows) - 1
    )


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


def _some(bad: Sequence[Pair], all_of_them: Sequence[Pair]) -> str:
    return f"{len(bad)} of {len(all_of_them)} pairs"


def _name(pair: Pair) -> str:
    where = "" if pair.setting.distance_m is None else f" at {pair.setting.distance_m:g} m"
    return f"Bob {pair.bob}, Eve {pair.eve}{where}"
