"""What the node in the person's hand tells the others, and what they answer: JSON in messages of the control link.

    {"order": "listen", "tag": 2719, ...}   ->   {"answer": "listening", "tag": 2719}

Every order has a tag, drawn anew for each attempt at a run; an answer repeats it. So an answer that comes late, or from
before a crash, is recognised, and so are test packets, which carry the tag too.

A test packet:

     0        4        6            size
    +--------+--------+-------------+
    | tag    | seq    | filler      |
    +--------+--------+-------------+

Integers are big-endian. The filler is the same for all packets: nothing here is secret, or claims to be.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from bt_selfsecure.errors import BtSelfSecureError
from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.sweep.plain_json import json_of

HEAD: Final = struct.Struct(">IH")
NO_RSSI: Final = 127
"""As controllers say it (Core Vol 4 Part E 7.7.65.2)."""
MAX_COPIES: Final = 255
MAX_SPACING_MS: Final = 10_000.0
MAX_RECEIVERS: Final = 16


class NotAnOrderError(BtSelfSecureError):
    """A message on the control link is none of ours."""


@dataclass(frozen=True, slots=True)
class Describe:
    """The node is to tell about itself and its environment."""

    tag: int


@dataclass(frozen=True, slots=True)
class Listen:
    """The node is to be ready for test packets, until `Report` or another order."""

    tag: int
    bearer: str
    """For `open_bearer`, without adapter."""
    sender: str
    """Device address."""
    packets: int


@dataclass(frozen=True, slots=True)
class SendPackets:
    """Send test packets, and answer when the last has left."""

    tag: int
    bearer: str
    receivers: dict[str, str]
    """Device address by name."""
    packets: int
    size_bytes: int
    spacing_ms: float


@dataclass(frozen=True, slots=True)
class Report:
    """The node is to stop listening and to tell what it heard."""

    tag: int


@dataclass(frozen=True, slots=True)
class Described:
    tag: int
    facts: dict[str, Any]
    """As `environment.facts`."""


@dataclass(frozen=True, slots=True)
class Listening:
    tag: int


@dataclass(frozen=True, slots=True)
class PacketsSent:
    tag: int
    seconds: float
    """From the first packet to the last."""
    queued: dict[str, str]
    """By receiver: packets that never left the sender, as `pack` writes a set."""
    counters: dict[str, Any]
    """What the sender's controller counted meanwhile; empty where it counts nothing."""


@dataclass(frozen=True, slots=True)
class ListenReport:
    tag: int
    copies: str
    """How often each packet was heard, as `pack` writes bytes, `MAX_COPIES` at most each."""
    rssi: str
    """dBm of each packet's best copy, signed, `NO_RSSI` where unknown; likewise."""


@dataclass(frozen=True, slots=True)
class OrderRefused:
    """It can't be done: the text says why, and the remedy."""

    tag: int
    reason: str


Order = Describe | Listen | SendPackets | Report
Answer = Described | Listening | PacketsSent | ListenReport | OrderRefused
_ORDERS: Final[Mapping[str, type]] = {"describe": Describe, "listen": Listen, "send": SendPackets, "report": Report}
_ANSWERS: Final[Mapping[str, type]] = {
    "described": Described,
    "listening": Listening,
    "sent": PacketsSent,
    "heard": ListenReport,
    "refused": OrderRefused,
}
_NAMES: Final = {of_one: name for kinds in (_ORDERS, _ANSWERS) for name, of_one in kinds.items()}
_RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "tag": (0, 2**32 - 1),
    "packets": (1, limits.MAX_BURST),
    "size_bytes": (HEAD.size, limits.MAX_FRAME_BYTES),
    "spacing_ms": (0, MAX_SPACING_MS),
    "seconds": (0, float(2**31)),
}
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {"int": (int,), "float": (int, float), "str": (str,), "dict": (dict,)}


def encode(message: Order | Answer) -> bytes:
    """Return an order or an answer as one line of JSON."""
    name = _NAMES[type(message)]
    kind = "order" if name in _ORDERS else "answer"
    return json_of({kind: name, **asdict(message)}, separators=(",", ":")).encode()


def decode_order(data: bytes) -> Order:
    """Raises `NotAnOrderError`."""
    order: Order = _decode(data, "order", _ORDERS)
    return order


def decode_answer(data: bytes) -> Answer:
    """Raises `NotAnOrderError`."""
    answer: Answer = _decode(data, "answer", _ANSWERS)
    return answer


def _decode(data: bytes, kind: str, kinds: Mapping[str, type]) -> Any:
    try:
        values = json.loads(data)
        named = values.pop(kind)
        chosen = kinds[named]
        wanted = {field.name: str(field.type).partition("[")[0] for field in fields(chosen)}
        if values.keys() != wanted.keys():
            raise NotAnOrderError(f"a message on the control link has not the fields of {named!r}")
        for name, value in values.items():
            _check(name, value, wanted[name])
        return chosen(**values)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise NotAnOrderError(
            f"a message on the control link is no {kind}: another version at the other end?"
        ) from None


def _check(name: str, value: Any, kind: str) -> None:
    low, high = _RANGES.get(name, (None, None))
    fits = isinstance(value, _TYPES[kind]) and not isinstance(value, bool)
    if name in ("receivers", "queued"):
        fits = fits and len(value) <= MAX_RECEIVERS and all(isinstance(each, str) for each in value.values())
    if not fits or (low is not None and high is not None and not low <= value <= high):
        raise NotAnOrderError(f"a message on the control link has a {name} that can't be")


# --- test packets and what was heard of them --------------------------------------------------------------------------


def encode_packet(tag: int, seq: int, size: int) -> bytes:
    """Return the packet number `seq`, from 0."""
    return (HEAD.pack(tag, seq) + b"\x55" * size)[: max(size, HEAD.size)]


def decode_packet(data: bytes, tag: int, packets: int) -> int | None:
    """Return a test packet's number; None for what belongs to another run, or to nobody."""
    if len(data) < HEAD.size:
        return None
    its_tag, seq = HEAD.unpack_from(data)
    return seq if its_tag == tag and seq < packets else None


def pack(values: bytes) -> str:
    """Return bytes as text for JSON; losses are few, so it is short."""
    return base64.b64encode(zlib.compress(values)).decode()


def unpack(text: str, count: int) -> bytes:
    """Return the `count` bytes that `pack` wrote. Raises `NotAnOrderError`."""
    try:
        reader = zlib.decompressobj()
        values = reader.decompress(base64.b64decode(text, validate=True), count + 1)
    except (ValueError, zlib.error):
        raise NotAnOrderError("a report on the control link can't be read") from None
    if len(values) != count:
        raise NotAnOrderError(f"a report on the control link has not {count} packets")
    return values


def pack_set(numbers: set[int], count: int) -> str:
    """Return a set of packets as a byte each."""
    return pack(bytes(number in numbers for number in range(count)))


@dataclass(frozen=True, slots=True)
class RunReception:
    """This is what one receiver heard of one run; all have a value a packet."""

    copies: bytes
    rssi: tuple[int | None, ...]
    queued: frozenset[int]
    """Packets that never left the sender towards it: no losses of the air."""

    @classmethod
    def of(cls, heard: ListenReport, sent: PacketsSent, receiver: str, packets: int) -> RunReception:
        """Raises `NotAnOrderError` where the two reports don't fit the run."""
        levels = struct.unpack(f"{packets}b", unpack(heard.rssi, packets))
        queued = unpack(sent.queued[receiver], packets) if receiver in sent.queued else bytes(packets)
        copies = unpack(heard.copies, packets)
        return cls(
            copies,
            tuple(None if level == NO_RSSI or not copy else level for level, copy in zip(levels, copies, strict=True)),
            frozenset(seq for seq, flag in enumerate(queued) if flag and not copies[seq]),
        )
