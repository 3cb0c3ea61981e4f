"""Makes the request at its sender, with what is secret of it, and judges the accepts that answer it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from bt_selfsecure.crypto import sha256
from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.establish import EstablishConfig
from bt_selfsecure.protocols.haoxiao.events import AcceptRefused, Refusal
from bt_selfsecure.protocols.haoxiao.frames import Frame, Kind, encode
from bt_selfsecure.protocols.haoxiao.material import KeyShare, Offer, continuity_name, pair_id
from bt_selfsecure.protocols.haoxiao.peer_context import PeerContext
from bt_selfsecure.protocols.haoxiao.sent_burst import SentBurst
from bt_selfsecure.sansio.context import Random
from bt_selfsecure.sansio.events import Rejection


class SentRequest:
    """Is the request of one initiator, the same each time it is sent."""

    def __init__(self, config: EstablishConfig, random: Random, burst: SentBurst) -> None:
        """In `hardened` the first part of the burst is drawn here: the request commits to it."""
        self.share = KeyShare(random if config.exchange_shares else None)
        self.rand_data = random(limits.NONCE_BYTES)
        """RandData of [10]; the request commits to it."""
        self._continuity: Final = {continuity_name(key): key for key in config.continuity_keys}
        if config.hardened:
            burst.draw()
        offer = Offer(
            config.identity,
            config.compact,
            bool(config.authentication_key),
            config.burst,
            config.t_1,
            sha256(self.rand_data),
            burst.commitment,
            self.share.public,
            tuple(self._continuity),
        )
        message = offer.encode(config.profile, accept=False)
        self.frame: Final = Frame(config.profile, Kind.REQUEST, rand=random(limits.NONCE_BYTES), message=message)
        self.datagram: Final = encode(self.frame, seed=random(32))

    def judge(
        self, accept: Frame, config: EstablishConfig, legs: Iterable[PeerContext]
    ) -> PeerContext | AcceptRefused | tuple[Rejection, str]:
        """Return what an accept gives: one more responder beside `legs`, one who is not meant, or why it is none."""
        session, message = accept.message[: limits.SESSION_ID_BYTES], accept.message[limits.SESSION_ID_BYTES :]
        offer = Offer.decode(config.profile, message, accept=True)
        if session != self.frame.rand[: limits.SESSION_ID_BYTES] or offer is None:
            return Rejection.NOT_FOR_US, "an accept of another request"
        pair = pair_id(self.frame, accept)
        if any(leg.pair == pair or leg.offer.identity == offer.identity for leg in legs):
            return Rejection.REPLAY, "this responder has accepted already"
        secret = self.share.exchange(offer.share)
        if secret is None or bool(offer.share) != config.exchange_shares:
            return Rejection.NOT_FOR_US, "an accept with another key exchange than the request's"
        continuity_key = self._continuity.get(offer.names[0]) if offer.names else b""
        if continuity_key is None:
            return Rejection.NOT_FOR_US, "an accept with a continuity key that was not named"
        if config.peer and offer.identity != config.peer:
            return AcceptRefused(offer.identity, Refusal.IDENTITY)
        if config.requires_continuity and not offer.names:
            return AcceptRefused(offer.identity, Refusal.CONTINUITY)
        return PeerContext(config, offer, accept, pair, secret, continuity_key)

    def forget(self) -> None:
        self.share, self.rand_data = KeyShare(None), b""
