"""How long to wait for an answer, by how long answers have taken (RFC 6298)."""

from __future__ import annotations

from typing import Final

ALPHA: Final = 1 / 8
BETA: Final = 1 / 4
DEVIATIONS: Final = 4


class RoundTrip:
    """Smooths measured round trips; `wait` is the retransmission timeout, in seconds, within the bounds given."""

    def __init__(self, least: float, most: float) -> None:
        self.wait = least
        self._least, self._most = least, most
        self._smoothed: float | None = None
        self._deviation = 0.0

    def measured(self, seconds: float) -> None:
        """Take one round trip, of an attempt that its answer names (2.2, 2.3)."""
        if self._smoothed is None:
            self._smoothed, self._deviation = seconds, seconds / 2
        else:
            self._deviation += BETA * (abs(self._smoothed - seconds) - self._deviation)
            self._smoothed += ALPHA * (seconds - self._smoothed)
        self.wait = min(max(self._smoothed + DEVIATIONS * self._deviation, self._least), self._most)
