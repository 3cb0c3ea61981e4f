"""The waits between two tries of something that fails: doubled with each, up to a last one."""

from __future__ import annotations

from typing import Final

FIRST_RETRY_S: Final = 1.0
LAST_RETRY_S: Final = 60.0
"""Seconds between two tries: at least the first, and at most what doubles with each up to the last."""
_MOST_DOUBLINGS: Final = 32


def doubled(first: float, last: float, failures: int) -> float:
    """Return the longest wait after so many failures in a row that were waited for already."""
    return min(first * (1 << min(failures, _MOST_DOUBLINGS)), last)


class BackOff:
    """Says when to try again: exponential, with full jitter, so that many that failed together do not try together."""

    def __init__(self, first: float = FIRST_RETRY_S, last: float = LAST_RETRY_S) -> None:
        self.until = 0.0
        """Time before which there is to be no try."""
        self.failures = 0
        """In a row."""
        self._first, self._last = first, last

    def failed(self, now: float, jitter: float) -> None:
        """Wait for longer than before; `jitter` is drawn from 0 to 1."""
        self.failures += 1
        self.until = now + self._first + jitter * (doubled(self._first, self._last, self.failures) - self._first)

    def reset(self) -> None:
        """Try at once, and wait for little after that."""
        self.until, self.failures = 0.0, 0
