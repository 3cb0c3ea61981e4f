"""The list of a part: what proves itself is taken, in any order, and nothing else that anybody sends."""

from __future__ import annotations

from random import Random

import pytest
from amounts import part_of
from harness import cast, chaos
from hypothesis import given, settings
from hypothesis import strategies as st

from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.burst_list import ListReader, digest, list_of
from bt_selfsecure.protocols.haoxiao.establish import Timers
from bt_selfsecure.protocols.haoxiao.events import EstablishFailed
from bt_selfsecure.protocols.haoxiao.received_burst import CommittedBurst

FIRST = 1000


def drawn(count: int, seed: int = 1) -> list[bytes]:
    draw = Random(seed)
    return [draw.randbytes(16) for _ in range(count)]


@pytest.mark.parametrize("count", [1, 2, 59, 60, 61, 120, 121, 1777])
def test_a_list_is_read_in_any_order_and_repeated_as_often_as_need_be(count: int) -> None:
    messages = drawn(count)
    commitment, pieces = list_of(messages)
    assert len(pieces) == -(-count // limits.LIST_DIGESTS)
    assert max(map(len, pieces)) <= 1032
    reader, order = ListReader(commitment, FIRST, count), list(enumerate(pieces))
    Random(count).shuffle(order)
    for place, piece in order:
        assert not reader.complete
        assert reader.take(FIRST + place * limits.LIST_DIGESTS, piece)
    assert reader.complete
    assert reader.digests == [digest(message) for message in messages]
    assert not reader.take(FIRST, pieces[0])


@settings(max_examples=part_of(200))
@given(st.data())
def test_what_anybody_sends_proves_nothing(data: st.DataObject) -> None:
    count = data.draw(st.sampled_from([1, 3, 60, 61, 200]))
    messages = drawn(count)
    commitment, pieces = list_of(messages)
    reader = ListReader(commitment, FIRST, count)
    true = [digest(message) for message in messages]
    for _ in range(data.draw(st.integers(0, 12))):
        place = data.draw(st.integers(0, len(pieces)))
        piece = pieces[min(place, len(pieces) - 1)]
        match data.draw(st.integers(0, 4)):
            case 0:
                piece = data.draw(st.binary(max_size=1100))
            case 1:
                piece = bytes(len(piece))
            case 2:
                at = data.draw(st.integers(0, len(piece) - 1))
                piece = piece[:at] + bytes([piece[at] ^ 1]) + piece[at + 1 :]
            case 3:
                piece = pieces[data.draw(st.integers(0, len(pieces) - 1))]
        reader.take(FIRST + place * limits.LIST_DIGESTS + data.draw(st.sampled_from([0, 0, 0, 1, -1])), piece)
        assert reader.digests == true[: len(reader.digests)]
        assert len(reader._early) <= len(pieces)
    for _ in pieces:  # and nothing that came before keeps the true list out
        for place, piece in enumerate(pieces):
            reader.take(FIRST + place * limits.LIST_DIGESTS, piece)
    assert reader.digests == true


@settings(max_examples=part_of(100))
@given(st.data())
def test_s_is_made_of_the_true_packets_alone_whatever_else_comes_when(data: st.DataObject) -> None:
    """Before the list and after it; of a Seq at most `MAX_COPIES` differing packets wait."""
    messages, forged = drawn(8), drawn(200, seed=2)
    commitment, pieces = list_of(messages)
    burst, came, listed = CommittedBurst(), set[int](), False
    burst.begin(commitment, 0, 8)
    for _ in range(data.draw(st.integers(0, 60))):
        seq = data.draw(st.integers(0, 7))
        match data.draw(st.integers(0, 8)):
            case 0 if not listed:
                listed = burst.add_list(0, pieces[0])
            case 1 | 2 | 3:
                burst.add(seq, messages[seq])
                came |= {seq} if listed or messages[seq] in burst._copies[seq] else set()
            case _:
                burst.add(seq, data.draw(st.sampled_from(forged)))
        assert all(len(copies) <= limits.MAX_COPIES for copies in burst._copies.values())
    burst.add_list(0, pieces[0])
    assert burst.is_proved
    assert burst.kept == {seq: messages[seq] for seq in came}


@pytest.mark.parametrize("count", [500, 1600])
def test_the_list_of_a_long_part_comes_over_a_link_that_loses_a_tenth(count: int) -> None:
    """Every piece must: the more there are, the oftener all are sent."""
    failed: list[EstablishFailed] = []
    for seed in range(20):
        air = chaos(Random(seed), loss=0.1, double=0, late=0, damage=0)
        scene = cast(burst=count, interval=0.002, timers=Timers(), seed=seed + 1, channel=air)
        scene.world.run()
        failed += scene.world.events(EstablishFailed, "alice")
    assert failed == []
