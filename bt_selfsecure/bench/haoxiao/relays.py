"""Attacks of those who carry what Alice and Bob send each other: what a relay sees, and what it can do."""

from __future__ import annotations

from random import Random
from typing import Final

from bt_selfsecure.bench.attacks import Attack, Trial
from bt_selfsecure.bench.haoxiao.ends import Ends, trial_of
from bt_selfsecure.bench.haoxiao.relayed import RelayedWorld, Tamper, changed
from bt_selfsecure.bench.haoxiao.testbed import BURST, Testbed
from bt_selfsecure.crypto import sha256
from bt_selfsecure.eve.haoxiao.attacks.middle import ManInTheMiddle
from bt_selfsecure.protocols.haoxiao.frames import Profile
from bt_selfsecure.protocols.haoxiao.relay_frames import MAX_DATAGRAM_BYTES, RelayFrame, RelayKind
from bt_selfsecure.protocols.haoxiao.relay_ways import made_of

MESSAGES: Final = 10
SHARE: Final = 0.3
"""Of the frames that she forwards she does something else with."""


def listens(ends: Ends, seed: int) -> Trial:
    scene = ends.scene(seed)
    scene.world = world = RelayedWorld(seed, ears={"mallory": scene.hear})
    world.open()
    scene.establish()
    return trial_of(scene, scene.eve_has_key)


def between(ends: Ends, seed: int) -> Trial:
    """The one relay stands in the middle."""
    scene, mallory = ends.scene(seed), ManInTheMiddle(Random(seed).randbytes)
    scene.world = world = RelayedWorld(seed, tampers={"mallory": _in_the_middle(mallory)})
    world.open()
    return _judged(scene, mallory)


def one_of_two(ends: Ends, seed: int) -> Trial:
    """She is one of the two relays, knows her share of the key, and guesses the other."""
    return _of_two(ends, seed, frozenset(("mallory",)))


def both_of_two(ends: Ends, seed: int) -> Trial:
    """Both relays are hers."""
    return _of_two(ends, seed, frozenset(("mallory", "dave")))


def _of_two(ends: Ends, seed: int, hers: frozenset[str]) -> Trial:
    scene, mallory = ends.scene(seed), ManInTheMiddle(Random(seed).randbytes)
    shares = {0: bytes(32), 1: bytes(32)}

    def collecting(frame: RelayFrame) -> list[RelayFrame]:
        if frame.kind is RelayKind.SHARE:
            shares[frame.body[0]] = frame.body[5:]
        return _in_the_middle(mallory)(frame)

    scene.world = world = RelayedWorld(seed, relays=("mallory", "dave"), tampers=dict.fromkeys(hers, collecting))
    world.open()
    if ends.profile is Profile.HARDENED:  # the other has no authentication key
        scene.authentication_key = sha256(ends.authentication_key + world.key)
        mallory.authentication_key = sha256(made_of(shares[0], shares[1]))  # and she has none of theirs
    return _judged(scene, mallory)


def _in_the_middle(mallory: ManInTheMiddle) -> Tamper:
    def tamper(frame: RelayFrame) -> list[RelayFrame]:
        if frame.kind is not RelayKind.DATAGRAM:
            return [frame]
        return [changed(frame, sent) for sent in mallory.hear(frame.body)]

    return tamper


def _judged(scene: Testbed, mallory: ManInTheMiddle) -> Trial:
    scene.establish()
    keys = mallory.keys()
    both = keys is not None and scene.established and keys == (scene.keys["alice"].k0, scene.keys["bob"].k0)
    differ = scene.established and scene.keys["alice"].sas != scene.keys["bob"].sas
    return Trial(both, scene.established, differ or bool(scene.failures))


def disturbs(ends: Ends, seed: int) -> Trial:
    """She drops, repeats, holds back, changes and invents what passes in a session, and what passes before."""
    scene, random = ends.scene(seed), Random(seed)
    held: list[RelayFrame] = []
    calm = [False]

    def tamper(frame: RelayFrame) -> list[RelayFrame]:
        if calm[0] or frame.kind is not RelayKind.DATAGRAM or random.random() >= SHARE:
            return [frame]
        match random.randrange(5):
            case 0:
                return []
            case 1:
                return [frame] * 3
            case 2:
                held.append(frame)
                return []
            case 3:
                released, held[:] = [frame, *reversed(held)], []
                return released
            case _:
                body = bytearray(frame.body[:MAX_DATAGRAM_BYTES])
                body[random.randrange(len(body))] ^= 1 + random.randrange(255)
                return [changed(frame, bytes(body)), changed(frame, random.randbytes(60)), frame]

    scene.world = world = RelayedWorld(seed, tampers={"mallory": tamper})
    world.open()
    sessions = scene.sessions(random.randbytes(32))
    messages = [b"%d" % number for number in range(MESSAGES)]
    scene.converse(sessions, messages)
    whole = scene.received == {"alice": messages, "bob": messages}
    return Trial(not whole, True, any(sum(session.rejections.values()) for session in sessions.values()))


_HEARS_ALL: Final = f"a burst of {BURST} packets, which all pass a relay"
_NO_LENGTH: Final = "a longer burst changes nothing: a relay misses none of it"
ATTACKS: Final[tuple[Attack[Ends], ...]] = (
    Attack("relay-listens", "relays what the two send, and reads along", "to be the relay", "she has K_0", listens,
           runs=20, remedy="X25519, or an authentication key: a node lets no relay carry for a peer without one.",
           setting=_HEARS_ALL, meaning=_NO_LENGTH),
    Attack("relay-middle", "relays, and stands in the middle", "to be the only relay", "she shares a key with each",
           between, runs=20,
           remedy="People compare the string; an authentication key; two ways: `via = [[\"bob\"], [\"dave\"]]`.",
           setting=_HEARS_ALL, meaning=_NO_LENGTH),
    Attack("relay-one-of-two", "the same, where there is a second way", "to be one of two relays",
           "she shares a key with each", one_of_two, runs=20, remedy="None is needed.",
           setting=f"{_HEARS_ALL}; two ways, each with a share of a key (`paper` has none)", meaning=_NO_LENGTH),
    Attack("relay-both", "the same, by both relays together", "to be both relays", "she shares a key with each",
           both_of_two, runs=20, remedy="People compare the string; an authentication key.",
           setting=f"{_HEARS_ALL}; two ways, each with a share of a key (`paper` has none)", meaning=_NO_LENGTH),
    Attack("relay-disturbs", "drops, repeats, holds back, changes and invents what she relays", "to be the only relay",
           "a message is lost, twice there, or another one", disturbs, runs=20,
           remedy="None is needed; she may cut the two off, as long as there is no other way.",
           setting=f"a session of {MESSAGES} messages each way; she does it with {100 * SHARE:g} % of the frames",
           meaning="it is the protocol that decides, no loss and no length"),
)  # fmt: skip
