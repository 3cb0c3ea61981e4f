"""Whatever comes to a CoAP server or client: nothing raises, memory is bounded, and who has a key is served on.

pytest -m long tests/coap/test_coap_fuzz.py        a million datagrams at each input
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiocoap
import pytest
from fuzzing import mutated, resident
from lossy import CLIENT, SERVER, Network, client_on, in_virtual_time, server_on
from served import DEVICE, HOST, SECRET, begun, oscore_pairs

from bt_selfsecure.coap.channels import (
    Channel,
    DotpChannel,
    DotpGate,
    DtlsGate,
    Gate,
    PlainChannel,
    PlainGate,
    dtls_client,
)
from bt_selfsecure.coap.client import NoResponseError
from bt_selfsecure.coap.interface import MOST_REMEMBERED
from bt_selfsecure.coap.manager import ManagerService
from bt_selfsecure.coap.oscore import OscoreSite
from bt_selfsecure.coap.oscore_pairs import OscorePair, OscorePairs
from bt_selfsecure.coap.pairs import PairFile
from bt_selfsecure.coap.remote import Place
from bt_selfsecure.coap.resources import site
from bt_selfsecure.coap.sabour import secured
from bt_selfsecure.coap.udp_server import MOST_REMOTES
from bt_selfsecure.errors import BtSelfSecureError, UsageError
from bt_selfsecure.protocols.dotp.endpoint import Dotp
from bt_selfsecure.protocols.dotp.keys import Role
from bt_selfsecure.protocols.dotp.manager import ManagerConfig
from bt_selfsecure.protocols.dotp.record import DotpRecord
from bt_selfsecure.protocols.sabour.config import ClientConfig, ServerConfig
from bt_selfsecure.protocols.sabour.server import Server
from bt_selfsecure.sansio.context import EndpointContext

MESSAGES = [
    bytes.fromhex("40011234b474696d65"),  # GET /time
    bytes.fromhex("4401123401020304603b73746f72650161"),
    aiocoap.Message(code=aiocoap.PUT, uri="coap://h/store/a", payload=b"x" * 64, block1=(0, True, 2)).opt.encode(),
    bytes.fromhex("50025678b461757468ff2100112233445566778899"),
    bytes.fromhex("48021111000000000000000091 09 14 ff aabbccddeeff00112233".replace(" ", "")),
]
ASKED = [
    bytes.fromhex("40021234") + path + b'\xff{"pair": "pair", "end": "client", "n": %d}' % number
    for path in (b"\xb5grant", b"\xb4done")
    for number in (0, 7, 70)
]
"""Of a manager."""
DEVICES = ("operator", "sensor", "gateway", "")
KEY = b"5301919777550"
MOST_GROWN = 16 << 20
WARM = 20_000
PARTS = pytest.mark.parametrize(
    "runs",
    [2000, *(pytest.param(100_000 + part, marks=[pytest.mark.long, pytest.mark.timeout(3600)]) for part in range(10))],
)
"""How many, and the seed."""


def dotp(role: Role) -> DotpChannel:
    return DotpChannel(Dotp(DotpRecord.hardened(role, SECRET)), lambda _record: None, "pair")


class OfDevices(PlainGate):
    """Takes each place for the one device whose session it is, as DTLS does."""

    def admit(self, datagram: bytes, place: bytes, now: float) -> tuple[Channel | None, list[bytes]]:
        channel = PlainChannel()
        channel.identity = "operator" if place == repr(CLIENT).encode() else DEVICES[sum(place) % len(DEVICES)]
        return channel, channel.receive(datagram, now)


class Grown:
    """Looks at what the process has grown by since the first so many."""

    def __init__(self) -> None:
        self._first = 0

    def check(self, number: int) -> None:
        if number >= WARM and not self._first:
            self._first = resident()
        assert not self._first or resident() - self._first < MOST_GROWN


def hostile(seen: list[bytes], chance: random.Random) -> bytes:
    """Return one that was seen, changed, or one of chance alone. Most have a message id of their own: what has one that
    came is a copy, and looked at no further."""
    if chance.random() < 0.1:
        return chance.randbytes(chance.randrange(200))
    data = mutated(chance.choice(seen), chance)
    return data[:2] + chance.randbytes(2) + data[4:] if chance.random() < 0.7 and len(data) >= 4 else data


def gate_of(
    name: str, folder: Path
) -> tuple[Any, Gate, Callable[[float], Channel], ClientConfig | None, OscorePair | None]:
    """A server's site and gate, and what its client has."""
    if name == "dotp":
        return site(), DotpGate([dotp(Role.SERVER)]), lambda _now: dotp(Role.CLIENT), None, None
    if name == "manager":
        service = ManagerService(ManagerConfig({"pair": {Role.CLIENT: "sensor", Role.SERVER: "gateway"}}), folder / "m")
        return service.site, OfDevices(), lambda _now: PlainChannel(), None, None
    if name == "sabour":
        devices = {DEVICE.device_id: DEVICE.enrolment.key}
        server = Server(ServerConfig(HOST, devices), EndpointContext(os.urandom))
        device = ClientConfig(DEVICE, HOST.enrolment)
        return secured(site(), server), PlainGate(), lambda _now: PlainChannel(), device, None
    if name == "oscore":
        pairs = oscore_pairs(folder)
        whole = OscoreSite(site(), OscorePairs([pairs[Role.SERVER]]).of)
        return whole, PlainGate(), lambda _now: PlainChannel(), None, pairs[Role.CLIENT]
    return site(), PlainGate(), lambda _now: PlainChannel(), None, None


@pytest.mark.parametrize("name", ["plain", "dotp", "sabour", "oscore", "manager"])
@PARTS
def test_what_strangers_send_raises_nothing_and_others_are_served_meanwhile(
    name: str, runs: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a manager it is devices that send so: nobody else gets through DTLS."""
    chance, grown = random.Random(runs), Grown()
    asked = "coap://server/state" if name == "manager" else "coap://server/time"

    async def test() -> None:
        network = Network(chance, loss=0, double=0, most_delay_s=0.01)
        whole, gate, connect, device, security = gate_of(name, tmp_path)
        context = await server_on(network, whole, gate)
        server = context.request_interfaces[0].token_interface.message_interface
        client, asking = await client_on(network, connect, device, security)
        assert (await client.request("get", asked)).code == aiocoap.CONTENT
        seen = [*MESSAGES, *network.sent[CLIENT]] if name != "manager" else [*ASKED, *network.sent[CLIENT]]
        for number in range(runs):
            server.datagram_received(hostile(seen, chance), ("stranger", chance.randrange(1000)))
            if number % 500 == 0:
                assert (await client.request("get", asked, timeout=1000)).code == aiocoap.CONTENT
                for sent in (*network.sent.values(), *network.delivered.values()):
                    sent.clear()  # what the network of the test remembers
                grown.check(number)
        assert server.remotes <= MOST_REMOTES
        await asking.shutdown()
        await context.shutdown()

    with caplog.at_level(logging.ERROR):
        in_virtual_time(test)
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


class FalseNetwork(Network):
    """Hands on less than half of what the server sends as it is, and with each some that were changed."""

    changed = 0

    def __init__(self, chance: random.Random) -> None:
        super().__init__(chance, loss=0, double=0, most_delay_s=0.01)

    def carry(self, data: bytes, source: Place, to: Place) -> None:
        chance = self._chance
        if source == SERVER:
            seen = [data, *self.sent[SERVER][-4:]]
            for _ in range(chance.randrange(40)):
                self.changed += 1
                asyncio.get_running_loop().call_later(
                    chance.uniform(0, 0.02), self._deliver, hostile(seen, chance), source, to
                )
            if chance.random() < 0.6:
                return
        super().carry(data, source, to)


@pytest.mark.parametrize("name", ["plain", "dotp", "sabour", "oscore"])
@PARTS
def test_what_a_client_is_answered_raises_what_a_person_reads_and_no_text_of_a_stranger_is_taken(
    name: str, runs: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chance, grown = random.Random(runs), Grown()

    async def test() -> None:
        network = FalseNetwork(chance)
        whole, gate, connect, device, security = gate_of(name, tmp_path)
        context = await server_on(network, whole, gate)
        client, asking = await client_on(network, connect, device, security)
        stored = false = number = 0
        while network.changed < runs:
            number += 1
            try:
                if not stored:
                    stored += (await client.request("put", "coap://server/store/a", b"genuine")).code.is_successful()
                answer = await client.request("get", "coap://server/store/a")
            except BtSelfSecureError:
                continue
            false += answer.code == aiocoap.CONTENT and answer.payload != b"genuine"
            for sent in (*network.sent.values(), *network.delivered.values()):
                del sent[:-8]
            grown.check(network.changed)
        assert stored, "the genuine answer was never taken"
        assert not false or name == "plain"
        await asking.shutdown()
        await context.shutdown()

    with caplog.at_level(logging.ERROR):
        in_virtual_time(test)
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize(
    "option", ["d1 0e 00", "d1 0e 09", "d1 0a 0a"], ids=["block1", "more of block1", "a later block2"]
)
def test_an_answer_whose_block_options_do_not_fit_is_said_in_a_sentence(option: str) -> None:
    async def test() -> None:
        network = Network(random.Random(1), loss=0, double=0, most_delay_s=0.01)
        client, asking = await client_on(network, lambda _now: PlainChannel())

        def answer(data: bytes) -> None:
            token = data[4 : 4 + (data[0] & 15)]
            forged = bytes([0x60 | len(token), 0x45]) + data[2:4] + token + bytes.fromhex(option) + b"\xffforged"
            network.carry(forged, SERVER, CLIENT)

        network.receivers[SERVER] = answer
        with pytest.raises(NoResponseError, match="is no answer to this request"):
            await client.request("get", "coap://server/time")
        await asking.shutdown()

    in_virtual_time(test)


def test_a_reset_of_a_request_that_is_answered_keeps_nothing_from_going_out_afterwards() -> None:
    """The answer overtakes what acknowledges the request, and that is a reset."""

    async def test() -> None:
        network = Network(random.Random(1), loss=0, double=0, most_delay_s=0)
        client, asking = await client_on(network, lambda _now: PlainChannel())

        def answer(data: bytes) -> None:
            if data[1] == aiocoap.GET:
                network.receivers[CLIENT](bytes([0x50 | data[0] & 15, 0x45, 0, 0]) + data[4 : 4 + (data[0] & 15)])
                network.receivers[CLIENT](b"\x70\0" + data[2:4])

        network.receivers[SERVER] = answer
        for _ in range(3):
            assert (await client.request("get", "coap://server/time")).code == aiocoap.CONTENT
        await asking.shutdown()

    in_virtual_time(test)


def test_a_message_of_an_oscore_group_is_refused_without_a_traceback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        network = Network(random.Random(1), loss=0, double=0, most_delay_s=0.01)
        whole, gate, connect, _, security = gate_of("oscore", tmp_path)
        context = await server_on(network, whole, gate)
        client, asking = await client_on(network, connect, None, security)
        assert (await client.request("get", "coap://server/time")).code == aiocoap.CONTENT
        request = bytearray(network.sent[CLIENT][0])
        option = request.index(b"server") + len(b"server") + 1  # after the host comes OSCORE's
        assert request[option] == 0x09, "flags: a key id, and a number of one byte"
        request[option] |= 0x20
        request[3] ^= 1
        network.receivers[SERVER](bytes(request))
        await asyncio.sleep(1)
        assert network.sent[SERVER][-1][1] == aiocoap.BAD_OPTION
        await asking.shutdown()
        await context.shutdown()

    with caplog.at_level(logging.ERROR):
        in_virtual_time(test)
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


def test_a_flood_of_requests_fills_no_memory() -> None:
    async def test() -> None:
        network = Network(random.Random(1), loss=0, double=0, most_delay_s=0.01)
        context = await server_on(network, site(), PlainGate())
        messages = context.request_interfaces[0].token_interface
        for number in range(MOST_REMEMBERED + 1000):
            request = bytes.fromhex("4001") + (number % 65_536).to_bytes(2) + bytes.fromhex("b474696d65")
            messages.message_interface.datagram_received(request, ("stranger", number // 1000))
            await asyncio.sleep(0)
        assert len(messages._recent_messages) <= MOST_REMEMBERED + 1
        assert len(asyncio.all_tasks()) < 100
        await asyncio.sleep(300)
        messages.message_interface.datagram_received(request, ("stranger", 0))
        assert len(messages._recent_messages) == 1, "after 247 s a number may be used again"
        await context.shutdown()

    in_virtual_time(test)


@pytest.mark.parametrize("runs", [1000, pytest.param(1_000_000, marks=[pytest.mark.long, pytest.mark.timeout(3600)])])
def test_mutated_hellos_and_records_of_dtls_raise_nothing_and_open_no_session(runs: int) -> None:
    chance, gate = random.Random(runs), DtlsGate({b"devA": KEY}.get, lambda _identity: True, os.urandom, 0.0)
    client = dtls_client(b"devA", KEY, 0.0)
    client.send(b"hello", 0.0)
    seen, channel, got = [], None, []
    for _ in range(6):
        for data in client.datagrams(0.0):
            seen.append(data)
            if channel is not None:
                got += channel.receive(data, 0.0)
                continue
            channel, answers = gate.admit(data, b"there", 0.0)
            for answer in answers if channel is None else []:
                client.receive(answer, 0.0)
        for data in channel.datagrams(0.0) if channel else []:
            client.receive(data, 0.0)
    assert channel is not None
    assert got == [b"hello"]
    for _ in range(runs):
        data = mutated(chance.choice(seen), chance)
        assert channel.receive(data, 0.0) == []
        assert not channel.ended, data.hex()
        new, _ = gate.admit(data, b"elsewhere", 0.0)
        assert new is None, "a cookie is good for one place"
    client.send(b"again", 0.0)
    (data,) = client.datagrams(0.0)
    assert channel.receive(data, 0.0) == [b"again"]


def test_a_pair_file_of_chance_raises_nothing_but_what_a_person_reads(tmp_path: Path) -> None:
    ends, chance = begun(tmp_path, "pair"), random.Random(1)
    ends[Role.CLIENT].close()
    path = ends[Role.CLIENT].path
    whole = path.read_bytes()
    for _ in range(300):
        path.write_bytes(mutated(whole, chance))
        try:
            PairFile(path).close()
        except UsageError:
            continue
