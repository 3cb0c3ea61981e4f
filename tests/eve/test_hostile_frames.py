"""Whatever comes from the air or from a file raises nothing in Eve: she too reads what strangers wrote."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from amounts import part_of
from carriers import wires
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_verdict import judged

from bt_selfsecure.bench.haoxiao.testbed import Testbed
from bt_selfsecure.errors import LocalError, UsageError
from bt_selfsecure.eve.haoxiao.attacks.middle import ManInTheMiddle
from bt_selfsecure.eve.haoxiao.attacks.replay import Reflection, Replay
from bt_selfsecure.eve.haoxiao.attacks.steering import BlacklistSteering
from bt_selfsecure.eve.haoxiao.attacks.theft import StolenRecord
from bt_selfsecure.eve.haoxiao.format import HAOXIAO
from bt_selfsecure.eve.reading import damaged
from bt_selfsecure.eve.sources.packet import CapturedPacket, Direction
from bt_selfsecure.protocols.haoxiao.frames import FrameError, Profile, decode, encode

RECORD = (Path(__file__).parents[2] / "captures/theft-hardened.record.json").read_text()
Ear = Callable[[bytes], object]


def establishment(profile: Profile) -> list[bytes]:
    frames: list[bytes] = []
    scene = Testbed(profile, 1, burst=8, tap=lambda time, data: frames.append(data), shares=profile is Profile.HARDENED)
    scene.establish()
    return frames


FRAMES = [*establishment(Profile.PAPER), *establishment(Profile.HARDENED), *wires()]


def changed(draw: Random) -> bytes:
    """A frame, another profile's in its place, with fields that do not fit, or with bits flipped."""
    data = draw.choice(FRAMES)
    try:
        frame = decode(data)
        if draw.random() < 0.3:
            frame = dataclasses.replace(frame, profile=draw.choice(list(Profile)), mac=b"")
        if draw.random() < 0.3:
            frame = dataclasses.replace(frame, message=frame.message[: draw.randrange(len(frame.message) + 1)])
        if draw.random() < 0.3:
            frame = dataclasses.replace(frame, seq=draw.randrange(256))
        return encode(frame, seed=bytes(32))
    except (LocalError, FrameError):
        octets = bytearray(data)
        octets[draw.randrange(len(octets))] ^= 1 << draw.randrange(8)
        return bytes(octets)


@settings(max_examples=12)
@given(st.integers(0, 2**32))
@example(1_640_417_947)  # one Seq in both forms of a burst packet
def test_frames_in_any_order_of_any_profile_with_any_fields_raise_nothing(seed: int) -> None:
    draw = Random(seed)
    frames = [changed(draw) if draw.random() < 0.3 else draw.choice(FRAMES) for _ in range(60)]
    replay, record = Replay(), StolenRecord.parse(RECORD)
    ears: list[Ear] = [ManInTheMiddle(draw.randbytes).hear, Reflection().hear, BlacklistSteering(draw.randbytes).hear]
    for data in frames:
        replay.record(data)
    for data in frames:
        for hear in (*ears, replay.hear):
            hear(data)
    judged([(0.0, data) for data in frames], stolen=[record], work=50)


@given(st.binary(max_size=80), st.sampled_from([192, 251, 256, 272, 147]))
def test_any_packet_may_be_damaged(packet: bytes, linktype: int) -> None:
    found = damaged(CapturedPacket(0.0, None, None, packet, False, linktype, Direction.UNKNOWN), HAOXIAO.advertised)
    assert found is None or len(found) == 24


@settings(max_examples=part_of(40))
@given(st.data())
def test_any_record_is_read_or_refused_in_one_line(data: st.DataObject) -> None:
    record = json.loads(RECORD)
    table = data.draw(st.sampled_from([record, record["sending"], record["receiving"]]))
    key = data.draw(st.sampled_from(sorted(table)))
    table[key] = data.draw(st.sampled_from([None, -1, "zz", "00", [], {}, [1], True, 2**70]))
    said = ""
    try:
        StolenRecord.parse(json.dumps(record))
    except UsageError as refused:
        said = str(refused)
    assert "\n" not in said


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "\xff"])
def test_what_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no session record of version 1 to 2"):
        StolenRecord.parse(text.encode("latin-1"))
