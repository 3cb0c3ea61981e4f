"""A group's stolen K_i, and how long it stays useful: she needs every broadcast from then on, whole."""

from __future__ import annotations

from typing import Final

from bt_selfsecure.protocols.haoxiao.frames import Frame, FrameError, Kind, decode
from bt_selfsecure.protocols.haoxiao.group.fragments import Assembly
from bt_selfsecure.protocols.haoxiao.group.keys import next_key, opened

MOST_ROUNDS: Final = 256
"""Of which she keeps fragments: the air shows no more of a round's number."""


class GroupHeard:
    """Puts together the broadcasts that Eve heard, by the low 8 bits of their rounds; without a key she reads none."""

    def __init__(self) -> None:
        self.fragments = 0
        self.whole = 0
        """Broadcasts of which she has enough."""
        self._rounds: Final[dict[int, Assembly]] = {}

    def hear(self, data: bytes, time: float = 0.0) -> int | None:
        """Take a datagram; return the round, in 8 bits, of which this fragment makes or leaves the broadcast whole."""
        try:
            frame = decode(data)
        except FrameError:
            return None
        return self.add(frame, time) if frame.kind is Kind.GROUP_FRAGMENT else None

    def add(self, frame: Frame, time: float = 0.0) -> int | None:
        """Take a fragment, as `hear` does."""
        self.fragments += 1
        assembly = self._rounds.setdefault(frame.seq, Assembly())
        before = assembly.sealed
        assembly.add(frame, time)
        if assembly.sealed is None:
            return None
        self.whole += before is None
        return frame.seq

    def sealed(self, number: int) -> bytes | None:
        """Return the broadcast of this round, or None where she lacks too much of it."""
        assembly = self._rounds.get(number & 255)
        return assembly.sealed if assembly else None

    def forget(self, number: int) -> None:
        """Take the next broadcast of these 8 bits for another one."""
        self._rounds.pop(number & 255, None)


class StolenGroupKey:
    """Holds the key of one round of a group, and all that follows from it and from the broadcasts that she heard."""

    def __init__(self, key: bytes, number: int) -> None:
        self.key, self.number = key, number
        """K_i, and i."""
        self.read: Final[list[bytes]] = []
        """Messages, in order."""
        self.heard: Final = GroupHeard()

    def hear(self, data: bytes, time: float = 0.0) -> None:
        """Take a datagram from her tap."""
        self.heard.hear(data, time)
        while (sealed := self.heard.sealed(self.number)) is not None:
            found = opened(self.key, self.number, sealed)
            if found is None:
                return
            self.heard.forget(self.number)
            self.key, self.number = next_key(self.key, self.number, *found), self.number + 1
            self.read.append(found[1])
