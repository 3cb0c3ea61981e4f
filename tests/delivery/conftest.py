"""Two real daemons on this computer, connected, for all tests of a file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "node"))

from two_daemons import QuickNodes, start

from bt_selfsecure.node.two_nodes import TwoNodes


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory, loopback_host: str) -> Iterator[TwoNodes]:
    nodes = QuickNodes(tmp_path_factory.mktemp("nodes"), 0.05, loopback_host, (5700, 5701))
    try:
        start(nodes)
        yield nodes
    finally:
        nodes.stop()
