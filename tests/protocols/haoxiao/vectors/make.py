"""Writes the vectors of this directory: `python make.py`. The same code gives the same bytes everywhere.

All randomness is SHA-256 in counter mode (the tests' harness.py); nothing depends on the clock or the machine.
README.md beside this file describes the fields.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from harness import ALICE, BOB, DeterministicRandom, Transmission, bob_address, cast, clear  # noqa: E402
from relay_network import A, B, C, D, Network, between  # noqa: E402
from test_frames import CASES, SEED  # noqa: E402

from bt_selfsecure.crypto import hkdf_expand  # noqa: E402
from bt_selfsecure.protocols.haoxiao import limits  # noqa: E402
from bt_selfsecure.protocols.haoxiao.exported import Generation  # noqa: E402
from bt_selfsecure.protocols.haoxiao.frames import Kind, Profile, decode  # noqa: E402
from bt_selfsecure.protocols.haoxiao.group import fragments, keys, letters  # noqa: E402
from bt_selfsecure.protocols.haoxiao.material import WORDS  # noqa: E402
from bt_selfsecure.protocols.haoxiao.record import Role, SessionRecord  # noqa: E402
from bt_selfsecure.protocols.haoxiao.relay_events import Via  # noqa: E402
from bt_selfsecure.protocols.haoxiao.relay_frames import RELAY_PORT  # noqa: E402
from bt_selfsecure.protocols.haoxiao.relay_frames import decode as decode_relayed  # noqa: E402
from bt_selfsecure.protocols.haoxiao.session import Session  # noqa: E402
from bt_selfsecure.protocols.haoxiao.session_config import SessionConfig  # noqa: E402
from bt_selfsecure.protocols.haoxiao.suites import SUITES  # noqa: E402
from bt_selfsecure.sansio.context import EndpointContext  # noqa: E402
from bt_selfsecure.sansio.events import StateChanged  # noqa: E402

PROVENANCE = "Made by make.py of bt_selfsecure from its own code; docs/protocols/haoxiao.md is the specification."
MISSED = (2, 5)
KEY = b"pre-shared key of the vectors"
CONTINUITY, NEWER = b"continuity key of both ends".ljust(32), b"continuity key of the initiator".ljust(32)
ROUNDS = 5
CHECKPOINT_ROUNDS = 3
DATA_LOST, ACK_LOST = 1, 3  # rounds of the initiator in which the first data, or the first acknowledgement, is lost


def frames() -> dict[str, Any]:
    """Every kind in both profiles."""
    made = []
    for case in CASES:
        frame = decode(case.wire)
        made.append(
            {
                "profile": frame.profile.label,
                "kind": frame.kind.name,
                "retran": frame.retran,
                "seq": frame.seq,
                "rand": frame.rand.hex(),
                "message": frame.message.hex(),
                "mac": frame.mac.hex(),
                "oaep_seed": SEED.hex() if case.profile is Profile.PAPER and case.kind in (0, 1) else "",
                "wire": case.wire.hex(),
            }
        )
    return {"provenance": PROVENANCE, "frames": made}


def establishment(name: str, profile: Profile, **changes: Any) -> dict[str, Any]:
    """One establishment of 8 packets; the responder misses two of them, and nothing else is lost."""

    def missed(transmission: Transmission) -> bool:
        return transmission.frame.kind is Kind.RAND and transmission.frame.seq in MISSED

    scene = cast(profile, channel=lambda t: [] if missed(t) else clear(t), seed=1, **changes)
    scene.world.run()
    key = scene.world.established("bob")
    assert key == scene.world.established("alice") or key.k0 == scene.world.established("alice").k0
    response, end = (scene.world.frames(kind)[0].frame for kind in (Kind.RESPONSE, Kind.END))
    return {
        "name": name,
        "identity": {"initiator": scene.alice.config.identity.hex(), "responder": bob_address(0).hex()},
        "burst": scene.alice.config.burst,
        "t_1_ms": round(1000 * scene.alice.config.t_1),
        "authentication_key": scene.alice.config.authentication_key.hex(),
        "continuity_keys": {
            "initiator": [key.hex() for key in scene.alice.config.continuity_keys],
            "responder": [key.hex() for key in scene.bob.config.continuity_keys],
        },
        "random": {
            name: [data.hex() for data in drawn(end)]
            for name, end in zip(("initiator", "responder"), (scene.alice, scene.bob), strict=True)
        },
        "frames": [
            {
                "from": "initiator" if t.source == "alice" else "responder",
                "kind": t.frame.kind.name,
                "wire": t.data.hex(),
                "lost": missed(t),
            }
            for t in scene.world.sent
        ],
        "received": list(key.received),
        "cpr_s": response.message[limits.PAIR_ID_BYTES :].hex(),
        "pair": response.message[: limits.PAIR_ID_BYTES].hex(),
        "rand_data": scene.world.frames(Kind.ACKNOWLEDGE)[0].frame.rand.hex(),
        "responder_nonce": end.message[limits.PAIR_ID_BYTES :].hex(),
        "k0": key.k0.hex(),
        "kd": SUITES[profile].derived_key(key.k0).hex(),
        "fingerprint": key.fingerprint,
        "sas": {"digits": key.sas.digits, "words": list(key.sas.words)},
        "continuity_key": SUITES[profile].continuity_key(key.k0).hex(),
        "export_root": key.export_root.hex(),
    }


def drawn(end: Any) -> list[bytes]:
    random = end._random
    assert isinstance(random, DeterministicRandom)
    return random.drawn


def establishments(profile: Profile) -> dict[str, Any]:
    made = [establishment("plain", profile)]
    if profile is Profile.HARDENED:
        made.append(establishment("with X25519", profile, exchange_shares=True))
        made.append(establishment("with an authentication key", profile, authentication_key=KEY))
        alice, bob = (
            {"peer": BOB, "continuity_keys": (NEWER, CONTINUITY)},
            {"peer": ALICE, "continuity_keys": (CONTINUITY,)},
        )
        made.append(establishment("with continuity", profile, alice=alice, bob=bob))
    return {"provenance": PROVENANCE, "profile": profile.label, "word_list": list(WORDS), "establishments": made}


class Pair:
    """Two sessions whose frames go by hand, so that each can be lost."""

    def __init__(self, profile: Profile, k0: bytes) -> None:
        self.config = config = SessionConfig(checkpoint_rounds=CHECKPOINT_ROUNDS)
        self.random = {role: DeterministicRandom(100 + i) for i, role in enumerate(Role)}
        self.ends = {
            role: Session.start(profile, role, k0, config, EndpointContext(self.random[role])) for role in Role
        }
        self.now = 0.0
        for end in self.ends.values():
            self.out(end)

    def out(self, end: Session) -> list[bytes]:
        """What it sends after its disk has written everything."""
        while (event := end.next_event()) is not None:
            if isinstance(event, StateChanged):
                end.persisted(event.token)
        return end.frames_to_send(self.now)

    def retransmitted(self, end: Session) -> list[bytes]:
        timer = end.get_timer()
        assert timer is not None
        self.now = timer
        end.handle_timer(self.now)
        return self.out(end)

    def restart(self, role: Role) -> None:
        """Its memory is lost, its record is not."""
        record = SessionRecord.from_json(self.ends[role].record.to_json())
        self.ends[role] = Session.restore(record, self.config, EndpointContext(self.random[role]), self.now)

    def exchange(self) -> list[tuple[Role, bytes]]:
        """Everything that both send until they are silent; nothing is lost."""
        sent: list[tuple[Role, bytes]] = []
        while new := [(role, data) for role, end in self.ends.items() for data in self.out(end)]:
            sent += new
            for role, data in new:
                self.ends[role.peer].receive_frame(data, self.now)
        return sent


def resynchronisation(pair: Pair) -> dict[str, Any]:
    """The responder restarts: in one direction the receiver calls, in the other the sender requests of its own."""
    pair.restart(Role.RESPONDER)
    before = {role: (end.record.sending, end.record.receiving) for role, end in pair.ends.items()}
    sent = pair.exchange()
    directions = {}
    for role in Role:
        sending, receiving = before[role][0], before[role.peer][1]
        chain = pair.ends[role].record.sending.chain
        assert chain == pair.ends[role.peer].record.receiving.chain
        directions[role.value] = {
            "sender_keys": [key.hex() for key in sending.newest],
            "receiver_keys": [key.hex() for key in receiving.newest],
            "oldest": sending.chain.seq,
            "unacknowledged": len(sending.messages) + (role is Role.RESPONDER),
            "expected": receiving.chain.seq,
            "seq": chain.seq,
            "key": chain.key.hex(),
            "checkpoints": [key.hex() for key in chain.checkpoints],
        }
    frames = [{"from": role.value, "kind": decode(data).kind.name, "wire": data.hex()} for role, data in sent]
    return {"restarted": "responder", "directions": directions, "frames": frames}


def one_round(pair: Pair, role: Role, number: int, message: bytes) -> dict[str, Any]:
    """One message and its acknowledgement; in two rounds of the initiator something is lost, and it is sent again."""
    sender, receiver = pair.ends[role], pair.ends[role.peer]
    chain, before = sender.record.sending.chain, len(pair.random[role].drawn)
    lossy = role is Role.INITIATOR and number in (DATA_LOST, ACK_LOST)
    sender.send(message, pair.now)
    (first,) = data = pair.out(sender)
    acks: list[bytes] = []
    if not (lossy and number == DATA_LOST):
        receiver.receive_frame(first, pair.now)
        acks += pair.out(receiver)
    if lossy:
        data += pair.retransmitted(sender)
        receiver.receive_frame(data[-1], pair.now)
        acks += pair.out(receiver)
    sender.receive_frame(acks[-1], pair.now)
    pair.out(sender)
    following = sender.record.sending.chain
    assert following.key == receiver.record.receiving.chain.key
    random = [value.hex() for value in pair.random[role].drawn[before:]]
    width = len(random) // len(data)
    return {
        "sender": role.value,
        "seq": chain.seq,
        "alpha": chain.alpha,
        "key": chain.key.hex(),
        "message": message.hex(),
        "attempts": [
            {
                "retran": number,
                "rand": random[width * number],
                "oaep_seed": random[width * number + 1] if width == 2 else "",
                "wire": wire.hex(),
            }
            for number, wire in enumerate(data)
        ],
        "accepted_attempt": 1 if lossy and number == DATA_LOST else 0,
        "acknowledgements": [ack.hex() for ack in acks],
        "next_key": following.key.hex(),
        "next_alpha": following.alpha,
    }


def session(profile: Profile) -> dict[str, Any]:
    """Five rounds each way, alternating, from K_0 of the plain establishment; then the responder restarts."""
    k0 = bytes.fromhex(establishment("plain", profile)["k0"])
    pair = Pair(profile, k0)
    messages = [b"", b"hello", bytes(range(64)), b"a message that is longer than a key of 32 bytes", b"\xff" * 32]
    tail = {Role.INITIATOR: b"", Role.RESPONDER: b"!"}
    rounds = [one_round(pair, role, number, messages[number] + tail[role]) for number in range(ROUNDS) for role in Role]
    return {
        "provenance": PROVENANCE,
        "profile": profile.label,
        "k0": k0.hex(),
        "checkpoint_rounds": CHECKPOINT_ROUNDS,
        "chains": {role.value: SUITES[profile].chain_key(k0, role.label).hex() for role in Role},
        "rounds": rounds,
        "resynchronisation": resynchronisation(pair),
    }


def group() -> dict[str, Any]:
    """Two rounds of an epoch, with and without something in common of a burst."""
    draw = DeterministicRandom(7)
    made = []
    for seqs in ((), (0, 3, 4)):
        group_id, secret, session = draw(8), draw(32), draw(8) if seqs else bytes(8)
        common = keys.Common(session, seqs, b"".join(draw(16) for _ in seqs))
        key = keys.first_key(common, secret, group_id, 3)
        welcome = letters.WelcomeLetter(group_id, 3, secret, "lamps", session, seqs)
        rounds = []
        for number, message in enumerate((b"", b"on \x80\x00", bytes(range(64)))):
            rand, sealed = keys.seal(key, number, message, draw)
            repair = letters.RepairLetter(group_id, 3, (letters.MissedRound(number, rand, message),))
            rounds.append(
                {
                    "key": key.hex(),
                    "message": message.hex(),
                    "rand": rand.hex(),
                    "fragments": [fragment.hex() for fragment in fragments.fragments(number, sealed)],
                    "repair": letters.encode(repair).hex(),
                    "report": letters.encode(letters.ReportLetter(group_id, 3, number + 1)).hex(),
                }
            )
            key = keys.next_key(key, number, rand, message)
        made.append(
            {
                "group": group_id.hex(),
                "epoch": 3,
                "secret": secret.hex(),
                "tokens": common.tokens.hex(),
                "welcome": letters.encode(welcome).hex(),
                "closed": letters.encode(letters.ClosedLetter(group_id, 3)).hex(),
                "leave": letters.encode(letters.LeaveLetter(group_id, 3)).hex(),
                "group_key": keys.group_key(common, secret).hex(),
                "rounds": rounds,
            }
        )
    return {"provenance": PROVENANCE, "epochs": made}


def exported() -> dict[str, Any]:
    """Keys for other programs, of the first generations after a K_0."""
    k0 = bytes.fromhex(establishment("plain", Profile.HARDENED)["k0"])
    generation = Generation.first(hkdf_expand(k0, b"btss export"))
    made = []
    for number in range(3):
        of = generation.at(number)
        keys = {label: of.key(label, length).hex() for label, length in (("wireguard", 32), ("a", 16), ("b", 64))}
        made.append({"number": number, "id": of.id, "held": of.held.hex(), "keys": keys})
    return {"provenance": PROVENANCE, "k0": k0.hex(), "generations": made}


def relay() -> dict[str, Any]:
    """A link of two ways from A to C, by B and by D, from the first request to the error that closes it."""
    network = Network(
        {A: {B, D}, B: {A, C}, C: {B, D}, D: {A, C}}, between(A, C, Via(frozenset((B,)), frozenset((D,))))
    )
    for node, relay in network.nodes.items():
        relay.links._random = DeterministicRandom(node[-1])
    frames: list[dict[str, Any]] = []

    def told(sender: bytes, receiver: bytes) -> None:
        wire = network.moving[sender, receiver][0]
        frame = decode_relayed(wire)
        named = {name: getattr(frame, name).hex() for name in ("source", "destination", "body")}
        numbers = {"kind": frame.kind.name, "ttl": frame.ttl, "link": frame.link}
        frames.append({"from": sender.hex(), "to": receiver.hex(), **numbers, **named, "wire": wire.hex()})

    def run() -> None:
        while network.busy:
            told(*network.busy[0])
            network.step()

    number = network.dial(A, C)
    run()
    (up,), _ = network.take(A), network.take(C)
    network.send(A, C, number, b"a datagram")
    run()
    network.nodes[C].links.close(A, number, network.now)
    network.settle(C)
    run()
    return {"provenance": PROVENANCE, "port": RELAY_PORT, "key": up.key.hex(), "frames": frames}


def everything() -> dict[str, dict[str, Any]]:
    """Each file's content by its name."""
    made = {"frames.json": frames(), "group.json": group(), "exported.json": exported(), "relay.json": relay()}
    for profile in Profile:
        made[f"establishment-{profile.label}.json"] = establishments(profile)
        made[f"session-{profile.label}.json"] = session(profile)
    return made


if __name__ == "__main__":
    for file_name, content in everything().items():
        (HERE / file_name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        print(f"wrote {file_name}")
