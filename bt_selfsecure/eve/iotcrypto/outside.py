"""What IoT-Crypto shows to whoever has no key at all: ids in advertisements and DTLS handshakes, and sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from bt_selfsecure.protocols.iotcrypto.canonical import MalformedError
from bt_selfsecure.protocols.iotcrypto.messages import Advertisement

_HEADER_BYTES: Final = 13
_HANDSHAKE_HEADER_BYTES: Final = 12
_HANDSHAKE: Final = 22
APPLICATION_DATA: Final = 23
_CLIENT_HELLO, _CLIENT_KEY_EXCHANGE = 1, 16
_MAJOR_VERSION: Final = 0xFE
ADDED_BYTES: Final = 16
"""By ChaCha20-Poly1305, to what is in a record."""


@dataclass
class Outside:
    """Holds what she has noted."""

    gateways: set[bytes] = field(default_factory=set)
    """Ids of certificates, from advertisements."""
    identities: list[str] = field(default_factory=list)
    """PSK identities, in order: the network's name, then sessions; in `paper` ids of devices."""
    sizes: Counter[int] = field(default_factory=Counter)
    """Bytes of messages, by how often."""

    def hear(self, datagram: bytes) -> None:
        """Note what a UDP datagram shows."""
        try:
            self.gateways.add(Advertisement.decode(datagram).id)
        except MalformedError:
            for kind, epoch, content in records(datagram):
                if named := psk_identity(kind, epoch, content):
                    self.identities.append(named)
                elif kind == APPLICATION_DATA:
                    self.sizes[len(content) - ADDED_BYTES] += 1


def records(datagram: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield type, epoch and content of each record of DTLS (RFC 6347 section 4.1)."""
    while len(datagram) >= _HEADER_BYTES and datagram[1] == _MAJOR_VERSION:
        length = int.from_bytes(datagram[11:13])
        content = datagram[_HEADER_BYTES : _HEADER_BYTES + length]
        yield datagram[0], int.from_bytes(datagram[3:5]), content
        datagram = datagram[_HEADER_BYTES + length :]


def begins_handshake(kind: int, epoch: int, content: bytes) -> bool:
    """Return whether this record is a client's hello, in clear."""
    return kind == _HANDSHAKE and epoch == 0 and content[:1] == bytes([_CLIENT_HELLO])


def psk_identity(kind: int, epoch: int, content: bytes) -> str:
    """Return the PSK identity that a record shows; nothing where it has none."""
    if kind != _HANDSHAKE or epoch or content[:1] != bytes([_CLIENT_KEY_EXCHANGE]):
        return ""
    length = int.from_bytes(content[_HANDSHAKE_HEADER_BYTES : _HANDSHAKE_HEADER_BYTES + 2])
    named = content[_HANDSHAKE_HEADER_BYTES + 2 :][:length]
    return named.decode(errors="replace") if 0 < length == len(named) else ""
