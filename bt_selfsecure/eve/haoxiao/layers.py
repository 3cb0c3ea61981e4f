"""Our frames as a scapy layer, `BTSS`: to take apart, and to build any, right or wrong.

    >>> from bt_selfsecure.eve.haoxiao.layers import BTSS, BTSS_Response
    >>> BTSS(kind="rand", seq=7, rand=b"session.", message=bytes(32))
    >>> BTSS(datagram.data).show()        # what bt_selfsecure.eve.reading.Reader found

Importing this binds it: to link type USER0, to manufacturer data of company 0xffff, and behind `BTSS_IPSP` to UDP port
5700. It takes scapy, which the extra `eve` brings, and which takes seconds to import on a Pi. The wire is
described in docs/protocols/haoxiao.md; tests/protocols/haoxiao/vectors hold this layer, the dissector and
`protocols.haoxiao.frames` to the same bytes.

What is None is filled in: `len`, and `mac` where it is the unkeyed hash of [3]. Keyed HMACs are not. Request and accept
of `paper` are padded by OAEP: their fields are in `padded`, and `core.frames.decode` tells them.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

try:
    from scapy.config import conf
    from scapy.fields import (
        BitEnumField,
        BitField,
        BitFieldLenField,
        ByteEnumField,
        ByteField,
        ConditionalField,
        Field,
        FieldListField,
        FlagsField,
        IntField,
        LongField,
        MACField,
        MultipleTypeField,
        PacketLenField,
        ShortField,
        StrField,
        StrFixedLenField,
        StrLenField,
        XIntField,
    )
    from scapy.layers.bluetooth import EIR_Manufacturer_Specific_Data
    from scapy.layers.inet import UDP
    from scapy.packet import Packet, Raw, bind_layers
except ImportError as fault:
    from bt_selfsecure.errors import UsageError

    raise UsageError("the scapy layer needs scapy: install it with pip install 'bt-selfsecure[eve]'") from fault

from bt_selfsecure.air.capture import LINKTYPE_USER0
from bt_selfsecure.bearers.ipsp import PORT
from bt_selfsecure.bearers.limits import COMPANY_ID
from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.frames import Kind, Profile, mac_bytes
from bt_selfsecure.protocols.haoxiao.relay_frames import MAX_HOPS, RELAY_PORT, RelayFault, RelayKind
from bt_selfsecure.protocols.haoxiao.relay_frames import VERSION as RELAY_VERSION

VERSIONS: Final = {profile.value: profile.label for profile in Profile}
KINDS: Final = {kind.value: kind.name.lower() for kind in Kind}
UNKEYED: Final = (Kind.REQUEST, Kind.ACCEPT, Kind.RAND, Kind.RAND_COMPACT, Kind.RAND_LIST)
FLAGS: Final = ["compact", "shares", "authentication", "continuity", "continuity2"]
SHARES: Final = 2
NAMES: Final = (8, 16)
KEY_ID_BYTES, KEY_MAC_BYTES, SHARE_BYTES, ACK_BYTES, PAPER_ACK_BYTES = 8, 16, 32, 16, 32
_RAND_BYTES: Final = {
    Kind.RAND: 8,
    Kind.RAND_COMPACT: 2,
    Kind.END: 0,
    Kind.RAND_LIST: 8,
    Kind.DATA: 0,
    Kind.DATA_ACK: 0,
    Kind.GROUP_FRAGMENT: 1,
}


class _Message(Packet):
    """What a frame of one kind carries. What is left over is shown as it is."""

    def _paper(self) -> bool:
        return self.parent is not None and self.parent.version == Profile.PAPER


def _hardened(field: Field[Any, Any]) -> ConditionalField:
    return ConditionalField(field, lambda packet: not packet._paper())


def _share() -> ConditionalField:
    field: StrFixedLenField = StrFixedLenField("share", bytes(SHARE_BYTES), SHARE_BYTES)
    return ConditionalField(field, lambda packet: not packet._paper() and packet.flags.value & SHARES != 0)


def _of(kind: RelayKind, field: Field[Any, Any]) -> ConditionalField:
    return ConditionalField(field, lambda packet: packet.kind == kind)


def _names() -> StrLenField:
    def size(packet: Packet) -> int:
        flags = 0 if packet._paper() else packet.flags.value
        return limits.CONTINUITY_NAME_BYTES * sum(bool(flags & flag) for flag in NAMES)

    return StrLenField("continuity", b"", length_from=size)


def _keys(before: int) -> list[Any]:
    """Names and HMACs of as many keys as there is room for, behind so many bytes."""

    def count(packet: Packet) -> int:
        whole = len(packet.original) - before
        return whole // (KEY_ID_BYTES + KEY_MAC_BYTES)

    return [
        StrLenField("ids", b"", length_from=lambda packet: KEY_ID_BYTES * count(packet)),
        StrLenField("macs", b"", length_from=lambda packet: KEY_MAC_BYTES * count(packet)),
    ]


class BTSS_Request(_Message):  # noqa: N801 - scapy's way to name a layer of a family
    """Is the initiator's offer. In `paper` it is inside `padded`."""

    name = "bt_selfsecure request"
    fields_desc = [  # noqa: RUF012
        MACField("identity", "00:00:00:00:00:00"),
        _hardened(FlagsField("flags", 0, 8, FLAGS)),
        _hardened(ShortField("burst", 1)),
        _hardened(IntField("t1", 1)),
        _hardened(StrFixedLenField("commitment", bytes(32), 32)),
        _hardened(StrFixedLenField("part", bytes(32), 32)),
        _share(),
        _names(),
    ]


class BTSS_Accept(_Message):  # noqa: N801
    """Is the responder's offer. In `paper` it is inside `padded`."""

    name = "bt_selfsecure accept"
    fields_desc = [  # noqa: RUF012
        StrFixedLenField("session", bytes(8), 8),
        MACField("identity", "00:00:00:00:00:00"),
        _hardened(FlagsField("flags", 0, 8, FLAGS)),
        _share(),
        _names(),
    ]


class BTSS_Response(_Message):  # noqa: N801
    """Carries S, compressed."""

    name = "bt_selfsecure response"
    fields_desc = [StrFixedLenField("pair", bytes(8), 8), StrField("cpr", b"\0")]  # noqa: RUF012


class BTSS_Acknowledge(_Message):  # noqa: N801
    """RandData is the frame's Rand. One that opens a part of the burst commits to it."""

    name = "bt_selfsecure acknowledge"
    fields_desc = [StrFixedLenField("pair", bytes(8), 8), StrField("part", b"")]  # noqa: RUF012


class BTSS_End(_Message):  # noqa: N801
    """Opens what the response committed to."""

    name = "bt_selfsecure end"
    fields_desc = [StrFixedLenField("pair", bytes(8), 8), StrFixedLenField("nonce", bytes(16), 16)]  # noqa: RUF012


class BTSS_Ack(_Message):  # noqa: N801
    """Carries [13], and in `paper` alpha_r."""

    name = "bt_selfsecure ack"
    fields_desc = [  # noqa: RUF012
        StrLenField("ack", b"", length_from=lambda packet: PAPER_ACK_BYTES if packet._paper() else ACK_BYTES),
        ConditionalField(ShortField("alpha", 0), lambda packet: packet._paper()),
    ]


class BTSS_Call(_Message):  # noqa: N801
    """Names the keys that the receiver has."""

    name = "bt_selfsecure resync call"
    fields_desc = _keys(0)


class BTSS_ResyncRequest(_Message):  # noqa: N801
    """Names what the sender can send again, and the keys that it has."""

    name = "bt_selfsecure resync request"
    fields_desc = [  # noqa: RUF012
        ShortField("following", 0),
        BitField("round", 0, 48),
        StrFixedLenField("answers_call", bytes(16), 16),
        *_keys(24),
    ]


class BTSS_ResyncResponse(_Message):  # noqa: N801
    """Names the common key, and where to go on."""

    name = "bt_selfsecure resync response"
    fields_desc = [  # noqa: RUF012
        StrFixedLenField("answers_request", bytes(16), 16),
        StrFixedLenField("key_id", bytes(8), 8),
        LongField("round", 0),
    ]


class BTSS_Relay(Packet):  # noqa: N801
    """Is what nodes carry for each other, in a session's message to port 11: see docs/protocols/relay.md. Give it what
    was decrypted: the node's octet is first."""

    name = "bt_selfsecure, relayed"
    fields_desc = [  # noqa: RUF012
        BitField("port", RELAY_PORT, 6),
        BitField("first", 1, 1),
        BitField("more", 0, 1),
        BitField("version", RELAY_VERSION, 4),
        BitField("ttl", MAX_HOPS, 4),
        ByteEnumField("kind", RelayKind.DATAGRAM, {kind.value: kind.name.lower() for kind in RelayKind}),
        MACField("source", "00:00:00:00:00:00"),
        MACField("destination", "00:00:00:00:00:00"),
        XIntField("link", 0),
        _of(RelayKind.REPLY, ByteEnumField("open", 1, {0: "a share is awaited", 1: "yes"})),
        _of(RelayKind.ERROR, ByteEnumField("why", 0, {fault.value: fault.name.lower() for fault in RelayFault})),
        _of(RelayKind.ERROR, MACField("by", "00:00:00:00:00:00")),
        _of(RelayKind.SHARE, ByteField("second", 0)),
        _of(RelayKind.SHARE, XIntField("other", 0)),
        _of(RelayKind.SHARE, StrFixedLenField("share", bytes(SHARE_BYTES), SHARE_BYTES)),
        ConditionalField(
            FieldListField("via", [], MACField("", "00:00:00:00:00:00")),
            lambda packet: packet.kind in (RelayKind.REQUEST, RelayKind.REPLY),
        ),
    ]

    def mysummary(self) -> str:
        return self.sprintf("relayed %BTSS_Relay.kind%, %BTSS_Relay.source% to %BTSS_Relay.destination%")


MESSAGES: Final[dict[int, type[_Message]]] = {
    Kind.REQUEST: BTSS_Request,
    Kind.ACCEPT: BTSS_Accept,
    Kind.RESPONSE: BTSS_Response,
    Kind.ACKNOWLEDGE: BTSS_Acknowledge,
    Kind.END: BTSS_End,
    Kind.DATA_ACK: BTSS_Ack,
    Kind.RESYNC_CALL: BTSS_Call,
    Kind.RESYNC_REQUEST: BTSS_ResyncRequest,
    Kind.RESYNC_RESPONSE: BTSS_ResyncResponse,
}
"""By kind; burst packets and data carry bytes."""


def _compact(packet: Packet) -> bool:
    return bool(packet.kind == Kind.RAND_COMPACT)


def _short(packet: Packet) -> bool:
    """Neither Retran nor Len."""
    return _compact(packet) or bool(packet.kind == Kind.GROUP_FRAGMENT)


def _message_bytes(packet: Packet) -> int:
    if packet.kind == Kind.GROUP_FRAGMENT:
        return limits.FRAGMENT_BYTES
    return limits.COMPACT_MESSAGE_BYTES if _compact(packet) else int(packet.len)


def _padded(packet: Packet) -> bool:
    return bool(packet.version == Profile.PAPER and packet.kind in (Kind.REQUEST, Kind.ACCEPT))


def _hash_bytes(packet: Packet) -> int:
    try:
        return mac_bytes(Profile(packet.version), Kind(packet.kind))
    except ValueError:
        return 0


class _MessageField(PacketLenField):
    """Bytes as `Raw`, and the messages of `MESSAGES` taken apart."""

    def m2i(self, pkt: Packet | None, m: bytes) -> Packet:
        assert pkt is not None
        return MESSAGES.get(pkt.kind, Raw)(m, _parent=pkt)


class _AllButHash(StrField):
    """All that stands before the unkeyed hash."""

    def getfield(self, pkt: Packet, s: bytes) -> tuple[bytes, bytes]:
        end = max(0, len(s) - _hash_bytes(pkt))
        return s[end:], s[:end]


class BTSS(Packet):
    """Is one frame."""

    name = "bt_selfsecure"
    fields_desc = [  # noqa: RUF012
        BitEnumField("version", Profile.HARDENED, 4, VERSIONS),
        BitEnumField("kind", Kind.RAND, 4, KINDS),
        ConditionalField(BitField("retran", 0, 4), lambda packet: not _short(packet)),
        ConditionalField(BitFieldLenField("len", None, 12, length_of="message"), lambda packet: not _short(packet)),
        MultipleTypeField([(ByteField("seq", 0), lambda packet: packet.kind >> 3 == 1)], ShortField("seq", 0)),
        ConditionalField(_AllButHash("padded", b""), _padded),
        ConditionalField(
            StrLenField("rand", b"", length_from=lambda packet: _RAND_BYTES.get(packet.kind, limits.NONCE_BYTES)),
            lambda packet: not _padded(packet),
        ),
        ConditionalField(
            _MessageField(
                "message",
                Raw(),
                Raw,
                length_from=_message_bytes,
            ),
            lambda packet: not _padded(packet),
        ),
        StrField("mac", None),
    ]

    def post_build(self, pkt: bytes, pay: bytes) -> bytes:
        if self.mac is None and self.kind in UNKEYED:
            pkt += hashlib.sha256(pkt).digest()[: _hash_bytes(self)]
        return pkt + pay

    def hash_ok(self) -> bool | None:
        """Return whether the unkeyed hash of [3] is right; None for kinds that have none."""
        if self.kind not in UNKEYED:
            return None
        whole = bytes(self)
        end = len(whole) - _hash_bytes(self)
        return hashlib.sha256(whole[:end]).digest().startswith(whole[end:])

    def piece(self) -> tuple[int, int] | None:
        """Return which piece of a group's broadcast this is, and of how many with data; the one behind them is the
        parity. None for another kind."""
        return (self.rand[0] >> 4, self.rand[0] & 15) if self.kind == Kind.GROUP_FRAGMENT and self.rand else None

    def mysummary(self) -> str:
        text = self.sprintf("BTSS %BTSS.kind% (%BTSS.version%) Seq=%BTSS.seq%")
        piece = self.piece()
        return f"{text} {piece[0] + 1} of {piece[1]}" if piece else text


class BTSS_IPSP(Packet):  # noqa: N801
    """Is what stands before a datagram on `ipsp`: see bearers/ipsp.py."""

    name = "bt_selfsecure over IPSP"
    fields_desc = [  # noqa: RUF012
        ByteEnumField("type", 3, {1: "hello", 2: "welcome", 3: "data", 4: "end"}),
        XIntField("link", 0),
    ]


conf.l2types.register(LINKTYPE_USER0, BTSS)
bind_layers(EIR_Manufacturer_Specific_Data, BTSS, company_identifier=COMPANY_ID)
bind_layers(UDP, BTSS_IPSP, sport=PORT, dport=PORT)
bind_layers(BTSS_IPSP, BTSS, type=3)
bind_layers(BTSS_Relay, BTSS, kind=RelayKind.DATAGRAM)
