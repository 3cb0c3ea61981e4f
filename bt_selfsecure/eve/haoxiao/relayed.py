"""What nodes carry for each other, as it stands in messages that Eve has read: who talks with whom, and no more."""

from __future__ import annotations

from bt_selfsecure.protocols.haoxiao.frames import peek_kind
from bt_selfsecure.protocols.haoxiao.relay_frames import RELAY_PORT, RelayKind, decode


def in_words(message: bytes) -> str:
    """Return what a session's message carries for others, in a line; empty for a message of another port. Before the
    frame is the node's octet: port, first fragment, no further one."""
    if not message or message[0] != RELAY_PORT << 2 | 2:
        return ""
    frame = decode(message[1:])
    if frame is None:
        return ""
    ends = f"{frame.source.hex(':').upper()} to {frame.destination.hex(':').upper()}"
    text = f"relayed {frame.kind.name.lower()}, {ends}, link {frame.link:08x}"
    if frame.kind is not RelayKind.DATAGRAM:
        return text
    inner = peek_kind(frame.body)
    return f"{text}: {inner.name.lower().replace('_', ' ') if inner else 'no frame'}, {len(frame.body)} bytes"
