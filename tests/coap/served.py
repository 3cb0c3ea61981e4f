"""Servers and clients of every scheme on loopback, for tests."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bt_selfsecure.coap.client import CoapClient, connected
from bt_selfsecure.coap.oscore import OscoreSite
from bt_selfsecure.coap.oscore_pairs import OscorePair, OscorePairs
from bt_selfsecure.coap.pairs import PairFile
from bt_selfsecure.coap.resources import site
from bt_selfsecure.coap.sabour import secured
from bt_selfsecure.coap.schemes import DotpDtls, DotpObject, DtlsPsk, Plain, Scheme
from bt_selfsecure.coap.server import Serving, serve
from bt_selfsecure.protocols.dotp.keys import Policy, Role
from bt_selfsecure.protocols.dotp.record import DotpRecord
from bt_selfsecure.protocols.sabour.config import ClientConfig, ServerConfig
from bt_selfsecure.protocols.sabour.enrolment import Identity
from bt_selfsecure.protocols.sabour.server import Server
from bt_selfsecure.sansio.context import EndpointContext

SECRET = bytes(range(32))
SN = 1234
NAMES = ["plain", "dtls", "dotp dtls", "dotp object", "dotp paper dtls", "dotp paper object", "sabour", "oscore"]
DEVICE, HOST = Identity(b"device 1", bytes(range(32))), Identity(b"server 1", bytes(range(32, 64)))


def begun(folder: Path, name: str, identity: str = "pair", secret: bytes | None = SECRET) -> dict[Role, PairFile]:
    """Both ends of a pair; without a secret in the paper's profile."""
    ends = {}
    for role in Role:
        record = DotpRecord.hardened(role, secret) if secret else DotpRecord.paper(role, SN, Policy.PER_IO_NRPRNG)
        path = folder / f"{name}-{role.value}.pair"
        PairFile.begin(path, identity, record)
        ends[role] = PairFile(path)
    return ends


def oscore_pairs(folder: Path, identity: str = "devA", secret: bytes = SECRET) -> dict[Role, OscorePair]:
    """Both ends of OSCORE with a key that they have in advance."""
    ends = {}
    for role in Role:
        path = folder / f"{identity}-{role.value}.oscore"
        OscorePair.begin(path, role, identity, secret)
        ends[role] = OscorePair(path)
    return ends


class Ends:
    """What a server and a client of one scheme are made of."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.device: ClientConfig | None = None
        self.security: OscorePair | None = None
        self.site: Any = site()
        self.server: Scheme = Plain()
        self.client: Scheme = Plain()
        if name == "dtls":
            self.server = self.client = DtlsPsk({b"devA": b"1234"})
        elif name.startswith("dotp"):
            pair = begun(folder, "pair", secret=None if "paper" in name else SECRET)
            kind = DotpDtls if "dtls" in name else DotpObject
            self.server, self.client = kind([pair[Role.SERVER]]), kind([pair[Role.CLIENT]])
        elif name == "sabour":
            devices = {DEVICE.device_id: DEVICE.enrolment.key}
            self.device = ClientConfig(DEVICE, HOST.enrolment)
            self.site = secured(site(), Server(ServerConfig(HOST, devices), EndpointContext(os.urandom)))
        elif name == "oscore":
            pairs = oscore_pairs(folder)
            self.security = pairs[Role.CLIENT]
            self.site = OscoreSite(site(), OscorePairs([pairs[Role.SERVER]]).of)

    @asynccontextmanager
    async def running(self, host: str, port: int = 0) -> AsyncIterator[Serving]:
        serving = await serve(self.site, host, port, self.server)
        try:
            yield serving
        finally:
            await serving.close()

    @asynccontextmanager
    async def both(self, host: str) -> AsyncIterator[tuple[CoapClient, str]]:
        """A client, and the server's URI without a path."""
        async with self.running(host) as serving, connected(self.client, self.device, security=self.security) as client:
            yield client, f"{self.client.uri_scheme}://{host}:{serving.port}"


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())
