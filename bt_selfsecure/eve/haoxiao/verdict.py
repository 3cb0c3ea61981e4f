"""What Eve has and what she lacks, in numbers: the verdict over what was heard, by one Eve or by several together.

She gets nothing but captures. What she claims she has proved: a K_0 by the response's HMAC [9], a message by opening it
under the keys that follow. What she cannot know she says so: without the response there is no S.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from itertools import cycle
from typing import Final

from bt_selfsecure.eve.haoxiao.attacks.group_theft import GroupHeard
from bt_selfsecure.eve.haoxiao.attacks.guessing import Repair
from bt_selfsecure.eve.haoxiao.attacks.theft import SessionHeard, StolenKey, StolenRecord
from bt_selfsecure.eve.haoxiao.establishments import MOST_FRAMES, Eavesdropper
from bt_selfsecure.eve.haoxiao.format import HAOXIAO
from bt_selfsecure.eve.haoxiao.knowledge import Knowledge
from bt_selfsecure.eve.haoxiao.report import DIRECTIONS, OWNER, Bound, CaptureReport, EstablishmentVerdict, Read
from bt_selfsecure.eve.reading import Reader, damaged
from bt_selfsecure.eve.sources.packet import CapturedPacket
from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.frames import COMPACT_FRAME_BYTES, Frame, Kind, Profile, burst_encoder
from bt_selfsecure.protocols.haoxiao.keychain import Chain
from bt_selfsecure.protocols.haoxiao.material import KeyMaterial, Offer, burst_rand
from bt_selfsecure.protocols.haoxiao.suites import SUITES
from bt_selfsecure.stats.losses import lower_bound, missed_entropy, secret_bits

CONFIDENCE: Final = 0.95
MOST_WORK: Final = 1 << 24
"""Packets of bursts and received sets that are looked at in all: some ten seconds of one core. A thousand ordinary
establishments take a tenth of it; a capture made to take for ever is judged as far as this goes."""
MOST_COMPARED: Final = 1 << 23
"""Damaged copies with packets, each with each: a second or two of one core."""
MOST_WRONG: Final = 6
"""Bits of the 40 of a head. A packet of anybody else's is as near to a head with a probability of 4e-6."""
TRY: Final = 16
"""What it costs to try a key on a data frame, in packets."""


class Judge:
    """Feed it what each Eve heard, in any order; `report` gives the verdict. `work` bounds the repair of packets with a
    wrong CRC, in tries; 0 leaves them alone. What she has damaged copies of counts as heard, or else as lost."""

    def __init__(
        self,
        work: int = 0,
        confidence: float = CONFIDENCE,
        stolen: Iterable[StolenRecord] = (),
        *,
        damaged_heard: bool = True,
    ) -> None:
        self._work: Final = work
        self._confidence: Final = confidence
        self._damaged_heard: Final = damaged_heard
        self._stolen: Final = [thief for record in stolen for thief in (record.sending, record.receiving)]
        self._eve: Final = Eavesdropper()
        self._damaged: Final[dict[bytes, None]] = {}
        self._captures = self._packets = self._crc_bad = self._left_out = 0
        self._tries, self._budget, self._comparisons = work, MOST_WORK, MOST_COMPARED
        self._skipped: Final[Counter[str]] = Counter()
        self._bearers: Final[Counter[str]] = Counter()
        self._groups: Final = GroupHeard()
        self._linktypes: Final[dict[int, None]] = {}

    def hear_all(self, source: Iterable[CapturedPacket], skipped: Mapping[str, int] | None = None) -> None:
        """Hear one Eve's whole capture; in `skipped` stands afterwards what could not be read of it."""
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
                if len(self._damaged) < MOST_FRAMES and (copy := damaged(heard, HAOXIAO.advertised)):
                    self._damaged[copy] = None
            for datagram in reader.read(heard):
                if (frame := self._eve.hear(datagram.data)) is not None:
                    self._bearers[datagram.bearer] += 1
                    if frame.kind is Kind.GROUP_FRAGMENT:
                        self._groups.add(frame, heard.time)

    def report(self) -> CaptureReport:
        """Return the verdict over everything so far."""
        session = cache(lambda profile: SessionHeard(f for f in self._eve.session() if f.profile is profile))
        self._tries, self._budget, self._left_out = self._work, MOST_WORK, 0
        self._comparisons = MOST_COMPARED
        verdicts = [self._judge(knowledge, session) for knowledge in self._eve.establishments(self._may)]
        for thief in self._stolen:
            for frame in self._eve.session():
                thief.hear(frame)
        opened = sum(verdict.frames_opened for verdict in verdicts) + sum(thief.opened for thief in self._stolen)
        return CaptureReport(
            self._captures,
            self._packets,
            self._crc_bad,
            self._eve.kinds.total(),
            dict(self._bearers),
            tuple(self._linktypes),
            dict(self._eve.kinds),
            self._eve.contradictions,
            max(0, self._eve.data_frames - opened),
            tuple(verdicts),
            tuple(_read(way, thief) for way, thief in zip(cycle(OWNER), self._stolen, strict=False)),
            refused=self._eve.refused,
            not_kept=self._eve.not_kept,
            left_out=self._left_out + self._eve.left_out + sum(not thief.tries_left for thief in self._stolen),
            repair_used_up=bool(self._work and self._damaged and not self._tries),
            skipped=dict(self._skipped),
            group_fragments=self._groups.fragments,
            group_broadcasts=self._groups.whole,
        )

    def _may(self, cost: int) -> bool:
        """Whether so much more may be looked at."""
        if cost > self._budget:
            self._left_out += 1
            return False
        self._budget -= cost
        return True

    def _judge(self, knowledge: Knowledge, session: Callable[[Profile], SessionHeard]) -> EstablishmentVerdict:
        rivals, material = self._settle(knowledge)
        repaired = self._repair(knowledge) if knowledge.missing else 0
        if repaired:
            material = knowledge.initial_key()
        s, missing = knowledge.received_set, knowledge.missing
        offer = _offer(knowledge.request, accept=False)
        answer = _offer(knowledge.accept, accept=True)
        sent = _sent(knowledge, offer)
        k = None if missing is None else len(missing)
        copies = None if missing is None else self._damaged_copies(knowledge, missing)
        lost, repaired_all = self._bits(knowledge), self._bits(knowledge, copies or 0)
        told = repaired_all if self._damaged_heard else lost
        thieves = self._thieves(knowledge, material, session) if material else []
        return EstablishmentVerdict(
            profile=(knowledge.request or knowledge.response or _UNKNOWN).profile.label,
            session=knowledge.request.rand[: limits.SESSION_ID_BYTES].hex() if knowledge.request else "",
            initiator=offer.identity.hex(":").upper() if offer else "",
            responder=answer.identity.hex(":").upper() if answer else "",
            sent=sent,
            heard_by_bob=None if s is None else len(s),
            heard_by_eve=len(knowledge.burst),
            missed_given_bob=k,
            repaired=repaired,
            damaged_given_bob=copies,
            hands_on_damaged=bool(self._crc_bad),
            damaged="heard" if self._damaged_heard else "lost",
            damaged_heard=repaired_all,
            damaged_lost=lost,
            e_given_bob_low=told.e_given_bob_low if told else None,
            confidence=self._confidence,
            secret_bits=0.0 if material else None if knowledge.more_rivals or not told else told.secret_bits,
            hidden_bits=told.hidden_bits if told else None,
            mixed_in=bool(offer and (offer.share or offer.authenticated)) or bool(answer and answer.names),
            has_key=material is not None,
            fingerprint=material.fingerprint if material else "",
            read=tuple(_read(way, thief) for way, thief in zip(DIRECTIONS, thieves, strict=False)),
            frames_opened=sum(thief.opened for thief in thieves),
            rivals=rivals,
            rivals_left_out=0 if material else knowledge.more_rivals,
            kept=None if s is None else array("H", sorted(s)),
            has=array("H", sorted(knowledge.burst)),
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
            bits = self._bits(knowledge)
            if bits is not None and (worst is None or bits.secret_bits < worst[0]):
                worst = bits.secret_bits, response
            if number == len(knowledge.rivals) - 1 and not honest and worst is not None:
                knowledge.response = worst[1]
        return 1 if honest and knowledge.rivals else len(knowledge.rivals) + knowledge.more_rivals, material

    def _bits(self, knowledge: Knowledge, repairable: int = 0) -> Bound | None:
        """How hard K_0 is, if so many of the packets that she lacks count as heard; None without S."""
        s, missing = knowledge.received_set, knowledge.missing
        if s is None or missing is None:
            return None
        lacking = len(missing) - repairable
        low = lower_bound(lacking, len(s), self._confidence)
        hidden = min(256.0, missed_entropy(lacking, packet_bits=_hidden_bits(knowledge)))
        return Bound(low, secret_bits(len(s), low, missed_entropy=hidden), hidden)

    def _damaged_copies(self, knowledge: Knowledge, missing: frozenset[int]) -> int:
        """Of how many packets that she lacks she seems to have damaged copies: such as have the head of one of those
        but for `MOST_WRONG` bits, and are near to none that she heard, nor to each other. Never kinder where there is
        too much to look at, or nothing tells: then each copy is one of another packet."""
        among = len(knowledge.burst) + 2 * len(missing)
        if knowledge.request is None or len(self._damaged) * among > self._comparisons:
            return min(len(missing), len(self._damaged))
        self._comparisons -= len(self._damaged) * among
        rand = burst_rand(knowledge.request, compact=True)
        encoded = burst_encoder(knowledge.request.profile, Kind.RAND_COMPACT, rand)
        size = limits.COMPACT_MESSAGE_BYTES
        known = [int.from_bytes(encoded(n, text)) for n, text in knowledge.burst.items() if len(text) == size]
        heads = [int.from_bytes(encoded(seq, bytes(size))[:_HEAD_BYTES]) for seq in missing]
        found = 0
        for copy in map(int.from_bytes, self._damaged):
            head = copy >> 8 * (COMPACT_FRAME_BYTES - _HEAD_BYTES)
            if any((head ^ other).bit_count() <= MOST_WRONG for other in heads) and all(
                (copy ^ other).bit_count() > _NEAR for other in known
            ):
                known.append(copy)
                found += 1
                if found == len(missing):
                    break
        return found

    def _thieves(
        self, knowledge: Knowledge, material: KeyMaterial, session: Callable[[Profile], SessionHeard]
    ) -> list[StolenKey]:
        """The session that follows from K_0, in both directions, as far as she heard it."""
        profile = (knowledge.response or _UNKNOWN).profile
        thieves: list[StolenKey] = []
        for label in DIRECTIONS if self._budget > 0 else ():
            thief = StolenKey(Chain.start(SUITES[profile], material.k0, label.encode(), 1))
            thief.tries_left = tries = max(1, self._budget // TRY)
            if thief.may_follow(session(profile)):
                for frame in session(profile).frames:
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


_HEAD_BYTES: Final = 1 + 2 + limits.SESSION_TAG_BYTES
"""Bytes of the head of a burst packet in an advertisement: version and kind, Seq, tag."""
_NEAR: Final = 48
"""Wrong bits: so near to each other are no two packets, of whose 192 bits 152 are random."""
_UNKNOWN: Final = Frame(Profile.HARDENED, Kind.RAND)


def _read(direction: str, thief: StolenKey) -> Read:
    return Read(direction, dict(sorted(thief.read.items())))


def _offer(frame: Frame | None, *, accept: bool) -> Offer | None:
    if frame is None:
        return None
    return Offer.decode(frame.profile, frame.message[limits.SESSION_ID_BYTES if accept else 0 :], accept=accept)


def _sent(knowledge: Knowledge, offer: Offer | None) -> int:
    last = max([-1, *knowledge.burst, *(knowledge.received_set or ())]) + 1
    part = offer.burst if offer else 0
    parts = -(-last // part) if part else 0
    return parts * part or last


def _hidden_bits(knowledge: Knowledge) -> int:
    """Return the random bits of a packet that she lacks; the list of `hardened` tells some of them."""
    size = max(map(len, knowledge.burst.values()), default=limits.COMPACT_MESSAGE_BYTES)
    hardened = knowledge.response is not None and knowledge.response.profile is Profile.HARDENED
    return 8 * (size - (limits.DIGEST_BYTES if hardened else 0))
