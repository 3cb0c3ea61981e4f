"""CoAP over every scheme, on loopback: real aiocoap at both ends, ours at one of them or both."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
import subprocess
import sys
from ipaddress import IPv6Address
from pathlib import Path

import aiocoap
import pytest
from served import DEVICE, HOST, NAMES, Ends, begun, run

from bt_selfsecure.coap.channels import DtlsChannel, DtlsGate, dtls_client
from bt_selfsecure.coap.client import NoResponseError, connected
from bt_selfsecure.coap.pairs import PairFile
from bt_selfsecure.coap.resources import SENSOR_BYTES, sensor_json, site
from bt_selfsecure.coap.sabour import HandshakeError
from bt_selfsecure.coap.schemes import DotpDtls, DotpObject, DtlsPsk, Plain
from bt_selfsecure.coap.server import serve
from bt_selfsecure.errors import BtSelfSecureError, UsageError
from bt_selfsecure.free_ports import free_ports
from bt_selfsecure.protocols.dotp.keys import ExhaustedError, Policy, Role
from bt_selfsecure.protocols.dotp.record import DotpRecord
from bt_selfsecure.protocols.sabour.client import Client
from bt_selfsecure.protocols.sabour.config import ClientConfig
from bt_selfsecure.protocols.sabour.enrolment import Identity
from bt_selfsecure.sansio.context import EndpointContext

BROKEN = ["coap://[::1/time", "coap://127.0.0.1:99999/time", "coap://[x]/time", "coap://127.0.0.1:x/time"]
EACH = pytest.mark.parametrize("name", NAMES)


@EACH
def test_each_scheme_carries_every_method_of_the_resources(name: str, tmp_path: Path, loopback_host: str) -> None:
    async def test() -> None:
        async with Ends(name, tmp_path).both(loopback_host) as (client, uri):
            assert len((await client.request("get", f"{uri}/sensor")).payload) == SENSOR_BYTES
            assert (await client.request("get", f"{uri}/store/a")).code == aiocoap.NOT_FOUND
            assert (await client.request("put", f"{uri}/store/a", b"on")).code == aiocoap.CREATED
            assert (await client.request("post", f"{uri}/store/a", b"ce")).code == aiocoap.CHANGED
            assert (await client.request("get", f"{uri}/store/a")).payload == b"once"
            assert (await client.request("delete", f"{uri}/store/a")).code == aiocoap.DELETED
            assert (await client.request("get", f"{uri}/store/a")).code == aiocoap.NOT_FOUND
            assert (await client.request("post", f"{uri}/time", b"x")).code == aiocoap.METHOD_NOT_ALLOWED
            listed = (await client.request("get", f"{uri}/.well-known/core")).payload
            assert b"</sensor>" in listed

    run(test)


@EACH
def test_each_scheme_carries_what_needs_many_blocks_both_ways(name: str, tmp_path: Path, loopback_host: str) -> None:
    whole = os.urandom(5000)

    async def test() -> None:
        async with Ends(name, tmp_path).both(loopback_host) as (client, uri):
            await client.request("put", f"{uri}/store/large", whole)
            assert (await client.request("get", f"{uri}/store/large")).payload == whole

    run(test)


@EACH
def test_each_scheme_tells_an_observer_of_each_change_until_it_is_deleted(
    name: str, tmp_path: Path, loopback_host: str
) -> None:
    async def test() -> None:
        async with Ends(name, tmp_path).both(loopback_host) as (client, uri):
            await client.request("put", f"{uri}/store/a", b"0")
            seen = []
            async for message in client.observe(f"{uri}/store/a"):
                seen.append(message.payload if message.code.is_successful() else message.code)
                if len(seen) <= 2:
                    await client.request("put", f"{uri}/store/a", b"%d" % len(seen))
                elif len(seen) == 3:
                    await client.request("delete", f"{uri}/store/a")
            assert seen == [b"0", b"1", b"2", aiocoap.NOT_FOUND]

    run(test)


@EACH
def test_many_clients_one_after_another_are_served(name: str, tmp_path: Path, loopback_host: str) -> None:
    ends = Ends(name, tmp_path)

    async def test() -> None:
        async with ends.running(loopback_host) as serving:
            for _ in range(5):
                async with connected(ends.client, ends.device, security=ends.security) as client:
                    uri = f"{ends.client.uri_scheme}://{loopback_host}:{serving.port}/time"
                    assert (await client.request("get", uri)).code == aiocoap.CONTENT

    run(test)


def test_an_aiocoap_client_as_it_is_reaches_our_server(loopback_host: str) -> None:
    async def test() -> None:
        serving = await serve(site(), loopback_host, 0)
        client = await aiocoap.Context.create_client_context()
        request = aiocoap.Message(code=aiocoap.GET, uri=f"coap://{loopback_host}:{serving.port}/sensor")
        assert len((await client.request(request).response).payload) == SENSOR_BYTES
        await client.shutdown()
        await serving.close()

    run(test)


def test_our_client_reaches_an_aiocoap_server_as_it_is(loopback_host: str) -> None:
    async def test() -> None:
        server = await aiocoap.Context.create_server_context(
            site(), bind=(loopback_host, 5683), transports=["simplesocketserver"]
        )
        async with connected() as client:
            assert len((await client.request("get", f"coap://{loopback_host}/sensor")).payload) == SENSOR_BYTES
        await server.shutdown()

    run(test)


def test_one_device_serves_several_pairs_each_under_its_own_keys(tmp_path: Path, loopback_host: str) -> None:
    """Fig. 6b, in both layers."""

    async def test() -> None:
        for kind in (DotpDtls, DotpObject):
            pairs = [begun(tmp_path, f"{kind.__name__}{n}", f"pair{n}", bytes([n]) * 32) for n in range(3)]
            serving = await serve(site(), loopback_host, 0, kind([pair[Role.SERVER] for pair in pairs]))
            for pair in (*pairs, *reversed(pairs)):
                async with connected(kind([pair[Role.CLIENT]])) as client:
                    uri = f"{kind.uri_scheme}://{loopback_host}:{serving.port}/time"
                    assert (await client.request("get", uri)).code == aiocoap.CONTENT
            await serving.close()

    run(test)


@pytest.mark.parametrize(
    ("server", "client", "said"),
    [
        (DtlsPsk({b"devA": b"right"}), DtlsPsk({b"devA": b"wrong"}), "its key or identity is another"),
        (DtlsPsk({b"devA": b"right"}), DtlsPsk({b"devB": b"right"}), "its key or identity is another"),
        (DtlsPsk({b"devA": b"right"}), Plain(), "no answer"),
    ],
)
def test_a_wrong_key_is_said_to_be_one(server: DtlsPsk, client: DtlsPsk | Plain, said: str, loopback_host: str) -> None:
    async def test() -> None:
        serving = await serve(site(), loopback_host, 0, server)
        async with connected(client) as asking:
            uri = f"{client.uri_scheme}://{loopback_host}:{serving.port}/time"
            with pytest.raises(NoResponseError, match=said):
                await asking.request("get", uri, timeout=1.5)
        await serving.close()

    run(test)


def test_where_nothing_listens_it_is_said_at_once(loopback_host: str) -> None:
    async def test() -> None:
        for scheme in (Plain(), DtlsPsk({b"devA": b"1234"})):
            async with connected(scheme) as client:
                with pytest.raises(NoResponseError, match="nothing listens there"):
                    await client.request("get", f"{scheme.uri_scheme}://{loopback_host}:9/time")

    run(test)


@pytest.mark.parametrize("kind", [DotpDtls, DotpObject])
def test_used_up_numbers_are_said_to_be_used_up(
    kind: type[DotpDtls | DotpObject], tmp_path: Path, loopback_host: str
) -> None:
    """With 8 bits of RN there are 256 numbers: 51 sessions, or as many blocks of pads."""
    ends = {role: tmp_path / f"{role.value}.pair" for role in Role}
    for role, path in ends.items():
        PairFile.begin(path, "few", DotpRecord.paper(role, 1234, Policy.PER_IO_NRPRNG, 40))
    client_pair, server_pair = PairFile(ends[Role.CLIENT]), PairFile(ends[Role.SERVER])

    async def test() -> None:
        serving = await serve(site(), loopback_host, 0, kind([server_pair]))
        uri = f"{kind.uri_scheme}://{loopback_host}:{serving.port}/time"
        served = 0

        async def get_on() -> None:
            nonlocal served
            while True:
                async with connected(kind([client_pair])) as client:
                    await client.request("get", uri)
                served += 1

        with pytest.raises(ExhaustedError, match="used up"):
            await get_on()
        assert served == 51 if kind is DotpDtls else served > 5
        await serving.close()

    run(test)


def test_an_unknown_device_is_met_with_silence_and_logged(
    loopback_host: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ends = Ends("sabour", tmp_path)
    stranger = Identity(b"stranger", os.urandom(32))
    device = ClientConfig(stranger, HOST.enrolment, timeout=0.2, retransmissions=1)

    async def test() -> None:
        async with ends.running(loopback_host) as serving, connected(Plain(), device) as client:
            with pytest.raises(HandshakeError, match="may not know this device id"):
                await client.request("get", f"coap://{loopback_host}:{serving.port}/time")

    with caplog.at_level(logging.WARNING):
        run(test)
    assert f"device {stranger.device_id.hex()} is not enrolled" in caplog.text


def test_the_air_shows_no_byte_to_an_id_that_is_not_enrolled(loopback_host: str, tmp_path: Path) -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        async with Ends("sabour", tmp_path).running(loopback_host) as serving:
            heard = []
            for identity in (Identity(b"stranger", bytes(32)), DEVICE):
                device = Client(ClientConfig(identity, HOST.enrolment), EndpointContext(os.urandom))
                device.start(0.0)
                (m1,) = device.frames_to_send(0.0)
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as air:
                    air.setblocking(False)
                    air.bind((loopback_host, 0))
                    request = bytes.fromhex("51020001 77") + b"\xb4auth\xff" + m1  # not confirmable, POST /auth
                    await loop.sock_sendto(air, request, (loopback_host, serving.port))
                    try:
                        async with asyncio.timeout(30 if identity is DEVICE else 1):
                            heard.append(len(await loop.sock_recv(air, 2048)))
                    except TimeoutError:
                        heard.append(0)
            assert heard[0] == 0
            assert heard[1] > 0

    run(test)


def test_a_device_that_does_not_know_this_server_gets_no_key(loopback_host: str, tmp_path: Path) -> None:
    ends = Ends("sabour", tmp_path)
    other = Identity(b"server 2", os.urandom(32))
    device = ClientConfig(DEVICE, other.enrolment, timeout=0.2, retransmissions=1)

    async def test() -> None:
        async with ends.running(loopback_host) as serving, connected(Plain(), device) as client:
            with pytest.raises(HandshakeError, match="no M4 that proves the server"):
                await client.request("get", f"coap://{loopback_host}:{serving.port}/time")

    run(test)


def test_without_the_handshake_sabours_server_gives_nothing(loopback_host: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with Ends("sabour", tmp_path).running(loopback_host) as serving, connected() as client:
            for path in ("time", "store/a", ".well-known/core", "auth/x"):
                answer = await client.request("get", f"coap://{loopback_host}:{serving.port}/{path}")
                assert answer.code == aiocoap.UNAUTHORIZED

    run(test)


def test_a_device_of_a_server_that_was_started_anew_is_told_and_begins_anew(loopback_host: str, tmp_path: Path) -> None:
    """Its context is gone with the server. It does not ask again by itself: who says so may be anybody."""
    ends, again = Ends("sabour", tmp_path), Ends("sabour", tmp_path)

    async def test() -> None:
        async with connected(Plain(), ends.device) as client:
            (port,) = free_ports(loopback_host, 1)
            async with ends.running(loopback_host, port):
                uri = f"coap://{loopback_host}:{port}/time"
                assert (await client.request("get", uri)).code == aiocoap.CONTENT
            anew = await serve(again.site, loopback_host, port)
            with pytest.raises(NoResponseError, match="no context for this device any more"):
                await client.request("get", uri)
            assert (await client.request("get", uri)).code == aiocoap.CONTENT
            await anew.close()

    run(test)


@pytest.mark.parametrize("uri", ["http://127.0.0.1/time", "coaps://127.0.0.1/time", "time", "coap:///time", *BROKEN])
def test_a_uri_that_does_not_fit_is_refused(uri: str) -> None:
    async def test() -> None:
        async with connected() as client:
            with pytest.raises(UsageError):
                await client.request("get", uri)

    run(test)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1"])
def test_a_place_at_which_nothing_can_be_served_is_refused(host: str) -> None:
    async def test() -> None:
        await serve(site(), host, 0)

    with pytest.raises(BtSelfSecureError):
        run(test)


def link_local() -> str:
    """Return an address of this computer's that is good on one interface alone; skip the test where there is none."""
    for line in Path("/proc/net/if_inet6").read_text().splitlines():
        digits, *_, interface = line.split()
        if digits.startswith("fe80"):
            return f"{IPv6Address(bytes.fromhex(digits))}%{interface}"
    pytest.skip("no interface has a link-local address")


def test_at_a_link_local_address_it_is_said_on_which_interface_and_that_place_can_be_asked() -> None:
    host = link_local()

    async def test() -> None:
        serving = await serve(site(), host, 0)
        assert serving.where == f"[{host}]:{serving.port}"
        async with connected() as client:
            answer = await client.request("get", f"coap://{serving.where}/sensor")
            assert len(answer.payload) == SENSOR_BYTES
        await serving.close()

    run(test)


def test_a_link_local_address_without_its_interface_is_refused_at_both_ends() -> None:
    async def test() -> None:
        with pytest.raises(UsageError, match="name it, as in fe80::1%bt0"):
            await serve(site(), "fe80::1", 0)
        async with connected() as client:
            with pytest.raises(UsageError, match="name it, as in fe80::1%bt0"):
                await client.request("get", "coap://[fe80::1]/time")

    run(test)


def test_readings_have_the_papers_size_whatever_they_are() -> None:
    for value in (1000, 65_535):
        assert len(sensor_json(1592833375.832268, [value] * 6)) == SENSOR_BYTES


def test_a_client_that_was_started_again_at_its_port_gets_a_new_session(loopback_host: str) -> None:
    """RFC 6347 section 4.2.8: the old session is at the same place, and is replaced."""
    gate = DtlsGate({b"devA": b"1234"}.get, lambda _identity: True, os.urandom, 0.0)
    now, channel = 0.0, None
    for _ in range(2):
        client = dtls_client(b"devA", b"1234", now)
        client.send(b"hello", now)
        got: list[bytes] = []
        for _ in range(6):
            for data in client.datagrams(now):
                if channel is not None and not gate.is_anew(data, channel):
                    got += channel.receive(data, now)
                    continue
                new, answers = gate.admit(data, b"there", now)
                if new is None:
                    for answer in answers:
                        client.receive(answer, now)
                else:
                    assert isinstance(new, DtlsChannel)
                    channel = new
            if channel is not None:
                for data in channel.datagrams(now):
                    client.receive(data, now)
        assert got == [b"hello"]


def test_a_server_keeps_a_bounded_number_of_peers(loopback_host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bt_selfsecure.coap.udp_server.MOST_REMOTES", 3)

    async def test() -> None:
        serving = await serve(site(), loopback_host, 0)
        for _ in range(6):
            async with connected() as client:
                await client.request("get", f"coap://{loopback_host}:{serving.port}/time")
        assert serving.interface.remotes == 3
        await serving.close()

    run(test)


def test_the_program_on_the_page_runs_and_prints_the_time(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/coap.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run([sys.executable, tmp_path / "program.py"], capture_output=True, text=True, timeout=30)
    assert done.stdout.startswith("2.05 Content b'"), done.stderr


def test_what_is_in_clear_is_a_post_to_auth_and_every_other_request_is_told_so(
    loopback_host: str, tmp_path: Path
) -> None:
    """Also where its sender wants no confirmation, and is answered at once."""

    async def test() -> None:
        async with Ends("sabour", tmp_path).running(loopback_host) as serving:
            client = await aiocoap.Context.create_client_context()
            codes = {}
            for code, path in ((aiocoap.GET, "auth"), (aiocoap.POST, "time"), (aiocoap.POST, "auth/x")):
                for tuning in (aiocoap.Unreliable, aiocoap.Reliable):
                    uri = f"coap://{serving.where}/{path}"
                    request = aiocoap.Message(code=code, uri=uri, payload=b"?", transport_tuning=tuning())
                    async with asyncio.timeout(60):
                        codes[code, path, tuning] = (await client.request(request).response).code
            await client.shutdown()
        assert {code for (method, _, _), code in codes.items() if method is aiocoap.GET} == {aiocoap.METHOD_NOT_ALLOWED}
        assert {code for (method, _, _), code in codes.items() if method is aiocoap.POST} == {aiocoap.UNAUTHORIZED}

    run(test)
