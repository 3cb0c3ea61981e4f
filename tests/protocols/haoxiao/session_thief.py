"""A thief of session keys, and what she can have: the keys that follow from hers and from the frames that she heard."""

from __future__ import annotations

from dataclasses import dataclass

from bt_selfsecure.protocols.haoxiao.frames import Frame, Kind, decode
from bt_selfsecure.protocols.haoxiao.keychain import Chain
from bt_selfsecure.protocols.haoxiao.record import ReceivingState
from bt_selfsecure.protocols.haoxiao.resync import common_keys
from bt_selfsecure.protocols.haoxiao.suites import NotAuthentic


@dataclass(frozen=True)
class Edge:
    """How a receiver came from one key to the next, and what somebody must have heard to come with it."""

    direction: int
    parent: bytes
    child: bytes
    needed: tuple[bytes, ...]

    @classmethod
    def between(cls, direction: int, before: ReceivingState, frame: Frame, after: Chain, response: bytes) -> Edge:
        if frame.kind is Kind.DATA:
            return cls(direction, before.chain.key, after.key, (frame.mac + frame.message,))
        return cls(direction, common_keys(before.chain, before.keys, frame)[0], after.key, (frame.rand, response))


class Eve:
    """She holds some keys of one direction, hears some frames, and computes all that follows. She never speaks."""

    def __init__(self, chain: Chain, keys: tuple[bytes, ...], direction: int) -> None:
        self.direction = direction
        self.stolen = {chain.key, *keys}
        self.known = {key: Chain(chain.suite, key, chain.seq, 1) for key in self.stolen}
        self.heard: set[bytes] = set()
        self._data: list[Frame] = []
        self._requests: dict[bytes, Frame] = {}
        self._responses: list[Frame] = []

    def hear(self, sender: int, data: bytes) -> None:
        frame = decode(data)
        if frame.kind is Kind.DATA and sender == self.direction:
            self.heard.add(frame.mac + frame.message)
            self._data.append(frame)
        elif frame.kind is Kind.RESYNC_REQUEST and sender == self.direction:
            self.heard.add(frame.rand)
            self._requests[frame.rand] = frame
        elif frame.kind is Kind.RESYNC_RESPONSE and sender != self.direction:
            self.heard.add(data)
            self._responses.append(frame)
        else:
            return
        for chain in list(self.known.values()):
            self._follow(chain)

    def _follow(self, chain: Chain) -> None:
        """Every key that follows from this one and what was heard."""
        for frame in self._data:
            try:
                message, attempt = chain.open(frame)
            except NotAuthentic:
                continue
            self._learn(chain.rolled(attempt, message))
        for response in self._responses:
            request = self._requests.get(response.message[:16])
            if request is not None and chain.checkpoint_id(chain.key) == response.message[16:24]:
                seq = max(int.from_bytes(request.message[2:8]), int.from_bytes(response.message[24:]))
                self._learn(chain.resumed(chain.key, request.rand + response.rand, seq))

    def _learn(self, chain: Chain) -> None:
        if chain.key not in self.known:
            self.known[chain.key] = chain
            self._follow(chain)

    def check(self, lineage: list[Edge]) -> None:
        """Invariant 4: she has a key of the receiver's exactly if she heard all that leads there from the stolen."""
        reached = set(self.stolen)
        edges = [edge for edge in lineage if edge.direction == self.direction]
        for edge in edges:
            if edge.parent in reached and self.heard.issuperset(edge.needed):
                reached.add(edge.child)
        for edge in edges:
            assert (edge.child in self.known) == (edge.child in reached), "the thief has more or less than she should"
