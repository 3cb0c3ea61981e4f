"""What each of Eve's attacks on D-OTP's object layer yields on the virtual air. docs/attacks.md is made from this.

The attacks are in `eve.dotp.attacks` and have what is public and what passes Eve; what they claim is held against the
truth here.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Final

from bt_selfsecure.bench.attacks import Attack, Trial
from bt_selfsecure.bench.dotp.testbed import REQUESTS, Ends, Testbed, request
from bt_selfsecure.eve.dotp.attacks import Public
from bt_selfsecure.eve.dotp.attacks.between import Drop, Hold
from bt_selfsecure.eve.dotp.attacks.listening import PadReader
from bt_selfsecure.eve.dotp.attacks.speaking import Change, Deafen, Impersonate, Replay
from bt_selfsecure.eve.dotp.serial_number import generators_that_give
from bt_selfsecure.protocols.dotp.keys import Profile, Role

PAPER: Final = Ends("paper", Profile.PAPER)
NO_SERIAL: Final = Ends("paper, no serial (Fig. 10a)", Profile.PAPER, Public(serial=False))
ONE_SN: Final = Ends("paper, one SN (Fig. 11a)", Profile.PAPER, Public(two_keys=False))
HARDENED: Final = Ends("hardened", Profile.HARDENED)
ALL_ENDS: Final = (PAPER, NO_SERIAL, ONE_SN, HARDENED)
SHORT_BITS: Final = 40
"""Of a key whose RN has 8 bits: its numbers run out after 256."""
MIDDLE: Final = REQUESTS // 2
KNOWN_BYTES: Final = 8
FORGED: Final = request(0, b"door")


def known_text(ends: Ends, seed: int) -> Trial:
    """Eve supposes what the first request begins with."""
    scene, eve = Testbed(ends, seed), PadReader(ends.public)
    scene.run(eve)
    return scene.trial(success=eve.read(eve.key(scene.asked(1)[:KNOWN_BYTES])) == scene.sent)


def one_key(ends: Ends, seed: int) -> Trial:
    """Key 7 of the client's became known."""
    scene, eve = Testbed(ends, seed), PadReader(ends.public)
    record = scene.records[Role.CLIENT]
    key = record.sending.keys(record).key(7)
    scene.run(eve)
    return scene.trial(success=eve.read(key) == scene.sent)


def generator(ends: Ends, seed: int) -> Trial:
    """Two keys became known; no run of the two ends is needed for it."""
    record = Testbed(ends, seed).records[Role.CLIENT]
    keys = record.sending.keys(record)
    return Trial(bool(generators_that_give([keys.key(7), keys.key(8)])), True, False)


def replay(ends: Ends, seed: int) -> Trial:
    scene = Testbed(ends, seed)
    scene.run(Replay())
    return scene.trial(success=scene.nonsense)


def loss(ends: Ends, seed: int) -> Trial:
    scene = Testbed(ends, seed)
    scene.run(Drop(MIDDLE))
    return scene.trial(success=scene.nonsense)


def crossing(ends: Ends, seed: int) -> Trial:
    """Both pads are one: Eve has the exclusive or of what crossed; and neither end reads the other's."""
    scene, eve = Testbed(ends, seed, notify=MIDDLE), PadReader(ends.public)
    hold = Hold(MIDDLE)

    class Both:
        def hear(self, sender: Role, data: bytes) -> list[tuple[Role, bytes]]:
            eve.hear(sender, data)
            return hold.hear(sender, data)

    scene.run(Both())
    texts = {
        bytes(a ^ b for a, b in zip(one, other, strict=False))
        for one in scene.sent[Role.CLIENT]
        for other in scene.sent[Role.SERVER]
    }
    return scene.trial(success=any(found in texts for found in eve.crossed()))


def change(ends: Ends, seed: int) -> Trial:
    scene = Testbed(ends, seed)
    scene.run(Change(b"time", b"door"))
    return scene.trial(success=any(text[5:] == b"door" for text in scene.read[Role.SERVER]))


def deafen(ends: Ends, seed: int) -> Trial:
    scene = Testbed(ends, seed)
    scene.run(Deafen(ends.public, Random(seed).randbytes, MIDDLE))
    return scene.trial(success=scene.asked(REQUESTS) not in scene.read[Role.SERVER])


def impersonation(ends: Ends, seed: int) -> Trial:
    scene = Testbed(ends, seed)
    scene.run(Impersonate(ends.public, scene.asked(1)[:KNOWN_BYTES], FORGED))
    return scene.trial(success=FORGED in scene.read[Role.SERVER])


def exhaustion(ends: Ends, seed: int) -> Trial:
    """RN has 8 bits here, so that it is soon over."""
    short = ends
    if ends.profile is Profile.PAPER:
        short = replace(ends, public=replace(ends.public, bits=SHORT_BITS))
    scene = Testbed(short, seed, notify=REQUESTS + 1)
    scene.run(Impersonate(short.public, scene.asked(1)[:KNOWN_BYTES], FORGED, times=256))
    return scene.trial(success=Role.SERVER in scene.suspended)


_SETTING: Final = f"the object layer; {REQUESTS} requests, a second apart, each with its answer; nothing is lost"
_ON_THE_WAY: Final = "a place on the way, in which she decides what comes"

ATTACKS: Final[tuple[Attack[Ends], ...]] = (
    Attack("known-text", "reads off SN, then everything", f"{KNOWN_BYTES} octets of one text; the generator",
           "she has every text of both directions", known_text, runs=20,
           remedy="`hardened`: no key tells of another.", setting=_SETTING,
           meaning="half of each key is SN, and SN gives all keys; no policy and no length of RN changes that"),
    Attack("one-key", "the same from one key", "one key, as of one session; the generator",
           "she has every text of both directions", one_key, runs=20,
           remedy="`hardened`: no key tells of another.", setting=_SETTING,
           meaning="the upper half of a key is SN: it is read off, not guessed"),
    Attack("generator", "finds the generator", "two keys, one after the other", "a generator that she knows gives both",
           generator, runs=20, remedy="None in `paper`: a generator is no secret.", setting="two keys of the client's",
           meaning="she tries those that she knows. Ours is among them, and no secret; the paper's own is not known"),
    Attack("replay", "sends each datagram again", "a sender in reach", "an end reads a text twice, or nonsense", replay,
           runs=20, remedy="A serial, and a window of those that came.", setting=_SETTING,
           meaning="with a serial an old number is refused; without one each replay takes the key of what follows"),
    Attack("loss", "lets one request not come (Fig. 10a)", _ON_THE_WAY, "an end reads nonsense", loss, runs=20,
           remedy="A serial (Fig. 10b).", setting=_SETTING,
           meaning="it is the protocol that decides: without a serial the first loss parts the two for good"),
    Attack("crossing", "lets two datagrams cross (Fig. 11a)", _ON_THE_WAY, "she has the exclusive or of two texts",
           crossing, runs=20, remedy="An SN for each direction (Fig. 11b).", setting=_SETTING,
           meaning="with one SN both go out under one pad, and neither is read where it was to come. With two the same "
           "serial in both directions is no same pad"),
    Attack("change", "makes GET /time a GET /door", f"{_ON_THE_WAY}; the text", "the server reads GET /door", change,
           runs=20, remedy="`hardened`: AES-SIV proves each datagram.", setting=_SETTING,
           meaning="a pad hides and proves nothing"),
    Attack("deafen", "sends two datagrams from far ahead", "a sender in reach", "the client's last request is not read",
           deafen, runs=20, remedy="`hardened`: what is not proved moves no window.", setting=_SETTING,
           meaning="two datagrams end the pair's talk, until each end has a new SN"),
    Attack("impersonation", "sends GET /door in the client's name", f"{KNOWN_BYTES} octets of one text; a sender in "
           "reach", "the server takes it for the client's", impersonation, runs=20,
           remedy="`hardened`: no key tells of another.", setting=_SETTING, meaning="who has SN is either end"),
    Attack("exhaustion", "uses the server's numbers up, in the client's name", "the same; RN of 8 bits in `paper`",
           "the server can send nothing any more", exhaustion, runs=20,
           remedy="`hardened`: it answers nobody but the client.", setting=f"{_SETTING}; in paper RN has 8 bits",
           meaning="with RN of 32 bits it takes 2^32 numbers instead of 256, and no more of Eve than to send"),
)  # fmt: skip
