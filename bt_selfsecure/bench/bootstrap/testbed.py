"""A node, a controller, a server and Eve, who hears, holds up and sends on the channels that a row gives her."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from bt_selfsecure.protocols.bootstrap import limits
from bt_selfsecure.protocols.bootstrap.config import Controller, SbrConfig, SbsConfig
from bt_selfsecure.protocols.bootstrap.events import Event, FrameRejected, NoAnswer, NodeJoined, NodeRefused
from bt_selfsecure.protocols.bootstrap.messages import Kind, Profile, kind_of
from bt_selfsecure.protocols.bootstrap.paper import PaperSbi, PaperSbr, PaperSbs
from bt_selfsecure.protocols.bootstrap.records import Installation, NodeRecord
from bt_selfsecure.protocols.bootstrap.sbi import Sbi
from bt_selfsecure.protocols.bootstrap.sbr import Sbr
from bt_selfsecure.protocols.bootstrap.sbs import Sbs
from bt_selfsecure.protocols.bootstrap.write_ahead import settle, write_rows
from bt_selfsecure.sansio.context import EndpointContext

TAKES: Final = {
    Kind.F1: "sbr",
    Kind.F2: "sbs",
    Kind.F3: "sbr",
    Kind.F4: "sbi",
    Kind.F5: "sbr",
    Kind.F6: "sbs",
    Kind.F7: "sbr",
    Kind.F8: "sbi",
}
"""Who takes which flight."""
NOON: Final = 1_796_000_000.0
ROUNDS: Final = 8
"""So often everybody may repeat what was not answered."""
Hand = Callable[[Kind, bytes], Iterable[bytes]]
"""What arrives in the place of a flight."""


@dataclass
class JoinTestbed:
    """Joins one node with a controller and a server, of one profile."""

    profile: Profile
    seed: int
    hand: Hand = lambda kind, data: (data,)
    noticed: bool = False
    """Whether an end told of a flight that it refused, or that nobody answered."""
    joined: dict[str, list[bytes]] = field(default_factory=lambda: {"sbi": [], "sbr": [], "sbs": []})
    """PSK that an end has told of."""

    def __post_init__(self) -> None:
        self.draw = Random(f"{self.profile.value} {self.seed}").randbytes
        self.clock = NOON
        self.now = 0.0
        self.node_id, self.ik = self.draw(limits.ID_BYTES), self.draw(limits.KEY_BYTES)
        self.controller = Controller(self.draw(limits.ID_BYTES), self.draw(limits.KEY_BYTES))
        self.tape: dict[Kind, bytes] = {}
        """The newest flight of each kind, as it was sent."""
        self._disks: dict[str, dict[bytes, Any]] = {
            "sbi": {self.node_id: Installation(self.node_id, self.ik, (self.controller.controller_id,))},
            "sbr": {},
            "sbs": {self.node_id: NodeRecord(self.node_id, self.ik)},
        }
        self._nodes = {self.node_id: self.ik}
        self.ends: dict[str, Any] = self._paper() if self.profile is Profile.PAPER else self._hardened()

    def _hardened(self) -> dict[str, Any]:
        context, controllers = EndpointContext(self.draw), {self.controller.controller_id: self.controller}
        return {
            "sbi": Sbi(self._disks["sbi"][self.node_id], context),
            "sbr": Sbr(SbrConfig(self.controller, lambda: self.clock), self._disks["sbr"], context),
            "sbs": Sbs(SbsConfig(controllers, lambda: self.clock), self._disks["sbs"], context),
        }

    def _paper(self) -> dict[str, Any]:
        controllers = {self.controller.controller_id: self.controller}
        return {
            "sbi": PaperSbi(self.node_id, self.ik, self.draw),
            "sbr": PaperSbr(self.controller, lambda: self.clock, self.draw),
            "sbs": PaperSbs(controllers, self._nodes, lambda: self.clock, self.draw),
        }

    @property
    def node_keys(self) -> set[bytes]:
        """Return the keys that the node has."""
        if self.profile is Profile.PAPER:
            return {self.ends["sbi"].key}
        record = self.ends["sbi"].record
        return {record.key, record.next_key} - {b""}

    @property
    def network_key(self) -> bytes:
        """Return the key that the server has in force for the node."""
        if self.profile is Profile.PAPER:
            return self._nodes[self.node_id]
        key: bytes = self._disks["sbs"][self.node_id].key
        return key

    @property
    def is_joined(self) -> bool:
        """Return whether node and network share a key that is not IK, and no other."""
        return self.node_keys == {self.network_key} != {self.ik}

    def join(self) -> None:
        """Let the node show flight 1, and let everybody speak until nobody has anything to say."""
        self.ends["sbi"].start(self.now)
        self._speak("sbi")
        for _ in range(ROUNDS):
            self.now += limits.LAST_RETRY_S
            for name, end in self.ends.items():
                end.handle_timer(self.now)
                self._speak(name)

    def give(self, *flights: bytes) -> list[bytes]:
        """Give flights to whom they are for, and return what these say; nothing else happens."""
        said: list[bytes] = []
        for data in flights:
            name = TAKES[kind_of(self.profile, data)]
            self.ends[name].receive_frame(data, self.now)
            said += self._take(name)
        return said

    def _speak(self, name: str) -> None:
        waiting = deque(self._take(name))
        while waiting:
            data = waiting.popleft()
            kind = kind_of(self.profile, data)
            self.tape[kind] = data
            for arrived in self.hand(kind, data):
                self.ends[TAKES[kind]].receive_frame(arrived, self.now)
                waiting += self._take(TAKES[kind])

    def _take(self, name: str) -> list[bytes]:
        end = self.ends[name]
        if self.profile is Profile.PAPER:
            events: list[Event] = list(iter(end.next_event, None))
        else:
            events = settle(end, lambda rows: write_rows(self._disks[name], rows))
        for event in events:
            if isinstance(event, NodeJoined):
                self.joined[name].append(event.psk)
            self.noticed |= isinstance(event, FrameRejected | NodeRefused | NoAnswer)
        frames: list[bytes] = end.frames_to_send(self.now)
        return frames
