"""What Eve has and what she lacks, in numbers: the verdict over what was heard, by one Eve or by several together.

She gets nothing but captures. What she claims she has proved: a K_0 by the response's HMAC [9], a message by opening it
under the keys that follow. What she cannot know she says so: without the response there is no S.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Final

from bt_selfsecure.eve.haoxiao.attacks.guessing import Repair
from bt_selfsecure.eve.haoxiao.attacks.theft import SessionHeard, StolenKey, StolenRecord
from bt_selfsecure.eve.haoxiao.establishments import Eavesdropper
from bt_selfsecure.eve.haoxiao.format import HAOXIAO
from bt_selfsecure.eve.haoxiao.knowledge import Knowledge
from bt_selfsecure.eve.reading import ON_AIR, Reader, damaged
from bt_selfsecure.eve.sources.linktypes import NAMES
from bt_selfsecure.eve.sources.packet import UNHEARD, CapturedPacket
from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.frames import Frame, Kind, Profile
from bt_selfsecure.protocols.haoxiao.keychain import Chain
from bt_selfsecure.protocols.haoxiao.material import KeyMaterial, Offer
from bt_selfsecure.protocols.haoxiao.suites import SUITES
from bt_selfsecure.stats.losses import JointLoss, lower_bound, missed_entropy, secret_bits
from bt_selfsecure.wording import counted

CONFIDENCE: Final = 0.95
MOST_WORK: Final = 1 << 24
"""Packets of bursts and received sets that are looked at in all: some ten seconds of one core. A thousand ordinary
establishments take a tenth of it; a capture made to take for ever is judged as far as this goes."""
TRY: Final = 16
"""What it costs to try a key on a data frame, in packets."""
DIRECTIONS: Final = ("initiator to responder", "responder to initiator")
SNIFFER: Final = (
    "A sniffer of LE: hears connections only if it caught their beginning and nobody encrypts them; no classic link."
)
HOST: Final = (
    "A computer's own radio, or its host interface: hears advertisements whose CRC is right, at most one of three "
    "copies, and what its own computer says and hears. It hears no connection between others."
)
BARE: Final = "Bare frames of a virtual air: what no radio hands out."
ENCRYPTED: Final = "Once two devices are paired, their controllers encrypt this link: on a real air nobody reads it."
ADVERTS: Final = "Advertisements are in the clear for everybody; the rest of the establishment goes over a link."
BEARERS: Final = {
    "le_advert": ADVERTS,
    "rfcomm": ENCRYPTED,
    "l2cap": ENCRYPTED,
    "ipsp": ENCRYPTED,
}
"""What the hardware hears of each bearer."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One establishment, and the session that follows from its key."""

    profile: str
    session: str
    """Session id (or tag) in hexadecimal."""
    initiator: str
    responder: str
    """Device addresses; empty where request or accept was not heard."""
    sent: int
    """Burst packets that must have been sent: whole parts where the request tells N, else up to the last one heard."""
    heard_by_bob: int | None
    """|S|, from his response; None if Eve did not hear it."""
    heard_by_eve: int
    missed_given_bob: int | None
    """k: packets of S that she lacks, after repair."""
    repaired: int
    """Packets with a wrong CRC that she made good."""
    e_given_bob_low: float | None
    """Lower bound on e|B from these figures, at `confidence`."""
    confidence: float
    secret_bits: float | None
    """Against an Eve who hears as this one does, by that bound; 0 if this one has K_0. None without a response, or if
    some were not looked at."""
    hidden_bits: float | None
    """What this very Eve would have to guess, at most 256."""
    mixed_in: bool
    """Whether X25519 or an authentication key protects K_0 besides."""
    has_key: bool
    """K_0 was computed, and the response's HMAC [9] proves it."""
    fingerprint: str
    """Of that K_0: as the two ends show it."""
    rounds: tuple[int, ...]
    """Rounds opened with it, by direction; none without it."""
    plaintext: tuple[bytes, ...] = field(repr=False)
    """Messages read, initiator's first."""
    frames_opened: int
    """Data frames, all attempts."""
    rivals: int
    """Responses of this pair that contradict each other: all but one are forged. 1 or 0 where nobody forges."""
    rivals_left_out: int
    """Of those, not looked at: there were too many."""
    fates: tuple[tuple[bool | None, bool], ...] = field(repr=False)
    """For each packet sent: whether it is in S, if that is known, and whether Eve has it."""

    @property
    def joint(self) -> JointLoss | None:
        """Who heard what, if S is known."""
        if self.heard_by_bob is None:
            return None
        bob = {seq for seq, (kept, _) in enumerate(self.fates) if kept}
        return JointLoss.of(self.sent, bob, {seq for seq, (_, has) in enumerate(self.fates) if has})

    @property
    def open(self) -> bool:
        """Whether Eve may have the key though it is not told here: she has all that it takes and the response does not
        prove it, so a packet, the accept or the response was forged; or some responses were not looked at."""
        heard = self.profile == Profile.PAPER.label or bool(self.initiator and self.responder)
        complete = self.missed_given_bob == 0 and heard and not self.mixed_in
        return not self.has_key and (complete or bool(self.rivals_left_out))

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        if not self.sent:
            return "Nothing came of this request: Eve heard no packet of a burst."
        if self.heard_by_bob is None:
            heard = f"{self.heard_by_eve} of {counted(self.sent, 'packet')}"
            return f"Eve heard {heard} and no response: she does not know S."
        if self.has_key:
            messages = counted(len(self.plaintext), "message")
            read = f"{messages} read" if self.plaintext else "no message was there to read"
            return f"BROKEN: Eve has K_0 (fingerprint {self.fingerprint}), {read}."
        if self.open and not self.missed_given_bob:
            return "Not decided: Eve has every packet of S and not K_0, so one of them, or the response, is forged."
        if not self.missed_given_bob:
            why = "X25519 or an authentication key is mixed in" if self.mixed_in else "request or accept was not heard"
            return f"Eve has every packet of S and not K_0: {why}."
        lacks = f"Eve lacks {self.missed_given_bob} of the {counted(self.heard_by_bob, 'packet')} of S"
        if self.rivals_left_out:
            left_out = counted(self.rivals_left_out, "response") + (" was" if self.rivals_left_out == 1 else " were")
            return f"Not decided, for {left_out} not looked at. By the others {lacks}."
        return f"Locked out: {lacks}; {self.secret_bits:.1f} secret bits at {100 * self.confidence:g} % confidence."


@dataclass(frozen=True, slots=True)
class Report:
    """All that came of one hearing."""

    captures: int
    """How many Eves put together what they heard."""
    packets: int
    crc_bad: int
    ours: int
    bearers: dict[str, int]
    """Frames of ours, by bearer."""
    linktypes: tuple[int, ...]
    kinds: dict[str, int]
    contradictions: int
    """Burst packets that contradict an earlier one of the same Seq: an active attack, or damage."""
    unopened: int
    """Data frames that no key of hers opens."""
    verdicts: tuple[Verdict, ...]
    stolen_read: tuple[bytes, ...] = field(default=(), repr=False)
    """Messages read with keys of a stolen journal."""
    unread: int = 0
    """Captures that were named, and could not be read or not to their end."""
    left_out: int = 0
    """Establishments not looked at, or not read on, because there was too much in the capture."""
    not_kept: int = 0
    """Frames heard when there was no room for more."""
    repair_used_up: bool = False
    """Whether more tries might have made more packets good."""
    skipped: dict[str, int] = field(default_factory=dict)
    """What the captures held that could not be read, by reason."""

    @property
    def decided(self) -> bool:
        """Whether all that was heard was looked at: if not, Eve may have a key that is not told here."""
        whole = not self.unread and not self.left_out and not self.not_kept and UNHEARD.isdisjoint(self.skipped)
        return whole and not any(verdict.open for verdict in self.verdicts)

    @property
    def conclusion(self) -> str:
        """All verdicts in one sentence."""
        keys, count = sum(verdict.has_key for verdict in self.verdicts), len(self.verdicts)
        if keys:
            return f"Eve has a key: of {keys} of {count} establishments." if count > 1 else "Eve has the key."
        if not self.decided:
            return "Eve has no key of what was looked at; what was not may have given her one."
        return "Eve has no key."

    @property
    def broken(self) -> bool:
        """Whether Eve has a key."""
        return any(verdict.has_key for verdict in self.verdicts)

    @property
    def limits(self) -> list[str]:
        """What her hardware cannot hear, one sentence each."""
        heard = [SNIFFER if linktype in ON_AIR else BARE if linktype == 147 else HOST for linktype in self.linktypes]
        return list(
            dict.fromkeys([*heard, *(f"{name}: {text}" for name, text in BEARERS.items() if name in self.bearers)])
        )


class Judge:
    """Feed it what each Eve heard, in any order; `report` gives the verdict. `work` bounds the repair of packets with a
    wrong CRC, in tries; 0 leaves them alone."""

    def __init__(self, work: int = 0, confidence: float = CONFIDENCE, stolen: Iterable[StolenRecord] = ()) -> None:
        self._work: Final = work
        self._confidence: Final = confidence
        self._stolen: Final = [thief for record in stolen for thief in (record.sending, record.receiving)]
        self._eve: Final = Eavesdropper()
        self._damaged: Final[list[bytes]] = []
        self._captures = self._packets = self._crc_bad = self._left_out = 0
        self._tries, self._budget = work, MOST_WORK
        self._skipped: Final[Counter[str]] = Counter()
        self._bearers: Final[Counter[str]] = Counter()
        self._linktypes: Final[dict[int, None]] = {}

    def hear_all(self, source: Iterable[CapturedPacket], skipped: Mapping[str, int] | None = None) -> None:
        """One Eve's whole capture; in `skipped` stands afterwards what could not be read of it."""
        reader = Reader(HAOXIAO)
        self._captures += 1
        try:
            self._hear(reader, source)
        finally:  # what was heard before a source failed counts
            self._skipped.update(skipped or {})

    def _hear(self, reader: Reader, source: Iterable[CapturedPacket]) -> None:
        for heard in source:
            self._packets += 1
            self._linktypes[heard.linktype] = None
            if heard.crc_ok is False:
                self._crc_bad += 1
                if self._work and (copy := damaged(heard, HAOXIAO.advertised)):
                    self._damaged.append(copy)
            for datagram in reader.read(heard):
                if self._eve.hear(datagram.data) is not None:
                    self._bearers[datagram.bearer] += 1

    def report(self) -> Report:
        """The verdict over everything so far."""
        heard = list(self._eve.session.values())
        session = {profile: SessionHeard(f for f in heard if f.profile is profile) for profile in Profile}
        self._tries, self._budget, self._left_out = self._work, MOST_WORK, 0
        verdicts = [self._judge(knowledge, session) for knowledge in self._eve.establishments(self._may)]
        data = sum(frame.kind is Kind.DATA for frame in heard)
        for thief in self._stolen:
            for frame in heard:
                thief.hear(frame)
        opened = sum(verdict.frames_opened for verdict in verdicts) + sum(thief.opened for thief in self._stolen)
        return Report(
            self._captures,
            self._packets,
            self._crc_bad,
            self._eve.kinds.total(),
            dict(self._bearers),
            tuple(self._linktypes),
            dict(self._eve.kinds),
            self._eve.contradictions,
            max(0, data - opened),
            tuple(verdicts),
            tuple(thief.read[seq] for thief in self._stolen for seq in sorted(thief.read)),
            not_kept=self._eve.not_kept,
            left_out=self._left_out + sum(not thief.tries_left for thief in self._stolen),
            repair_used_up=bool(self._work and self._damaged and not self._tries),
            skipped=dict(self._skipped),
        )

    def _may(self, cost: int) -> bool:
        """Whether so much more may be looked at."""
        if cost > self._budget:
            self._left_out += 1
            return False
        self._budget -= cost
        return True

    def _judge(self, knowledge: Knowledge, session: Mapping[Profile, SessionHeard]) -> Verdict:
        rivals, material = self._settle(knowledge)
        repaired = self._repair(knowledge) if knowledge.missing else 0
        if repaired:
            material = knowledge.initial_key()
        s, missing = knowledge.received_set, knowledge.missing
        offer = _offer(knowledge.request, accept=False)
        answer = _offer(knowledge.accept, accept=True)
        sent = _sent(knowledge, offer)
        k = None if missing is None else len(missing)
        low, bits, hidden = self._bits(knowledge)
        thieves = self._thieves(knowledge, material, session) if material else []
        return Verdict(
            profile=(knowledge.request or knowledge.response or _UNKNOWN).profile.label,
            session=knowledge.request.rand[: limits.SESSION_ID_BYTES].hex() if knowledge.request else "",
            initiator=offer.identity.hex(":").upper() if offer else "",
            responder=answer.identity.hex(":").upper() if answer else "",
            sent=sent,
            heard_by_bob=None if s is None else len(s),
            heard_by_eve=len(knowledge.burst),
            missed_given_bob=k,
            repaired=repaired,
            e_given_bob_low=low,
            confidence=self._confidence,
            secret_bits=0.0 if material else None if knowledge.more_rivals else bits,
            hidden_bits=hidden,
            mixed_in=bool(offer and (offer.share or offer.authenticated)),
            has_key=material is not None,
            fingerprint=material.fingerprint if material else "",
            rounds=tuple(len(thief.read) for thief in thieves),
            plaintext=tuple(thief.read[seq] for thief in thieves for seq in sorted(thief.read)),
            frames_opened=sum(thief.opened for thief in thieves),
            rivals=rivals,
            rivals_left_out=0 if material else knowledge.more_rivals,
            fates=tuple(_FATES[None if s is None else seq in s, seq in knowledge.burst] for seq in range(sent)),
        )

    def _settle(self, knowledge: Knowledge) -> tuple[int, KeyMaterial | None]:
        """Choose the response to be believed, of those that claim to be of this establishment: the one that [9] proves,
        else the last part's, else, where they contradict each other, that which leaves the two ends least. How many
        contradict each other, 1 if none do; and the key.

        Honest ones are one a part, each with what was received before it. Each is decoded once.
        """
        honest, before, worst, material = not knowledge.more_rivals, None, None, None
        for number, response in enumerate(knowledge.rivals):
            knowledge.response = response
            material = knowledge.initial_key()
            if material is not None:
                break
            s = knowledge.received_set
            honest &= s is not None and (before is None or (before[0] < response.seq and before[1] <= s))
            before = response.seq, s or frozenset()
            bits = self._bits(knowledge)[1]
            if bits is not None and (worst is None or bits < worst[0]):
                worst = bits, response
            if number == len(knowledge.rivals) - 1 and not honest and worst is not None:
                knowledge.response = worst[1]
        return 1 if honest and knowledge.rivals else len(knowledge.rivals) + knowledge.more_rivals, material

    def _bits(self, knowledge: Knowledge) -> tuple[float, float, float] | tuple[None, None, None]:
        """Lower bound on e|B, secret bits by it, and the bits that what she lacks hides; None without S."""
        s, missing = knowledge.received_set, knowledge.missing
        if s is None or missing is None:
            return None, None, None
        low = lower_bound(len(missing), len(s), self._confidence)
        hidden = min(256.0, missed_entropy(len(missing), packet_bits=8 * _message_bytes(knowledge)))
        return low, secret_bits(len(s), low, missed_entropy=hidden), hidden

    def _thieves(
        self, knowledge: Knowledge, material: KeyMaterial, session: Mapping[Profile, SessionHeard]
    ) -> list[StolenKey]:
        """The session that follows from K_0, in both directions, as far as she heard it."""
        profile = (knowledge.response or _UNKNOWN).profile
        thieves: list[StolenKey] = []
        for label in DIRECTIONS if self._budget > 0 else ():
            thief = StolenKey(Chain.start(SUITES[profile], material.k0, label.encode(), 1))
            thief.tries_left = tries = max(1, self._budget // TRY)
            if thief.may_follow(session[profile]):
                for frame in session[profile].frames:
                    thief.hear(frame)
            self._budget -= TRY * (tries - thief.tries_left)
            thieves.append(thief)
        self._left_out += not thieves or not all(thief.tries_left for thief in thieves)
        return thieves

    def _repair(self, knowledge: Knowledge) -> int:
        """Make damaged copies good, within what is left of the work; the number of packets of S that came of it."""
        if not self._tries:
            return 0
        repair = Repair(knowledge, self._tries)
        for copy in self._damaged:
            repair.hear(copy)
        repaired = repair.apply()
        self._tries -= repair.tries
        return repaired


_FATES: Final = {fate: fate for fate in product((None, False, True), (False, True))}
"""Each only once in memory."""
_UNKNOWN: Final = Frame(Profile.HARDENED, Kind.RAND)


def _offer(frame: Frame | None, *, accept: bool) -> Offer | None:
    if frame is None:
        return None
    return Offer.decode(frame.profile, frame.message[limits.SESSION_ID_BYTES if accept else 0 :], accept=accept)


def _sent(knowledge: Knowledge, offer: Offer | None) -> int:
    last = max([-1, *knowledge.burst, *(knowledge.received_set or ())]) + 1
    part = offer.burst if offer else 0
    parts = -(-last // part) if part else 0
    return parts * part or last


def _message_bytes(knowledge: Knowledge) -> int:
    return max(map(len, knowledge.burst.values()), default=limits.COMPACT_MESSAGE_BYTES)


def preview(message: bytes, most: int = 60) -> str:
    """A message in one line: text, with dots for what is not printable, where most of it is text; else hexadecimal."""
    text = message.decode(errors="replace").replace("\ufffd", "\0")
    dotted = "".join(letter if letter.isprintable() else "·" for letter in text)
    shown = dotted if 2 * sum(map(str.isprintable, text)) > len(text) else message.hex()
    return shown if len(shown) <= most else f"{shown[:most]}... ({len(message)} bytes)"


def link_type_names(report: Report) -> list[str]:
    """As the other commands print them."""
    return [f"{linktype} {NAMES.get(linktype, '')}".rstrip() for linktype in report.linktypes]
