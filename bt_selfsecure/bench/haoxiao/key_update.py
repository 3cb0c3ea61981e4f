"""Table 2 of the paper: what a key update after a compromise costs, in bytes, CPU and state, for 2 to 32 nodes.

Four ways to be rid of a thief. *Roll*: the next message does it, if she misses it; 0 bytes are sent for that, but for
its Rand of 16, which is there anyhow. *Epoch*: a group's owner gives each member a new secret in its session. *Key
tree*: a logical key hierarchy (LKH, RFC 2627), a binary tree of keys of which each member has those from its leaf to
the root; all that a robbed member had are replaced, each sealed under those of its two children. *Anew*: one burst
for all, and an establishment with each.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from bt_selfsecure.bench.haoxiao.group_costs import Cost
from bt_selfsecure.bench.haoxiao.group_testbed import GroupTestbed, member
from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.establish import EstablishConfig, Timers
from bt_selfsecure.protocols.haoxiao.events import Established
from bt_selfsecure.protocols.haoxiao.frames import Kind, peek_kind
from bt_selfsecure.protocols.haoxiao.initiator import EVERYBODY, Initiator
from bt_selfsecure.protocols.haoxiao.responder import Responder
from bt_selfsecure.sansio.context import EndpointContext

NODES: Final = (2, 4, 8, 16, 32)
"""With the owner: one member fewer."""
MESSAGE: Final = bytes(64)
SESSION_BYTES: Final = 36 + 20 + 1
"""Of a round around its message: data, ack, and the node's octet for the port."""
NODE_BYTES: Final = 2
"""That name a key of the tree."""
BURST: Final = 960
"""Packets of which 843 or more arrive at 10 % loss, mostly: 128 secret bits at an e|B of 10 %."""
CONTEXT: Final = EndpointContext(os.urandom)


@dataclass(frozen=True, slots=True)
class Update:
    """Holds what one way costs for so many nodes."""

    way: str
    nodes: int
    sent_bytes: int
    """On the air, all frames once; burst packets included."""
    cpu_s: float
    """The owner's."""
    state_bytes: int
    """The owner's keys, and what else it must keep."""


def updates(nodes: int) -> list[Update]:
    """Return what each way costs for so many nodes, measured now."""
    return [roll(nodes), epoch(nodes), key_tree(nodes), anew(nodes)]


def roll(nodes: int) -> Update:
    """Send a message to the group, and count what the roll adds to it: its Rand."""
    scene = GroupTestbed(nodes - 1, 1)
    begin = time.process_time()
    scene.owner.send(MESSAGE, scene.now)
    taken = time.process_time() - begin
    return Update("roll, by the next message", nodes, limits.NONCE_BYTES, taken, len(scene.owner.record.to_json()))


def epoch(nodes: int) -> Update:
    """Put the robbed member out of the group: a letter to each other one, and its report."""
    scene = GroupTestbed(nodes - 1, 1)
    scene.letters.clear()
    begin = time.process_time()
    scene.owner.change([], [member(0)], scene.now, "it was robbed")
    taken = time.process_time() - begin
    scene.settle()
    sent = sum(len(letter) + SESSION_BYTES for _, letter in scene.letters)
    return Update("epoch, by the sessions", nodes, sent, taken, len(scene.owner.record.to_json()))


class KeyTree:
    """Is an LKH peer: a heap of keys, of which node 1 is the root, and node i has the children 2i and 2i + 1."""

    def __init__(self, members: int) -> None:
        self.leaves = 1
        while self.leaves < members:
            self.leaves *= 2
        self.keys = {number: os.urandom(32) for number in range(1, 2 * self.leaves)}

    def replace(self, leaf: int) -> list[bytes]:
        """Return the messages that replace all keys above a leaf whose member is out."""
        out: list[bytes] = []
        gone, number = self.leaves + leaf, (self.leaves + leaf) // 2
        while number:
            new = os.urandom(32)
            for child in (2 * number, 2 * number + 1):
                if child != gone:
                    sealed = AESSIV(self.keys[child]).encrypt(new, [number.to_bytes(NODE_BYTES)])
                    out.append(number.to_bytes(NODE_BYTES) + child.to_bytes(NODE_BYTES) + sealed)
            self.keys[number] = new
            number //= 2
        return out


def key_tree(nodes: int) -> Update:
    """Replace what a robbed member had of a key tree."""
    tree = KeyTree(max(2, nodes - 1))
    begin = time.process_time()
    messages = tree.replace(0)
    taken = time.process_time() - begin
    state = sum(len(key) + NODE_BYTES for key in tree.keys.values())
    return Update("key tree (LKH)", nodes, sum(map(len, messages)), taken, state)


def anew(nodes: int) -> Update:
    """Agree on new keys with all, by one burst."""
    made = Establishments(nodes - 1)
    state = (nodes - 1) * 3 * limits.KEY_BYTES
    return Update("anew, one burst", nodes, sum(map(len, made.frames)), made.cpu_s, state)


def burst_air_s(peers: int) -> float:
    """Return the seconds of air that keys with so many peers take by one burst; request and accept included."""
    cost = Cost()
    for data in Establishments(peers).frames:
        if peek_kind(data) is Kind.RAND_COMPACT:
            cost.advertisement()
        else:
            cost.acl(len(data))
    return cost.air_s


class Establishments:
    """Runs one burst for so many peers, without losses, and keeps all frames."""

    def __init__(self, peers: int) -> None:
        own = EstablishConfig(
            b"owner!",
            timers=Timers(settle=0.0),
            burst=BURST,
            interval=0.001,
            target_bits=128.0,
            eve_loss_bound=0.1,
            compact=True,
            exchange_shares=True,
        )
        names = [member(number) for number in range(peers)]
        first, *others = (_of(own, b"owner!", peer=name) for name in names)
        self.frames: list[bytes] = []
        self.cpu_s = 0.0
        self._initiator = Initiator(first, CONTEXT, others)
        self._responders = {name: Responder(_of(own, name, peer=b"owner!"), CONTEXT) for name in names}
        self._now = 0.0
        self._timed(lambda: self._initiator.start(0.0))
        keys = 0
        while keys < peers:
            keys += self._step()
            assert self._now < 60.0, "it has not ended"

    def _timed(self, do: Any) -> Any:
        begin = time.process_time()
        found = do()
        self.cpu_s += time.process_time() - begin
        return found

    def _step(self) -> int:
        """Let a millisecond pass; how many keys the initiator has got."""
        self._now += 0.001
        now, initiator = self._now, self._initiator
        self._timed(lambda: initiator.handle_timer(now))
        for to, data in self._timed(lambda: initiator.addressed_frames(now)):
            self.frames.append(data)
            for name, responder in self._responders.items():
                if to in (EVERYBODY, name):
                    responder.receive_frame(data, now)
        for responder in self._responders.values():
            responder.handle_timer(now)
            while responder.next_event():
                pass
            for data in responder.frames_to_send(now):
                self.frames.append(data)
                self._timed(lambda data=data: initiator.receive_frame(data, now))
        return sum(isinstance(event, Established) for event in iter(initiator.next_event, None))


def _of(config: EstablishConfig, identity: bytes, *, peer: bytes) -> EstablishConfig:
    return EstablishConfig(**{**_fields(config), "identity": identity, "peer": peer})


def _fields(config: EstablishConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in config.__dataclass_fields__}


def lines(found: list[Update]) -> list[str]:
    """Return the table as text of at most 80 columns."""
    out = [f"{'nodes':>5}  {'after a compromise':<26}{'bytes':>9}{'CPU, ms':>10}{'state, bytes':>14}"]
    for one in found:
        first = f"{one.nodes:>5}" if one.way.startswith("roll") else " " * 5
        out.append(f"{first}  {one.way:<26}{one.sent_bytes:>9,}{1000 * one.cpu_s:>10.2f}{one.state_bytes:>14,}")
    out += [
        "",
        "roll: the bytes are Rand of the message that is sent anyhow: 0, if that is not",
        "counted, as in the paper. It helps where the thief misses that message.",
        "epoch and key tree: whoever was robbed is out at once. anew: and may stay in.",
    ]
    return out


def to_json(found: list[Update]) -> list[dict[str, Any]]:
    """Return the table for programs."""
    return [asdict(one) for one in found]
