"""From counts to what they are worth: losses, joint losses, secret bits.

Everything that concerns secrecy rests on e|B, the share of Bob's packets that Eve missed, and on its lower bound in
each run (see `worth`). The formulas are those of `stats.losses`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from bt_selfsecure.errors import UsageError
from bt_selfsecure.stats.bursts import GilbertElliottFit
from bt_selfsecure.stats.losses import clopper_pearson, lower_bound
from bt_selfsecure.sweep.collusion import collusion
from bt_selfsecure.sweep.counting import Numbers, SettingCounts, count, table
from bt_selfsecure.sweep.doubts import doubts
from bt_selfsecure.sweep.each_run import InRuns, OneRuns, number_or_none
from bt_selfsecure.sweep.results import DAMAGED, Analysis, AtDistance, Fit, InRun, Judged, ListenerLosses, Pair, Rows
from bt_selfsecure.sweep.statistics import phi_interval
from bt_selfsecure.sweep.store import Store
from bt_selfsecure.sweep.worth import needed, to_send, together, verdict

MOST_DISTANCES = 24
"""More different ones are put together in steps of `STEP_M`."""
STEP_M = 2.0
FEW_RUNS = 5_000
"""Of so many the rows are made once, and kept; of more whenever they are read."""
Kind = tuple[str, int, int, tuple[tuple[str, str], ...]]
"""Bearer, bytes, packets (0: any) and conditions."""


def analyse(
    store: Store,
    progress: Callable[[int, int], None] = lambda done, all_of_them: None,
    listeners: Sequence[str] = (),
    *,
    damaged: str = DAMAGED[0],
) -> Analysis:
    """Return everything that the sweep's runs tell; of these `listeners` only, if any are named. `progress` is told the
    runs done and to do. What Eve has `damaged` copies of counts as heard, or as lost. Raises `UsageError` without a
    run, or with a listener that no run has."""
    settings = count(store, progress, listeners, damaged_heard=damaged == DAMAGED[0])
    pairs = [pair for one in settings for pair in _pairs(one)]
    colluding = [collusion(one) for one in settings]
    runs = sum(len(one.runs) for one in settings)
    analysis = Analysis(
        sweep=store.path.name,
        runs=runs,
        withdrawn=store.count(withdrawn=True) - runs,
        lost_in_queue=sum(sum(one.queued_in) for one in settings),
        pairs=pairs,
        listeners=[listener for one in settings for listener in _listeners(one)],
        colluding=[row for rows, _ in colluding for row in rows],
        shares=[share for _, shares in colluding for share in shares],
        loss_by_distance=_by_distance(settings),
        each_run=Rows(list(OneRuns(one)) if runs <= FEW_RUNS else OneRuns(one) for one in settings),
        roles=_roles(settings),
        damaged=damaged,
    )
    analysis.warnings.extend(doubts(analysis))
    return analysis


def _listeners(one: SettingCounts) -> Iterator[ListenerLosses]:
    sent, heard, in_each = one.sent, one.heard(), one.both.diagonal(axis1=1, axis2=2)
    for index, name in enumerate(one.key.listeners):
        lost = sent - int(heard[index])
        low, high = clopper_pearson(lost, sent)
        weights = in_each[:, index].astype(np.float64)
        metres = [at for who, at in one.distances if who == name]
        yield ListenerLosses(
            one.key.setting,
            name,
            _distance(one, name),
            min(metres, default=None),
            max(metres, default=None),
            sent,
            sent - lost,
            lost / sent if sent else 1.0,
            low,
            high,
            dict(sorted(one.bursts[index].items())),
            _fit(one.loss_steps[index]),
            one.loss_windows[index].p_value,
            _mean(one.rssi[:, index], weights),
            _mean(one.copies[:, index], weights),
        )


def _pairs(one: SettingCounts) -> Iterator[Pair]:
    sent, in_each, in_all, damaged = one.sent, one.both, one.tables().tolist(), one.damaged()
    names = one.key.listeners
    for bob, eve in ((bob, eve) for bob in range(len(names)) for eve in range(len(names)) if bob != eve):
        joint = table(sent, in_all[bob][bob], one.heard_as_eve[eve], in_all[bob][eve])
        ci_low, ci_high = clopper_pearson(joint.bob_only, joint.received)
        phi_low, phi_high = phi_interval(joint)
        heard, missed = in_each[:, bob, bob], in_each[:, bob, bob] - in_each[:, bob, eve]
        runs = InRuns(one, heard, missed)
        worst, longest, least_bound, keys, broken = together(runs.kinds())
        shares = np.sort(missed[heard > 0] / heard[heard > 0])
        has_damaged = damaged[:, bob, eve]
        judged = _judged(heard, missed, worst)
        otherwise = judged
        if has_damaged.any():
            other = missed + has_damaged if one.damaged_heard else missed - has_damaged
            otherwise = _judged(heard, other, together(InRuns(one, heard, other).kinds()).worst)
        expected = sum((1 - joint.e_given_bob) ** by_bob for by_bob in heard.tolist() if by_bob)
        yield Pair(
            setting=one.key.setting,
            bob=names[bob],
            eve=names[eve],
            bob_distance_m=_distance(one, names[bob]),
            eve_distance_m=_distance(one, names[eve]),
            sent=sent,
            bob_heard=joint.received,
            eve_heard=joint.both + joint.eve_only,
            both=joint.both,
            bob_only=joint.bob_only,
            eve_only=joint.eve_only,
            neither=joint.neither,
            eve_missed_given_bob=joint.bob_only,
            d=joint.d,
            e=joint.e,
            e_given_b=joint.e_given_bob if joint.received else None,
            ci_low=ci_low,
            ci_high=ci_high,
            pooled_bound=lower_bound(joint.bob_only, joint.received),
            phi=joint.phi,
            phi_low=phi_low,
            phi_high=phi_high,
            entropy_correlation=joint.entropy_correlation,
            capacity=joint.capacity,
            misses_fit=_fit(one.miss_steps[bob][eve]),
            stationary_p=one.miss_windows[bob][eve].p_value,
            runs=len(runs),
            runs_without_key=len(runs) - keys,
            runs_broken=broken,
            broken_share=broken / keys if keys else None,
            broken_high=1 - lower_bound(keys - broken, keys),
            broken_expected=expected / keys if keys else None,
            each_run=runs,
            least_e_given_b=float(shares[0]) if keys else None,
            median_e_given_b=float(shares[(keys - 1) // 2] + shares[keys // 2]) / 2 if keys else None,
            greatest_e_given_b=float(shares[-1]) if keys else None,
            worst_run=worst.run if worst else None,
            bound=worst.bound if worst else 0.0,
            secret_bits=worst.secret_bits if worst else None,
            packets_needed=needed(least_bound),
            packets_to_send=to_send(longest),
            verdict=verdict(joint.received, joint.bob_only, worst),
            eve_damaged_given_bob=int(has_damaged.sum()),
            eve_hands_on_damaged=one.hands_on_damaged[eve],
            damaged_heard=judged if one.damaged_heard else otherwise,
            damaged_lost=otherwise if one.damaged_heard else judged,
        )


def _judged(heard: Numbers, missed: Numbers, worst: InRun | None) -> Judged:
    by_bob, by_bob_alone = int(heard.sum()), int(missed.sum())
    return Judged(
        by_bob_alone,
        by_bob_alone / by_bob if by_bob else None,
        worst.bound if worst else 0.0,
        worst.secret_bits if worst else None,
        verdict(by_bob, by_bob_alone, worst),
    )


def _by_distance(settings: list[SettingCounts]) -> list[AtDistance]:
    """Return each listener alone where there are few distances, in steps where there are many; and all together."""
    points: list[tuple[Kind, str, float, int, int]] = []
    for one in settings:
        its = one.key.setting
        kind = (its.bearer, its.size_bytes, its.packets or 0, its.conditions)
        points += [(kind, name, metres, sent, heard) for (name, metres), (sent, heard) in one.distances.items()]
    many = len({metres for _, _, metres, _, _ in points}) > MOST_DISTANCES
    sums: dict[tuple[Kind, str, float, float], list[int]] = {}
    for kind, name, metres, sent, heard in points:
        low = metres // STEP_M * STEP_M if many else metres
        for who in ("",) if many else ("", name):
            total = sums.setdefault((kind, who, low, low + STEP_M if many else low), [0, 0])
            total[0] += sent
            total[1] += sent - heard
    rows = []
    for ((bearer, size, packets, so), who, low, high), (sent, lost) in sorted(sums.items()):
        interval = clopper_pearson(lost, sent)
        loss = lost / sent if sent else 1.0
        rows.append(AtDistance(who or None, bearer, size, packets or None, so, low, high, sent, lost, loss, *interval))
    return rows


def _roles(settings: list[SettingCounts]) -> dict[str, dict[str, str]]:
    told: dict[tuple[str, str], set[str]] = {}
    for one in settings:
        for name, parts in one.roles.items():
            told.setdefault((one.key.setting.sender, name), set()).update(parts)
    by_sender: dict[str, dict[str, str]] = {}
    for (sender, name), parts in told.items():
        if len(parts) == 1:
            by_sender.setdefault(sender, {})[name] = parts.pop()
    return by_sender


def _distance(one: SettingCounts, name: str) -> float | None:
    """Return the distance of a listener, if it had one and the same in all runs."""
    metres = {metres for who, metres in one.distances if who == name}
    return metres.pop() if len(metres) == 1 else None


def _fit(steps: Sequence[int]) -> Fit | None:
    try:
        fit = GilbertElliottFit.of_steps(*steps)
    except UsageError:  # nothing was lost, or nothing heard
        return None
    return Fit(fit.p, fit.r, number_or_none(fit.mean_burst), fit.p_value)


def _mean(values: np.ndarray, weights: np.ndarray) -> float | None:
    known = ~np.isnan(values) & (weights > 0)
    return float(np.average(values[known], weights=weights[known])) if known.any() else None
