"""Losses that come in bursts: a model fitted to a loss sequence, and whether it is likelier than independence."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, Self

from bt_selfsecure.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable


class GilbertElliottFit(NamedTuple):
    """Fits a two-state Markov chain to a loss sequence, in the simple Gilbert variant: bad = lost, good = received.

    Maximum likelihood from the counts of successive pairs (Gilbert 1960). Elliott (1963) adds losses in the good state,
    which hide the state: that model has no closed-form fit, and is not fitted here.
    """

    p: float
    """P(good -> bad): a burst of losses begins."""
    r: float
    """P(bad -> good): it ends. 0 if the only burst reaches the end of the sequence."""
    log_likelihood: float
    """Of all symbols after the first, natural logarithm."""
    bernoulli_log_likelihood: float
    """Of the same symbols, if losses were independent."""

    @classmethod
    def of(cls, lost: Iterable[bool]) -> Self:
        """Fit to `lost`, one truth value a packet, in order. UsageError unless some are lost and some are not."""
        counts = [[0, 0], [0, 0]]
        for before, after in pairwise(lost):
            counts[bool(before)][bool(after)] += 1
        return cls.of_steps(*counts[0], *counts[1])

    @classmethod
    def of_steps(cls, good_good: int, good_bad: int, bad_good: int, bad_bad: int) -> Self:
        """Fit to the counts of two successive packets, by what became of the first and of the second."""
        if not good_good + good_bad or not bad_good + bad_bad:
            raise UsageError(
                "a loss sequence without both a loss and a reception has no bursts to fit: record more packets"
            )
        return cls(
            p=good_bad / (good_good + good_bad),
            r=bad_good / (bad_good + bad_bad),
            log_likelihood=_log_likelihood(good_good, good_bad) + _log_likelihood(bad_good, bad_bad),
            bernoulli_log_likelihood=_log_likelihood(good_good + bad_good, good_bad + bad_bad),
        )

    @property
    def loss(self) -> float:
        """Return P(lost) in the long run, p / (p + r)."""
        return self.p / (self.p + self.r) if self.p + self.r else math.nan

    @property
    def mean_burst(self) -> float:
        """Return the mean length of a run of losses in packets, 1 / r. Independent losses have 1 / (1 - loss)."""
        return 1 / self.r if self.r else math.inf

    @property
    def p_value(self) -> float:
        """Return P(so large a gain in likelihood, if losses were independent): likelihood-ratio test,
        chi-squared(1)."""
        return math.erfc(math.sqrt(max(0.0, self.log_likelihood - self.bernoulli_log_likelihood)))


def _log_likelihood(*counts: int) -> float:
    total = sum(counts)
    return sum(count * math.log(count / total) for count in counts if count)
