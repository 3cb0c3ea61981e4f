"""Pieces put together again: PDUs of L2CAP, frames of RFCOMM, and datagrams on a stream, as far as they were heard.

Nothing need have been heard of how a connection began: RFCOMM frames are known by their check sequence. A datagram in
several pieces comes out where all were heard; ours always begins and ends with a piece, so she finds her way back after
a loss. Over an unheard gap, pieces of two datagrams may be taken for one whose length they fit; the protocol's own HMAC
tells.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Generic, Literal, TypeVar

from bt_selfsecure.bearers.framing import LENGTH_BYTES

MOST_CONNECTIONS: Final = 64
"""Of which something is remembered: the one that was quiet for longest is forgotten first."""
_MOST_WAYS: Final = 256  # of which a beginning is kept: an unfriendly capture names any number
_MOST_BEGUN: Final = 16  # of each way: a datagram of 5000 bytes is as many frames of RFCOMM
_LONGEST_SDU_BYTES: Final = 1281  # an IPv6 packet of the minimum MTU, behind its dispatch
_SABM, _UA, _DM, _DISC, _UIH, _UIH_CREDITS = 0x3F, 0x73, 0x1F, 0x53, 0xEF, 0xFF  # RFCOMM: TS 07.10, 5.2.1.3


class Streams:
    """Holds datagrams, each with its length in two bytes before it, in pieces of which a datagram begins one and ends
    one.

    Each channel's and direction's pieces apart. After a piece that was not heard, any may begin a datagram: those whose
    length allows it are all kept, until one is whole.
    """

    def __init__(self, byteorder: Literal["big", "little"], longest: int) -> None:
        self._byteorder: Final = byteorder
        self._longest: Final = longest
        """Bytes of a datagram. The shorter, the sooner she finds her way back."""
        self._begun: dict[Hashable, list[bytes]] = {}

    def read(self, way: Hashable, piece: bytes) -> bytes | None:
        """Return the datagram that one more piece of one direction of one channel completes."""
        open_: list[bytes] = []
        found = None
        for begun in (b"", *self._begun.pop(way, ())):  # the latest beginning first
            missing = self._missing(begun + piece)
            if missing == 0:  # what began before this will never be whole
                found = (begun + piece)[LENGTH_BYTES:]
                break
            if missing > 0:
                open_.append(begun + piece)
        if open_:
            if len(self._begun) >= _MOST_WAYS:
                del self._begun[next(iter(self._begun))]
            self._begun[way] = open_[:_MOST_BEGUN]
        return found

    def _missing(self, stream: bytes) -> int:
        """Return the bytes to the end of the datagram that begins here; negative where there are too many, or it can't
        be one."""
        if len(stream) < LENGTH_BYTES:
            return LENGTH_BYTES - len(stream)
        size = int.from_bytes(stream[:LENGTH_BYTES], self._byteorder)
        return LENGTH_BYTES + size - len(stream) if size <= self._longest else -1


class DirectionReassembler:
    """Joins what comes in one direction of one connection: pieces of L2CAP PDUs, and of the SDUs of its credit-based
    channels."""

    def __init__(self) -> None:
        self.last: tuple[int, bytes] | None = None
        """SN (Core Vol 6 Part B 4.5.9) and payload of the last packet on the air. SN alone would not tell a repeated
        packet from the next but one, when that between was not heard."""
        self.sdus: Final = Streams("little", _LONGEST_SDU_BYTES)
        self._pdu = b""

    def add(self, begins: bool, piece: bytes) -> tuple[int, bytes] | None:
        """Return channel and payload of the PDU (Core Vol 3 Part A 3.1) that this piece completes."""
        if not begins and not self._pdu:
            return None  # its beginning was not heard
        pdu = piece if begins else self._pdu + piece
        missing = 4 + int.from_bytes(pdu[:2], "little") - len(pdu) if len(pdu) > 1 else 1
        self._pdu = pdu if missing > 0 else b""
        return (int.from_bytes(pdu[2:4], "little"), pdu[4:]) if missing == 0 else None


def read_rfcomm(payload: bytes) -> tuple[int, bytes] | None:
    """Return DLCI and information of an RFCOMM frame (TS 07.10, 5.2; credits: RFCOMM 1.1, 6.5), None if it is none."""
    if len(payload) < 4 or payload[1] not in (_SABM, _UA, _DM, _DISC, _UIH, _UIH_CREDITS):
        return None
    start = 3 if payload[2] & 1 else 4
    length = payload[2] >> 1 | (payload[3] << 7 if start == 4 else 0)
    credit = payload[1] == _UIH_CREDITS
    checked = payload[:2] if payload[1] in (_UIH, _UIH_CREDITS) else payload[:start]
    if len(payload) != start + credit + length + 1 or payload[-1] != _rfcomm_check(checked):
        return None
    return payload[0] >> 2, payload[start + credit : -1]


def _rfcomm_check(data: bytes) -> int:
    """Return the frame check sequence of TS 07.10, 5.2.1.6: CRC-8 with x^8 + x^2 + x + 1, bits reversed."""
    register = 0xFF
    for octet in data:
        register ^= octet
        for _ in range(8):
            register = register >> 1 ^ (0xE0 if register & 1 else 0)
    return 0xFF - register


Kept = TypeVar("Kept")


class Recent(OrderedDict[int, Kept], Generic[Kept]):
    """Holds by number what was used last; made when first asked for, the oldest forgotten when there is no room."""

    def __init__(self, make: Callable[[], Kept], most: int = MOST_CONNECTIONS) -> None:
        super().__init__()
        self._make, self._most = make, most

    def __missing__(self, number: int) -> Kept:
        return self.begin(number)

    def __getitem__(self, number: int) -> Kept:
        found = super().__getitem__(number)
        self.move_to_end(number)
        return found

    def begin(self, number: int, value: Kept | None = None) -> Kept:
        """Make it anew, forgetting what was known of it."""
        self.pop(number, None)
        self[number] = made = self._make() if value is None else value
        if len(self) > self._most:
            self.popitem(last=False)
        return made
