"""A stolen K_i, from memory or from a disk, and how long it stays useful."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Final, Self

from bt_selfsecure.errors import UsageError
from bt_selfsecure.protocols.haoxiao.frames import Frame, Kind
from bt_selfsecure.protocols.haoxiao.keychain import Chain
from bt_selfsecure.protocols.haoxiao.record import VERSION, ReceivingState, RecordError, SendingState, SessionRecord
from bt_selfsecure.protocols.haoxiao.suites import Attempt, NotAuthentic

MOST_TRIES: Final = 1 << 22
"""To open a frame, or to follow a resynchronisation: half a minute of one core. An honest frame takes one, one that is
forged one for each 256 rounds."""
RESUMPTION: Final = 16
"""Tries that following a resynchronisation counts for: each leaves a key to be kept."""
_RAND, _ID = 16, 24  # ends of the request's Rand and of the key's id in a resync response


class SessionHeard:
    """Holds the frames of sessions in one profile that she heard, in this order, and where to look first."""

    def __init__(self, frames: Iterable[Frame]) -> None:
        self.frames: Final = list(frames)
        self.data: Final[defaultdict[int, list[Frame]]] = defaultdict(list)
        """Data frames by the low 8 bits of their round."""
        self.named: Final[set[bytes]] = set()
        """Ids of keys that a resynchronisation goes on from."""
        for frame in self.frames:
            if frame.kind is Kind.DATA:
                self.data[frame.seq].append(frame)
            elif frame.kind is Kind.RESYNC_RESPONSE:
                self.named.add(frame.message[_RAND:_ID])


class StolenKey:
    """Holds keys of one direction in a thief's hands, and all that follows from them and from what she heard.

    Passive: she opens each `data` frame under the keys that she holds; which attempt the receiver accepted she finds by
    trying. Once she misses an accepted (message, Rand) she never opens a frame again, except after a resynchronisation
    from a key that she holds. Frames may come in any order, so several Eves can put together what they heard.
    """

    def __init__(self, *chains: Chain) -> None:
        self._known: Final[dict[bytes, Chain]] = {}
        self._at: Final[defaultdict[int, list[Chain]]] = defaultdict(list)
        """The same, by the low 8 bits of the round: those that a frame can be of."""
        self._data: Final[defaultdict[int, list[Frame]]] = defaultdict(list)
        """Not opened yet, by the same: no other key opens one that was."""
        self._ids: Final[dict[bytes, Chain]] = {}
        """The same, by the id that a resync response names."""
        self._requests: Final[dict[bytes, Frame]] = {}
        self._answers: Final[defaultdict[bytes, list[Frame]]] = defaultdict(list)
        """Resync responses, by the Rand of the request that they answer."""
        self._naming: Final[defaultdict[bytes, list[Frame]]] = defaultdict(list)
        """The same, by the id of the key that they name."""
        self.tries_left = MOST_TRIES
        self.opened = 0
        """Data frames that she opened, whatever attempt of a round they were."""
        self.read: Final[dict[int, bytes]] = {}
        """Messages that she read, by Seq."""
        self._learn(*chains)

    @property
    def seq(self) -> int:
        """Return the newest round whose key she holds."""
        return max(chain.seq for chain in self._known.values())

    def may_hold(self, key: bytes) -> bool:
        """Return whether this is a key that she stole, or that follows from what she heard."""
        return key in self._known

    def may_follow(self, session: SessionHeard) -> bool:
        """Return whether a key of hers opens a frame of it, or it resumes from one; else `hear` is in vain."""
        if not self._ids.keys().isdisjoint(session.named):
            return True
        pairs = ((chain, frame) for seq in self._at for frame in session.data[seq] for chain in self._at[seq])
        return any(self._opens(*pair) for pair in takewhile(lambda _: self.tries_left, pairs))

    def hear(self, frame: Frame) -> bool:
        """Take a frame from her tap, and return whether it was data that she could open."""
        match frame.kind:
            case Kind.DATA:
                for chain in reversed(self._at[frame.seq]):
                    if following := self._opened(chain, frame):
                        self._learn(*following)
                        return True
                self._data[frame.seq].append(frame)
                return False
            case Kind.RESYNC_REQUEST if self.tries_left:
                self._requests[frame.rand] = frame
                self._learn(*self._resumed(self._answers[frame.rand]))
            case Kind.RESYNC_RESPONSE if self.tries_left:
                self._answers[frame.message[:_RAND]].append(frame)
                self._naming[frame.message[_RAND:_ID]].append(frame)
                self._learn(*self._resumed([frame]))
            case _:
                pass
        return False

    def _learn(self, *chains: Chain) -> None:
        """These, the last first, and whatever follows from them and from the frames heard so far."""
        new = list(chains)
        while new:
            chain = new.pop()
            if chain.key not in self._known:
                self._known[chain.key] = chain
                self._at[chain.seq & 255].append(chain)
                closed = []
                for frame in self._data[chain.seq & 255]:
                    following = self._opened(chain, frame)
                    new += following
                    closed += [] if following else [frame]
                self._data[chain.seq & 255] = closed
                name = chain.checkpoint_id(chain.key)
                self._ids[name] = chain
                new += self._resumed(self._naming[name])

    def _opened(self, chain: Chain, frame: Frame) -> list[Chain]:
        opened = self._opens(chain, frame)
        if opened is None:
            return []
        self.opened += 1
        self.read[chain.seq] = opened[0]
        return [chain.rolled(opened[1], opened[0])]

    def _opens(self, chain: Chain, frame: Frame) -> tuple[bytes, Attempt] | None:
        """Message and attempt, where this key opens the frame."""
        if not self.tries_left:
            return None
        self.tries_left -= 1
        try:
            return chain.open(frame)
        except NotAuthentic:
            return None

    def _resumed(self, responses: list[Frame]) -> list[Chain]:
        """What follows from those that name a key of hers, and whose request she heard."""
        found = []
        for response in responses:
            request = self._requests.get(response.message[:_RAND])
            chain = self._ids.get(response.message[_RAND:_ID])
            if request is not None and chain is not None and self.tries_left:
                self.tries_left = max(0, self.tries_left - RESUMPTION)
                seq = max(int.from_bytes(request.message[2:8]), int.from_bytes(response.message[_ID:]))
                found.append(chain.resumed(chain.key, request.rand + response.rand, seq))
        return found


@dataclass(frozen=True, slots=True)
class StolenRecord:
    """Is what a stolen disk holds of one peer: both directions, with the checkpoints and the last key.

    It is the record of docs/protocols/haoxiao.md.
    """

    sending: StolenKey
    receiving: StolenKey

    @classmethod
    def parse(cls, line: str | bytes) -> Self:
        """Return what a session's record holds. Raises `UsageError` for anything else."""
        try:
            record = SessionRecord.from_json(line)
        except RecordError as fault:
            raise UsageError(
                f"no session record of version 1 to {VERSION} ({fault}): "
                "give one as docs/protocols/haoxiao.md describes it"
            ) from None
        return cls(_stolen(record.sending), _stolen(record.receiving, record.receiving.previous))

    @classmethod
    def read(cls, path: Path) -> list[Self]:
        """Return every peer's record in a node's journal, or the one in a file of its own. Raises `UsageError` for
        others."""
        try:
            with path.open("rb") as file:
                start = file.read(len(_SQLITE))
            if start != _SQLITE:
                return [cls.parse(path.read_bytes())]
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as journal:
                rows = journal.execute("SELECT record FROM peer").fetchall()
        except (OSError, sqlite3.Error) as fault:
            raise UsageError(f"can't read {str(path)!r} ({fault}): give a node's journal.db or a record") from None
        return [cls.parse(record) for (record,) in rows]


_SQLITE: Final = b"SQLite format 3\0"


def _stolen(state: SendingState | ReceivingState, previous: bytes = b"") -> StolenKey:
    now = state.chain
    keys = [(checkpoint, -1) for checkpoint in now.checkpoints]  # of rounds that nobody needs to know
    keys += [(state.offer, 0), (previous, now.seq - 1), (now.key, now.seq)]
    return StolenKey(*(Chain(now.suite, key, number, now.checkpoint_rounds) for key, number in keys if key))
