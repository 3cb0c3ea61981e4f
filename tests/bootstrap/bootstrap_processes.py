"""Servers and controllers as processes of their own, on loopback, and the commands of persons beside them."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from bt_selfsecure.free_ports import free_ports

LIVE_S = 60


def command(*words: object) -> list[str]:
    return [sys.executable, "-P", "-m", "bt_selfsecure", "bootstrap", *map(str, words)]


def run(*words: object, given: str = "", status: int = 0) -> str:
    """Run a command to its end, and return what it printed."""
    done = subprocess.run(command(*words), input=given, capture_output=True, text=True, timeout=LIVE_S)
    assert done.returncode == status, (words, done.stdout, done.stderr)
    return done.stdout if status == 0 else done.stdout + done.stderr


class Served:
    """Is one process that runs until it is killed."""

    def __init__(self, *words: object) -> None:
        self._words = words
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            command("serve", *self._words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert "Ctrl-C ends it" in self.process.stdout.readline(), self.process.communicate()

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """End it by a signal; return its status and what it logged."""
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=LIVE_S)
        return self.process.returncode, said

    def kill_and_start(self) -> None:
        """kill -9, and start it again."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.communicate()
        self.start()


@contextlib.contextmanager
def ended(*served: Served) -> Iterator[None]:
    try:
        yield
    finally:
        for one in served:
            if one.process.poll() is None:
                one.process.kill()
            one.process.communicate()


class Home:
    """Is a server with one controller in a folder, not started, and a node that is set up for it. Two ports are
    left for others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.nid, *self.spare = free_ports("127.0.0.1", 4)
        self.server, self.attic, self.node = folder / "server", folder / "attic", folder / "node"
        self.key = folder / "attic.key"
        run("serve", "--state", self.server, "--add-controller", "attic", "--nid", f"udp:127.0.0.1:{self.nid}",
            "--address", "02:00:00:00:00:01", "--out", self.key)  # fmt: skip
        self.enrol()

    def enrol(self, *words: object) -> None:
        setup = self.folder / "lamp.setup"
        run("enrol", "lamp", "--state", self.server, "--address", "02:00:00:00:00:02", "--out", setup, *words)
        run("enrol", "--setup", setup, "--state", self.node, *words)
        setup.unlink()

    def both(self) -> Served:
        """Run server and controller in one process."""
        return Served("--state", self.server, "--bind", f"127.0.0.1:{self.port}")

    def server_alone(self) -> Served:
        return Served("--as", "server", "--state", self.server, "--bind", f"127.0.0.1:{self.port}")

    def controller_alone(self) -> Served:
        return Served("--as", "controller", "--state", self.attic, "--controller-file", self.key,
                      "--server", f"127.0.0.1:{self.port}")  # fmt: skip

    def flight1(self, *words: object) -> str:
        return run("join", "--show", "--state", self.node, *words).strip()

    def flight4(self, flight1: str, *, of: Path | None = None) -> str:
        return run("admit", "--no-wait", "--state", of or self.server, flight1).strip()

    def join(self, flight4: str, status: int = 0) -> str:
        return run("join", "--state", self.node, "--no-peer", "--timeout", 20, flight4, status=status)

    def keys(self) -> tuple[set[bytes], bytes]:
        """Return what the node has, and what the server has in force."""
        from bt_selfsecure.bootstrap.store import BootstrapStore

        with (
            contextlib.closing(BootstrapStore(self.node)) as node,
            contextlib.closing(BootstrapStore(self.server)) as server,
        ):
            record = node.networks()[0].record
            known = server.node("lamp")
            assert known is not None
            return {record.key, record.next_key} - {b""}, known.record.key


class LossyRelay(threading.Thread):
    """Stands before a UDP port: it loses and doubles what passes, either way, and holds some of it back."""

    def __init__(self, target: int, at: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.passed = self.lost = 0
        self._rng, self._target = random.Random(seed), ("127.0.0.1", target)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", at))
        self._socket.settimeout(0.1)
        self._over = threading.Event()

    def run(self) -> None:
        client, held = None, b""
        while not self._over.is_set():
            try:
                data, source = self._socket.recvfrom(2048)
            except OSError:  # nobody spoke, or nobody listens
                continue
            if source != self._target:
                client = source
            to = client if source == self._target else self._target
            copies = self._rng.choice((0, 1, 1, 2))
            self.passed, self.lost = self.passed + copies, self.lost + (copies == 0)
            for out in [data] * copies + ([held] if held and self._rng.random() < 0.3 else []):
                if to is not None:
                    with contextlib.suppress(OSError):
                        self._socket.sendto(out, to)
            held = data

    def end(self) -> None:
        self._over.set()
        self.join()
        self._socket.close()
