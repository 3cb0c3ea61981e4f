"""libcoap's own programs against ours (Debian: libcoap3-bin): skipped where they are not installed."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiocoap
import pytest
from served import begun, run

from bt_selfsecure.coap.client import CoapClient, NoResponseError, connected
from bt_selfsecure.coap.pairs import PairFile
from bt_selfsecure.coap.resources import SENSOR_BYTES, site
from bt_selfsecure.coap.schemes import DotpDtls, DtlsPsk, Plain
from bt_selfsecure.coap.server import serve
from bt_selfsecure.free_ports import free_ports
from bt_selfsecure.protocols.dotp.keys import Role
from bt_selfsecure.protocols.dotp.psk import ClientKeys

LIBRARIES = pytest.mark.parametrize("library", ["openssl", "gnutls"])
WAIT_S, REFUSED_S = 60, 2
"""How long an answer is waited for, and one that must not come: a slow computer takes seconds for a handshake."""


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (apt-get install libcoap3-bin)")
    return found


async def libcoap(library: str, uri: str, *words: str, wait_s: int = WAIT_S) -> bytes:
    """Return what libcoap's client prints: the payload, or nothing."""
    command = [program(f"coap-client-{library}"), "-v", "1", "-B", str(wait_s), *words, uri]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    out, _ = await process.communicate()
    return out


@pytest.mark.parametrize("profile", ["paper", "hardened"])
@LIBRARIES
def test_libcoaps_client_is_served_with_key_n_and_not_with_its_neighbours_nor_twice(
    library: str, profile: str, tmp_path: Path, loopback_host: str
) -> None:
    ends = begun(tmp_path, "pair", secret=None if profile == "paper" else bytes(32))
    keys = ClientKeys(ends[Role.CLIENT].record, b"pair")
    keys.reserve()
    sessions = [tuple(part.decode() for part in keys.take()) for _ in range(6)]

    async def test() -> None:
        serving = await serve(site(), loopback_host, 0, DotpDtls([ends[Role.SERVER]]))
        uri = f"coaps://{loopback_host}:{serving.port}/sensor"

        async def get(n: int, of: int, wait_s: int = WAIT_S) -> int:
            own = "-u", sessions[n][0], "-k", sessions[of][1]
            return len((await libcoap(library, uri, *own, wait_s=wait_s)).rstrip(b"\n"))

        served = [await get(n, n) for n in (0, 1, 3)]
        refused = await asyncio.gather(*(get(n, n + off, REFUSED_S) for n, off in ((2, -1), (2, 1), (3, 0), (1, 0))))
        assert served == [SENSOR_BYTES] * 3
        assert refused == [0] * 4
        assert await get(2, 2) == SENSOR_BYTES, "it was skipped, and is still good"
        await serving.close()

    run(test)


@LIBRARIES
def test_libcoaps_client_uses_every_method_of_our_dtls_server(library: str, loopback_host: str) -> None:
    async def test() -> None:
        serving = await serve(site(), loopback_host, 0, DtlsPsk({b"devA": b"5301919777550"}))
        uri, own = f"coaps://{loopback_host}:{serving.port}", ("-u", "devA", "-k", "5301919777550")
        await libcoap(library, f"{uri}/store/a", *own, "-m", "put", "-e", "on")
        await libcoap(library, f"{uri}/store/a", *own, "-m", "post", "-e", "ce")
        assert (await libcoap(library, f"{uri}/store/a", *own)).strip() == b"once"
        seen = await libcoap(library, f"{uri}/time", *own, "-s", "2")
        assert len(set(seen.split(b":"))) > 3, "observed for two seconds"
        await libcoap(library, f"{uri}/store/a", *own, "-m", "delete")
        assert b"once" not in await libcoap(library, f"{uri}/store/a", *own)
        await serving.close()

    run(test)


@LIBRARIES
@pytest.mark.parametrize("scheme", [Plain(), DtlsPsk({b"devA": b"1234"})], ids=["plain", "dtls"])
def test_our_client_is_served_by_libcoaps_server(
    scheme: Plain | DtlsPsk, library: str, tmp_path: Path, loopback_host: str
) -> None:
    identities = tmp_path / "identities"
    identities.write_text("CoAP,devA,1234\n")
    (port,) = free_ports(loopback_host, 1, 2)
    words = ("-A", loopback_host, "-p", str(port), "-k", "other", "-h", "CoAP", "-i", str(identities), "-d", "9")

    async def test() -> None:
        server = await asyncio.create_subprocess_exec(program(f"coap-server-{library}"), *words)
        try:
            async with connected(scheme) as client:
                uri = f"{scheme.uri_scheme}://{loopback_host}:{port + (scheme.uri_scheme == 'coaps')}"
                assert b":" in await first_answer(client, f"{uri}/time")
                assert (await client.request("put", f"{uri}/a", b"x" * 3000)).code == aiocoap.CREATED
                assert (await client.request("get", f"{uri}/a")).payload == b"x" * 3000
                seen = [message.payload async for message in first_two(client.observe(f"{uri}/time"))]
                assert len(seen) == 2
        finally:
            server.kill()
            await server.wait()

    run(test)


async def first_answer(client: CoapClient, uri: str) -> bytes:
    """Of a server that may still be starting."""
    async with asyncio.timeout(60):
        while True:
            try:
                return bytes((await client.request("get", uri)).payload)
            except NoResponseError:
                await asyncio.sleep(0.1)


async def first_two(messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
    count = 0
    async for message in messages:
        yield message
        count += 1
        if count == 2:
            return


@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.long)])
def test_so_many_sessions_across_a_restart_of_the_server(count: int, tmp_path: Path, loopback_host: str) -> None:
    """Ours at both ends, as processes would be: the server is closed, and its pair read from the disk again."""
    ends = begun(tmp_path, "pair")

    async def test() -> None:
        (port,) = free_ports(loopback_host, 1)
        serving = await serve(site(), loopback_host, port, DotpDtls([ends[Role.SERVER]]))
        for number in range(count):
            if number == count // 2:
                await serving.close()
                ends[Role.SERVER].close()
                serving = await serve(site(), loopback_host, port, DotpDtls([PairFile(ends[Role.SERVER].path)]))
            async with connected(DotpDtls([ends[Role.CLIENT]])) as client:
                answer = await client.request("get", f"coaps://{loopback_host}:{port}/sensor")
                assert len(answer.payload) == SENSOR_BYTES
        await serving.close()

    run(test)
