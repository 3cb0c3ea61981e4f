"""What others can make again and again is logged once: a list that is older than the one that is here, above all."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from iot_network import Sensor, company, device_at, enrolled, gateway_at, gateway_config, until

from bt_selfsecure.iot.members import Member
from bt_selfsecure.iot.telling import MOST_TOLD, ToldOnce
from bt_selfsecure.protocols.iotcrypto.certificate import Role
from bt_selfsecure.protocols.iotcrypto.lists import ListKind
from bt_selfsecure.protocols.iotcrypto.transmission import pieces_of
from bt_selfsecure.protocols.iotcrypto.transmission_messages import ErrorMessage


def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [text for each in caplog.records if (text := each.getMessage()).startswith("a list is not taken: ")]


def test_an_older_list_is_refused_each_time_and_told_of_once_for_each_list(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    owner = company(tmp_path)
    older = [owner.sign_list(ListKind.REVOCATIONS, (bytes([at]) * 16,)) for at in range(3)]
    member = Member(enrolled(tmp_path, Role.DEVICE, "boiler", owner), Role.DEVICE)
    owner.sign_list(ListKind.REVOCATIONS, ())
    member.take_list(owner.sign_list(ListKind.REVOCATIONS, ()).encode())
    for _ in range(5):
        for made in older:
            (piece,) = pieces_of(made.encode())
            answer, is_new = member.take_piece(piece)
            assert isinstance(answer, ErrorMessage)
            assert not is_new
    assert len(refusals(caplog)) == len(older)
    for made, told in zip(older, refusals(caplog), strict=True):
        assert f"of serial {made.serial}, which is older than the one that is here" in told


def test_a_gateway_that_missed_a_list_offers_its_older_one_at_each_connection_and_the_device_tells_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    owner = company(tmp_path)
    owner.sign_list(ListKind.REVOCATIONS, ())
    gateway_folder = enrolled(tmp_path, Role.GATEWAY, "cellar", owner)
    owner.sign_list(ListKind.REVOCATIONS, (bytes(16),))
    boiler = enrolled(tmp_path, Role.DEVICE, "boiler", owner)

    async def main() -> None:
        async with gateway_at(gateway_folder, gateway_config()) as gateway, device_at(boiler, Sensor(), gateway):
            for times in range(1, 4):
                await until(lambda: gateway.counts["joined"] == times and gateway.devices)  # noqa: B023
                (device,) = gateway.devices.values()
                await until(lambda: device.lists and not device.session._awaited)  # noqa: B023
                device.session.close("once more")

    asyncio.run(main())
    assert len(refusals(caplog)) == 1


def test_what_is_told_once_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    once = ToldOnce(logging.getLogger("once"))
    for _ in range(2):
        for at in range(MOST_TOLD):
            once.warn(f"trouble {at}")
    assert len(caplog.records) == MOST_TOLD
    once.warn("one more")
    once.warn("trouble 0")
    assert len(caplog.records) == MOST_TOLD + 2
