"""A sweep with its page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest
from browser_phone import chromium, phone  # noqa: F401 - fixtures
from phone import WebSweep, four_places


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., WebSweep]]:
    """Start `sweep run --web` with a plan and more options; what was started ends with the test."""
    with ExitStack() as stack:
        yield lambda plan, *words: stack.enter_context(WebSweep(tmp_path, plan, *words))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    """A record with the first of `four_places`."""

    @cache
    def made(state: str) -> bytes:
        text = four_places(state).replace("countdown_s = 600", "countdown_s = 0")
        with WebSweep(tmp_path_factory.mktemp("measured"), text) as sweep:
            sweep.wish("placed")
            sweep.wait("asking", 1.5)
        return sweep.record.read_bytes()

    return lambda state: made("measuring" if state == "measuring" else "")
