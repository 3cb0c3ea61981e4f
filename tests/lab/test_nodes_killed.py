"""Two real nodes on virtual Pis that are never left alone: fifty killed daemons, ten pulled plugs."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from lab_nodes import Nodes
from running_lab import RunningLab
from test_nodes import transfer_with

pytestmark = [pytest.mark.lab, pytest.mark.long]


@pytest.fixture
def nodes(lab_of: Callable[..., RunningLab]) -> Nodes:
    return Nodes(lab_of("alice", "bob"))


@pytest.mark.parametrize(("kind", "count", "seed"), [("kill", 50, 51), ("power", 10, 11)])
def test_fifty_killed_daemons_and_ten_pulled_plugs_lose_nothing(nodes: Nodes, kind: str, count: int, seed: int) -> None:
    nodes.lab.set_loss(alice=0.05, bob=0.05)
    nodes.begin()
    nodes.wait_connected()
    draw = random.Random(seed)
    transfer_with(nodes, [(kind, draw.choice(("alice", "bob"))) for _ in range(count)], seed)
