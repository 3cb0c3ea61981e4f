"""A cloud in the event loop of a test, with its gateways, and who asks its REST."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
from iot_network import LOOPBACK, company

from bt_selfsecure.bearers.places import Place
from bt_selfsecure.free_ports import free_ports
from bt_selfsecure.iot.cloud.cloud import Cloud
from bt_selfsecure.iot.cloud.config import CloudConfig, default_config
from bt_selfsecure.iot.cloud.running import open_base, run_cloud
from bt_selfsecure.iot.cloud.tokens import TokenRole, make_proof, make_token
from bt_selfsecure.iot.folder import IdentityFolder, prepare
from bt_selfsecure.protocols.iotcrypto.certificate import Role, SecretKeys


def cloud_config(state: Path, database: str = "", ports: Sequence[int] = (0, 0), **api: Any) -> CloudConfig:
    config = default_config()[0]
    gateways = replace(
        config.gateways, listen=(LOOPBACK,), negotiation_port=ports[0], transmission_port=ports[1], rekey_s=3600.0
    )
    chosen = {"listen": (LOOPBACK,), "port": 0, "https": "off", "requests_per_minute": 100_000}
    return replace(
        config,
        cloud=replace(config.cloud, state=state, database=database),
        gateways=gateways,
        api=replace(config.api, **(chosen | api)),
    )


class Rest:
    """Somebody with a token."""

    def __init__(self, url: str, token: str, partner: SecretKeys | None = None) -> None:
        self.url, self.token, self._partner = url, token, partner

    def headers(self, method: str, path: str) -> dict[str, str]:
        if self._partner is None:
            return {"Authorization": f"Bearer {self.token}"}
        url = self.url + path.partition("?")[0]
        proof = make_proof(self._partner, method, url, self.token, int(time.time()))
        return {"Authorization": f"DPoP {self.token}", "DPoP": proof}

    async def ask(
        self, path: str, method: str = "GET", body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """Status, and what the answer says."""
        given = self.headers(method, path) if headers is None else headers
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self.url + path, data=body, headers=given) as answer,
        ):
            text = await answer.text()
            return answer.status, json.loads(text) if "json" in answer.headers.get("Content-Type", "") else text

    async def get(self, path: str) -> Any:
        status, told = await self.ask(path)
        assert status == 200, told
        return told


class RunningCloud:
    def __init__(self, cloud: Cloud, port: int, owner: IdentityFolder, config: CloudConfig) -> None:
        self.cloud, self.url, self.owner, self.config = cloud, f"http://{LOOPBACK}:{port}", owner, config

    @property
    def place(self) -> Place:
        """As `gateway_config` takes it: with the port of transmission, too."""
        service = self.cloud.service
        ports = service.negotiation.places[0][1], service.transmission.places[0][1]
        return LOOPBACK, *ports  # type: ignore[return-value]

    def rest(self, role: str = "owner", partner: IdentityFolder | None = None, name: str = "") -> Rest:
        base = open_base(self.config)
        certificate = partner.signed().encode() if partner else None
        made = make_token(base, name or role, TokenRole[role.upper()], 1, int(time.time() * 1000), certificate)
        base.close()
        return Rest(self.url, made, partner.secrets() if partner else None)


@contextlib.asynccontextmanager
async def cloud_at(
    path: Path, owner: IdentityFolder | None = None, database: str = "", ports: Sequence[int] = (), **api: Any
) -> AsyncIterator[RunningCloud]:
    """Run a cloud in `path`/cloud, which is made where there is none. At these ports, or at others which stay free
    while it is away."""
    owner = owner or company(path)
    folder = IdentityFolder(path / "cloud")
    if not folder.has_key:
        prepare(folder, Role.CLOUD, "cloud", 365, owner)
    config = cloud_config(folder.path, database, ports or free_ports(LOOPBACK, 2), **api)
    there: asyncio.Future[tuple[Cloud, int]] = asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(run_cloud(config, lambda *told: there.set_result(told)))
    await asyncio.wait([task, there], return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    try:
        yield RunningCloud(*there.result(), owner, config)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
