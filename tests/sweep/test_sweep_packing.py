from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest
from amounts import part_of
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bt_selfsecure.errors import UsageError
from bt_selfsecure.sweep.gathering import AHEAD, HEARD, MISSED, QUEUED, Gathered, gathered
from bt_selfsecure.sweep.packing import COUNTS, LEVELS, Packed, Reception, digest

WHOLE = st.integers(-128, 126).map(float)
HUNDREDTHS = st.integers(-32768, 32766).map(lambda number: number / 100)
ANY = st.floats(allow_nan=False)


@st.composite
def packets(draw: st.DrawFn) -> list[tuple[int, float | None, int | None]]:
    level = st.none() | draw(st.sampled_from([st.none(), WHOLE, HUNDREDTHS, ANY]))
    count = st.none() | draw(st.sampled_from([st.none(), st.just(1), st.integers(1, 3), st.integers(1, 2**63 - 1)]))
    return draw(st.lists(st.tuples(st.sampled_from([MISSED, HEARD, QUEUED]), level, count), min_size=1, max_size=40))


@given(packets(), st.randoms(use_true_random=False), st.booleans())
@example([(HEARD, -60.0, 1), (HEARD, -60.5, None), (MISSED, 1e300, 300)], Random(1), False)
@settings(max_examples=part_of(200))
def test_packets_come_back_as_they_were_given_whatever_the_order_of_their_rows(
    rows: list[tuple[int, float | None, int | None]], random: Random, shuffled: bool
) -> None:
    one, order = Gathered(), list(range(len(rows)))
    if shuffled:
        random.shuffle(order)
    for seq in order:
        assert one.put(seq, *rows[seq])
    assert not any(one.put(seq, *rows[seq]) for seq in order)
    assert (one.low, one.high, one.rows, one.lacking(range(len(rows)))) == (0, len(rows) - 1, len(rows), len(rows))
    packed = one.packed(range(len(rows)))
    assert list(packed.rows("bob")) == [
        Reception(seq, "bob", fate == HEARD, rssi, int(fate == HEARD) if copies is None else copies, fate == QUEUED)
        for seq, (fate, rssi, copies) in enumerate(rows)
    ]
    assert packed.may_be(packed)


@given(packets(), packets())
def test_rows_that_are_taken_together_are_the_same_as_one_by_one(
    first: list[tuple[int, Any, Any]], then: list[tuple[int, Any, Any]]
) -> None:
    both, together = Gathered(), Gathered()
    for seq, row in enumerate(first + then):
        both.put(seq, *row)
        if seq < len(first):
            together.put(seq, *row)
    levels = [level for _, level, _ in then]
    counts = [int(fate == HEARD) if copies is None else copies for fate, _, copies in then]
    assert together.take(
        len(first), bytes(fate for fate, _, _ in then), written(LEVELS, levels), written(COUNTS, counts)
    )
    assert together.packed(range(len(first + then))) == both.packed(range(len(first + then)))


def written(forms: Any, values: list[Any]) -> tuple[int, bytes]:
    from bt_selfsecure.sweep.packing import Column

    column = Column(forms)
    for value in values:
        number = column.number(value)
        column.numbers.append(number)
    return column.form, column.numbers.tobytes()


def test_one_number_far_ahead_takes_no_memory_for_those_between() -> None:
    many = [Gathered() for _ in range(1000)]
    for one in many:
        assert one.put(0, HEARD, None, None)
        assert one.put(9_999_999, HEARD, -60.0, 2)
        assert not one.put(9_999_999, HEARD, -60.0, 2)
        one.again(9_999_999, -50.0, 1)
        assert len(one._fates) <= AHEAD
    assert many[0].lacking(range(10_000_000)) == 1
    packed = many[0].packed(range(9_999_990, 10_000_000))
    assert (packed.levels()[-1], packed.copies_of_each()[-1], packed.fates()) == (-50.0, 3, bytes(9) + b"\1")


def test_rows_from_the_last_to_the_first_are_the_same_packets() -> None:
    one = Gathered()
    for seq in reversed(range(3 * AHEAD)):
        assert one.put(seq, HEARD if seq % 3 else MISSED, None, None)
    assert one.packed(range(3 * AHEAD)).fates() == bytes(bool(seq % 3) for seq in range(3 * AHEAD))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (Reception(3, "bob", True), "not one of the 3"),
        (Reception(-1, "bob", True), "not one of the 3"),
        (Reception(0, "bob", True), "second time"),
        (Reception(1, "bob", True, None, 0), "0 times"),
        (Reception(1, "bob", False, None, -1), "-1 times"),
        (Reception(1, "bob", True, None, 2**63), "times"),
        (Reception(1, "bob", True, lost_in_queue=True), "heard and lost"),
    ],
)
def test_a_row_that_can_not_be_is_named(row: Reception, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        gathered([Reception(0, "bob", True), row], 3)


@pytest.mark.parametrize(
    "damage",
    [
        {"heard": b""},
        {"heard": b"\x07\x00"},
        {"heard": b"\x08"},  # a bit of a packet that there is not
        {"lost_in_queue": b"\x10"},
        {"rssi": b"no zlib"},
        {"rssi": b"x\x9cKL\x04\x00\x00\x00\x00\x00"},
        {"copies": b""},
    ],
)
def test_what_was_damaged_on_the_disk_is_refused_and_not_believed(damage: dict[str, bytes]) -> None:
    with pytest.raises(UsageError, match="damaged"):
        list(Packed(3, **{"heard": b"\x07", **damage}).rows("bob"))


def test_an_unknown_level_makes_runs_no_others_and_a_known_one_does() -> None:
    def run(*levels: float | None) -> Packed:
        return gathered([Reception(seq, "b", True, level) for seq, level in enumerate(levels)], len(levels))[
            "b"
        ].packed(range(len(levels)))

    assert run(-60, None).may_be(run(None, -70))
    assert run(-60, None).may_be(run(None, None))
    assert not run(-60, None).may_be(run(-60.5, -70))
    assert digest({"b": run(-60)}) == digest({"b": run(None)}) != digest({"c": run(None)})
    assert not math.isnan(run(math.nan, -1).levels()[1] or 0)
