"""What both ends of the connection protocol are configured with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bt_selfsecure.errors import UsageError
from bt_selfsecure.protocols.iotcrypto.certificate import SecretKeys, SignedCertificate
from bt_selfsecure.protocols.iotcrypto.messages import Profile
from bt_selfsecure.protocols.iotcrypto.trust import Judgement

Judge = Callable[[SignedCertificate], Judgement]
"""Given the other end's certificate; returns what is thought of it now."""


@dataclass(frozen=True, slots=True)
class NegotiationConfig:
    """Holds who this end is, and whom it will trust."""

    secrets: SecretKeys
    signed: SignedCertificate
    judge: Judge
    profile: Profile = Profile.HARDENED
    second_ephemeral: bool = True
    """Whether who says hello has an ephemeral key of its own, too (32 bytes): without it the key of its certificate,
    stolen later, reads what was recorded before."""
    timeout: float = 2.0
    """Seconds until a message is sent again, doubled each time."""
    retransmissions: int = 4

    def __post_init__(self) -> None:
        """Raises `UsageError` where the certificate is not of the secrets, and for values out of range."""
        if self.secrets.id != self.signed.certificate.id:
            raise UsageError("the certificate is of other keys: make it anew with these")
        if self.timeout <= 0 or not 0 <= self.retransmissions <= 16:
            raise UsageError("timeout must be above 0 seconds, and retransmissions 0 to 16")
