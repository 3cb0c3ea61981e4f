"""Uses a lab that `lab up` runs: what the other commands and the tests do."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakSet

from bt_selfsecure.errors import UsageError


def default_folder() -> Path:
    """Return where `lab up` and the other commands meet, if nobody says otherwise: the user's own, gone at reboot."""
    return Path(os.environ.get("XDG_RUNTIME_DIR") or f"/tmp/bt-selfsecure-{os.getuid()}") / "lab"


class LabError(UsageError):
    """The lab refused or failed; its own words."""


@dataclass(frozen=True, slots=True)
class Completed:
    """Says what a job on a machine came to."""

    status: int
    out: str
    err: str

    def check(self) -> str:
        """Return what it wrote; raises `LabError` with all its words unless it ended well."""
        if self.status:
            raise LabError(f"exit status {self.status}\n{self.out}{self.err}")
        return self.out


class LabClient:
    """Drives one lab, by its folder. Raises `UsageError` where none runs, `LabError` for what it can't do."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open = WeakSet[socket.socket]()

    @property
    def is_running(self) -> bool:
        with closing(socket.socket(socket.AF_UNIX)) as connection:
            return connection.connect_ex(str(self._folder / "control")) == 0

    def status(self) -> dict[str, Any]:
        """Return {"machines": {name: {"address", "running"}}, "air", "taps"}"""
        return next(iter(self._request(do="status")))

    def address(self, machine: str) -> str:
        """Return a machine's Bluetooth device address."""
        address: str = self.status()["machines"][machine]["address"]
        return address

    def do(self, verb: str, **values: Any) -> None:
        """Make a request without answers: kill, stop, start, air, move, down."""
        for _ in self._request(do=verb, **values):
            pass

    def stream(
        self, machine: str, command: str, output: Callable[[str, str], None], timeout: float | None = None
    ) -> int:
        """Run a shell script there; `output("out" or "err", text)` as it comes. After `timeout` seconds of silence the
        job is ended and `TimeoutError` raised."""
        for answer in self._request(timeout, do="run", machine=machine, command=command):
            for name in ("out", "err"):
                if name in answer:
                    output(name, answer[name])
            if "done" in answer:
                return int(answer["done"])
        raise LabError(f"the lab ended while a job ran on {machine}")

    def run(self, machine: str, command: str, timeout: float | None = 120.0) -> Completed:
        """Run a shell script there and collect what it writes."""
        texts = {"out": "", "err": ""}

        def collect(name: str, text: str) -> None:
            texts[name] += text

        try:
            status = self.stream(machine, command, collect, timeout)
        except TimeoutError:
            raise LabError(f"silent for {timeout} s on {machine}: {command}\n{texts['out']}{texts['err']}") from None
        return Completed(status, texts["out"], texts["err"])

    def hang_up(self) -> None:
        """Ends what other threads ask here: with its connection a job ends."""
        for connection in tuple(self._open):
            with suppress(OSError):  # it ended by itself
                connection.shutdown(socket.SHUT_RDWR)

    def logs(self, machine: str) -> str:
        """Return the console, what bluetoothd and btattach wrote, and the kernel's last lines."""
        return "".join(answer.get("out", "") for answer in self._request(do="logs", machine=machine))

    def _request(self, timeout: float | None = None, **request: Any) -> Iterator[dict[str, Any]]:
        with closing(socket.socket(socket.AF_UNIX)) as connection:
            try:
                connection.connect(str(self._folder / "control"))
            except OSError as fault:
                raise UsageError(
                    f"no lab runs in {self._folder}: start one with bt-selfsecure lab up alice bob"
                ) from fault
            self._open.add(connection)
            connection.sendall(json.dumps(request).encode() + b"\n")
            connection.settimeout(timeout)
            with connection.makefile("rb") as lines:
                for line in lines:
                    answer = json.loads(line)
                    if "error" in answer:
                        raise LabError(answer["error"])
                    yield answer
