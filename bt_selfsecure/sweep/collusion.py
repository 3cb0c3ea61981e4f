"""Eves who put together what they heard: of every number of them those who are best at it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from bt_selfsecure.stats.losses import lower_bound
from bt_selfsecure.sweep.counting import MOST_TOGETHER, Numbers, SettingCounts
from bt_selfsecure.sweep.each_run import InRuns
from bt_selfsecure.sweep.results import Collusion, Share
from bt_selfsecure.sweep.worth import needed, together


@dataclass(frozen=True, slots=True)
class Sets:
    """These are the sets of Eves against one Bob that are judged: all; of too many listeners, each alone and all
    together. No set is better than all of them together, so that bounds those which are left out."""

    bob: int
    words: Sequence[int] | Numbers
    """Bit i for listener i; the smallest sets first."""
    eves: list[int]
    """The numbers of Eves that there are."""
    first: list[int]
    """Where in `words` each of these begins."""

    @classmethod
    def of(cls, listeners: int, bob: int) -> Self:
        others = [index for index in range(listeners) if index != bob]
        if listeners > MOST_TOGETHER:
            words = [*(1 << index for index in others), sum(1 << index for index in others)]
            return cls(bob, words, [1, len(others)], [0, len(others)])
        sets = np.arange(1, 1 << listeners)
        sets = sets[(sets >> bob & 1) == 0]
        sizes = np.array([int(each).bit_count() for each in sets])
        order = np.argsort(sizes, kind="stable")
        eves = list(range(1, listeners))
        return cls(bob, sets[order], eves, np.searchsorted(sizes[order], eves).tolist())

    def missed(self, one: SettingCounts, number: int, unheard: Numbers) -> Numbers:
        """Return, of each set, the packets that Bob heard and all of the set missed, in a run. `unheard` is the
        run's."""
        if len(one.key.listeners) > MOST_TOGETHER:
            by_bob = one.both[number, self.bob]
            return np.append(by_bob[self.bob] - np.delete(by_bob, self.bob), one.alone[number, self.bob])
        missed: Numbers = unheard[self.words] - unheard[np.bitwise_or(self.words, 1 << self.bob)]
        if (damaged := one.damaged_at(number, self.bob)) is not None:
            missed = missed - damaged[self.words]  # Bob did not hear them
        return missed

    def least(self, values: Numbers, nth: int) -> int:
        """Return which set of the nth number of Eves has the least."""
        begin, *_ = bounds = [*self.first[nth:], len(self.words)]
        return begin + int(np.argmin(values[begin : bounds[1]]))

    def members(self, index: int) -> list[int]:
        return [bit for bit in range(int(self.words[index]).bit_length()) if int(self.words[index]) >> bit & 1]


@dataclass(frozen=True, slots=True)
class Sums:
    """These are sums over the runs, against one Bob."""

    sets: Sets
    missed: Numbers
    """By set: packets that Bob heard and all of it missed."""
    broken: Numbers
    """By set: runs of which it missed none of Bob's packets."""
    least: Numbers
    """What the best set of its size missed, shape (runs, numbers of Eves)."""


def collusion(one: SettingCounts) -> tuple[list[Collusion], list[Share]]:
    """Return, for each Bob and number of Eves, those who are best together; and what is left of the mean of all
    sets."""
    listeners = len(one.key.listeners)
    if listeners < 2:
        return [], []
    against = []
    for bob in range(listeners):
        sets = Sets.of(listeners, bob)
        least = np.empty((len(one.runs), len(sets.eves)), np.int64)
        against.append(Sums(sets, np.zeros(len(sets.words), np.int64), np.zeros(len(sets.words), np.int64), least))
    for number, tables in enumerate(one.both):
        unheard = one.unheard(number)
        for bob, sums in enumerate(against):
            missed = sums.sets.missed(one, number, unheard)
            sums.missed[:] += missed
            sums.broken[:] += (missed == 0) & (tables[bob, bob] > 0)
            sums.least[number] = np.minimum.reduceat(missed, sums.sets.first)
    rows = [row for sums in against for row in _rows(one, sums)]
    first, eves = against[0].sets.first, against[0].sets.eves
    totals = sum(np.add.reduceat(sums.missed, first) for sums in against)
    sets_of = listeners * np.add.reduceat(np.ones(len(against[0].missed)), first)
    shares = totals / sets_of / max(1, one.sent)
    return rows, [Share(one.key.setting, number, float(share)) for number, share in zip(eves, shares, strict=True)]


def _rows(one: SettingCounts, sums: Sums) -> Iterator[Collusion]:
    sets, pooled, broken, least = sums.sets, sums.missed, sums.broken, sums.least
    names, both, bob = one.key.listeners, one.tables().tolist(), sets.bob
    heard = one.both[:, bob, bob]
    received, keys = both[bob][bob], int(np.count_nonzero(heard))
    most_broken = np.maximum.reduceat(broken, sets.first)
    for nth, eves in enumerate(sets.eves):
        at = sets.least(pooled, nth)
        members, lacking = sets.members(at), int(pooled[at])
        each = together(InRuns(one, heard, least[:, nth]).kinds())
        there = one.runs.index(each.worst.run) if each.worst else None
        best: list[int] = []
        if there is not None:
            best = sets.members(sets.least(sets.missed(one, there, one.unheard(there)), nth))
        bound = lower_bound(lacking, received)
        independent = math.prod((received - both[bob][index]) / max(1, received) for index in members)
        yield Collusion(
            setting=one.key.setting,
            bob=names[bob],
            eves=eves,
            worst=tuple(names[index] for index in members),
            bob_heard=received,
            missed_given_bob=lacking,
            e_given_b=lacking / received if received else None,
            pooled_bound=bound,
            if_independent=independent if received else None,
            runs=len(one.runs),
            runs_without_key=len(one.runs) - keys,
            runs_broken=int(most_broken[nth]),
            broken_high=1 - lower_bound(keys - int(most_broken[nth]), keys),
            worst_in_run=tuple(names[index] for index in best),
            in_run=each.worst,
            pooled_packets_needed=needed(bound),
            packets_needed=needed(each.least_bound),
        )
