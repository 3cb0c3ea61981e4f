"""Eve live: a third machine that listens, forges, floods, and stands between two real nodes."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from lab_nodes import BASE, PEER, Nodes
from running_lab import RunningLab

pytestmark = [pytest.mark.lab, pytest.mark.long]


@pytest.fixture(scope="module")
def lab(lab_of: Callable[..., RunningLab]) -> RunningLab:
    """Eve's address lies between those of the others: alice dials her, and she dials bob."""
    lab = lab_of("alice", "eve", "bob")
    own = ", ".join(f'"{lab.address(name)}"' for name in ("alice", "bob"))
    lab.run("eve", f"mkdir -p /etc/bt-selfsecure; echo 'own = [{own}]' >/etc/bt-selfsecure/eve.toml").check()
    return lab


def begin(lab: RunningLab, establish: str = "le_advert") -> Nodes:
    """Nodes at alice and bob alone."""
    nodes = Nodes(lab)
    nodes.begin(establish, pairs=lambda one, other: "eve" not in (one, other))
    lab.run("eve", "kill $(cat /run/lab/node.pid)").check()
    return nodes


def attack(lab: RunningLab, *words: str, seconds: int) -> str:
    """What she says in the end."""
    command = f"bt-selfsecure eve attack {' '.join(words)} --live --seconds {seconds}"
    return lab.run("eve", f"{command} || test $? = 1", timeout=seconds + 240).check()


def test_a_device_that_is_not_listed_is_not_attacked(lab: RunningLab) -> None:
    refused = lab.run("eve", "bt-selfsecure eve attack flood 00:11:22:33:44:55 --live")
    assert refused.status == 2
    assert "is not listed as yours" in refused.err


def test_what_her_radio_hears_of_a_burst_is_kept_and_judged_without_s(lab: RunningLab) -> None:
    nodes = begin(lab)
    with ThreadPoolExecutor(1) as pool:
        kept = pool.submit(lab.run, "eve", "timeout 150 bt-selfsecure eve capture --output /tmp/kept", 300)
        nodes.wait_connected("alice", seconds=140)
        assert "packets kept in /tmp/kept" in kept.result().out
    report = lab.run("eve", "bt-selfsecure eve report /tmp/kept/*.pcapng", 240)
    assert report.status == 0
    heard = re.search(r"Eve heard (\d+) of \d+ packets and no response: she does not know S", report.out)
    assert heard is not None, report.out
    assert int(heard[1]) > 50


def test_packets_forged_in_alices_name_are_noticed(lab: RunningLab) -> None:
    nodes = begin(lab)
    nodes.wait_connected("alice", "bob", seconds=240)
    lab.set_loss(eve=0.3)  # she must miss some to forge
    with ThreadPoolExecutor(1) as pool:
        said = pool.submit(attack, lab, "steering", lab.address("alice"), seconds=150)
        for _ in range(4):
            lab.run("alice", "sleep 15; bt-selfsecure establish bob", 240)
        told = said.result()
    lab.set_loss()
    assert re.search(r"\d+ missed and forged: \[\d+", told), told
    assert "active attack" in nodes.log("alice") + nodes.log("bob")


def test_a_flood_leaves_a_session_alone(lab: RunningLab) -> None:
    nodes = begin(lab, "rfcomm")
    nodes.wait_connected("alice", "bob", seconds=240)
    told = attack(lab, "flood", lab.address("bob"), seconds=60)
    assert "requests" in told
    lab.run("alice", "echo still here | bt-selfsecure send bob --port 3").check()
    got = lab.run("bob", "timeout 100 bt-selfsecure receive --port 3 --count 1 --follow --raw").check()
    assert got == "still here\n"


def test_in_the_middle_she_has_the_key_of_each_and_their_strings_differ(lab: RunningLab) -> None:
    nodes = Nodes(lab)
    nodes.end()
    for name, other in (("alice", "bob"), ("bob", "alice")):
        text = BASE.format(name=name, establish="rfcomm", session="rfcomm", more_establish="", more_session="",
                           discover="false", accept="configured")  # fmt: skip
        text += "[rfcomm]\nchannel = 3\n" + PEER.format(name=other, address=lab.address("eve"))
        lab.run(name, f"rm -rf /var/lib/bt-selfsecure/*; cat >/mnt/node.toml <<'END'\n{text}\nEND").check()
        nodes.start(name)
    for name in ("alice", "bob"):  # a link that is refused while a program asks by SDP can crash this kernel
        lab.run(name, "until grep -q 'hci0 works' /run/lab/node.log; do sleep 1; done", 200).check()
    told = attack(lab, "middle", lab.address("alice"), lab.address("bob"), "--bearer rfcomm#3", seconds=300)
    keys = dict(re.findall(r"with (\S+) she shares the key (\S+)", told))
    assert len(set(keys.values())) == 2, told
    for name in ("alice", "bob"):
        assert f"key {keys[lab.address(name)]}" in lab.run(name, "cat /run/lab/node.log").out
