"""A stolen K_i, from memory or from a disk, and how long it stays useful."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from bt_selfsecure.core.frames import Frame, Kind, Profile
from bt_selfsecure.core.keychain import Chain
from bt_selfsecure.core.suites import SUITES, NotAuthentic, Suite
from bt_selfsecure.errors import UsageError


class StolenKey:
    """Keys of one direction in a thief's hands, and all that follows from them and from what she heard.

    Passive: she opens each `data` frame under the keys that she holds; which attempt the receiver accepted she finds by
    trying. Once she misses an accepted (message, Rand) she never opens a frame again, except after a resynchronisation
    from a key that she holds. Frames may come in any order, so several Eves can put together what they heard.
    """

    def __init__(self, *chains: Chain) -> None:
        self._known: Final[dict[bytes, Chain]] = {}
        self._data: Final[defaultdict[int, list[Frame]]] = defaultdict(list)
        self._requests: Final[dict[bytes, Frame]] = {}
        self._responses: Final[list[Frame]] = []
        self.opened = 0
        """Data frames that she opened, whatever attempt of a round they were."""
        self.read: Final[dict[int, bytes]] = {}
        """Messages that she read, by Seq."""
        self._learn(*chains)

    @property
    def seq(self) -> int:
        """The newest round whose key she holds."""
        return max(chain.seq for chain in self._known.values())

    def may_hold(self, key: bytes) -> bool:
        """Whether this is a key that she stole, or that follows from what she heard."""
        return key in self._known

    def hear(self, frame: Frame) -> bool:
        """A frame from her tap; whether it was data that she could open."""
        match frame.kind:
            case Kind.DATA:
                self._data[frame.seq].append(frame)
                candidates = [chain for chain in self._known.values() if chain.seq & 255 == frame.seq]
                following = [found for chain in candidates for found in self._opened(chain, frame)]
                self._learn(*following)
                return bool(following)
            case Kind.RESYNC_REQUEST:
                self._requests[frame.rand] = frame
            case Kind.RESYNC_RESPONSE:
                self._responses.append(frame)
            case _:
                return False
        self._learn(*(found for chain in [*self._known.values()] for found in self._resumed(chain)))
        return False

    def _learn(self, *chains: Chain) -> None:
        """These, the last first, and whatever follows from them and from the frames heard so far."""
        new = list(chains)
        while new:
            chain = new.pop()
            if chain.key not in self._known:
                self._known[chain.key] = chain
                for frame in self._data[chain.seq & 255]:
                    new += self._opened(chain, frame)
                new += self._resumed(chain)

    def _opened(self, chain: Chain, frame: Frame) -> list[Chain]:
        try:
            message, attempt = chain.open(frame)
        except NotAuthentic:
            return []
        self.opened += 1
        self.read[chain.seq] = message
        return [chain.rolled(attempt, message)]

    def _resumed(self, chain: Chain) -> list[Chain]:
        name, found = chain.checkpoint_id(chain.key), []
        for response in self._responses:
            request = self._requests.get(response.message[:_RAND])
            if request is not None and response.message[_RAND:_ID] == name:
                seq = max(int.from_bytes(request.message[:8]), int.from_bytes(response.message[_ID:]))
                found.append(chain.resumed(chain.key, request.rand + response.rand, seq))
        return found


_RAND, _ID = 16, 24  # ends of the request's Rand and of the key's id in a resync response


@dataclass(frozen=True, slots=True)
class StolenRecord:
    """What a stolen disk holds of one peer: both directions, with the checkpoints and the last key (PROTOCOL.md)."""

    sending: StolenKey
    receiving: StolenKey

    @classmethod
    def parse(cls, line: str | bytes) -> Self:
        """From a session's record of version 1. Raises `UsageError` for anything else."""
        try:
            record = json.loads(line)
            if (record["format"], record["version"]) != ("bt-selfsecure session", 1):
                raise ValueError("another format")
            suite = SUITES[Profile[record["profile"].upper()]]
            return cls(_stolen(suite, record["sending"]), _stolen(suite, record["receiving"]))
        except (ValueError, KeyError, TypeError, AttributeError) as fault:  # UnicodeDecodeError is a ValueError
            raise UsageError(
                f"no session record of version 1 ({fault}): give one as PROTOCOL.md describes it"
            ) from None

    @classmethod
    def read(cls, path: Path) -> list[Self]:
        """Every peer's record in a node's journal, or the one in a file of its own. Raises `UsageError` for others."""
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


def _stolen(suite: Suite, direction: dict[str, Any]) -> StolenKey:
    seq, rounds = direction["seq"], direction["checkpoint_rounds"]
    keys = [(checkpoint, -1) for checkpoint in direction["checkpoints"]]  # of rounds that nobody needs to know
    keys += [(direction["offer"], 0), (direction.get("previous", ""), seq - 1), (direction["key"], seq)]
    return StolenKey(*(Chain(suite, bytes.fromhex(key), number, rounds) for key, number in keys if key))
