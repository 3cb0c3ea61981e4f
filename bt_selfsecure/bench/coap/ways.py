"""What Table 1 compares: for each way a server, as a command, and a GET by a new client.

Both ends take their keys from one folder, which `make_keys` fills; each way has two ports, one after the other.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bt_selfsecure.bench.coap.certificates import DtlsCertificates, make_certificates
from bt_selfsecure.coap.client import connected
from bt_selfsecure.coap.keys import enrol, own_identity
from bt_selfsecure.coap.oscore_pairs import OscorePair
from bt_selfsecure.coap.pairs import PairFile
from bt_selfsecure.coap.resources import SENSOR_BYTES
from bt_selfsecure.coap.schemes import DotpDtls, DotpObject, DtlsPsk, Plain, Scheme
from bt_selfsecure.errors import PeerError
from bt_selfsecure.files import private, write_private
from bt_selfsecure.isolated import python_module
from bt_selfsecure.protocols.dotp.keys import Role
from bt_selfsecure.protocols.dotp.record import DotpRecord
from bt_selfsecure.protocols.sabour.config import ClientConfig
from bt_selfsecure.protocols.sabour.messages import Profile

HOST: Final = "127.0.0.1"
"""Where clients ask: at the relay."""
IDENTITY, KEY = b"devA", b"5301919777550"
LAYERS: Final = {"dtls": DotpDtls, "object": DotpObject}
WITHIN_S: Final = 10
READINGS: Final = "x" * SENSOR_BYTES
"""What libcoap's server, which has no sensor, is given."""
EDHOC_FILE: Final = "edhoc"
Ports = tuple[int, int]
Get = Callable[[Ports], Awaitable[bytes]]
"""Asks at these ports of the relay; returns what came, whose length is to be that of the readings."""


@dataclass(frozen=True, slots=True)
class TableWay:
    """Is one row of the table."""

    name: str
    server: Callable[[str, int], list[str]]
    """Returns the command that serves at an address, from a port on."""
    get: Get


def make_keys(folder: Path) -> None:
    """Write the keys of both ends of all ways into a folder, which must be empty."""
    make_certificates(folder)
    write_private(folder / "keys", IDENTITY + b" " + KEY + b"\n")
    for layer in LAYERS:
        secret = os.urandom(32)
        for role in Role:
            PairFile.begin(folder / f"{layer}-{role.value}.pair", layer, DotpRecord.hardened(role, secret))
    secret = os.urandom(32)
    for role in Role:
        OscorePair.begin(folder / f"{role.value}.oscore", role, IDENTITY.decode(), secret)
    own_identity(folder / "host", os.urandom)
    enrol(folder / "host", own_identity(folder / "device", os.urandom).enrolment)
    if importlib.util.find_spec("lakers") is not None:
        from bt_selfsecure.bench.coap.edhoc import new_secrets

        write_private(folder / EDHOC_FILE, new_secrets().encode())


def all_ways(folder: Path, *, client: bool = True) -> list[TableWay]:
    """Return those whose programs are installed; without `client`, to serve them alone. Raises `UsageError` where the
    folder is not as `make_keys` leaves it."""
    ways = [*_our_ways(folder, client=client)]
    ways.append(
        TableWay(
            "CoAPS, DTLS-ECDHE",
            lambda host, port: python_module("bt_selfsecure.bench.coap.certificates", host, str(port), str(folder)),
            _our_get(DtlsCertificates(folder, "client")),
        )
    )
    if (folder / EDHOC_FILE).exists():
        ways.append(_edhoc_way(folder))
    return [*ways, *_libcoap_ways(folder)]


def _our_get(scheme: Scheme, device: ClientConfig | None = None, security: OscorePair | None = None) -> Get:
    async def get(ports: Ports) -> bytes:
        async with connected(scheme, device, ports[1], security) as client:
            return bytes((await client.request("get", f"{scheme.uri_scheme}://{HOST}:{ports[0]}/index")).payload)

    return get


def _our_ways(folder: Path, *, client: bool) -> list[TableWay]:
    def serve(state: Path, *words: str) -> Callable[[str, int], list[str]]:
        own = ("--state", str(state), *words)
        return lambda host, port: python_module(
            "bt_selfsecure", "coap", "serve", "--bind", host, "--port", str(port), "--auth-port", str(port + 1), *own
        )

    ways = [
        TableWay("CoAP", serve(folder), _our_get(Plain())),
        TableWay(
            "CoAPS, DTLS-PSK",
            serve(folder, "--scheme", "dtls", "--key-file", str(folder / "keys")),
            _our_get(DtlsPsk({IDENTITY: KEY})),
        ),
    ]
    for layer, kind in LAYERS.items():
        pair = ("--scheme", "dotp", "--layer", layer, "--pair", f"{layer}-server")
        pairs = [PairFile(folder / f"{layer}-client.pair")] if client else []
        ways.append(TableWay(f"D-OTP, layer {layer}", serve(folder, *pair), _our_get(kind(pairs))))
    security = OscorePair(folder / "client.oscore") if client else None
    server = serve(folder, "--scheme", "oscore", "--pair", "server")
    ways.append(TableWay("OSCORE", server, _our_get(Plain(), security=security)))
    device, host = (own_identity(folder / end, os.urandom) for end in ("device", "host"))
    for name, option, profile in (
        ("Sabour, paper", "paper", Profile.PAPER_ECDSA),
        ("Sabour, hardened", "hardened", Profile.HARDENED),
    ):
        config = ClientConfig(device, host.enrolment, profile)
        server = serve(folder / "host", "--scheme", "sabour", "--profile", option)
        ways.append(TableWay(name, server, _our_get(Plain(), config)))
    return ways


def _edhoc_way(folder: Path) -> TableWay:
    from bt_selfsecure.bench.coap import edhoc

    file = folder / EDHOC_FILE
    secrets = private(file).decode()

    async def get(ports: Ports) -> bytes:
        origin = f"coap://{HOST}:{ports[0]}"
        return await edhoc.get(f"{origin}/index", origin, secrets)

    return TableWay(
        "OSCORE with EDHOC (aiocoap)",
        lambda host, port: python_module("bt_selfsecure.bench.coap.edhoc", host, str(port), str(file)),
        get,
    )


def _libcoap_ways(folder: Path) -> list[TableWay]:
    def own(end: str, other: str) -> list[str]:
        files = {"-c": f"{end}.crt", "-j": f"{end}.key", "-C": f"{other}.crt", "-R": f"{other}.crt"}
        return [word for option, name in files.items() for word in (option, str(folder / name))]

    psk = ["-k", KEY.decode()]
    secured = [
        ("CoAPS, DTLS-PSK", psk, ["-u", IDENTITY.decode(), *psk]),
        ("CoAPS, DTLS-ECDHE", own("server", "client"), own("client", "server")),
    ]
    ways = []
    for library in ("openssl", "gnutls"):
        if shutil.which(f"coap-server-{library}") is None:
            continue
        if library == "openssl":
            ways.append(_libcoap_way("CoAP (libcoap)", library, [], []))
        ways += [_libcoap_way(f"{name} (libcoap, {library})", library, *words) for name, *words in secured]
    return ways


def _libcoap_way(name: str, library: str, server: list[str], client: list[str]) -> TableWay:
    """Its server has CoAP at the first port, CoAPS at the next."""
    command = [f"coap-client-{library}", "-v", "1", "-B", str(WITHIN_S), *client]

    async def get(ports: Ports) -> bytes:
        uri = f"coaps://{HOST}:{ports[1]}/index" if client else f"coap://{HOST}:{ports[0]}/index"
        printed = await _run([*command, uri])
        if len(printed.strip()) != SENSOR_BYTES:
            await _run([*command, "-m", "put", "-e", READINGS, uri])
            raise PeerError(f"libcoap's client printed {printed[:60]!r}")
        return printed.strip()

    return TableWay(
        name, lambda host, port: [f"coap-server-{library}", "-A", host, "-p", str(port), "-d", "9", *server], get
    )


async def _run(command: list[str]) -> bytes:
    pipe, none = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=none)
    out, _ = await process.communicate()
    return out
