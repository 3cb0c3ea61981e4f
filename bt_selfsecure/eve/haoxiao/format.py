"""Hao and Xiao's frames, as Eve finds them."""

from __future__ import annotations

from typing import Final

from bt_selfsecure.eve.formats import Format
from bt_selfsecure.protocols.haoxiao.frames import COMPACT_FRAME_BYTES, FrameError, decode
from bt_selfsecure.protocols.haoxiao.limits import MAX_FRAME_BYTES


def is_frame(datagram: bytes) -> bool:
    """Return whether it decodes."""
    try:
        decode(datagram)
    except FrameError:
        return False
    return True


HAOXIAO: Final = Format(MAX_FRAME_BYTES, COMPACT_FRAME_BYTES, is_frame)
