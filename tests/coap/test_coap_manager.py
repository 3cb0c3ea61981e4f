"""The D-OTP manager over real DTLS, asked by both ends of real pairs; and by the command line."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiocoap
import pytest
from coap_processes import coap, serving
from served import begun, run

from bt_selfsecure.cli.main import main
from bt_selfsecure.coap.client import CoapClient, NoResponseError, connected
from bt_selfsecure.coap.manager import ManagedSite, ManagerClient, ManagerService, NotGrantedError, read_pairs
from bt_selfsecure.coap.resources import site
from bt_selfsecure.coap.schemes import DotpDtls, DotpObject, DtlsPsk
from bt_selfsecure.coap.server import serve
from bt_selfsecure.errors import UsageError
from bt_selfsecure.protocols.dotp.keys import Role
from bt_selfsecure.protocols.dotp.manager import ManagerConfig

PAIRS = {"pair": {Role.CLIENT: "sensor", Role.SERVER: "gateway"}}
KEYS = {name.encode(): name.encode() * 4 for name in ("sensor", "gateway", "operator")}
LOOSE = [b'{"pair": "pair", "end": "client", "n": %b}' % n for n in (b'"5"', b"true", b"1.0", b"1e999", b"null")]
LOOSE.append(b'{"pair": 1, "end": "client", "n": 1}')


def key_of(name: str) -> DtlsPsk:
    return DtlsPsk({name.encode(): KEYS[name.encode()]})


@asynccontextmanager
async def manager_at(host: str, path: Path, **limits: Any) -> AsyncIterator[tuple[ManagerService, str]]:
    service = ManagerService(ManagerConfig(PAIRS, **limits), path)
    serving = await serve(service.site, host, 0, DtlsPsk(KEYS))
    try:
        yield service, f"coaps://{host}:{serving.port}"
    finally:
        await serving.close()
        service.close()


async def state(uri: str, who: str = "operator", what: str = "state") -> Any:
    async with connected(key_of(who)) as client:
        answer = await client.request("get", f"{uri}/{what}")
        return json.loads(answer.payload) if what == "state" and answer.code.is_successful() else answer


@pytest.mark.parametrize("kind", [DotpDtls, DotpObject])
def test_both_ends_ask_before_and_tell_after_each_transmission(
    kind: type[DotpDtls | DotpObject], tmp_path: Path, loopback_host: str
) -> None:
    ends = begun(tmp_path, "pair")

    async def test() -> None:
        async with (
            manager_at(loopback_host, tmp_path / "manager.json") as (_, uri),
            connected(key_of("gateway")) as gateway,
            connected(key_of("sensor")) as sensor,
        ):
            asked = ManagerClient(gateway, uri, Role.SERVER)
            served = await serve(ManagedSite(site(), asked), loopback_host, 0, kind([ends[Role.SERVER]]))
            for _ in range(3):
                async with connected(kind([ends[Role.CLIENT]])) as client:
                    before = ManagerClient(sensor, uri, Role.CLIENT)
                    client.before = before.begin
                    resource = f"{kind.uri_scheme}://{loopback_host}:{served.port}/time"
                    assert (await client.request("get", resource)).code == aiocoap.CONTENT
                    await before.finish()
            await asked.finish()
            shown = await state(uri)
            assert [(end["granted"], end["done"], end["open"]) for end in shown["ends"]] == [(3, 3, 0)] * 2
            assert len({end["last"] for end in shown["ends"]}) == 1, "both name the same number"
            assert shown["alarms"] == []
            await served.close()

    run(test)


@asynccontextmanager
async def managed_pairs(
    host: str, folder: Path, kind: type[DotpDtls | DotpObject], names: list[str], **limits: Any
) -> AsyncIterator[tuple[str, str, list[CoapClient]]]:
    """A manager, a server that asks it for all of these pairs, and a client of each; the manager's URI, the resource's
    and the clients."""
    ends = {name: begun(folder, name, name, name.ljust(32).encode()) for name in names}
    service = ManagerService(ManagerConfig(dict.fromkeys(names, PAIRS["pair"]), **limits), folder / "manager.json")
    async with AsyncExitStack() as closing:
        manager = await serve(service.site, host, 0, DtlsPsk(KEYS))
        closing.push_async_callback(manager.close)
        closing.callback(service.close)
        uri = f"coaps://{host}:{manager.port}"
        asked = ManagerClient(await closing.enter_async_context(connected(key_of("gateway"))), uri, Role.SERVER)
        served = await serve(ManagedSite(site(), asked), host, 0, kind([pair[Role.SERVER] for pair in ends.values()]))
        closing.push_async_callback(served.close)
        clients = [await closing.enter_async_context(connected(kind([pair[Role.CLIENT]]))) for pair in ends.values()]
        yield uri, f"{kind.uri_scheme}://{host}:{served.port}/time", clients


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await holds():
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("kind", [DotpDtls, DotpObject])
def test_a_server_that_nobody_asks_any_more_tells_that_its_last_transmission_is_done(
    kind: type[DotpDtls | DotpObject], tmp_path: Path, loopback_host: str
) -> None:
    async def test() -> None:
        async with managed_pairs(loopback_host, tmp_path, kind, ["pair"]) as (manager, resource, (client,)):
            assert (await client.request("get", resource)).code == aiocoap.CONTENT

            async def told() -> bool:
                end = (await state(manager))["ends"][1]
                return (end["granted"], end["done"], end["open"]) == (1, 1, 0)

            await until(told)

    run(test)


@pytest.mark.parametrize("kind", [DotpDtls, DotpObject])
def test_the_sessions_of_several_pairs_go_on_side_by_side(
    kind: type[DotpDtls | DotpObject], tmp_path: Path, loopback_host: str
) -> None:
    """Fig. 6b under a manager: each in its turn, and more than once."""

    async def test() -> None:
        async with managed_pairs(loopback_host, tmp_path, kind, ["one", "other"]) as (manager, resource, clients):
            for _ in range(3):
                for client in clients:
                    assert (await client.request("get", resource)).code == aiocoap.CONTENT
            assert (await state(manager))["alarms"] == []

    run(test)


@pytest.mark.parametrize("kind", [DotpDtls, DotpObject])
def test_an_observation_keeps_nobody_waiting_and_is_no_alarm_as_long_as_it_lasts(
    kind: type[DotpDtls | DotpObject], tmp_path: Path, loopback_host: str
) -> None:
    async def test() -> None:
        async with (
            managed_pairs(loopback_host, tmp_path, kind, ["one", "other"], done_s=2) as (manager, resource, clients),
            connected(key_of("sensor")) as sensor,
        ):
            own = ManagerClient(sensor, manager, Role.CLIENT)
            clients[0].before, clients[0].after = own.begin, own.finish
            told = 0
            async for _ in clients[0].observe(resource):
                told += 1
                assert (await clients[told % 2].request("get", resource, timeout=5)).code == aiocoap.CONTENT
                await own.finish()
                if told == 4:
                    break
            assert (await state(manager))["alarms"] == []

    run(test)


def test_a_refusal_stops_the_transmission_at_either_end(tmp_path: Path, loopback_host: str) -> None:
    ends = begun(tmp_path, "pair")

    async def test() -> None:
        async with (
            manager_at(loopback_host, tmp_path / "manager.json", most_grants=1) as (_, uri),
            connected(key_of("gateway")) as gateway,
            connected(key_of("sensor")) as sensor,
        ):
            asked = ManagerClient(gateway, uri, Role.SERVER)
            served = await serve(ManagedSite(site(), asked), loopback_host, 0, DotpDtls([ends[Role.SERVER]]))
            resource = f"coaps://{loopback_host}:{served.port}/time"
            codes = []
            for _ in range(2):
                async with connected(DotpDtls([ends[Role.CLIENT]])) as client:
                    codes.append((await client.request("get", resource)).code)
            assert codes == [aiocoap.CONTENT, aiocoap.FORBIDDEN]
            own = ManagerClient(sensor, uri, Role.CLIENT)
            await own.begin(("pair", 5))
            with pytest.raises(NotGrantedError, match="too many transmissions"):
                await own.begin(("pair", 6))
            await served.close()

    run(test)


def test_an_alarm_is_in_the_log_in_the_state_and_in_the_metrics(
    tmp_path: Path, loopback_host: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Two devices with one SN; and an end that never tells that it is done."""

    async def test() -> None:
        async with manager_at(loopback_host, tmp_path / "manager.json", done_s=0.2) as (_, uri):
            async with connected(key_of("sensor")) as sensor:
                await ManagerClient(sensor, uri, Role.CLIENT).begin(("pair", 3))
                with pytest.raises(NotGrantedError, match="not above the last one"):
                    await ManagerClient(sensor, uri, Role.CLIENT).begin(("pair", 3))
            async with connected(key_of("operator")) as operator:
                async for message in operator.observe(f"{uri}/state"):
                    told = {one["alarm"] for one in json.loads(message.payload)["alarms"]}
                    if told == {"NOT_RISING", "UNFINISHED"}:
                        break
            text = (await state(uri, what="metrics")).payload.decode()
            assert 'bt_selfsecure_dotp_alarms_total{pair="pair",end="client",alarm="not_rising"} 1\n' in text
            assert 'bt_selfsecure_dotp_alarms_total{pair="pair",end="client",alarm="unfinished"} 1\n' in text
            assert 'bt_selfsecure_dotp_granted_total{pair="pair",end="client"} 1\n' in text

    with caplog.at_level(logging.WARNING):
        run(test)
    assert "ALARM a number was asked for that is not above the last one" in caplog.text
    assert "ALARM a transmission was granted and never done" in caplog.text


def test_what_the_manager_has_given_up_keeps_no_end_from_its_next_transmission(
    tmp_path: Path, loopback_host: str
) -> None:
    async def test() -> None:
        async with (
            manager_at(loopback_host, tmp_path / "manager.json", done_s=0.1) as (service, uri),
            connected(key_of("sensor")) as sensor,
        ):
            own = ManagerClient(sensor, uri, Role.CLIENT)
            await own.begin(("pair", 1))
            while not service.manager.alarms:
                await asyncio.sleep(0.05)
            await own.begin(("pair", 2))
            assert service.manager.ends["pair", Role.CLIENT].granted == 2

    run(test)


async def given_up_once(granted: Callable[[], int], work: Awaitable[None]) -> None:
    """Cancel the work in the turn in which the manager has granted: its answer is on the way."""
    task = asyncio.ensure_future(work)
    async with asyncio.timeout(30):
        while not granted():
            await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


def test_who_is_cancelled_while_the_manager_answers_has_what_it_granted(tmp_path: Path, loopback_host: str) -> None:
    async def test() -> None:
        async with (
            manager_at(loopback_host, tmp_path / "manager.json") as (service, uri),
            connected(key_of("sensor")) as sensor,
        ):
            own, end = ManagerClient(sensor, uri, Role.CLIENT), service.manager.ends["pair", Role.CLIENT]
            await given_up_once(lambda: end.granted, own.begin(("pair", 5)))
            await own.begin(("pair", 5))
            await given_up_once(lambda: end.done, own.finish())
            await own.begin(("pair", 6))
            await own.finish()
            assert (end.granted, end.done, end.refused) == (2, 2, 0)
            assert not service.manager.alarms

    run(test)


def test_a_server_whose_client_goes_while_the_manager_answers_tells_that_it_is_done(
    tmp_path: Path, loopback_host: str
) -> None:
    remote = SimpleNamespace(channel=SimpleNamespace(transmission=("pair", 5)))
    pipe = SimpleNamespace(request=SimpleNamespace(remote=remote))

    async def test() -> None:
        async with (
            manager_at(loopback_host, tmp_path / "manager.json") as (service, uri),
            connected(key_of("gateway")) as gateway,
        ):
            managed = ManagedSite(site(), ManagerClient(gateway, uri, Role.SERVER))
            end = service.manager.ends["pair", Role.SERVER]
            await given_up_once(lambda: end.granted, managed.render_to_pipe(pipe))
            async with asyncio.timeout(30):
                while not end.done:
                    await asyncio.sleep(0.01)

    run(test)


def test_a_manager_that_was_started_anew_goes_on_counting(tmp_path: Path, loopback_host: str) -> None:
    async def test() -> None:
        for n, refused in ((4, False), (5, False), (5, True)):
            async with (
                manager_at(loopback_host, tmp_path / "manager.json") as (_, uri),
                connected(key_of("sensor")) as sensor,
            ):
                own = ManagerClient(sensor, uri, Role.CLIENT)
                if refused:
                    with pytest.raises(NotGrantedError):
                        await own.begin(("pair", n))
                    assert (await state(uri))["ends"][0]["granted"] == 2
                else:
                    await own.begin(("pair", n))

    run(test)


def test_state_and_metrics_are_the_operators_alone_and_nobody_asks_for_another(
    tmp_path: Path, loopback_host: str
) -> None:
    async def test() -> None:
        async with (
            manager_at(loopback_host, tmp_path / "manager.json") as (_, uri),
            connected(key_of("gateway")) as gateway,
        ):
            for what in ("state", "metrics"):
                assert (await state(uri, "sensor", what)).code == aiocoap.FORBIDDEN
            with pytest.raises(NotGrantedError, match="not that end"):
                await ManagerClient(gateway, uri, Role.CLIENT).begin(("pair", 0))
            for payload in (b"", b"[]", b"{}", b'{"pair": "pair", "end": "middle", "n": 1}', b"[" * 900, *LOOSE):
                assert (await gateway.request("post", f"{uri}/grant", payload)).code == aiocoap.BAD_REQUEST

    run(test)


def test_without_a_manager_nothing_is_transmitted_by_ends_that_ask(tmp_path: Path, loopback_host: str) -> None:
    ends = begun(tmp_path, "pair")

    async def test() -> None:
        async with connected(key_of("gateway")) as gateway:
            asked = ManagerClient(gateway, f"coaps://{loopback_host}:9", Role.SERVER)
            served = await serve(ManagedSite(site(), asked), loopback_host, 0, DotpDtls([ends[Role.SERVER]]))
            async with connected(DotpDtls([ends[Role.CLIENT]])) as client:
                answer = await client.request("get", f"coaps://{loopback_host}:{served.port}/time")
                assert answer.code == aiocoap.SERVICE_UNAVAILABLE
                client.before = ManagerClient(gateway, f"coaps://{loopback_host}:9", Role.CLIENT).begin
                with pytest.raises(NoResponseError, match="nothing listens there"):
                    await client.request("get", f"coaps://{loopback_host}:{served.port}/time")
            await served.close()

    run(test)


@pytest.mark.parametrize("text", ["", "a b\n", "a b c d\n", "a b c\na d e\n"])
def test_a_file_of_pairs_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        read_pairs(text, "pairs")


def test_the_command_serves_a_manager_whom_the_others_ask(tmp_path: Path, loopback_host: str) -> None:
    for name in ("sensor", "gateway", "operator", "pair"):
        assert coap("key", tmp_path / name, "--identity", name)[0] == 0
    devices = tmp_path / "devices"
    devices.touch(0o600)
    devices.write_text("".join((tmp_path / name).read_text() for name in ("sensor", "gateway", "operator")))
    (tmp_path / "pairs").write_text("pair sensor gateway\n")
    for role in ("client", "server"):
        coap("pair", role, "--as", role, "--key-file", tmp_path / "pair", "--state", tmp_path)
    own = ("--scheme", "dotp", "--state", tmp_path)
    words = ("--key-file", devices, "--pairs", tmp_path / "pairs", "--state", tmp_path)
    with serving(loopback_host, *words, command="manager") as (manager, _):
        ask = ("--manager", manager, "--manager-key")
        with serving(loopback_host, *own, "--pair", "server", *ask, tmp_path / "gateway") as (uri, _):
            mine = (*own, "--pair", "client")
            assert coap("get", f"{uri}/time", *mine, *ask, tmp_path / "sensor")[0] == 0
            status, _, said = coap("get", f"{uri}/time", *mine, *ask, tmp_path / "gateway")
            assert status == 1
            assert "the manager refuses 'pair'" in said
        _, shown, _ = coap("get", f"{manager}/state", "--scheme", "dtls", "--key-file", tmp_path / "operator")
        assert [end["granted"] for end in json.loads(shown)["ends"]] == [1, 1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("get coap://127.0.0.1/time --manager coaps://127.0.0.1", "--manager is for --scheme dotp"),
        ("manager --key-file STATE/none --pairs STATE/none", "can't read"),
        ("manager --key-file STATE/none --pairs STATE/pairs --state STATE", "can't read"),
    ],
)
def test_what_can_not_be_used_is_said_in_one_line(
    words: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pairs").write_text("pair sensor gateway\n")
    assert main(["coap", *words.replace("STATE", str(tmp_path)).split()]) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    assert said in complaint
