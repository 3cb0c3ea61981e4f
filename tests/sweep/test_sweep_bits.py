from __future__ import annotations

from collections import Counter
from itertools import groupby, pairwise

from hypothesis import given
from hypothesis import strategies as st

from bt_selfsecure.sweep import bits


def number(flags: list[bool]) -> int:
    return sum(flag << at for at, flag in enumerate(flags))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=300))
def test_successive_packets_are_counted_in_bits_as_one_by_one(fates: list[tuple[bool, bool]]) -> None:
    among, lost = [a for a, _ in fates], [a and lost for a, lost in fates]
    steps = Counter(pairwise(lost for there, lost in zip(among, lost, strict=True) if there))
    wanted = tuple(steps[pair] for pair in ((False, False), (False, True), (True, False), (True, True)))
    assert bits.steps(number(lost), number(among)) == wanted


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 20)), max_size=30))
def test_bursts_are_counted_in_bits_as_one_by_one(parts: list[tuple[bool, int]]) -> None:
    lost = [flag for flag, length in parts for _ in range(length)]
    wanted = Counter(len(list(burst)) for flag, burst in groupby(lost) if flag)
    assert bits.bursts(number(lost)) == (wanted if max(wanted, default=0) <= bits.LONGEST else {})


@given(st.lists(st.sets(st.integers(0, 40)), min_size=1, max_size=5))
def test_sets_of_listeners_are_counted_in_bits_as_one_by_one(heard_by: list[set[int]]) -> None:
    numbers = [sum(1 << seq for seq in heard) for heard in heard_by]
    others = [set().union(*(heard for j, heard in enumerate(heard_by) if j != i)) for i in range(len(heard_by))]
    assert list(bits.alone(numbers, numbers)) == [len(one - rest) for one, rest in zip(heard_by, others, strict=True)]
    for word, together in enumerate(bits.unions(numbers)):
        union = set().union(*(heard for i, heard in enumerate(heard_by) if word >> i & 1))
        assert together == sum(1 << seq for seq in union)
