"""A system bus of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from own_bus import own_bus


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with own_bus(tmp_path, monkeypatch):
        yield
