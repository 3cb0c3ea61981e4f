"""`pi_setup/install --role gateway` and `--role device` on a virtual Pi with a Debian of its own: both as services."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from installed_pi import INSTALL_S, DebianPis

pytestmark = [pytest.mark.lab, pytest.mark.long]

CONNECTED_S = 180
NAME = "bookworm"
IOT, DEVICES = "/var/lib/bt-selfsecure-iot", "/var/lib/bt-selfsecure-device"
PROGRAM = "SENSORS = ['count']\ndef read_sensor(name): return 7"


def test_a_gateway_and_a_device_run_as_confined_services_and_uninstall_leaves_nothing(tmp_path: Path) -> None:
    pis = DebianPis(tmp_path / "lab", (NAME,))
    try:
        pis.as_user(NAME, "pi_setup/install --role gateway", INSTALL_S).check()
        made = "set -e; iot='bt-selfsecure iotcrypto'; cd ~; $iot key --network office --state acme"
        made += "; $iot certificate --role party --name ACME --state acme"
        made += "; $iot prepare cellar --role gateway --name cellar --state acme"
        made += "; $iot prepare boiler --role device --name boiler --state acme"
        made += f"; sudo cp -r cellar/. {IOT}; sudo mkdir -p {DEVICES}; sudo cp -r boiler {DEVICES}"
        made += f"; sudo chown -R bt-selfsecure: {IOT} {DEVICES}; sudo install -d /etc/bt-selfsecure/devices"
        made += f'; printf "{PROGRAM}\\n" | sudo tee /etc/bt-selfsecure/boiler.py'
        made += "; echo DEVICE=/etc/bt-selfsecure/boiler.py | sudo tee /etc/bt-selfsecure/devices/boiler"
        pis.as_user(NAME, made).check()
        pis.as_user(NAME, "pi_setup/install --role device", INSTALL_S).check()
        begun = pis.as_user(NAME, "sudo systemctl restart bt-selfsecure-gateway")
        assert begun.status == 0, pis.lab.run(NAME, "journalctl -u bt-selfsecure-gateway --no-pager").out
        until = time.monotonic() + CONNECTED_S
        while True:
            said = pis.as_user(NAME, "sudo bt-selfsecure gateway status --json").out
            devices = json.loads(said)["devices"] if said.startswith("{") else []
            if devices and devices[0]["readings"] == {"count": 7}:
                break
            assert time.monotonic() < until, (said, pis.lab.logs(NAME))
            time.sleep(2)
        for unit in ("bt-selfsecure-gateway", "bt-selfsecure-device@boiler"):
            pid = pis.lab.run(NAME, f"systemctl show -P MainPID {unit}").check().strip()
            lines = pis.lab.run(NAME, f"cat /proc/{pid}/status").check().splitlines()
            facts = dict(line.split(":\t", 1) for line in lines)
            assert "0" not in facts["Uid"].split()
            assert (int(facts["CapEff"], 16), facts["NoNewPrivs"].strip(), facts["Seccomp"].strip()) == (0, "1", "2")
        pis.as_user(NAME, "pi_setup/uninstall --purge").check()
        left = "find /etc /usr/local /var/lib /opt -name '*bt-selfsecure*'"
        assert pis.lab.run(NAME, left).check() == ""
    finally:
        pis.lab.end()
