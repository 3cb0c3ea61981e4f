"""What the tests of a sweep's page need: the command, what it answers, and a phone in a person's hand."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

SIZES = [(360, 640), (390, 844), (1280, 800)]
LONG = "raspberrypi-zero-2w-behind-the-kitchen-window-of-house-number-"
"""With two digits more a name of 64 letters."""


def plan(eves: int = 1, *, name: str = "pi-", roles: str = "", **changes: Any) -> str:
    """A plan for the virtual air, which sends everything at once."""
    names = [f"{name}{number:02}" for number in range(2 + eves)]
    losses = "".join(
        f",{eve}=0.{2 + n % 7}" for n, eve in enumerate(("eve", "eve2", *(f"eve{k}" for k in range(3, 13))))
    )
    table = {
        "distances_m": [0.15, 0.5, 1.5, 3, 4.5, 6],
        "packets": [50, 100],
        "repeats": 3,
        "countdown_s": 1,
        "bearers": [f"air:bernoulli:bob=0.1{losses}"],
    } | changes
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    head = f'[roles]\nalice = "{names[0]}"\nbob = "{names[1]}"\neves = {json.dumps(names[2:])}\n{roles}\n'
    return head + "[sweep]\n" + "\n".join(lines) + "\n"


SLOW = {"packets": [32_000], "repeats": 50, "bearers": ["air:distance:eve=12,floor=0.05"]}
"""A run takes about a second, a place a minute: it is under way whenever one looks."""

THUMB = 48
"""CSS pixels: what a thumb hits (Material Design: 48, WCAG 2.2 AAA: 44)."""
OUTSIDE = """() => [...document.querySelectorAll("main *, footer *")].filter(e => e.checkVisibility())
  .filter(e => !e.closest(".box > *")).filter(e => { const box = e.getBoundingClientRect();
    return box.right > innerWidth + 1 || box.left < -1 }).map(e => e.outerHTML)"""


class WebSweep:
    """`sweep run --web` on the virtual air."""

    def __init__(self, folder: Path, text: str, *words: str) -> None:
        self.folder, self.record, self.words = folder, folder / "plan.db", words
        (folder / "plan.toml").write_text(text)
        self.said = folder / "said.txt"
        self.start()

    def start(self, where: str = "127.0.0.1:0") -> None:
        command = [sys.executable, "-m", "bt_selfsecure.cli.main", "sweep", "run", "plan.toml", "--web", where]
        with self.said.open("w") as said:
            self.process = subprocess.Popen(
                [*command, *self.words],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
            )
        self.url = until(lambda: re.search(r"http://\S+(?=\n)", self.said.read_text()))[0]
        self.port = urlsplit(self.url).port or 0
        self.path = urlsplit(self.url).path

    def stop(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        self.process.wait(60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def request(
        self, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None, method: str = ""
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            kind = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method or ("GET" if body is None else "POST"), path, body, kind | dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def view(self) -> dict[str, Any]:
        status, _, body = self.request(self.path + "state")
        assert status == 200
        return dict(json.loads(body))

    def wish(
        self, name: str, view: Mapping[str, Any] | None = None, place: Any = None, runs: int | None = None
    ) -> tuple[int, dict[str, Any]]:
        """As a phone sends it that shows `view`; the one of now is waited for until it is no change any more. `runs`:
        those that it shows of the place, if not told."""
        if view is None:
            time.sleep(0.75)
            view = self.view()
        if place and runs is None:
            runs = next(each["done"] for each in view["places"] if {**each, **place} == each)
        wish = {"wish": name, "place": place, "runs": runs, "at": view["now"], "ground": view["ground"]}
        status, _, body = self.request(self.path + "do", json.dumps(wish).encode())
        return status, json.loads(body)

    def wait(self, phase: str, metres: float | None = None) -> dict[str, Any]:
        """Until the sweep asks for a place, or is done."""

        def there() -> dict[str, Any] | None:
            view = self.view()
            here = view["place"] and view["place"]["distance_m"]
            return view if view["ground"]["phase"] == phase and metres in (None, here) else None

        return until(there)


class Phone:
    """A page on a screen of a size, with a thumb."""

    def __init__(self, browser: Any, url: str, size: tuple[int, int], pictures: Path, name: str) -> None:
        self.width, self.height = size
        self._pictures, self._name = pictures, f"{re.sub(r'[^a-z0-9]+', '-', name).strip('-')[:80]}-{self.width}"
        small = self.width < 1000
        self.context = browser.new_context(
            viewport={"width": self.width, "height": self.height},
            has_touch=True,
            is_mobile=small,
            device_scale_factor=2 if small else 1,
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.problems: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(url)

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
        for control in self.page.locator("dialog button" if dialog else "footer button, select").all():
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


def until(look: Callable[[], Any], seconds: float = 60.0) -> Any:
    """What `look` finds, as soon as it finds something."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, look
        time.sleep(0.02)
    return found


def four_places(state: str) -> str:
    """A plan in which a countdown, or the measuring, lasts longer than a test does."""
    slow = {"packets": [32_000], "repeats": 4, "countdown_s": 0}
    quick = {"packets": [50], "countdown_s": 600}
    return plan(distances_m=[0.5, 1.5, 3, 4.5], **slow if state == "measuring" else quick)
