"""What came of one telling of the story: the fate of each packet, the figures, the verdict in a sentence."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from bt_selfsecure.stats.losses import JointLoss

CONFIDENCE: Final = 0.95


class ReceptionOutcome(Enum):
    """This says who heard one burst packet."""

    BOTH = "Bob and Eve"
    BOB_ONLY = "Bob, not Eve"
    EVE_ONLY = "Eve, not Bob"
    NEITHER = "nobody"

    @classmethod
    def of(cls, *, bob: bool, eve: bool) -> ReceptionOutcome:
        """Return the outcome of a packet that these two heard, or not."""
        return (cls.BOTH if eve else cls.BOB_ONLY) if bob else cls.EVE_ONLY if eve else cls.NEITHER


@dataclass
class Outcome:
    """Says in figures what happened: the truth, not what anybody believes."""

    profile: str
    target_bits: float
    eve_loss_bound: float
    sent: int = 0
    received_set: tuple[int, ...] = ()
    fates: list[ReceptionOutcome] = field(default_factory=list)
    established: bool = False
    equal_keys: bool = False
    fingerprint: str = ""
    sas: str = ""
    authenticated: bool = False
    failure: str = ""
    attacks_reported: int = 0
    """Contradicting packets that Alice or Bob noticed."""
    joint: JointLoss = field(default_factory=lambda: JointLoss(0, 0, 0, 0))
    e_given_bob_low: float = 0.0
    """Lower bound on e|B from this very burst, at `CONFIDENCE`."""
    secret_bits: float = 0.0
    """By the losses of this burst, with that bound."""
    planned_bits: float = 0.0
    """By |S| and the bound that Alice was given: what she goes by when she ends the burst."""
    eve_has_key: bool = False
    """She computed K_0, and it is Alice's or Bob's."""
    file_sha256_sent: str = ""
    file_sha256_received: str = ""
    file_bytes: int = 0
    rounds: int = 0
    attempts: list[int] = field(default_factory=list)
    """How often Alice sent the message of each of her rounds."""
    retransmissions: int = 0
    """Of both ends."""
    stolen_at: int | None = None
    """Round whose K_i was handed to Eve; 0 where she computed K_0, and nothing need be handed to her."""
    read: tuple[int, ...] = ()
    """Rounds whose messages she read with it, and what follows from it."""
    rounds_until_thief_is_out: int | None = None
    """Rounds from there to the first that rolled without her, that one included; None if she is still in."""
    seconds: float = 0.0
    """Virtual time."""

    @property
    def delivered(self) -> bool:
        return bool(self.file_sha256_sent) and self.file_sha256_sent == self.file_sha256_received

    @property
    def secret(self) -> bool:
        """Return whether Eve lacks a packet of the key. Whatever else she missed is no secret."""
        return self.joint.bob_only > 0 and not self.eve_has_key

    @property
    def success(self) -> bool:
        """Return whether two ends share a key that Eve does not have, and the file came across."""
        return self.established and self.equal_keys and self.delivered and self.secret

    @property
    def verdict(self) -> str:
        """Return the outcome in one sentence."""
        if not self.established:
            return f"No key: {self.failure}."
        if self.eve_has_key and self.attacks_reported:
            return (
                "The key is broken: Eve holds K_0, for what she had missed was struck out. Contradicting packets were "
                "seen, and both ends go on, as the paper has it."
            )
        if self.eve_has_key:
            return "The key is broken: Eve heard every packet of it and holds K_0; neither end can notice."
        if not self.secret:
            return "The key is not secret: Eve heard every packet of it, and lacks only what any listener can hear."
        planned, target = f"{self.planned_bits:.0f} secret bits by the given bound on her loss", f"{self.target_bits:g}"
        if self.planned_bits < self.target_bits:
            end = f"only {planned}: the target of {target} is MISSED."
        elif self.secret_bits < self.target_bits:
            end = f"{planned} reach the target of {target}, but this burst itself proves no more than "
            end += f"{self.secret_bits:.0f}."
        else:
            end = f"{self.secret_bits:.0f} secret bits by the loss in this burst: the target of {target} is reached."
        return (
            f"Eve lacks {self.joint.bob_only} of the {self.joint.received} packets in the key and is locked out; {end}"
        )
