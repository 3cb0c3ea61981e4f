"""The story of a third: Alice hardly hears Bob, and both hear Carol, who carries what they send and can't read it.

Who hears whom is the office recording's. Alice is where its transmitter was when one receiver, Bob, heard least of it;
Carol is the receiver that heard most of her there. Nobody recorded how Carol's radio reaches Bob: taken is the place of
the transmitter from which Carol and Bob both heard most, as if she sent from there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from bt_selfsecure.air.models import RecordedLosses
from bt_selfsecure.air.recording import Recording
from bt_selfsecure.air.world import LATENCY_S, Ear, EventHandler, World
from bt_selfsecure.bench.haoxiao.relayed import ENDS, RelayedWorld, changed
from bt_selfsecure.bench.haoxiao.testbed import ALICE, BOB, Testbed
from bt_selfsecure.demo.setting import read_file
from bt_selfsecure.eve.haoxiao.attacks.middle import ManInTheMiddle
from bt_selfsecure.protocols.haoxiao.events import MessageDelivered, MessageReceived
from bt_selfsecure.protocols.haoxiao.frames import Profile
from bt_selfsecure.protocols.haoxiao.record import Role
from bt_selfsecure.protocols.haoxiao.relay import RELAYED_BURST, RELAYED_TIMERS
from bt_selfsecure.protocols.haoxiao.relay_frames import RelayFrame, RelayKind
from bt_selfsecure.protocols.haoxiao.session import Session
from bt_selfsecure.protocols.haoxiao.session_config import SessionConfig
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.endpoint import Endpoint
from bt_selfsecure.sansio.events import StateChanged

RELAY: Final = "carol"
CHUNK_BYTES: Final = 128
DIRECT: Final = 10
"""Messages that are sent without Carol, to compare."""
STORY_S: Final = 3600.0
HOP: Final = SessionConfig(timeout=0.05)
"""Of every session on the air; that between the ends, through Carol, has the usual one."""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Told:
    """Holds what came of a story: whether it went as it should, and its figures, for `--json`."""

    success: bool
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Places:
    """Says who is who of the recording, and who hears whom."""

    recording: Recording
    position: int
    bob: int
    carol: int
    carols_position: int

    @classmethod
    def of(cls, recording: Recording) -> Places:
        """Choose the place at which one receiver hears least, and who can help."""
        shares = {
            (position, receiver.bit): _share(recording, position, receiver.bit)
            for position in range(len(recording.positions))
            for receiver in recording.receivers
        }
        position, bob = min(shares, key=lambda place: shares[place])
        carol = max((r.bit for r in recording.receivers), key=lambda bit: shares[position, bit])
        best = max(range(len(recording.positions)), key=lambda place: min(shares[place, bob], shares[place, carol]))
        return cls(recording, position, bob, carol, best)

    def losses(self, position: int, listener: int) -> RecordedLosses:
        """Return what this receiver loses of what is sent from there, both ways."""
        return RecordedLosses(self.recording, {"listener": listener}, position)

    def share(self, position: int, bit: int) -> float:
        return _share(self.recording, position, bit)

    def name(self, bit: int) -> str:
        return self.recording.receiver(bit).name


def _share(recording: Recording, position: int, bit: int) -> float:
    events = recording.events(position)
    return sum(word >> bit & 1 for word in events) / len(events)


class Hop:
    """Is one end of the session between two neighbours: what waits goes one message a round."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.waiting: list[bytes] = []
        self.frames = 0

    def feed(self, now: float) -> None:
        if self.waiting and self.session.can_send:
            self.session.send(self.waiting.pop(0), now)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    def frames_to_send(self, now: float) -> list[bytes]:
        sent = self.session.frames_to_send(now)
        self.frames += len(sent)
        return sent


class OfficeWorld(RelayedWorld):
    """Carries what the neighbours' sessions send over the losses of the recording."""

    def __init__(self, seed: int, places: Places) -> None:
        super().__init__(seed, relays=(RELAY,), ears={RELAY: lambda time, data: self.tap(time, data)})
        random = Random(seed)
        self.tap: Ear = lambda time, data: None
        """What Carol reads of what she carries."""
        self._random_of_air: Final = random
        self.hops: Final[dict[str, Hop]] = {}
        self._models: Final[dict[str, RecordedLosses]] = {}
        models = (places.losses(places.position, places.carol), places.losses(places.carols_position, places.bob))
        for end, model in zip(ENDS, models, strict=True):
            k0 = random.randbytes(32)
            for role, name in ((Role.INITIATOR, f"{end}>{RELAY}"), (Role.RESPONDER, f"{RELAY}>{end}")):
                context = EndpointContext(random.randbytes, name=name)
                self.hops[name] = Hop(Session.start(Profile.HARDENED, role, k0, HOP, context))
                self._models[name] = model

    @property
    def sent(self) -> int:
        """Return the number of packets that all have sent."""
        return sum(hop.frames for hop in self.hops.values())

    def transmit(self, sender: str, data: bytes) -> None:
        if sender not in self.hops:
            return super().transmit(sender, data)
        there = ">".join(reversed(sender.split(">")))
        if self._models[sender].transmit(self._random_of_air, "sender", ["listener"], self.now):
            self.at(self.now + LATENCY_S, lambda: self._deliver(there, data))
        return None

    def carry(self, sender: str, name: str, data: bytes) -> None:
        hop = self.hops[f"{sender}>{name}"]
        hop.waiting.append(data)
        hop.feed(self.now)
        if f"{sender}>{name}" in self._endpoints:
            self.wake(f"{sender}>{name}")

    def run_now(
        self,
        endpoints: Any,
        on_event: EventHandler,
        until: Callable[[], bool],
        seconds: float,
    ) -> None:
        """Do the same as `World.run_now`, with the sessions between neighbours."""

        def dispatch(name: str, event: Any, now: float) -> None:
            if name not in self.hops:
                return on_event(name, event, now)
            hop = self.hops[name]
            if isinstance(event, StateChanged):
                hop.session.persisted(event.token)
            match event:
                case MessageReceived():
                    here, there = name.split(">")
                    self.take(there, here, event.message)
                case MessageDelivered():
                    hop.feed(now)
                case _:
                    pass
            return None

        every: dict[str, Endpoint[Any]] = {**self.hops, **endpoints}
        super().run_now(every, dispatch, until, seconds)


def tell(seed: int, say: Say) -> Told:
    """Tell the story, one sentence after the other, and return what came of it."""
    places = Places.of(Recording.load(None))
    near, far = places.share(places.position, places.carol), places.share(places.position, places.bob)
    onward = places.share(places.carols_position, places.bob)
    say(
        f"Alice stands at place {places.position} of the office. Bob, its receiver {places.name(places.bob)}, hears "
        f"{100 * far:.0f} % of what she sends; Carol, {places.name(places.carol)}, hears {100 * near:.0f} %, and Bob "
        f"hears {100 * onward:.0f} % of what Carol sends."
    )
    direct = _direct(seed, places)
    say(
        f"Without Carol a message takes {direct[0]:.1f} packets and {direct[1]:.1f} s: it and its acknowledgement must "
        "both arrive, and each miss is waited for, longer each time."
    )
    say("Alice and Carol have a session, and so have Carol and Bob. Alice asks Carol for a way to Bob.")
    world = OfficeWorld(seed, places)
    world.open()
    trip = world.links["alice"].round_trip or 0.0
    say(f"Carol knows one. Request and reply took {trip:.2f} s; from now on she carries what the two send each other.")
    patient = {identity: {"timers": RELAYED_TIMERS} for identity in (ALICE, BOB)}
    scene = Testbed(Profile.HARDENED, seed, shares=True, burst=RELAYED_BURST, meant=patient)
    world.tap = scene.hear
    scene.world = world
    scene.establish()
    equal = scene.established and scene.keys["alice"].k0 == scene.keys["bob"].k0
    say(
        f"They agree on a key of their own: fingerprint {scene.keys['alice'].fingerprint} at Alice's, "
        f"{scene.keys['bob'].fingerprint} at Bob's."
        if scene.established
        else "They agree on no key."
    )
    say(
        f"Carol has heard all {len(scene.knowledge.burst)} packets of the burst, so of the losses she has the key; "
        f"X25519 is mixed in, and she {'has it all the same' if scene.eve_has_key else 'has not'}."
    )
    name, file = read_file(None)
    chunks = [file[start : start + CHUNK_BYTES] for start in range(0, len(file), CHUNK_BYTES)]
    before, began = world.sent, world.now
    whole = equal and _send(scene, chunks)
    through = (world.sent - before) / len(chunks), (world.now - began) / len(chunks)
    say(
        f"Alice sends {name} ({len(file)} bytes, {len(chunks)} messages) through Carol: "
        f"{'SHA-256 equal at Bob' if whole else 'it did not come across'}, {through[0]:.1f} packets and "
        f"{through[1]:.2f} s a message, for four messages of the neighbours' own there and back."
    )
    differ = _middle(seed)
    say(
        "A Carol who changes frames can stand in the middle of an establishment, as anybody who is the only way. "
        f"Then Alice sees {differ[0]} and Bob {differ[1]}: they compare, or have an authentication key, or a second "
        'way that shares no node with the first (via = [["carol"], ["dave"]]).'
    )
    success = bool(whole and not scene.eve_has_key and differ[0] != differ[1])
    facts = {
        "story": "relay",
        "seed": seed,
        "success": success,
        "position": places.position,
        "bob": places.name(places.bob),
        "carol": places.name(places.carol),
        "bob_hears_alice": far,
        "carol_hears_alice": near,
        "bob_hears_carol": onward,
        "packets_a_message_direct": direct[0],
        "packets_a_message_relayed": through[0],
        "seconds_a_message_direct": direct[1],
        "seconds_a_message_relayed": through[1],
        "round_trip_s": trip,
        "equal_keys": equal,
        "carol_has_key": scene.eve_has_key,
        "file_sha256_equal": bool(whole),
        "strings_with_carol_in_the_middle": differ,
    }
    return Told(success, facts)


def _direct(seed: int, places: Places) -> tuple[float, float]:
    """Packets and seconds that a message takes without anybody between."""
    model, sent = places.losses(places.position, places.bob), [0]

    def heard(random: Random, sender: str, listeners: Any, now: float) -> frozenset[str]:
        sent[0] += 1
        return frozenset(listeners) if model.transmit(random, "sender", ["listener"], now) else frozenset()

    scene = Testbed(Profile.HARDENED, seed)
    scene.world = World(heard, seed)
    random = Random(seed)
    k0, context = random.randbytes(32), EndpointContext(random.randbytes)
    sessions = {
        end: Session.start(Profile.HARDENED, role, k0, HOP, context) for end, role in zip(ENDS, Role, strict=True)
    }
    scene.converse(sessions, [b"m" * CHUNK_BYTES] * DIRECT)
    return sent[0] / (2 * DIRECT), scene.world.now / DIRECT


def _send(scene: Testbed, chunks: list[bytes]) -> bool:
    """Send the file from Alice to Bob, and say whether it came whole."""
    sessions = scene.sessions()
    waiting, came = list(chunks), list[bytes]()

    def on_event(name: str, event: Any, now: float) -> None:
        if isinstance(event, MessageReceived):
            came.append(event.message)
        if isinstance(event, StateChanged):
            sessions[name].persisted(event.token)
        if name == "alice" and waiting and sessions["alice"].can_send:
            sessions["alice"].send(waiting.pop(0), now)

    sessions["alice"].send(waiting.pop(0), scene.world.now)
    scene.world.run_now(sessions, on_event, lambda: len(came) == len(chunks), STORY_S)
    return hashlib.sha256(b"".join(came)).digest() == hashlib.sha256(b"".join(chunks)).digest()


def _middle(seed: int) -> tuple[str, str]:
    """The strings that the two see where Carol stands in the middle."""
    mallory = ManInTheMiddle(Random(seed).randbytes)

    def tamper(frame: RelayFrame) -> list[RelayFrame]:
        if frame.kind is not RelayKind.DATAGRAM:
            return [frame]
        return [changed(frame, sent) for sent in mallory.hear(frame.body)]

    scene = Testbed(Profile.HARDENED, seed, shares=True)
    scene.world = world = RelayedWorld(seed, relays=(RELAY,), tampers={RELAY: tamper})
    world.open()
    scene.establish()
    return str(scene.keys["alice"].sas), str(scene.keys["bob"].sas)
