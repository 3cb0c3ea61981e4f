"""The events of one endpoint, and the reading of its datagrams: what is no message of its profile is told."""

from __future__ import annotations

from bt_selfsecure.protocols.sabour import limits
from bt_selfsecure.protocols.sabour.events import Event
from bt_selfsecure.protocols.sabour.messages import Message, MessageError, Profile, decode
from bt_selfsecure.sansio.endpoint import EventQueue
from bt_selfsecure.sansio.events import Rejection


class MessageQueue(EventQueue[Event]):
    """Is the queue of a client or a server."""

    def __init__(self) -> None:
        super().__init__(limits.MOST_EVENTS)

    def decode(self, data: bytes, profile: Profile) -> Message | None:
        """Return the message, if it is one of this profile; else None, and the rejection is told."""
        try:
            return decode(profile, data)
        except MessageError as error:
            self.reject(Rejection.MALFORMED, error.reason.value)
            return None
