"""Counts of a run, or of many of one kind: enough for the live picture and to stop early.

A place's runs are pooled for both, which is a mean: what a key of one of them is worth, `analysis` says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Self

from bt_selfsecure.stats.losses import clopper_pearson
from bt_selfsecure.sweep.orders import RunReception


@dataclass(frozen=True, slots=True)
class Tally:
    """These are the packets that left the sender, by receiver, and what became of them."""

    sent: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    """In the air."""
    bob_heard: Counter[str] = field(default_factory=Counter)
    """By Eve: packets that Bob heard and that were sent to her too."""
    eve_missed: Counter[str] = field(default_factory=Counter)
    """By Eve: those of them that she did not."""
    queued: int = 0
    """Packets that never left the sender, all receivers together."""

    @classmethod
    def of(cls, receptions: Mapping[str, RunReception], bob: str) -> Self:
        """Return the tally of one run."""
        tally = cls(queued=sum(len(reception.queued) for reception in receptions.values()))
        heard_by_bob = receptions[bob].copies
        for name, reception in receptions.items():
            left = [seq for seq in range(len(reception.copies)) if seq not in reception.queued]
            tally.sent[name] = len(left)
            tally.lost[name] = sum(not reception.copies[seq] for seq in left)
            if name != bob:
                both = [seq for seq in left if heard_by_bob[seq]]
                tally.bob_heard[name] = len(both)
                tally.eve_missed[name] = sum(not reception.copies[seq] for seq in both)
        return tally

    @classmethod
    def sum(cls, tallies: Iterable[Tally]) -> Self:
        total, queued = cls(), 0
        for tally in tallies:
            for name in ("sent", "lost", "bob_heard", "eve_missed"):
                getattr(total, name).update(getattr(tally, name))
            queued += tally.queued
        return cls(total.sent, total.lost, total.bob_heard, total.eve_missed, queued)

    def losses(self) -> dict[str, tuple[float, float, float]]:
        """Return, by receiver, its loss and the 95 % interval (Clopper and Pearson)."""
        return {name: _share(self.lost[name], sent) for name, sent in self.sent.items() if sent}

    def eve_losses(self) -> dict[str, tuple[float, float, float]]:
        """Return, by Eve, e|B: what she missed of what Bob heard, likewise."""
        return {name: _share(self.eve_missed[name], heard) for name, heard in self.bob_heard.items() if heard}


@lru_cache(maxsize=4096)
def _share(count: int, of: int) -> tuple[float, float, float]:
    return (count / of, *clopper_pearson(count, of))


def narrow_enough(tally: Tally, width: float) -> bool:
    """Return whether all intervals are no wider than `width`; False before anything was heard."""
    intervals = [*tally.losses().values(), *tally.eve_losses().values()]
    complete = bool(tally.sent) and len(tally.eve_losses()) == len(tally.sent) - 1
    return complete and all(high - low <= width for _, low, high in intervals)
