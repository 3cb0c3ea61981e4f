"""Three ends of each profile without a network: what a test gives the one it takes from the other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count

from bt_selfsecure.protocols.bootstrap.config import Controller, SbrConfig, SbsConfig
from bt_selfsecure.protocols.bootstrap.events import Event
from bt_selfsecure.protocols.bootstrap.paper import PaperSbi, PaperSbr, PaperSbs
from bt_selfsecure.protocols.bootstrap.records import Installation, NodeRecord, Row
from bt_selfsecure.protocols.bootstrap.sbi import Sbi
from bt_selfsecure.protocols.bootstrap.sbr import Sbr
from bt_selfsecure.protocols.bootstrap.sbs import Sbs
from bt_selfsecure.protocols.bootstrap.write_ahead import settle, write_rows
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.trace import Tracer

NODE_ID = bytes.fromhex("0102030405060708")
IK = bytes.fromhex("000102030405060708090a0b0c0d0e0f")
CONTROLLER = Controller(bytes.fromhex("c0c1c2c3c4c5c6c7"), bytes.fromhex("101112131415161718191a1b1c1d1e1f"))
OTHER = Controller(bytes.fromhex("d0d1d2d3d4d5d6d7"), bytes.fromhex("202122232425262728292a2b2c2d2e2f"))
NOON = 1_796_000_000.0
NAMES = ("sbi", "sbr", "sbr2", "sbs")
"""Of the ends of `hardened`: one node, a server, and two controllers of it."""


def counted(name: str) -> Callable[[int], bytes]:
    """Return a source of bytes that are SHA-256 of a name and a counter."""
    numbers = count()

    def draw(size: int) -> bytes:
        out = b""
        while len(out) < size:
            out += hashlib.sha256(f"{name} {next(numbers)}".encode()).digest()
        return out[:size]

    return draw


def written(end: Sbi | Sbr | Sbs, store: dict[bytes, Row]) -> list[Event]:
    """Take all events; write what is to be written, and say so."""
    return settle(end, lambda rows: write_rows(store, rows))


@dataclass
class Ends:
    """Holds SBI, two SBR and an SBS of `hardened`, each with its disk and its clock."""

    seed: str = ""
    tracer: Tracer | None = None
    node: Installation = field(
        default_factory=lambda: Installation(NODE_ID, IK, (CONTROLLER.controller_id, OTHER.controller_id))
    )

    def __post_init__(self) -> None:
        self.disks: dict[str, dict[bytes, Row]] = {name: {} for name in NAMES}
        self.disks["sbi"][NODE_ID] = self.node
        self.disks["sbs"][NODE_ID] = NodeRecord(NODE_ID, IK)
        self.told: dict[str, list[Event]] = {name: [] for name in NAMES}
        self.clocks = dict.fromkeys(NAMES, NOON)
        self._starts = count()
        for name in NAMES:
            self.begin(name)

    def begin(self, name: str) -> None:
        """Start this end from its disk."""
        context = EndpointContext(counted(f"{self.seed} {name} {next(self._starts)}"), self.tracer)
        disk, clock = self.disks[name], lambda: self.clocks[name]
        match name:
            case "sbi":
                node = disk[NODE_ID]
                assert isinstance(node, Installation)
                self.sbi = Sbi(node, context)
            case "sbr":
                self.sbr = Sbr(SbrConfig(CONTROLLER, clock), disk, context)  # type: ignore[arg-type]
            case "sbr2":
                self.sbr2 = Sbr(SbrConfig(OTHER, clock), disk, context)  # type: ignore[arg-type]
            case _:
                controllers = {one.controller_id: one for one in (CONTROLLER, OTHER)}
                self.sbs = Sbs(SbsConfig(controllers, clock), disk, context)  # type: ignore[arg-type]

    def say(self, name: str, now: float = 0.0) -> list[bytes]:
        """Return what this end sends now; its disk has taken what there was."""
        end = getattr(self, name)
        self.told[name] += written(end, self.disks[name])
        out: list[bytes] = end.frames_to_send(now)
        return out

    def refuse(self, name: str) -> None:
        """Let this end's disk take nothing of what it asks for."""
        end = getattr(self, name)
        while end.next_event() is not None:
            pass
        end.refused()

    def give(self, name: str, flights: Iterable[bytes], now: float = 0.0) -> list[bytes]:
        """Give an end these flights, and return what it sends."""
        for data in flights:
            getattr(self, name).receive_frame(data, now)
        return self.say(name, now)

    def join(self) -> list[bytes]:
        """Let the node join, and return flights 1 to 8."""
        self.sbi.start(0.0, anew=True)
        tape = list(self.say("sbi"))
        for name in ("sbr", "sbs", "sbr", "sbi", "sbr", "sbs", "sbr", "sbi"):
            tape += self.give(name, tape[-1:])
        return tape

    @property
    def node_keys(self) -> set[bytes]:
        record = self.disks["sbi"][NODE_ID]
        assert isinstance(record, Installation)
        return {record.key, record.next_key} - {b""}

    @property
    def network_key(self) -> bytes:
        record = self.disks["sbs"][NODE_ID]
        assert isinstance(record, NodeRecord)
        return record.key


@dataclass
class PaperEnds:
    """Holds SBI, SBR and SBS of `paper`."""

    seed: str = ""
    clock: float = NOON

    def __post_init__(self) -> None:
        draw = [counted(f"{self.seed} paper {name}") for name in ("sbi", "sbr", "sbs")]
        self.sbi = PaperSbi(NODE_ID, IK, draw[0])
        self.sbr = PaperSbr(CONTROLLER, lambda: self.clock, draw[1])
        controllers = {one.controller_id: one for one in (CONTROLLER, OTHER)}
        self.sbs = PaperSbs(controllers, {NODE_ID: IK}, lambda: self.clock, draw[2])

    def give(self, name: str, *flights: bytes) -> list[bytes]:
        """Give an end these flights, and return what it sends."""
        end = getattr(self, name)
        for data in flights:
            end.receive_frame(data, 0.0)
        out: list[bytes] = end.frames_to_send(0.0)
        return out

    def join(self) -> list[bytes]:
        """Let the node join, and return flights 1 to 5."""
        self.sbi.start(0.0)
        tape = self.sbi.frames_to_send(0.0)
        for name in ("sbr", "sbs", "sbr", "sbi", "sbr"):
            tape += self.give(name, tape[-1])
        return tape
