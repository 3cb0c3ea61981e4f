"""What IoT-Crypto shows to whoever has no key at all: ids in advertisements and DTLS handshakes, and sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from bt_selfsecure.protocols.iotcrypto.canonical import MalformedError
from bt_selfsecure.protocols.iotcrypto.messages import Advertisement

_HEADER_BYTES = 13
_HANDSHAKE_HEADER_BYTES = 12
_HANDSHAKE, _APPLICATION_DATA = 22, 23
_CLIENT_KEY_EXCHANGE = 16
_ADDED_BYTES = 16
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
            for kind, epoch, content in _records(datagram):
                if kind == _HANDSHAKE and epoch == 0 and content[:1] == bytes([_CLIENT_KEY_EXCHANGE]):
                    length = int.from_bytes(content[_HANDSHAKE_HEADER_BYTES : _HANDSHAKE_HEADER_BYTES + 2])
                    named = content[_HANDSHAKE_HEADER_BYTES + 2 :][:length]
                    if 0 < length == len(named):
                        self.identities.append(named.decode(errors="replace"))
                elif kind == _APPLICATION_DATA:
                    self.sizes[len(content) - _ADDED_BYTES] += 1


def _records(datagram: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield type, epoch and content of each record (RFC 6347 section 4.1)."""
    while len(datagram) >= _HEADER_BYTES:
        length = int.from_bytes(datagram[11:13])
        content = datagram[_HEADER_BYTES : _HEADER_BYTES + length]
        yield datagram[0], int.from_bytes(datagram[3:5]), content
        datagram = datagram[_HEADER_BYTES + length :]
