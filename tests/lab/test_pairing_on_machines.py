"""Two virtual Pis that don't know each other are paired over their radio, by a picture of a QR code: two commands."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable

import pytest
from lab_nodes import Nodes, node_status
from running_lab import RunningLab

pytestmark = pytest.mark.lab
SHOW = "cd /lab && setsid bt-selfsecure pair show --out /lab/code.png >/lab/show.log 2>&1 </dev/null & true"


@pytest.mark.parametrize("bearer", ["rfcomm", "l2cap"])
def test_a_picture_of_a_code_pairs_two_pis_and_they_stay_so_when_the_power_fails(
    lab_of: Callable[..., RunningLab], bearer: str
) -> None:
    nodes = Nodes(lab_of("alice", "bob"))
    nodes.begin(bearer, bearer, pairs=lambda one, other: False)
    for name in ("alice", "bob"):
        until = time.monotonic() + 120
        while not nodes.status(name).get("address"):
            assert time.monotonic() < until, nodes.log(name)
            time.sleep(0.5)
    shared = nodes.lab.shared
    (shared["bob"] / "code.png").unlink(missing_ok=True)
    nodes.lab.run("bob", SHOW).check()
    until = time.monotonic() + 120
    while not (shared["bob"] / "code.png").exists():
        assert time.monotonic() < until, (shared["bob"] / "show.log").read_text()
        time.sleep(0.5)
    shutil.copy(shared["bob"] / "code.png", shared["alice"] / "code.png")  # a stick, a mail, a photo
    done = nodes.lab.run("alice", "bt-selfsecure pair scan /lab/code.png", timeout=300)
    assert "Paired with bob" in done.out, f"{done.out}\n{nodes.log('alice')}\n--- bob\n{nodes.log('bob')}"
    for pair in (("alice", "bob"), ("bob", "alice")):
        peer = nodes.wait_for(*pair, lambda peer: peer["state"] == "connected")
        assert (peer["trust"]["confirmed"], peer["key"]["authenticated"]) == ("authentication key", True)
    assert "Paired with alice" in (shared["bob"] / "show.log").read_text()
    nodes.power_cycle("alice")
    nodes.wait_for("alice", "bob", lambda peer: peer["state"] == "connected", 300)


def test_two_strangers_are_paired_by_six_commands(lab_of: Callable[..., RunningLab]) -> None:
    """Those of docs/virtual-pis.md: the lab, two shells, and three typed in them and beside them."""
    lab = lab_of("alice", "bob", options=("--strangers",))
    shared, until = lab.shared, time.monotonic() + 120
    while not all(node_status(lab, name).get("address") for name in lab.names):
        assert time.monotonic() < until, lab.all_logs()
        time.sleep(0.5)
    lab.run("bob", SHOW).check()
    until = time.monotonic() + 120
    while not (shared["bob"] / "code.png").exists():
        assert time.monotonic() < until, (shared["bob"] / "show.log").read_text()
        time.sleep(0.5)
    shutil.copy(shared["bob"] / "code.png", shared["alice"])
    assert "Paired with bob" in lab.run("alice", "bt-selfsecure pair scan /lab/code.png", timeout=300).check()
