"""Which numbers came: the newest, and of some before it each one."""

from __future__ import annotations

from typing import Final


class Window:
    """Remembers `size` numbers up to the newest; older ones count as come. Up to `most_skipped` may be skipped at
    once."""

    def __init__(self, size: int, most_skipped: int, following: int = 0, seen: int = 0) -> None:
        self._size: Final = size
        self._most_skipped: Final = most_skipped
        self.following = following
        """The number after the newest."""
        self.seen = seen
        """Bit i: whether number following - 1 - i came."""

    @property
    def oldest(self) -> int:
        """Return the oldest number that can still come."""
        return max(0, self.following - self._size)

    def is_old(self, number: int, count: int = 1) -> bool:
        """Return whether any of `count` numbers from this one on came, or is too old to be known."""
        if number < self.oldest:
            return True
        shift = self.following - number - count
        bits = (1 << count) - 1
        return bool(self.seen & (bits << shift if shift >= 0 else bits >> -shift))

    def is_too_far(self, number: int, count: int = 1) -> bool:
        """Return whether it would skip more than may be lost in a row."""
        return number + count > self.following + self._most_skipped

    def mark(self, number: int, count: int = 1) -> None:
        """Note that these numbers came."""
        ahead = number + count - self.following
        if ahead > 0:
            self.seen = self.seen << ahead & (1 << self._size) - 1
            self.following += ahead
        self.seen |= ((1 << count) - 1) << self.following - number - count
        self.seen &= (1 << self._size) - 1
