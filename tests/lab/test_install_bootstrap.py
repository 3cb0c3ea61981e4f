"""`pi_setup/install --role bootstrap` on a virtual Pi with a Debian of its own: a node joins at a confined service."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from installed_pi import INSTALL_S, DebianPis

pytestmark = [pytest.mark.lab, pytest.mark.long]

SERVED_S = 120
NAME = "bookworm"
ADD = "sudo bt-selfsecure bootstrap serve --add-controller hall --nid udp:127.0.0.1:5702"
JOIN = "bt-selfsecure bootstrap join --no-peer"


def test_a_node_joins_at_a_confined_service_and_uninstall_leaves_nothing(tmp_path: Path) -> None:
    pis = DebianPis(tmp_path / "lab", (NAME,))
    try:
        pis.as_user(NAME, "pi_setup/install --role bootstrap", INSTALL_S).check()
        pis.as_user(NAME, f"{ADD} && sudo pi_setup/install --role bootstrap").check()
        until = time.monotonic() + SERVED_S
        while pis.as_user(NAME, "sudo test -S /var/lib/bt-selfsecure-bootstrap/controller.sock").status != 0:
            assert time.monotonic() < until, pis.lab.logs(NAME)
            time.sleep(2)
        enrol = "sudo bt-selfsecure bootstrap enrol lamp --out /tmp/lamp.setup && sudo chown $USER /tmp/lamp.setup"
        pis.as_user(NAME, f"{enrol} && bt-selfsecure bootstrap enrol --setup /tmp/lamp.setup").check()
        admit = "sudo bt-selfsecure bootstrap admit --no-wait --file -"
        joined = pis.as_user(
            NAME, f"{JOIN} --show >flight1 && {admit} <flight1 >flight2 && {JOIN} --file - <flight2"
        ).check()
        assert "lamp has joined home" in joined
        assert "joined until" in pis.as_user(NAME, "sudo bt-selfsecure bootstrap status").check()
        pid = pis.lab.run(NAME, "systemctl show -P MainPID bt-selfsecure-bootstrap").check().strip()
        lines = pis.lab.run(NAME, f"cat /proc/{pid}/status").check().splitlines()
        facts = dict(line.split(":\t", 1) for line in lines)
        assert "0" not in facts["Uid"].split()
        assert (int(facts["CapEff"], 16), facts["NoNewPrivs"].strip(), facts["Seccomp"].strip()) == (0, "1", "2")
        pis.as_user(NAME, "pi_setup/uninstall --purge").check()
        left = "find /etc /usr/local /var/lib /opt -name '*bt-selfsecure*'"
        assert pis.lab.run(NAME, left).check() == ""
    finally:
        pis.lab.end()
