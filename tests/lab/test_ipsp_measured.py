"""`bt-selfsecure bench ipsp` between machines, direct and through a gateway with two peers, as docs/iot.md sets it up.

The kernel's 6LoWPAN over Bluetooth does not find the peer of a route `via` another (the paper mended that in its own
kernel): it does find one that the neighbour cache has for the destination."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable

import pytest
from link_up import begin, last_state, wait_for
from running_lab import RunningLab

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(shutil.which("iperf3") is None, reason="not installed: iperf3 (apt install iperf3)"),
]
BENCH = "bt-selfsecure bench ipsp {} --distance {} --repeats 2 --seconds 5 --pings 20 --results /lab/ble.json {}"
WAYS = {"alice": "fd00::a", "bob": "fd00::b"}


def test_throughput_and_round_trips_are_measured_direct_and_through_a_gateway(
    lab_of: Callable[..., RunningLab],
) -> None:
    lab = lab_of("cellar", "alice", "bob")
    begin(lab, "cellar", "")
    for name in WAYS:
        begin(lab, name, lab.address("cellar"))
    for name in WAYS:
        wait_for(lab, name, lambda state: bool(state["answered"]))
    wait_for(lab, "cellar", lambda state: len(state["answered"]) == 2)
    (gateway,) = last_state(lab, "alice")["answered"]
    for name, address in WAYS.items():
        lab.run(name, f"ip addr add {address}/128 dev bt0").check()
        lab.run("cellar", f"ip route add {address} dev bt0").check()
        lab.run("cellar", f"ip neigh replace {address} lladdr {lab.address(name)} dev bt0").check()
    for name, other in (("alice", WAYS["bob"]), ("bob", WAYS["alice"])):
        lab.run(name, f"ip route add {other} dev bt0").check()
        lab.run(name, f"ip neigh replace {other} lladdr {lab.address('cellar')} dev bt0").check()
    lab.run("cellar", "sysctl -q -w net.ipv6.conf.all.forwarding=1").check()
    for name in ("cellar", "bob"):
        lab.run(name, "nohup iperf3 -s </dev/null >/dev/null 2>&1 & echo").check()
    time.sleep(1)

    lab.run("alice", BENCH.format(gateway, 1, ""), timeout=300.0).check()
    said = lab.run("alice", BENCH.format(WAYS["bob"], 2, "--through-gateway"), timeout=300.0).check()
    assert "which tells nothing of a radio" in said
    direct, through = json.loads((lab.shared["alice"] / "ble.json").read_text())["rows"]
    assert [row["through_gateway"] for row in (direct, through)] == [False, True]
    assert all(row["virtual"] for row in (direct, through))
    assert all(len(row["kbit_s"]) == 2 and min(row["kbit_s"]) > 0 for row in (direct, through))
    assert all(len(row["round_trips_ms"]) > 15 for row in (direct, through))
    assert min(through["round_trips_ms"]) > min(direct["round_trips_ms"])
