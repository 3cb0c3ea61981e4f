"""A company's gateway, devices and a cloud's end, all in one event loop on loopback, on real sockets and files."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bt_selfsecure.bearers.places import Place
from bt_selfsecure.free_ports import free_ports
from bt_selfsecure.iot.device.device import Device, DeviceConfig
from bt_selfsecure.iot.device.program import Program
from bt_selfsecure.iot.device.store import DeviceStore
from bt_selfsecure.iot.folder import IdentityFolder, new_network, prepare
from bt_selfsecure.iot.gateway.config import GatewayConfig, default_config
from bt_selfsecure.iot.gateway.gateway import Gateway
from bt_selfsecure.iot.gateway.store import GatewayStore
from bt_selfsecure.iot.keeping import Tasks
from bt_selfsecure.iot.members import Member
from bt_selfsecure.iot.service import SessionService
from bt_selfsecure.iot.sessions import IotSession
from bt_selfsecure.protocols.iotcrypto.certificate import Role
from bt_selfsecure.protocols.iotcrypto.messages import Profile
from bt_selfsecure.protocols.iotcrypto.records import KeptRecord, decode_record
from bt_selfsecure.protocols.iotcrypto.transmission import TransmissionEnd
from bt_selfsecure.protocols.iotcrypto.transmission_messages import (
    Acknowledgement,
    Ask,
    ErrorCode,
    ErrorMessage,
    Measured,
    ReadingRequest,
    ReadingResponse,
    RecordBatch,
)

LOOPBACK = "127.0.0.1"


def company(path: Path, name: str = "ACME") -> IdentityFolder:
    """A party with keys, certificate and network."""
    folder = IdentityFolder(path / name)
    folder.make_key()
    folder.certify(Role.PARTY, name, 30)
    folder.put_network(new_network("office"))
    return folder


def enrolled(path: Path, role: Role, name: str, owner: IdentityFolder) -> IdentityFolder:
    folder = IdentityFolder(path / name)
    prepare(folder, role, name, 365, owner)
    return folder


def gateway_config(cloud: Place | None = None, **devices: Any) -> GatewayConfig:
    """Free ports on loopback, readings ten times a second, nothing advertised."""
    config = default_config()[0]
    chosen = {"listen": (LOOPBACK,), "negotiation_port": 0, "transmission_port": 0, "advertise": False, "fetch_s": 0.1}
    changed = replace(config, devices=replace(config.devices, **(chosen | devices)))
    if cloud is None:
        return changed
    address, port = f"{cloud[0]}:{cloud[1]}", cloud[2]  # type: ignore[misc]
    return replace(changed, cloud=replace(config.cloud, address=address, transmission_port=port))


@contextlib.asynccontextmanager
async def running(work: Any, stops: Iterable[Callable[[], None]] = ()) -> AsyncIterator[None]:
    """Something that runs until it is cancelled. What it raises before comes out here."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        for stop in stops:
            stop()


@contextlib.asynccontextmanager
async def gateway_at(folder: IdentityFolder, config: GatewayConfig, **member: Any) -> AsyncIterator[Gateway]:
    store = GatewayStore(folder.path / "gateway.db")
    gateway = Gateway(config, Member(folder, Role.GATEWAY, Profile(config.gateway.profile), **member), store)
    async with running(gateway.run(), [store.close]):
        await asyncio.wait_for(gateway.running.wait(), 60)
        yield gateway


@contextlib.asynccontextmanager
async def device_at(
    folder: IdentityFolder, program: Program, gateway: Gateway, profile: Profile = Profile.HARDENED, **member: Any
) -> AsyncIterator[Device]:
    place = gateway.service.negotiation.places[0], gateway.service.transmission.places[0][1]
    store = DeviceStore(folder.path / "device.db")
    device = Device(Member(folder, Role.DEVICE, profile, **member), program, store, DeviceConfig(*place))
    async with running(device.run(), [store.close]):
        yield device


@dataclass
class CloudEnd:
    """A cloud as far as the protocol goes: what it keeps outlives it, as on a disk."""

    member: Member
    records: dict[tuple[bytes, bytes], list[bytes]] = field(default_factory=dict)
    """By gateway and epoch, in order."""
    sessions: dict[bytes, IotSession] = field(default_factory=dict)
    deaf: bool = False
    """Whether it acknowledges nothing."""
    refuses: Iterator[bool] = field(default_factory=lambda: iter(()))
    """Which of the next batches it does not take."""

    def __post_init__(self) -> None:
        self.service: SessionService | None = None
        self.tasks = Tasks()

    async def open(self, ports: tuple[int, ...] = ()) -> tuple[str, int, int]:
        """At these ports, or at others which stay free while it is away."""
        ports = ports or tuple(free_ports(LOOPBACK, 2))
        config = self.member.config(Role.GATEWAY)
        self.service = SessionService(self.member.network, config, TransmissionEnd.CLOUD, self._take)
        await self.service.open([(LOOPBACK, ports[0])], [(LOOPBACK, ports[1])])
        return LOOPBACK, self.service.negotiation.places[0][1], self.service.transmission.places[0][1]

    def close(self) -> None:
        for session in [*self.sessions.values()]:
            session.close("the cloud was ended")
        if self.service is not None:
            self.service.close()

    def _take(self, session: IotSession) -> None:
        self.sessions[session.id] = session
        session.attend(self)

    def asked(self, session: IotSession, n: int, message: Ask) -> None:
        if isinstance(message, ReadingRequest):
            session.answer(n, ReadingResponse({}))
        elif isinstance(message, RecordBatch) and not self.deaf:
            kept = self.records.setdefault((session.id, message.epoch), [])
            new = message.after(len(kept))
            if new is None or next(self.refuses, False):
                session.answer(n, ErrorMessage(ErrorCode.REFUSED))
                return
            kept += new
            session.answer(n, Acknowledgement())

    def ended(self, session: IotSession, reason: str) -> None:
        if self.sessions.get(session.id) is session:
            del self.sessions[session.id]

    @property
    def all(self) -> list[KeptRecord]:
        """All that it has, decoded."""
        return [decode_record(data) for kept in self.records.values() for data in kept]


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Return once it is so. Raises `TimeoutError`."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


class Sensor(Program):
    """A program that counts: how often it was read and told, and what it was commanded."""

    def __init__(self) -> None:
        self.reads = 0
        self.commands: list[tuple[str, Measured]] = []
        self.to_tell: list[tuple[str, Measured]] = []
        super().__init__(("count",), self._read, self._do, self._tell)

    def _read(self, name: str) -> int:
        self.reads += 1
        return self.reads

    def _do(self, name: str, argument: Measured) -> str:
        if name == "fail":
            raise ValueError("as it was told")
        self.commands.append((name, argument))
        return f"{name} done"

    def _tell(self) -> list[tuple[str, Measured]]:
        told, self.to_tell = self.to_tell, []
        return told
