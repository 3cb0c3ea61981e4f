"""Queues the events of one endpoint, and reads its frames: what is none of its profile is rejected, and told."""

from __future__ import annotations

from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.events import Event
from bt_selfsecure.protocols.haoxiao.frames import Frame, FrameError, Malformed, Profile, decode
from bt_selfsecure.sansio.endpoint import EventQueue
from bt_selfsecure.sansio.events import Rejection


class FrameQueue(EventQueue[Event]):
    """Queues what an initiator, a responder or a session tells, and reads frames for it."""

    def __init__(self) -> None:
        super().__init__(limits.MAX_EVENTS)

    def decode(self, data: bytes, profile: Profile) -> Frame | None:
        """Return the frame, if it is one of this profile; else None, and the rejection is told."""
        try:
            frame = decode(data)
        except FrameError as error:
            if error.reason is Malformed.RETIRED:
                self.retired(data)
            else:
                self.reject(Rejection.MALFORMED, error.reason.value)
            return None
        if frame.profile is not profile:
            self.refuse(frame)
            return None
        return frame

    def retired(self, data: bytes) -> None:
        """Tell a frame of a version that is not spoken any more."""
        self.reject(Rejection.NOT_FOR_US, Malformed.RETIRED.value)

    def refuse(self, foreign: Frame) -> None:
        """Tell a frame of another profile."""
        self.reject(Rejection.NOT_FOR_US, f"the other end's profile is {foreign.profile.label}")
