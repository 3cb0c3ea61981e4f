"""The order of things: the state first, then disk, then the air."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from bt_selfsecure.sansio.endpoint import EventQueue
from bt_selfsecure.sansio.events import Kept, Persist

Queue = TypeVar("Queue", bound=EventQueue[Any])
Record = TypeVar("Record")


class Outbox(Generic[Queue, Record]):
    """Holds frames on their way out, each behind the disk write that it waits for, and events.

    One frame of each kind waits at most: the next of its kind replaces it, as on the air the later one counts.
    """

    def __init__(self, events: Queue, keep: Callable[[], Kept[Record]]) -> None:
        self.events: Final = events
        self.keep: Final = keep
        """Keeps the state as it is."""
        self._frames: Final[dict[int, tuple[int, bytes]]] = {}  # by first octet: version and kind
        self._token = 0
        self._needed = 0  # what leaves from now on waits for this token
        self._needed_before = 0  # and waited for before that
        self._persisted = 0

    def persist(self, *, sync: bool) -> None:
        """Ask for the state to be written; with `sync`, whatever is put out after this waits for it."""
        self.events.put(Persist(self.token(sync), self.keep(), sync))

    def token(self, sync: bool) -> int:
        """Return the token of a change that is told now; with `sync`, whatever is put out after this waits for it."""
        token = self._token = self._token + 1
        if sync:
            self._needed_before, self._needed = self._needed, token
        return token

    def persisted(self, token: int) -> None:
        """Release what waits for the record with this token, or an earlier one."""
        if token > self._token:  # nobody was asked for that one yet
            token = self._token
        if token > self._persisted:
            self._persisted = token

    def send(self, data: bytes) -> bytes:
        """Put this frame out, behind what was last asked to be written; return it, to be kept for a repetition."""
        waiting = self._frames.get(data[0])
        if waiting is None or waiting[1] != data:
            self._frames[data[0]] = (self._needed, data)
        return data

    def take_back(self, data: bytes, *, synced: bool) -> bool:
        """Return whether this datagram was still here; now it is not. With `synced` a record was asked for on its
        account, which may never be written: what else waits for that record waits for the one before."""
        token, waiting = self._frames.get(data[0], (0, b""))
        if waiting != data:
            return False
        del self._frames[data[0]]
        if synced and token == self._needed:
            self._needed = self._needed_before
            for kind, (needed, frame) in self._frames.items():
                self._frames[kind] = min(needed, self._needed), frame
        return True

    def clear(self) -> None:
        """Forget the frames that have not left."""
        self._frames.clear()

    def frames_to_send(self, now: float) -> list[bytes]:
        """Return the frames that wait for no record any more, and forget them."""
        frames = self._frames
        if len(frames) == 1 and self._needed <= self._persisted:  # as nearly always
            return [frames.popitem()[1][1]]
        kinds = [kind for kind, (needed, _) in frames.items() if needed <= self._persisted]
        return [frames.pop(kind)[1] for kind in kinds]
