"""Alice and Bob on one computer: two configurations on udp, and two daemons as child processes of this program."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bt_selfsecure.errors import UsageError
from bt_selfsecure.free_ports import free_ports
from bt_selfsecure.isolated import FOLDER, python_module
from bt_selfsecure.node.client import NodeAwayError, NodeClient
from bt_selfsecure.node.config_file import load, parse
from bt_selfsecure.node.tables import toml

ADDRESSES: Final = {"alice": "02:00:00:00:00:01", "bob": "02:00:00:00:00:02"}
"""Locally administered (IEEE 802), so no device's."""
OTHER: Final = {"alice": "bob", "bob": "alice"}
HOST: Final = "127.0.0.1"
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""By which people and terminals end a program."""
READY_S: Final = 60.0
STOP_S: Final = 10.0
CONFIGURATION: Final = """\
# {name}, one of two nodes on one computer: bt-selfsecure node --config {file}
[node]
name = "{name}"
address = "{address}"
state_directory = {state}
socket = {socket}

[establish]
bearer = "{bearer}"
interval_ms = 1

[session]
bearer = "{bearer}"
timeout_ms = 50

[udp]
listen = "{listen}"

[[peer]]
name = "{peer}"
address = "{peer_address}"
udp = "{peer_place}"
"""


class TwoNodes:
    """Runs two nodes in `folder`; configurations that are there already stay as they are. `loss` is the share, 0 to 1,
    that each loses of what comes to it, drawn."""

    def __init__(self, folder: Path, loss: float = 0.1, host: str = HOST, ports: tuple[int, int] | None = None) -> None:
        """Raises `UsageError`: the folder can't be written to, or a configuration in it can't be used."""
        self.folder: Final = folder.absolute()
        share = f"{loss:.6f}".rstrip("0")
        self.processes: Final[dict[str, subprocess.Popen[bytes]]] = {}
        found = ports or free_ports(host, len(ADDRESSES))
        places = {name: f"{host}:{port}" for name, port in zip(ADDRESSES, found, strict=True)}
        bearer = f"faults:loss={share};udp" if float(share) else "udp"
        texts = {name: self._configuration(name, bearer, places) for name in ADDRESSES}
        for name, text in texts.items():
            parse(text, self.config(name))
        try:
            for name, text in texts.items():
                (self.folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
                with contextlib.suppress(FileExistsError), self.config(name).open("x") as file:
                    file.write(text)
        except OSError as error:
            raise UsageError(f"can't write to {self.folder} ({error.strerror}): name another folder") from None
        self._clients = {name: NodeClient(load(self.config(name)).config.node.socket) for name in ADDRESSES}

    def config(self, name: str) -> Path:
        return self.folder / f"{name}.toml"

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def client(self, name: str) -> NodeClient:
        return self._clients[name]

    def command(self, *words: str) -> list[str]:
        """Return a command line of this very program, to be run in `isolated.FOLDER`."""
        return python_module("bt_selfsecure.cli.main", *words)

    def start(self, *names: str) -> None:
        """Start both, in the main thread; return when their APIs answer. Raises `UsageError` with its last word if one
        ends instead."""
        for name in names:
            with self.log(name).open("ab") as log, no_interrupt():
                self.processes[name] = subprocess.Popen(
                    self.command("node", "--config", str(self.config(name))),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    cwd=FOLDER,
                )
        for name in names:
            self._wait_for(name)

    def _wait_for(self, name: str) -> None:
        until = time.monotonic() + READY_S
        while True:
            with contextlib.suppress(NodeAwayError):
                self.client(name).status()
                return
            if (status := self.processes[name].poll()) is not None:
                said = self.log(name).read_text(errors="replace").splitlines()
                why = said[-1].removeprefix("bt-selfsecure: ") if said else f"exit status {status}"
                raise UsageError(f"{name} did not start: {why}")
            if time.monotonic() > until:
                raise UsageError(f"{name} has not answered in {READY_S:.0f} s: see {self.log(name)}")
            time.sleep(0.05)

    def kill(self, name: str) -> None:
        """Kill this node, as if its plug were pulled."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        """Stop both, as `systemctl stop` does; what does not end in time is killed."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()
        for client in self._clients.values():
            client.close()

    def _configuration(self, name: str, bearer: str, places: dict[str, str]) -> str:
        return CONFIGURATION.format(
            name=name,
            file=self.config(name),
            address=ADDRESSES[name],
            state=toml(str(self.folder / name)),
            socket=toml(str(self.folder / f"{name}.sock")),
            bearer=bearer,
            listen=places[name],
            peer=OTHER[name],
            peer_address=ADDRESSES[OTHER[name]],
            peer_place=places[OTHER[name]],
        )


@contextlib.contextmanager
def no_interrupt() -> Iterator[None]:
    """Let a signal come only after this: a child that was just made must not be forgotten."""
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, frame: came.append(number)) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
