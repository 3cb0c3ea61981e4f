"""Key establishment (paper 3.2): what both ends share. The machines are in `initiator.py` and `responder.py`.

    Alice                                   Bob
      | -- request ------------------------> |    T_H, then T_W before the next
      | <------------------------- accept -- |
      | -- rand 0 .. N-1 ------------------> |    within T_1; some are lost, the received set is S
      |                                      |    2 T_1 from the first
      | <---------------- response S, [9] -- |    2 T_2
      | -- acknowledge RandData, [10] -----> |    2 T_3
      | <---------------------------- end -- |

Repeated until answered (row 4): the request at T_H + T_W, response, acknowledge and end by their own interval; every
handler is idempotent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from bt_selfsecure.core import limits
from bt_selfsecure.core.events import ShortAuthenticationString
from bt_selfsecure.core.frames import Frame, Kind, Profile, encode
from bt_selfsecure.core.losses import packets_needed
from bt_selfsecure.core.suites import SUITES, Random, Suite, hkdf_expand, sha256
from bt_selfsecure.errors import UsageError

ANYBODY: Final[Callable[[bytes], bool]] = lambda identity: True  # noqa: E731


@dataclass(frozen=True, slots=True)
class Timers:
    """The paper's timers, in seconds. Defaults suit a burst of 400 packets every 10 ms and links of some 10 ms."""

    t_h: float = 0.5
    """Wait for an accept."""
    t_w: float = 0.5
    """Wait before the next request."""
    t_1: float | None = None
    """At least the time of one burst; also the initiator's wait after it. None: the burst's time and half of T_2."""
    t_2: float = 1.0
    """The initiator waits 2 T_2 for responses, the responder 2 T_2 before it expects the acknowledgement."""
    t_3: float = 1.0
    """The initiator acknowledges for T_3; the responder waits 2 T_3 for it."""
    t_d: float = 10.0
    """No second request of one identity is considered within this time."""
    waiting: float = 5.0
    """The waiting phase: how long the initiator promises to wait for the end packet."""
    repeat: float = 0.15
    """Ours (row 4): response and acknowledge are sent again after this time, until answered."""
    settle: float = 0.05
    """Ours: after the burst's last packet a `hardened` responder waits this long for overtaken ones."""


@dataclass(frozen=True, slots=True)
class EstablishConfig:
    """What one end is configured with. Both ends need the same profile, and authentication keys or none."""

    identity: bytes
    """Own Bluetooth device address, 6 bytes."""
    profile: Profile = Profile.HARDENED
    timers: Timers = field(default_factory=Timers)
    burst: int = 400
    """N: packets of one burst (of one part of it where the burst is extended)."""
    max_burst: int = 20_000
    """Ours: packets of all parts together; `paper` sends one part only."""
    interval: float = 0.01
    """Seconds from packet to packet; the paper's experiment has 10 ms."""
    threshold: int | None = None
    """N_r: fewest burst packets that may become a key. None: what `target_bits` needs (`paper`: half of N)."""
    target_bits: float = 128.0
    eve_loss_bound: float = 0.05
    """Lower bound on P(Eve misses | Bob received); measured, with its confidence, by whoever configures it."""
    max_requests: int = 10
    responders: int = 1
    """How many accepts the initiator waits for before it starts the burst early; at T_H it starts with those it has."""
    compact: bool = False
    """Burst packets of 24 bytes for LE advertising."""
    exchange_shares: bool = False
    """Mix in X25519 (`hardened`), so that the key is at least as strong as the better of the two."""
    authentication_key: bytes = field(default=b"", repr=False)
    """Pre-shared by some other way; empty if there is none (`hardened`)."""
    admit: Callable[[bytes], bool] = field(default=ANYBODY, repr=False)
    """The responder's policy: whether to agree on a key with this identity."""

    def __post_init__(self) -> None:
        """Raises `UsageError` where a value is out of range."""
        if len(self.identity) != limits.IDENTITY_BYTES:
            raise UsageError(f"identity must be a device address of {limits.IDENTITY_BYTES} bytes")
        if not 1 <= self.burst <= self.max_burst <= limits.MAX_BURST:
            raise UsageError(f"burst sizes must be 1 <= burst <= max_burst <= {limits.MAX_BURST}")
        if not 0 < self.eve_loss_bound <= 1:
            raise UsageError("eve_loss_bound must be above 0 and at most 1: an Eve who misses nothing has every key")
        if not 0 < self.target_bits <= 256:
            raise UsageError("target_bits must be above 0 and at most 256")
        if not 1 <= self.responders <= limits.MAX_RESPONDERS:
            raise UsageError(f"responders must be 1 to {limits.MAX_RESPONDERS}")
        if min(self.timers.t_h, self.timers.t_w, self.t_1, self.timers.t_2, self.timers.t_3) <= 0:
            raise UsageError("T_H, T_W, T_1, T_2 and T_3 must be above 0 seconds")
        if not self.burst_seconds <= self.t_1 < self.burst_seconds + 2 * self.timers.t_2:
            raise UsageError(
                f"T_1 must be at least the burst's {self.burst_seconds:g} s and less than that and 2 T_2, or the "
                "response comes when the initiator no longer waits for it"
            )
        if self.profile is Profile.PAPER and (self.exchange_shares or self.authentication_key):
            raise UsageError("the profile 'paper' has neither X25519 nor an authentication key: use 'hardened'")

    @property
    def suite(self) -> Suite:
        return SUITES[self.profile]

    @property
    def hardened(self) -> bool:
        return self.profile is Profile.HARDENED

    @property
    def n_r(self) -> int:
        """N_r in force."""
        if self.threshold is not None:
            return self.threshold
        return packets_needed(self.target_bits, self.eve_loss_bound) if self.hardened else max(1, self.burst // 2)

    @property
    def t_1(self) -> float:
        """T_1 in force, seconds."""
        return self.burst_seconds + self.timers.t_2 / 2 if self.timers.t_1 is None else self.timers.t_1

    @property
    def message_bytes(self) -> int:
        return limits.COMPACT_MESSAGE_BYTES if self.compact else limits.BURST_MESSAGE_BYTES

    @property
    def burst_seconds(self) -> float:
        return self.burst * self.interval


@dataclass(frozen=True, slots=True)
class Offer:
    """What a request or accept says in Message.

    `paper`: identity (6).
    `hardened`: identity (6) | flags (1) | N (2) | T_1 in ms (4) | commitment (32) [| share (32)].
    An accept has the session id (8) in front, and in `hardened` after it: identity (6) | flags (1) [| share (32)].
    Flags: 1 compact, 2 X25519, 4 authentication key.
    """

    identity: bytes
    compact: bool = False
    authenticated: bool = False
    burst: int = 0
    t_1: float = 0.0
    commitment: bytes = b""
    share: bytes = b""

    def encode(self, profile: Profile, *, accept: bool) -> bytes:
        if profile is Profile.PAPER:
            return self.identity
        flags = self.compact | bool(self.share) << 1 | self.authenticated << 2
        middle = b"" if accept else self.burst.to_bytes(2) + round(self.t_1 * 1000).to_bytes(4) + self.commitment
        return self.identity + bytes([flags]) + middle + self.share

    @classmethod
    def decode(cls, profile: Profile, message: bytes, *, accept: bool) -> Offer | None:
        """None where the message has not this form."""
        identity, rest = message[:6], message[6:]
        if len(identity) != limits.IDENTITY_BYTES:
            return None
        if profile is Profile.PAPER:
            return None if rest else cls(identity)
        if not rest or rest[0] > 7:
            return None
        fixed = 1 if accept else 7 + limits.COMMITMENT_BYTES
        share = rest[fixed:]
        if len(rest) != fixed + (limits.SHARE_BYTES if rest[0] & 2 else 0):
            return None
        burst, t_1 = (0, 0) if accept else (int.from_bytes(rest[1:3]), int.from_bytes(rest[3:7]))
        return cls(identity, bool(rest[0] & 1), bool(rest[0] & 4), burst, t_1 / 1000, rest[7:fixed], share)


class KeyShare:
    """One end's X25519 key pair, or the lack of one."""

    def __init__(self, random: Random | None) -> None:
        self._private = X25519PrivateKey.from_private_bytes(random(32)) if random else None
        self.public = self._private.public_key().public_bytes_raw() if self._private else b""

    def exchange(self, peer: bytes) -> bytes | None:
        """The shared secret; empty without a key pair; None for a share of low order (RFC 7748 section 6.1)."""
        if self._private is None:
            return b""
        try:
            return self._private.exchange(X25519PublicKey.from_public_bytes(peer))
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class KeyMaterial:
    """K_0 and what follows from it at both ends of one establishment."""

    k0: bytes = field(repr=False)
    kd: bytes = field(repr=False)

    @classmethod
    def derive(
        cls, config: EstablishConfig, request: Frame, accept: Frame, s: bytes, messages: Sequence[bytes], secret: bytes
    ) -> KeyMaterial:
        """[6] to [8] over the messages in ascending order of Seq.

        The transcript of `hardened` (row 3) is SHA-256 over request, accept and Cpr_s, each with its length; `secret`
        is the X25519 secret, or empty. The authentication key enters beside it.
        """
        parts = (encode(request), encode(accept), s) if config.hardened else ()
        transcript = sha256(b"".join(len(part).to_bytes(4) + part for part in parts))
        extra = secret + (sha256(b"btss authentication" + config.authentication_key) if config.hardened else b"")
        k0 = config.suite.initial_key(messages, transcript, extra)
        return cls(k0, config.suite.derived_key(k0))

    @property
    def fingerprint(self) -> str:
        name = sha256(b"btss fingerprint" + self.k0).hex()
        return f"{name[:4]}-{name[4:8]}-{name[8:12]}"

    def sas(self, responder_nonce: bytes, rand_data: bytes) -> ShortAuthenticationString:
        """Six digits, and four words (24 bits), of K_0 and both ends' late random numbers.

        The request commits to RandData before the responder shows its own nonce after the burst, so that somebody in
        the middle has one try in a million (in the words one in 16 million), however much she computes. `paper` commits
        to nothing, and there a man in the middle can make both ends show the same.
        """
        value = hkdf_expand(self.k0, b"btss sas" + responder_nonce + rand_data, 16)
        digits = f"{int.from_bytes(value[:8]) % 1_000_000:06d}"
        bits = int.from_bytes(value[8:11])
        return ShortAuthenticationString(digits, tuple(WORDS[bits >> shift & 63] for shift in (18, 12, 6, 0)))


def pair_id(request: Frame, accept: Frame) -> bytes:
    """Names one responder's part in response, acknowledge and end; 8 bytes."""
    return sha256(b"btss pair" + request.rand + accept.rand)[: limits.PAIR_ID_BYTES]


def burst_rand(request: Frame, *, compact: bool) -> bytes:
    """What stands in the Rand field of this establishment's burst packets."""
    return request.rand[: limits.SESSION_TAG_BYTES if compact else limits.SESSION_ID_BYTES]


def burst_kind(*, compact: bool) -> Kind:
    return Kind.RAND_COMPACT if compact else Kind.RAND


# fmt: off
WORDS: Final = (
    "acid", "amber", "apple", "arrow", "bacon", "badge", "banjo", "basil", "bison", "bread", "cabin", "camel",
    "candy", "cedar", "cider", "cobra", "daisy", "delta", "diver", "eagle", "ember", "fable", "fairy", "field",
    "flute", "forest", "garlic", "ginger", "globe", "grape", "hazel", "honey", "igloo", "ivory", "jelly", "koala",
    "ladder", "lemon", "lilac", "lunar", "mango", "maple", "medal", "melon", "ninja", "ocean", "olive", "onion",
    "opera", "otter", "panda", "pearl", "piano", "quartz", "radio", "raven", "robin", "salad", "tango", "tiger",
    "tulip", "velvet", "walnut", "zebra",
)
# fmt: on
