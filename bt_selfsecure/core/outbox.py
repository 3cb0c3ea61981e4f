"""The order of things: the state first, then disk, then the air."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from bt_selfsecure.core.endpoint import EventQueue
from bt_selfsecure.core.events import Event, Persist
from bt_selfsecure.core.frames import Frame, encode
from bt_selfsecure.core.recovery import SessionRecord


class Outbox:
    """Frames and events on their way out, each behind the disk write that it waits for."""

    def __init__(self, record: Callable[[], SessionRecord]) -> None:
        self.events: Final = EventQueue()
        self._record: Final = record
        self._frames: Final[deque[tuple[int, bytes]]] = deque()
        self._held: Final[deque[tuple[int, Event]]] = deque()
        self._token = 0
        self._needed = 0  # what leaves from now on waits for this token
        self._persisted = 0

    def persist(self, *, sync: bool) -> None:
        """Ask for the state to be written; with `sync`, whatever is put out after this waits for it."""
        self._token += 1
        if sync:
            self._needed = self._token
        self.events.put(Persist(self._token, self._record(), sync))

    def persisted(self, token: int) -> None:
        self._persisted = max(self._persisted, min(token, self._token))

    def send(self, frame: Frame) -> bytes:
        data = encode(frame)
        self.send_bytes(data)
        return data

    def send_bytes(self, data: bytes) -> None:
        self._frames.append((self._needed, data))

    def tell_when_persisted(self, event: Event) -> None:
        self._held.append((self._needed, event))

    def take_frames(self) -> list[bytes]:
        out = []
        while self._frames and self._frames[0][0] <= self._persisted:
            out.append(self._frames.popleft()[1])
        return out

    def take_event(self) -> Event | None:
        event = self.events.take()
        if event is None and self._held and self._held[0][0] <= self._persisted:
            event = self._held.popleft()[1]
        return event
