"""What each of Eve's attacks on pairing yields. docs/protocols/pairing.md is made from this.

What she claims is held against the keys of the two ends. The man in the middle goes on where a pairing does: with the
establishment of a session's key under the keys that came of it, on the testbed of Hao and Xiao's protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final, Protocol

from bt_selfsecure.air.world import World
from bt_selfsecure.bench.attacks import Attack, Trial
from bt_selfsecure.bench.haoxiao.testbed import ALICE, BOB, Testbed
from bt_selfsecure.eve.haoxiao.attacks.middle import ManInTheMiddle
from bt_selfsecure.eve.pairing.attacks.in_place import InPlaceOfA, InPlaceOfB
from bt_selfsecure.protocols.haoxiao.frames import Profile
from bt_selfsecure.protocols.pairing import limits
from bt_selfsecure.protocols.pairing.codes import Carried, Way, decode, drawn_secret, words
from bt_selfsecure.protocols.pairing.end import PairingConfig, PairingEnd
from bt_selfsecure.protocols.pairing.events import Keyed, PairingFailed, WrongGuess
from bt_selfsecure.protocols.pairing.initiator import PairingInitiator
from bt_selfsecure.protocols.pairing.responder import PairingResponder
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.events import FrameRejected, Rejection
from bt_selfsecure.word_list import WORDS

LONGEST_S: Final = 2 * limits.ANSWER_S
STEP_S: Final = 0.5


class Speaker(Protocol):
    """Is Eve, towards one end."""

    key: bytes

    def hear(self, data: bytes) -> list[bytes]: ...


@dataclass
class Scene:
    """Is one of the two, who hears Eve alone."""

    end: PairingEnd
    eve: Speaker
    keys: list[bytes] = field(default_factory=list)
    noticed: bool = False

    def run(self, begin: Sequence[bytes] = ()) -> None:
        """Until there is a key, or nobody waits any more."""
        now, to_end = 0.0, list(begin)
        # What she says is heard at the next step.
        while now < LONGEST_S and not self.keys:
            self.end.handle_timer(now)
            for data in to_end:
                self.end.receive_frame(data, now)
            to_end = [said for data in self.end.frames_to_send(now) for said in self.eve.hear(data)]
            while (event := self.end.next_event()) is not None:
                match event:
                    case Keyed():
                        self.keys.append(event.key)
                    case PairingFailed() | WrongGuess() | FrameRejected(reason=Rejection.UNAUTHENTIC):
                        self.noticed = True
            now += STEP_S

    @property
    def is_hers(self) -> bool:
        """Return whether the key of the end is the one that she has."""
        return bool(self.keys) and self.keys == [self.eve.key]


class Two:
    """Alice and Bob of one run, and what Bob shows."""

    def __init__(self, way: Way, seed: int) -> None:
        self._draw = Random(f"{way} {seed}")
        self.way, self.random = way, self._draw.randbytes
        shown = self.drawn_words() if way is Way.WORDS else drawn_secret(way, self.random)
        self.bob = PairingResponder(PairingConfig(BOB, "bob"), way, shown, EndpointContext(self.random))
        carried = self.bob.carried
        self.carried: Carried = words(BOB, shown.decode()) if way is Way.WORDS else decode(way, carried.encode())
        self.alice = PairingInitiator(PairingConfig(ALICE, "alice"), self.carried, EndpointContext(self.random))

    def drawn_words(self) -> bytes:
        return " ".join(self._draw.choices(WORDS, k=3)).encode()

    def guess(self) -> bytes:
        """Return a secret that she takes by chance."""
        return self.drawn_words() if self.way is Way.WORDS else drawn_secret(self.way, self.random)

    def answers_alice(self, secret: bytes) -> Scene:
        scene = Scene(self.alice, InPlaceOfB(self.way, secret, BOB, self.random))
        self.alice.start(0.0)
        scene.run()
        return scene

    def asks_bob(self, secret: bytes) -> Scene:
        eve = InPlaceOfA(self.way, secret, ALICE, self.random)
        scene = Scene(self.bob, eve)
        scene.run(eve.begin())
        return scene


def middle(way: Way, seed: int) -> Trial:
    """Succeeds when she shares a session's key with each, and people who compare see the same, or need not compare."""
    two = Two(way, seed)
    secret = two.carried.secret if way.is_overheard else two.guess()
    legs = two.answers_alice(secret), two.asks_bob(secret)
    if not all(leg.is_hers for leg in legs):
        return Trial(False, False, any(leg.noticed for leg in legs))
    return _between(way, seed, legs[0].keys[0], legs[1].keys[0])


def _between(way: Way, seed: int, with_alice: bytes, with_bob: bytes) -> Trial:
    """She has a pairing's key with each, and goes on."""

    def heard(random: Random, sender: str, listeners: Sequence[str], now: float) -> frozenset[str]:
        return frozenset(listeners) if sender == "eve" else frozenset({"eve"} & set(listeners))

    mallory = ManInTheMiddle(Random(seed).randbytes)
    mallory.authentication_key, mallory.key_with_bob = with_alice, with_bob
    meant = {ALICE: {"authentication_key": with_alice}, BOB: {"authentication_key": with_bob}}
    scene = Testbed(Profile.HARDENED, seed, shares=True, speak=mallory.hear, meant=meant)
    scene.world = World(heard, seed, {"eve": scene.hear})
    scene.establish()
    keys = mallory.keys()
    both = keys is not None and scene.established and keys == (scene.keys["alice"].k0, scene.keys["bob"].k0)
    differ = scene.established and scene.keys["alice"].sas != scene.keys["bob"].sas
    return Trial(both and not (way.is_overheard and differ), scene.established, differ or bool(scene.failures))


def answers(way: Way, seed: int) -> Trial:
    """She has seen or heard what Bob shows, and Bob is off. Success: Alice has a key with her, and no person has to
    compare."""
    scene = (two := Two(way, seed)).answers_alice(two.carried.secret)
    return Trial(scene.is_hers and not way.is_overheard, bool(scene.keys), scene.noticed or way.is_overheard)


def asks(way: Way, seed: int) -> Trial:
    """She has seen or heard what Bob shows, and is faster than Alice. Success: Bob has a key with her, and no person
    has to compare."""
    scene = (two := Two(way, seed)).asks_bob(two.carried.secret)
    return Trial(scene.is_hers and not way.is_overheard, bool(scene.keys), scene.noticed or way.is_overheard)


def guesses(way: Way, seed: int) -> Trial:
    """Try ten secrets by chance, each in a run of its own. Success: Bob has a key with her."""
    two = Two(way, seed)
    scenes = [two.asks_bob(two.guess()) for _ in range(10)]
    return Trial(any(scene.is_hers for scene in scenes), False, any(scene.noticed for scene in scenes))


_SURE: Final = "nothing here is by chance: what a run shows each run shows"

ATTACKS: Final[tuple[Attack[Way], ...]] = (
    Attack("middle", "stands in the middle of the pairing, and of the establishment after it",
           "Alice and Bob hear her and not each other; of a call she has heard all, of words and code she guesses",
           "she shares a session's key with each, and what people must compare is the same", middle, runs=20,
           remedy="None is needed; of a call, that people compare.",
           meaning="words are guessed once in 2^18 / 5, strings are the same once in a million"),
    Attack("answers", "answers Alice in Bob's place", "to have seen or heard what Bob shows, and that he does not "
           "answer", "Alice has a key with her, and need not compare", answers, runs=20,
           remedy="A code, whose commitment binds its owner. Words are for Alice alone.", meaning=_SURE),
    Attack("asks", "asks Bob in Alice's place", "to have seen what Bob shows, and to be faster than Alice",
           "Bob has a key with her, and need not compare", asks, runs=20,
           remedy="Show it to nobody else; look whose name Bob tells: Alice's is not paired then.", meaning=_SURE),
    Attack("guesses", "guesses ten times what Bob shows", "a sender in reach of Bob while he pairs",
           "Bob has a key with her", guesses, runs=20,
           remedy="None is needed: after five wrong guesses words are worth nothing.",
           meaning="a run on words is right once in 2^18 / 5"),
)  # fmt: skip
