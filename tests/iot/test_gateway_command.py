"""The gateway's commands: configuration with the line at fault, doctor, and what a running one says."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from iot_network import Sensor, company, device_at, enrolled, gateway_at, gateway_config, until

from bt_selfsecure.bearers.udp import listening
from bt_selfsecure.cli.main import main
from bt_selfsecure.free_ports import free_ports
from bt_selfsecure.iot.folder import IdentityFolder, add_signature
from bt_selfsecure.iot.gateway.api import GatewayApi
from bt_selfsecure.protocols.iotcrypto.certificate import Role

WORDS = ("status", "status --json", "ask boiler", "ask boiler nothing", "command boiler fail", "ask nobody",
         "command boiler lamp 7", "metrics", "doctor")  # fmt: skip


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main([*words]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[devices]\nfetch_s = 0\n", ":2: [devices] fetch_s is 0 and must be"),
        ("[devices]\nfetch = 1\n", "do you mean fetch_s?"),
        ('[devices]\nlisten = ["here"]\n', "must be an IP address"),
        ("[devices]\nnegotiation_port = 5712\n", "is that of the negotiation"),
        ('[cloud]\naddress = "cloud.example"\n', "an IP address with a UDP port"),
        ("[nothing]\n", "is an unknown table"),
        ("[devices\n", "not TOML"),
    ],
)
def test_a_configuration_is_refused_with_the_line_at_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, why: str
) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(text)
    assert why in refused(capsys, "gateway", "config", "--config", str(file))
    assert why in refused(capsys, "gateway", "run", "--config", str(file))


def test_the_configuration_that_is_printed_reads_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text('[devices]\nfetch_s = 3\n[cloud]\naddress = "192.0.2.1:5713"\n')
    assert main(["gateway", "config", "--config", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "\nfetch_s = 3.0\n" in printed
    assert "\n#rekey_s = 3600.0\n" in printed
    file.write_text(printed)
    assert main(["gateway", "config", "--config", str(file)]) == 0
    assert capsys.readouterr().out == printed


def test_what_is_missing_is_told_before_anything_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "prints one to begin with" in refused(capsys, "gateway", "run", "--config", str(tmp_path / "none"))
    file = tmp_path / "gateway.toml"
    owner = company(tmp_path)
    device = enrolled(tmp_path, Role.DEVICE, "boiler", owner)
    for state, why in ((tmp_path / "empty", "there is no key"), (device.path, "is of a device")):
        file.write_text(f'[gateway]\nstate = "{state}"\nsocket = "{tmp_path}/s"\nsocket_group = ""\n')
        assert why in refused(capsys, "gateway", "run", "--config", str(file))
    assert "no gateway runs on" in refused(capsys, "gateway", "status", "--config", str(file))
    gateway = enrolled(tmp_path, Role.GATEWAY, "cellar", owner)
    words = ("device", "run", "examples/laptop_device.py", "--state", str(gateway.path))
    assert "is of a gateway" in refused(capsys, *words)
    assert "is no device address" in refused(capsys, *words, "--ipsp", "nowhere")
    assert "can't be imported" in refused(capsys, "device", "run", "nowhere.py", "--state", str(device.path))


def test_the_doctor_names_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    owner = company(tmp_path)
    folder = enrolled(tmp_path, Role.GATEWAY, "cellar", owner)
    file, ports = tmp_path / "gateway.toml", free_ports("0.0.0.0", 2)
    file.write_text(
        f'[gateway]\nstate = "{folder.path}"\n[devices]\nnegotiation_port = {ports[0]}\n'
        f"transmission_port = {ports[1]}\n"
    )
    assert main(["gateway", "doctor", "--config", str(file)]) == 0
    said = capsys.readouterr().out
    assert "FAILURE" not in said
    assert max(map(len, said.splitlines())) <= 80
    assert [path.name for path in folder.path.glob(".doctor*")] == []
    folder.certify(Role.GATEWAY, "cellar", 30)  # and not signed again
    assert main(["gateway", "doctor", "--config", str(file)]) == 1
    assert "no trusted party has" in capsys.readouterr().out
    folder.certify(Role.GATEWAY, "cellar", 9)
    folder.put_signed(add_signature(folder.signed(), owner.secrets().sign(folder.signed().certificate)))
    with listening(("0.0.0.0", ports[1])):
        assert main(["gateway", "doctor", "--config", str(file)]) == 0
        said = " ".join(capsys.readouterr().out.split())
        file.write_text(file.read_text().replace("[devices]", f'socket = "{tmp_path}/s"\nsocket_group = ""\n[devices]'))
        assert "set listen or the port to others" in refused(capsys, "gateway", "run", "--config", str(file))
    assert "its certificate expires in 8 days" in said
    assert "end what has it, or set listen or the port to others" in said
    assert "[udp]" not in said
    (folder.path / "network").unlink()
    assert main(["gateway", "doctor", "--config", str(file)]) == 1
    assert "there is no network key" in " ".join(capsys.readouterr().out.split())
    file.write_text("[gateway]\nstat = 1\n")
    assert main(["gateway", "doctor", "--config", str(file)]) == 1
    assert "do you mean state?" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_running_gateway_says_how_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str], host: str) -> None:
    owner = company(tmp_path)
    folder = enrolled(tmp_path, Role.GATEWAY, "cellar", owner)
    boiler: IdentityFolder = enrolled(tmp_path, Role.DEVICE, "boiler", owner)
    file = tmp_path / "gateway.toml"
    file.write_text(f'[gateway]\nstate = "{folder.path}"\nsocket = "{tmp_path}/s"\nsocket_group = ""\n')
    said: dict[str, tuple[int, str]] = {}

    def ask() -> None:
        for words in WORDS:
            status = main(["gateway", *words.split(), "--config", str(file)])
            captured = capsys.readouterr()
            said[words] = status, captured.out or captured.err

    async def run() -> None:
        config = gateway_config(listen=(host,))
        config = replace(config, gateway=replace(config.gateway, socket=tmp_path / "s", socket_group=""))
        sensor = Sensor()
        async with gateway_at(folder, config) as gateway, device_at(boiler, sensor, gateway):
            api = GatewayApi(gateway, config.gateway.socket, "")
            await api.start()
            try:
                await until(lambda: gateway.counts["readings"])
                thread = threading.Thread(target=ask)
                thread.start()
                await until(lambda: not thread.is_alive(), 30)
                assert sensor.commands == [("lamp", 7)]
            finally:
                await api.stop()

    asyncio.run(run())
    assert said["status"][0] == 0
    assert "boiler at" in said["status"][1]
    told = json.loads(said["status --json"][1])
    assert (told["gateway"]["name"], told["devices"][0]["name"]) == ("cellar", "boiler")
    assert "this gateway runs, and has them" in said["doctor"][1]
    assert said["ask boiler"][1].startswith("count ")
    assert (said["ask boiler nothing"][0], "there is no sensor" in said["ask boiler nothing"][1]) == (2, True)
    assert said["command boiler fail"] == (1, "not done: execute raised ValueError: as it was told\n")
    assert said["command boiler lamp 7"] == (0, "done: lamp done\n")
    assert (said["ask nobody"][0], "is connected" in said["ask nobody"][1]) == (2, True)
    assert "bt_selfsecure_gateway_devices 1\n" in said["metrics"][1]
    assert not (tmp_path / "s").exists()
