"""Requests without end: nobody's secret, but Bob's time (row 16)."""

from __future__ import annotations

from typing import Final

from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.frames import Frame, Kind, Profile, encode
from bt_selfsecure.protocols.haoxiao.material import Offer
from bt_selfsecure.sansio.context import Random


class RequestFlood:
    """Makes well-formed requests, under Alice's name or under any. Needs a sender in range, and for the former her
    address.

    Under Alice's name Bob is deaf to her for T_d after each that he considers; under others' he is bound until no burst
    follows. State stays bounded in both profiles, and nothing secret is lost.
    """

    def __init__(self, profile: Profile, random: Random, identity: bytes | None = None) -> None:
        self._profile: Final = profile
        self._random: Final = random
        self._identity: Final = identity

    def request(self) -> bytes:
        """Return the next request."""
        identity = self._identity or self._random(limits.IDENTITY_BYTES)
        commitment, part = self._random(limits.COMMITMENT_BYTES), self._random(limits.COMMITMENT_BYTES)
        offer = Offer(identity, burst=400, t_1=4.5, commitment=commitment, part=part)
        message = offer.encode(self._profile, accept=False)
        frame = Frame(self._profile, Kind.REQUEST, rand=self._random(limits.NONCE_BYTES), message=message)
        return encode(frame, seed=self._random(32))
