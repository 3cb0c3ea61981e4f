"""Who is cut (a pulled plug, no farewell) is missed within `SILENCE_S`, twice that for a device, and the 22 seconds of
an ask without an answer, at each end of both connections; whoever speaks is asked nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cloud_network import cloud_at
from iot_network import Sensor, company, device_at, enrolled, gateway_at, gateway_config, until
from virtual_loop import run_virtually, virtual_wall

from bt_selfsecure.iot.cloud.cloud import Cloud
from bt_selfsecure.iot.gateway.gateway import Gateway
from bt_selfsecure.iot.sessions import SILENCE_S, IotSession
from bt_selfsecure.protocols.iotcrypto.certificate import Role
from bt_selfsecure.protocols.iotcrypto.transmission_messages import Answer, Ask, ReadingRequest

UNANSWERED_S = 22.0


def cut(session: IotSession) -> None:
    """Let nothing of this end's get out any more, not even that it ends."""
    session._driven._transmit = lambda data: None


@asynccontextmanager
async def network(path: Path, fetch_s: float) -> AsyncIterator[tuple[Cloud, Gateway, Callable[[Sensor], Any]]]:
    """A cloud, a gateway, and what runs a device of theirs."""
    owner, clock = company(path), {"wall": virtual_wall()}
    folder = enrolled(path, Role.GATEWAY, "cellar", owner)
    boiler = enrolled(path, Role.DEVICE, "boiler", owner)
    async with cloud_at(path, owner) as running:
        config = gateway_config(running.place, fetch_s=fetch_s)  # type: ignore[arg-type]
        async with gateway_at(folder, config, **clock) as gateway:
            yield running.cloud, gateway, lambda sensor: device_at(boiler, sensor, gateway, **clock)


async def missed(session: IotSession) -> float:
    """Seconds until this end has closed."""
    clock = asyncio.get_running_loop().time
    since = clock()
    await until(lambda: session.end_reason, 10_000)
    assert session.end_reason == "it does not answer any more"
    return clock() - since


@pytest.mark.parametrize("fetch_s", [10.0, 86_400.0])
@pytest.mark.parametrize(
    "lost", ["gateway at its cloud", "cloud at its gateway", "gateway at its device", "device at its gateway"]
)
def test_who_is_cut_is_missed_in_time(tmp_path: Path, lost: str, fetch_s: float) -> None:
    async def main() -> None:
        async with network(tmp_path, fetch_s) as (cloud, gateway, running), running(Sensor()) as device:
            await until(lambda: cloud.gateways and gateway.uplink.keeper.session and gateway.devices)
            await asyncio.sleep(100)
            (at_cloud,) = cloud.gateways.values()
            (at_gateway,) = (each.session for each in gateway.devices.values())
            up, down = gateway.uplink.keeper.session, device.keeper.session
            silent, waiting = {
                "gateway at its cloud": (up, at_cloud),
                "cloud at its gateway": (at_cloud, up),
                "gateway at its device": (at_gateway, down),
                "device at its gateway": (down, at_gateway),
            }[lost]
            assert not waiting.end_reason
            gateway.uplink.keeper._open = device.keeper._open = asyncio.Event().wait  # none comes back
            cut(silent)
            silence_s = SILENCE_S * (2 if lost.startswith("device") else 1)
            assert await missed(waiting) < silence_s + UNANSWERED_S + 1

    run_virtually(main())


@pytest.mark.parametrize("fetch_s", [10.0, 86_400.0])
def test_whoever_speaks_is_not_asked_whether_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fetch_s: float
) -> None:
    asked: list[Ask] = []
    request: Callable[..., object] = IotSession.request

    async def noted(self: IotSession, message: Ask) -> Answer:
        asked.append(message)
        return await request(self, message)  # type: ignore[misc]

    async def main() -> None:
        async with network(tmp_path, fetch_s) as (_, gateway, running):
            sensor = Sensor()
            async with running(sensor):
                await until(lambda: gateway.uplink.keeper.session and sensor.reads)
                monkeypatch.setattr(IotSession, "request", noted)
                before, idle = sensor.reads, fetch_s > 600
                await asyncio.sleep(600)
                asks = sum(isinstance(each, ReadingRequest) for each in asked)
                reads = sensor.reads - before
                assert reads == 0 if idle else reads > 40
                most = 3 * 600 / SILENCE_S if idle else 1
                assert asks - reads <= most

    run_virtually(main())
