"""Seven virtual Pis: one burst gives six keys, and one broadcast reaches six members, over kernel and BlueZ."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from lab_nodes import Nodes
from running_lab import RunningLab

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(2 * 3600)]

MEMBERS = ("bob", "carol", "dave", "erin", "frank", "grace")
LOSS = 0.1
MESSAGES = 20
HOUR_S = 3600.0


@pytest.fixture(scope="module")
def office(lab_of: Callable[..., RunningLab]) -> Nodes:
    """Alice and those who know her alone, all connected; each of them loses a tenth."""
    lab = lab_of("alice", *MEMBERS)
    lab.set_loss(**dict.fromkeys(MEMBERS, LOSS))
    nodes = Nodes(lab)
    nodes.begin("le_advert", "rfcomm", pairs=lambda one, other: "alice" in (one, other))
    for name in MEMBERS:
        nodes.wait_for("alice", name, lambda peer: peer["state"] == "connected", 1200)
        nodes.wait_for(name, "alice", lambda peer: peer["state"] == "connected", 1200)
    return nodes


def at(nodes: Nodes, name: str, command: str, seconds: float = HOUR_S) -> str:
    return nodes.lab.run(name, f"bt-selfsecure {command} --config /mnt/node.toml", seconds).check()


def test_one_burst_gives_six_pis_six_keys(office: Nodes) -> None:
    outcomes: list[dict[str, Any]] = json.loads(at(office, "alice", "establish --all --json"))
    assert all(one["established"] for one in outcomes), outcomes
    assert len({one["fingerprint"] for one in outcomes}) == len(MEMBERS)
    assert len({one["sent"] for one in outcomes}) == 1
    assert {len(one["shared"]) for one in outcomes} == {len(MEMBERS) - 1}
    assert "one burst for" in office.lab.run("alice", "grep 'one burst' /run/lab/node.log").out
    for one in outcomes:
        key = one["fingerprint"]
        office.wait_for(one["peer"], "alice", lambda peer, key=key: peer["key"]["fingerprint"] == key, 600)


def test_each_member_gets_each_message_of_a_group_once(office: Nodes) -> None:
    told = at(office, "alice", f"group create lamps {' '.join(MEMBERS)}")
    assert "secret bits of a burst in common" in " ".join(told.split())
    until = time.monotonic() + 1200
    while '"invited"' in at(office, "alice", "group status --json"):
        assert time.monotonic() < until, "they don't join"
        time.sleep(5)
    for number in range(MESSAGES):
        office.lab.run("alice", f"echo {number} | bt-selfsecure group send lamps --config /mnt/node.toml", 600).check()
    for name in MEMBERS:
        lines = at(office, name, f"receive --json --count {MESSAGES} --follow").splitlines()
        assert [json.loads(line)["group"] for line in lines] == ["lamps"] * MESSAGES
        (group,) = json.loads(at(office, name, "group status --json"))
        print(name, group["counts"])
        assert group["counts"]["received"] == MESSAGES
    (own,) = json.loads(at(office, "alice", "group status --json"))
    assert own["counts"]["fragments"] == 3 * MESSAGES, "each broadcast once"
    assert {member["state"] for member in own["members"]} == {"current"}
