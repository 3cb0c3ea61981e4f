"""What Eve makes of the network's common key, once she has it: what she is told of comes from her tap."""

from __future__ import annotations

from typing import Final

from bt_selfsecure.curves import p256_scalar, x25519_public
from bt_selfsecure.protocols.iotcrypto.canonical import MalformedError
from bt_selfsecure.protocols.iotcrypto.certificate import (
    Certificate,
    Role,
    SecretKeys,
    SignedCertificate,
    ThirdPartySignature,
)
from bt_selfsecure.protocols.iotcrypto.keys import Derived, agreed, hardened_keys, paper_keys, transcript
from bt_selfsecure.protocols.iotcrypto.limits import KEY_BYTES, SIGNATURE_BYTES
from bt_selfsecure.protocols.iotcrypto.messages import Kind, Message, Profile, decode_message, encode_message
from bt_selfsecure.sansio.context import Random


class Impostor:
    """Is the gateway, with its public certificate and an ephemeral key of her own."""

    def __init__(self, profile: Profile, gateway: SignedCertificate, random: Random) -> None:
        self._profile, self._gateway, self._random = profile, gateway, random
        self._derived: Derived | None = None

    @property
    def key(self) -> bytes:
        """Return the session key that she has with the device, if it took her answer."""
        return self._derived.session.key if self._derived else b""

    def hear(self, data: bytes) -> list[bytes]:
        """Return her answer to a hello, and to a confirmation."""
        try:
            message = decode_message(self._profile, data)
        except MalformedError:
            return []
        if message.kind is Kind.CONFIRM and self._derived:
            return [encode_message(self._profile, Message(Kind.CONFIRMED, mac=self._derived.confirmed))]
        if message.kind is not Kind.HELLO or message.signed is None:
            return []
        secret = self._random(KEY_BYTES)
        answer = Message(Kind.ANSWER, self._gateway, ephemeral=x25519_public(secret))
        if self._profile is Profile.HARDENED:  # she has no key to prove it with
            answer = Message(Kind.ANSWER, self._gateway, ephemeral=answer.ephemeral, proof=bytes(SIGNATURE_BYTES))
        self._derived = _derived(self._profile, message, answer, (secret,) * (1 + bool(message.ephemeral)))
        return [encode_message(self._profile, answer)]


class NegotiationRecorder:
    """Keeps a negotiation that she heard, under the common key, for the day on which she gets the device's key."""

    def __init__(self, profile: Profile) -> None:
        self._profile: Final = profile
        self._said: dict[Kind, Message] = {}

    def hear(self, data: bytes) -> None:
        try:
            message = decode_message(self._profile, data)
        except MalformedError:
            return
        self._said[message.kind] = message

    def key(self, stolen: bytes) -> bytes:
        """Return the session key as far as the device's X25519 secret gives it; empty where it does not."""
        hello, answer = self._said.get(Kind.HELLO), self._said.get(Kind.ANSWER)
        if hello is None or answer is None or hello.signed is None:
            return b""
        shared = agreed((stolen,), (answer.ephemeral,))
        if shared is None:
            return b""
        if self._profile is Profile.PAPER:
            return paper_keys(shared, hello.signed.certificate.id).session.key
        return hardened_keys(shared, transcript(hello, answer)).session.key


def with_forged_signer(keys: SecretKeys, role: Role, party: Certificate, random: Random) -> SignedCertificate:
    """Return a certificate of hers whose third-party signature says that this party made it."""
    certificate = keys.certificate(role, "forged", party.created, party.expires)
    other = SecretKeys(random(KEY_BYTES), p256_scalar(random))
    return SignedCertificate(certificate, (ThirdPartySignature(party.id, other.sign(certificate).signature),))


def _derived(profile: Profile, hello: Message, answer: Message, secrets: tuple[bytes, ...]) -> Derived | None:
    assert hello.signed
    peer = hello.signed.certificate
    shares = (peer.ecdh_key, hello.ephemeral) if hello.ephemeral else (peer.ecdh_key,)
    shared = agreed(secrets, shares)
    if shared is None:
        return None
    if profile is Profile.PAPER:
        return paper_keys(shared, peer.id)
    return hardened_keys(shared, transcript(hello, answer))
