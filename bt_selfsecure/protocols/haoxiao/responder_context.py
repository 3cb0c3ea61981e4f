"""What the responder knows of one establishment, and what follows from that alone."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from bt_selfsecure.crypto import sha256
from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.establish import EstablishConfig
from bt_selfsecure.protocols.haoxiao.events import Established
from bt_selfsecure.protocols.haoxiao.frames import Frame, Kind
from bt_selfsecure.protocols.haoxiao.material import (
    KeyMaterial,
    Offer,
    burst_kind,
    burst_rand,
    nonce_commitment,
    packet_tokens,
    pair_id,
)
from bt_selfsecure.protocols.haoxiao.received_burst import BlacklistedBurst, CommittedBurst
from bt_selfsecure.protocols.haoxiao.received_set import encode_received_set


@dataclass(slots=True)
class ResponderContext:
    """Follows the establishment under way, or the last one."""

    config: EstablishConfig
    request: Frame
    offer: Offer
    accept: Frame
    accept_bytes: bytes
    secret: bytes = field(repr=False)
    """X25519 secret, or empty."""
    continuity_key: bytes = field(default=b"", repr=False)
    """That the accept names, or empty."""
    over: float = 0.0
    """When 2 T_1 of this part is over."""
    asked_until: float = 0.0
    """Until when the initiator may repeat its request."""
    part: int = 0
    response: bytes = b""
    nonce: bytes = field(default=b"", repr=False)
    """For the short authentication string: the response commits to it, the end shows it."""
    received: tuple[int, ...] = ()
    material: KeyMaterial | None = None
    rand_data: bytes = b""
    """RandData of an authentic acknowledgement."""
    end: bytes = b""
    packets: BlacklistedBurst | CommittedBurst = field(init=False, repr=False)
    pair: bytes = field(init=False)
    burst: int = field(init=False)
    """N of one part."""
    most: int = field(init=False)
    """Packets of all parts together, at most."""
    t_1: float = field(init=False)
    burst_kind: Kind = field(init=False)
    burst_rand: bytes = field(init=False)
    message_bytes: int = field(init=False)
    """Of a burst packet."""

    def __post_init__(self) -> None:
        config, offer = self.config, self.offer
        if config.hardened:
            compact, self.burst, self.most, self.t_1 = offer.compact, offer.burst, limits.MAX_BURST, offer.t_1
        else:
            compact, self.burst, self.most, self.t_1 = config.compact, config.burst, config.burst, config.t_1
        self.packets = BlacklistedBurst()
        if config.hardened:
            self.begin_part(0, offer.part)
        self.pair = pair_id(self.request, self.accept)
        self.burst_kind, self.burst_rand = burst_kind(compact=compact), burst_rand(self.request, compact=compact)
        self.message_bytes = limits.COMPACT_MESSAGE_BYTES if compact else limits.BURST_MESSAGE_BYTES

    def begin_part(self, part: int, commitment: bytes) -> None:
        """Begin a part, whose messages the initiator has committed to."""
        if not isinstance(self.packets, CommittedBurst):
            self.packets = CommittedBurst()
        self.part = part
        self.packets.begin(commitment, part * self.burst, self.burst)

    def has(self, frame: Frame) -> bool:
        """Return whether a burst packet is one of this establishment, as far as its form goes."""
        return (
            frame.kind is self.burst_kind
            and frame.rand == self.burst_rand
            and len(frame.message) == self.message_bytes
            and frame.seq < self.most
        )

    @property
    def sent(self) -> int:
        """Return how many burst packets the initiator has sent, as far as this end can know."""
        return (self.part + 1) * self.burst

    def respond(self, nonce: bytes) -> None:
        """Fix S and make the response to this part, [6] to [9]."""
        config = self.config
        kept = self.packets.kept
        self.nonce, self.received = nonce, tuple(sorted(kept))
        s = encode_received_set(self.received, self.sent)
        self.material = KeyMaterial.derive(
            self.request,
            self.accept,
            s,
            [kept[seq] for seq in self.received],
            secret=self.secret,
            authentication_key=config.authentication_key,
            continuity_key=self.continuity_key,
        )
        frame = Frame(config.profile, Kind.RESPONSE, 0, self.part, nonce_commitment(nonce), self.pair + s)
        self.response = self.material.sealed(frame)

    def opens_commitment(self, rand_data: bytes) -> bool:
        return hmac.compare_digest(sha256(rand_data), self.offer.commitment)

    def establish(self, material: KeyMaterial) -> Established:
        """Make the end packet, forget the burst, and return what is told."""
        config = self.config
        self.end = material.sealed(Frame(config.profile, Kind.END, message=self.pair + self.nonce))
        kept = self.packets.kept
        tokens = packet_tokens(map(kept.__getitem__, self.received)) if config.hardened else b""
        kept.clear()
        return Established(
            peer=self.offer.identity,
            k0=material.k0,
            fingerprint=material.fingerprint,
            sas=material.sas(self.nonce, self.rand_data) if config.compare else None,
            sent=self.sent,
            received=self.received,
            secret_bits=config.reckoned_bits(len(self.received), self.message_bytes),
            target_bits=config.target_bits,
            authenticated=bool(config.authentication_key),
            hybrid=bool(self.offer.share),
            continuity=bool(self.continuity_key),
            export_root=material.export_root,
            session=self.request.rand[: limits.SESSION_ID_BYTES],
            tokens=tokens,
        )
