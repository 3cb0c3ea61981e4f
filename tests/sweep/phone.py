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

from bt_selfsecure.free_ports import free_ports

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


class WebSweep:
    """`sweep run --web` on the virtual air."""

    def __init__(self, folder: Path, text: str, *words: str) -> None:
        self.folder, self.record, self.words = folder, folder / "plan.db", words
        (folder / "plan.toml").write_text(text)
        self.said = folder / "said.txt"
        self.start()

    def start(self, port: int = 0) -> None:
        """At this port, or at one that stays free while it does not run."""
        where = f"127.0.0.1:{port or free_ports('127.0.0.1', 1)[0]}"
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
