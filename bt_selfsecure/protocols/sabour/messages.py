"""M1 to M4 as datagrams, key-free: bytes to a `Message`, a `Message` to bytes. Each has one size.

M1  octet | device id 8 | PK_C            octet: 0x11 to 0x15 in `paper`, 0x21 to 0x24 in `hardened`
M2  octet | "HelloClient" | PK_S          the greeting in `paper` alone
M3  octet | SIG_C                         PK: 64 bytes (x and y on P-256), or 32 (X25519)
M4  octet | SIG_S                         SIG: 64 bytes, or 32 in the reading `hash`
refusal  octet | "Device not defined!"    in `paper` alone
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

from bt_selfsecure.errors import LocalError, PeerError
from bt_selfsecure.protocols.sabour import limits
from bt_selfsecure.sansio.value import value


class Profile(enum.Enum):
    """Names the rules of a handshake, which both ends share. The paper's signature has two readings."""

    PAPER_ECDSA = "paper/ecdsa"
    PAPER_HASH = "paper/hash"
    HARDENED = "hardened"

    @property
    def hardened(self) -> bool:
        return self is Profile.HARDENED


class Kind(enum.IntEnum):
    """Says what a datagram is."""

    M1 = 1
    M2 = 2
    M3 = 3
    M4 = 4
    REFUSAL = 5


class Malformed(enum.Enum):
    """Says why bytes are no message."""

    SIZE = "its length is impossible"
    KIND = "its first octet is of no message of this profile"
    TEXT = "its greeting is wrong"


class MessageError(PeerError):
    """The bytes are no message. The only exception that `decode` raises."""

    def __init__(self, reason: Malformed) -> None:
        super().__init__(f"not a message: {reason.value}")
        self.reason = reason


@value
class Message:
    """Holds one datagram. Fields that a kind does not have are empty."""

    kind: Kind
    device_id: bytes = b""
    share: bytes = b""
    """PK_C or PK_S."""
    signature: bytes = b""
    """SIG_C or SIG_S."""


class _Form(NamedTuple):
    kind: Kind
    device_id: int
    text: bytes
    share: int
    signature: int

    @property
    def size(self) -> int:
        return 1 + self.device_id + len(self.text) + self.share + self.signature


def _forms(profile: Profile) -> dict[int, _Form]:
    share = limits.SHARE_BYTES if profile.hardened else limits.POINT_BYTES
    signature = limits.HASH_BYTES if profile is Profile.PAPER_HASH else limits.SIGNATURE_BYTES
    forms = [
        _Form(Kind.M1, limits.DEVICE_ID_BYTES, b"", share, 0),
        _Form(Kind.M2, 0, b"" if profile.hardened else limits.GREETING, share, 0),
        _Form(Kind.M3, 0, b"", 0, signature),
        _Form(Kind.M4, 0, b"", 0, signature),
    ]
    if not profile.hardened:
        forms.append(_Form(Kind.REFUSAL, 0, limits.REFUSAL, 0, 0))
    version = 2 if profile.hardened else 1
    return {version << 4 | form.kind: form for form in forms}


_FORMS: Final = {profile: _forms(profile) for profile in Profile}
_OCTETS: Final = {profile: {form.kind: octet for octet, form in forms.items()} for profile, forms in _FORMS.items()}


_KINDS: Final = {octet: form.kind for forms in _FORMS.values() for octet, form in forms.items()}


def peek_kind(data: bytes) -> Kind | None:
    """Return the kind that the first octet names, whatever follows it; None where it is the first of no message."""
    return _KINDS.get(data[0]) if data else None


def size(profile: Profile, kind: Kind) -> int:
    """Return the bytes of such a datagram. KeyError for a kind that the profile does not have."""
    return _FORMS[profile][_OCTETS[profile][kind]].size


def encode(profile: Profile, message: Message) -> bytes:
    """Return the message as one datagram. Raises `LocalError` where a field has another size than the wire."""
    octet = _OCTETS[profile].get(message.kind)
    if octet is None:
        raise LocalError(f"{profile.value} has no {message.kind.name}")
    form = _FORMS[profile][octet]
    if (len(message.device_id), len(message.share), len(message.signature)) != (
        form.device_id,
        form.share,
        form.signature,
    ):
        raise LocalError(f"{message.kind.name}: a field has another size than in {profile.value}")
    return bytes([octet]) + message.device_id + form.text + message.share + message.signature


def decode(profile: Profile, data: bytes) -> Message:
    """Return the message that these bytes are. Total: raises `MessageError` for what is none, and nothing else."""
    form = _FORMS[profile].get(data[0]) if data else None
    if form is None:
        raise MessageError(Malformed.KIND if data else Malformed.SIZE)
    if len(data) != form.size:
        raise MessageError(Malformed.SIZE)
    text = 1 + form.device_id
    share = text + len(form.text)
    signature = share + form.share
    if data[text:share] != form.text:
        raise MessageError(Malformed.TEXT)
    return Message(form.kind, data[1:text], data[share:signature], data[signature:])
