"""A gateway and devices as processes that are killed in mid traffic, twenty times: nothing lost, nothing doubled."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from iot_network import CloudEnd, company, enrolled, until

from bt_selfsecure.free_ports import free_ports
from bt_selfsecure.iot.members import Member
from bt_selfsecure.protocols.iotcrypto.certificate import Role
from bt_selfsecure.protocols.iotcrypto.records import AlertRecord, ReadingRecord

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

KILLS = 20
PROGRAM = """\
from pathlib import Path
COUNT = Path(__file__).with_name("count")
SENSORS = ("count",)
def read_sensor(name):
    now = int(COUNT.read_text() or 0) + 1 if COUNT.exists() else 1
    COUNT.write_text(str(now))
    return now
def alerts():
    yield "every second"
"""


class Processes:
    """Is a gateway and two devices, each by the command that people type."""

    def __init__(self, path: Path, cloud: tuple[str, int, int]) -> None:
        self._path, self._running = path, dict[str, subprocess.Popen[bytes]]()
        self._ports = free_ports("127.0.0.1", 2)
        (path / "gateway.toml").write_text(
            f'[gateway]\nstate = "{path}/cellar"\nsocket = "{path}/s"\nsocket_group = ""\n[devices]\n'
            f'listen = ["127.0.0.1"]\nnegotiation_port = {self._ports[0]}\ntransmission_port = {self._ports[1]}\n'
            f'advertise = false\nfetch_s = 0.5\n[cloud]\naddress = "127.0.0.1:{cloud[1]}"\n'
            f"transmission_port = {cloud[2]}\n"
        )
        for name in ("boiler", "lamp"):
            (path / name / "program.py").write_text(PROGRAM)

    def begin(self, name: str) -> None:
        words = ["gateway", "run", "--config", f"{self._path}/gateway.toml"]
        if name != "cellar":
            words = ["device", "run", f"{self._path}/{name}/program.py", "--state", f"{self._path}/{name}"]
            words += ["--gateway", f"127.0.0.1:{self._ports[0]}", "--transmission-port", str(self._ports[1])]
        with (self._path / f"{name}.log").open("ab") as log:
            command = [sys.executable, "-m", "bt_selfsecure.cli.main", *words]
            self._running[name] = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self, name: str) -> None:
        process = self._running.pop(name)
        process.kill()
        process.wait()

    def end(self) -> Iterator[int]:
        """Yield how each ended that was asked to."""
        for process in self._running.values():
            process.terminate()
            yield process.wait(30)


def test_twenty_killed_processes_lose_and_double_nothing(tmp_path: Path) -> None:
    owner = company(tmp_path)
    enrolled(tmp_path, Role.GATEWAY, "cellar", owner)
    devices = {enrolled(tmp_path, Role.DEVICE, name, owner).signed().certificate.id for name in ("boiler", "lamp")}

    async def main() -> None:
        cloud = CloudEnd(Member(enrolled(tmp_path, Role.CLOUD, "cloud", owner), Role.CLOUD))
        processes = Processes(tmp_path, await cloud.open())
        names, draw = ("cellar", "boiler", "lamp"), random.Random(1)

        def news() -> int:
            """Return how many readings have come of the device of which fewest have."""
            told = [one.device for one in cloud.all if isinstance(one, ReadingRecord)]
            return min(told.count(device) for device in devices)

        for name in names:
            processes.begin(name)
        for _ in range(KILLS):
            before = news()
            await until(lambda before=before: news() > before + 1, 120)  # type: ignore[misc]
            name = draw.choice(names)
            processes.kill(name)
            await asyncio.sleep(draw.random())
            processes.begin(name)
        before = news()
        await until(lambda: news() > before + 4, 120)
        assert {*processes.end()} == {0}
        cloud.close()
        for device in devices:
            counts = [
                one.readings["count"] for one in cloud.all if isinstance(one, ReadingRecord) and one.device == device
            ]
            assert counts == sorted({*counts})
            arrived = [one.id for one in cloud.all if isinstance(one, AlertRecord) and one.device == device]
            assert len(arrived) > KILLS
            assert arrived == list(range(arrived[0], arrived[0] + len(arrived)))
            assert arrived[0] & 0xFFFFFFFF == 0

    asyncio.run(main())
