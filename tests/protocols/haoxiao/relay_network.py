"""Nodes with the relay's machine, joined by sessions between neighbours that lose nothing: what the tests drive.

    network = Network({A: {B}, B: {A, C}, C: {B}}, ends=...)        who hears whom; B forwards for A and C

`moving` is what a hop carries, in order. A malicious node changes what it puts out before it is there.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping

from bt_selfsecure.protocols.haoxiao.relay import RelayEndpoint
from bt_selfsecure.protocols.haoxiao.relay_events import RelayConfig, RelayEvent, Via
from bt_selfsecure.sansio.context import EndpointContext


def identity(number: int) -> bytes:
    return bytes((2, 0, 0, 0, 0, number))


A, B, C, D, E, F = map(identity, range(1, 7))
ANY = Via()


class Network:
    """`near` says who is whose neighbour, `peers` which ends have which ways to which others."""

    def __init__(
        self,
        near: Mapping[bytes, set[bytes]],
        peers: Mapping[bytes, Mapping[bytes, Via]],
        *,
        seed: int = 0,
        **limits: int,
    ) -> None:
        self.near, self.now = near, 0.0
        self.random = random.Random(seed)
        self.moving: dict[tuple[bytes, bytes], deque[bytes]] = {}
        self.malice: dict[bytes, Callable[[bytes, bytes], list[tuple[bytes, bytes]]]] = {}
        """By malicious node: what it sends, and to whom, in the place of one of its frames."""
        self.told: dict[bytes, list[RelayEvent]] = {node: [] for node in near}
        self.on_event: Callable[[bytes, RelayEvent], None] = lambda node, event: self.told[node].append(event)
        ends = frozenset(peers)
        self.configs = {
            node: RelayConfig(
                node, frozenset(others), frozenset() if node in ends else ends, peers.get(node, {}), **limits
            )
            for node, others in near.items()
        }
        self.nodes: dict[bytes, RelayEndpoint] = {}
        for node in near:
            self.start(node)

    def start(self, node: bytes) -> None:
        """Start a node, or start it anew: it has forgotten everything."""
        relay = self.nodes[node] = RelayEndpoint(self.configs[node], EndpointContext(self.random.randbytes))
        for other in self.near[node]:
            relay.neighbour_up(other)

    def settle(self, node: bytes) -> None:
        """Take what the node puts out."""
        relay = self.nodes[node]
        while (event := relay.next_event()) is not None:
            self.on_event(node, event)
        malice = self.malice.get(node)
        for to, data in relay.frames_to_send(self.now):
            for other, sent in malice(to, data) if malice else [(to, data)]:
                self.moving.setdefault((node, other), deque()).append(sent)
            if malice:
                relay.sent(to, data)

    @property
    def busy(self) -> list[tuple[bytes, bytes]]:
        """Hops on which something is on its way."""
        return [hop for hop, frames in self.moving.items() if frames]

    def step(self, which: int = 0) -> None:
        """One hop brings its oldest frame."""
        busy = self.busy
        if not busy:
            return
        sender, receiver = busy[which % len(busy)]
        data = self.moving[sender, receiver].popleft()
        if sender not in self.malice:
            self.nodes[sender].sent(receiver, data)
        self.nodes[receiver].receive_frame(data, sender, self.now)
        self.settle(receiver)

    def run(self) -> None:
        """Until nothing moves."""
        while self.busy:
            self.step()

    def pass_time(self, seconds: float) -> None:
        """Run, with all timers, for so long."""
        end = self.now + seconds
        while True:
            self.run()
            timers = [(timer, node) for node, relay in self.nodes.items() if (timer := relay.get_timer()) is not None]
            if not timers or min(timers)[0] > end:
                break
            timer, node = min(timers)
            self.now = max(self.now, timer)
            self.nodes[node].handle_timer(self.now)
            self.settle(node)
        self.now = end

    def dial(self, end: bytes, peer: bytes, *, single: bool = False) -> int:
        number = self.nodes[end].links.dial(peer, self.now, single=single)
        self.settle(end)
        return number

    def send(self, end: bytes, peer: bytes, number: int, data: bytes) -> None:
        self.nodes[end].links.send(peer, number, data, self.now)
        self.settle(end)

    def take(self, node: bytes) -> list[RelayEvent]:
        """Return what a node has told since the last time."""
        told, self.told[node] = self.told[node], []
        return told


def line(*nodes: bytes) -> dict[bytes, set[bytes]]:
    """Each hears those beside it."""
    return {
        node: {other for at in (place - 1, place + 1) if 0 <= at < len(nodes) for other in [nodes[at]]}
        for place, node in enumerate(nodes)
    }


def between(one: bytes, other: bytes, via: Via = ANY, back: Via | None = None) -> dict[bytes, dict[bytes, Via]]:
    """Two ends that have ways to each other."""
    return {one: {other: via}, other: {one: back or via}}
