"""What was heard once, sent again: to the end it was meant for, or back to the end it came from."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from bt_selfsecure.eve.haoxiao.knowledge import Knowledge
from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.frames import Frame, FrameError, Kind, decode, encode

ALICES: Final = frozenset({Kind.REQUEST, Kind.RAND, Kind.RAND_COMPACT, Kind.ACKNOWLEDGE})


class Replay:
    """Plays a recording of Alice's establishment to Bob. Needs every packet of S, and a Bob who takes a request.

    In `paper` nothing of Bob's own enters K_0, and [10] covers RandData alone: he establishes the old K_0 again. In
    `hardened` the accept's Rand is in K_0 and the whole acknowledge under its HMAC.
    """

    def __init__(self) -> None:
        self._knowledge: Final = Knowledge()
        self._frames: Final[dict[tuple[Kind, int], Frame]] = {}
        self._bytes: Final[dict[tuple[Kind, int], bytes]] = {}

    def record(self, data: bytes) -> None:
        """Record a datagram of the establishment that is to be played."""
        frame = self._knowledge.hear(data)
        if frame is not None and frame.kind in ALICES:
            self._frames[frame.kind, frame.seq] = frame
            self._bytes[frame.kind, frame.seq] = data

    def begin(self) -> list[bytes]:
        """Return the request, if she heard it."""
        return [data for (kind, _), data in self._bytes.items() if kind is Kind.REQUEST]

    def hear(self, data: bytes) -> list[bytes]:
        """Take what Bob answers, and return what follows of the recording: packets of S alone, or his key would be
        another one."""
        try:
            frame = decode(data)
        except FrameError:
            return []
        if frame.kind is Kind.ACCEPT:
            s = self._knowledge.received_set or frozenset()
            return [data for (kind, seq), data in self._bytes.items() if kind in _BURST and seq in s]
        acknowledge = self._frames.get((Kind.ACKNOWLEDGE, 0))
        if frame.kind is Kind.RESPONSE and acknowledge is not None:
            return [encode(replace(acknowledge, message=frame.message[: limits.PAIR_ID_BYTES]))]
        return []


_BURST: Final = (Kind.RAND, Kind.RAND_COMPACT)


class Reflection:
    """Sends each frame of a session again, so that the end it came from hears it too. Needs a sender in range."""

    def hear(self, data: bytes) -> list[bytes]:
        try:
            return [data] if decode(data).kind.phase else []
        except FrameError:
            return []
