"""Two joined nodes behind their local API."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback_node import LoopbackNode, Server
from served_pair import ADDRESSES, Pair

from bt_selfsecure.node.client import NodeClient

MEMORY = Path("/dev/shm")


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """In memory, where this computer has room for files there: thousands of commits are waited for in these tests, and
    what one takes on a disk is for benchmarks/."""
    if not os.access(MEMORY, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


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
