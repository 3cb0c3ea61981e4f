"""Table 1 of paper 001, made anew: GETs of the 315-byte JSON, each from a new client, over each scheme and libcoap.

Servers and a relay are processes of their own, on loopback. Time and bytes are those that the relay sees, from the
client's first datagram to the response; libcoap's client is a new process each time, so its start does not count.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median
from typing import IO, Any, Final

from bt_selfsecure.coap.client import connected
from bt_selfsecure.coap.keys import enrol, own_identity
from bt_selfsecure.coap.pairs import PairFile, write_private
from bt_selfsecure.coap.resources import SENSOR_BYTES
from bt_selfsecure.coap.schemes import DotpDtls, DotpObject, DtlsPsk, Plain, Scheme
from bt_selfsecure.errors import BtSelfSecureError
from bt_selfsecure.isolated import FOLDER, python_module
from bt_selfsecure.protocols.dotp.keys import Role
from bt_selfsecure.protocols.dotp.record import DotpRecord
from bt_selfsecure.protocols.sabour.config import ClientConfig
from bt_selfsecure.protocols.sabour.messages import Profile

HOST: Final = "127.0.0.1"
GETS: Final = 20
PAPER: Final = {"CoAP": (0.117325, 0.119034, 0.1226845), "CoAPS": (0.368749, 0.381574, 0.4264857)}
PAPER_PROPOSED: Final = (0.298961, 0.336894, 0.3489935)
IDENTITY, KEY = b"devA", b"5301919777550"
WITHIN_S: Final = 10
CERTIFICATE: Final = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={0}"


class BenchError(BtSelfSecureError):
    """Says that something that is measured does not do what it should."""


@dataclass(frozen=True, slots=True)
class Row:
    """Says what the GETs of one way took."""

    name: str
    seconds: tuple[float, ...]
    sizes: tuple[int, ...]
    datagrams: int
    """Of the last."""

    @property
    def bytes(self) -> float:
        return median(self.sizes)

    @property
    def median_s(self) -> float:
        return median(self.seconds)

    def to_json(self) -> dict[str, Any]:
        figures = {"min_s": min(self.seconds), "average_s": mean(self.seconds), "max_s": max(self.seconds)}
        return asdict(self) | figures | {"median_s": self.median_s, "bytes": self.bytes}


@dataclass(frozen=True, slots=True)
class SlowLink:
    """Says what a link carries in each direction; 0: as fast as loopback is."""

    kbit_per_s: float = 0.0
    delay_ms: float = 0.0


LOOPBACK: Final = SlowLink()
SLOW: Final = SlowLink(100.0, 15.0)
"""As 6LoWPAN over Bluetooth LE is, roughly."""


class RelayProcess:
    """Runs the relay in front of these ports."""

    def __init__(self, link: SlowLink, ports: list[int]) -> None:
        words = [str(link.kbit_per_s), str(link.delay_ms), *(f"{HOST}:{port}" for port in ports)]
        command = python_module("bt_selfsecure.bench.coap.relay", *words)
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=FOLDER)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in: Final[IO[str]] = self._process.stdin
        self._out: Final[IO[str]] = self._process.stdout
        self.ports: Final[list[int]] = json.loads(self._out.readline())

    def passed(self) -> tuple[float, int, int]:
        """Return seconds, bytes and datagrams up to the response, and forget them.

        Raises `BenchError` without one."""
        self._in.write("\n")
        self._in.flush()
        passed = json.loads(self._out.readline())
        last = max(
            (n for n, (_, who, size) in enumerate(passed) if who == "server" and size >= SENSOR_BYTES), default=-1
        )
        if last < 0:
            raise BenchError(f"no response came: {passed}")
        begin, *counted = passed[: last + 1]
        return counted[-1][0] - begin[0], sum(size for _, _, size in counted), len(counted)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._in.close()
        self._out.close()


async def measured(name: str, gets: int, relay: RelayProcess, get: Callable[[], Awaitable[None]]) -> Row:
    """Return the row of so many calls, after one that warms up."""
    await get()
    relay.passed()
    seen = []
    for _ in range(gets):
        await get()
        await asyncio.sleep(0.02)  # what closes a session passes, and is not the next one's
        seen.append(relay.passed())
    seconds, sizes, datagrams = zip(*seen, strict=True)
    return Row(name, seconds, sizes, datagrams[-1])


@contextmanager
def started(*command: str, given: str = "") -> Iterator[subprocess.Popen[str]]:
    """Run a program meanwhile, with this on its standard input."""
    pipe, none = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=none, text=True, cwd=FOLDER) as process:
        try:
            assert process.stdin is not None
            process.stdin.write(given)
            process.stdin.flush()
            yield process
        finally:
            process.kill()


@contextmanager
def ours(link: SlowLink, folder: Path, *words: str) -> Iterator[RelayProcess]:
    """Run `coap serve` with these options meanwhile, behind a relay; with two ports, where the paper has two."""
    auth = free_port()
    command = python_module("bt_selfsecure", "coap", "serve", "--bind", HOST, "--port", "0", *words)
    with started(*command, "--auth-port", str(auth), "--state", str(folder)) as process, ExitStack() as closing:
        assert process.stdout is not None
        said = process.stdout.readline()
        if not said:
            raise BenchError(f"{' '.join(command)} ended")
        relay = RelayProcess(link, [int(said.split()[1].rsplit(":", 1)[1]), auth])
        closing.callback(relay.close)
        yield relay


def free_port() -> int:
    """Return an even UDP port that is free, most likely with the next."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tried:
        tried.bind((HOST, 0))
        return int(tried.getsockname()[1]) & ~1


async def row_of(
    name: str, gets: int, relay: RelayProcess, scheme: Scheme, path: str = "index", device: ClientConfig | None = None
) -> Row:
    """Return the row of our client."""
    uri = f"{scheme.uri_scheme}://{HOST}:{relay.ports[0]}/{path}"

    async def get() -> None:
        async with connected(scheme, device, relay.ports[-1]) as client:
            payload = (await client.request("get", uri)).payload
            if len(payload) != SENSOR_BYTES:
                raise BenchError(f"{name}: {len(payload)} bytes came")

    return await measured(name, gets, relay, get)


async def our_rows(gets: int, link: SlowLink, folder: Path) -> list[Row]:
    """Return the rows of our schemes."""
    rows = []
    with ours(link, folder) as relay:
        rows.append(await row_of("CoAP", gets, relay, Plain()))
    keys = folder / "keys"
    write_private(keys, IDENTITY + b" " + KEY + b"\n")
    with ours(link, folder, "--scheme", "dtls", "--key-file", str(keys)) as relay:
        rows.append(await row_of("CoAPS, DTLS-PSK", gets, relay, DtlsPsk({IDENTITY: KEY})))
    for layer, kind in (("dtls", DotpDtls), ("object", DotpObject)):
        secret = os.urandom(32)
        for role in Role:
            PairFile.begin(folder / f"{layer}-{role.value}.pair", layer, DotpRecord.hardened(role, secret))
        with ours(link, folder, "--scheme", "dotp", "--layer", layer, "--pair", f"{layer}-server") as relay:
            pair = PairFile(folder / f"{layer}-client.pair")
            rows.append(await row_of(f"D-OTP, layer {layer}", gets, relay, kind([pair])))
    device, host = own_identity(folder / "device", os.urandom), own_identity(folder / "host", os.urandom)
    enrol(folder / "host", device.enrolment)
    for name, words, profile in (
        ("Sabour, paper", ("--profile", "paper"), Profile.PAPER_ECDSA),
        ("Sabour, hardened", (), Profile.HARDENED),
    ):
        with ours(link, folder / "host", "--scheme", "sabour", *words) as relay:
            config = ClientConfig(device, host.enrolment, profile)
            rows.append(await row_of(name, gets, relay, Plain(), device=config))
    return rows


async def edhoc_rows(gets: int, link: SlowLink) -> list[Row]:
    """Return the row of OSCORE with EDHOC, if its library is installed."""
    try:
        from bt_selfsecure.bench.coap import edhoc
    except ImportError:
        return []
    port, secrets = free_port(), edhoc.new_secrets()
    command = python_module("bt_selfsecure.bench.coap.edhoc", HOST, str(port))
    with started(*command, given=secrets + "\n") as process, ExitStack() as closing:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise BenchError("the server with EDHOC ended")
        relay = RelayProcess(link, [port])
        closing.callback(relay.close)
        origin = f"coap://{HOST}:{relay.ports[0]}"

        async def get() -> None:
            payload = await edhoc.get(f"{origin}/index", origin, secrets)
            if len(payload) != SENSOR_BYTES:
                raise BenchError(f"EDHOC: {len(payload)} bytes came")

        return [await measured("OSCORE with EDHOC (aiocoap)", gets, relay, get)]


async def libcoap_rows(gets: int, link: SlowLink, folder: Path) -> list[Row]:
    """Return the rows of libcoap's programs, as far as they are installed."""
    rows = []
    for end in ("client", "server"):
        words = CERTIFICATE.format(end).split()
        files = ["-keyout", str(folder / f"{end}.key"), "-out", str(folder / f"{end}.crt")]
        subprocess.run([*words, *files], check=True, capture_output=True)

    def own(end: str, other: str) -> list[str]:
        files = {"-c": f"{end}.crt", "-j": f"{end}.key", "-C": f"{other}.crt", "-R": f"{other}.crt"}
        return [word for option, name in files.items() for word in (option, str(folder / name))]

    ways = [
        ("CoAP", [], []),
        ("CoAPS, DTLS-PSK", ["-k", KEY.decode()], ["-u", IDENTITY.decode(), "-k", KEY.decode()]),
        ("CoAPS, DTLS-ECDHE", own("server", "client"), own("client", "server")),
    ]
    for library in ("openssl", "gnutls"):
        if shutil.which(f"coap-server-{library}") is None:
            continue
        for name, server, client in ways:
            if name == "CoAP" and library != "openssl":
                continue
            said = f"{name} (libcoap, {library})" if client else f"{name} (libcoap)"
            rows.append(await _libcoap_row(said, gets, link, library, server, client))
    return rows


async def _libcoap_row(name: str, gets: int, link: SlowLink, library: str, server: list[str], client: list[str]) -> Row:
    port = free_port()
    scheme, at = ("coaps", port + 1) if client else ("coap", port)
    with started(f"coap-server-{library}", "-A", HOST, "-p", str(port), "-d", "9", *server), ExitStack() as closing:
        readings = "x" * SENSOR_BYTES
        command = [f"coap-client-{library}", "-v", "1", "-B", str(WITHIN_S), *client]
        uri = f"{scheme}://{HOST}:{at}/index"
        async with asyncio.timeout(WITHIN_S):
            while (await _libcoap([*command, uri])).strip() != readings.encode():  # until it listens
                await _libcoap([*command, "-m", "put", "-e", readings, uri])
        relay = RelayProcess(link, [at])
        closing.callback(relay.close)

        async def get() -> None:
            printed = await _libcoap([*command, f"{scheme}://{HOST}:{relay.ports[0]}/index"])
            if printed.strip() != readings.encode():
                raise BenchError(f"{name}: libcoap's client printed {printed[:60]!r}")

        return await measured(name, gets, relay, get)


async def _libcoap(command: list[str]) -> bytes:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=asyncio.subprocess.DEVNULL)
    out, _ = await process.communicate()
    return out


async def table(gets: int = GETS, link: SlowLink = LOOPBACK) -> list[Row]:
    """Return all rows over such a link. Raises `BenchError` where something does not do what it should."""
    with tempfile.TemporaryDirectory() as name:
        rows = await our_rows(gets, link, Path(name))
        return [*rows, *await edhoc_rows(gets, link), *await libcoap_rows(gets, link, Path(name))]
