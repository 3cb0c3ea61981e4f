"""Whatever comes from the air: nothing raises, nothing grows, and what is refused leaves the state as it was."""

from __future__ import annotations

import random

import pytest
from fuzzing import mutated, weight
from hypothesis import given
from hypothesis import strategies as st
from pairing_ends import Channel, events, initiator, read, responder

from bt_selfsecure.protocols.pairing import limits
from bt_selfsecure.protocols.pairing.codes import Way
from bt_selfsecure.protocols.pairing.end import PairingEnd, PairingState
from bt_selfsecure.protocols.pairing.events import Keyed, Paired
from bt_selfsecure.protocols.pairing.frames import FrameError, decode, encode, is_pairing

TURNS = [3000, pytest.param(90_000, marks=pytest.mark.long)]
"""Of each of twelve: the second is a million in all."""


@given(st.binary(max_size=200))
def test_any_bytes_are_a_frame_that_encodes_back_or_none(data: bytes) -> None:
    for octets in (data, bytes([0xF0 | len(data) % 6]) + data):
        try:
            frame = decode(octets)
        except FrameError:
            continue
        assert encode(frame) == octets
        assert is_pairing(octets)


@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize("way", Way)
@pytest.mark.parametrize("which", ["initiator", "responder", "keyed initiator", "keyed responder"])
def test_changed_frames_raise_nothing_make_no_key_and_fill_no_memory(way: Way, which: str, turns: int) -> None:
    rng = random.Random(f"{way} {which}")
    bob = responder(way)
    alice = initiator(read(bob))
    alice.start(0.0)
    channel = Channel(alice, bob)
    channel.step()
    said = channel.said
    end: PairingEnd = alice if "initiator" in which else bob
    if "keyed" not in which:
        end = initiator(read(bob), name="other") if "initiator" in which else responder(way, name="other")
        if which == "initiator":
            end.start(0.0)  # type: ignore[attr-defined]
    light = weight(end)
    for turn in range(turns):
        end.receive_frame(mutated(rng.choice(said), rng, lambda octet: 0xF0 | rng.randrange(6)), 1.0)
        if turn % 5 == 0:
            end.frames_to_send(1.0)
    told = events(end)
    assert not [event for event in told if isinstance(event, Paired)]
    assert len([event for event in told if isinstance(event, Keyed)]) == 0
    assert weight(end) < light + 200 * limits.MOST_RUNS + 4000
    assert end.state in (
        PairingState.ASKING,
        PairingState.OVER,
        PairingState.WAITING,
        PairingState.LOCKED,
        PairingState.KEYED,
    )
