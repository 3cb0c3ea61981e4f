"""The connection protocol's messages (Fig. 6), each one CBOR array, inside of DTLS under the network's key.

             paper                                  hardened
hello        [1, certificate, signatures]           [17, certificate, signatures, nonce 16, ephemeral 0 or 32]
answer       [2, certificate, signatures, eph. 32]  [18, certificate, signatures, ephemeral 32, proof 64]
confirm                                             [19, MAC 16] by who said hello, [20, MAC 16] by who answered
refusal      [5, verdict]                           [21, verdict]

The advertisement is the one message in clear: [id 16, negotiation port, transmission port].
"""

from __future__ import annotations

import enum
from typing import Any, Final, Self

from bt_selfsecure.protocols.iotcrypto import limits
from bt_selfsecure.protocols.iotcrypto.canonical import (
    Field,
    MalformedError,
    decode,
    encode,
    fields,
    number,
    octets,
    one_of,
)
from bt_selfsecure.protocols.iotcrypto.certificate import SIGNED_FIELDS, SignedCertificate
from bt_selfsecure.protocols.iotcrypto.trust import TrustVerdict
from bt_selfsecure.sansio.value import value

_HARDENED: Final = 16
"""What is added to a message's kind in `hardened`, so that no message is one of both profiles."""
_MOST_PORT: Final = 65_535


class Profile(enum.Enum):
    """Names the rules of the connection protocol, which both ends share."""

    PAPER = "paper"
    HARDENED = "hardened"


class Kind(enum.IntEnum):
    """Says what a message is."""

    HELLO = 1
    ANSWER = 2
    CONFIRM = 3
    CONFIRMED = 4
    REFUSAL = 5


@value
class Message:
    """Holds one message. Fields that a kind does not have are empty."""

    kind: Kind
    signed: SignedCertificate | None = None
    nonce: bytes = b""
    ephemeral: bytes = b""
    proof: bytes = b""
    mac: bytes = b""
    verdict: TrustVerdict = TrustVerdict.TRUSTED


_REFUSAL: Final = (("verdict", one_of([*TrustVerdict][1:])),)
_FORMS: Final[dict[Profile, dict[Kind, tuple[tuple[str, Field], ...]]]] = {
    Profile.PAPER: {
        Kind.HELLO: (),
        Kind.ANSWER: (("ephemeral", octets(limits.KEY_BYTES)),),
        Kind.REFUSAL: _REFUSAL,
    },
    Profile.HARDENED: {
        Kind.HELLO: (("nonce", octets(limits.NONCE_BYTES)), ("ephemeral", octets(0, limits.KEY_BYTES))),
        Kind.ANSWER: (("ephemeral", octets(limits.KEY_BYTES)), ("proof", octets(limits.SIGNATURE_BYTES))),
        Kind.CONFIRM: (("mac", octets(limits.MAC_BYTES)),),
        Kind.CONFIRMED: (("mac", octets(limits.MAC_BYTES)),),
        Kind.REFUSAL: _REFUSAL,
    },
}
_WITH_CERTIFICATE: Final = (Kind.HELLO, Kind.ANSWER)


def _octet(profile: Profile, kind: Kind) -> int:
    return kind + _HARDENED if profile is Profile.HARDENED else kind


def encode_message(profile: Profile, message: Message) -> bytes:
    """Return the message as bytes, for a DTLS record of its own."""
    content: list[Any] = [_octet(profile, message.kind)]
    if message.signed is not None:
        content += message.signed.content
    for name, _ in _FORMS[profile][message.kind]:
        content.append(getattr(message, name))
    return encode(content)


def decode_message(profile: Profile, data: bytes) -> Message:
    """Return the message that these bytes are. Total: raises `MalformedError` for what is none of this profile."""
    content = decode(data, limits.MOST_MESSAGE_BYTES)
    kinds = {_octet(profile, kind): kind for kind in _FORMS[profile]}
    kind = kinds.get(content[0]) if type(content) is list and content and type(content[0]) is int else None
    if kind is None:
        raise MalformedError(f"no message of {profile.value}")
    form = _FORMS[profile][kind]
    with_certificate = SIGNED_FIELDS if kind in _WITH_CERTIFICATE else ()
    asked = (*with_certificate, *(field for _, field in form))
    _, *rest = fields(content, kind.name.lower(), one_of([content[0]]), *asked)
    signed = SignedCertificate.of(rest[0], rest[1]) if with_certificate else None
    named = dict(zip((name for name, _ in form), rest[len(with_certificate) :], strict=True))
    if "verdict" in named:
        named["verdict"] = TrustVerdict(named["verdict"])
    return Message(kind, signed, **named)


@value
class Advertisement:
    """Says where a gateway may be. Anybody can say so: it is a hint, and proves nothing."""

    id: bytes
    """Of the gateway's certificate."""
    negotiation_port: int
    transmission_port: int

    def encode(self) -> bytes:
        return encode([self.id, self.negotiation_port, self.transmission_port])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises `MalformedError`."""
        port = number(_MOST_PORT, 1)
        return cls(*fields(decode(data, 32), "an advertisement", octets(limits.ID_BYTES), port, port))
