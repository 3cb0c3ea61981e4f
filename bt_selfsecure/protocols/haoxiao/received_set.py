"""The received set S on the wire: Cpr_s of the paper (section 3.2, equation 9).

The paper asks for a "digital compression technology, such as Zigzag". Two forms, the shorter goes out:

    octet 0   form: the lowest bit says which, the other seven are 0
              0x00  deltas          0x01  bitmap
    octet 1.. deltas: varint(zigzag(s_0)), varint(zigzag(s_1 - s_0)), ...   of S in ascending order
              bitmap: bit (s mod 8) of octet 1 + s div 8 is set if s is in S; the last octet is not 0

zigzag(x) = 2x for x >= 0, else -2x - 1. A varint carries seven bits an octet, the lowest first; the highest bit of an
octet says that another follows (LEB128). Ascending numbers have no negative deltas, so zigzag spends a bit for nothing;
it stays because the paper names it, and the bitmap wins from about |S| = N/8 on. Of equal length, deltas: a set has one
encoding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bt_selfsecure.errors import LocalError, PeerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DELTAS, BITMAP = 0x00, 0x01
MAX_COUNT = 1 << 32
"""Far above any burst; with it a delta takes at most five octets."""
_MAX_SHIFT = 28
_SET = ord("1")


class ReceivedSetError(PeerError):
    """These bytes are not the encoding of a received set. `decode_received_set` raises nothing else."""


def encode_received_set(seqs: Iterable[int], count: int) -> bytes:
    r"""Return Cpr_s of the sequence numbers `seqs` (in any order) out of a burst of `count` packets, 0..count-1.

    Raises `LocalError` if a sequence number is outside 0..count-1, or count is above 2**32.

    >>> encode_received_set([], 400)
    b'\x00'
    >>> encode_received_set([3, 300], 1000)
    b'\x00\x06\xd2\x04'
    >>> encode_received_set([0, 1, 2, 4, 9], 10)
    b'\x01\x17\x02'
    """
    ordered = sorted(set(seqs))
    if not 0 <= count <= MAX_COUNT:
        raise LocalError(f"a burst has 0 to 2**32 packets, not {count}")
    if ordered and not 0 <= ordered[0] <= ordered[-1] < count:
        raise LocalError(f"sequence numbers {ordered[0]}..{ordered[-1]} are not all inside 0..{count - 1}")
    bitmap_octets = ordered[-1] // 8 + 1 if ordered else 0
    if len(ordered) <= bitmap_octets and len(deltas := _deltas(ordered)) <= bitmap_octets:
        return bytes([DELTAS]) + deltas
    return bytes([BITMAP]) + _bitmap(ordered, bitmap_octets)


def decode_received_set(data: bytes, limit: int) -> tuple[int, ...]:
    r"""Return the sequence numbers, ascending, each below `limit` (the length of the burst).

    Raises `ReceivedSetError`, and nothing else, on whatever is not exactly what `encode_received_set` makes. The work
    and the memory are bounded by `limit` (0..2**32): data longer than the bitmap of the whole burst is refused unread.

    >>> decode_received_set(b'\x01\x17\x02', 10)
    (0, 1, 2, 4, 9)
    """
    if not 1 <= len(data) <= 1 + (limit + 7) // 8:
        raise ReceivedSetError(f"{len(data)} octets can't be a received set of a burst of {limit}")
    if data[0] == DELTAS:
        seqs = tuple(_read_deltas(data[1:], limit))
    elif data[0] == BITMAP:
        seqs = tuple(_read_bitmap(data[1:], limit))
    else:
        raise ReceivedSetError(f"unknown form 0x{data[0]:02x} of a received set")
    if encode_received_set(seqs, limit) != data:
        raise ReceivedSetError("not the shortest encoding of this received set")
    return seqs


def _deltas(ordered: list[int]) -> bytes:
    octets = bytearray()
    previous = 0
    for seq in ordered:
        value = 2 * (seq - previous)
        previous = seq
        while value > 0x7F:
            octets.append(0x80 | value & 0x7F)
            value >>= 7
        octets.append(value)
    return bytes(octets)


def _read_deltas(body: bytes, limit: int) -> Iterator[int]:
    seq, value, shift, first = 0, 0, 0, True
    for octet in body:
        value |= (octet & 0x7F) << shift
        if octet & 0x80:
            shift += 7
            if shift > _MAX_SHIFT:
                raise ReceivedSetError("a delta of more than five octets")
            continue
        delta = (value >> 1) ^ -(value & 1)
        if delta < 0 or (delta == 0 and not first):
            raise ReceivedSetError("sequence numbers do not ascend")
        seq += delta
        if seq >= limit:
            raise ReceivedSetError(f"sequence number {seq} of a burst of {limit}")
        yield seq
        value, shift, first = 0, 0, False
    if shift:
        raise ReceivedSetError("the last delta is cut off")


def _bitmap(ordered: list[int], length: int) -> bytes:
    flags = bytearray(b"0" * 8 * length)  # a digit for each number, the highest first
    for seq in ordered:
        flags[~seq] = _SET
    return int(flags, 2).to_bytes(length, "little")


def _read_bitmap(body: bytes, limit: int) -> list[int]:
    digits = f"{int.from_bytes(body, 'little'):b}"[::-1]
    seqs = [seq for seq, digit in enumerate(digits) if digit == "1"]
    if seqs and seqs[-1] >= limit:
        raise ReceivedSetError(f"sequence number {seqs[-1]} of a burst of {limit}")
    return seqs
