"""A sweep with its page, and phones (Debian's Chromium) to look at it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from phone import Phone, WebSweep, four_places

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., WebSweep]]:
    """Start `sweep run --web` with a plan and more options; what was started ends with the test."""
    with ExitStack() as stack:
        yield lambda plan, *words: stack.enter_context(WebSweep(tmp_path, plan, *words))


@pytest.fixture(scope="module")  # while it is there no test of the process can have an event loop of its own
def chromium() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM}: apt-get install chromium")
    names = "MAP elsewhere.test 127.0.0.1, MAP rebound.test 127.0.0.1"
    with api.sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", f"--host-resolver-rules={names}"]
        )
        yield browser
        browser.close()


@pytest.fixture
def phone(chromium: Any, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Phone]]:
    """Open an address on a screen of width and height. Pictures for a person's eye go to $SCREENSHOTS."""
    pictures = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    with ExitStack() as stack:
        yield lambda url, size=(390, 844): stack.enter_context(Phone(chromium, url, size, pictures, request.node.name))


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
