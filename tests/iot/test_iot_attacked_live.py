"""`eve attack iotcrypto/... --live`, against a real gateway and device of this computer, as people call it."""

from __future__ import annotations

import asyncio
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from iot_network import Sensor, company, device_at, enrolled, gateway_at, gateway_config, until

from bt_selfsecure.bearers.places import shown_place
from bt_selfsecure.bench.iotcrypto.live import LIVE, attack
from bt_selfsecure.cli.main import main
from bt_selfsecure.iot import sessions
from bt_selfsecure.iot.gateway.config import GatewayConfig
from bt_selfsecure.protocols.iotcrypto.certificate import Role
from bt_selfsecure.protocols.iotcrypto.messages import Profile

CHANCE_S = 1.5
"""For an attack that fails."""


def of_profile(profile: Profile) -> GatewayConfig:
    config = gateway_config()
    return replace(config, gateway=replace(config.gateway, profile=profile.value))


class Mallory:
    """What she says, and the ports that she prints."""

    def __init__(self) -> None:
        self.said: list[str] = []

    async def gateway(self) -> SimpleNamespace:
        """As `device_at` takes one."""
        await until(lambda: self.said and "--gateway" in self.said[-1])
        host, *ports = re.findall(r"127\.0\.0\.1|\d+$|(?<=:)\d+", self.said[-1])
        places = [SimpleNamespace(places=[(host, int(port))]) for port in ports]
        return SimpleNamespace(service=SimpleNamespace(negotiation=places[0], transmission=places[1]))


@pytest.mark.parametrize("profile", Profile, ids=lambda profile: profile.value)
@pytest.mark.parametrize("name", LIVE)
def test_a_live_attack_succeeds_where_the_table_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, profile: Profile
) -> None:
    monkeypatch.setattr(sessions, "DIAL_S", CHANCE_S)
    owner = company(tmp_path)
    folder = enrolled(tmp_path, Role.GATEWAY, "cellar", owner)
    stolen, boiler = (enrolled(tmp_path, Role.DEVICE, each, owner) for each in ("stolen", "boiler"))

    succeeds = name == "iotcrypto/impostor" and profile is Profile.PAPER

    async def main() -> None:
        config = of_profile(profile)
        mallory, over = Mallory(), asyncio.Event()
        async with gateway_at(folder, config) as gateway:
            places = [gateway.service.negotiation.places[0]] * LIVE[name]
            carried = asyncio.ensure_future(attack(name, profile, places, stolen, 60.0, mallory.said.append, over))
            if name in ("iotcrypto/impostor", "iotcrypto/stolen-device"):
                async with device_at(boiler, Sensor(), await mallory.gateway(), profile):  # type: ignore[arg-type]
                    await asyncio.wait([carried], timeout=20.0 if succeeds else CHANCE_S)
                    over.set()
            assert await carried == succeeds, mallory.said
            assert not gateway.devices

    asyncio.run(main())


def test_the_command_reads_a_device_of_the_profile_paper_and_says_so(tmp_path: Path) -> None:
    owner = company(tmp_path)
    folder = enrolled(tmp_path, Role.GATEWAY, "cellar", owner)
    stolen, boiler = (enrolled(tmp_path, Role.DEVICE, each, owner) for each in ("stolen", "boiler"))

    async def main() -> None:
        mallory = Mallory()
        async with gateway_at(folder, of_profile(Profile.PAPER)) as gateway:
            words = ["iotcrypto/impostor", shown_place(gateway.service.negotiation.places[0]), "--live"]
            words += ["--stolen", str(stolen.path), "--profile", "paper"]
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "bt_selfsecure.cli.main", "eve", "attack", *words, stdout=asyncio.subprocess.PIPE
            )
            assert process.stdout is not None
            while not mallory.said or "--gateway" not in mallory.said[-1]:
                mallory.said.append((await process.stdout.readline()).decode().rstrip())
            async with device_at(boiler, Sensor(), await mallory.gateway(), Profile.PAPER):  # type: ignore[arg-type]
                rest = (await process.stdout.read()).decode()
            assert await process.wait() == 1
            assert mallory.said[0] == "has the certificate of 'cellar'"
            assert rest == "read of a device: {'count': 1}\n"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("iotcrypto/impostor --stolen boiler", "takes 1 of 127.0.0.1:PORT"),
        ("iotcrypto/stolen-device 127.0.0.1:5711 --stolen boiler", "takes none of 127.0.0.1:PORT"),
        ("iotcrypto/impostor 192.0.2.1:5711 --stolen boiler", "on this computer alone"),
        ("iotcrypto/impostor 127.0.0.1:5711", "--stolen DIR is the folder"),
        ("iotcrypto/stolen-device --stolen nowhere", "there is no network key"),
        ("iotcrypto/impostor 127.0.0.1:9 --stolen boiler", "does not show her its certificate"),
        ("iotcrypto/outside --stolen boiler", "is not carried out live"),
    ],
)
def test_what_a_live_attack_can_not_do_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    enrolled(tmp_path, Role.DEVICE, "boiler", company(tmp_path))
    assert main(["eve", "attack", *words.split(), "--live"]) == 2
    told = capsys.readouterr().err
    assert why in told
    assert told.count("\n") == 1
