"""OSCORE with a key that both ends have in advance: against aiocoap as it is, and over what a crash leaves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiocoap
import pytest
from aiocoap.oscore import FilesystemSecurityContext
from coap_processes import coap, serving
from served import SECRET, Ends, oscore_pairs, run

from bt_selfsecure.coap.client import NoResponseError, connected
from bt_selfsecure.coap.oscore import OscoreSite
from bt_selfsecure.coap.oscore_pairs import SEQUENCE_FILE, OscorePair, OscorePairs
from bt_selfsecure.coap.resources import SENSOR_BYTES, site
from bt_selfsecure.coap.server import serve
from bt_selfsecure.errors import UsageError
from bt_selfsecure.protocols.dotp.keys import Role


@contextmanager
def both_made(folder: Path, identity: str = "alice") -> Iterator[tuple[tuple[object, ...], tuple[object, ...]]]:
    """The options of a server and a client whose pair was made by the command."""
    key = folder / "key"
    assert coap("key", key, "--identity", identity)[0] == 0
    for role in ("server", "client"):
        words = ("pair", "p", "--as", role, "--for", "oscore", "--key-file", key, "--state", folder / role)
        assert coap(*words)[0] == 0
    options = ("--scheme", "oscore", "--pair", "p", "--state")
    yield (*options, folder / "server"), (*options, folder / "client")


def test_a_pair_made_by_the_command_is_served_and_who_has_none_is_not(tmp_path: Path, loopback_host: str) -> None:
    with both_made(tmp_path) as (server, client), serving(loopback_host, *server) as (uri, _):
        for _ in range(2):
            status, out, _ = coap("get", f"{uri}/index", *client)
            assert (status, len(out)) == (0, SENSOR_BYTES)
        status, _, said = coap("get", f"{uri}/index")
        assert (status, "OSCORE is needed here" in said) == (1, True)


def test_after_a_server_was_killed_its_client_proves_that_it_is_there_and_is_served(
    tmp_path: Path, loopback_host: str
) -> None:
    with both_made(tmp_path) as (server, client):
        for _ in range(2):
            with serving(loopback_host, *server) as (uri, process):
                assert coap("get", f"{uri}/time", *client)[0] == 0
                process.kill()


def test_no_number_is_sent_that_is_not_on_the_disk_as_used(tmp_path: Path, loopback_host: str) -> None:
    async def test() -> None:
        ends = Ends("oscore", tmp_path)
        assert ends.security is not None
        async with ends.both(loopback_host) as (client, uri):
            for _ in range(70):
                await client.request("get", f"{uri}/time")
                kept = json.loads((ends.security.path / SEQUENCE_FILE).read_text())
                assert kept["next-to-send"] >= ends.security.sender_sequence_number

    run(test)


def test_a_request_that_is_sent_again_later_is_refused(tmp_path: Path, loopback_host: str) -> None:
    """As an attacker would, who puts a recorded request to the server once its deduplication is over."""
    pairs = oscore_pairs(tmp_path)
    request = aiocoap.Message(code=aiocoap.GET, uri=f"coap://{loopback_host}/time")
    recorded, _ = pairs[Role.CLIENT].protect(request)

    async def test() -> None:
        serving = await serve(OscoreSite(site(), OscorePairs([pairs[Role.SERVER]]).of), loopback_host, 0)
        context = await aiocoap.Context.create_client_context()
        try:
            codes = []
            for _ in range(2):
                copy = aiocoap.Message(code=recorded.code, payload=recorded.payload, uri=f"coap://{serving.where}/")
                copy.opt.oscore = recorded.opt.oscore
                codes.append((await context.request(copy).response).code)
            assert codes == [aiocoap.CHANGED, aiocoap.UNAUTHORIZED]
        finally:
            await context.shutdown()
            await serving.close()

    run(test)


@pytest.mark.parametrize("other", [{"secret": bytes(32)}, {"identity": "devB"}])
def test_another_key_or_identity_is_said_to_be_one(other: dict[str, Any], tmp_path: Path, loopback_host: str) -> None:
    (tmp_path / "other").mkdir()
    stranger = oscore_pairs(tmp_path / "other", **other)[Role.CLIENT]

    async def test() -> None:
        async with (
            Ends("oscore", tmp_path).running(loopback_host) as serving,
            connected(security=stranger) as client,
        ):
            with pytest.raises(NoResponseError, match="its key or identity is another"):
                await client.request("get", f"coap://{serving.where}/time")

    run(test)


def test_aiocoap_as_it_is_is_served_from_the_same_folder(tmp_path: Path, loopback_host: str) -> None:
    pytest.importorskip("lakers")  # aiocoap's own transport wants it, for EDHOC
    pairs = oscore_pairs(tmp_path)
    pairs[Role.CLIENT].close()

    async def test() -> None:
        serving = await serve(OscoreSite(site(), OscorePairs([pairs[Role.SERVER]]).of), loopback_host, 0)
        context = await aiocoap.Context.create_client_context(transports=["oscore", "simple6"])
        security = FilesystemSecurityContext(str(pairs[Role.CLIENT].path))
        context.client_credentials[f"coap://{serving.where}/*"] = security
        try:
            request = aiocoap.Message(code=aiocoap.GET, uri=f"coap://{serving.where}/index")
            assert len((await context.request(request).response).payload) == SENSOR_BYTES
        finally:
            await context.shutdown()
            await serving.close()

    run(test)


def test_two_programs_can_not_have_one_end(tmp_path: Path) -> None:
    pair = oscore_pairs(tmp_path)[Role.CLIENT]
    with pytest.raises(UsageError, match="another program uses the pair"):
        OscorePair(pair.path)
    pair.close()
    OscorePair(pair.path).close()


def test_what_can_not_be_a_pair_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no pair 'x' for OSCORE"):
        OscorePair(tmp_path / "x.oscore")
    with pytest.raises(UsageError, match="too long for OSCORE"):
        OscorePair.begin(tmp_path / "y.oscore", Role.CLIENT, "eight888", SECRET)
    ends = oscore_pairs(tmp_path)
    with pytest.raises(UsageError, match="the server is needed here"):
        OscorePairs([ends[Role.CLIENT]])
    with pytest.raises(UsageError, match="two pairs have one identity"):
        OscorePairs([ends[Role.SERVER], ends[Role.SERVER]])
    secret = ends[Role.CLIENT].path / "secret.json"
    ends[Role.CLIENT].close()
    for spoiled in ("{", "{}", "[1]", '{"secret_hex": "0g"}'):
        secret.write_text(spoiled)
        with pytest.raises(UsageError, match="is damaged"):
            OscorePair(secret.parent)
    secret.chmod(0o644)
    with pytest.raises(UsageError, match="others may read it"):
        OscorePair(secret.parent)
    shutil.rmtree(secret.parent)
