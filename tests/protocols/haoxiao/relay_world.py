"""A pair of sessions whose frames go through relays, of which some are malicious, and nodes that are killed.

`World` holds the invariants: nothing lost, nothing twice, never apart, and what a thief may have. Here its frames go as
datagrams of links through others. A relay under an adversary drops, repeats, holds back, changes and invents; nodes
between are killed, as the ends are; and whoever dials does so again when a link is over. In `heal` all are honest.
"""

from __future__ import annotations

import random
from dataclasses import replace

from fuzzing import mutated
from relay_network import ANY, A, B, C, D, E, F, Network, between, line
from session_world import MOST_REMEMBERED, World

from bt_selfsecure.protocols.haoxiao.frames import Profile
from bt_selfsecure.protocols.haoxiao.relay_events import RelayDatagram, RelayEvent, RelayLinkUp, Via
from bt_selfsecure.protocols.haoxiao.relay_frames import RelayFault, RelayFrame, RelayKind, decode, encode, error_body
from bt_selfsecure.protocols.haoxiao.session_config import Durability

DEAF_S = 30.0
"""A link on which an end waits for so long is given up, as a node's peer does."""
TWO = Via(frozenset((B,)), frozenset((D,)))
PLACES = (
    (line(A, B, C), ANY),
    (line(A, B, D, C), ANY),
    (line(A, B, D, E, C), ANY),
    ({A: {B, D}, B: {A, C}, C: {B, D}, D: {A, C}}, ANY),
    ({A: {B, D}, B: {A, C}, C: {B, D}, D: {A, C}}, TWO),
    ({A: {B, D}, B: {A, E, D}, D: {A, B, F}, E: {B, C, F}, F: {D, E, C}, C: {E, F}}, ANY),
)
"""Who hears whom, and the ways of the ends."""
ENDS = (A, C)


class RelayWorld(World):
    """The initiator is A, the responder C."""

    def __init__(self, place: int, durability: Durability, *, seed: int) -> None:
        near, via = PLACES[place % len(PLACES)]
        self.network = Network(near, between(A, C, via), seed=seed)
        self.network.on_event = self._on_event
        self.rng = random.Random(f"{seed} of the adversary")
        self.links: list[int | None] = [None, None]
        self.up: list[bool] = [False, False]
        self.waiting_since = [0.0, 0.0]
        self.seen: list[tuple[bytes, bytes]] = []
        self.held: list[tuple[bytes, bytes]] = []
        super().__init__(Profile.HARDENED, durability, 2, seed=seed)

    @property
    def between(self) -> list[bytes]:
        return sorted(set(self.network.near) - set(ENDS))

    # --- links

    def dial(self, i: int) -> None:
        """End i dials where it has no link."""
        if self.links[i] is None:
            single = self.rng.random() < 0.5  # a session goes on by one of two ways
            self.links[i] = self.network.dial(ENDS[i], ENDS[1 - i], single=single)
            if all(link.number != self.links[i] for link in self.network.nodes[ENDS[i]].links):
                self.links[i] = None  # nobody to ask, which was told before the number was known

    def _on_event(self, node: bytes, event: RelayEvent) -> None:
        if node not in ENDS:
            return
        i = ENDS.index(node)
        match event:
            case RelayLinkUp():
                if self.links[i] not in (None, event.link):
                    self.network.nodes[node].links.close(ENDS[1 - i], self.links[i], self.now)
                self.links[i], self.up[i], self.waiting_since[i] = event.link, True, self.now
            case RelayDatagram() if event.link == self.links[i]:
                self.waiting_since[i] = self.now
                self._receive(i, event.data)
            case RelayDatagram():
                pass
            case _ if getattr(event, "link", None) == self.links[i]:
                self.links[i], self.up[i] = None, False

    def _transmit(self, i: int, data: bytes) -> None:
        self.ever.append((1 - i, data))
        del self.ever[:-MOST_REMEMBERED]
        for eve in self.eves:
            if self.random.random() < self.hearing:
                eve.hear(i, data)
        link = self.links[i]
        if link is not None and self.up[i]:
            self.network.now = self.now
            self.network.send(ENDS[i], ENDS[1 - i], link, data)

    # --- what may happen

    def hop(self, which: int) -> None:
        """A hop brings its oldest frame."""
        self.network.now = self.now
        self.network.step(which)

    def tick(self) -> None:
        """The next timer of all nodes runs out."""
        timers = [(timer, node) for node, relay in self.network.nodes.items() if (timer := relay.get_timer())]
        if timers:
            timer, node = min(timers)
            self.now = self.network.now = max(self.now, timer)
            self.network.nodes[node].handle_timer(self.now)
            self.network.settle(node)

    def kill(self, which: int) -> None:
        """A node between is started anew."""
        node = self.between[which % len(self.between)]
        self.network.start(node)

    def crash(self, i: int, *, power: bool = False, which: int = 0) -> None:
        self.network.start(ENDS[i])
        self.links[i], self.up[i] = None, False
        super().crash(i, power=power, which=which)

    def corrupt(self, which: int, how: float) -> None:
        """From now on a node between does what it likes with so many of the frames that it puts out."""
        node = self.between[which % len(self.between)]
        self.network.malice[node] = lambda to, data: self._maliciously(node, to, data, how)

    def _maliciously(self, node: bytes, to: bytes, data: bytes, how: float) -> list[tuple[bytes, bytes]]:
        self.seen = [*self.seen[-200:], (to, data)]
        rng = self.rng
        if rng.random() >= how:
            return [(to, data)]
        others = sorted(self.network.near[node])
        match rng.randrange(8):
            case 0:
                return []
            case 1:
                return [(to, data)] * rng.randrange(2, 5)
            case 2:
                self.held = [*self.held[-50:], (to, data)]
                return []
            case 3:
                held, self.held = self.held, []
                rng.shuffle(held)
                return [(to, data), *((to, old) for other, old in held if other == to)]
            case 4:
                return [(to, mutated(data, rng))]
            case 5:
                frame = decode(data)
                if frame is None or frame.kind is not RelayKind.DATAGRAM:
                    return [(rng.choice(others), data)]
                return [(to, encode(replace(frame, body=mutated(frame.body, rng)[:1000] or b"?")))]
            case 6:
                return [(to, data), *((there, old) for there, old in rng.choices(self.seen, k=3) if there in others)]
            case _:
                return [(to, data), (rng.choice(others), self._invented(node))]

    def _invented(self, node: bytes) -> bytes:
        """A well-made frame, of a link that there is or is not."""
        rng = self.rng
        source, destination = rng.sample((*ENDS, *self.between), 2)
        link = rng.choice([*(link for link in self.links if link is not None), rng.randrange(1 << 32)])
        kind = rng.choice(list(RelayKind))
        body = {
            RelayKind.DATAGRAM: rng.choice(self.ever)[1] if self.ever else b"?",
            RelayKind.REQUEST: rng.choice((b"", node)),
            RelayKind.REPLY: b"\1" + node,
            RelayKind.ERROR: error_body(rng.choice(list(RelayFault)), node),
            RelayKind.SHARE: bytes([rng.randrange(2)]) + rng.randbytes(36),
        }[kind]
        return encode(RelayFrame(kind, source, destination, link, rng.randrange(1, 16), body))

    def _receive(self, i: int, data: bytes) -> None:
        if len(data) > 0:
            super()._receive(i, data)

    # --- and how it ends

    def _until_silent(self) -> None:
        self.network.malice.clear()
        begin = self.now
        for _ in range(5000):
            timers = [(timer, i) for i in (0, 1) if (timer := self.ends[i].session.get_timer()) is not None]
            if self.network.busy:
                self.hop(0)
            elif not timers:
                return
            elif not any(self.up):
                self.dial(0)
                if not self.network.busy:
                    self.tick()
            else:
                self.timeout(min(timers)[1])
                for i in (0, 1):
                    if self.up[i] and self.now - self.waiting_since[i] > DEAF_S:
                        self.network.nodes[ENDS[i]].links.close(ENDS[1 - i], self.links[i], self.now)
                        self.network.settle(ENDS[i])
                        self.links[i], self.up[i] = None, False
            assert self.now - begin < 1200, "it took more than twenty minutes"
        raise AssertionError("the two ends never fall silent")


def run_schedule(seed: int, steps: int = 120) -> RelayWorld:
    """One whole schedule: relays under an adversary, nodes that are killed, then honest ones, and all invariants."""
    rng = random.Random(seed)
    world = RelayWorld(seed, rng.choice(list(Durability)), seed=seed)
    world.dial(0)
    for which in range(rng.randrange(3)):
        world.corrupt(which, rng.choice((0.05, 0.3, 0.9)))
    crashes, slow = rng.choice((0.0, 0.03)), rng.random() < 0.3
    for i in (0, 1):
        world.set_slow(i, slow)
    for _ in range(rng.randrange(20, steps)):
        _random_step(world, rng, crashes)
    world.heal()
    return world


def _random_step(world: RelayWorld, rng: random.Random, crashes: float) -> None:
    i, which = rng.randrange(2), rng.randrange(1 << 30)
    roll = rng.random()
    if roll < crashes:
        world.crash(i, power=rng.random() < 0.5, which=which)
    elif roll < 0.06:
        world.kill(which)
    elif roll < 0.16:
        world.say(i)
    elif roll < 0.24:
        world.timeout(i)
    elif roll < 0.28:
        world.tick()
    elif roll < 0.34:
        world.dial(i)
    elif roll < 0.36:
        world.rekey(rng.choice(((0, 1), (0,), (1,)))) if rng.random() < 0.6 else world.rekey_late()
    elif roll < 0.38:
        world.steal(i, all_of_it=rng.random() < 0.5)
    elif any(end.slow for end in world.ends) and rng.random() < 0.3:
        world.write(i)
    else:
        for _ in range(rng.randrange(1, 5)):
            world.hop(which)
