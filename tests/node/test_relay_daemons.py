"""Real daemons on this computer that do not hear each other, and others that carry for them: nothing in their place."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from relay_daemons import ADDRESSES, RelayNodes
from two_daemons import Traffic, wait_until

from bt_selfsecure.cli.status import status_lines
from bt_selfsecure.node.client import ApiError
from bt_selfsecure.node.doctor.findings import Verdict
from bt_selfsecure.node.doctor.host_system import HostSystem
from bt_selfsecure.node.doctor.others import others
from bt_selfsecure.node.haoxiao.peer_links import ONE_WAY
from bt_selfsecure.node.metrics import render

ENDS = {"alice": "carol", "carol": "alice"}
LINE = {"alice": ["bob"], "bob": ["alice", "carol"], "carol": ["bob"]}
SQUARE = {"alice": ["bob", "dave"], "bob": ["alice", "carol"], "carol": ["bob", "dave"], "dave": ["alice", "carol"]}
Make = Callable[..., RelayNodes]


@pytest.fixture
def make(tmp_path: Path, loopback_host: str) -> Iterator[Make]:
    made: list[RelayNodes] = []

    def nodes(near: dict[str, list[str]], via: str, **more: str) -> RelayNodes:
        made.append(RelayNodes(tmp_path, loopback_host, near, dict.fromkeys(ENDS.items(), via), more))
        return made[0]

    yield nodes
    for each in made:
        each.stop()
        for name in ADDRESSES:
            log = each.log(name)
            assert not log.exists() or "fault of this program" not in log.read_text()


@pytest.mark.timeout(180)
def test_two_ends_agree_on_a_key_through_a_third_and_messages_come_once_and_in_order(make: Make) -> None:
    nodes = make(LINE, '["bob"]')
    nodes.start(*LINE)
    for name, other in ENDS.items():
        nodes.wait_connected(name, other)
    here, there = nodes.peer("alice", "carol"), nodes.peer("carol", "alice")
    assert here["key"]["fingerprint"] == there["key"]["fingerprint"]
    assert (here["link"]["bearer"], here["link"]["path"]) == ("relay", ["bob"])
    assert here["key"]["rests_on"] == (
        "On X25519 alone: a relay hears the whole burst. "
        "Against a relay that changes frames: on the string, once it is compared."
    )
    assert here["key"]["secret_bits"] == 0.0
    Traffic(nodes, 15, pause=0, other=ENDS).finish(60)
    relay = nodes.client("bob").status()["relay"]
    assert relay["for"] == ["alice", "carol"]
    assert [link["ends"] for link in relay["links"]] == [["alice", "carol"]]
    assert relay["forwarded_bytes"]["alice"] > 1000
    at_bob, at_alice = nodes.client("bob").status(), nodes.client("alice").status()
    shown = "\n".join(status_lines(at_bob, 80))
    assert "relay  for alice, carol\n  links     alice and carol, idle for " in shown
    assert "; ".join(sorted(f"{route['to']} by {route['by']}" for route in relay["routes"])) == "carol by carol"
    assert "  routes    carol by carol, found " in shown
    assert b"bt_selfsecure_relay_links 1.0" in render(at_bob)
    assert b"bt_selfsecure_relay_routes 1.0" in render(at_bob)
    assert b'bt_selfsecure_relay_forwarded_bytes_total{peer="alice"}' in render(at_bob)
    assert any(line.startswith("  through   bob") for line in status_lines(at_alice, 80))
    assert at_alice["relay"] is None
    for name, other, words in (("alice", "carol", "Through others: carol."), ("bob", "", "Relays for alice, carol: 1")):
        found = others(HostSystem("", socket=nodes.folder / f"{name}.sock", through=[other] if other else []))
        assert (found.verdict, found.text[: len(words)]) == (Verdict.OK, words)
    assert [peer["name"] for peer in nodes.client("bob").peers()] == ["alice", "carol"]
    with pytest.raises(ApiError, match="port 11 is the relay's own"):
        nodes.client("alice").send("bob", b"x", port=11)


@pytest.mark.timeout(300)
@pytest.mark.long
def test_relays_and_ends_that_are_killed_while_messages_pass_lose_and_double_none(make: Make) -> None:
    nodes = make(LINE, '"auto"')
    nodes.start(*LINE)
    nodes.wait_connected("alice", "carol")
    key = nodes.peer("alice", "carol")["key"]["fingerprint"]
    traffic = Traffic(nodes, 25, other=ENDS)
    for name in ("bob", "carol", "bob"):
        time.sleep(0.5)
        nodes.kill(name)
        time.sleep(0.2)
        nodes.start(name)
    traffic.finish(200)
    assert nodes.peer("alice", "carol")["key"]["fingerprint"] == key


@pytest.mark.timeout(180)
def test_two_ways_authenticate_the_key_by_what_neither_relay_has_alone(make: Make) -> None:
    nodes = make(SQUARE, '[["bob"], ["dave"]]')
    nodes.start(*SQUARE)
    for name, other in ENDS.items():
        nodes.wait_connected(name, other)
    here, there = nodes.peer("alice", "carol"), nodes.peer("carol", "alice")
    assert here["key"]["fingerprint"] == there["key"]["fingerprint"]
    for end in (here, there):
        assert (end["link"]["path"], end["link"]["second_path"]) == (["bob"], ["dave"])
        assert end["key"]["authenticated"] is False
        assert end["trust"]["confirmed"] is None
        assert "those of both ways do not work together" in end["key"]["rests_on"]
    renewed = nodes.client("alice").establish("carol")
    assert renewed["established"]
    assert renewed["continuity"]
    wait_until(lambda: nodes.peer("carol", "alice")["key"]["fingerprint"] == renewed["fingerprint"])
    Traffic(nodes, 5, pause=0, other=ENDS).finish(60)


@pytest.mark.timeout(240)
@pytest.mark.long
def test_one_of_two_ways_carries_the_session_on_and_no_new_key(make: Make) -> None:
    nodes = make(SQUARE, '[["bob"], ["dave"]]')
    nodes.start(*SQUARE)
    for name, other in ENDS.items():
        nodes.wait_connected(name, other)
    nodes.kill("bob")
    Traffic(nodes, 3, other=ENDS).finish(120)
    wait_until(lambda: nodes.peer("alice", "carol")["link"]["path"] == ["dave"])
    assert nodes.peer("alice", "carol")["link"]["second_path"] == []
    found = others(HostSystem("", socket=nodes.folder / "alice.sock", through=["carol"]))
    assert (found.verdict, "and connected (one of its two ways" in found.text) == (Verdict.WARNING, True)
    outcome = nodes.client("alice").establish("carol")
    assert (outcome["established"], outcome["reason"]) == (False, ONE_WAY)


@pytest.mark.timeout(120)
def test_a_relay_that_does_not_forward_for_them_is_named_with_the_remedy(make: Make) -> None:
    nodes = make(LINE, '["bob"]')
    text = nodes.config("bob").read_text()
    nodes.config("bob").write_text(text.replace(f'"{ADDRESSES["carol"]}"]', '"02:00:00:00:00:09"]'))
    nodes.start(*LINE)
    nodes.wait_connected("alice", "bob")
    expected = "bob does not forward between these two: see its [relay] for"
    wait_until(lambda: nodes.peer("alice", "carol")["trouble"] == expected)
    assert nodes.client("bob").status()["relay"]["links"] == []
    found = others(HostSystem("", socket=nodes.folder / "alice.sock", through=["carol"]))
    assert found.verdict is Verdict.WARNING
    assert found.text == f"carol is reached through others, and not connected ({expected})."
    assert "of others not carried" in others(HostSystem("", socket=nodes.folder / "bob.sock")).text
