"""From counts to what they are worth: losses, joint losses, colluding Eves, secret bits.

Everything that concerns secrecy rests on e|B, the share of Bob's packets that Eve missed, and on its lower bound. The
formulas are those of `core.losses`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from bt_selfsecure.core.losses import (
    GilbertElliottFit,
    clopper_pearson,
    lower_bound,
    packets_needed,
    packets_to_send,
    secret_bits,
)
from bt_selfsecure.errors import UsageError
from bt_selfsecure.sweep.counting import Counts, Numbers, count, table
from bt_selfsecure.sweep.doubts import doubts
from bt_selfsecure.sweep.results import (
    BITS,
    Analysis,
    AtDistance,
    Collusion,
    Fit,
    Listener,
    OneRun,
    Pair,
    Setting,
    Share,
)
from bt_selfsecure.sweep.statistics import phi_interval
from bt_selfsecure.sweep.store import Store

MOST_DISTANCES = 24
"""More different ones are put together in steps of `STEP_M`."""
STEP_M = 2.0
SURE = 0.99
MOST_PACKETS = 10**9


def analyse(store: Store, progress: Callable[[int, int], None] = lambda done, all_of_them: None) -> Analysis:
    """Everything that the sweep's runs tell. `progress` is told the runs done and to do. UsageError without a run."""
    settings = count(store, progress)
    pairs = [pair for one in settings for pair in _pairs(one)]
    listeners = [listener for one in settings for listener in _listeners(one)]
    colluding = [row for one in settings for row in _collusion(one)]
    runs = sum(len(one.runs) for one in settings)
    analysis = Analysis(
        sweep=store.path.name,
        runs=runs,
        withdrawn=len(store.runs(withdrawn=True)) - runs,
        lost_in_queue=sum(run.lost_in_queue for one in settings for run in one.runs),
        pairs=pairs,
        listeners=listeners,
        colluding=colluding,
        shares=[share for one in settings for share in _shares(one)],
        loss_by_distance=_by_distance(settings),
        each_run=[row for one in settings for row in _each_run(one)],
        roles=_roles(settings),
    )
    analysis.warnings.extend(doubts(analysis))
    return analysis


def setting_of(one: Counts) -> Setting:
    """The setting, without who listened where."""
    key = one.key
    return Setting(key.distance_m, key.bearer, key.size_bytes, key.packets, key.sender, key.tx_power_dbm)


def _listeners(one: Counts) -> Iterator[Listener]:
    sent, heard = one.sent, one.heard()
    for index, name in enumerate(one.key.listeners):
        lost = sent - int(heard[index])
        low, high = clopper_pearson(lost, sent)
        weights = np.array([run.heard[index] for run in one.runs], np.float64)
        yield Listener(
            setting_of(one),
            name,
            _distance(one, name),
            sent,
            sent - lost,
            lost / sent if sent else 1.0,
            low,
            high,
            dict(sorted(one.bursts[index].items())),
            _fit(one.loss_steps[index]),
            one.loss_windows[index].p_value,
            _mean(np.array([run.rssi[index] for run in one.runs]), weights),
            _mean(np.array([run.copies[index] for run in one.runs]), weights),
        )


def _pairs(one: Counts) -> Iterator[Pair]:
    both, sent = one.tables(), one.sent
    names = one.key.listeners
    for bob, eve in ((bob, eve) for bob in range(len(names)) for eve in range(len(names)) if bob != eve):
        joint = table(sent, both, bob, eve)
        ci_low, ci_high = clopper_pearson(joint.bob_only, joint.received)
        bound = lower_bound(joint.bob_only, joint.received)
        phi_low, phi_high = phi_interval(joint)
        runs = [table(run.sent, run.both, bob, eve) for run in one.runs]
        broken = sum(run.bob_only == 0 for run in runs)
        bits = min(
            secret_bits(run.received, bound, missed_entropy=8 * one.key.size_bytes * run.bob_only) for run in runs
        )
        needed = _needed(bound)
        yield Pair(
            setting=setting_of(one),
            bob=names[bob],
            eve=names[eve],
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
            e_given_b=joint.e_given_bob,
            ci_low=ci_low,
            ci_high=ci_high,
            bound=bound,
            phi=joint.phi,
            phi_low=phi_low,
            phi_high=phi_high,
            entropy_correlation=joint.entropy_correlation,
            capacity=joint.capacity,
            misses_fit=_fit(one.miss_steps[bob, eve]),
            stationary_p=one.miss_windows[bob][eve].p_value,
            runs=len(runs),
            runs_broken=broken,
            broken_share=broken / len(runs),
            broken_high=1 - lower_bound(len(runs) - broken, len(runs)),
            broken_expected=sum((1 - joint.e_given_bob) ** run.received for run in runs) / len(runs),
            secret_bits=bits,
            packets_needed=needed,
            packets_to_send={name: _to_send(packets, joint.d) for name, packets in needed.items()},
            verdict="broken" if joint.bob_only == 0 else "weak" if bits < BITS[-1] else "holds",
        )


def _missed_by_all(one: Counts, bob: int) -> tuple[Numbers, Numbers]:
    """Sets of Eves, as words without Bob's bit, and the packets that Bob heard and all of the set missed."""
    unheard = one.unheard()
    sets = np.arange(len(unheard))
    sets = sets[(sets >> bob & 1) == 0]
    return sets, unheard[sets] - unheard[sets | 1 << bob]


def _sizes(sets: Numbers) -> Numbers:
    return np.array([int(each).bit_count() for each in sets])


def _collusion(one: Counts) -> Iterator[Collusion]:
    names, heard, both = one.key.listeners, one.heard(), one.tables()
    for bob, name in enumerate(names):
        sets, missed = _missed_by_all(one, bob)
        sizes, received = _sizes(sets), int(heard[bob])
        for eves in range(1, len(names)):
            chosen = sizes == eves
            at = int(np.argmin(np.where(chosen, missed, np.iinfo(np.int64).max)))
            word, lacking = int(sets[at]), int(missed[at])
            members = [index for index in range(len(names)) if word >> index & 1]
            bound = lower_bound(lacking, received)
            broken = sum(
                int(run.counts[(run.words >> bob & 1 == 1) & (run.words & word == 0)].sum()) == 0 for run in one.runs
            )
            yield Collusion(
                setting_of(one),
                name,
                eves,
                tuple(names[index] for index in members),
                received,
                lacking,
                lacking / received if received else 0.0,
                bound,
                math.prod(table(one.sent, both, bob, index).e_given_bob for index in members),
                len(one.runs),
                broken,
                1 - lower_bound(len(one.runs) - broken, len(one.runs)),
                _needed(bound),
            )


def _shares(one: Counts) -> Iterator[Share]:
    count_of_eves = len(one.key.listeners) - 1
    totals, sets_of = np.zeros(count_of_eves + 1), np.zeros(count_of_eves + 1)
    for bob in range(len(one.key.listeners)):
        sets, missed = _missed_by_all(one, bob)
        sizes = _sizes(sets)
        totals += np.bincount(sizes, weights=missed)
        sets_of += np.bincount(sizes)
    for eves in range(1, count_of_eves + 1):
        yield Share(setting_of(one), eves, float(totals[eves] / sets_of[eves]) / one.sent if one.sent else 0.0)


def _by_distance(settings: list[Counts]) -> list[AtDistance]:
    """Each listener alone where there are few distances, and all together. In steps where there are many."""
    points: list[tuple[tuple[str, int, int], str, float, int, int]] = []
    for one in settings:
        kind = (one.key.bearer, one.key.size_bytes, one.key.packets or 0)
        points += [(kind, name, metres, sent, heard) for (name, metres), (sent, heard) in one.distances.items()]
    many = len({metres for _, _, metres, _, _ in points}) > MOST_DISTANCES
    sums: dict[tuple[tuple[str, int, int], str, float, float], list[int]] = {}
    for kind, name, metres, sent, heard in points:
        low = metres // STEP_M * STEP_M if many else metres
        for who in ("",) if many else ("", name):
            total = sums.setdefault((kind, who, low, low + STEP_M if many else low), [0, 0])
            total[0] += sent
            total[1] += sent - heard
    rows = []
    for ((bearer, size, packets), who, low, high), (sent, lost) in sorted(sums.items()):
        interval = clopper_pearson(lost, sent)
        loss = lost / sent if sent else 1.0
        rows.append(AtDistance(who or None, bearer, size, packets or None, low, high, sent, lost, loss, *interval))
    return rows


def _each_run(one: Counts) -> Iterator[OneRun]:
    for run in one.runs:
        for index, name in enumerate(one.key.listeners):
            yield OneRun(
                run.id,
                setting_of(one),
                name,
                run.info.distances_m.get(name, run.info.distance_m),
                run.started.isoformat() if run.started else None,
                run.sent,
                run.sent - int(run.heard[index]),
                run.lost_in_queue,
                _number(float(run.rssi[index])),
            )


def _roles(settings: list[Counts]) -> dict[str, dict[str, str]]:
    told: dict[tuple[str, str], set[str]] = {}
    for info in (run.info for one in settings for run in one.runs):
        roles = info.notes.get("roles")
        if isinstance(roles, dict):
            for name, part in ((roles.get("bob"), "bob"), *((eve, "eve") for eve in roles.get("eves", ()))):
                told.setdefault((info.sender, str(name)), set()).add(part)
    by_sender: dict[str, dict[str, str]] = {}
    for (sender, name), parts in told.items():
        if len(parts) == 1:
            by_sender.setdefault(sender, {})[name] = parts.pop()
    return by_sender


def _distance(one: Counts, name: str) -> float | None:
    """The distance of a listener, if it had one and the same in all runs."""
    metres = {metres for who, metres in one.distances if who == name}
    return metres.pop() if len(metres) == 1 else None


def _fit(steps: Numbers) -> Fit | None:
    try:
        fit = GilbertElliottFit.of_steps(*(int(step) for step in steps))
    except UsageError:  # nothing was lost, or nothing heard
        return None
    return Fit(fit.p, fit.r, _number(fit.mean_burst), fit.p_value)


def _needed(bound: float) -> dict[str, int | None]:
    return {str(bits): packets_needed(bits, bound) if bound else None for bits in BITS}


def _to_send(needed: int | None, d: float) -> int | None:
    return None if needed is None or needed > MOST_PACKETS or d == 1 else packets_to_send(needed, d, SURE)


def _mean(values: np.ndarray, weights: np.ndarray) -> float | None:
    known = ~np.isnan(values) & (weights > 0)
    return float(np.average(values[known], weights=weights[known])) if known.any() else None


def _number(value: float) -> float | None:
    """JSON has no infinity and no nan."""
    return value if math.isfinite(value) else None
