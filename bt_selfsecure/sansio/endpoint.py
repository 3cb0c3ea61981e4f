"""What every endpoint has: the verbs by which it is driven, and the queue of its events."""

from __future__ import annotations

from collections import deque
from typing import Final, Generic, Protocol, TypeVar

from bt_selfsecure.sansio.events import FrameRejected, Rejection

Event = TypeVar("Event")
Told = TypeVar("Told", covariant=True)


class Endpoint(Protocol[Told]):
    """`now` is float seconds of any clock that does not go back; an endpoint has none. `Told` are its events."""

    def receive_frame(self, data: bytes, now: float) -> None:
        """Take one datagram from the air. Never raises for what it contains."""
        ...

    def frames_to_send(self, now: float) -> list[bytes]:
        """Return the datagrams that are due, in order, each once."""
        ...

    def get_timer(self) -> float | None:
        """Return the time at which `handle_timer` and `frames_to_send` want to be called again, or None."""
        ...

    def handle_timer(self, now: float) -> None:
        """Do what is due at the deadline or later; before it, nothing."""
        ...

    def next_event(self) -> Told | None:
        """Return the oldest event that was not taken yet, and forget it; None where there is none."""
        ...


def earliest(one: float | None, other: float | None) -> float | None:
    """Return the earlier of two deadlines, of which there may be none."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


class EventQueue(deque[Event | FrameRejected], Generic[Event]):
    """Holds events in order, and the count of rejected frames by reason. When `most` wait, it drops what strangers
    cause. It is a deque, so that it costs no more to put an event, and can be copied with its endpoint."""

    def __init__(self, most: int = 0) -> None:  # 0: as a deque is made when it is copied, and then gets its fields
        super().__init__()
        self._most: Final = most
        self.rejections: Final[dict[Rejection, int]] = dict.fromkeys(Rejection, 0)

    put = deque.append
    """Adds an event that the endpoint decides on."""

    def put_if_room(self, event: Event | FrameRejected) -> None:
        """Add an event that a stranger can cause at will."""
        if len(self) < self._most:
            self.append(event)

    def reject(self, reason: Rejection, detail: str = "") -> None:
        """Count and tell a frame from the air that changed nothing."""
        self.rejections[reason] += 1
        self.put_if_room(FrameRejected(reason, detail))

    def take(self) -> Event | FrameRejected | None:
        """Return the oldest event, and forget it; None where there is none."""
        return self.popleft() if self else None
