"""What Eve has to know of a protocol to find its frames in what she hears; the rest is in the protocol's own folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Format:
    """Knows the frames of one protocol."""

    longest: int
    """Bytes of a frame. The shorter, the sooner she finds her way back after what she did not hear."""
    advertised: int
    """Bytes of the frames that advertisements carry."""
    is_frame: Callable[[bytes], bool]
    """Whether a datagram is one."""
