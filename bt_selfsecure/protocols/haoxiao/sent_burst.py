"""Makes the burst at its sender: the messages of each part, drawn before the part begins, and the frames that carry
them."""

from __future__ import annotations

from typing import Final

from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.burst_list import list_of
from bt_selfsecure.protocols.haoxiao.establish import EstablishConfig
from bt_selfsecure.protocols.haoxiao.frames import Frame, Kind, burst_encoder, encode
from bt_selfsecure.protocols.haoxiao.material import burst_kind, burst_rand
from bt_selfsecure.sansio.context import Random


class SentBurst:
    """Draws and frames the burst of one initiator."""

    def __init__(self, config: EstablishConfig, random: Random) -> None:
        self.sent = 0
        """Packets that have gone out."""
        self.commitment = b""
        """C of the newest part."""
        self._config, self._random = config, random
        self._messages: Final[list[bytes]] = []
        self._pieces: list[bytes] = []

    def draw(self) -> None:
        """Draw the messages of the next part."""
        first = len(self._messages)
        self._messages.extend(self._random(self._config.message_bytes) for _ in range(self._config.burst))
        self.commitment, self._pieces = list_of(self._messages[first:])

    @property
    def drawn(self) -> bool:
        """Return whether there are messages that have not gone out."""
        return self.sent < len(self._messages)

    def open(self, request: Frame) -> None:
        """Name the establishment to which all its packets belong."""
        kind, rand = burst_kind(compact=self._config.compact), burst_rand(request, compact=self._config.compact)
        self._packet = burst_encoder(self._config.profile, kind, rand)
        self._request = request

    def next(self) -> bytes:
        """Return the next packet, as a datagram."""
        packet = self._packet(self.sent, self._messages[self.sent])
        self.sent += 1
        return packet

    def list(self) -> list[bytes]:
        """Return the list of the newest part, as datagrams."""
        first = len(self._messages) - self._config.burst
        return [
            encode(
                Frame(
                    self._config.profile,
                    Kind.RAND_LIST,
                    0,
                    first + at,
                    self._request.rand[: limits.SESSION_ID_BYTES],
                    piece,
                )
            )
            for at, piece in zip(range(0, self._config.burst, limits.LIST_DIGESTS), self._pieces, strict=True)
        ]

    def message(self, seq: int) -> bytes:
        return self._messages[seq]

    def is_contradicted(self, frame: Frame) -> bool:
        """Return whether a burst packet of this establishment is another one than we have sent under its Seq."""
        if frame.rand != burst_rand(self._request, compact=frame.kind is Kind.RAND_COMPACT):
            return False
        return frame.seq >= self.sent or self._messages[frame.seq] != frame.message

    def forget(self) -> None:
        self._messages.clear()
        self._pieces.clear()
