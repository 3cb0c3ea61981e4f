"""Fragments that wait for one peer's session: in memory, and by what it puts out in the journal."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from bt_selfsecure.node.haoxiao.peer_events import DropFragment, KeepFragment, Outputs
from bt_selfsecure.node.messages import parse

OUTBOX_BYTES: Final = 8 << 20
"""Of one peer's messages, besides their number."""


class FragmentQueue:
    """Holds one peer's fragments, the oldest first. Each fragment has a number; that of its last fragment is a
    message's own."""

    def __init__(
        self, fragments: Iterable[tuple[int, bytes]], out: Outputs, new_number: Callable[[], int] = lambda: 0
    ) -> None:
        """`fragments` are those on disk; `new_number` gives out each number once, ever growing."""
        self._out: Final = out
        self._new_number: Final = new_number
        self._fragments = deque(fragments)
        self._restored = self._fragments[-1][0] if self._fragments else 0
        self._bytes = sum(len(fragment) for _, fragment in self._fragments)
        self.messages = sum(ends_message(fragment) for _, fragment in self._fragments)
        """Those that wait, counting one whose first fragments are gone."""

    def __bool__(self) -> bool:
        return bool(self._fragments)

    def has_room(self, size: int) -> bool:
        """Return whether there is room for a message of so many bytes."""
        return not self._fragments or self._bytes + size <= OUTBOX_BYTES

    def holds(self, number: int) -> bool:
        """Return whether the fragment of this number waits."""
        return any(number == waiting for waiting, _ in self._fragments)

    def put(self, fragments: Iterable[bytes]) -> tuple[int, int]:
        """Take a message's fragments, and note them; return the first one's number and the message's own."""
        numbers = []
        for fragment in fragments:
            number = self._new_number()
            self._out.put(KeepFragment(number, fragment))
            self._fragments.append((number, fragment))
            self._bytes += len(fragment)
            numbers.append(number)
        self.messages += 1
        return numbers[0], numbers[-1]

    def take(self) -> tuple[int, bytes]:
        """Return the oldest fragment and its number, no longer here nor, with the next commit, in the journal."""
        number, fragment = self._fragments.popleft()
        self._forget(number, fragment)
        return number, fragment

    def take_back(self, first: int, last: int) -> None:
        """Forget the fragments with these numbers: they are not to be sent, nor was any of them."""
        kept = [(number, fragment) for number, fragment in self._fragments if not first <= number <= last]
        for number, fragment in self._fragments:
            if first <= number <= last:
                self._forget(number, fragment)
        self._fragments = deque(kept)

    def drop_begun(self) -> None:
        """Forget the fragments of a message whose first ones are gone, and can't come again."""
        while self._fragments and not begins_message(self._fragments[0][1]):
            _, fragment = self.take()
            if ends_message(fragment):
                break

    def take_restored(self, count: int) -> list[int]:
        """Take so many of those that were on disk at the start, if there are as many; return their numbers."""
        taken: list[int] = []
        while self._fragments and self._fragments[0][0] <= self._restored and len(taken) < count:
            taken.append(self.take()[0])
        return taken

    def _forget(self, number: int, fragment: bytes) -> None:
        self._bytes -= len(fragment)
        self.messages -= ends_message(fragment)
        self._out.put(DropFragment(number))


def begins_message(fragment: bytes) -> bool:
    """Tell whether it is the first fragment of its message."""
    parsed = parse(fragment)
    return parsed is None or parsed.first


def ends_message(fragment: bytes) -> bool:
    """Tell whether it is the last fragment of its message, or the only one."""
    parsed = parse(fragment)
    return parsed is None or not parsed.more
