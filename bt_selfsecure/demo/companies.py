"""Companies on this computer, for the story of IoT-Crypto: what `gateway run`, `device run` and `cloud run` run, in one
event loop, on sockets of loopback and files of one folder."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import aiohttp

from bt_selfsecure.bearers.places import Place
from bt_selfsecure.errors import PeerError
from bt_selfsecure.iot.cloud.cloud import Cloud
from bt_selfsecure.iot.cloud.config import CloudConfig
from bt_selfsecure.iot.cloud.config import default_config as cloud_defaults
from bt_selfsecure.iot.cloud.running import open_base, run_cloud
from bt_selfsecure.iot.cloud.tokens import TokenRole, make_proof, make_token
from bt_selfsecure.iot.device.device import Device, DeviceConfig
from bt_selfsecure.iot.device.program import Program
from bt_selfsecure.iot.device.store import DeviceStore
from bt_selfsecure.iot.folder import IdentityFolder, add_signature, new_network, prepare
from bt_selfsecure.iot.gateway.config import default_config as gateway_defaults
from bt_selfsecure.iot.gateway.gateway import ConnectedDevice, Gateway
from bt_selfsecure.iot.gateway.store import GatewayStore
from bt_selfsecure.iot.members import Member
from bt_selfsecure.iot.sessions import NotConnectedError, negotiate
from bt_selfsecure.protocols.iotcrypto.certificate import Role, SecretKeys
from bt_selfsecure.protocols.iotcrypto.transmission_messages import Measured

HOST: Final = "127.0.0.1"
DAYS: Final = 30
FETCH_S: Final = 0.5
PATIENCE_S: Final = 20.0
LOOK_S: Final = 0.02
Readings = dict[str, Measured]


class Companies:
    """Runs them until its `with` ends."""

    def __init__(self, place: Path) -> None:
        self._place: Final = place
        self._network: Final = new_network("house")
        self._stack: Final = AsyncExitStack()
        self._devices: Final[dict[str, AsyncExitStack]] = {}
        self._says: Final[dict[str, Readings]] = {}
        self.gateways: Final[dict[str, Gateway]] = {}

    async def __aenter__(self) -> Companies:
        await self._stack.__aenter__()
        self._stack.enter_context(_quiet())
        return self

    async def __aexit__(self, *fault: Any) -> None:
        for stack in self._devices.values():
            await stack.aclose()
        await self._stack.__aexit__(*fault)

    # --- certificates -------------------------------------------------------------------------------------------------

    def company(self, name: str) -> IdentityFolder:
        """Make a party, which has the one network's key."""
        folder = self.folder(name)
        folder.make_key()
        folder.certify(Role.PARTY, name, DAYS)
        folder.put_network(self._network)
        return folder

    def folder(self, name: str) -> IdentityFolder:
        return IdentityFolder(self._place / name)

    def sign(self, party: IdentityFolder, name: str) -> None:
        """Do as `iotcrypto sign` does with somebody's certificate."""
        folder = self.folder(name)
        signed = folder.signed()
        folder.put_signed(add_signature(signed, party.secrets().sign(signed.certificate)))

    async def signed(self, party: IdentityFolder, gateway: str) -> None:
        """Sign a gateway that runs; return once it shows that signature."""
        self.sign(party, gateway)
        now = self.folder(gateway).signed()
        await until(lambda: self.gateways[gateway].service.config.signed == now)

    # --- who runs -----------------------------------------------------------------------------------------------------

    async def start_gateway(self, name: str, owner: IdentityFolder, cloud: Cloud | None = None) -> Gateway:
        folder = self.folder(name)
        prepare(folder, Role.GATEWAY, name, DAYS, owner)
        config = gateway_defaults()[0]
        devices = replace(
            config.devices, listen=(HOST,), negotiation_port=0, transmission_port=0, advertise=False, fetch_s=FETCH_S
        )
        config = replace(config, devices=devices)
        if cloud is not None:
            negotiation, transmission = _ports(cloud)
            where = replace(config.cloud, address=f"{HOST}:{negotiation}", transmission_port=transmission)
            config = replace(config, cloud=where)
        store = GatewayStore(folder.path / "gateway.db")
        self._stack.callback(store.close)
        gateway = self.gateways[name] = Gateway(config, Member(folder, Role.GATEWAY), store)
        await self._stack.enter_async_context(_running(gateway.run()))
        await until(gateway.running.is_set)
        return gateway

    def make_device(self, name: str, owner: IdentityFolder, says: Readings) -> None:
        prepare(self.folder(name), Role.DEVICE, name, DAYS, owner)
        self._says[name] = says

    async def start_device(self, name: str, gateway: str) -> ConnectedDevice:
        """Run a device, perhaps one that ran elsewhere; once this gateway has read it, return what that knows."""
        if before := self._devices.pop(name, None):
            await before.aclose()
        member, says = Member(self.folder(name), Role.DEVICE), self._says[name]
        stack = self._devices[name] = AsyncExitStack()
        store = DeviceStore(member.folder.path / "device.db")
        stack.callback(store.close)
        device = Device(member, Program(tuple(says), says.__getitem__), store, DeviceConfig(*self.at(gateway)))
        await stack.enter_async_context(_running(device.run()))
        devices = self.gateways[gateway].devices
        await until(lambda: member.id in devices and devices[member.id].readings)
        return devices[member.id]

    async def refusal(self, device: str, gateway: str) -> str:
        """Let a device try a gateway, as `device run` does; return why it came to nothing, or nothing."""
        member = Member(self.folder(device), Role.DEVICE)
        try:
            await negotiate(self.at(gateway)[0], member.network, member.config(Role.GATEWAY))
        except NotConnectedError as error:
            return str(error)
        return ""

    def at(self, gateway: str) -> tuple[Place, int]:
        """Return where a gateway negotiates, and its transmission port."""
        service = self.gateways[gateway].service
        return service.negotiation.places[0], service.transmission.places[0][1]

    # --- the cloud ----------------------------------------------------------------------------------------------------

    async def start_cloud(self, owner: IdentityFolder) -> CloudAtWork:
        folder = self.folder("cloud")
        prepare(folder, Role.CLOUD, "cloud", DAYS, owner)
        config = cloud_defaults()[0]
        config = replace(
            config,
            cloud=replace(config.cloud, state=folder.path),
            gateways=replace(config.gateways, listen=(HOST,), negotiation_port=0, transmission_port=0),
            api=replace(config.api, listen=(HOST,), port=0, https="off"),
        )
        there: asyncio.Future[tuple[Cloud, int]] = asyncio.get_running_loop().create_future()
        await self._stack.enter_async_context(_running(run_cloud(config, lambda *told: there.set_result(told))))
        await until(there.done)
        cloud, port = there.result()
        return CloudAtWork(config, cloud, f"http://{HOST}:{port}")


class CloudAtWork:
    """Is a cloud, asked by REST."""

    def __init__(self, config: CloudConfig, cloud: Cloud, url: str) -> None:
        self.cloud: Final = cloud
        self._config, self._url = config, url

    def token(self, name: str, role: TokenRole, partner: IdentityFolder | None = None) -> str:
        """Make a token, as `cloud token add` does."""
        base = open_base(self._config)
        try:
            bound = partner.signed().encode() if partner else None
            return make_token(base, name, role, DAYS, int(time.time() * 1000), bound)
        finally:
            base.close()

    async def ask(self, path: str, token: str, keys: SecretKeys | None = None, *, post: bytes | None = None) -> Any:
        """Return what REST answers, or its status where that is not 200. `keys` prove that the token is theirs."""
        method, url = "GET" if post is None else "POST", self._url + path
        headers = {"Authorization": f"{'DPoP' if keys else 'Bearer'} {token}"}
        if keys is not None:
            headers["DPoP"] = make_proof(keys, method, url, token, int(time.time()))
        async with aiohttp.ClientSession() as session, session.request(method, url, headers=headers, data=post) as got:
            return await got.json() if got.status == 200 else got.status


async def until(condition: Callable[[], object]) -> None:
    """Return once it is so. Raises `PeerError`."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        raise PeerError(
            f"a step of the story took more than {PATIENCE_S:.0f} s: run it again, with less beside"
        ) from None


def _ports(cloud: Cloud) -> tuple[int, int]:
    return cloud.service.negotiation.places[0][1], cloud.service.transmission.places[0][1]


@asynccontextmanager
async def _running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@contextmanager
def _quiet() -> Iterator[None]:
    """What services would log, the story says itself."""
    log = logging.getLogger("bt_selfsecure.iot")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)
