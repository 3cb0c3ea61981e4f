"""Tests and intervals beyond `stats.losses`: how far a sweep's figures can be believed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bt_selfsecure.stats.losses import JointLoss

WINDOW = 100
"""Packets over which a loss is averaged when it is asked whether it stays the same."""


def chi_squared_tail(x: float, degrees: int) -> float:
    """Return P(X >= x), X chi-squared with so many degrees of freedom: Wilson and Hilferty's cube root (PNAS 17, 1931).

    Good to about 0.001 absolute from 3 degrees of freedom on: enough for a warning. 1 if there is no freedom.
    """
    if degrees < 1 or x <= 0:
        return 1.0
    spread = 2 / (9 * degrees)
    return math.erfc(((x / degrees) ** (1 / 3) - (1 - spread)) / math.sqrt(2 * spread)) / 2


def phi_interval(table: JointLoss, z: float = 1.959964) -> tuple[float, float]:
    """Return the interval of the correlation of two losses at z standard errors, 95 % by default; (-1, 1) where it is
    undefined.

    Delta method for the phi coefficient (Bishop, Fienberg and Holland, Discrete Multivariate Analysis, 1975, 11.2),
    packets independent of each other; fair when each cell of the table expects five packets or more.
    """
    n = table.sent
    d, e = table.d, table.e
    if not (0 < d < 1 and 0 < e < 1 and n):
        return -1.0, 1.0
    phi = table.phi
    bob, eve = (1 - 2 * d) / math.sqrt(d * (1 - d)), (1 - 2 * e) / math.sqrt(e * (1 - e))
    variance = 1 - phi**2 + phi * (1 + phi**2 / 2) * bob * eve - 0.75 * phi**2 * (bob**2 + eve**2)
    half = z * math.sqrt(max(0.0, variance) / n)
    return max(-1.0, phi - half), min(1.0, phi + half)


@dataclass(slots=True)
class Windows:
    """Misses counted window by window, for Pearson's test that all windows have one loss."""

    squares: float = 0.0
    """Sum over the windows of misses^2 / packets."""
    missed: int = 0
    packets: int = 0
    windows: int = 0

    @property
    def p_value(self) -> float | None:
        """Return P(windows so different, if their loss were the same); None with too few windows or misses to say.

        Losses that come in bursts make windows differ too. Pearson's approximation wants misses to be expected in each
        window: here one on average or more.
        """
        if self.windows < 4 or min(self.missed, self.packets - self.missed) < self.windows:
            return None
        p = self.missed / self.packets
        return chi_squared_tail((self.squares - self.missed * p) / (p * (1 - p)), self.windows - 1)
