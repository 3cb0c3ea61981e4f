"""Who has no key: she can cut flights to pieces, change and make them up."""

from __future__ import annotations

from typing import Final

from bt_selfsecure.protocols.bootstrap import limits
from bt_selfsecure.protocols.bootstrap.messages import SIZES, Kind, Profile, header
from bt_selfsecure.sansio.context import Random

_BLOCK: Final = 16


def spliced(profile: Profile, flight4: bytes) -> bytes:
    """Return a flight 4 that no controller has made: in the place of its second block stands the first, so in `paper`
    RN_c is RN_i, and PSK = E(0, IK), the same for every node and join of an installer."""
    head = len(flight4) - 2 * _BLOCK if profile is Profile.PAPER else 10
    return flight4[:head] + 2 * flight4[head : head + _BLOCK] + flight4[head + 2 * _BLOCK :]


def tampered(data: bytes, bit: int) -> bytes:
    """Return the flight with a bit flipped; bits are counted round and round."""
    at, bit = divmod(bit % (8 * len(data)), 8)
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def bogus_flight_2(profile: Profile, random: Random) -> bytes:
    """Return random bytes in the form of a flight 2."""
    size = SIZES[profile][Kind.F2]
    head = header(Kind.F2, random(limits.TID_BYTES)) if profile is Profile.HARDENED else b""
    return head + random(size - len(head))
