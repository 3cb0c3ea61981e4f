"""What a server that runs notices of who is enrolled, what it logs, and what an observer notices of a server."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from pathlib import Path
from typing import Any

import aiocoap
import pytest
from aiocoap.resource import ObservableResource, Site
from served import DEVICE, HOST, Ends, run

from bt_selfsecure.coap import client as client_module
from bt_selfsecure.coap.client import NoResponseError, connected
from bt_selfsecure.coap.keys import Enrolled, enrol, strike_off
from bt_selfsecure.coap.resources import site
from bt_selfsecure.coap.sabour import secured
from bt_selfsecure.coap.schemes import DtlsPsk
from bt_selfsecure.coap.server import serve
from bt_selfsecure.protocols.sabour.config import ClientConfig, ServerConfig
from bt_selfsecure.protocols.sabour.enrolment import Enrolment
from bt_selfsecure.protocols.sabour.server import Server
from bt_selfsecure.sansio.context import EndpointContext


class Counter(ObservableResource):  # type: ignore[misc]
    """Says how often it was asked, for a second each, and never tells of a change."""

    asked = 0

    async def render_get(self, request: Any) -> Any:
        self.asked += 1
        return aiocoap.Message(payload=b"%d" % self.asked, max_age=1)


def test_the_session_and_the_observation_of_a_device_that_is_struck_off_end(loopback_host: str, tmp_path: Path) -> None:
    for device in (DEVICE.enrolment, HOST.enrolment):
        enrol(tmp_path, device)
    whole = secured(site(), Server(ServerConfig(HOST, Enrolled(tmp_path)), EndpointContext(os.urandom)))

    async def test() -> None:
        serving = await serve(whole, loopback_host, 0)
        uri = f"coap://{loopback_host}:{serving.port}"
        async with connected(device=ClientConfig(DEVICE, HOST.enrolment)) as client:
            assert (await client.request("get", f"{uri}/time")).code == aiocoap.CONTENT
            watched = client.observe(f"{uri}/time")
            assert (await anext(watched)).code == aiocoap.CONTENT
            strike_off(tmp_path, DEVICE.device_id)
            with pytest.raises(NoResponseError, match="no context for this device"):
                await anext(watched)
            with pytest.raises(NoResponseError, match="may not know this device id"):
                await client.request("get", f"{uri}/time", timeout=1)
        async with connected(device=ClientConfig(DEVICE, HOST.enrolment)) as client:
            enrol(tmp_path, DEVICE.enrolment)
            assert (await client.request("get", f"{uri}/time")).code == aiocoap.CONTENT
            enrol(tmp_path, Enrolment(DEVICE.device_id, HOST.enrolment.key))  # the id, with another key
            with pytest.raises(NoResponseError, match="no context for this device"):
                await client.request("get", f"{uri}/time")
        await serving.close()

    run(test)


@pytest.mark.parametrize(
    ("name", "said"),
    [("dtls", "devA"), ("dotp dtls", "pair/0"), ("dotp object", "pair, number 0")],
)
def test_a_server_logs_whose_session_it_is_and_a_key_that_is_another(
    name: str, said: str, loopback_host: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ends = Ends(name, tmp_path)

    async def test() -> None:
        async with ends.running(loopback_host) as serving:
            uri = f"{ends.client.uri_scheme}://{loopback_host}:{serving.port}/time"
            async with connected(ends.client) as client:
                await client.request("get", uri)
            if name == "dtls":
                async with connected(DtlsPsk({b"devA": b"another"})) as client:
                    with pytest.raises(NoResponseError):
                        await client.request("get", uri, timeout=1)

    with caplog.at_level(logging.INFO):
        run(test)
    assert re.search(rf"session with 127.0.0.1:\d+: {said}\n", caplog.text)
    assert (": its key is another, or somebody changes what it sends" in caplog.text) == (name == "dtls")


def test_an_observer_asks_again_when_what_it_has_is_old_and_says_that_the_server_is_gone(
    loopback_host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "AFTER_MAX_AGE_S", (0.0, 0.1))
    root = Site()
    root.add_resource(["n"], Counter())

    async def test() -> None:
        serving = await serve(root, loopback_host, 0)
        async with connected() as client:
            watched = client.observe(f"coap://{loopback_host}:{serving.port}/n", timeout=4)
            assert [(await anext(watched)).payload for _ in range(3)] == [b"1", b"2", b"3"]
            serving.interface._socket.abort()  # as a server that is killed: no good-bye
            with pytest.raises(NoResponseError, match="the server is gone"):
                await asyncio.wait_for(anext(watched), 60)

    run(test)
