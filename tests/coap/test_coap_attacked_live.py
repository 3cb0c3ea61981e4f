"""Eve in a server's place by real sockets, in one process with both ends: what takes a key, a flood, or no server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiocoap
import pytest
from served import DEVICE, HOST, SN, Ends, run

from bt_selfsecure.bench.coap.live import attack
from bt_selfsecure.cli.main import main
from bt_selfsecure.coap.client import connected
from bt_selfsecure.coap.sabour_paper import PaperHandshakes
from bt_selfsecure.errors import BtSelfSecureError
from bt_selfsecure.protocols.dotp.keys import HardenedKeys, PaperKeys, Policy, Profile, Role, psk
from bt_selfsecure.protocols.sabour.config import ClientConfig, ServerConfig
from bt_selfsecure.protocols.sabour.messages import Profile as SabourProfile
from bt_selfsecure.protocols.sabour.server import Server
from bt_selfsecure.sansio.context import EndpointContext

PATIENCE_S = 30.0
PAPER_KEY = psk(Profile.PAPER, PaperKeys(SN, Policy.PER_IO_NRPRNG).key(7)).decode()
HARDENED_KEY = psk(Profile.HARDENED, HardenedKeys.of_pair(bytes(range(32)), Role.CLIENT).key(7)).decode()


class Eve:
    """The attack while it runs, and what she said."""

    def __init__(self, name: str, profile: str, places: list[tuple[str, int]], key: str) -> None:
        self.said: list[str] = []
        self._over = asyncio.Event()
        self.task = asyncio.create_task(attack(name, profile, places, PATIENCE_S, self.said.append, key, self._over))

    async def end(self) -> bool:
        """Return whether she succeeded."""
        self._over.set()
        return await self.task

    @property
    def ports(self) -> list[int]:
        return [int(line.split()[4].rstrip(",")) for line in self.said if line.startswith("listening")]


@asynccontextmanager
async def eve(name: str, profile: str, *places: tuple[str, int], key: str = "") -> AsyncIterator[Eve]:
    """Yields once she stands there."""
    she = Eve(name, profile, list(places), key)
    while len(she.said) < len(places) and not she.task.done():
        await asyncio.sleep(0.01)
    yield she
    await she.end()


@pytest.mark.parametrize(
    ("name", "ends", "key", "succeeded", "last"),
    [
        ("dotp/generator", "dotp paper object", "", True, "it is MT19937, seeded with 1234"),
        ("dotp/generator", "dotp object", "", False, "none of these"),
        ("dotp/impersonation", "dotp paper object", "", True, "server: 2.01 Created"),
        ("dotp/impersonation", "dotp object", "", False, "listening"),
        ("dotp/one-key", "dotp paper object", PAPER_KEY, True, "server: 2.05 Content "),
        ("dotp/one-key", "dotp object", HARDENED_KEY, False, "server: "),
    ],
)
def test_who_has_one_text_or_one_key_of_the_object_layer_gets_all_of_paper_and_nothing_of_hardened(
    name: str, ends: str, key: str, succeeded: bool, last: str, tmp_path: Path, loopback_host: str
) -> None:
    async def test() -> None:
        served = Ends(ends, tmp_path)
        async with (
            served.both(loopback_host) as (client, where),
            eve(name, "both", (loopback_host, int(where.rpartition(":")[2])), key=key) as she,
        ):
            uri = f"coap://{loopback_host}:{she.ports[0]}/time"
            if name == "dotp/impersonation" and succeeded:  # she has cut the client off
                with pytest.raises(BtSelfSecureError):
                    await client.request("get", uri, timeout=0.5)
            else:
                assert (await client.request("get", uri, timeout=PATIENCE_S)).code == aiocoap.CONTENT
            async with asyncio.timeout(PATIENCE_S):
                while succeeded and last not in she.said[-1]:
                    await asyncio.sleep(0.01)
            assert await she.end() == succeeded
            assert last in she.said[-1]

    run(test)


@pytest.mark.parametrize(
    ("ends", "key", "succeeded"), [("dotp paper dtls", PAPER_KEY, True), ("dotp dtls", HARDENED_KEY, False)]
)
def test_who_has_one_key_of_the_dtls_layer_is_served_in_paper_alone(
    ends: str, key: str, succeeded: bool, tmp_path: Path, loopback_host: str
) -> None:
    async def test() -> None:
        served = Ends(ends, tmp_path)
        async with (
            served.both(loopback_host) as (client, where),
            eve("dotp/one-key", "both", (loopback_host, int(where.rpartition(":")[2])), key=key) as she,
        ):
            uri = f"coaps://{loopback_host}:{she.ports[0]}/time"
            assert (await client.request("get", uri)).code == aiocoap.CONTENT
            while len(she.said) < 4 and not she.task.done():  # she has tried once
                await asyncio.sleep(0.05)
            assert await she.end() == succeeded
            assert she.said[2].startswith("she calls as pair/1, with the key ")
            assert ("the server serves her: 2.05 Content" in she.said[3]) == succeeded

    run(test)


@pytest.mark.skipif(shutil.which("coap-client-openssl") is None, reason="libcoap's client is not installed")
def test_the_key_of_libcoaps_client_is_read_off_the_list_of_processes_and_is_enough(
    tmp_path: Path, loopback_host: str
) -> None:
    keys = PaperKeys(SN, Policy.PER_IO_NRPRNG)

    async def libcoap(port: int, session: int) -> asyncio.subprocess.Process:
        key = psk(Profile.PAPER, keys.key(5 * session + 2)).decode()
        words = ("-B", "3", "-u", f"pair/{session}", "-k", key, "-m", "get", f"coaps://{loopback_host}:{port}/time")
        return await asyncio.create_subprocess_exec("coap-client-openssl", *words, stdout=asyncio.subprocess.PIPE)

    async def test() -> None:
        async with Ends("dotp paper dtls", tmp_path).running(loopback_host) as serving:
            first = await libcoap(serving.port, 0)
            begun = time.monotonic()
            while b"-k" not in (command := Path(f"/proc/{first.pid}/cmdline").read_bytes().split(b"\0")):
                assert time.monotonic() < begun + PATIENCE_S, "a moment after its start a program has no words yet"
            stolen = command[command.index(b"-k") + 1].decode()
            assert (await first.communicate())[0]
            async with eve("dotp/one-key", "both", (loopback_host, serving.port), key=stolen) as she:
                second = await libcoap(she.ports[0], 1)
                assert (await second.communicate())[0], "libcoap's client is served through her"
                assert await she.task
                assert "she calls as pair/2" in she.said[2]

    run(test)


@pytest.mark.parametrize(("profile", "succeeded"), [("paper", True), ("hardened", False)])
def test_a_server_that_is_off_is_replaced_in_paper_alone(profile: str, succeeded: bool, loopback_host: str) -> None:
    which = SabourProfile.PAPER_ECDSA if succeeded else SabourProfile.HARDENED
    places = [(loopback_host, 9), (loopback_host, 10)][: 1 + succeeded]

    async def test() -> None:
        async with eve("sabour/false-server", profile, *places) as she:
            device = ClientConfig(DEVICE, HOST.enrolment, which)
            async with connected(device=device, auth_port=she.ports[-1]) as client:
                asked = client.request(
                    "get", f"coap://{loopback_host}:{she.ports[0]}/index", timeout=PATIENCE_S if succeeded else 1
                )
                if succeeded:
                    assert (await asked).payload == b'{"value": 0}'
                else:
                    with pytest.raises(BtSelfSecureError):
                        await asked
            assert await she.end() == succeeded
            assert any("M3" in line for line in she.said)
            assert ("the device asks her: GET /index" in she.said) == succeeded

    run(test)


@pytest.mark.parametrize("profile", ["paper", "hardened"])
def test_m1_without_end_keep_no_device_from_its_handshake(profile: str, tmp_path: Path, loopback_host: str) -> None:
    async def test() -> None:
        ends = Ends("sabour", tmp_path)
        which = SabourProfile.PAPER_ECDSA if profile == "paper" else SabourProfile.HARDENED
        device = ClientConfig(DEVICE, HOST.enrolment, which)
        devices = {DEVICE.device_id: DEVICE.enrolment.key if profile == "hardened" else b""}
        handshakes = PaperHandshakes(Server(ServerConfig(HOST, devices, which), EndpointContext(os.urandom)))
        async with ends.running(loopback_host) as serving:
            auth = await handshakes.open(loopback_host, 0)
            place = (loopback_host, auth if profile == "paper" else serving.port)
            async with eve("sabour/flood", profile, place) as she:
                hers, coap = she.ports[0], serving.port if profile == "paper" else 0
                for _ in range(2):
                    async with connected(device=device, auth_port=hers if profile == "paper" else 0) as client:
                        with contextlib.suppress(BtSelfSecureError):  # in paper the handshake alone is served here
                            await client.request("get", f"coap://{loopback_host}:{coap or hers}/time")
                    await asyncio.sleep(0.3)
                assert not await she.end()
                assert "M1 a second in the name of" in she.said[1]
                assert "1 of the device's 1 came to an end" in she.said[2]
            handshakes.close()

    run(test)


def test_hellos_without_end_keep_no_client_from_its_session_and_are_answered_by_less_than_they_have(
    tmp_path: Path, loopback_host: str
) -> None:
    async def test() -> None:
        async with (
            Ends("dotp dtls", tmp_path).both(loopback_host) as (client, where),
            eve("dotp/flood", "both", (loopback_host, int(where.rpartition(":")[2]))) as she,
        ):
            await asyncio.sleep(1)
            answer = await client.request("get", f"coaps://{loopback_host}:{she.ports[0]}/time")
            assert answer.code == aiocoap.CONTENT
            assert not await she.end()
            assert she.said[1] == "a client is served meanwhile"
            words = she.said[2].split()
            assert int(words[0]) > 100
            assert 0 < int(words[4]) < int(words[2])

    run(test)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("dotp/one-key 127.0.0.1:5684", "--key KEY is the one that is known to her"),
        ("dotp/replay 127.0.0.1:5684 --key 5", "dotp/one-key takes it, and nothing else"),
        ("dotp/one-key 127.0.0.1:5684 --key door", "'door' is no key: give the decimal digits"),
        ("sabour/false-server 127.0.0.1:5683", "takes --profile paper with 2 of 127.0.0.1:PORT"),
    ],
)
def test_a_key_and_places_that_do_not_fit_are_said_in_one_line(
    words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eve", "attack", *words.split(), "--live"]) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    assert said in complaint
