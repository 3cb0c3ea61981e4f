"""Waits between two tries: their bounds, their growth, and their end."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from bt_selfsecure.sansio.back_off import BackOff, doubled


@given(st.floats(0.01, 10), st.floats(10, 1e4), st.integers(0, 10_000))
def test_the_longest_wait_doubles_from_the_first_and_never_passes_the_last(
    first: float, last: float, failures: int
) -> None:
    assert doubled(first, last, 0) == first
    assert first <= doubled(first, last, failures) <= last
    assert doubled(first, last, failures + 1) in (2 * doubled(first, last, failures), last)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0, 1e6))
def test_a_wait_is_at_least_the_first_at_most_the_last_and_ends_with_a_success(
    jitters: list[float], now: float
) -> None:
    back_off = BackOff(2.0, 60.0)
    assert back_off.until == 0.0
    for number, jitter in enumerate(jitters, 1):
        back_off.failed(now, jitter)
        assert now + 2.0 <= back_off.until <= now + min(60.0, 2.0 * 2**number) + 1e-6
    assert back_off.failures == len(jitters)
    back_off.reset()
    assert (back_off.until, back_off.failures) == (0.0, 0)


def test_with_the_longest_jitter_each_wait_is_twice_the_one_before_until_the_last() -> None:
    back_off = BackOff()
    waits = []
    for _ in range(8):
        back_off.failed(0.0, 1.0)
        waits.append(back_off.until)
    assert all(later == min(60.0, 2 * earlier) for earlier, later in pairwise(waits))
