"""Eve's verdict and what it is made of: figures, and the sentences that say them."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Final

from bt_selfsecure.eve.haoxiao.relayed import in_words
from bt_selfsecure.eve.reading import ON_AIR
from bt_selfsecure.eve.sources.linktypes import NAMES
from bt_selfsecure.eve.sources.packet import UNHEARD
from bt_selfsecure.protocols.haoxiao.frames import Profile
from bt_selfsecure.stats.losses import JointLoss
from bt_selfsecure.wording import counted

DIRECTIONS: Final = ("initiator to responder", "responder to initiator")
OWNER: Final = ("sent by whose record was stolen", "received by whose record was stolen")
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
MOST_OPEN: Final = 8
"""So many establishments that are not decided are named."""


@dataclass(frozen=True, slots=True)
class Read:
    """Holds what she read of one direction."""

    direction: str
    messages: dict[int, bytes] = field(repr=False)
    """By their rounds, ascending."""

    def told(self, most: int | None) -> list[str]:
        """Return a line that counts and names the last one, and one for each of the first `most`, or of all."""
        if not self.messages:
            return [f"{self.direction}: none"]
        head = f"{self.direction}: {counted(len(self.messages), 'message')}, the last of round {max(self.messages)}"
        shown = list(self.messages.items())[:most]
        more = [f"  and {len(self.messages) - len(shown):,} more"] * (len(shown) < len(self.messages))
        return [head, *(f"{number:>5}  {in_words(message) or preview(message)}" for number, message in shown), *more]


@dataclass(frozen=True, slots=True)
class Bound:
    """Says how hard K_0 is, if the packets of which Eve has damaged copies are counted in one of the two ways."""

    e_given_bob_low: float
    secret_bits: float
    hidden_bits: float


@dataclass(frozen=True, slots=True)
class EstablishmentVerdict:
    """Tells of one establishment, and of the session that follows from its key."""

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
    damaged_given_bob: int | None
    """Of these as many as she seems to have damaged copies of, which more tries may make good."""
    hands_on_damaged: bool
    """Whether a radio of hers handed on anything with a wrong CRC. If none did, the bound is none against a sniffer."""
    damaged: str
    """What those packets count as in the bound and the bits below: heard or lost."""
    damaged_heard: Bound | None
    damaged_lost: Bound | None
    """If those packets count as heard by Eve, as is right, and as lost: one of them is what is told below."""
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
    read: tuple[Read, ...]
    """What that K_0 opened of either direction; nothing without it."""
    frames_opened: int
    """Data frames, all attempts."""
    rivals: int
    """Responses of this pair that contradict each other: all but one are forged. 1 or 0 where nobody forges."""
    rivals_left_out: int
    """Of those, not looked at: there were too many."""
    kept: array[int] | None = field(repr=False)
    """S, ascending, if it is known: two bytes a packet, however many a request or a Seq claims."""
    has: array[int] = field(repr=False)
    """The packets that Eve has, ascending."""

    @property
    def plaintext(self) -> tuple[bytes, ...]:
        """Return the messages read, the initiator's first."""
        return tuple(message for read in self.read for message in read.messages.values())

    @property
    def fates(self) -> list[tuple[bool | None, bool]]:
        """Return for each packet sent whether it is in S, if that is known, and whether Eve has it."""
        kept, has = None if self.kept is None else frozenset(self.kept), frozenset(self.has)
        return [(None if kept is None else seq in kept, seq in has) for seq in range(self.sent)]

    @property
    def joint(self) -> JointLoss | None:
        """Return who heard what, if S is known."""
        return None if self.kept is None else JointLoss.of(self.sent, set(self.kept), set(self.has))

    @property
    def judged(self) -> JointLoss | None:
        """Return the same, what she has damaged copies of counted as in the bound."""
        joint, heard = self.joint, self.damaged_given_bob or 0
        if joint is None or self.damaged == "lost":
            return joint
        return joint._replace(both=joint.both + heard, bob_only=joint.bob_only - heard)

    @property
    def open(self) -> bool:
        """Return whether Eve may have the key though it is not told here: she has all that it takes and the response
        does not prove it, so a packet, the accept or the response was forged; or some responses were not looked at."""
        heard = self.profile == Profile.PAPER.label or bool(self.initiator and self.responder)
        complete = self.missed_given_bob == 0 and heard and not self.mixed_in
        return not self.has_key and (complete or bool(self.rivals_left_out))

    @property
    def sentence(self) -> str:
        """Return the verdict in words."""
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
        if self.damaged_given_bob == self.missed_given_bob and not self.secret_bits:
            return (
                f"Eve has no key yet: {lacks}, and of each a damaged copy that --repair may make good; 0 secret bits."
            )
        return f"Locked out: {lacks}; {self.secret_bits:.1f} secret bits at {100 * self.confidence:g} % confidence."


@dataclass(frozen=True, slots=True)
class CaptureReport:
    """Holds all that came of one hearing."""

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
    verdicts: tuple[EstablishmentVerdict, ...]
    stolen: tuple[Read, ...] = ()
    """What keys of a stolen journal opened, two directions for each peer."""
    unread: int = 0
    """Captures that were named, and could not be read or not to their end."""
    left_out: int = 0
    """Establishments not looked at, or not read on, because there was too much in the capture."""
    refused: int = 0
    """Burst packets whose Seq no burst reaches: an active attack."""
    not_kept: int = 0
    """Frames heard when there was no room for more."""
    repair_used_up: bool = False
    """Whether more tries might have made more packets good."""
    group_fragments: int = 0
    """Of broadcasts to groups."""
    group_broadcasts: int = 0
    """Those of which she has enough to read them, had she the group's key."""
    skipped: dict[str, int] = field(default_factory=dict)
    """What the captures held that could not be read, by reason."""

    @property
    def stolen_read(self) -> tuple[bytes, ...]:
        """Return the messages read with what was stolen."""
        return tuple(message for read in self.stolen for message in read.messages.values())

    @property
    def decided(self) -> bool:
        """Return whether all that was heard was looked at: if not, Eve may have a key that is not told here."""
        return not self.open_ends

    @property
    def open_ends(self) -> list[str]:
        """Return what was not looked at, or not decided, though it may have given her a key."""
        ends = [
            (self.unread, f"captures not read, or not to their end: {self.unread:,}"),
            (self.left_out, f"left out, too much to look at: {self.left_out:,}"),
            (self.not_kept, f"frames for which there was no room: {self.not_kept:,}"),
            *((count, f"{why} ({count:,})") for why, count in self.skipped.items() if why in UNHEARD),
        ]
        undecided = [
            (number, verdict.rivals_left_out) for number, verdict in enumerate(self.verdicts, 1) if verdict.open
        ]
        for number, left_out in undecided[:MOST_OPEN]:
            why = f"responses not looked at: {left_out:,}" if left_out else "a packet or the response is forged"
            ends.append((1, f"establishment {number}: {why}"))
        if more := len(undecided[MOST_OPEN:]):
            ends.append((more, f"establishments that are not decided either: {more:,}"))
        return [words for count, words in ends if count]

    @property
    def conclusion(self) -> str:
        """Return all verdicts in one sentence."""
        keys, count = sum(verdict.has_key for verdict in self.verdicts), len(self.verdicts)
        if keys:
            return f"Eve has a key: of {keys} of {count} establishments." if count > 1 else "Eve has the key."
        if not self.decided:
            return "Eve has no key of what was looked at; what was not may have given her one."
        return "Eve has no key."

    @property
    def broken(self) -> bool:
        """Return whether Eve has a key."""
        return any(verdict.has_key for verdict in self.verdicts)

    @property
    def limits(self) -> list[str]:
        """Return what her hardware cannot hear, one sentence each."""
        heard = [SNIFFER if linktype in ON_AIR else BARE if linktype == 147 else HOST for linktype in self.linktypes]
        return list(
            dict.fromkeys([*heard, *(f"{name}: {text}" for name, text in BEARERS.items() if name in self.bearers)])
        )


def preview(message: bytes, most: int = 60) -> str:
    """Return a message in one line: text, with dots for what is not printable, where most of it is text; else
    hexadecimal."""
    text = message.decode(errors="replace").replace("\ufffd", "\0")
    dotted = "".join(letter if letter.isprintable() else "·" for letter in text)
    shown = dotted if 2 * sum(map(str.isprintable, text)) > len(text) else message.hex()
    return shown if len(shown) <= most else f"{shown[:most]}... ({len(message)} bytes)"


def link_type_names(report: CaptureReport) -> list[str]:
    """Return the names of link types as the other commands print them."""
    return [f"{linktype} {NAMES.get(linktype, '')}".rstrip() for linktype in report.linktypes]
