"""What one end of a pair keeps across a crash, as a versioned record. Format (JSON, secrets in hexadecimal):

{"format": "bt-selfsecure dotp", "version": 1, "profile": "hardened", "role": "client", "policy": "per-io-nrprng",
 "bits": 256, "sending": {"epoch", "secret", "number"}, "receiving": {"epoch", "secret", "number", "seen"}}
"""

from __future__ import annotations

import json
from dataclasses import field
from typing import Any, Final

from bt_selfsecure.errors import BtSelfSecureError, UnreadableError
from bt_selfsecure.protocols.dotp.keys import (
    HARDENED_BYTES,
    MOST_NUMBERS,
    PAPER_BITS,
    PAPER_WINDOW,
    SN_BITS,
    HardenedKeys,
    Keys,
    PaperKeys,
    Policy,
    Profile,
    Role,
    direction_sn,
)
from bt_selfsecure.sansio.value import value

FORMAT: Final = "bt-selfsecure dotp"
VERSION: Final = 1


class RecordError(BtSelfSecureError):
    """The stored state can't be used: its text says why. The pair needs a new SN."""


@value
class DirectionState:
    """Holds one direction: the secret of an epoch, and how far its numbers are used."""

    epoch: int
    secret: bytes = field(repr=False)
    number: int
    """Sending: no number from this one on was used. Receiving: the one after the newest that came."""
    seen: int = 0
    """Receiving: bit i tells whether number - 1 - i came."""

    def keys(self, record: DotpRecord) -> Keys:
        """Return the direction's keys, from here on."""
        if record.profile is Profile.PAPER:
            return PaperKeys(int.from_bytes(self.secret), record.policy, record.bits)
        return HardenedKeys(self.secret, self.epoch)


@value
class DotpRecord:
    """Holds all that one end keeps. Its repr shows no secret; `to_json` does: let only its owner read that."""

    profile: Profile
    role: Role
    policy: Policy
    bits: int
    sending: DirectionState
    receiving: DirectionState

    @classmethod
    def paper(cls, role: Role, sn: int, policy: Policy, bits: int = 64) -> DotpRecord:
        """Return the beginning of a pair whose SN is in both ROMs. Raises `LocalError` where it has no 32 bits."""
        directions = [
            DirectionState(*PaperKeys(direction_sn(sn, sender), policy, bits).state, 0) for sender in (role, role.peer)
        ]
        return cls(Profile.PAPER, role, policy, bits, *directions)

    @classmethod
    def hardened(cls, role: Role, secret: bytes) -> DotpRecord:
        """Return the beginning of a pair that shares 32 secret bytes."""
        directions = [DirectionState(*HardenedKeys.of_pair(secret, sender).state, 0) for sender in (role, role.peer)]
        return cls(Profile.HARDENED, role, Policy.PER_IO_NRPRNG, 8 * HARDENED_BYTES, *directions)

    def to_json(self) -> str:
        """Return version 1 of the format above, one line."""
        sending, receiving = (
            {"epoch": each.epoch, "secret": each.secret.hex(), "number": each.number}
            for each in (self.sending, self.receiving)
        )
        record = {
            "format": FORMAT,
            "version": VERSION,
            "profile": self.profile.value,
            "role": self.role.value,
            "policy": self.policy.value,
            "bits": self.bits,
            "sending": sending,
            "receiving": {**receiving, "seen": self.receiving.seen},
        }
        return json.dumps(record, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> DotpRecord:
        """Return the record that the text is. Raises `RecordError`, which shows nothing of the text."""
        try:
            data = json.loads(text)
            if not isinstance(data, dict) or data.get("format") != FORMAT or data.get("version") != VERSION:
                raise RecordError(f"this is not a record of {FORMAT!r}, version {VERSION}")
            profile, bits = Profile(data["profile"]), data["bits"]
            if bits not in (PAPER_BITS if profile is Profile.PAPER else (8 * HARDENED_BYTES,)):
                raise UnreadableError("no such size of a key")
            directions = [_direction(profile, data[name]) for name in ("sending", "receiving")]
            return cls(profile, Role(data["role"]), Policy(data["policy"]), bits, *directions)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            what = type(error).__name__  # its text can show what is in the record
            raise RecordError(f"the record of the pair is damaged ({what}): give both ends a new SN") from None


def _direction(profile: Profile, data: dict[str, Any]) -> DirectionState:
    secret = bytes.fromhex(data["secret"])
    if len(secret) != (SN_BITS // 8 if profile is Profile.PAPER else HARDENED_BYTES):
        raise UnreadableError("a secret has another size")
    epoch, number, seen = (_number(data.get(name, 0)) for name in ("epoch", "number", "seen"))
    if epoch > MOST_NUMBERS or number > MOST_NUMBERS or seen >> PAPER_WINDOW:
        raise UnreadableError("a number is out of range")
    return DirectionState(epoch, secret, number, seen)


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise UnreadableError("a number is missing or out of range")
    return value
