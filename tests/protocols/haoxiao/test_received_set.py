"""Cpr_s: each set has one encoding, and nothing else is accepted."""

from __future__ import annotations

import doctest
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bt_selfsecure.errors import LocalError
from bt_selfsecure.protocols.haoxiao import received_set
from bt_selfsecure.protocols.haoxiao.received_set import ReceivedSetError, decode_received_set, encode_received_set

COUNTS = st.integers(0, 3000)


@st.composite
def sets_and_counts(draw: st.DrawFn) -> tuple[set[int], int]:
    count = draw(COUNTS)
    if not count:
        return set(), 0
    if draw(st.booleans()):
        return draw(st.sets(st.integers(0, count - 1), max_size=40)), count
    missed = draw(st.sets(st.integers(0, count - 1), max_size=40))
    return set(range(count)) - missed, count


def test_the_examples_of_the_docstrings_are_byte_exact() -> None:
    results = doctest.testmod(received_set)
    assert results.attempted >= 4
    assert results.failed == 0


@pytest.mark.parametrize(
    ("seqs", "count", "data"),
    [
        ([], 0, "00"),
        ([0], 1, "0000"),
        ([63], 64, "007e"),
        ([64], 65, "008001"),
        ([0, 200], 400, "00009003"),
        ([7], 8, "000e"),
        ([0, 7], 8, "0181"),
        (range(16), 16, "01ffff"),
        ([0, 1, 2, 3, 4, 5, 6, 4000], 4001, "0000020202020202b43e"),
        ([2**32 - 1], 2**32, "00feffffff1f"),
    ],
)
def test_golden_encodings(seqs: list[int], count: int, data: str) -> None:
    assert encode_received_set(seqs, count).hex() == data
    assert decode_received_set(bytes.fromhex(data), count) == tuple(seqs)


@given(sets_and_counts())
def test_what_was_encoded_is_decoded_in_ascending_order(case: tuple[set[int], int]) -> None:
    seqs, count = case
    data = encode_received_set(seqs, count)
    assert decode_received_set(data, count) == tuple(sorted(seqs))
    assert len(data) <= 1 + (count + 7) // 8, "never longer than the bitmap of the whole burst"


@given(sets_and_counts())
def test_the_encoding_does_not_depend_on_the_length_of_the_burst(case: tuple[set[int], int]) -> None:
    seqs, count = case
    assert encode_received_set(seqs, count) == encode_received_set(seqs, count + 1000)


@given(st.binary(max_size=80), st.integers(0, 700))
def test_any_bytes_are_one_set_or_refused(data: bytes, limit: int) -> None:
    try:
        seqs = decode_received_set(data, limit)
    except ReceivedSetError:
        return
    assert list(seqs) == sorted(set(seqs))
    assert all(0 <= seq < limit for seq in seqs)
    assert encode_received_set(seqs, limit) == data


@given(sets_and_counts(), st.data())
def test_a_damaged_encoding_is_another_set_or_refused(case: tuple[set[int], int], data: st.DataObject) -> None:
    seqs, count = case
    encoded = bytearray(encode_received_set(seqs, count))
    where = data.draw(st.integers(0, len(encoded) - 1))
    encoded[where] ^= data.draw(st.integers(1, 255))
    with suppress(ReceivedSetError):
        assert set(decode_received_set(bytes(encoded), count)) != seqs


@pytest.mark.parametrize(
    ("data", "limit", "fault"),
    [
        ("", 400, "0 octets"),
        ("02", 400, "unknown form"),
        ("81ff", 400, "unknown form"),
        ("0001", 400, "ascend"),
        ("000200", 400, "ascend"),
        ("000401", 400, "ascend"),
        ("0090", 400, "cut off"),
        ("009080808080", 400, "five octets"),
        ("00a006", 400, "400 of a burst of 400"),
        ("0104", 2, "2 of a burst of 2"),
        ("018000", 400, "shortest"),
        ("0120", 400, "shortest"),
        ("00020202", 400, "shortest"),
        ("008000", 400, "shortest"),
        ("01", 400, "shortest"),
        ("01" + "ff" * 51, 400, "52 octets"),
        ("0000", 0, "2 octets"),
    ],
)
def test_what_is_not_an_encoding_is_refused_with_its_fault(data: str, limit: int, fault: str) -> None:
    with pytest.raises(ReceivedSetError, match=fault):
        decode_received_set(bytes.fromhex(data), limit)


@pytest.mark.parametrize(("seqs", "count"), [([400], 400), ([-1], 400), ([0], 0), ([], 2**32 + 1)])
def test_a_set_outside_its_burst_is_not_encoded(seqs: list[int], count: int) -> None:
    with pytest.raises(LocalError, match=r"inside|packets"):
        encode_received_set(seqs, count)
