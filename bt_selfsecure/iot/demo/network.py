"""The network of `cloud up --demo`: folders, certificates and configurations, and a process each for cloud, gateway and
devices."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Final

from bt_selfsecure.errors import UsageError
from bt_selfsecure.free_ports import free_ports
from bt_selfsecure.iot.cloud.config import read_config
from bt_selfsecure.iot.cloud.running import open_base
from bt_selfsecure.iot.cloud.tokens import TokenRole, make_token, revoke_token
from bt_selfsecure.iot.folder import IdentityFolder, new_network, prepare
from bt_selfsecure.isolated import FOLDER, python_module
from bt_selfsecure.node.tables import toml
from bt_selfsecure.node.two_nodes import no_interrupt
from bt_selfsecure.protocols.iotcrypto.certificate import Role

HOST: Final = "127.0.0.1"
DAYS: Final = 365
STOP_S: Final = 10.0
DEVICES: Final = ("processor", "storage", "lamp")
"""Names, and modules here."""
TOKEN: Final = "demo"
_CLOUD: Final = """\
[cloud]
state = {state}

[gateways]
listen = ["{host}"]
negotiation_port = {negotiation}
transmission_port = {transmission}

[api]
listen = ["{host}"]
port = {port}
https = "off"
requests_per_minute = 6000
"""
_GATEWAY: Final = """\
[gateway]
state = {state}
socket = {socket}
socket_group = ""

[devices]
listen = ["{host}"]
negotiation_port = {negotiation}
transmission_port = {transmission}
advertise = false
fetch_s = 2.0

[cloud]
address = "{host}:{cloud_negotiation}"
transmission_port = {cloud_transmission}
"""


class DemoNetwork:
    """Is made in a folder; what is there already of a demonstration before is used again."""

    def __init__(self, folder: Path) -> None:
        """Raises `UsageError` where the folder can't be written to."""
        self.folder: Final = folder.absolute()
        self._processes: Final[dict[str, subprocess.Popen[bytes]]] = {}
        self.owner: Final = IdentityFolder(self.folder / "owner")
        self._enrol()
        self.port, self._negotiation, self._transmission, *self._gateway = free_ports(HOST, 5)
        self._write("cloud.toml", _CLOUD, "cloud", negotiation=self._negotiation, transmission=self._transmission)
        self._write(
            "gateway.toml",
            _GATEWAY,
            "gateway",
            negotiation=self._gateway[0],
            transmission=self._gateway[1],
            cloud_negotiation=self._negotiation,
            cloud_transmission=self._transmission,
            socket=toml(str(self.folder / "gateway.sock")),
        )
        base = open_base(read_config(self.folder / "cloud.toml")[0], new=True)
        revoke_token(base, TOKEN)
        self.token: Final = make_token(base, TOKEN, TokenRole.OWNER, DAYS, int(time.time() * 1000))
        base.close()

    @property
    def url(self) -> str:
        """Return where REST is."""
        return f"http://{HOST}:{self.port}"

    def start(self) -> None:
        """Start all, each as a process of its own, in the main thread."""
        self._start("cloud", "cloud", "run", "--config", str(self.folder / "cloud.toml"))
        self._start("gateway", "gateway", "run", "--config", str(self.folder / "gateway.toml"))
        where = "--gateway", f"{HOST}:{self._gateway[0]}", "--transmission-port", str(self._gateway[1])
        for name in DEVICES:
            module = f"bt_selfsecure.iot.demo.{name}"
            self._start(name, "device", "run", module, "--state", str(self.folder / name), *where)

    def ask(self, path: str) -> Any:
        """Return what REST says; None while it does not answer."""
        import http.client

        connection = http.client.HTTPConnection(HOST, self.port, timeout=10)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self.token}"})
            answer = connection.getresponse()
            return json.loads(answer.read()) if answer.status == 200 else None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def is_living(self) -> bool:
        """Return whether every device's readings have come. Raises `UsageError` where a process has ended."""
        for name, process in self._processes.items():
            if (status := process.poll()) is not None:
                said = self.log(name).read_text(errors="replace").splitlines()
                why = said[-1].removeprefix("bt-selfsecure: ") if said else f"exit status {status}"
                raise UsageError(f"the {name} has ended: {why}")
        told = self.ask("/v1/devices")
        return told is not None and sum(bool(device["readings"]) for device in told["devices"]) == len(DEVICES)

    def stop(self) -> None:
        """Stop all, as `systemctl stop` does; what does not end in time is killed."""
        for process in self._processes.values():
            process.terminate()
        until = time.monotonic() + STOP_S
        for process in self._processes.values():
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
        self._processes.clear()

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _start(self, name: str, *words: str) -> None:
        with self.log(name).open("ab") as log, no_interrupt():
            self._processes[name] = subprocess.Popen(
                python_module("bt_selfsecure.cli.main", *words),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=FOLDER,
                process_group=0,  # Ctrl-C is for us alone, who stop them in order
            )

    def _enrol(self) -> None:
        if not self.owner.has_key:
            self.owner.make_key()
            self.owner.certify(Role.PARTY, "Demo company", 10 * 365)
            self.owner.put_network(new_network("demo"))
        roles = {"cloud": Role.CLOUD, "gateway": Role.GATEWAY} | dict.fromkeys(DEVICES, Role.DEVICE)
        for name, role in roles.items():
            member = IdentityFolder(self.folder / name)
            if not os.path.lexists(member.path / "certificate"):
                prepare(member, role, name, DAYS, self.owner)

    def _write(self, name: str, text: str, state: str, **values: Any) -> None:
        filled = text.format(state=toml(str(self.folder / state)), host=HOST, port=self.port, **values)
        (self.folder / name).write_text(filled)
