"""What an initiator asks one peer, or several, or whoever answers: requests, and which accepts they take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from bt_selfsecure.crypto import sha256
from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.establish import EstablishConfig
from bt_selfsecure.protocols.haoxiao.events import AcceptRefused, Failure, Refusal
from bt_selfsecure.protocols.haoxiao.frames import Frame, Kind, encode
from bt_selfsecure.protocols.haoxiao.material import KeyShare, Offer, continuity_name, pair_id
from bt_selfsecure.protocols.haoxiao.peer_context import PeerContext
from bt_selfsecure.protocols.haoxiao.sent_burst import SentBurst
from bt_selfsecure.sansio.context import Random
from bt_selfsecure.sansio.events import FrameRejected
from bt_selfsecure.sansio.frame_table import not_for_us, replayed

_REFUSED: Final = {Refusal.IDENTITY: Failure.IDENTITY, Refusal.CONTINUITY: Failure.NO_CONTINUITY}


class Call:
    """Holds one request. All requests of a burst have the session id in common, and with it the burst; in all else
    that names a peer (continuity, authentication key, comparison) each is as if it were alone."""

    def __init__(self, config: EstablishConfig, offer: Offer, rand: bytes, random: Random) -> None:
        """`offer` says what all have in common."""
        self.config = config
        self._continuity: Final = {continuity_name(key): key for key in config.continuity_keys}
        own = replace(offer, authenticated=bool(config.authentication_key), names=tuple(self._continuity))
        message = own.encode(config.profile, accept=False)
        self.request: Final = Frame(config.profile, Kind.REQUEST, rand=rand, message=message)
        self.datagram: Final = encode(self.request, seed=random(32))
        self.no_accept = Failure.NO_ACCEPT
        """Why it fails, if nobody whom it takes accepts."""
        self.accepted = False
        """Somebody has; a call of nobody by name may be taken by many."""

    def means(self, identity: bytes) -> bool:
        """Return whether it may be the one of this identity who is called."""
        return self.config.peer in (b"", identity)

    def refusal(self, offer: Offer) -> Refusal | None:
        """Return why the one who accepts is not whom this end means, and remember it."""
        refusal = None
        if not self.means(offer.identity):
            refusal = Refusal.IDENTITY
        elif self.config.requires_continuity and not offer.names:
            refusal = Refusal.CONTINUITY
        if refusal is not None:
            self.no_accept = _REFUSED[refusal]
        return refusal

    def continuity_key(self, offer: Offer) -> bytes | None:
        """Return the continuity key that an accept names, empty for none; None for one that was not offered."""
        return self._continuity.get(offer.names[0]) if offer.names else b""


class Calls:
    """Holds the requests of one burst: one for each peer who is called by name, or one for whoever answers."""

    def __init__(self, configs: Sequence[EstablishConfig], random: Random, burst: SentBurst) -> None:
        """In `hardened` the first part of the burst is drawn here: each request commits to it."""
        config = configs[0]
        self.share = KeyShare(random if config.exchange_shares else None)
        self.rand_data = random(limits.NONCE_BYTES)
        """RandData of [10]; each request commits to it."""
        if config.hardened:
            burst.draw()
        offer = Offer(
            config.identity,
            config.compact,
            burst=config.burst,
            t_1=config.t_1,
            commitment=sha256(self.rand_data),
            part=burst.commitment,
            share=self.share.public,
        )
        rand, session = random(limits.NONCE_BYTES), limits.SESSION_ID_BYTES
        self._open = [Call(config, offer, rand, random)]
        for other in configs[1:]:
            own = rand[:session] + random(limits.NONCE_BYTES - session)
            self._open.append(Call(other, offer, own, random))
        self.request: Final = self._open[0].request
        """Of the first: its session id is that of all."""

    def __len__(self) -> int:
        return len(self._open)

    @property
    def no_accept(self) -> Failure:
        """Return why nobody has accepted."""
        return self._open[0].no_accept

    @property
    def are_accepted(self) -> bool:
        """Return whether everybody has who was called by name."""
        return all(call.accepted for call in self._open)

    def datagrams(self) -> list[tuple[bytes, bytes]]:
        """Return the requests that are not accepted, each with the identity to which it goes; empty for anybody."""
        return [(call.config.peer, call.datagram) for call in self._open if not call.accepted]

    def expect_comparison(self, expects: bool, peer: bytes) -> None:
        """Give the key with this peer, or with an empty name each, its string, or none."""
        for call in self._open:
            if peer in (b"", call.config.peer) and call.config.compare is not expects:
                call.config = replace(call.config, compare=expects)

    def waive_continuity(self, peer: bytes) -> None:
        """Require no continuity of this peer any more."""
        for call in self._open:
            if call.config.peer == peer and call.config.requires_continuity:
                call.config = replace(call.config, requires_continuity=False)

    def accept(self, frame: Frame, legs: Mapping[bytes, PeerContext]) -> PeerContext | AcceptRefused | FrameRejected:
        """Return the responder whose accept this is, or why it can't be taken."""
        session, message = frame.message[: limits.SESSION_ID_BYTES], frame.message[limits.SESSION_ID_BYTES :]
        offer = Offer.decode(frame.profile, message, accept=True)
        if session != self.request.rand[: limits.SESSION_ID_BYTES] or offer is None:
            return not_for_us("an accept of another request")
        call = next((call for call in self._open if call.means(offer.identity)), self._open[0])
        pair = pair_id(call.request, frame)
        if pair in legs or any(leg.offer.identity == offer.identity for leg in legs.values()):
            return replayed("this responder has accepted already")
        secret = self.share.exchange(offer.share)
        if secret is None or bool(offer.share) != call.config.exchange_shares:
            return not_for_us("an accept with another key exchange than the request's")
        continuity_key = call.continuity_key(offer)
        if continuity_key is None:
            return not_for_us("an accept with a continuity key that was not named")
        if (refusal := call.refusal(offer)) is not None:
            return AcceptRefused(offer.identity, refusal)
        call.accepted = bool(call.config.peer)
        return PeerContext(call.config, call.request, offer, frame, pair, secret, continuity_key)

    def drop(self, peer: bytes) -> None:
        """Call this peer no more."""
        self._open = [call for call in self._open if call.config.peer != peer]

    def drop_late(self) -> list[tuple[Failure, bytes]]:
        """Call those no more who were called by name and have not accepted; return why, and who."""
        late = [call for call in self._open if call.config.peer and not call.accepted]
        self._open = [call for call in self._open if call not in late]
        return [(call.no_accept, call.config.peer) for call in late]

    def forget(self) -> None:
        self._open.clear()
        self.share, self.rand_data = KeyShare(None), b""
