"""A company's gateway and two devices on virtual Pis, over Bluetooth (IPSP) alone, a stranger with the network's key
beside them, and their cloud on this computer, at the other end of a cable."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cable import HOST, Cable
from postgres_server import PostgresServer
from running_lab import RunningLab

from bt_selfsecure.free_ports import free_ports
from bt_selfsecure.iot.cloud.config import read_config
from bt_selfsecure.iot.cloud.running import open_base
from bt_selfsecure.iot.cloud.sql import CloudDatabase
from bt_selfsecure.iot.cloud.tokens import TokenRole, make_token
from bt_selfsecure.iot.folder import DAY_S, IdentityFolder, add_signature, new_network, prepare
from bt_selfsecure.protocols.iotcrypto.certificate import Role, SignedCertificate

SETTLED_S = 300.0
STATE = "/mnt/iot"
"""Where a machine keeps what outlives its power: on its own disk, by its own kernel, as on a card."""
PORTS = 5713, 5714
"""Of the cloud, as the gateway sees it."""
GATEWAY_CONFIG = f"""\
[gateway]
state = "{STATE}"
socket = "/run/gateway.sock"
socket_group = ""
[devices]
listen = ["::"]
interfaces = ["bt0"]
fetch_s = 1
[ipsp]
enabled = true
[cloud]
address = "127.0.0.1:{PORTS[0]}"
transmission_port = {PORTS[1]}
"""
CLOUD_CONFIG = """\
[cloud]
state = "{state}"
database = "{database}"
[api]
listen = ["127.0.0.1"]
port = {port}
https = "off"
requests_per_minute = 60000
[gateways]
listen = ["127.0.0.1"]
negotiation_port = {ports[0]}
transmission_port = {ports[1]}
"""
PROGRAM = """\
import os
from pathlib import Path
PLACE = Path(__file__).parent
COUNT, NEXT, LAMP = PLACE / "count", PLACE / "next", PLACE / "on"
SENSORS = ("count", "lamp")
def read_sensor(name):
    if name == "lamp":
        return LAMP.exists()
    NEXT.write_text(str(now := int(COUNT.read_text()) + 1 if COUNT.exists() else 1))
    os.replace(NEXT, COUNT)
    return now
def execute(name, argument):
    LAMP.write_text("on") if argument else LAMP.unlink(missing_ok=True)
    return f"{name} {argument}"
def alerts():
    yield "every second"
"""
GATEWAY, DEVICES, STRANGER = "cellar", ("boiler", "lamp"), "stranger"
Told = dict[str, Any]


class CloudHere:
    """Is the cloud as a process of this computer."""

    def __init__(self, path: Path, owner: IdentityFolder, postgres: PostgresServer | None) -> None:
        self._postgres, self._log, self._file = postgres, path / "cloud.log", path / "cloud.toml"
        prepare(IdentityFolder(path / "cloud"), Role.CLOUD, "cloud", 30, owner)
        port, *self.ports = free_ports(HOST, 3)
        self._url = f"http://{HOST}:{port}"
        database = postgres.database("cloud") if postgres else ""
        self._file.write_text(CLOUD_CONFIG.format(state=path / "cloud", database=database, port=port, ports=self.ports))
        base = self.base()
        self._token = make_token(base, "test", TokenRole.OWNER, 1, int(time.time() * 1000))
        base.close()
        self.begin()

    def base(self) -> CloudDatabase:
        return open_base(read_config(self._file)[0], new=True)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def begin(self) -> None:
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "bt_selfsecure.cli.main", "cloud", "run", "--config", str(self._file)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def cut(self) -> None:
        """End it and its database without a word, and start both again."""
        self._process.kill()
        self._process.wait()
        if self._postgres is not None:
            self._postgres.cut()
            self._postgres.start()
        self.begin()

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            assert self._process.wait(60) == 0, self.log

    def ask(self, path: str, body: bytes | None = None) -> Any:
        """Return what REST says; with a body, to a POST."""
        headers = {"Authorization": f"Bearer {self._token}"}
        request = urllib.request.Request(self._url + path, body, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def devices(self) -> dict[str, Told]:
        """Return the devices by name; none while the cloud does not answer."""
        try:
            return {each["name"]: each for each in self.ask("/v1/devices")["devices"]}
        except OSError:
            return {}


class IotNetwork:
    """Is all of it. `end` must be called."""

    def __init__(self, lab: RunningLab, path: Path, postgres: PostgresServer | None = None) -> None:
        self.lab = lab
        self.owner = company(path, "ACME")
        self.cloud = CloudHere(path, self.owner, postgres)
        self.cable = Cable(lab.shared[GATEWAY].with_suffix(".shell"), dict(zip(PORTS, self.cloud.ports, strict=True)))
        for name in (GATEWAY, *DEVICES):
            prepare(self.folder(name), Role.GATEWAY if name == GATEWAY else Role.DEVICE, name, 30, self.owner)
            (lab.shared[name] / "program.py").write_text(PROGRAM)
        (lab.shared[GATEWAY] / "gateway.toml").write_text(GATEWAY_CONFIG)
        self._enrol_stranger(path)
        self._dial = f"--ipsp {lab.address(GATEWAY)}"

    def _enrol_stranger(self, path: Path) -> None:
        """Beside a device, by another company, with what can be stolen: the network's key."""
        others, place = company(path, "Mallory"), self.lab.shared[DEVICES[1]] / STRANGER
        folder = IdentityFolder(place / "iot")
        prepare(folder, Role.DEVICE, STRANGER, 30, others)
        folder.put_network(self.owner.network())
        folder.put_owner(self.owner.signed().certificate)
        (place / "program.py").write_text(PROGRAM)

    def folder(self, name: str) -> IdentityFolder:
        """As it was made; the machine has a copy."""
        return IdentityFolder(self.lab.shared[name] / "iot")

    def begin(self, name: str) -> None:
        if name == GATEWAY:
            self.cable.plug_in()
            self._run(name, "gateway run --config /lab/gateway.toml", STATE, "/lab")
            return
        self._run(name, f"device run /lab/program.py --state {STATE} {self._dial}", STATE, "/lab")
        if name == DEVICES[1]:
            state = f"/mnt/{STRANGER}"
            self._run(name, f"device run /lab/{STRANGER}/program.py --state {state}", state, f"/lab/{STRANGER}")

    def _run(self, name: str, words: str, state: str, home: str) -> None:
        made = f"[ -e {state} ] || {{ cp -a {home}/iot {state}; sync; }}"
        begun = f"nohup bt-selfsecure {words} </dev/null >>{home}/log 2>&1 & echo $! >{home}/pid"
        self.lab.run(name, f"{made}\n{begun}").check()

    def cut(self, name: str) -> None:
        """Pull the plug, and put it in again."""
        if name == "cloud":
            self.cloud.cut()
            return
        self.lab.do("kill", machine=name)
        self.lab.do("start", machine=name)
        self.begin(name)

    def log(self, name: str) -> str:
        path = self.lab.shared[name] / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def logs(self) -> str:
        return "\n".join(f"--- {name}\n{self.log(name)[-3000:]}" for name in self.lab.names) + self.cloud.log[-3000:]

    def wait_for(self, condition: Callable[[dict[str, Told]], bool]) -> dict[str, Told]:
        """Return the devices, as REST shows them, as soon as it is so."""
        until = time.monotonic() + SETTLED_S
        while not ((now := self.cloud.devices()) and condition(now)):
            assert time.monotonic() < until, f"{now}\n{self.logs()}"
            time.sleep(0.1)
        return now

    def wait_for_news(self, *names: str, until: float = float("inf")) -> None:
        """Wait until these devices are connected and were read since now, and the cloud knows, or until that time."""
        now_ms = time.time() * 1000

        def is_new(told: dict[str, Told], name: str) -> bool:
            return name in told and told[name]["connected"] and told[name]["read_ms"] > now_ms

        self.wait_for(lambda told: time.time() > until or all(is_new(told, name) for name in names or DEVICES))

    def put(self, name: str, file: Path) -> None:
        """Copy a file into a machine's folder while its program runs."""
        shutil.copy(file, self.lab.shared[name] / "new")
        self.lab.run(name, f"cp /lab/new {STATE}/.new && mv {STATE}/.new {STATE}/{file.name}; sync").check()

    def certify(self, name: str, seconds: float) -> int:
        """Renew a device's certificate for so long; return when it expires."""
        folder = self.folder(name)
        created, expires = folder.signed().certificate.created, int(time.time() + seconds)
        renewed = folder.secrets().certificate(Role.DEVICE, name, created, expires)
        folder.put_signed(add_signature(SignedCertificate(renewed), self.owner.secrets().sign(renewed)))
        self.put(name, folder.path / "certificate")
        return expires

    def certify_for_long(self, name: str) -> None:
        self.certify(name, DAY_S)

    def id(self, name: str) -> str:
        return self.folder(name).signed().certificate.id.hex()

    def left_ms(self, name: str) -> int:
        """Return when this device's last connection ended, by the gateway's clock."""
        told = self.cloud.ask(f"/v1/connections?member={self.id(name)}&limit=1")["connections"]
        return int(told[0]["left_ms"])

    def kept(self, name: str) -> Path:
        """End the machine's program, and return its folder, as the machine's disk has it."""
        ended = "kill $(cat /lab/pid); while kill -0 $(cat /lab/pid) 2>/dev/null; do sleep 0.1; done"
        self.lab.run(name, f"{ended}\ncp -a {STATE} /lab/kept").check()
        return self.lab.shared[name] / "kept"

    def end(self) -> None:
        self.cloud.end()


def company(path: Path, name: str) -> IdentityFolder:
    owner = IdentityFolder(path / name)
    owner.make_key()
    owner.certify(Role.PARTY, name, 30)
    owner.put_network(new_network("office"))
    return owner


def rows(path: Path, query: str) -> list[Any]:
    """Read a store of a program that was ended."""
    base = sqlite3.connect(path)
    try:
        return base.execute(query).fetchall()
    finally:
        base.close()
