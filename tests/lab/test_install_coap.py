"""`pi_setup/install --role coap` on a virtual Pi with a Debian of its own: CoAP as a service."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from installed_pi import INSTALL_S, DebianPis

pytestmark = [pytest.mark.lab, pytest.mark.long]

SERVED_S = 120
NAME = "bookworm"
STATE = "/var/lib/bt-selfsecure-coap"


def test_each_file_is_served_from_the_installation_on_confined_and_uninstall_leaves_nothing(tmp_path: Path) -> None:
    pis = DebianPis(tmp_path / "lab", (NAME,))
    try:
        files = "sudo install -d /etc/bt-selfsecure/coap && "
        files += "echo COAP=serve --scheme oscore --pair kitchen | sudo tee /etc/bt-selfsecure/coap/kitchen"
        pis.as_user(NAME, files).check()
        pis.as_user(NAME, "pi_setup/install --role coap", INSTALL_S).check()
        made = "bt-selfsecure coap key k --identity kitchen && "
        made += f"sudo install -o bt-selfsecure -m 600 k {STATE}/k && "
        made += "sudo -u bt-selfsecure bt-selfsecure coap pair kitchen --as server --for oscore"
        made += f" --key-file {STATE}/k --state {STATE} && sudo rm {STATE}/k && "
        made += "bt-selfsecure coap pair pi --as client --for oscore --key-file k && rm k"
        pis.as_user(NAME, made).check()
        pis.as_user(NAME, "sudo pi_setup/install --role coap").check()
        until = time.monotonic() + SERVED_S
        ask = "bt-selfsecure coap get coap://127.0.0.1/index --scheme oscore --pair pi"
        while (asked := pis.as_user(NAME, ask)).status != 0:
            assert time.monotonic() < until, (asked.out, pis.lab.logs(NAME))
            time.sleep(2)
        assert '"Data"' in asked.out
        pid = pis.lab.run(NAME, "systemctl show -P MainPID bt-selfsecure-coap@kitchen").check().strip()
        lines = pis.lab.run(NAME, f"cat /proc/{pid}/status").check().splitlines()
        facts = dict(line.split(":\t", 1) for line in lines)
        assert "0" not in facts["Uid"].split()
        assert (int(facts["CapEff"], 16), facts["NoNewPrivs"].strip(), facts["Seccomp"].strip()) == (0, "1", "2")
        pis.as_user(NAME, "pi_setup/uninstall --purge").check()
        left = "find /etc /usr/local /var/lib /opt -name '*bt-selfsecure*'"
        assert pis.lab.run(NAME, left).check() == ""
    finally:
        pis.lab.end()
