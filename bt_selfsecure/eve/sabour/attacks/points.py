"""PK that are no points of the curve, or of an order so low that the secret is known in advance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bt_selfsecure.protocols.sabour.messages import Kind, Message, MessageError, Profile, decode, encode

_FIELD: Final = 2**255 - 19
_ORDER_EIGHT: Final = (
    0x00B8495F16056286FDB1329CEB8D09DA6AC49FF1FAE35616AEB8413B7C7AEBE0,
    0x57119FD0DD4E22D8868E1C58C45C44045BEF839C55B1D0B1248C50A3BC959C5F,
)
X25519_POINTS: Final = tuple(
    (u + top).to_bytes(32, "little")
    for u in (0, 1, *_ORDER_EIGHT, _FIELD - 1, _FIELD, _FIELD + 1)
    for top in (0, 1 << 255)
)
"""u of every point whose order divides 8, on the curve or on its twist, in each encoding (RFC 7748 section 6.1)."""

_P: Final = 2**256 - 2**224 + 2**192 + 2**96 - 1
_X: Final = 0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296
_Y: Final = 0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5
P256_POINTS: Final = tuple(
    x.to_bytes(32) + y.to_bytes(32)
    for x, y in ((0, 0), (_X, _Y ^ 1), (_Y, _X), (_P, _Y), (_X, _P), (_P - 1, _P - 1), (2**256 - 1, 2**256 - 1))
)
"""Near the generator, at infinity, and beyond the field; where a stack takes them, each answer tells of its secret."""

POINTS: Final[Mapping[Profile, tuple[bytes, ...]]] = {
    profile: X25519_POINTS if profile.hardened else P256_POINTS for profile in Profile
}


class InvalidPoints:
    """Offers one such PK, as a device to the server and as the server to a device. Who goes on has taken it."""

    def __init__(self, profile: Profile, device_id: bytes, point: bytes) -> None:
        self._profile: Final = profile
        self._device_id: Final = device_id
        self._point: Final = point
        self.taken = False

    def begin(self) -> list[bytes]:
        """Return M1 with the point."""
        return [encode(self._profile, Message(Kind.M1, self._device_id, self._point))]

    def hear(self, data: bytes) -> list[bytes]:
        """M1 of a device gets M2 with the point; M2 or M3 tell her that it was taken."""
        try:
            message = decode(self._profile, data)
        except MessageError:
            return []
        if message.kind is Kind.M1:
            return [encode(self._profile, Message(Kind.M2, share=self._point))]
        self.taken |= message.kind in (Kind.M2, Kind.M3)
        return []
