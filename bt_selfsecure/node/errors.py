"""What a caller of the node can get wrong; the local API gives each its own HTTP status."""

from __future__ import annotations

from bt_selfsecure.errors import UsageError


class UnknownPeerError(UsageError):
    """Means that no peer of that name or address is configured."""


class QueueFullError(UsageError):
    """Means that as many messages wait for this peer as `queue_messages` allows."""


class MessageTooLongError(UsageError):
    """A message has more bytes than the node takes."""
