"""Phones, and two daemons that don't know each other."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "node"))

from browser_phone import chromium, phone  # noqa: F401 - fixtures
from lone_nodes import LoneNodes

from bt_selfsecure.node.two_nodes import ADDRESSES


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, loopback_host: str) -> Iterator[LoneNodes]:
    nodes = LoneNodes(tmp_path_factory.mktemp("lone"), 0.0, loopback_host)
    try:
        nodes.start(*ADDRESSES)
        yield nodes
    finally:
        nodes.stop()


@pytest.fixture
def nodes(running: LoneNodes) -> Iterator[LoneNodes]:
    yield running
    running.forget_all()
