"""The page on the phone, in a real headless Chromium of 390x844 with a thumb; and what the server says to others."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from bt_selfsecure.sweep.store import Store

PLAN = """
[roles]
alice = "pi-alice"
bob = "pi-bob"
eves = ["pi-eve"]
[sweep]
distances_m = [0.15, 0.5, 1.5, 3, 4.5, 6]
packets = [200, 400]
repeats = 3
bearers = ["air:distance:eve=12,floor=0.05"]
countdown_s = 1
"""
CHROMIUM = "/usr/bin/chromium"
WIDTH, HEIGHT = 390, 844
THUMB = 48
"""CSS pixels: what a thumb hits (Material Design: 48, WCAG 2.2 AA: 24)."""
REACH = HEIGHT / 2
"""A thumb reaches the lower half of the phone that it holds."""


class Sweep:
    """`sweep run --web` on the virtual air."""

    def __init__(self, folder: Path) -> None:
        (folder / "plan.toml").write_text(PLAN)
        words = [sys.executable, "-m", "bt_selfsecure.cli.main", "sweep", "run", "plan.toml", "--web", "127.0.0.1:0"]
        self.record = folder / "plan.db"
        self.process = subprocess.Popen(words, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := re.search(r"http://\S+", line):
                self.url = found[0]
                return
        raise AssertionError(self.process.wait())


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Sweep]:
    sweep = Sweep(tmp_path)
    yield sweep
    sweep.process.terminate()
    sweep.process.communicate(timeout=20)


def ask(url: str, body: bytes | None = None) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(url, body, timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with contextlib.closing(error):
            return error.code, None


def test_the_page_says_that_what_it_shows_is_pooled_and_what_decides() -> None:
    page = " ".join(resources.files("bt_selfsecure.sweep").joinpath("page.html").read_text(encoding="utf-8").split())
    for picture in ('<div id="plot">', '<table class="figures" id="places">'):
        above = page.split(picture)[0].rpartition("<h2>")[2]
        assert re.search("all runs( of a place)? pooled", above, re.IGNORECASE)
    assert "A key is made of one run, and the worst decides" in page


def test_only_who_knows_the_token_steers_and_only_by_wishes_that_there_are(sweep: Sweep) -> None:
    root = sweep.url.rsplit("/", 2)[0]
    for path in ("/", "/state", "/do", "/0000000000/", "/0000000000/state"):
        assert ask(root + path)[0] == 404
    assert ask(root + "/0000000000/do", b'{"wish": "placed"}')[0] == 404
    for body in (
        b"",
        b"[]",
        b"{",
        b'{"wish": "fly"}',
        b'{"wish": "redo"}',
        b'{"wish": "redo", "turn": [], "distance_m": 1}',
    ):
        assert ask(sweep.url + "do", body)[0] == 400
    assert ask(sweep.url + "do", b" " * 5000)[0] == 413
    status, view = ask(sweep.url + "state")
    assert (status, view["state"], view["place"]["distance_m"]) == (200, "asking", 0.15)
    status, view = ask(sweep.url + "do", b'{"wish": "skip"}')
    assert (status, view["place"]["distance_m"]) == (200, 0.5)
    status, view = ask(sweep.url + "do", b'{"wish": "placed"}')
    assert (status, view["state"]) == (200, "counting")


@pytest.fixture
def phone() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"there is no {CHROMIUM}: apt-get install chromium")
    with api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(
            viewport={"width": WIDTH, "height": HEIGHT}, has_touch=True, is_mobile=True, device_scale_factor=2
        )
        page.set_default_timeout(20_000)
        yield page
        browser.close()


def luminance(colour: str) -> float:
    """Relative, of "rgb(r, g, b)" (WCAG 2.2)."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


TEXTS = """() => [...document.querySelectorAll("body *:not(script, option)")].filter(e => e.checkVisibility()
    && [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()))
  .map(e => { let b = e; const paint = x => getComputedStyle(x).backgroundColor;
    while (b.parentElement && paint(b).endsWith(", 0)")) b = b.parentElement;
    const style = getComputedStyle(e), back = paint(b).endsWith(", 0)") ? "rgb(255, 255, 255)" : paint(b);
    const ink = e instanceof SVGElement ? style.fill : style.color;
    return [e.textContent.trim(), ink, back, parseFloat(style.fontSize)] })"""


@pytest.mark.long
def test_a_sweep_is_walked_through_with_one_thumb_on_a_phone(sweep: Sweep, phone: Any, tmp_path: Path) -> None:
    problems: list[str] = []
    asked: list[str] = []
    phone.on("console", lambda message: problems.append(message.text))
    phone.on("pageerror", lambda error: problems.append(str(error)))
    phone.on("request", lambda request: asked.append(request.url))
    phone.goto(sweep.url)
    phone.get_by_role("heading", name="Move to 0.15 m").wait_for()
    main = phone.locator("#main")
    for metres in ("0.5", "1.5", "3"):
        main.tap()
        phone.get_by_text("Step away").wait_for()
        phone.get_by_role("heading", name=f"Move to {metres} m").wait_for()

    for control in phone.locator("button, select").all():
        box = control.bounding_box()
        assert box["height"] >= THUMB, control.inner_text()
        assert box["width"] >= THUMB, control.inner_text()
        assert box["y"] >= REACH, control.inner_text()
        assert box["y"] + box["height"] <= HEIGHT, control.inner_text()
    assert phone.evaluate("document.documentElement.scrollWidth") <= WIDTH
    texts = phone.evaluate(TEXTS)
    assert len(texts) > 20
    for text, colour, back, pixels in texts:
        assert contrast(colour, back) >= 7, f"{text!r}: {colour} on {back}"  # WCAG AAA; sunlight takes most of it
        assert pixels >= 15, text

    for mark in phone.locator("#plot path").all():
        assert mark.bounding_box()["x"] >= 0
    assert phone.locator("#plot path").count() == 2 * 3  # Bob and Eve at three places
    phone.screenshot(path=tmp_path / "asking.png")

    phone.locator("#which").select_option("0 0.5")
    phone.locator("#redo").tap()
    phone.get_by_text("Sure? Redo").wait_for()
    assert ask(sweep.url + "state")[1]["place"]["distance_m"] == 3
    phone.locator("#redo").tap()
    phone.get_by_role("heading", name="Move to 0.5 m").wait_for()
    main.tap()
    phone.get_by_text("Interrupt").wait_for()
    phone.screenshot(path=tmp_path / "counting.png")
    main.tap()
    phone.get_by_text("interrupted by you").wait_for()
    phone.screenshot(path=tmp_path / "interrupted.png")
    for _ in ("0.5", "3", "4.5"):
        phone.get_by_role("button", name=re.compile("start|Try again")).tap()
        phone.get_by_text("Step away").wait_for()
        phone.get_by_text("Move to").wait_for()
    phone.locator("#skip").tap()
    phone.get_by_role("heading", name="Ended, 6 runs left out").wait_for()
    phone.screenshot(path=tmp_path / "done.png")

    assert sweep.process.wait(10) == 0
    assert not [text for text in problems if "ERR_CONNECTION" not in text and "Failed to fetch" not in text]
    assert {url.split("/", 3)[2] for url in asked} == {sweep.url.split("/", 3)[2]}
    with Store(sweep.record) as store:
        assert {run.info.distance_m for run in store.runs()} == {0.15, 0.5, 1.5, 3.0, 4.5}
        assert {run.info.distance_m for run in store.runs(withdrawn=True) if run.withdrawn} == {0.5}
