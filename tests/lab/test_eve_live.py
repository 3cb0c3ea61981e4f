"""Eve live: a third machine that listens, forges, floods, and stands between two real nodes."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from lab_nodes import BASE, PEER, Nodes
from running_lab import RunningLab

pytestmark = [pytest.mark.lab, pytest.mark.long]

PATIENCE = 400
"""Seconds: on a computer that does other things too, an emulated Python takes a minute to begin."""


class Eve:
    """A command of hers that runs on her machine while the test goes on."""

    def __init__(self, lab: RunningLab, words: str, until: str) -> None:
        self._lab = lab
        lab.run(
            "eve",
            "rm -rf /tmp/kept\n"
            f"setsid bt-selfsecure eve {words} >/tmp/eve.log 2>&1 </dev/null &\necho $! >/tmp/eve.pid",
        ).check()
        self.wait(until)

    def wait(self, until: str) -> str:
        """What she has said, once a shell condition holds or she has ended."""
        script = f"until {until} || ! kill -0 $(cat /tmp/eve.pid); do sleep 1; done 2>/dev/null; cat /tmp/eve.log"
        return self._lab.run("eve", script, PATIENCE).out

    def end(self) -> str:
        self._lab.run("eve", "kill $(cat /tmp/eve.pid)")
        return self.wait("false")


@pytest.fixture(scope="module")
def lab(lab_of: Callable[..., RunningLab]) -> RunningLab:
    """Eve's address lies between those of the others: alice dials her, and she dials bob."""
    lab = lab_of("alice", "eve", "bob")
    own = ", ".join(f'"{lab.address(name)}"' for name in ("alice", "bob"))
    lab.run("eve", f"mkdir -p /etc/bt-selfsecure; echo 'own = [{own}]' >/etc/bt-selfsecure/eve.toml").check()
    return lab


def begin(lab: RunningLab, establish: str, attack: Callable[[], Eve] | None = None) -> Nodes:
    """Nodes at alice and bob alone; with an attack from the middle each takes Eve for the other, and whoever is dialled
    is there before."""
    nodes = Nodes(lab)
    nodes.end()
    for name, other in (("bob", "alice"), ("alice", "bob")):
        text = BASE.format(name=name, establish=establish, session="rfcomm", more_establish="", more_session="",
                           discover="false", accept="configured")  # fmt: skip
        text += PEER.format(name=other, address=lab.address("eve" if attack else other))
        lab.run(name, f"rm -rf /var/lib/bt-selfsecure/*; cat >/mnt/node.toml <<'END'\n{text}\nEND").check()
        lab.run(name, ": >/run/lab/node.log").check()
        nodes.start(name)
        lab.run(name, "until grep -q 'hci0 works' /run/lab/node.log; do sleep 1; done", PATIENCE).check()
        if attack and name == "bob":
            attack()
    return nodes


def connected(nodes: Nodes) -> None:
    for name, of in (("alice", "bob"), ("bob", "alice")):
        nodes.wait_for(name, of, lambda peer: peer["state"] == "connected", PATIENCE)


def test_a_device_that_is_not_listed_is_not_attacked(lab: RunningLab) -> None:
    refused = lab.run("eve", "bt-selfsecure eve attack flood 00:11:22:33:44:55 --live", PATIENCE)
    assert refused.status == 2
    assert "is not listed as yours" in refused.err


def test_in_the_middle_she_has_the_key_of_each_and_their_strings_differ(lab: RunningLab) -> None:
    words = f"attack middle {lab.address('alice')} {lab.address('bob')} --live --seconds {PATIENCE}"
    eves = list[Eve]()

    def attack() -> Eve:
        eves.append(Eve(lab, words, "grep -q waiting /tmp/eve.log"))
        return eves[0]

    begin(lab, "rfcomm", attack)
    told = eves[0].wait("grep -c shares /tmp/eve.log | grep -q 2")
    keys = dict(re.findall(r"with (\S+) she shares the key (\S+)", told))
    assert len(set(keys.values())) == 2, told
    for name in ("alice", "bob"):
        assert f"key {keys[lab.address(name)]}" in lab.run(name, "cat /run/lab/node.log").out


def test_a_burst_is_heard_kept_and_judged_without_s_and_forged_packets_in_it_are_noticed(lab: RunningLab) -> None:
    """Onboard radios hear no connection, so she learns no S; that she forged, both ends may hear."""
    capture = Eve(lab, "capture --output /tmp/kept", "test -d /tmp/kept")
    nodes = begin(lab, "le_advert")
    connected(nodes)
    assert "packets kept in /tmp/kept" in capture.end()
    report = lab.run("eve", "bt-selfsecure eve report /tmp/kept/*.pcapng", PATIENCE)
    heard = re.search(r"Eve heard (\d+) of (\d+) packets and no response", report.out)
    assert heard is not None, report.out + report.err
    assert int(heard[1]) > 50
    lab.set_loss(eve=0.3)  # she must miss some to forge
    attack = Eve(lab, f"attack steering {lab.address('alice')} --live --seconds 900", "grep -q listening /tmp/eve.log")
    lab.run("alice", "sleep 20; timeout 200 bt-selfsecure establish bob", PATIENCE)
    said = attack.end()
    assert "active attack" in nodes.log("alice") + nodes.log("bob"), said
    lab.set_loss()


def test_a_flood_leaves_a_session_alone(lab: RunningLab) -> None:
    nodes = begin(lab, "rfcomm")
    connected(nodes)
    attack = Eve(lab, f"attack flood {lab.address('bob')} --live --seconds 60", "true")
    told = attack.wait("grep -q 'requests sent' /tmp/eve.log")
    assert re.search(r"[1-9]\d* requests sent", told), told
    lab.run("alice", "echo still here | bt-selfsecure send bob --port 3", PATIENCE).check()
    got = lab.run("bob", "timeout 200 bt-selfsecure receive --port 3 --count 1 --follow --raw", PATIENCE).check()
    assert got == "still here\n"
