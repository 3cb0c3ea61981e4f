"""What every endpoint of the core has: the verbs by which it is driven, and the queue of its events."""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

from bt_selfsecure.core import limits
from bt_selfsecure.core.events import Event, FrameRejected, Rejection
from bt_selfsecure.core.frames import Frame, FrameError, Profile, decode


class Endpoint(Protocol):
    """`now` is float seconds of any clock that does not go back; the core has none."""

    def receive_frame(self, data: bytes, now: float) -> None:
        """One datagram from the air. Never raises for what it contains."""
        ...

    def frames_to_send(self, now: float) -> list[bytes]:
        """The datagrams that are due, in order; each is given once."""
        ...

    def get_timer(self) -> float | None:
        """When `handle_timer` and `frames_to_send` want to be called again, or None."""
        ...

    def handle_timer(self, now: float) -> None:
        """To be called at the deadline or later; before it, it does nothing."""
        ...

    def next_event(self) -> Event | None:
        """The oldest event that was not taken yet."""
        ...


class EventQueue:
    """Events in order, and the count of rejected frames by reason. When full, it drops what strangers can cause."""

    def __init__(self) -> None:
        self._events: Final[deque[Event]] = deque()
        self.rejections: Final[dict[Rejection, int]] = dict.fromkeys(Rejection, 0)

    def put(self, event: Event) -> None:
        """For what an endpoint decides."""
        self._events.append(event)

    def put_if_room(self, event: Event) -> None:
        """For what a stranger can cause at will."""
        if len(self._events) < limits.MAX_EVENTS:
            self._events.append(event)

    def reject(self, reason: Rejection, detail: str = "") -> None:
        """A frame from the air changed nothing."""
        self.rejections[reason] += 1
        self.put_if_room(FrameRejected(reason, detail))

    def take(self) -> Event | None:
        return self._events.popleft() if self._events else None

    def decode(self, data: bytes, profile: Profile) -> Frame | None:
        """The frame, if it is one of this profile; else None, and the rejection is told."""
        try:
            frame = decode(data)
        except FrameError as error:
            self.reject(Rejection.MALFORMED, error.reason.value)
            return None
        if frame.profile is not profile:
            self.reject(Rejection.NOT_FOR_US, f"the other end's profile is {frame.profile.label}")
            return None
        return frame
