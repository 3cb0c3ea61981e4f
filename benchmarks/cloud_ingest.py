"""How many readings a second a cloud takes: 100 gateways with 100 devices each, simulated in this process, speak to a
cloud in a process of its own; what is in its database is counted afterwards. Run

    python benchmarks/cloud_ingest.py [--database URL] [--gateways N] [--devices N] [--rate N] [--seconds N]

It prints what was offered, kept, and lost, and the memory of the cloud by time.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bt_selfsecure.free_ports import free_ports
from bt_selfsecure.iot.cloud.config import read_config
from bt_selfsecure.iot.cloud.running import open_base
from bt_selfsecure.iot.folder import IdentityFolder, new_network, prepare
from bt_selfsecure.iot.members import Member
from bt_selfsecure.iot.sessions import IotSession, NotConnectedError, connect, negotiate
from bt_selfsecure.protocols.iotcrypto.certificate import Role
from bt_selfsecure.protocols.iotcrypto.records import ReadingRecord, encode_record
from bt_selfsecure.protocols.iotcrypto.transmission import TransmissionEnd
from bt_selfsecure.protocols.iotcrypto.transmission_messages import Ask, ReadingRequest, ReadingResponse, RecordBatch

HOST = "127.0.0.1"
PER_BATCH = 22
DONE = "the measurement is over"
CONFIGURATION = """\
[cloud]
state = "{state}"
database = "{database}"
log_level = "warning"
[gateways]
listen = ["127.0.0.1"]
negotiation_port = {ports[0]}
transmission_port = {ports[1]}
[api]
port = 0
https = "off"
listen = ["127.0.0.1"]
"""


@dataclass
class Figures:
    offered: int = 0
    acknowledged: int = 0


class SimulatedGateway:
    """Sends what its devices say, each once a second; what is late is sent as soon as there is room."""

    def __init__(self, member: Member, devices: int, rate: float) -> None:
        self._member, self._rate = member, rate
        self._devices = [os.urandom(16) for _ in range(devices)]
        self._epoch, self._next = os.urandom(8), 1
        self.session: IotSession | None = None

    async def dial(self, ports: list[int]) -> None:
        for _ in range(20):
            try:
                established = await negotiate((HOST, ports[0]), self._member.network, self._member.config(Role.CLOUD))
                self.session = await connect((HOST, ports[1]), established, TransmissionEnd.UPLINK)
            except NotConnectedError:
                await asyncio.sleep(1)
                continue
            self.session.attend(self)
            return
        raise SystemExit("no cloud")

    def asked(self, session: IotSession, n: int, message: Ask) -> None:
        if isinstance(message, ReadingRequest):
            session.answer(n, ReadingResponse({}))

    def ended(self, session: IotSession, reason: str) -> None:
        if reason != DONE:
            print("a session has ended:", reason, flush=True)

    async def run(self, seconds: float, figures: Figures) -> None:
        assert self.session is not None
        begun, sent, room = time.monotonic(), 0, asyncio.Semaphore(8)
        tasks: list[asyncio.Task[None]] = []
        total = int(seconds * self._rate)
        while sent < total:
            due = min(total, int((time.monotonic() - begun) * self._rate))
            while due - sent >= PER_BATCH or (due == total and sent < total):
                count = min(PER_BATCH, due - sent)
                now = int(time.time() * 1000)
                records = tuple(
                    encode_record(
                        ReadingRecord(
                            self._devices[(sent + at) % len(self._devices)], now, {"temperature": (sent + at) / 8}
                        )
                    )
                    for at in range(count)
                )
                await room.acquire()
                batch = RecordBatch(self._epoch, self._next, records)
                self._next += count
                sent += count
                figures.offered += count
                tasks.append(asyncio.create_task(self._send(batch, room, figures)))
            await asyncio.sleep(0.05)
        await asyncio.gather(*tasks)

    async def _send(self, batch: RecordBatch, room: asyncio.Semaphore, figures: Figures) -> None:
        assert self.session is not None
        try:
            await self.session.request(batch)
            figures.acknowledged += len(batch.records)
        finally:
            room.release()


def memory_mib(process: int) -> float:
    text = Path(f"/proc/{process}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("VmRSS"))


async def measured(args: argparse.Namespace, folder: Path) -> None:
    owner = IdentityFolder(folder / "owner")
    owner.make_key()
    owner.certify(Role.PARTY, "ACME", 365)
    owner.put_network(new_network("bench"))
    prepare(IdentityFolder(folder / "cloud"), Role.CLOUD, "cloud", 365, owner)
    members = []
    for number in range(args.gateways):
        one = IdentityFolder(folder / f"g{number}")
        prepare(one, Role.GATEWAY, f"g{number}", 365, owner)
        members.append(Member(one, Role.GATEWAY))
    ports, file = free_ports(HOST, 2), folder / "cloud.toml"
    file.write_text(CONFIGURATION.format(state=folder / "cloud", database=args.database, ports=ports))
    command = [sys.executable, "-m", "bt_selfsecure.cli.main", "cloud", "run", "--config", str(file)]
    process = subprocess.Popen(command)
    try:
        await asyncio.sleep(2)
        gateways = [SimulatedGateway(one, args.devices, args.rate / args.gateways) for one in members]
        for at in range(0, len(gateways), 10):
            await asyncio.gather(*(one.dial(ports) for one in gateways[at : at + 10]))
        print(
            f"{len(gateways)} gateways are connected; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs",
            flush=True,
        )
        figures, begun = Figures(), time.monotonic()
        work = asyncio.gather(*(one.run(args.seconds, figures) for one in gateways))
        while not work.done():
            await asyncio.wait([work], timeout=5)
            spent = time.monotonic() - begun
            print(
                f"{spent:5.0f} s: offered {figures.offered:,}, acknowledged {figures.acknowledged:,} "
                f"({figures.acknowledged / spent:,.0f}/s), cloud {memory_mib(process.pid):.0f} MiB",
                flush=True,
            )
        await work
        for one in gateways:
            assert one.session is not None
            one.session.close(DONE)
    finally:
        process.terminate()
        process.wait()
    base = open_base(read_config(file)[0])
    days = [day for (day,) in base.execute("SELECT day FROM reading_day")]
    kept = sum(base.execute(f"SELECT count(*) FROM reading_{day}")[0][0] for day in days)
    devices = base.execute("SELECT count(*) FROM newest")[0][0]
    base.close()
    print(
        f"kept {kept:,} of {figures.offered:,} readings of {devices:,} devices: "
        f"{figures.offered - kept:,} lost or doubled"
    )
    if kept != figures.offered:
        raise SystemExit(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", default="", help="URL of PostgreSQL (default: SQLite)")
    parser.add_argument("--gateways", type=int, default=100)
    parser.add_argument("--devices", type=int, default=100, help="of each gateway")
    parser.add_argument("--rate", type=float, default=10_000, help="readings a second, of all")
    parser.add_argument("--seconds", type=float, default=60)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="btss-ingest-") as folder:
        asyncio.run(measured(args, Path(folder)))


if __name__ == "__main__":
    main()
