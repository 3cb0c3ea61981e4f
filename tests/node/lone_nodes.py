"""Two real daemons that don't know each other, and the commands by which they are paired."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from two_daemons import PROGRAM, WAITS, QuickNodes, wait_until

from bt_selfsecure.isolated import FOLDER
from bt_selfsecure.node.two_nodes import ADDRESSES

PATIENCE_S: Final = 120
PAIRED: Final = "paired.toml"


class LoneNodes(QuickNodes):
    """Alice and Bob without a [[peer]]. A link of theirs lasts as long as users' does, through times in which the
    computer gives a daemon nothing: in the middle of a pairing each loss would begin the key anew."""

    waits: Mapping[str, Mapping[str, float]] = {name: waits for name, waits in WAITS.items() if name != "bearers.udp"}

    def _configuration(self, *words: Any) -> str:
        return super()._configuration(*words).partition("[[peer]]")[0]

    def place(self, name: str) -> str:
        (place,) = re.findall(r'(?m)^listen = "(.*)"$', self.config(name).read_text())
        return str(place)

    def state(self, name: str) -> Path:
        return self.folder / name

    def pair(self, name: str, *words: str, **how: Any) -> Command:
        return Command(self, name, "pair", *words, **how)

    def names(self, name: str) -> list[str]:
        return [peer["name"] for peer in self.client(name).peers()]

    def shared_string(self) -> str:
        """Return what both ends show; on a busy computer one may still have a string of before."""
        shown: set[str] = set()

        def is_one() -> bool:
            shown.clear()
            keys = [peer["key"] for name in ADDRESSES for peer in self.client(name).peers()]
            shown.update(key["sas"] if key else "" for key in keys)
            return len(keys) == len(ADDRESSES) and len(shown) == 1 and "" not in shown

        wait_until(is_one)
        return shown.pop()

    def has_nothing(self, name: str) -> bool:
        """Neither in memory nor on the disk."""
        keys = self.state(name) / "paired"
        listed = self.state(name) / PAIRED
        return (
            not self.names(name)
            and not (keys.is_dir() and any(keys.iterdir()))
            and not (listed.exists() and "[[peer]]" in listed.read_text())
            and not self._rows(name)
        )

    def _rows(self, name: str) -> int:
        """Of any peer's state in the journal."""
        with contextlib.closing(
            sqlite3.connect(f"{(self.state(name) / 'journal.db').as_uri()}?mode=ro", uri=True)
        ) as db:
            return int(db.execute("SELECT count(*) FROM peer").fetchone()[0])

    def forget_all(self) -> None:
        for name in ADDRESSES:
            for peer in self.names(name):
                self.client(name).forget(peer)
            wait_until(lambda name=name: self.has_nothing(name))


@contextlib.contextmanager
def lone_nodes(folder: Path, host: str) -> Iterator[LoneNodes]:
    """Both run, and lose nothing."""
    nodes = LoneNodes(folder, 0.0, host)
    try:
        nodes.start(*ADDRESSES)
        yield nodes
    finally:
        nodes.stop()


class Command:
    """Runs one command of `name`'s."""

    def __init__(self, nodes: LoneNodes, name: str, *words: str, stdin: int = subprocess.DEVNULL) -> None:
        command = [sys.executable, "-P", "-c", PROGRAM.format(first=nodes.first, waits=nodes.waits), *words]
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [*command, "--config", str(nodes.config(name))],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=FOLDER,
            env=os.environ | {"COLUMNS": "80", "LINES": "24"},
        )
        self.output: list[str] = []

    def until(self, beginning: str) -> str:
        """Return the first line that begins so."""
        assert self.process.stdout is not None
        with self._patience():
            for line in self.process.stdout:
                self.output.append(line.rstrip("\n"))
                if line.startswith(beginning):
                    return self.output[-1]
        raise AssertionError(f"no line began with {beginning!r}: {self.end()}")

    def event(self, name: str) -> dict[str, Any]:
        """Return the first line of --json with this event."""
        while True:
            line: dict[str, Any] = json.loads(self.until("{"))
            if line["event"] == name:
                return line

    def end(self) -> tuple[int, str, str]:
        """Return exit status, all output, and all of standard error, once."""
        assert self.process.stdout is not None
        with self._patience(), self.process.stdout, self._errors:
            self.output += self.process.stdout.read().splitlines()
            status = self.process.wait()
            self._errors.seek(0)
            return status, "\n".join(self.output), self._errors.read()

    @contextlib.contextmanager
    def _patience(self) -> Iterator[None]:
        """Nothing is waited for without end."""
        alarm = threading.Timer(PATIENCE_S, self.process.kill)
        alarm.start()
        try:
            yield
        finally:
            alarm.cancel()

    def interrupt(self) -> tuple[int, str, str]:
        self.process.send_signal(signal.SIGINT)
        return self.end()

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *exception: object) -> None:
        assert self.process.stdout is not None
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self._errors.close()
