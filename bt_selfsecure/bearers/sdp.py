"""On which RFCOMM channel does a peer serve us? Asked by SDP (Core Vol 3 Part B), with a client of our own: BlueZ's
D-Bus interface answers only for devices that it has discovered before.

    request   0x06 | transaction (2) | length (2) | search pattern | most bytes (2) | attribute list | continuation
    response  0x07 | transaction (2) | length (2) | count (2) | attribute lists (count bytes) | continuation

PSM 1 needs no pairing.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import uuid
from collections.abc import Iterator
from typing import Any, Final

from bt_selfsecure.bearers.base import BearerError
from bt_selfsecure.bearers.faults import fault

SDP_PSM: Final = 1
SEARCH_S: Final = 30.0
SEARCH_ATTRIBUTE_REQUEST: Final = 0x06
SEARCH_ATTRIBUTE_RESPONSE: Final = 0x07
PROTOCOL_DESCRIPTOR_LIST: Final = 0x0004
RFCOMM_PROTOCOL: Final = b"\0\0\0\3"
BASE_UUID: Final = bytes.fromhex("00001000800000805f9b34fb")  # what follows a short one: Core Vol 3 Part B 2.5.1
MAX_ANSWER_BYTES: Final = 0xFFFF
MAX_RESPONSES: Final = 64
MAX_DEPTH: Final = 8
"""Of nested sequences; records have three or four."""


class SdpError(BearerError):
    """The peer's answer is none of SDP's."""


async def find_rfcomm_channel(own: str, peer: str, service: str) -> int:
    """Return the channel of the service with this UUID; `own` is the address of the adapter that asks. Raises
    `BearerError` where the peer can't be asked or has none."""
    loop = asyncio.get_running_loop()
    kind = socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK
    lists, continuation = b"", b"\0"
    try:
        with socket.socket(socket.AF_BLUETOOTH, kind, socket.BTPROTO_L2CAP) as sock:
            sock.bind((own, 0))
            async with asyncio.timeout(SEARCH_S):
                await loop.sock_connect(sock, (peer, SDP_PSM))
                for transaction in range(MAX_RESPONSES):
                    await loop.sock_sendall(sock, request(transaction, service, continuation))
                    part, continuation = parse_response(await loop.sock_recv(sock, MAX_ANSWER_BYTES), transaction)
                    lists += part
                    if continuation == b"\0" or len(lists) > MAX_ANSWER_BYTES:
                        break
    except OSError as error:  # TimeoutError is one
        raise fault(error, f"{peer} can't be asked for its RFCOMM channel") from error
    channel = rfcomm_channel(lists)
    if channel is None:
        raise BearerError(f"{peer} does not offer bt-selfsecure by RFCOMM: start it there", transient=True)
    return channel


def request(transaction: int, service: str, continuation: bytes) -> bytes:
    """Return a Service Search Attribute request for the protocol descriptors of one service."""
    pattern = b"\x35\x11\x1c" + uuid.UUID(service).bytes  # a sequence of one UUID of 128 bits
    attributes = b"\x35\x03\x09" + PROTOCOL_DESCRIPTOR_LIST.to_bytes(2)  # a sequence of one number of 16 bits
    body = pattern + MAX_ANSWER_BYTES.to_bytes(2) + attributes + continuation
    return struct.pack(">BHH", SEARCH_ATTRIBUTE_REQUEST, transaction, len(body)) + body


def parse_response(packet: bytes, transaction: int) -> tuple[bytes, bytes]:
    """Return attribute lists (or a part of them) and the continuation state, b"\\0" at the end. Raises `SdpError`."""
    if len(packet) < 8:
        raise SdpError("the peer's SDP answer is too short")
    kind, answered, length, count = struct.unpack_from(">BHHH", packet)
    if kind != SEARCH_ATTRIBUTE_RESPONSE or answered != transaction or length != len(packet) - 5:
        raise SdpError("the peer's SDP answer is none to our request")
    lists, continuation = packet[7 : 7 + count], packet[7 + count :]
    if len(lists) != count or not continuation or len(continuation) != 1 + continuation[0]:
        raise SdpError("the peer's SDP answer contradicts itself")
    return lists, continuation


def rfcomm_channel(lists: bytes) -> int | None:
    """Return the RFCOMM channel in the first protocol descriptor that names one; None without. Raises `SdpError`."""
    for element in _elements(lists, 0):
        for descriptor in _sequences(element):
            match descriptor:
                case [bytes() as protocol, int() as channel] if _is_rfcomm(protocol) and 1 <= channel <= 30:
                    return channel
    return None


def _is_rfcomm(protocol: bytes) -> bool:
    whole = protocol if len(protocol) == 16 else protocol.rjust(4, b"\0") + BASE_UUID
    return whole == RFCOMM_PROTOCOL + BASE_UUID


def _sequences(element: Any) -> Iterator[list[Any]]:
    """All sequences in it, outermost first."""
    if isinstance(element, list):
        yield element
        for inner in element:
            yield from _sequences(inner)


def _elements(data: bytes, depth: int) -> Iterator[Any]:
    """Data elements (Core Vol 3 Part B 3.3): a sequence is a list, a number an int, a UUID bytes, all else None."""
    if depth > MAX_DEPTH:
        raise SdpError("the peer's SDP answer is nested too deep")
    while data:
        kind, size = data[0] >> 3, data[0] & 7
        start = 1
        if size < 5:
            length = 0 if kind == 0 else 1 << size
        else:
            start += 1 << (size - 5)
            length = int.from_bytes(data[1:start])
        body = data[start : start + length]
        if len(data) < start or len(body) != length:
            raise SdpError("the peer's SDP answer is cut off")
        match kind:
            case 6 | 7:
                yield list(_elements(body, depth + 1))
            case 1:
                yield int.from_bytes(body)
            case 3:
                yield body
            case _:
                yield None
        data = data[start + length :]
