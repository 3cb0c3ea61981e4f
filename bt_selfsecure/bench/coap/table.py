"""Table 1 of paper 001, made anew: GETs of the 315-byte JSON, each from a new client, over each scheme and libcoap.

Servers are processes of their own, here or on another computer; so is a relay, through which all goes. Time and bytes
are those that the relay sees, from the client's first datagram to the response; libcoap's client is a new process each
time, so its start does not count. The ways take turns, a GET each, so that the computer's moods meet them alike.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median
from typing import IO, Any, Final

from aiocoap import error

from bt_selfsecure.bench.coap.ways import HOST, WITHIN_S, Ports, TableWay, all_ways, make_keys
from bt_selfsecure.coap.resources import SENSOR_BYTES
from bt_selfsecure.errors import PeerError, UsageError
from bt_selfsecure.free_ports import free_ports
from bt_selfsecure.isolated import FOLDER, python_module

GETS: Final = 20
PAPER: Final = {"CoAP": (0.117325, 0.119034, 0.1226845), "CoAPS": (0.368749, 0.381574, 0.4264857)}
PAPER_PROPOSED: Final = (0.298961, 0.336894, 0.3489935)
READY_S: Final = 60.0
"""Within which a server must answer; a Python's start takes a slow computer its time."""
SETTLED_S: Final = 0.02
"""What closes a session passes meanwhile, and is not the next one's."""
FIRST_PORT: Final = 25_683
"""Of those on another computer; none of those that Linux gives to sockets which name none."""


Tell = Callable[[str], None]


def _silent(_said: str) -> None: ...


class BenchError(PeerError):
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

    @property
    def least_s(self) -> float:
        """Return the seconds of the GET that other programs disturbed least."""
        return min(self.seconds)

    def to_json(self) -> dict[str, Any]:
        figures = {"min_s": self.least_s, "average_s": mean(self.seconds), "max_s": max(self.seconds)}
        return asdict(self) | figures | {"median_s": self.median_s, "bytes": self.bytes}


@dataclass(frozen=True, slots=True)
class SlowLink:
    """Says what a link carries in each direction; 0: as fast as loopback is."""

    kbit_per_s: float = 0.0
    delay_ms: float = 0.0

    @property
    def name(self) -> str:
        if self == LOOPBACK:
            return "loopback"
        return f"a link of {self.kbit_per_s:g} kbit/s and {self.delay_ms:g} ms each way"


LOOPBACK: Final = SlowLink()
SLOW: Final = SlowLink(100.0, 15.0)
"""As 6LoWPAN over Bluetooth LE is, roughly."""


class RelayProcess:
    """Runs the relay in front of these ports of a host."""

    def __init__(self, link: SlowLink, host: str, ports: Sequence[int]) -> None:
        words = [str(link.kbit_per_s), str(link.delay_ms), host, *map(str, ports)]
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


@contextmanager
def started(ways: Sequence[TableWay], host: str, ports: Sequence[int]) -> Iterator[Callable[[], None]]:
    """Run the servers of these ways meanwhile. Yields what raises `BenchError` once one of them has ended."""
    none = subprocess.DEVNULL
    with ExitStack() as closing:
        servers = []
        for way, port in zip(ways, ports, strict=True):
            said = closing.enter_context(tempfile.TemporaryFile())
            process = subprocess.Popen(way.server(host, port), stdin=none, stdout=none, stderr=said, cwd=FOLDER)
            closing.callback(process.wait)
            closing.callback(process.kill)
            servers.append((way.name, port, process, said))

        def check() -> None:
            for name, port, process, said in servers:
                if process.poll() is not None:
                    said.seek(0)
                    *_, last = ["nothing", *said.read().decode(errors="replace").splitlines()]
                    raise BenchError(
                        f"the server of {name} ended: is {host} this computer's, and UDP port {port} free? Its last "
                        f"word: {last.removeprefix('bt-selfsecure: ')}"
                    )

        yield check


async def _ask(way: TableWay, ports: Ports) -> None:
    got = await way.get(ports)
    if len(got) != SENSOR_BYTES:
        raise BenchError(f"{way.name}: {len(got)} bytes came")


async def _until_it_answers(way: TableWay, ports: Ports, check: Callable[[], None]) -> None:
    until = asyncio.get_running_loop().time() + READY_S
    while True:
        try:
            async with asyncio.timeout(WITHIN_S):
                return await _ask(way, ports)
        except (PeerError, TimeoutError, error.Error) as failure:
            check()
            if asyncio.get_running_loop().time() > until:
                raise BenchError(f"{way.name}: no answer in {READY_S:g} s ({failure})") from None
            await asyncio.sleep(0.2)


async def measured(
    ways: Sequence[TableWay],
    gets: int,
    relay: RelayProcess,
    tell: Tell = _silent,
    *,
    check: Callable[[], None] = lambda: None,
    settled_s: float = SETTLED_S,
) -> list[Row]:
    """Return the rows of so many GETs of each way, after one that warms up. Raises `BenchError`; so may `check`, while
    a server does not answer."""
    ports = list(zip(relay.ports[::2], relay.ports[1::2], strict=True))
    for way, own in zip(ways, ports, strict=True):
        tell(f"waiting for {way.name}")
        await _until_it_answers(way, own, check)
        await asyncio.sleep(settled_s)
        relay.passed()
    seen: list[list[tuple[float, int, int]]] = [[] for _ in ways]
    for turn in range(gets):
        tell(f"{turn} of {gets} GETs")
        for way, own, passed in zip(ways, ports, seen, strict=True):
            async with asyncio.timeout(WITHIN_S):
                await _ask(way, own)
            await asyncio.sleep(settled_s)
            passed.append(relay.passed())
    rows = []
    for way, passed in zip(ways, seen, strict=True):
        seconds, sizes, datagrams = zip(*passed, strict=True)
        rows.append(Row(way.name, seconds, sizes, datagrams[-1]))
    return rows


async def table(gets: int = GETS, link: SlowLink = LOOPBACK, tell: Tell = _silent) -> list[Row]:
    """Return all rows over such a link, on this computer. Raises `BenchError`."""
    with tempfile.TemporaryDirectory() as name:
        make_keys(Path(name))
        ways = all_ways(Path(name))
        ports = free_ports(HOST, len(ways), 2)
        with started(ways, HOST, ports) as check:
            relay = RelayProcess(link, HOST, [each for port in ports for each in (port, port + 1)])
            try:
                return await measured(ways, gets, relay, tell, check=check)
            finally:
                relay.close()


async def table_at(host: str, folder: Path, gets: int = GETS, tell: Tell = _silent) -> list[Row]:
    """Return all rows that another computer serves from a copy of this folder. Raises `BenchError`."""
    ways = all_ways(folder)
    relay = RelayProcess(LOOPBACK, host, [FIRST_PORT + n for n in range(2 * len(ways))])
    try:
        return await measured(ways, gets, relay, tell, settled_s=10 * SETTLED_S)
    finally:
        relay.close()


async def serve_table(host: str, folder: Path, ready: Callable[[int], None]) -> None:
    """Serve all ways at this address, for `table_at`, until it is cancelled; `ready` is told how many. Raises
    `UsageError` for an address that can't be had, and `BenchError` where a server ends."""
    ways = all_ways(folder, client=False)
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, FIRST_PORT, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as tried:
            tried.bind(place)
    except OSError as failure:
        raise UsageError(
            f"can't serve at {host} ({failure.strerror}): name an address of this computer's, with its UDP ports from "
            f"{FIRST_PORT} on free"
        ) from None
    with started(ways, host, [FIRST_PORT + 2 * n for n in range(len(ways))]) as check:
        ready(len(ways))
        while True:
            check()
            await asyncio.sleep(1)
