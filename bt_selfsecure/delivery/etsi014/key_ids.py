"""Names of keys: what both KMEs know of a key, in a UUID of version 8 (RFC 9562 section 5.8). It tells nothing of it.

chain's name, first 6 bytes | version 8, size in bytes (12 bits) | variant, generation (30 bits), index (32 bits)
"""

from __future__ import annotations

import uuid
from typing import Final, NamedTuple

CHAIN_BYTES: Final = 6
_GENERATION_BITS, _INDEX_BITS = 30, 32
MOST_INDEX: Final = (1 << _INDEX_BITS) - 1
MOST_GENERATION: Final = (1 << _GENERATION_BITS) - 1


class KeyId(NamedTuple):
    """Says which key it is."""

    chain: str
    """The first 6 bytes of the chain's name, in hexadecimal digits."""
    generation: int
    place: int
    """Which of the keys of that generation."""
    size: int
    """Of the key, bytes: who fetches it does not say."""

    def __str__(self) -> str:
        low = self.generation << _INDEX_BITS | self.place
        return str(
            uuid.UUID(bytes=bytes.fromhex(self.chain) + (8 << 12 | self.size).to_bytes(2) + (1 << 63 | low).to_bytes(8))
        )

    @classmethod
    def parse(cls, text: str) -> KeyId | None:
        """Read it; None for what no KME of ours has given out."""
        try:
            octets = uuid.UUID(text).bytes
        except ValueError:
            return None
        low = int.from_bytes(octets[8:]) & ((1 << 62) - 1)
        size = int.from_bytes(octets[CHAIN_BYTES:8]) & 0xFFF
        made = cls(octets[:CHAIN_BYTES].hex(), low >> _INDEX_BITS, low & MOST_INDEX, size)
        return made if str(made) == text.lower() else None
