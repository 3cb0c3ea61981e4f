"""Traffic between two real daemons on this computer, while plugs are pulled: what was taken, and what came."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import count
from typing import Any

from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.client import ApiError
from bt_selfsecure.node.two_nodes import ADDRESSES, OTHER, TwoNodes

WAITS = {
    "bearers.udp": {"BEAT_S": 0.2, "SILENCE_S": 1.2},
    "bearers.numbered_links": {"HELLO_S": 0.1},
    "node.links": {"FIRST_RETRY": 0.2},
    "node.daemon": {"BEAT_S": 0.5},
    "node.erasing": {"IDLE_S": 0.5},
    "node.haoxiao.trust": {"FIRST_WAIT_S": 1.0},
    "node.journal": {"OPEN_S": 0.5},
    "node.journal_file": {"OPEN_S": 0.5},
}
"""Of a daemon that does not wait as long as others for what does not come."""
PROGRAM = """
import sys
from importlib import import_module
{first}
for name, waits in {waits}.items():
    vars(import_module("bt_selfsecure." + name)).update(waits)
from bt_selfsecure.cli.main import main
sys.exit(main())
"""
Part = tuple[int, int]
"""A message's number, and which attempt at sending it this was."""
PAUSE = 0.05
SIZES = (20, 20, 3000)


def wait_until(is_so: Callable[[], object], seconds: float = 60.0) -> None:
    """Also while a node is away."""
    until = time.monotonic() + seconds
    while True:
        with suppress(UsageError):
            if is_so():
                return
        assert time.monotonic() < until, "it took too long"
        time.sleep(PAUSE)


class QuickNodes(TwoNodes):
    """Daemons that wait for less than others, and agree on a key of few packets."""

    waits: Mapping[str, Mapping[str, float]] = WAITS

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        for name in ADDRESSES:
            file = self.config(name)
            file.write_text(re.sub("(?m)^interval_ms = 1$", r"\g<0>\ntarget_bits = 1\nburst = 100", file.read_text()))

    @property
    def first(self) -> str:
        """What their programs do before all else."""
        return ""

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-P", "-c", PROGRAM.format(first=self.first, waits=self.waits), *words]


def start(nodes: TwoNodes) -> None:
    """Both, until each is connected with a key."""
    nodes.start(*ADDRESSES)
    for name in ADDRESSES:
        wait_until(lambda name=name: nodes.client(name).peers()[0]["state"] == "connected")


class Traffic:
    """Both ends send numbered messages and read what comes, each in a thread, from now on: until `finish`, `fewest` of
    them at least. `other` names the other end of each."""

    def __init__(self, nodes: TwoNodes, fewest: int, pause: float = PAUSE, other: Mapping[str, str] = OTHER) -> None:
        self.taken: dict[str, list[Part]] = {name: [] for name in other}
        self.came: dict[str, list[Part]] = {name: [] for name in other}
        self._nodes, self._fewest, self._pause, self._other = nodes, fewest, pause, other
        self._is_enough, self._stop = threading.Event(), threading.Event()
        self._last: dict[str, int] = {}
        """Of those that come to each, once it is known."""
        self._threads = [
            threading.Thread(target=work, args=(name,), daemon=True)
            for name in other
            for work in (self._send, self._receive)
        ]
        for thread in self._threads:
            thread.start()

    def finish(self, seconds: float) -> None:
        """Until all came, and judge it: each once, in order, none lost."""
        until = time.monotonic() + seconds
        self._is_enough.set()
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        self._stop.set()
        for name, other in self._other.items():
            came = self.came[other]
            assert other in self._last, "not all was taken in time"
            assert [number for number, _ in self.taken[name]] == list(range(1 + self._last[other]))
            assert set(self.taken[name]) <= set(came), "lost"
            assert came == sorted(set(came)), "twice, or out of order"

    def _send(self, name: str) -> None:
        """A number whose fate is not known is sent again, as another attempt."""
        for number in count():
            attempt = 0
            while not self._takes(name, (number, attempt)):
                attempt += 1
            self.taken[name].append((number, attempt))
            if self._is_enough.is_set() and number + 1 >= self._fewest:
                self._last[self._other[name]] = number
                break
            time.sleep(self._pause)

    def _takes(self, name: str, part: Part) -> bool:
        text = "{} {} ".format(*part).encode().ljust(SIZES[part[0] % len(SIZES)])
        while not self._stop.is_set():
            try:
                self._nodes.client(name).send(self._other[name], text)
                return True
            except ApiError:  # refused for good, as where the queue is full
                time.sleep(PAUSE)
            except UsageError:
                time.sleep(PAUSE)
                return False
        raise SystemExit

    def _receive(self, name: str) -> None:
        newest = 0
        while not self._stop.is_set() and self._last.get(name) not in {number for number, _ in self.came[name]}:
            with suppress(UsageError):
                client = self._nodes.client(name)
                for received in client.receive():
                    if received.id > newest:
                        newest = received.id
                        number, attempt = map(int, received.message.split()[:2])
                        self.came[name].append((number, attempt))
                    client.acknowledge(received.id)
            time.sleep(PAUSE)
