"""Two joined nodes behind their local API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback_node import LoopbackNode, Server
from served_pair import ADDRESSES, Pair

from bt_selfsecure.node.client import NodeClient


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.close()


@pytest.fixture
def alice() -> LoopbackNode:
    return LoopbackNode("alice", "B8:27:EB:00:00:01")


@pytest.fixture
def bob(alice: LoopbackNode) -> LoopbackNode:
    bob = LoopbackNode("bob", "B8:27:EB:00:00:02")
    alice.join(bob)
    return bob


@pytest.fixture
def at_alice(server: Server, alice: LoopbackNode, bob: LoopbackNode) -> NodeClient:
    return server.serve(alice)


@pytest.fixture
def at_bob(server: Server, bob: LoopbackNode) -> NodeClient:
    return server.serve(bob)


@pytest.fixture
def pair(server: Server) -> Iterator[Pair]:
    pair = Pair(server)
    for name in ADDRESSES:
        pair.start(name)
    yield pair
    for name in list(pair.nodes):
        pair.stop(name)
