"""What a caller of the node can get wrong; the local API gives each its own HTTP status."""

from __future__ import annotations

from bt_selfsecure.errors import UsageError


class UnknownPeerError(UsageError):
    """There is no configured peer of that name or address."""


class ConflictError(UsageError):
    """Somebody else does it already."""


class QueueFullError(UsageError):
    """The queue for this peer is full: as many messages wait as `queue_messages` allows."""


class MessageTooLongError(UsageError):
    """A message has more bytes than the node takes."""


class UnknownGroupError(UsageError):
    """This node is neither owner nor member of a group of that name."""
