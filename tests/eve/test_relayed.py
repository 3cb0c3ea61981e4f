"""What Eve says of messages that she can read, where they carry something for others."""

from __future__ import annotations

from carriers import vectors

from bt_selfsecure.eve.haoxiao.relayed import in_words
from bt_selfsecure.eve.haoxiao.report import Read
from bt_selfsecure.protocols.haoxiao.frames import Kind, Profile
from bt_selfsecure.protocols.haoxiao.relay_frames import RelayFrame, RelayKind, encode

OCTET = bytes([11 << 2 | 2])


def test_who_talks_with_whom_is_told_and_what_sort_of_frame_it_is() -> None:
    data = bytes.fromhex(vectors("session-hardened")["rounds"][0]["attempts"][0]["wire"])
    assert (data[0] >> 4, data[0] & 15) == (Profile.HARDENED.value, Kind.DATA.value)
    frame = RelayFrame(RelayKind.DATAGRAM, bytes((2, 0, 0, 0, 0, 1)), bytes((2, 0, 0, 0, 0, 3)), 0xA1B2, 4, data)
    words = f"relayed datagram, 02:00:00:00:00:01 to 02:00:00:00:00:03, link 0000a1b2: data, {len(data)} bytes"
    assert in_words(OCTET + encode(frame)) == words
    assert Read("initiator to responder", {7: OCTET + encode(frame)}).told(None)[1] == f"    7  {words}"
    for relayed in vectors("relay")["frames"]:
        assert in_words(OCTET + bytes.fromhex(relayed["wire"])).startswith(f"relayed {relayed['kind'].lower()}, ")


def test_a_message_of_another_port_is_none() -> None:
    assert in_words(b"") == in_words(b"\x02hello") == in_words(OCTET + b"no frame") == ""
