"""Eve live: a third machine that listens, forges, floods, and stands between two real nodes."""

from __future__ import annotations

import base64
import json
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from lab_nodes import BASE, PEER, Nodes
from running_lab import RunningLab

from bt_selfsecure.eve.haoxiao.attacks.guessing import BruteForce
from bt_selfsecure.eve.haoxiao.attacks.theft import StolenRecord
from bt_selfsecure.eve.haoxiao.establishments import Eavesdropper
from bt_selfsecure.eve.haoxiao.format import HAOXIAO
from bt_selfsecure.eve.haoxiao.report import CaptureReport, EstablishmentVerdict
from bt_selfsecure.eve.haoxiao.verdict import Judge
from bt_selfsecure.eve.reading import Reader
from bt_selfsecure.eve.sources import open_source

pytestmark = [pytest.mark.lab, pytest.mark.long]

EARS = {"ear1": "--sniffer", "ear2": "--tap"}
BROKEN_NODE = Path(__file__).with_name("broken_node.py")
PATIENCE = 400
"""Seconds: on a computer that does other things too, an emulated Python takes a minute to begin."""


class Eve:
    """A command of hers that runs on a machine while the test goes on."""

    def __init__(self, lab: RunningLab, words: str, until: str, machine: str = "eve") -> None:
        self._lab, self._machine = lab, machine
        lab.run(
            machine,
            "rm -rf /tmp/kept\n"
            f"setsid bt-selfsecure eve {words} >/tmp/eve.log 2>&1 </dev/null &\necho $! >/tmp/eve.pid",
        ).check()
        self.wait(until)

    def wait(self, until: str) -> str:
        """What she has said, once a shell condition holds or she has ended."""
        script = f"until {until} || ! kill -0 $(cat /tmp/eve.pid); do sleep 1; done 2>/dev/null; cat /tmp/eve.log"
        return self._lab.run(self._machine, script, PATIENCE).out

    def end(self) -> str:
        self._lab.run(self._machine, "kill $(cat /tmp/eve.pid)")
        return self.wait("false")


@pytest.fixture(scope="module")
def ears(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """What two sniffers kept that have no machine."""
    folder = tmp_path_factory.mktemp("ears")
    return [folder / f"{name}.pcapng" for name in EARS]


@pytest.fixture(scope="module")
def lab(lab_of: Callable[..., RunningLab], ears: list[Path]) -> RunningLab:
    """Eve's address lies between those of the others: alice dials her, and she dials bob."""
    taps = [word for (name, option), file in zip(EARS.items(), ears, strict=True) for word in (option, name, str(file))]
    lab = lab_of("alice", "eve", "bob", options=tuple(taps))
    own = ", ".join(f'"{lab.address(name)}"' for name in ("alice", "bob"))
    lab.run("eve", f"mkdir -p /etc/bt-selfsecure; echo 'own = [{own}]' >/etc/bt-selfsecure/eve.toml").check()
    return lab


@pytest.fixture(autouse=True)
def clean_air(lab: RunningLab) -> None:
    """Until a test says otherwise."""
    lab.set_loss()


def begin(
    lab: RunningLab,
    establish: str,
    attack: Callable[[], Eve] | None = None,
    more_establish: str = "",
    accept: str = "configured",
    session: str = "rfcomm",
    program: str = "bt-selfsecure",
) -> Nodes:
    """Nodes at alice (this program) and bob alone; with an attack from the middle each takes Eve for the other, and
    whoever is dialled is there before."""
    nodes = Nodes(lab)
    nodes.end()
    for name, other in (("bob", "alice"), ("alice", "bob")):
        text = BASE.format(name=name, adapter="hci0", establish=establish, session=session, more_session="",
                           more_establish=more_establish, discover="false", accept=accept)  # fmt: skip
        text += PEER.format(name=other, address=lab.address("eve" if attack else other))
        lab.run(name, f"rm -rf /var/lib/bt-selfsecure/*; cat >/mnt/node.toml <<'END'\n{text}\nEND").check()
        lab.run(name, ": >/run/lab/node.log").check()
        nodes.start(name, program if name == "alice" else "bt-selfsecure")
        lab.run(name, "until grep -q 'hci0 works' /run/lab/node.log; do sleep 1; done", PATIENCE).check()
        if attack and name == "bob":
            attack()
    return nodes


def connected(nodes: Nodes) -> None:
    for name, of in (("alice", "bob"), ("bob", "alice")):
        nodes.wait_for(name, of, lambda peer: peer["state"] == "connected", PATIENCE)


def report(*captures: Path, work: int = 0, stolen: Path | None = None) -> CaptureReport:
    judge = Judge(work, stolen=StolenRecord.read(stolen) if stolen else ())
    for capture in captures:
        with open_source(str(capture)) as source:
            judge.hear_all(source)
    return judge.report()


def verdict(*captures: Path, session: str = "", work: int = 0) -> EstablishmentVerdict:
    """Over the last establishment in them, of those whose request nobody heard or of this session."""
    return [found for found in report(*captures, work=work).verdicts if found.session == session][-1]


def held(verdict: EstablishmentVerdict) -> set[int]:
    """Packets of the burst that she has, by Seq."""
    return {seq for seq, (_, has) in enumerate(verdict.fates) if has}


def fetch(lab: RunningLab, machine: str, pattern: str, to: Path) -> Path:
    to.write_bytes(base64.b64decode(lab.run(machine, f"cat {pattern} | base64").check()))
    return to


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


def test_two_ears_that_put_together_what_they_heard_lack_less_than_each(lab: RunningLab, ears: list[Path]) -> None:
    """Passive and colluding. An advertisement is on the air several times, so single losses are high."""
    lab.set_loss(ear1=0.6, ear2=0.6)
    connected(begin(lab, "le_advert"))
    alone, together = [verdict(ear).heard_by_eve for ear in ears], verdict(*ears)
    assert together.heard_by_eve > max(alone)
    assert together.heard_by_bob is None  # his response went over a link that the controllers encrypt


def test_what_a_jammer_misses_nobody_hears(lab: RunningLab, ears: list[Path], tmp_path: Path) -> None:
    """She misses as much as before, and lacks nothing of what Bob has: not of what anybody heard."""
    capture = Eve(lab, "capture --output /tmp/kept", "test -d /tmp/kept")
    losses = "alice=0,bob=0.1,eve=0.5,ear1=0,ear2=0"
    lab.do("air", model=f"jammed:bernoulli:{losses}")
    nodes = begin(lab, "le_advert")
    connected(nodes)
    capture.end()
    hers, sharpest = verdict(fetch(lab, "eve", "/tmp/kept/*.pcapng", tmp_path / "eve.pcapng")), verdict(ears[0])
    assert hers.session == sharpest.session
    assert held(sharpest) <= held(hers)
    key = nodes.peer("bob", "alice")["key"]
    assert key["received"] <= hers.heard_by_eve


def test_a_spy_in_bobs_computer_breaks_the_key_and_what_he_kept_is_no_use_played_again(
    lab: RunningLab, tmp_path: Path
) -> None:
    """Whoever hears all that Bob hears has his key, where X25519 is not mixed in: passive at her best. With a stolen
    journal she reads from there on, and back to its oldest checkpoint. Played to Bob again, and back to alice, what she
    kept brings no key and no message, and harms no session."""
    spy = Eve(lab, "capture monitor:hci0 --output /tmp/kept", "test -d /tmp/kept", "bob")
    nodes = begin(lab, "le_advert", more_establish="exchange_shares = false", accept="anyone")
    connected(nodes)
    lab.run("alice", "echo before | bt-selfsecure send bob --port 3 --wait", PATIENCE).check()
    lab.run("bob", "cp /var/lib/bt-selfsecure/journal.db* /tmp/").check()
    lab.run("alice", "echo after | bt-selfsecure send bob --port 3 --wait", PATIENCE).check()
    spy.end()
    report = lab.run("bob", "bt-selfsecure eve report /tmp/kept/*.pcapng --json --stolen /tmp/journal.db", PATIENCE)
    found = json.loads(report.out)
    key = nodes.peer("bob", "alice")["key"]["fingerprint"]
    assert (report.status, found["verdicts"][-1]["fingerprint"]) == (1, key)
    stolen = b"".join(bytes.fromhex(text) for read in found["stolen"] for text in read["messages"].values())
    assert b"after" in stolen
    capture = fetch(lab, "bob", "/tmp/kept/*.pcapng", tmp_path / "spy.pcapng")
    packed = base64.b64encode(capture.read_bytes()).decode()
    lab.run("eve", f"base64 -d >/tmp/spy.pcapng <<'END'\n{packed}\nEND").check()
    for name in ("bob", "alice"):
        words = f"attack replay {lab.address(name)} --live --capture /tmp/spy.pcapng --seconds 30"
        played = Eve(lab, words, "grep -q answered /tmp/eve.log").wait("grep -q answered /tmp/eve.log")
        assert re.search(r"[1-9]\d* frames played", played), played
        assert not re.search(r"answered .*(end|data_ack)", played), played
    lab.run("alice", "echo later | bt-selfsecure send bob --port 3 --wait", PATIENCE).check()
    got = lab.run("bob", "timeout 200 bt-selfsecure receive --port 3 --count 3 --follow --raw", PATIENCE).check()
    assert got.split() == ["before", "after", "later"]
    assert nodes.peer("bob", "alice")["key"]["fingerprint"] == key


def test_on_a_link_that_nobody_encrypts_missed_packets_are_repaired_or_guessed_where_the_generator_is_broken(
    lab: RunningLab, ears: list[Path]
) -> None:
    """IPSP: controllers encrypt no link of two that never paired. In the middle of the burst she is deaf for a moment:
    what she missed her sniffer hands on damaged; and each message is one of two."""
    before = {found.session for found in report(ears[0]).verdicts}
    nodes = begin(lab, "le_advert", session="ipsp", more_establish="exchange_shares = false",
                  program=f"python {BROKEN_NODE}")  # fmt: skip
    until = time.monotonic() + PATIENCE
    while not (new := [found for found in report(ears[0]).verdicts if found.session not in before | {""}]) or (
        new[0].heard_by_eve < 20
    ):
        assert time.monotonic() < until, nodes.log("alice")
        time.sleep(0.1)
    lab.set_loss(ear1=1.0)
    time.sleep(0.15)
    lab.set_loss()
    connected(nodes)
    key = nodes.peer("bob", "alice")["key"]["fingerprint"]
    session = new[0].session
    assert verdict(ears[1], session=session).fingerprint == key  # passive: whoever was not deaf has it at once
    alone = verdict(ears[0], session=session)
    assert alone.missed_given_bob
    assert not alone.has_key
    repaired = verdict(ears[0], session=session, work=10_000_000)
    assert (repaired.fingerprint, repaired.repaired) == (key, alone.missed_given_bob)
    eve, reader = Eavesdropper(), Reader(HAOXIAO)
    with open_source(str(ears[0])) as source:
        for datagram in reader.read_all(source):
            eve.hear(datagram.data)
    possible = [number.to_bytes(16) for number in range(2)]
    (knowledge,) = (
        each for each in eve.establishments() if each.request and each.request.rand.hex().startswith(session)
    )
    material = BruteForce(knowledge, possible).initial_key()
    assert material is not None
    assert material.fingerprint == key
    sound = [secrets.token_bytes(16) for _ in range(2)]
    assert BruteForce(knowledge, sound).initial_key() is None  # as it is where the generator is sound


def test_a_disk_stolen_long_ago_opens_nothing_after_its_peer_was_restored_from_a_backup_as_old(
    lab: RunningLab, ears: list[Path], tmp_path: Path
) -> None:
    """Eve was away in between, so the keys that she stole had become worthless; and the end that was put back to them
    takes a new one."""
    nodes = begin(lab, "le_advert", session="ipsp")
    connected(nodes)
    stolen = nodes.peer("bob", "alice")["key"]["fingerprint"]
    send = "echo {} | timeout 200 bt-selfsecure send bob --port 3 --wait"
    lab.run("alice", send.format("before"), PATIENCE).check()
    lab.run("bob", "cp /var/lib/bt-selfsecure/journal.db* /tmp/").check()
    for file in lab.run("bob", "cd /tmp; ls journal.db*").check().split():
        fetch(lab, "bob", f"/tmp/{file}", tmp_path / file)
    lab.run("alice", "bt-selfsecure backup /mnt/old.backup --config /mnt/node.toml", PATIENCE).check()
    lab.set_loss(ear2=1.0)
    lab.run("alice", send.format("unheard"), PATIENCE).check()
    lab.set_loss()
    lab.run("alice", send.format("safe"), PATIENCE).check()
    nodes.end()
    lab.run("alice", "bt-selfsecure restore /mnt/old.backup --config /mnt/node.toml", PATIENCE).check()
    for name in ("bob", "alice"):
        nodes.start(name)
    connected(nodes)
    lab.run("alice", send.format("after"), PATIENCE).check()
    read = b" ".join(report(ears[1], stolen=tmp_path / "journal.db").stolen_read)
    assert b"before" in read
    assert not any(message in read for message in (b"unheard", b"safe", b"after"))
    assert nodes.peer("bob", "alice")["key"]["fingerprint"] != stolen


def test_a_flood_leaves_a_session_alone(lab: RunningLab) -> None:
    nodes = begin(lab, "rfcomm")
    connected(nodes)
    attack = Eve(lab, f"attack flood {lab.address('bob')} --live --seconds 60", "true")
    told = attack.wait("grep -q 'requests sent' /tmp/eve.log")
    assert re.search(r"[1-9]\d* requests sent", told), told
    lab.run("alice", "echo still here | bt-selfsecure send bob --port 3", PATIENCE).check()
    got = lab.run("bob", "timeout 200 bt-selfsecure receive --port 3 --count 1 --follow --raw", PATIENCE).check()
    assert got == "still here\n"
