"""The waits between two tries of something that fails."""

from __future__ import annotations

from typing import Final

FIRST_RETRY_S: Final = 1.0
LAST_RETRY_S: Final = 60.0
"""Seconds between two tries: at least the first, and at most what doubles with each up to the last."""


class BackOff:
    """When to try again: exponential, with full jitter, so that many that failed together do not try together."""

    def __init__(self) -> None:
        self.until = 0.0
        """Time before which there is to be no try."""
        self._wait = FIRST_RETRY_S

    def failed(self, now: float, jitter: float) -> None:
        """Wait for longer than before; `jitter` is drawn from 0 to 1."""
        self._wait = min(2 * self._wait, LAST_RETRY_S)
        self.until = now + FIRST_RETRY_S + jitter * (self._wait - FIRST_RETRY_S)

    def reset(self) -> None:
        """Try at once, and wait for little after that."""
        self.until, self._wait = 0.0, FIRST_RETRY_S
