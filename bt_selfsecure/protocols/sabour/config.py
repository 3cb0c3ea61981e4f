"""What the two ends are configured with, and when they send again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from bt_selfsecure.errors import UsageError
from bt_selfsecure.protocols.sabour import limits
from bt_selfsecure.protocols.sabour.enrolment import Enrolment, Identity
from bt_selfsecure.protocols.sabour.messages import Profile
from bt_selfsecure.protocols.sabour.primitives import is_ed25519_key

NOBODY: Final = Enrolment(b"", b"")
MOST_RETRANSMISSIONS: Final = 16
_JITTER: Final = 0.5  # RFC 7252's ACK_RANDOM_FACTOR, less 1


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """Holds what a client is configured with."""

    identity: Identity
    server: Enrolment = NOBODY
    """Whom the client will trust. `paper` trusts anybody."""
    profile: Profile = Profile.HARDENED
    timeout: float = 2.0
    """Seconds until M1 or M3 is sent again, and up to half as long again by chance; doubled each time (RFC 7252)."""
    retransmissions: int | None = None
    """Before the client gives up. None: 4; in `paper`, where each message is sent once, 0."""

    def __post_init__(self) -> None:
        """Raises `UsageError` where a value is out of range."""
        _check_identity(self.identity)
        if self.profile.hardened and not is_ed25519_key(self.server.key):
            raise UsageError("a hardened client needs the server's enrolment record, with a key that proves something")
        if self.timeout <= 0:
            raise UsageError("timeout must be above 0 seconds")
        if not 0 <= self.most_retransmissions <= MOST_RETRANSMISSIONS:
            raise UsageError(f"retransmissions must be 0 to {MOST_RETRANSMISSIONS}")

    @property
    def most_retransmissions(self) -> int:
        """Return how often a client sends again: what the configuration says, or the profile."""
        if self.retransmissions is None:
            return 4 if self.profile.hardened else 0
        return self.retransmissions

    def wait(self, sent: int, chance: float) -> float:
        """Return the seconds to wait after so many transmissions; `chance` is drawn from 0 to 1."""
        return self.timeout * (1 << sent - 1) * (1 + _JITTER * chance)


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Holds what a server is configured with."""

    identity: Identity
    devices: Mapping[bytes, bytes] = field(repr=False)
    """Who is enrolled: device ids, and their Ed25519 keys (empty in `paper`). Looked up at each M1."""
    profile: Profile = Profile.HARDENED
    half_open: float = 100.0
    """Seconds for which M3 is waited for, and for which M4 is said again: a client's waits take 93 (RFC 7252)."""

    def __post_init__(self) -> None:
        """Raises `UsageError` where a value is out of range."""
        _check_identity(self.identity)
        if self.half_open <= 0:
            raise UsageError("half_open must be above 0 seconds")


def _check_identity(identity: Identity) -> None:
    if (len(identity.device_id), len(identity.seed)) != (limits.DEVICE_ID_BYTES, limits.SHARE_BYTES):
        raise UsageError(f"an identity has an id of {limits.DEVICE_ID_BYTES} bytes and a seed of {limits.SHARE_BYTES}")
