"""One end of a `PeerWorld`: its disk, its links, its programs; what becomes of them is up to the world."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from bt_selfsecure.node.haoxiao.peer_events import (
    Deliver,
    DropFragment,
    DropPieces,
    KeepFragment,
    KeepPiece,
    KeepState,
    Output,
    SendBurst,
    Stored,
)
from bt_selfsecure.node.haoxiao.peer_machine import PeerMachine
from bt_selfsecure.protocols.haoxiao.record import SessionRecord


@dataclass
class Disk:
    """What one end has kept; copied whole at each commit, as nothing in it is changed in place."""

    state: KeepState | None = None
    fragments: dict[int, bytes] = field(default_factory=dict)
    pieces: tuple[bytes, ...] = ()
    inbox: tuple[bytes, ...] = ()

    def after(self, notes: list[Output]) -> Disk:
        new = replace(self, fragments=dict(self.fragments))
        for output in notes:
            match output:
                case KeepState():
                    new.state = output
                case KeepFragment():
                    new.fragments[output.number] = output.fragment
                case DropFragment():
                    new.fragments.pop(output.number, None)
                case KeepPiece():
                    new.pieces = (*new.pieces, output.piece)
                case DropPieces():
                    new.pieces = ()
                case Deliver():
                    new.inbox = (*new.inbox, output.message)
        return new

    def stored(self) -> Stored:
        fragments = tuple(sorted(self.fragments.items()))
        if self.state is None:
            return Stored(fragments=fragments, pieces=self.pieces)
        record = SessionRecord.from_json(self.state.record.to_json())
        key, offered = ({**facts, "born": None} if facts else {} for facts in (self.state.key, self.state.offered))
        kept = {"trust": self.state.trust, "generations": self.state.generations}
        return Stored(record, key, offered, self.state.synchronised, "", fragments, self.pieces, **kept)


@dataclass
class Wire:
    """One link: the number that each end has for it, and what is on its way to each."""

    bearer: str
    numbers: dict[int, int]
    queues: tuple[deque[bytes], deque[bytes]] = field(default_factory=lambda: (deque(), deque()))


@dataclass
class Wish:
    """A message that a program wants sent."""

    message: bytes
    durable: bool
    stays: bool
    """It is the node's own."""
    told: str = ""
    """Its last outcome."""


@dataclass
class End:
    """One end: its machine, its driver, its disk, its programs."""

    machine: PeerMachine
    written: Disk = field(default_factory=Disk)
    """What a crash of the process leaves."""
    synced: Disk = field(default_factory=Disk)
    """What a loss of power leaves."""
    noted: list[Output] = field(default_factory=list)
    token: int = 0
    refuses: bool = False
    """The disk does."""
    adapter: bool = False
    dials: list[str] = field(default_factory=list)
    downs: list[int] = field(default_factory=list)
    """Links that have ended, which the machine was not told yet."""
    bursts: list[SendBurst] = field(default_factory=list)
    radio: str = "free"
    gathers: bool = False
    """Its machine waits for a burst that several peers may share."""
    wishes: dict[int, Wish] = field(default_factory=dict)
    said: int = 0
    key_wishes: int = 0
    """Those that wait for an outcome."""
    crashes: int = 0
