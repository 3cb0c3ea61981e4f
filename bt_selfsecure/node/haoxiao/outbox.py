"""Fragments that wait for one peer's session: in memory, and in the journal."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

from bt_selfsecure.node.journal import Journal
from bt_selfsecure.node.messages import parse

OUTBOX_BYTES: Final = 8 << 20
"""Of one peer's messages, besides their number."""


class Outbox:
    """One peer's, the oldest first. Each fragment has a number; that of its last fragment is a message's own."""

    def __init__(self, journal: Journal, address: str) -> None:
        self._journal, self._address = journal, address
        self.dropped = 0
        """Messages that the disk had damaged, at the start."""
        self._fragments = deque(self._whole())
        self._restored = self._fragments[-1][0] if self._fragments else 0
        self._bytes = sum(len(fragment) for _, fragment in self._fragments)
        self.messages = sum(ends_message(fragment) for _, fragment in self._fragments)
        """Those that wait, counting one whose first fragments are gone."""

    def __bool__(self) -> bool:
        return bool(self._fragments)

    def has_room(self, size: int) -> bool:
        """For a message of so many bytes."""
        return not self._fragments or self._bytes + size <= OUTBOX_BYTES

    def _whole(self) -> Iterator[tuple[int, bytes]]:
        """What the journal has, without the messages of which a fragment is damaged."""
        ours = {row.id for row in self._journal.damaged_of(self._address, "outbox") if row.peer}
        for message in _messages(self._journal.outbox(self._address)):
            whole = [(number, fragment) for number, fragment in message if fragment is not None]
            if len(whole) == len(message):
                yield from whole
                continue
            self.dropped += bool(whole or ours.intersection(number for number, _ in message))
            for number, _ in whole:
                self._journal.delete(self._address, "outbox", number)

    def put(self, fragments: Iterable[bytes]) -> int:
        """Note a message's fragments in the journal; the message's number."""
        number = 0
        for fragment in fragments:
            number = self._journal.insert(self._address, "outbox", self._address, fragment)
            self._fragments.append((number, fragment))
            self._bytes += len(fragment)
        self.messages += 1
        return number

    def take(self) -> tuple[int, bytes]:
        """The oldest fragment and its number, no longer here nor, with the next commit, in the journal."""
        number, fragment = self._fragments.popleft()
        self._bytes -= len(fragment)
        self.messages -= ends_message(fragment)
        self._journal.delete(self._address, "outbox", number)
        return number, fragment

    def take_back(self, first: int) -> None:
        """The fragments with this number and later ones are not to be sent; nor was any of them."""
        while self._fragments and self._fragments[-1][0] >= first:
            number, fragment = self._fragments.pop()
            self._bytes -= len(fragment)
            self.messages -= ends_message(fragment)
            self._journal.delete(self._address, "outbox", number)

    def drop_begun(self) -> None:
        """The fragments of a message whose first ones are gone, and can't come again."""
        while self._fragments and not _begins_message(self._fragments[0][1]):
            _, fragment = self.take()
            if ends_message(fragment):
                break

    def take_restored(self, count: int) -> list[int]:
        """Take so many of those that were here when this node started, if there are as many; their numbers."""
        taken: list[int] = []
        while self._fragments and self._fragments[0][0] <= self._restored and len(taken) < count:
            taken.append(self.take()[0])
        return taken


def _messages(rows: Iterable[tuple[int, bytes | None]]) -> Iterator[list[tuple[int, bytes | None]]]:
    """The rows of each message. Of a damaged one only its place is known: it goes with those beside it."""
    message: list[tuple[int, bytes | None]] = []
    ended = True
    for number, fragment in rows:
        if message and (ended or (fragment is not None and _begins_message(fragment))):
            yield message
            message = []
        message.append((number, fragment))
        ended = fragment is not None and ends_message(fragment)
    if message:
        yield message


def _begins_message(fragment: bytes) -> bool:
    parsed = parse(fragment)
    return parsed is None or parsed.first


def ends_message(fragment: bytes) -> bool:
    """Tell whether it is the last of its message, or the only one."""
    parsed = parse(fragment)
    return parsed is None or not parsed.more
