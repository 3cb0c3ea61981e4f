"""Who is who in `hardened`: an identity's secret stays in its device, its record of 40 bytes is what others enrol."""

from __future__ import annotations

from dataclasses import field
from typing import Self

from bt_selfsecure.errors import UnreadableError
from bt_selfsecure.protocols.sabour import limits
from bt_selfsecure.protocols.sabour.primitives import ed25519_public, is_ed25519_key
from bt_selfsecure.sansio.context import Random
from bt_selfsecure.sansio.value import value

RECORD_BYTES = limits.DEVICE_ID_BYTES + limits.SHARE_BYTES


@value
class Enrolment:
    """Is what the other end knows in advance, from a code on the device: public, but to be had from the right place."""

    device_id: bytes
    key: bytes
    """Ed25519."""

    def encode(self) -> bytes:
        """Return the record: id 8, key 32."""
        return self.device_id + self.key

    @classmethod
    def decode(cls, record: bytes) -> Self:
        """Return what the record says. Raises `UnreadableError` for what is none, and for a key that proves nothing."""
        if len(record) != RECORD_BYTES:
            raise UnreadableError(
                f"an enrolment record has {RECORD_BYTES} bytes (id 8, key 32), this has {len(record)}"
            )
        key = record[limits.DEVICE_ID_BYTES :]
        if not is_ed25519_key(key):
            raise UnreadableError("the key in this enrolment record is one for which anybody can sign: don't enrol it")
        return cls(record[: limits.DEVICE_ID_BYTES], key)


@value
class Identity:
    """Is a device or a server, as itself. `paper` uses its id alone."""

    device_id: bytes
    seed: bytes = field(repr=False)
    """Of its Ed25519 key. Secret."""

    @classmethod
    def generate(cls, random: Random) -> Self:
        """Return a new identity."""
        return cls(random(limits.DEVICE_ID_BYTES), random(limits.SHARE_BYTES))

    @property
    def enrolment(self) -> Enrolment:
        """Return what others enrol of it."""
        return Enrolment(self.device_id, ed25519_public(self.seed))
