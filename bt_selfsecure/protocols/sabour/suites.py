"""What is computed in a handshake: `paper` in its two readings, and `hardened`, which is SIGMA with Ed25519.

paper      ssk = PK . SK on P-256; key = H(x of ssk)[0:16]
  ecdsa    SIG = ECDSA by the sender's own one-time SK over H(device id || PK): proves that PK's owner has SK
  hash     SIG = H(device id || PK || SK): who lacks SK can check its length, and no more
hardened   T = H("btss sabour" || M1 || M2 || device key || server id || server key); prk = HMAC(T, X25519)
           MAC = HMAC(Expand(prk, "btss sabour mac " || side), T)
           SIG = Ed25519("btss sabour sign " || side || H(T || MAC)), by the key that was enrolled
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import field
from typing import Final, Protocol

from bt_selfsecure.crypto import hkdf_expand, hkdf_extract, hmac_sha256, sha256
from bt_selfsecure.curves import ecdsa_verify, p256, p256_public, p256_scalar, x25519, x25519_public
from bt_selfsecure.protocols.sabour import limits
from bt_selfsecure.protocols.sabour.keys import Keys, OscoreContext, PayloadKey
from bt_selfsecure.protocols.sabour.messages import Kind, Message, Profile, encode
from bt_selfsecure.protocols.sabour.primitives import ecdsa_sign_with, ed25519_sign, ed25519_verify
from bt_selfsecure.sansio.context import Random
from bt_selfsecure.sansio.value import value


class Side(enum.Enum):
    """Says who signs, or whose view it is."""

    CLIENT = b"client"
    SERVER = b"server"

    @property
    def peer(self) -> Side:
        return Side.SERVER if self is Side.CLIENT else Side.CLIENT


@value
class KeyPair:
    """Holds one end's one-time keys."""

    secret: bytes = field(repr=False)
    public: bytes


@value
class Parties:
    """Says whom both ends mean: public. Empty in `paper`, but for the device."""

    device_id: bytes
    device_key: bytes = b""
    server_id: bytes = b""
    server_key: bytes = b""


@value
class ProtocolRun:
    """Holds one handshake after M2, as one end has it."""

    parties: Parties
    client_share: bytes
    server_share: bytes
    own: KeyPair
    ssk: bytes = field(repr=False)
    """x of the shared point, or the X25519 secret."""

    def share_of(self, side: Side) -> bytes:
        return self.client_share if side is Side.CLIENT else self.server_share


class Suite(Protocol):
    """Is what the machines need of a profile. No method keeps state."""

    @property
    def profile(self) -> Profile: ...

    def key_pair(self, random: Random) -> KeyPair:
        """Return fresh one-time keys."""
        ...

    def agree(self, own: KeyPair, peer: bytes) -> bytes | None:
        """Return ssk; None where the other's PK is no valid point."""
        ...

    def sign(self, side: Side, run: ProtocolRun, seed: bytes, random: Random) -> bytes:
        """Return SIG_C or SIG_S; `seed` is of the signer's enrolled key."""
        ...

    def verify(self, side: Side, run: ProtocolRun, signature: bytes) -> bool:
        """Return whether SIG_C or SIG_S is what that side would have made."""
        ...

    def keys(self, side: Side, run: ProtocolRun) -> Keys:
        """Return what this side goes on with."""
        ...


class PaperSuite:
    """Follows the paper as written. Its weaknesses stay in, shown by attacks."""

    def __init__(self, profile: Profile) -> None:
        self.profile: Final = profile

    def key_pair(self, random: Random) -> KeyPair:
        secret = p256_scalar(random)
        return KeyPair(secret, p256_public(secret))

    def agree(self, own: KeyPair, peer: bytes) -> bytes | None:
        return p256(own.secret, peer)

    def sign(self, side: Side, run: ProtocolRun, seed: bytes, random: Random) -> bytes:
        signed = run.parties.device_id + run.share_of(side)
        if self.profile is Profile.PAPER_HASH:
            return sha256(signed + run.own.secret)
        return ecdsa_sign_with(run.own.secret, sha256(signed), random)

    def verify(self, side: Side, run: ProtocolRun, signature: bytes) -> bool:
        if self.profile is Profile.PAPER_HASH:
            return len(signature) == limits.HASH_BYTES  # SK is missing: there is nothing else to hold it against
        share = run.share_of(side)
        return ecdsa_verify(share, signature, sha256(run.parties.device_id + share))

    def keys(self, side: Side, run: ProtocolRun) -> Keys:
        return PayloadKey(sha256(run.ssk)[:16])


class HardenedSuite:
    """Is SIGMA: each end signs a MAC under the new key, over all that was said and over who both are."""

    profile: Final = Profile.HARDENED

    def key_pair(self, random: Random) -> KeyPair:
        secret = random(limits.SHARE_BYTES)
        return KeyPair(secret, x25519_public(secret))

    def agree(self, own: KeyPair, peer: bytes) -> bytes | None:
        return x25519(own.secret, peer)

    def sign(self, side: Side, run: ProtocolRun, seed: bytes, random: Random) -> bytes:
        return ed25519_sign(seed, self._signed(side, run))

    def verify(self, side: Side, run: ProtocolRun, signature: bytes) -> bool:
        key = run.parties.device_key if side is Side.CLIENT else run.parties.server_key
        return ed25519_verify(key, signature, self._signed(side, run))

    def keys(self, side: Side, run: ProtocolRun) -> Keys:
        prk = hkdf_extract(self._transcript(run), run.ssk)
        client_id = hkdf_expand(prk, b"btss sabour oscore id", limits.SENDER_ID_BYTES)
        sender, recipient = (client_id, b"") if side is Side.CLIENT else (b"", client_id)
        return OscoreContext(
            hkdf_expand(prk, b"btss sabour oscore secret", limits.MASTER_SECRET_BYTES),
            hkdf_expand(prk, b"btss sabour oscore salt", limits.MASTER_SALT_BYTES),
            sender,
            recipient,
        )

    def _transcript(self, run: ProtocolRun) -> bytes:
        parties = run.parties
        m1 = encode(self.profile, Message(Kind.M1, parties.device_id, run.client_share))
        m2 = encode(self.profile, Message(Kind.M2, share=run.server_share))
        return sha256(b"btss sabour" + m1 + m2 + parties.device_key + parties.server_id + parties.server_key)

    def _signed(self, side: Side, run: ProtocolRun) -> bytes:
        transcript = self._transcript(run)
        prk = hkdf_extract(transcript, run.ssk)
        mac = hmac_sha256(hkdf_expand(prk, b"btss sabour mac " + side.value, 32), transcript)
        return b"btss sabour sign " + side.value + sha256(transcript + mac)


SUITES: Final[Mapping[Profile, Suite]] = {
    Profile.PAPER_ECDSA: PaperSuite(Profile.PAPER_ECDSA),
    Profile.PAPER_HASH: PaperSuite(Profile.PAPER_HASH),
    Profile.HARDENED: HardenedSuite(),
}
