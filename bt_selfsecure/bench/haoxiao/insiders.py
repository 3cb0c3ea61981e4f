"""Attacks on who is at the other end, and since when: by those who had a key, relay a call, or forge burst packets."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Final

from bt_selfsecure.air.models import Bernoulli
from bt_selfsecure.bench.attacks import Attack, Trial
from bt_selfsecure.bench.haoxiao.ends import Ends, trial_of
from bt_selfsecure.bench.haoxiao.testbed import ALICE, BOB, BURST
from bt_selfsecure.eve.haoxiao.attacks.forging import Forgery
from bt_selfsecure.eve.haoxiao.attacks.speaking import SpeakingThief
from bt_selfsecure.protocols.haoxiao.frames import Kind, Profile, decode, encode
from bt_selfsecure.protocols.haoxiao.session import Session
from bt_selfsecure.protocols.haoxiao.suites import SUITES
from bt_selfsecure.sansio.events import StateChanged

LOSSLESS: Final = Bernoulli({"alice": 0.0, "bob": 0.0, "eve": 0.0})
CAROL: Final = bytes.fromhex("02b75e000003")
FAR: Final = (1 << 46, (1 << 47) - 1, (1 << 48) - 1)
FIRST, OLD, SINCE = b"first".ljust(32), b"of before".ljust(32), b"since then".ljust(32)
COPIES: Final = 4
"""Of one Seq that a responder of `hardened` keeps until the list comes; in `paper` one is enough."""


def rounds(ends: Ends, seed: int) -> Trial:
    """Whoever was once taken for Bob answers that round 2^46, or more, is the next; then the true Bob comes."""
    scene, random = ends.scene(seed, air=LOSSLESS), Random(seed)
    suite = SUITES[ends.profile]
    alice = scene.sessions(FIRST)["alice"]
    key = alice.record.sending.chain.key
    mallory = SpeakingThief(suite, key, random.randbytes)
    now = scene.world.now
    alice.rekey(FIRST, now)
    _keep(alice)
    for data in alice.frames_to_send(now):
        if decode(data).kind is Kind.RESYNC_REQUEST:
            alice.receive_frame(mallory.response(data, random.choice(FAR)), now)
    noticed = sum(alice.rejections.values()) > 0
    bob = scene.sessions(SINCE)["bob"]
    for end in (alice, bob):
        end.rekey(SINCE, now)
    scene.converse({"alice": alice, "bob": bob}, [b"hello"])
    return Trial(scene.received["bob"] != [b"hello"], True, noticed)


def impersonation_later(ends: Ends, seed: int) -> Trial:
    """Let a thief of K_i from Alice's memory talk with Bob in her name, and go on when the two have established anew.
    Success: Bob takes a message of hers once more."""
    scene, random = ends.scene(seed, air=LOSSLESS), Random(seed)
    sessions = scene.sessions(FIRST)
    chain = sessions["alice"].record.sending.chain
    for number in range(random.randrange(1, 20)):
        frame, attempt = chain.seal(b"forged", 0, random.randbytes)
        _hear(sessions["bob"], encode(frame), scene.world.now)
        assert sessions["bob"].record.receiving.chain.seq == number + 1, "until then she is Alice"
        chain = chain.rolled(attempt, b"forged")
    for end in sessions.values():
        end.rekey(SINCE, scene.world.now)
    scene.converse(sessions, [b"hello"])
    thief, bob, now = SpeakingThief(SUITES[ends.profile], chain.key, random.randbytes), sessions["bob"], scene.world.now
    before, rejected = bob.record.receiving.chain, sum(bob.rejections.values())
    _hear(bob, encode(chain.seal(b"forged", 0, random.randbytes)[0]), now)
    _hear(bob, thief.request(thief.call(), chain.seq), now)
    noticed = sum(bob.rejections.values()) > rejected
    return Trial(bob.record.receiving.chain != before, scene.received["bob"] == [b"hello"], noticed)


def _hear(end: Session, data: bytes, now: float) -> None:
    """What it answers gets lost."""
    end.receive_frame(data, now)
    _keep(end)
    end.frames_to_send(now)


def _keep(end: Session) -> None:
    for event in iter(end.next_event, None):
        if isinstance(event, StateChanged):
            end.persisted(event.token)


def rollback(ends: Ends, seed: int) -> Trial:
    """K_i of some rounds ago, and both ends are asked to go on from it."""
    scene, random = ends.scene(seed, air=LOSSLESS), Random(seed)
    sessions = scene.sessions(FIRST)
    key = sessions["alice"].record.sending.chain.key
    scene.converse(sessions, [b"since"] * random.randrange(2, 12))
    thief, now = SpeakingThief(SUITES[ends.profile], key, random.randbytes), scene.world.now
    before = sessions["alice"].record, sessions["bob"].record
    sessions["alice"].receive_frame(thief.call(), now)
    sessions["bob"].receive_frame(thief.request(thief.call(), 0), now)
    asked = [data for end in sessions.values() for data in end.frames_to_send(now)]
    for data in asked:
        if decode(data).kind is Kind.RESYNC_REQUEST:
            sessions["alice"].receive_frame(thief.response(data, 0), now)
        if decode(data).kind is Kind.RESYNC_CALL:
            sessions["bob"].receive_frame(thief.request(data, 0), now)
    after = sessions["alice"].record, sessions["bob"].record
    return Trial(before != after, True, any(sum(end.rejections.values()) for end in sessions.values()))


def takeover(ends: Ends, seed: int) -> Trial:
    """Answer Alice in Bob's name with his address and nothing else, now that her key with him was confirmed."""
    meant = {}
    if ends.profile is Profile.HARDENED:
        left = SUITES[ends.profile].continuity_key(OLD)
        meant = {ALICE: {"peer": BOB, "continuity_keys": (left,), "requires_continuity": True}}
    scene = ends.scene(seed, air=LOSSLESS, meant=meant)
    scene.authentication_key, known = b"", ends.authentication_key
    if known:  # which she does not have
        scene.meant.setdefault(ALICE, {})["authentication_key"] = known
    scene.establish()
    return trial_of(scene, "alice" in scene.keys)


def relay(ends: Ends, seed: int) -> Trial:
    """Lead Alice's call to Bob's address to Carol, who has the same authentication key."""
    scene = ends.scene(seed, air=LOSSLESS, meant={ALICE: {"peer": CAROL}})
    scene.establish()  # of the two names it is the one that Alice means that differs from the one who answers
    return trial_of(scene, "alice" in scene.keys)


def forged_packet(ends: Ends, seed: int) -> Trial:
    """Send one burst packet of a random Seq, a while after the accept."""
    scene, random = ends.scene(seed), Random(seed)
    forgery = Forgery(random.randbytes, seqs=[random.randrange(BURST)], copies=1)
    at = random.random()

    def ear(time: float, data: bytes) -> None:
        for sent in forgery.hear(data):
            scene.world.at(time + at, lambda sent=sent: scene.world.transmit("eve", sent))  # type: ignore[misc]

    scene.tap = ear
    scene.establish()
    return trial_of(scene, not scene.established)


def block(ends: Ends, seed: int, *, compact: bool = False) -> Trial:
    """Send as many forged packets for each Seq as it takes, before the true ones."""
    copies = COPIES if ends.profile is Profile.HARDENED else 1
    forgery = Forgery(Random(seed).randbytes, seqs=range(BURST), copies=copies, compact=compact)
    scene = ends.scene(seed, air=LOSSLESS, speak=forgery.hear, compact=compact)
    scene.establish()
    return trial_of(scene, not scene.established)


def _block(name: str, what: str, pace_s: float, run: Callable[[Ends, int], Trial]) -> Attack[Ends]:
    """`pace_s`: from one packet of a node's burst to the next."""
    minute = 60 / pace_s
    return Attack(
        name,
        f"forged packets for each Seq ahead of the true ones, {what}: {COPIES} in `hardened`, 1 in `paper`",
        f"a sender in range of Bob that is faster than Alice; {COPIES * BURST} frames an establishment, {BURST} "
        f"against `paper`: at a node's pace ({1000 * pace_s:g} ms) {COPIES * minute:.0f} and {minute:.0f} a minute",
        "no key comes about",
        run,
        runs=20,
        remedy="None; nothing secret is lost. Requests in Alice's name, six a minute, cost less: see flood-slow.",
        setting=f"a burst of {BURST} packets, {what}; nobody misses any",
        meaning="of N packets she has to forge nearly 4 N, so a longer burst costs her more",
    )


_DECIDES: Final = "it is the protocol that decides, no loss and no length"
ATTACKS: Final[tuple[Attack[Ends], ...]] = (
    Attack("rounds", "names a round near the limit, as whoever was once the peer", "to have been taken for Bob once",
           "Alice can't talk to the true Bob with a new key", rounds, runs=20, remedy="None is needed.",
           setting="a session, and a new K_0 after it", meaning=_DECIDES),
    Attack("impersonation-later", "K_i from memory, sends in Alice's name, and goes on once the two establish anew",
           "one look into a device, and a sender in range of Bob", "Bob takes her message for Alice's after that",
           impersonation_later, runs=20, remedy="None is needed: until then see impersonation.",
           setting="up to 19 rounds of hers with Bob, then a new K_0", meaning=_DECIDES),
    Attack("rollback", "an older K_i, then speaks under it", "one look into a device, and a sender in range",
           "an end goes on from that key", rollback, runs=20,
           remedy="`every-message`, the default. In `every-W` it is told.",
           setting="a session of `every-message`", meaning=_DECIDES),
    Attack("takeover", "answers a call of a confirmed peer with its address alone", "a sender in range of Alice, Bob "
           "away", "Alice has a new key, with her", takeover, runs=20,
           remedy="`hardened`: continuity with the key before, which a confirmed peer must have.",
           setting=f"a burst of {BURST} packets; nobody misses any", meaning=_DECIDES),
    Attack("relay", "leads a call to another device of a group", "a link that she relays; the three share what "
           "authentication key there is", "Alice takes Carol for Bob", relay, runs=20, remedy="None is needed.",
           setting=f"a burst of {BURST} packets; nobody misses any", meaning=_DECIDES),
    Attack("forged-packet", "one forged burst packet", "a sender in range of Bob; one frame an establishment",
           "no key comes about", forged_packet, runs=50, remedy="None is needed.",
           setting=f"a burst of {BURST} packets, of which Bob misses 10 %",
           meaning="what fails fails without her, too: in `paper` a lost acknowledge or end"),
    _block("block", "long ones", 0.01, block),
    _block("block-compact", "compact ones", 0.03, partial(block, compact=True)),
)  # fmt: skip
