"""Phones, and two daemons that don't know each other."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "node"))

from browser_phone import chromium, phone  # noqa: F401 - fixtures
from lone_nodes import LoneNodes, lone_nodes


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, loopback_host: str) -> Iterator[LoneNodes]:
    with lone_nodes(tmp_path_factory.mktemp("lone"), loopback_host) as nodes:
        yield nodes


@pytest.fixture
def nodes(running: LoneNodes) -> Iterator[LoneNodes]:
    yield running
    running.forget_all()
