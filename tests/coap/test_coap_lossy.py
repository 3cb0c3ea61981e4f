"""CoAP over a key a datagram, where 30 % are lost, many come twice and all cross: what CoAP delivers is delivered once,
nothing is read under a wrong key, and no key is used twice, also when an end crashes."""

from __future__ import annotations

import asyncio
import os
from random import Random
from typing import Any

import aiocoap
import pytest
from aiocoap.resource import Resource, Site
from hypothesis import given, settings
from hypothesis import strategies as st
from lossy import CLIENT, SERVER, Network, client_on, in_virtual_time, server_on
from served import DEVICE, HOST, SECRET, SN

from bt_selfsecure.coap import resources
from bt_selfsecure.coap.channels import DotpChannel, DotpGate, PlainChannel, PlainGate
from bt_selfsecure.coap.client import NoResponseError
from bt_selfsecure.coap.sabour import secured
from bt_selfsecure.protocols.dotp.endpoint import Dotp, DotpConfig
from bt_selfsecure.protocols.dotp.keys import Policy, Role
from bt_selfsecure.protocols.dotp.record import DotpRecord
from bt_selfsecure.protocols.sabour.config import ClientConfig, ServerConfig
from bt_selfsecure.protocols.sabour.server import Server
from bt_selfsecure.sansio.context import EndpointContext

PATIENCE_S = 200.0
"""Longer than CoAP repeats a message (RFC 7252: 93 s and a round trip)."""
REQUESTS = 25
RECORDS = {
    "hardened": lambda role: DotpRecord.hardened(role, SECRET),
    **{policy.value: lambda role, policy=policy: DotpRecord.paper(role, SN, policy) for policy in Policy},
}


class Counted(Resource):  # type: ignore[misc]
    """Keeps each payload that was put, in order, and echoes it."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[bytes] = []

    async def render_put(self, request: Any) -> Any:
        self.got.append(request.payload)
        return aiocoap.Message(payload=request.payload[::-1])


class End:
    """One end of a pair, with a disk that a crash leaves as it is."""

    def __init__(self, record: DotpRecord) -> None:
        self.disk = record
        self.read: list[bytes] = []

    def channel(self) -> DotpChannel:
        end = self

        class Noting(DotpChannel):
            def receive(self, datagram: bytes, now: float) -> list[bytes]:
                messages = super().receive(datagram, now)
                end.read += messages
                return messages

        def write(record: DotpRecord) -> None:
            end.disk = record

        return Noting(Dotp(end.disk, DotpConfig(reserved=16)), write, "pair")


class Run:
    """What one run saw."""

    def __init__(self, profile: str, seed: int, *, requests: int, crashes: float) -> None:
        chance = Random(seed)
        self.network = Network(chance, loss=0.3, double=0.2, most_delay_s=1.5)
        self.counted = Counted()
        self.site = Site()
        self.site.add_resource(["count"], self.counted)
        self.ends = {role: End(RECORDS[profile](role)) for role in Role}
        self.requests, self.crashes, self.chance = requests, crashes, chance
        self.answered: list[bytes] = []
        self.given_up: list[bytes] = []

    async def run(self) -> None:
        server = await server_on(self.network, self.site, DotpGate([self.ends[Role.SERVER].channel()]))
        client, context = await client_on(self.network, self._connect)
        for number in range(self.requests):
            if self.chance.random() < self.crashes:
                await server.shutdown()
                server = await server_on(self.network, self.site, DotpGate([self.ends[Role.SERVER].channel()]))
            if self.chance.random() < self.crashes:
                await context.shutdown()
                client, context = await client_on(self.network, self._connect)
            payload = b"%d " % number + self.chance.randbytes(self.chance.randrange(40))
            try:
                answer = await client.request("put", "coap://server/count", payload, PATIENCE_S)
                assert answer.payload == payload[::-1], "an answer to something else"
                self.answered.append(payload)
            except NoResponseError:
                self.given_up.append(payload)
        await context.shutdown()
        await server.shutdown()

    def _connect(self, now: float) -> DotpChannel:
        return self.ends[Role.CLIENT].channel()


def check(profile: str, seed: int, *, requests: int = REQUESTS, crashes: float = 0.0) -> int:
    """Return how many datagrams were sent."""
    run = Run(profile, seed, requests=requests, crashes=crashes)
    in_virtual_time(run.run)
    put = run.answered + run.given_up
    assert len(put) == requests
    assert set(run.answered) <= set(run.counted.got) <= set(put), "lost, or made up"
    if not crashes:  # CoAP's list of what came lives as long as the server
        assert len(run.counted.got) == len(set(run.counted.got)), "done twice"
    for sender, reader in ((CLIENT, Role.SERVER), (SERVER, Role.CLIENT)):
        sent, delivered = run.network.sent[sender], run.network.delivered[sender]
        serials = [data[:4] for data in sent]
        assert len(serials) == len(set(serials)), "a number went out twice"
        if profile == "hardened" and not crashes:
            assert len(run.ends[reader].read) == len(set(delivered)), "each that came is read once"
    payloads = [message.partition(b"count\xff")[2] for message in run.ends[Role.SERVER].read]
    got = {*put} & {*payloads}
    assert set(run.counted.got) <= got, "acted on, and not read"
    if not crashes:  # a server that crashes has read what it never came to act on
        assert got == set(run.counted.got), "what was read is what CoAP acted on"
    return sum(map(len, run.network.sent.values()))


@pytest.mark.parametrize("profile", RECORDS)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=15)
def test_what_coap_delivers_is_delivered_once_and_no_key_is_used_twice(profile: str, seed: int) -> None:
    check(profile, seed)


@pytest.mark.parametrize("profile", ["hardened", "per-io-nrprng"])
@given(seed=st.integers(0, 2**32))
@settings(max_examples=15)
def test_crashes_of_either_end_change_nothing_of_that(profile: str, seed: int) -> None:
    check(profile, seed, crashes=0.1)


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_a_million_datagrams_with_losses_copies_crossings_and_crashes() -> None:
    sent = seed = 0
    while sent < 1_000_000:
        sent += check("hardened", seed, requests=1000, crashes=0.01 if seed % 2 else 0.0)
        seed += 1


@given(seed=st.integers(0, 2**32))
@settings(max_examples=15)
def test_sabours_handshake_comes_through_the_same_losses_and_oscore_does_once_what_it_is_asked(seed: int) -> None:
    async def test() -> None:
        chance, counted, site = Random(seed), Counted(), Site()
        site.add_resource(["count"], counted)
        network = Network(chance, loss=0.3, double=0.2, most_delay_s=1.5)
        devices = {DEVICE.device_id: DEVICE.enrolment.key}
        handshakes = Server(ServerConfig(HOST, devices), EndpointContext(os.urandom))
        server = await server_on(network, secured(site, handshakes), PlainGate())
        device = ClientConfig(DEVICE, HOST.enrolment, retransmissions=16)
        client, context = await client_on(network, lambda _now: PlainChannel(), device)
        answered, given_up = [], []
        for number in range(5):
            payload = b"%d" % number
            try:
                answer = await client.request("put", "coap://server/count", payload, 1e6)
                assert (answer.code, answer.payload) == (aiocoap.CHANGED, payload)
                answered.append(payload)
            except NoResponseError:
                given_up.append(payload)
        assert set(answered) <= set(counted.got) <= set(answered + given_up)
        assert len(counted.got) == len(set(counted.got))
        await context.shutdown()
        await server.shutdown()

    in_virtual_time(test)


@pytest.mark.parametrize("observed", [True, False])
def test_who_is_silent_is_forgotten_but_not_while_it_observes(observed: bool) -> None:
    async def test() -> None:
        network = Network(Random(1), loss=0, double=0, most_delay_s=0.1)
        context = await server_on(network, resources.site(), PlainGate())
        server = context.request_interfaces[0].token_interface.message_interface
        client, asking = await client_on(network, lambda _now: PlainChannel())
        await client.request("put", "coap://server/store/a", b"0")
        seen = []
        if observed:
            async for message in client.observe("coap://server/store/a"):
                seen.append(message.payload)
                if len(seen) == 2:
                    break
                await asyncio.sleep(1000)
                assert server.remotes == 1
                await client.request("put", "coap://server/store/a", b"1")
        else:
            await asyncio.sleep(1000)
        assert server.remotes == observed
        assert seen == [b"0", b"1"][: 2 * observed]
        await asking.shutdown()
        await context.shutdown()

    in_virtual_time(test)
