"""What the initiator knows of one responder of its burst, and what follows from that alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import permutations

from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.establish import FLOOD_CHANCE, FLOOD_PAUSE_S, EstablishConfig
from bt_selfsecure.protocols.haoxiao.events import Established, Failure, Independence
from bt_selfsecure.protocols.haoxiao.frames import Frame, Kind
from bt_selfsecure.protocols.haoxiao.material import KeyMaterial, Offer, packet_tokens
from bt_selfsecure.protocols.haoxiao.sent_burst import SentBurst
from bt_selfsecure.sansio.context import Random


@dataclass(slots=True)
class PeerContext:
    """Follows one responder of the burst, from its accept to its end."""

    config: EstablishConfig
    request: Frame
    offer: Offer
    accept: Frame
    pair: bytes
    secret: bytes = field(repr=False)
    """X25519 secret, or empty."""
    continuity_key: bytes = field(default=b"", repr=False)
    """That the accept names, or empty."""
    opening: bytes = b""
    """What opened this part of the burst; empty for the first."""
    responded_part: int = -1
    received: tuple[int, ...] = ()
    material: KeyMaterial | None = None
    commitment: bytes = b""
    """The response's Rand: commits to the responder's nonce, which the end shows."""
    bits: float = 0.0
    forged: bool = False
    """A response came that was not made with the key."""
    wrong: int = 0
    """Responses to this part that were read and did not count."""
    deaf_until: float = 0.0
    """After too many of them."""
    ended: bool = False

    def may_read(self, now: float, random: Random) -> bool:
        """Return whether to spend a hash of all of S on one more response. After too many wrong ones only now and then,
        and which one is drawn: the true one is repeated, and nobody can have a forged one just before it each time."""
        if self.wrong >= limits.MAX_WRONG_RESPONSES:
            if now < self.deaf_until or random(1)[0] >= FLOOD_CHANCE:
                return False
            self.deaf_until = now + FLOOD_PAUSE_S * (0.5 + random(1)[0] / 256)
        self.wrong += 1
        return True

    def respond(self, part: int, received: tuple[int, ...], material: KeyMaterial, commitment: bytes) -> None:
        """Note the authentic response to this part, and the secret bits of its received set."""
        self.responded_part, self.received, self.material, self.commitment = part, received, material, commitment
        self.bits = self.config.reckoned_bits(len(received), self.config.message_bytes)

    @property
    def reached(self) -> bool:
        """Return whether the received set has the secret bits that are asked for; `paper` asks for none."""
        return self.bits >= self.config.target_bits or not self.config.hardened

    @property
    def enough(self) -> bool:
        """Return whether this responder's received set is a key: N_r, and in `hardened` the target."""
        return self.reached and len(self.received) >= self.config.n_r

    def shortfall(self, sent: int) -> tuple[Failure, str]:
        """Return why the received set is no key after this many burst packets."""
        config = self.config
        if len(self.received) < config.n_r and self.reached:
            return Failure.TOO_FEW_PACKETS, f"|S| = {len(self.received)}, N_r = {config.n_r}"
        return Failure.TARGET_MISSED, (
            f"|S| = {len(self.received)} of {sent} sent gives {self.bits:.1f} of {config.target_bits:g} secret bits "
            f"for an Eve who loses {config.eve_loss_bound:.2%}; max_burst is {config.max_burst}"
        )

    def more(self, material: KeyMaterial, part: int, commitment: bytes) -> bytes:
        """Return the datagram that opens another part of the burst: C of its messages, under this responder's key."""
        frame = Frame(self.config.profile, Kind.ACKNOWLEDGE, 0, part, bytes(limits.NONCE_BYTES), self.pair + commitment)
        return material.sealed(frame)

    def acknowledgement(self, material: KeyMaterial, rand_data: bytes) -> bytes:
        """Return the datagram of [10]."""
        frame = Frame(self.config.profile, Kind.ACKNOWLEDGE, rand=rand_data, message=self.pair)
        return material.sealed(frame)

    def established(self, material: KeyMaterial, nonce: bytes, rand_data: bytes, burst: SentBurst) -> Established:
        """Return what is told when the end has shown this nonce."""
        config = self.config
        return Established(
            peer=self.offer.identity,
            k0=material.k0,
            fingerprint=material.fingerprint,
            sas=material.sas(nonce, rand_data) if config.compare else None,
            sent=burst.sent,
            received=self.received,
            secret_bits=self.bits,
            target_bits=config.target_bits,
            authenticated=bool(config.authentication_key),
            hybrid=config.exchange_shares,
            continuity=bool(self.continuity_key),
            export_root=material.export_root,
            session=self.request.rand[: limits.SESSION_ID_BYTES],
            tokens=packet_tokens(map(burst.message, self.received)) if config.hardened else b"",
        )


def independence(legs: Collection[PeerContext]) -> Iterator[Independence]:
    """Say of each responder how much of its received set each other one missed."""
    for a, b in permutations(legs, 2):
        missed = len(set(a.received) - set(b.received))
        yield Independence(a.offer.identity, b.offer.identity, len(a.received), missed)
