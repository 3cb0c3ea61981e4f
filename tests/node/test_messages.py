"""Messages cut into fragments and joined again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bt_selfsecure.node.errors import MessageTooLongError
from bt_selfsecure.node.message_limits import MAX_MESSAGE_BYTES, MAX_PORT
from bt_selfsecure.node.messages import Fragment, Joiner, parse, split


def joined(joiner: Joiner, rounds: list[bytes]) -> list[tuple[int, bytes]]:
    """What comes out, with its port."""
    messages = []
    for data in rounds:
        fragment = parse(data)
        if fragment is not None and (message := joiner.add(fragment)) is not None:
            messages.append((fragment.port, message))
    return messages


@given(
    st.lists(st.tuples(st.integers(0, MAX_PORT), st.binary(max_size=50))),
    st.integers(2, 60),
)
def test_messages_come_out_as_they_went_in(messages: list[tuple[int, bytes]], size: int) -> None:
    rounds = [fragment for port, message in messages for fragment in split(message, port, size)]
    assert max(map(len, rounds), default=0) <= size
    assert joined(Joiner(), rounds) == messages


@given(st.lists(st.binary(max_size=30), max_size=5), st.integers(2, 20), st.data())
def test_a_receiver_that_begins_in_the_middle_drops_the_rest_of_that_message_only(
    messages: list[bytes], size: int, data: st.DataObject
) -> None:
    rounds = [(i, fragment) for i, message in enumerate(messages) for fragment in split(message, 3, size)]
    first = data.draw(st.integers(0, len(rounds)))
    whole = [i for i, fragment in rounds[first:] if fragment[0] & 2]
    assert joined(Joiner(), [fragment for _, fragment in rounds[first:]]) == [(3, messages[i]) for i in whole]


@given(st.lists(st.binary(max_size=20)))
def test_no_sequence_of_rounds_raises_or_makes_more_than_was_sent(rounds: list[bytes]) -> None:
    joiner = Joiner()
    messages = joined(joiner, rounds)
    assert sum(len(message) for _, message in messages) + sum(map(len, joiner.pieces)) <= sum(map(len, rounds))


def test_the_head_is_port_first_and_more() -> None:
    assert list(split(b"abc", 5, 3)) == [bytes([5 << 2 | 2 | 1]) + b"ab", bytes([5 << 2]) + b"c"]
    assert parse(b"\xff") == Fragment(MAX_PORT, True, True, b"")
    assert parse(b"") is None


def test_an_empty_message_is_one_round() -> None:
    assert joined(Joiner(), list(split(b"", 0, 2))) == [(0, b"")]


def test_a_message_has_at_most_a_mebibyte() -> None:
    longest = bytes(MAX_MESSAGE_BYTES)
    assert joined(Joiner(), list(split(longest, 0, 3800))) == [(0, longest)]
    with pytest.raises(MessageTooLongError, match="1048577"):
        list(split(longest + b"x", 0, 3800))


def test_a_peer_that_sends_longer_ones_loses_them_and_holds_no_more_memory() -> None:
    joiner = Joiner()
    piece = Fragment(0, False, True, bytes(1 << 19))
    joiner.add(piece._replace(first=True))
    for _ in range(5):
        assert joiner.add(piece) is None
        assert sum(map(len, joiner.pieces)) <= MAX_MESSAGE_BYTES
    assert joiner.add(piece._replace(more=False)) is None
    assert joined(joiner, list(split(b"next", 0, 10))) == [(0, b"next")]


def test_a_joiner_goes_on_with_the_pieces_that_were_kept() -> None:
    first, second, third = split(b"abcdef", 0, 3)
    before = Joiner()
    assert joined(before, [first, second]) == []
    assert joined(Joiner(before.pieces), [third]) == [(0, b"abcdef")]
