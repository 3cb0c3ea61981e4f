"""Says what endpoints tell their driver: frozen, secrets hidden from repr, taken one by one by `next_event()`."""

from __future__ import annotations

import enum
from dataclasses import field

from bt_selfsecure.protocols.haoxiao.record import SessionRecord
from bt_selfsecure.sansio.events import FrameRejected as FrameRejected  # as itself: `events` has all of them
from bt_selfsecure.sansio.events import Persist as Persist
from bt_selfsecure.sansio.events import Rejection as Rejection
from bt_selfsecure.sansio.events import StateChanged as StateChanged
from bt_selfsecure.sansio.value import value

# --- establishment ----------------------------------------------------------------------------------------------------


class Refusal(enum.Enum):
    """Says why a responder kept silent on a request, or an initiator took no accept."""

    UNWILLING = "the policy does not admit this identity"
    PROFILE = "the other end uses another profile"
    AUTHENTICATION = "one end has an authentication key and the other has none"
    PARAMETERS = "the request's parameters are out of range"
    BUSY = "an establishment is under way"
    VERSION = "the other end speaks version 2 of hardened, which is not spoken any more: upgrade it"
    IDENTITY = "it is not the one that is meant"
    CONTINUITY = "it has no continuity with the confirmed key in force: it may be somebody else"


class Failure(enum.Enum):
    """Says why an establishment ended without a key."""

    NO_ACCEPT = "nobody accepted the request"
    NO_RESPONSE = "no response came within 2 T_2"
    NOT_AUTHENTIC = "the response was not made with the same key: damaged, attacked, or another authentication key"
    TOO_FEW_PACKETS = "fewer burst packets than N_r were received"
    TARGET_MISSED = "the secret-bit target was not reached within the largest burst"
    NO_BURST = "no burst packet came after the accept"
    NO_ACKNOWLEDGE = "no acknowledgement came within 2 T_3"
    NO_END = "no end packet came in the waiting phase"
    NO_LIST = "the list of the burst did not come"
    IDENTITY = "another one answered than who was asked"
    NO_CONTINUITY = "who answered has no continuity with the confirmed key in force: it may be somebody else"
    CLOSED = "the program closed the establishment"


@value
class RequestRefused:
    """A responder does not answer this request, and stays silent on the air."""

    identity: bytes
    reason: Refusal


@value
class AcceptRefused:
    """An initiator does not take this accept, and goes on waiting for one."""

    identity: bytes
    reason: Refusal


@value
class PeerAccepted:
    """A responder is ready for the initiator's burst."""

    peer: bytes


@value
class BurstSent:
    """The initiator has sent this many burst packets so far and waits for the responders."""

    sent: int


@value
class ResponseVerified:
    """A responder's received set is proved by [9]."""

    peer: bytes
    received: int
    secret_bits: float
    """For the given lower bound on Eve's loss."""


@value
class ActiveAttack:
    """Somebody sends burst packets that contradict the initiator's. It goes on; in `hardened` they change nothing."""

    seq: int


@value
class ShortAuthenticationString:
    """Shows what two people compare, to know that nobody stands in the middle: right by chance once in a million."""

    digits: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.digits[:3]} {self.digits[3:]} ({' '.join(self.words)})"


@value
class Established:
    """Both ends hold K_0, and this end knows that the other does."""

    peer: bytes
    """Identity of the other end, 6 bytes; proved only if `authenticated`."""
    k0: bytes = field(repr=False)
    """K_0 (K_0' where X25519 is mixed in), 32 bytes. Secret."""
    fingerprint: str
    """Short public name of K_0, equal at both ends."""
    sas: ShortAuthenticationString | None
    """For one comparison, where a person waits for it (`compare`)."""
    sent: int
    """Burst packets that the initiator sent (the responder: that it can know of)."""
    received: tuple[int, ...]
    """S in ascending order; public, it went over the air."""
    secret_bits: float
    """By the losses alone, for the configured lower bound on Eve's loss, and only as good as its measurement."""
    target_bits: float
    authenticated: bool
    """Whether a pre-shared key proved the peer: who has it, not which of those that do. If not, and without
    `continuity`, only comparing `sas` excludes a man in the middle."""
    hybrid: bool
    """Whether an X25519 secret is mixed in."""
    continuity: bool = False
    """Whether the continuity key of an earlier K_0 with this peer is mixed in: it is the same one as then."""
    export_root: bytes = field(default=b"", repr=False)
    """X_0, from which keys for other programs follow, 32 bytes. Secret."""
    session: bytes = b""
    """Names the burst, 8 bytes: all who have heard it have a key of this session id."""
    tokens: bytes = field(default=b"", repr=False)
    """A token of 16 bytes for each packet of S, in its order: what those who have heard one burst have in common, and
    from which no K_0 follows. `hardened` only. Secret."""


@value
class EstablishFailed:
    """This establishment has ended without a key. `peer` is None where no peer can be named."""

    reason: Failure
    peer: bytes | None = None
    detail: str = ""


@value
class Independence:
    """Says how far two responders of one burst hold independent keys: `j` is an eavesdropper of `i`'s key."""

    i: bytes
    j: bytes
    received: int
    """|S_i|"""
    missed_by_j: int
    """|S_i without S_j|: 0 means that j can compute i's key."""


# --- session ----------------------------------------------------------------------------------------------------------


@value
class MessageReceived(StateChanged[SessionRecord]):
    """A message came from the peer, in order. In `every-message` it comes exactly once; in `every-W` perhaps again
    after a crash, under the same Seq in a later epoch."""

    seq: int
    message: bytes = field(repr=False)
    epoch: int
    """Counts resynchronisations: each (epoch, Seq) comes once."""


@value
class MessageDelivered(StateChanged[SessionRecord]):
    """The peer has proved that it holds this message; or, where the two have found together again, several. After a
    crash it may be told again."""

    seq: int
    """Of the last one."""
    count: int
    """How many there are: Seq by Seq."""

    @property
    def rounds(self) -> range:
        """Return the Seq of each."""
        return range(self.seq - self.count + 1, self.seq + 1)


@value
class Unreachable:
    """There was no acknowledgement to Omega retransmissions. The session goes on trying, slowly; nothing is lost."""

    seq: int


@value
class Resynchronised:
    """Both ends go on under a fresh key from a common checkpoint (after a crash, or a new K_0)."""

    sending: bool
    """Which direction: true for the one in which this end sends."""
    seq: int
    """The next round: the peer has everything before it."""


@value
class RolledBack:
    """The two go on from an older key, because one of them has forgotten rounds (`every-W`), or because a thief of that
    key said so: whoever had it has the new one, if she heard how they found together."""

    sending: bool
    """Which direction: true for the one in which this end sends."""
    rounds: int
    """How many go back, at most."""


@value
class ReestablishNeeded:
    """The session can't go on with this K_0: the rounds are used up, or the ends seem to have no key in common.

    A hint where the latter: a stranger's frame can cause it, once in each direction.
    """

    reason: str


Event = (
    FrameRejected
    | RequestRefused
    | AcceptRefused
    | PeerAccepted
    | BurstSent
    | ResponseVerified
    | ActiveAttack
    | Established
    | EstablishFailed
    | Independence
    | Persist[SessionRecord]
    | MessageReceived
    | MessageDelivered
    | Unreachable
    | Resynchronised
    | RolledBack
    | ReestablishNeeded
)
