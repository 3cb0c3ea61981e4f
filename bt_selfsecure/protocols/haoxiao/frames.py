"""The whole wire on one page, key-free: bytes to a `Frame`, a `Frame` to bytes.

The paper's Fig. 2 gives the order `Phase | Retran | Len | Seq | Rand | Message | HMAC` and no sizes. Ours:

      0        1         3             3+s        3+s+r        3+s+r+Len
     +----+----+---------+-------------+----------+------------+----------+
     |Ver |Kind|Retr|Len | Seq         | Rand     | Message    | HMAC     |
     +----+----+---------+-------------+----------+------------+----------+
       4    4    4    12    16 or 8 bit  0/8/16 B    Len bytes    by kind

`Ver` is 1 for the profile `paper` and 3 for `hardened`. The highest bit of `Kind` is the paper's Phase: 0 while a key
is established (Seq has 16 bits), 1 in the session (Seq is the low 8 bits of the round's number; the whole number is
authenticated). `Len` counts Message. Numbers are big-endian. The burst packet has a compact form for LE advertising:

      0        1       3       5              21       24
     +----+----+-------+-------+--------------+--------+
     |Ver |  3 | Seq   | Tag   | Message      | Check  |
     +----+----+-------+-------+--------------+--------+

So has the fragment of a group's broadcast, with index and count (4 bits each) as Rand:

      0        1       2       3              24
     +----+----+-------+-------+--------------+
     |Ver | 13 | Seq   | Rand  | Message      |
     +----+----+-------+-------+--------------+

Request and accept carry the unkeyed hash of [3] in HMAC, burst packets a truncated one; decoding checks them. In
`paper` request and accept are padded by OAEP, [2]: `head | OAEP(head | Rand | Message) | Hash`.
"""

from __future__ import annotations

import enum
import hashlib
import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from bt_selfsecure.errors import LocalError, PeerError
from bt_selfsecure.protocols.haoxiao import limits, oaep
from bt_selfsecure.sansio.value import value


class Profile(enum.IntEnum):
    """Names the cipher suite and its rules; the number is the version nibble on the wire."""

    PAPER = 1
    HARDENED = 3

    __hash__ = int.__hash__  # enum's own hashes the name, in Python: tables by profile and kind are on the hot path

    @property
    def label(self) -> str:
        return self.name.lower()


class Kind(enum.IntEnum):
    """Names what a frame is; bit 3 is the paper's Phase."""

    REQUEST = 0
    ACCEPT = 1
    RAND = 2
    RAND_COMPACT = 3
    RESPONSE = 4
    ACKNOWLEDGE = 5
    END = 6
    RAND_LIST = 7
    DATA = 8
    DATA_ACK = 9
    RESYNC_CALL = 10
    RESYNC_REQUEST = 11
    RESYNC_RESPONSE = 12
    GROUP_FRAGMENT = 13

    __hash__ = int.__hash__

    @property
    def phase(self) -> int:
        """Return 0 in the establishment, 1 in the session (Fig. 2)."""
        return self >> 3


class Malformed(enum.Enum):
    """Says why bytes are not a frame."""

    SIZE = "its length is impossible"
    VERSION = "its version is unknown"
    RETIRED = "it is of version 2 of hardened, which is not spoken any more: upgrade the other end"
    KIND = "its kind is unknown"
    LENGTH = "its Len contradicts its size"
    CHECK = "its unkeyed hash does not match"
    PADDING = "its OAEP padding or the header inside is wrong"


class FrameError(PeerError):
    """The bytes are not a frame. `decode` raises nothing else."""

    def __init__(self, reason: Malformed) -> None:
        super().__init__(f"not a frame: {reason.value}")
        self.reason = reason


@value
class Frame:
    """Holds one packet of Fig. 2. Fields that a kind does not have are empty or zero."""

    profile: Profile
    kind: Kind
    retran: int = 0
    """Attempt number: 0 the first time, at most 15; in `paper` 0 or 1."""
    seq: int = 0
    """Establishment: number of the burst packet, else 0. Session: the low 8 bits of the round's number."""
    rand: bytes = b""
    """Random data of the kind's own size; in a burst packet the session id (or tag) of its establishment."""
    message: bytes = b""
    """What the kind carries; in `DATA` the ciphertext."""
    mac: bytes = b""
    """The HMAC field; computed by `encode` where it is the unkeyed hash of [3]."""


PAPER_HASH_BYTES: Final = 32
SHORT_MAC_BYTES: Final = 16
COMPACT_CHECK_BYTES: Final = 3
COMPACT_FRAME_BYTES: Final = 24
FRAGMENT_FRAME_BYTES: Final = 3 + limits.FRAGMENT_BYTES
RAND_FRAME_BYTES: Final = 61
"""Of a burst packet in `hardened`, in the long form."""

_RAND_BYTES: Final = {
    Kind.REQUEST: limits.NONCE_BYTES,
    Kind.ACCEPT: limits.NONCE_BYTES,
    Kind.RAND: limits.SESSION_ID_BYTES,
    Kind.RAND_COMPACT: limits.SESSION_TAG_BYTES,
    Kind.RESPONSE: limits.NONCE_BYTES,
    Kind.ACKNOWLEDGE: limits.NONCE_BYTES,
    Kind.END: 0,
    Kind.RAND_LIST: limits.SESSION_ID_BYTES,
    Kind.DATA: 0,
    Kind.DATA_ACK: 0,
    Kind.RESYNC_CALL: limits.NONCE_BYTES,
    Kind.RESYNC_REQUEST: limits.NONCE_BYTES,
    Kind.RESYNC_RESPONSE: limits.NONCE_BYTES,
    Kind.GROUP_FRAGMENT: 1,
}
# The paper hashes with SHA-256 except in [9], where it says HMAC-MD5; `hardened` cuts every HMAC to 128 bits.
_PAPER_SHORT: Final = frozenset({Kind.RAND, Kind.RAND_LIST, Kind.RESPONSE, Kind.RESYNC_RESPONSE})
# The acknowledgement of [13] is itself an HMAC; call and request of a resynchronisation carry one for each checkpoint.
_MAC_IN_MESSAGE: Final = frozenset({Kind.DATA_ACK, Kind.RESYNC_CALL, Kind.RESYNC_REQUEST, Kind.GROUP_FRAGMENT})
_UNKEYED: Final = frozenset({Kind.REQUEST, Kind.ACCEPT, Kind.RAND, Kind.RAND_COMPACT, Kind.RAND_LIST})
_PADDED: Final = frozenset({Kind.REQUEST, Kind.ACCEPT})
_BRIEF: Final = frozenset({Kind.RAND_COMPACT, Kind.GROUP_FRAGMENT})
_HARDENED_ONLY: Final = frozenset({Kind.RAND_LIST, Kind.GROUP_FRAGMENT})
_SESSION_HEAD: Final = struct.Struct(">BHB")
_ESTABLISH_HEAD: Final = struct.Struct(">BHH")
_COMPACT_HEAD: Final = struct.Struct(">BH")
_hash: Final = hashlib.sha256  # Hash_A of [3], cut to the HMAC field of its kind
_VERSIONS: Final = frozenset(p.value for p in Profile)
_RETIRED: Final = 2
_RETIRED_KINDS: Final = {_RETIRED << 4 | kind: kind for kind in Kind}


def mac_bytes(profile: Profile, kind: Kind) -> int:
    """Return the size of the HMAC field."""
    if kind is Kind.RAND_COMPACT:
        return COMPACT_CHECK_BYTES
    if kind in _MAC_IN_MESSAGE:
        return 0
    return PAPER_HASH_BYTES if profile is Profile.PAPER and kind not in _PAPER_SHORT else SHORT_MAC_BYTES


class _Form(NamedTuple):
    """How frames of one first octet (Ver and Kind) are laid out."""

    profile: Profile
    kind: Kind
    layout: struct.Struct
    rand_start: int
    rand_end: int
    mac_bytes: int
    unkeyed: bool
    padded: bool
    brief: bool
    """One of those for advertising: of a size of their own, without Len."""


def _form(profile: Profile, kind: Kind) -> _Form:
    layout = _SESSION_HEAD if kind.phase else _ESTABLISH_HEAD
    return _Form(
        profile,
        kind,
        layout,
        layout.size,
        layout.size + _RAND_BYTES[kind],
        mac_bytes(profile, kind),
        kind in _UNKEYED,
        kind in _PADDED and profile is Profile.PAPER,
        kind in _BRIEF,
    )


def _exists(profile: Profile, kind: Kind) -> bool:
    return kind not in _HARDENED_ONLY or profile is Profile.HARDENED


_FORMS: Final = {p << 4 | k: _form(p, k) for p in Profile for k in Kind if _exists(p, k)}


def peek_kind(data: bytes) -> Kind | None:
    """Return the kind that the first octet names, whatever follows it; None where it is the first of no frame."""
    form = _FORMS.get(data[0]) if data else None
    return None if form is None else form.kind


def peek_retired_kind(data: bytes) -> Kind | None:
    """Return the kind that the first octet names of a frame of version 2, which is not spoken any more, or None."""
    return _RETIRED_KINDS.get(data[0]) if data else None


def head(frame: Frame) -> bytes:
    """Return the clear fields before Rand: 4 bytes in the session, 5 in the establishment."""
    octet = frame.profile << 4 | frame.kind
    return _FORMS[octet].layout.pack(octet, frame.retran << 12 | len(frame.message), frame.seq)


def encode(frame: Frame, *, seed: bytes = b"") -> bytes:
    """Return the frame as one datagram.

    `seed` is the one-time random number a of [2] (32 bytes), needed for request and accept in `paper` only.
    Raises `LocalError` where a field has a size or value that the wire can't carry.
    """
    kind, rand, message, mac = frame.kind, frame.rand, frame.message, frame.mac
    octet = frame.profile << 4 | kind
    form = _FORMS.get(octet)
    if form is None:
        raise LocalError(f"{kind.name} is no kind of the profile {frame.profile.label}")
    _, _, layout, start, rand_end, mac_size, unkeyed, padded, brief = form
    if brief:
        return _encode_compact(octet, frame) if unkeyed else _encode_fragment(octet, frame)
    if len(message) > limits.MAX_LEN or len(rand) != rand_end - start:
        raise LocalError(f"{kind.name}: {len(message)} bytes of Message or {len(rand)} of Rand are out of range")
    try:
        clear = layout.pack(octet, frame.retran << 12 | len(message), frame.seq)
    except struct.error:
        raise LocalError(f"{kind.name}: Retran {frame.retran} or Seq {frame.seq} is out of range") from None
    if unkeyed:
        body = clear + rand + message
        if padded:
            body = clear + oaep.encode(body, seed=seed)
        return body + _hash(body).digest()[:mac_size]
    if len(mac) != mac_size:
        raise LocalError(f"{kind.name}: the HMAC field has {len(mac)} bytes")
    return clear + rand + message + mac


def _encode_compact(octet: int, frame: Frame) -> bytes:
    rand, message, name = frame.rand, frame.message, frame.kind.name
    if len(rand) != limits.SESSION_TAG_BYTES or len(message) != limits.COMPACT_MESSAGE_BYTES or frame.retran:
        raise LocalError(f"{name}: {len(message)} bytes of Message, {len(rand)} of Rand or a Retran do not fit")
    try:
        body = _COMPACT_HEAD.pack(octet, frame.seq) + rand + message
    except struct.error:
        raise LocalError(f"{name}: Seq {frame.seq} is out of range") from None
    return body + _hash(body).digest()[:COMPACT_CHECK_BYTES]


def _encode_fragment(octet: int, frame: Frame) -> bytes:
    data = bytes([octet, frame.seq & 255]) + frame.rand + frame.message
    if len(data) != FRAGMENT_FRAME_BYTES or not _is_fragment(frame.rand[0]) or frame.seq > 255 or frame.retran:
        raise LocalError(f"{frame.kind.name}: Seq {frame.seq}, Retran {frame.retran}, Rand or Message do not fit")
    return data


def _is_fragment(octet: int) -> bool:
    """Whether this can be index and count: the fragments of a count have data, and one more is their parity."""
    return 0 < octet & 15 >= octet >> 4


def encode_round(octet: int, retran: int, seq: int, message: bytes, mac: bytes = b"") -> bytes:
    """Return `encode` of `DATA` or `DATA_ACK`, for which no `Frame` is made: each round has both. `octet` is the first
    one; `seq` may be the whole number of the round. Raises `LocalError` for a message that Len can't say."""
    size = len(message)
    if size > limits.MAX_LEN:
        raise LocalError(f"{size} bytes of Message are out of range")
    return _SESSION_HEAD.pack(octet, retran << 12 | size, seq & 255) + message + mac


def burst_encoder(profile: Profile, kind: Kind, rand: bytes) -> Callable[[int, bytes], bytes]:
    """Return `encode` for the packets of one burst, by Seq and Message: all else is the same in each, and done once."""
    size = limits.COMPACT_MESSAGE_BYTES if kind is Kind.RAND_COMPACT else limits.BURST_MESSAGE_BYTES
    clear = encode(Frame(profile, kind, rand=rand, message=bytes(size)))
    start, mac_size = clear[: 1 if kind is Kind.RAND_COMPACT else 3], mac_bytes(profile, kind)

    def encoded(seq: int, message: bytes) -> bytes:
        body = start + seq.to_bytes(2) + rand + message
        return body + _hash(body).digest()[:mac_size]

    return encoded


def decode(data: bytes) -> Frame:
    """Return the frame that these bytes are, whatever they are. Raises `FrameError` for what is none, and nothing
    else."""
    size = len(data)
    if not 1 <= size <= limits.MAX_FRAME_BYTES:
        raise FrameError(Malformed.SIZE)
    form = _FORMS.get(data[0])
    if form is None:
        version = data[0] >> 4
        unknown = Malformed.RETIRED if version == _RETIRED else Malformed.VERSION
        raise FrameError(Malformed.KIND if version in _VERSIONS else unknown)
    profile, kind, layout, start, rand_end, mac_size, unkeyed, padded, brief = form
    if brief:
        return _decode_compact(profile, data) if unkeyed else _decode_fragment(profile, data)
    end = size - mac_size
    if end < start:
        raise FrameError(Malformed.SIZE)
    _, retran_len, seq = layout.unpack_from(data)
    mac = data[end:]
    if unkeyed:
        if mac != _hash(data[:end]).digest()[:mac_size]:
            raise FrameError(Malformed.CHECK)
        if padded:
            data = data[:start] + _unpad(data[:start], data[start:end])
            end = len(data)
    if end - rand_end != retran_len & 0xFFF:
        raise FrameError(Malformed.LENGTH)
    return Frame(profile, kind, retran_len >> 12, seq, data[start:rand_end], data[rand_end:end], mac)


def _decode_compact(profile: Profile, data: bytes) -> Frame:
    if len(data) != COMPACT_FRAME_BYTES:
        raise FrameError(Malformed.SIZE)
    body, check = data[:-COMPACT_CHECK_BYTES], data[-COMPACT_CHECK_BYTES:]
    if check != _hash(body).digest()[:COMPACT_CHECK_BYTES]:
        raise FrameError(Malformed.CHECK)
    return Frame(profile, Kind.RAND_COMPACT, 0, int.from_bytes(body[1:3]), body[3:5], body[5:], check)


def _decode_fragment(profile: Profile, data: bytes) -> Frame:
    if len(data) != FRAGMENT_FRAME_BYTES:
        raise FrameError(Malformed.SIZE)
    if not _is_fragment(data[2]):
        raise FrameError(Malformed.LENGTH)
    return Frame(profile, Kind.GROUP_FRAGMENT, 0, data[1], data[2:3], data[3:])


def _unpad(clear_head: bytes, padded: bytes) -> bytes:
    try:
        plain = oaep.decode(padded)
    except oaep.OaepError:
        raise FrameError(Malformed.PADDING) from None
    if not plain.startswith(clear_head):
        raise FrameError(Malformed.PADDING)
    return plain[len(clear_head) :]
