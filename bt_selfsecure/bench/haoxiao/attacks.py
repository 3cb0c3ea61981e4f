"""What each of Eve's attacks yields on the virtual air, counted over many runs. docs/attacks.md is made from this.

The attacks are in `eve.haoxiao.attacks` and see only what Eve's radio brings; what they claim is held
against the truth here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from random import Random
from statistics import fmean
from typing import Any, Final

from bt_selfsecure.air.models import Bernoulli, Jammed
from bt_selfsecure.air.world import World
from bt_selfsecure.bench.attacks import Attack, Trial
from bt_selfsecure.bench.haoxiao import groups, insiders, relays
from bt_selfsecure.bench.haoxiao.ends import Ends, trial_of
from bt_selfsecure.bench.haoxiao.testbed import ALICE, BOB, BOB_LOSS, BURST, EVE_LOSS, Testbed
from bt_selfsecure.eve.haoxiao.attacks.flood import RequestFlood
from bt_selfsecure.eve.haoxiao.attacks.guessing import BruteForce, Repair
from bt_selfsecure.eve.haoxiao.attacks.middle import ManInTheMiddle
from bt_selfsecure.eve.haoxiao.attacks.replay import Reflection, Replay
from bt_selfsecure.eve.haoxiao.attacks.steering import BlacklistSteering
from bt_selfsecure.eve.haoxiao.attacks.theft import StolenKey, StolenRecord
from bt_selfsecure.eve.haoxiao.establishments import Eavesdropper
from bt_selfsecure.protocols.haoxiao.events import Established, Event
from bt_selfsecure.protocols.haoxiao.frames import Kind, Profile, decode, encode
from bt_selfsecure.stats.losses import packets_needed

WEAK_BITS: Final = 4
"""Random bits in each message of a broken generator."""
WORK: Final = 1 << 9
SLOW_FLOOD_S: Final = 10.0
"""From one request of a flood to the next, as T_d."""
DRAWS: Final = 20
SHORTENED: Final = 1
"""Digits of a string, of six: so that luck shows."""
ROUNDS_ON_TAPE: Final = 60
HEALING_LOSSES: Final = (0.05, 0.1, 0.2, 0.5)
SETTING: Final = (
    f"a burst of {BURST} packets, whatever they are worth (target 1 bit, where a node has 128); of them Bob misses "
    f"{100 * BOB_LOSS:g} %, and Eve {100 * EVE_LOSS:g} %"
)
CLEAR: Final = f"a burst of {BURST} packets; Bob misses none, and Eve"
KEPT: Final = round(BURST * (1 - BOB_LOSS))
"""Packets of a burst that Bob keeps, on average."""
TARGET_BITS: Final = 128


# --- those who listen -------------------------------------------------------------------------------------------------


def passive(ends: Ends, seed: int) -> Trial:
    scene = ends.scene(seed)
    scene.establish()
    return trial_of(scene, scene.eve_has_key)


def everything(ends: Ends, seed: int) -> Trial:
    """She stands where nothing gets lost."""
    air = Bernoulli({"alice": BOB_LOSS, "bob": BOB_LOSS, "eve": 0.0})
    scene = ends.scene(seed, air=air)
    scene.establish()
    return trial_of(scene, scene.eve_has_key)


def colluding(ends: Ends, seed: int) -> Trial:
    """Let two of them listen, each with her own losses; what they heard is put together by Seq."""
    together = Eavesdropper()
    scene = ends.scene(seed, eves=("eve", "eve2"), tap=lambda time, data: together.hear(data))
    scene.establish()
    found = [knowledge.initial_key() for knowledge in together.establishments()]
    return trial_of(scene, any(material is not None and scene.is_key(material.k0) for material in found))


def repair(ends: Ends, seed: int) -> Trial:
    """Let every packet that she misses reach her with one or two bits flipped, and a CRC that says so."""
    random, damaged = Random(seed), list[bytes]()

    def intact(data: bytes) -> bool:
        if random.random() >= EVE_LOSS or decode(data).kind is not Kind.RAND_COMPACT:
            return True
        flips = random.sample(range(8 * len(data)), random.choice((1, 2)))
        damaged.append((int.from_bytes(data) ^ sum(1 << at for at in flips)).to_bytes(len(data)))
        return False

    air = Bernoulli({"alice": BOB_LOSS, "bob": BOB_LOSS, "eve": 0.0})
    scene = ends.scene(seed, compact=True, air=air, intact=intact)
    scene.establish()
    attack = Repair(scene.knowledge)
    for copy in damaged:
        attack.hear(copy)
    material = attack.initial_key()
    return trial_of(scene, material is not None and scene.is_key(material.k0))


def brute_force(ends: Ends, seed: int) -> Trial:
    """Alice's generator is broken: each burst message is one of 16 that it can make."""
    return _guessed(ends, seed, broken=True)


def brute_force_sound(ends: Ends, seed: int) -> Trial:
    """Do the same against a generator that works."""
    return _guessed(ends, seed, broken=False)


def _guessed(ends: Ends, seed: int, *, broken: bool) -> Trial:
    random = Random(seed)

    def weak(size: int) -> bytes:
        return random.getrandbits(WEAK_BITS).to_bytes(32) if size == 32 else random.randbytes(size)

    scene = ends.scene(seed, random=weak if broken else None, air=_clear(eve=0.02))
    scene.establish()
    possible = [number.to_bytes(32) for number in range(1 << WEAK_BITS)]
    material = BruteForce(scene.knowledge, possible, WORK).initial_key() if scene.knowledge.missing else None
    return trial_of(scene, material is not None and scene.is_key(material.k0))


def _clear(*, eve: float) -> Bernoulli:
    return Bernoulli({"alice": 0.0, "bob": 0.0, "eve": eve})


# --- those who send ---------------------------------------------------------------------------------------------------


def steering(ends: Ends, seed: int) -> Trial:
    scene = ends.scene(seed, speak=BlacklistSteering(Random(seed).randbytes).hear)
    scene.establish()
    steered = len(scene.knowledge.burst) < scene.burst
    return trial_of(scene, steered and scene.eve_has_key)


def middle(ends: Ends, seed: int) -> Trial:
    """Alice and Bob are out of each other's range, and hear Mallory."""
    scene, mallory = _between(ends, seed)
    keys = mallory.keys()
    both = keys is not None and scene.established and keys == (scene.keys["alice"].k0, scene.keys["bob"].k0)
    differ = scene.established and scene.keys["alice"].sas != scene.keys["bob"].sas
    return Trial(both, scene.established, differ or bool(scene.failures))


def _between(ends: Ends, seed: int, **more: Any) -> tuple[Testbed, ManInTheMiddle]:
    def heard(random: Random, sender: str, listeners: Sequence[str], now: float) -> frozenset[str]:
        return frozenset(listeners) if sender == "eve" else frozenset({"eve"} & set(listeners))

    mallory = ManInTheMiddle(Random(seed).randbytes)
    scene = ends.scene(seed, speak=mallory.hear, **more)
    scene.world = World(heard, seed, {"eve": scene.hear})
    scene.establish()
    return scene, mallory


def draws(ends: Ends, seed: int) -> Trial:
    """Stand there again and again while no person looks, until the two would read the same; a node of `hardened` makes
    a string for a person only."""
    meant = {end: {"compare": ends.profile is Profile.PAPER} for end in (ALICE, BOB)}
    for number in range(DRAWS):
        scene, _ = _between(ends, DRAWS * seed + number, meant=meant)
        alice, bob = (key.sas if (key := scene.keys.get(name)) else None for name in ("alice", "bob"))
        if alice and bob and alice.digits[:SHORTENED] == bob.digits[:SHORTENED]:
            return Trial(True, scene.established, False)
    return Trial(False, scene.established, bool(scene.failures))


def replay(ends: Ends, seed: int) -> Trial:
    """Play the recording of an establishment, heard in full, to a Bob who was restarted."""
    tape, air = Replay(), _clear(eve=0.0)
    scene = ends.scene(seed, air=air, tap=lambda time, data: tape.record(data))
    scene.establish()
    old = scene.keys["bob"].k0
    again = ends.scene(seed + 1, air=air)
    bob, found = again.responder(), list[Established]()

    def on_event(name: str, event: Event, now: float) -> None:
        if isinstance(event, Established):
            found.append(event)

    def ear(time: float, data: bytes) -> None:
        for sent in tape.hear(data):
            delay = 2.5 if decode(sent).kind is Kind.ACKNOWLEDGE else 0.0  # `paper` looks for it after 2 T_2 only
            again.world.at(time + delay, lambda sent=sent: again.world.transmit("eve", sent))  # type: ignore[misc]

    again.world = World(air.transmit, seed, {"eve": ear})
    for sent in tape.begin():
        again.world.at(0.0, lambda sent=sent: again.world.transmit("eve", sent))  # type: ignore[misc]
    again.world.run_now({"bob": bob}, on_event, lambda: bool(found), 60.0)
    return Trial(any(event.k0 == old for event in found), bool(found), not found)


def reflection(ends: Ends, seed: int) -> Trial:
    """Every frame of the session comes again, to both ends."""
    scene = ends.scene(seed, speak=Reflection().hear)
    sessions = scene.sessions(Random(seed).randbytes(32))
    messages = [b"%d" % number for number in range(10)]
    scene.converse(sessions, messages)
    whole = scene.received == {"alice": messages, "bob": messages}
    rejected = sum(sum(session.rejections.values()) for session in sessions.values())
    return Trial(not whole, True, bool(rejected))


def flood(ends: Ends, seed: int, *, pace_s: float = 0.5) -> Trial:
    """Send requests in Alice's name, all the time, from before she begins."""
    scene = ends.scene(seed)
    requests = RequestFlood(ends.profile, Random(seed).randbytes, ALICE)

    def send() -> None:
        scene.world.transmit("eve", requests.request())
        scene.world.at(scene.world.now + pace_s, send)

    scene.world.at(0.0, send)
    scene.establish(begin=0.75)
    return Trial(not scene.established, scene.established, bool(scene.failures))


def jamming(ends: Ends, seed: int) -> Trial:
    scene = ends.scene(seed)
    scene.world = World(Jammed(scene.air).transmit, seed, {"eve": scene.hear})
    scene.establish()
    return trial_of(scene, scene.eve_has_key)


# --- those who stole --------------------------------------------------------------------------------------------------


def theft(ends: Ends, seed: int) -> Trial:
    """Copy K_i from Alice's memory; success: she still holds the newest key ten rounds later."""
    return Trial(rounds_to_heal(ends.profile, seed, EVE_LOSS) > 10, True, False)


def impersonation(ends: Ends, seed: int) -> Trial:
    """Copy K_i from Alice's memory; success: Bob takes a message of the thief's for Alice's."""
    scene = ends.scene(seed, air=_clear(eve=0.0))
    sessions = scene.sessions(Random(seed).randbytes(32))
    scene.converse(sessions, [b"before"] * 3)
    frame, _ = sessions["alice"].record.sending.chain.seal(b"forged", 0, Random(seed).randbytes)
    scene.world.at(scene.world.now, lambda: scene.world.transmit("eve", encode(frame)))
    scene.converse({"bob": sessions["bob"]}, [b"answer"])  # Alice is away
    return Trial(b"forged" in scene.received["bob"], True, False)


def stolen_disk(ends: Ends, seed: int) -> Trial:
    """Copy Bob's record; then Alice forgets everything since that day and the two resynchronise. Success: the copy
    opens what Alice sends after it."""
    scene = ends.scene(seed, air=_clear(eve=0.0))
    sessions = scene.sessions(Random(seed).randbytes(32))
    scene.converse(sessions, [b"before"] * 3)
    copy = StolenRecord.parse(sessions["bob"].record.to_json())
    backup = sessions["alice"].record
    scene.converse(sessions, [b"unheard"] * 3)  # Eve is away
    restored = scene.restored(backup)
    scene.tap = lambda time, data: copy.receiving.hear(decode(data))
    scene.converse({"alice": restored, "bob": sessions["bob"]}, [b"after"] * 2)
    return Trial(b"after" in copy.receiving.read.values(), True, False)


def disk_backwards(ends: Ends, seed: int) -> Trial:
    """Keep all that is on the air, and then copy Bob's record. Success: it opens a round from before the older of its
    two checkpoints."""
    scene = ends.scene(seed, air=_clear(eve=0.0))
    sessions = scene.sessions(Random(seed).randbytes(32))
    heard: list[bytes] = []
    scene.tap = lambda time, data: heard.append(data)
    scene.converse(sessions, [b"%d" % number for number in range(ROUNDS_ON_TAPE)])
    state = sessions["bob"].record.receiving
    chain, newest = state.chain, state.chain.seq - state.chain.alpha
    rounds = newest, newest - chain.checkpoint_rounds
    checkpoints = zip(reversed(chain.checkpoints), rounds, strict=True)
    thief = StolenKey(chain, *(replace(chain, key=key, seq=seq) for key, seq in checkpoints))
    for data in heard:
        thief.hear(decode(data))
    return Trial(min(thief.read) < min(rounds), True, False)


def rounds_to_heal(profile: Profile, seed: int, loss: float) -> int:
    """Return the rounds from the theft of K_i to the first key that the thief, who misses this share of frames, does
    not hold."""
    scene = Testbed(profile, seed, air=_clear(eve=loss))
    sessions = scene.sessions(Random(seed).randbytes(32))
    thief = StolenKey(sessions["alice"].record.sending.chain)
    scene.tap = lambda time, data: thief.hear(decode(data))
    scene.converse(
        sessions,
        [b"m"] * 1000,
        until=lambda: not thief.may_hold(sessions["alice"].record.sending.chain.key),
    )
    return sessions["alice"].record.sending.chain.seq


def healing(profile: Profile, thefts: int) -> list[tuple[float, float]]:
    """Return the rounds-to-heal curve: e|B, and the mean over so many thefts; 1/e|B is what is expected."""
    return [
        (loss, fmean(rounds_to_heal(profile, 1000 * number + round(100 * loss), loss) for number in range(thefts)))
        for loss in HEALING_LOSSES
    ]


# --- the table --------------------------------------------------------------------------------------------------------

_ALL_OF_S: Final = (
    f"of the {KEPT} packets that Bob keeps of so short a burst Eve hears all in "
    f"{100 * (1 - EVE_LOSS) ** KEPT:.0f} % of runs. {TARGET_BITS} secret bits take "
    f"{packets_needed(TARGET_BITS, EVE_LOSS)} packets in the key, and she has all of those once in 2^128"
)
_ANY_LENGTH: Final = "a longer burst changes nothing"

ATTACKS: Final[tuple[Attack[Ends], ...]] = (
    Attack("passive", "listens", "a radio in range", "Eve has K_0", passive,
           remedy="A longer burst: (1 - e|B)^|S| is what is left to her.", setting=SETTING, meaning=_ALL_OF_S),
    Attack("everything", "listens, and misses nothing", "a place where she hears all that Bob hears", "Eve has K_0",
           everything, runs=20, remedy="X25519, or an authentication key: e|B is 0.",
           setting=f"a burst of {BURST} packets, of which Bob misses {100 * BOB_LOSS:g} %, and Eve none",
           meaning=f"{_ANY_LENGTH}: where Eve misses nothing of Bob's, the loss is worth nothing"),
    Attack("colluding", "two radios, captures merged by Seq; clocks not trusted", "two radios in range, at two places",
           "Eve has K_0", colluding, remedy="A bound on e|B that was measured against as many radios; X25519.",
           setting=f"{SETTING}, with each of her two radios",
           meaning=f"together they miss {100 * EVE_LOSS**2:g} % and have all {KEPT} packets that Bob keeps in "
           f"{100 * (1 - EVE_LOSS**2) ** KEPT:.0f} % of runs; in `paper` a lost acknowledge ends some of these "
           f"without a key. Against both, {TARGET_BITS} secret bits take "
           f"{packets_needed(TARGET_BITS, EVE_LOSS**2)} packets in the key, more than a burst may have"),
    Attack("repair", "damaged copies, made good", "a sniffer that hands on wrong CRCs; one or two wrong bits in each "
           "packet that she misses", "Eve has K_0", repair, runs=20,
           remedy="Count as missed only what is missed without a copy; X25519.",
           setting=f"{SETTING}, but has a damaged copy of it",
           meaning=f"{_ANY_LENGTH}: what she has a copy of she does not miss"),
    Attack("brute-force", "short messages guessed", f"a sender whose messages have {WEAK_BITS} random bits, not 256; "
           f"at most {WORK} tries", "Eve has K_0 though she lacked packets of it", brute_force,
           runs=50, remedy="A sound generator.", setting=f"{CLEAR} 2 %",
           meaning=f"each packet that she lacks is worth {WEAK_BITS} bits, and no more"),
    Attack("brute-force-sound", "the same, messages as they are", f"to guess 256 bits within {WORK} tries",
           "Eve has K_0 though she lacked packets of it", brute_force_sound,
           runs=20, remedy="None is needed.", setting=f"{CLEAR} 2 %",
           meaning="each packet that she lacks is worth 256 bits, which nobody guesses"),
    Attack("steering", "forges the packets that she missed (row 5)", "a sender in range of Bob",
           "Eve has K_0 though she missed packets", steering,
           remedy="`hardened`: the burst is committed to, and what is forged is left out.", setting=SETTING,
           meaning=f"{_ANY_LENGTH} in `paper`: whatever she misses she has struck out. The other runs end without a "
           "key, or a forged packet of hers was lost, too. In `hardened` she has what she has by listening"),
    Attack("middle", "stands in the middle (row 7)", "Alice and Bob hear her and not each other",
           "she shares a key with each", middle, runs=20,
           remedy="People compare the string, which differs in every run; an authentication key.",
           setting=f"{CLEAR} none: they hear her alone",
           meaning=f"{_ANY_LENGTH}, and neither does X25519: nobody knows with whom he agrees"),
    Attack("draws", f"stands in the middle {DRAWS} times while nobody looks (row 7)", "Alice and Bob hear her and not "
           f"each other; strings cut to {SHORTENED} digit of 6", "at both ends there is the same string, for whoever "
           "looks later", draws, runs=20, remedy="`hardened`: no string where no person asked, and one for each time.",
           setting=f"{DRAWS} establishments a run, each of a burst of {BURST} packets",
           meaning=f"of {DRAWS} tries one has the same digit in {100 * (1 - 0.9**DRAWS):.0f} % of runs; with all six "
           "it takes her 700 000 tries for an even chance"),
    Attack("replay", "plays Alice's establishment to Bob again", "all of S, and a Bob who was restarted",
           "Bob establishes the old K_0", replay, runs=20, remedy="`hardened`: the accept's Rand is in K_0.",
           setting=f"{CLEAR} none", meaning="it is the protocol that decides, no loss and no length"),
    Attack("reflection", "sends every frame of a session again", "a sender in range",
           "a message is lost, twice there, or at its sender", reflection, runs=20, remedy="None is needed.",
           setting=f"a session of ten messages each way; Bob, as Alice, misses {100 * BOB_LOSS:g} %",
           meaning="it is the protocol that decides, no loss and no length"),
    Attack("flood", "requests in Alice's name, two a second", "a sender in range of Bob, Alice's address",
           "no key comes about", flood, runs=20, remedy="None; nothing secret is lost, state stays bounded.",
           setting=SETTING, meaning="who may send may disturb, in any setting"),
    Attack("flood-slow", "requests in Alice's name, six a minute", "a sender in range of Bob, Alice's address",
           "no key comes about", partial(flood, pace_s=SLOW_FLOOD_S), runs=20,
           remedy="None; nothing secret is lost, state stays bounded.", setting=SETTING,
           meaning="one request in T_d makes Bob deaf to Alice, unless it gets lost"),
    Attack("jamming", "destroys what she fails to receive", "to know within a packet that she will not receive it",
           "Eve has K_0", jamming, remedy="X25519, or an authentication key: e|B is 0.",
           setting=SETTING, meaning=f"{_ANY_LENGTH}: Bob keeps nothing that she lacks"),
    Attack("theft", "K_i from memory, then listens", "one look into a device", "she holds the key ten rounds later",
           theft, remedy="Talk: she is out at the first accepted packet that she misses.",
           setting=f"a session, of whose packets the thief misses {100 * EVE_LOSS:g} %",
           meaning=f"ten rounds without a miss are 0.95^10 = {100 * (1 - EVE_LOSS) ** 10:.0f} %, a hundred "
           f"{100 * (1 - EVE_LOSS) ** 100:.1g} %: she is out after 1/e|B = {1 / EVE_LOSS:.0f} rounds on average"),
    Attack("impersonation", "K_i from memory, then sends in Alice's name", "one look into a device, and a sender in "
           "range of Bob", "Bob takes her message for Alice's", impersonation, runs=20,
           remedy="Establish anew: `bt-selfsecure establish PEER`.",
           setting="a session, of which she hears every packet",
           meaning="who has the key is Alice, until there is a new one"),
    Attack("stolen-disk", "Bob's record; later Alice is restored from an old copy", "one look at a disk, and that "
           "restoration", "she reads again", stolen_disk, runs=20,
           remedy="`every-message`: no end goes back to an older key; the two establish anew.",
           setting="a session, of which she hears every packet after the restoration",
           meaning="it is the protocol that decides, no loss and no length"),
    Attack("disk-backwards", "all that was on the air, then Bob's record", "a recording without a gap, and one look at "
           "a disk", "she reads a round from before the record's checkpoints", disk_backwards, runs=20,
           remedy="None is needed; what a node deletes is gone from its disk's files.",
           setting=f"a session of {ROUNDS_ON_TAPE} rounds each way, of which she hears every packet",
           meaning="she reads the last W to 2W rounds, from the older of two checkpoints on, and none before"),
    *insiders.ATTACKS,
    *relays.ATTACKS,
    *groups.ATTACKS,
)  # fmt: skip
