"""What comes of the connection protocol: in `paper` a hash of one X25519 result, in `hardened` HKDF over all of it.

paper     session key = SHA-256(X25519(static of who said hello, ephemeral of who answered))
hardened  T    = SHA-256("btss iotcrypto transcript" || hello || answer with an empty proof)
          prk  = HKDF-Extract(T, X25519(static, ephemeral) || X25519(own ephemeral, ephemeral) if there is one)
          keys = HKDF-Expand(prk, "btss iotcrypto " + what)
          proof = ECDSA of the answerer's certificate over SHA-256("btss iotcrypto proof" || T)
"""

from __future__ import annotations

from dataclasses import field, replace
from typing import Final

from bt_selfsecure.crypto import hkdf_expand, hkdf_extract, hmac_sha256, sha256
from bt_selfsecure.curves import x25519
from bt_selfsecure.protocols.iotcrypto import limits
from bt_selfsecure.protocols.iotcrypto.messages import Message, Profile, encode_message
from bt_selfsecure.sansio.value import value

_LABEL: Final = b"btss iotcrypto "


@value
class SessionKeys:
    """Hold what the transmission's DTLS is run with."""

    identity: bytes
    """PSK identity, in hex, as libssl takes no zero bytes: of the session, in `paper` the id of who said hello."""
    key: bytes = field(repr=False)


@value
class Derived:
    """Holds all that both ends derive."""

    session: SessionKeys
    confirm: bytes = b""
    """MAC of who said hello; empty in `paper`, as the next."""
    confirmed: bytes = b""


def transcript(hello: Message, answer: Message) -> bytes:
    """Return T of these two messages of `hardened`: the answer's proof is over it, so not in it."""
    said = encode_message(Profile.HARDENED, hello) + encode_message(Profile.HARDENED, replace(answer, proof=b""))
    return sha256(_LABEL + b"transcript" + said)


def proof_digest(t: bytes) -> bytes:
    """Return what the answerer signs."""
    return sha256(_LABEL + b"proof" + t)


def agreed(secrets: tuple[bytes, ...], shares: tuple[bytes, ...]) -> bytes | None:
    """Return the X25519 results of each secret with its share, joined; None where one is of low order."""
    results = [x25519(secret, share) for secret, share in zip(secrets, shares, strict=True)]
    return b"".join(one for one in results if one) if all(results) else None


def paper_keys(shared: bytes, device_id: bytes) -> Derived:
    """Return the session key of section 4.6, and what an implementation needs to name it by."""
    return Derived(SessionKeys(device_id.hex().encode(), sha256(shared)))


def hardened_keys(shared: bytes, t: bytes) -> Derived:
    """Return the keys of `hardened` of this transcript."""
    prk = hkdf_extract(t, shared)

    def derive(what: bytes, length: int = limits.SESSION_KEY_BYTES) -> bytes:
        return hkdf_expand(prk, _LABEL + what, length)

    session = SessionKeys(derive(b"session id", limits.SESSION_ID_BYTES).hex().encode(), derive(b"session key"))
    macs = (hmac_sha256(derive(what), t)[: limits.MAC_BYTES] for what in (b"confirm", b"confirmed"))
    return Derived(session, *macs)
