"""Key establishment (paper 3.2): what both ends share. The machines are in `initiator.py` and `responder.py`,
what is computed from frames in `material.py`.

    Alice                                   Bob
      | -- request ------------------------> |    T_H, then T_W before the next
      | <------------------------- accept -- |
      | -- rand 0 .. N-1 ------------------> |    within T_1; some are lost, the received set is S
      | -- rand list ----------------------> |    `hardened`: which packets were sent
      |                                      |    2 T_1 from the first
      | <---------------- response S, [9] -- |    2 T_2
      | -- acknowledge RandData, [10] -----> |    2 T_3
      | <---------------------------- end -- |

Every handler is idempotent. The request is repeated at T_H + T_W, the accept at each request. In `hardened` (row 4)
list, response and acknowledge are repeated too, by an interval of their own, and the end at each acknowledge; in
`paper`, which has no list, each is sent once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from bt_selfsecure.errors import UsageError
from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.frames import Profile
from bt_selfsecure.protocols.haoxiao.suites import SUITES, Suite
from bt_selfsecure.stats.losses import packets_needed, secret_bits

MIN_T_1_S: Final = 0.001  # seconds; on the wire it is a number of milliseconds
MAX_T_1_S: Final = 600.0  # seconds: a responder binds itself for twice this time
REPEAT_S: Final = 0.15  # seconds: several round trips of a link of some 10 ms
FLOOD_PAUSE_S: Final = 0.03  # seconds, on average, between two responses that are read after too many wrong ones
FLOOD_CHANCE: Final = (
    64  # of 256 that the next one is read: not the first that comes, which is for the attacker to choose
)
ANYBODY: Final[Callable[[bytes], bool]] = lambda identity: True  # noqa: E731


@dataclass(frozen=True, slots=True)
class Timers:
    """Sets the paper's timers (3.2), in seconds. Defaults suit a burst of 400 packets every 10 ms and links of some
    10 ms."""

    t_h: float = 0.5
    """Wait for an accept."""
    t_w: float = 0.5
    """Wait before the next request."""
    t_1: float | None = None
    """At least the time of one burst; also the initiator's wait after it. None: the burst's time and half of T_2."""
    t_2: float = 1.0
    """The initiator waits 2 T_2 for responses, the responder 2 T_2 before it expects the acknowledgement."""
    t_3: float = 1.0
    """The initiator waits T_3 from the acknowledgement to the waiting phase, the responder 2 T_3 for it."""
    t_d: float = 10.0
    """No second request of one identity is considered within this time."""
    waiting: float = 5.0
    """The waiting phase: how long the initiator promises to wait for the end packet."""
    repeat: float | None = None
    """Ours (row 4): response and acknowledge are sent again after this time, until answered. None: 0.15 s in
    `hardened`; never in `paper`, where the loss of one such packet is a failure."""
    settle: float = 0.05
    """Ours: after the burst's last packet a `hardened` responder waits this long for overtaken ones."""


@dataclass(frozen=True, slots=True)
class EstablishConfig:
    """Says what one end of an establishment agrees to. Both need the same profile, and an authentication key or
    none."""

    identity: bytes
    """Own Bluetooth device address, 6 bytes."""
    profile: Profile = Profile.HARDENED
    """`HARDENED`, or `PAPER` to the letter, which has known attacks."""
    timers: Timers = field(default_factory=Timers)
    """The waits of the two ends."""
    burst: int = 400
    """N: packets of one burst (of one part of it where the burst is extended)."""
    max_burst: int = 20_000
    """Ours: packets of all parts together; `paper` sends one part only."""
    interval: float = 0.01
    """Seconds from packet to packet; the paper's experiment has 10 ms."""
    threshold: int | None = None
    """N_r: fewest burst packets that may become a key. None: what `target_bits` needs (`paper`: half of N)."""
    target_bits: float = 128.0
    """Secret bits that the key must have, computed with `eve_loss_bound`; at most 256."""
    eve_loss_bound: float = 0.05
    """Lower bound on P(Eve misses | Bob received); measured, with its confidence, by whoever configures it."""
    max_requests: int = 10
    """Requests without an accept before the initiator gives up."""
    responders: int = 1
    """How many accepts the initiator waits for before it starts the burst early; at T_H it starts with those it has."""
    compact: bool = False
    """Burst packets of 24 bytes for LE advertising."""
    exchange_shares: bool = False
    """Mix in X25519 (`hardened`), so that the key is at least as strong as the better of the two."""
    authentication_key: bytes = field(default=b"", repr=False)
    """Pre-shared by some other way; empty if there is none (`hardened`)."""
    peer: bytes = b""
    """Identity of whom this end means: an accept, or a request, of anybody else is refused. Empty: anybody."""
    continuity_keys: tuple[bytes, ...] = field(default=(), repr=False)
    """What earlier keys with this peer have left, the one to be preferred first (`SessionRecord.continuity_keys`)."""
    requires_continuity: bool = False
    """Whether this end refuses a key that does not mix one of them in: for a peer whom a person has confirmed."""
    compare: bool = False
    """Whether a person waits to compare the short authentication string of this one key; else there is none."""
    admit: Callable[[bytes], bool] = field(default=ANYBODY, repr=False)
    """The responder's policy: whether to agree on a key with this identity."""

    def __post_init__(self) -> None:
        """Raises `UsageError` where a value is out of range, or of another kind."""
        self._check_kinds()
        if len(self.identity) != limits.IDENTITY_BYTES:
            raise UsageError(f"identity must be a device address of {limits.IDENTITY_BYTES} bytes")
        if not 1 <= self.burst <= self.max_burst <= limits.MAX_BURST:
            raise UsageError(f"burst sizes must be 1 <= burst <= max_burst <= {limits.MAX_BURST}")
        if not 0 <= self.interval < math.inf:
            raise UsageError(f"interval is {self.interval:g} s and must be 0 seconds or more")
        if not 0 < self.eve_loss_bound <= 1:
            raise UsageError("eve_loss_bound must be above 0 and at most 1: an Eve who misses nothing has every key")
        if not 0 < self.target_bits <= 256:
            raise UsageError("target_bits must be above 0 and at most 256")
        if not 1 <= self.responders <= limits.MAX_RESPONDERS:
            raise UsageError(f"responders must be 1 to {limits.MAX_RESPONDERS}")
        if not isinstance(self.profile, Profile):
            raise UsageError(f"profile is {self.profile!r} and must be a member of Profile, as Profile.HARDENED")
        if self.threshold is not None and not 1 <= self.threshold <= self.max_burst:
            raise UsageError("threshold must be 1 to max_burst packets, or None for what target_bits needs")
        if self.max_requests < 1:
            raise UsageError("max_requests must be at least 1")
        timers = self.timers
        repeat = REPEAT_S if timers.repeat is None else timers.repeat
        if not all(0 < seconds < math.inf for seconds in (timers.t_h, timers.t_w, timers.t_2, timers.t_3, repeat)):
            raise UsageError("T_H, T_W, T_2, T_3 and repeat must be above 0 seconds")
        if not all(0 <= seconds < math.inf for seconds in (timers.t_d, timers.waiting, timers.settle)):
            raise UsageError("T_D, waiting and settle must be 0 seconds or more")
        if not MIN_T_1_S <= self.t_1 <= MAX_T_1_S:
            raise UsageError(
                f"T_1 is {self.t_1:g} s and must be {MIN_T_1_S:g} to {MAX_T_1_S:g} s: take another burst or interval"
            )
        if not self.burst_seconds <= self.t_1 < self.burst_seconds + 2 * self.timers.t_2:
            raise UsageError(
                f"T_1 must be at least the burst's {self.burst_seconds:g} s and less than that and 2 T_2, or the "
                "response comes when the initiator no longer waits for it"
            )
        if 0 < len(self.authentication_key) < limits.MIN_AUTHENTICATION_KEY_BYTES:
            raise UsageError(
                f"an authentication key must have at least {limits.MIN_AUTHENTICATION_KEY_BYTES} random bytes: "
                "a shorter one can be guessed"
            )
        if self.profile is Profile.PAPER and (self.exchange_shares or self.authentication_key):
            raise UsageError("the profile 'paper' has neither X25519 nor an authentication key: use 'hardened'")
        if self.peer and (len(self.peer) != limits.IDENTITY_BYTES or self.responders > 1):
            raise UsageError(f"peer is one device address of {limits.IDENTITY_BYTES} bytes, and responders 1 then")
        self._check_continuity()

    def _check_kinds(self) -> None:
        own = {name: getattr(self, name) for name in ("identity", "authentication_key", "peer")}
        for name, value in [*own.items(), *(("continuity_keys", key) for key in self.continuity_keys)]:
            if not isinstance(value, bytes):
                raise UsageError(f"{name} must be bytes, as in bytes.fromhex('b827eb123456'): it is of another kind")
        for name in ("burst", "max_burst", "threshold", "responders", "max_requests"):
            value = getattr(self, name)
            if (not isinstance(value, int) or isinstance(value, bool)) and (name, value) != ("threshold", None):
                raise UsageError(f"{name} must be a whole number and is {value!r}")
        for name in ("interval", "eve_loss_bound", "target_bits"):
            if not isinstance(value := getattr(self, name), int | float):
                raise UsageError(f"{name} must be a number and is {value!r}")

    def _check_continuity(self) -> None:
        if self.profile is Profile.PAPER and (self.continuity_keys or self.requires_continuity):
            raise UsageError("the profile 'paper' has no continuity: use 'hardened'")
        if (self.continuity_keys or self.requires_continuity) and not self.peer:
            raise UsageError("continuity is that with one peer: name it")
        if len(self.continuity_keys) > limits.MAX_CONTINUITY_NAMES:
            raise UsageError(f"there are at most {limits.MAX_CONTINUITY_NAMES} continuity keys with a peer")
        if any(len(key) != limits.KEY_BYTES for key in self.continuity_keys):
            raise UsageError(f"a continuity key has {limits.KEY_BYTES} bytes")

    @property
    def suite(self) -> Suite:
        return SUITES[self.profile]

    @property
    def hardened(self) -> bool:
        return self.profile is Profile.HARDENED

    @property
    def n_r(self) -> int:
        """Return the N_r in force: the fewest packets of S that become a key."""
        if self.threshold is not None:
            return self.threshold
        return packets_needed(self.target_bits, self.eve_loss_bound) if self.hardened else max(1, self.burst // 2)

    @property
    def t_1(self) -> float:
        """Return the T_1 in force, in seconds."""
        return self.burst_seconds + self.timers.t_2 / 2 if self.timers.t_1 is None else self.timers.t_1

    def next_repeat(self, now: float) -> float | None:
        """Return the time at which response or acknowledge is sent again, or None."""
        default = REPEAT_S if self.hardened else None
        repeat = default if self.timers.repeat is None else self.timers.repeat
        return None if repeat is None else now + repeat

    @property
    def message_bytes(self) -> int:
        return limits.COMPACT_MESSAGE_BYTES if self.compact else limits.BURST_MESSAGE_BYTES

    def reckoned_bits(self, received: int, message_bytes: int) -> float:
        """Return the secret bits of so many packets in S, for the bound on Eve's loss. What she misses of one is all of
        its random bits but those that the list of `hardened` tells."""
        told = limits.DIGEST_BYTES if self.hardened else 0
        missed_entropy = received * self.eve_loss_bound * 8 * (message_bytes - told)
        return secret_bits(received, self.eve_loss_bound, missed_entropy=missed_entropy)

    @property
    def burst_seconds(self) -> float:
        return self.burst * self.interval
