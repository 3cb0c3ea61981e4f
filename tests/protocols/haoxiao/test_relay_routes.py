"""Ways found by asking on: in any order of arrival the ends have a link where there is a way, and nowhere else."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping
from itertools import pairwise

from amounts import part_of
from hypothesis import given, settings
from hypothesis import strategies as st
from relay_network import A, B, C, D, E, F, Network, between, identity

from bt_selfsecure.protocols.haoxiao.relay_events import RelayDatagram, RelayDialFailed, RelayLinkUp
from bt_selfsecure.protocols.haoxiao.relay_frames import MAX_HOPS
from bt_selfsecure.protocols.haoxiao.relay_ways import DIAL_S

NODES = (A, B, C, D, E, F, identity(7))
PAIRS = [frozenset((one, other)) for one in NODES for other in NODES if one < other and {one, other} != {A, C}]


def hops(near: Mapping[bytes, set[bytes]]) -> int | None:
    """From A to C; neither of them carries for itself."""
    known, waiting = {A: 0}, deque([A])
    while waiting:
        node = waiting.popleft()
        for other in near[node] - known.keys():
            known[other] = known[node] + 1
            waiting.append(other)
    return known.get(C)


@settings(max_examples=part_of(400), deadline=None)
@given(heard=st.sets(st.sampled_from(PAIRS)), seed=st.integers(0, 1 << 32))
def test_a_link_comes_about_where_there_is_a_way_of_four_hops_at_most_and_nowhere_else(
    heard: set[frozenset[bytes]], seed: int
) -> None:
    near = {node: {other for other in NODES if frozenset((node, other)) in heard} for node in NODES}
    network, order, steps = Network(near, between(A, C), seed=seed), random.Random(seed), 0
    number = network.dial(A, C)
    while network.busy:
        network.step(order.randrange(1 << 30))
        steps += 1
    assert steps <= 2 * MAX_HOPS + 4 * sum(map(len, near.values())), "it goes round"
    distance = hops(near)
    events = network.take(A)
    if distance is None or distance > MAX_HOPS:
        network.pass_time(DIAL_S + 1)
        events += network.take(A)
        assert [type(event) for event in events] == [RelayDialFailed]
        assert network.take(C) == []
        return
    ((up,), (there,)) = events, network.take(C)
    assert isinstance(up, RelayLinkUp)
    way = (A, *up.path, C)
    assert len(set(way)) == len(way) <= MAX_HOPS + 1
    assert all(other in near[node] for node, other in pairwise(way))
    assert there.path == tuple(reversed(up.path))
    network.send(A, C, number, b"there")
    network.run()
    assert network.take(C) == [RelayDatagram(number, A, b"there")]
