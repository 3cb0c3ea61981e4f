"""A phone in a person's hand: Debian's Chromium, headless, on a screen of a size, with a thumb."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import pytest

CHROMIUM = Path("/usr/bin/chromium")
SIZES = [(360, 640), (390, 844), (1280, 800)]
THUMB = 48
"""CSS pixels: what a thumb hits (Material Design: 48, WCAG 2.2 AAA: 44)."""
OUTSIDE = """() => [...document.querySelectorAll("main *, footer *")].filter(e => e.checkVisibility())
  .filter(e => !e.closest(".box > *")).filter(e => { const box = e.getBoundingClientRect();
    return box.right > innerWidth + 1 || box.left < -1 }).map(e => e.outerHTML)"""


class Screen:
    """A page on a screen of a size; what it asks for and complains of is noted."""

    def __init__(self, browser: Any, url: str, size: tuple[int, int], **how: Any) -> None:
        self.width, self.height = size
        self.context = browser.new_context(viewport={"width": self.width, "height": self.height}, **how)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.problems: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(url)


class Phone(Screen):
    """The same, with a thumb."""

    def __init__(self, browser: Any, url: str, size: tuple[int, int], pictures: Path, name: str) -> None:
        small = size[0] < 1000
        super().__init__(browser, url, size, has_touch=True, is_mobile=small, device_scale_factor=2 if small else 1)
        self._pictures, self._name = pictures, f"{re.sub(r'[^a-z0-9]+', '-', name).strip('-')[:80]}-{self.width}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.picture("last")
        self.context.close()

    def picture(self, name: str) -> None:
        """For a person's eye."""
        self._pictures.mkdir(exist_ok=True)
        self.page.screenshot(path=self._pictures / f"{self._name}-{name}.png")

    def says(self, heading: str) -> None:
        """Wait for it."""
        there = "words => document.querySelector('h1').textContent.replaceAll('\\u00a0', ' ').includes(words)"
        self.page.wait_for_function(there, arg=heading)

    def tap(self, button: str) -> None:
        """As soon as it can be tapped."""
        self.page.tap(f"#{button}")

    def blind_taps(self, *buttons: str, gap_s: float) -> float:
        """Tap where the buttons were before the first tap, whatever is there by then. Return the seconds that the taps
        took, which are more than the gaps on a computer that does other things too."""
        self.page.wait_for_function("id => !document.getElementById(id).disabled", arg=buttons[0])
        boxes = [self.page.locator(f"#{button}").bounding_box() for button in buttons]
        began = time.monotonic()
        for number, box in enumerate(boxes):
            time.sleep(gap_s if number else 0)
            self.page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        return time.monotonic() - began

    def text(self, name: str) -> str:
        return str(self.page.inner_text(f"#{name}")).replace("\xa0", " ")

    def assert_all_within_reach(self, *, dialog: bool = False) -> None:
        """No button off the screen or too small for a thumb, and nothing that makes the page wider than it."""
        for control in self.page.locator("dialog button" if dialog else "footer button:not([hidden]), select").all():
            box = control.bounding_box()
            assert box["height"] >= THUMB, control.inner_text()
            assert box["width"] >= THUMB, control.inner_text()
            assert box["x"] >= 0, control.inner_text()
            assert box["x"] + box["width"] <= self.width, control.inner_text()
            assert box["y"] >= (0 if dialog else self.height / 2), control.inner_text()
            assert box["y"] + box["height"] <= self.height, control.inner_text()
            cut = control.evaluate(
                "e => e.tagName === 'BUTTON' && (e.scrollWidth > e.clientWidth || e.scrollHeight > e.clientHeight)"
            )
            assert not cut, control.inner_text()
        assert self.page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [self.width, self.width]
        assert self.page.evaluate(OUTSIDE) == []

    def settle(self) -> None:
        """Until a tap counts again."""
        self.page.wait_for_timeout(1100)


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
