"""docs/lab-sheet.md, part 5: what it lets a class type on three machines is typed here, and comes out as it says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from running_lab import RunningLab

pytestmark = [pytest.mark.lab, pytest.mark.long]

SHEET = (Path(__file__).parents[2] / "docs/lab-sheet.md").read_text(encoding="utf-8")
LIVE, _, ANSWERS = SHEET.partition("\n## 5. ")[2].partition("\n## Answers\n")
CODE = [
    *(line.partition("#")[0].strip(" &") for line in re.findall(r"^    (.+)", LIVE, re.MULTILINE)),
    *(" ".join(span.split()) for span in re.findall(r"`([^`]+)`", LIVE)),
]
NODE = textwrap.dedent(LIVE[LIVE.index("    [node]") :].partition("    bt-selfsecure node")[0])
OWN_NODE = "/etc/bt-selfsecure/node.toml"
PATIENCE = 400
"""Seconds of silence: emulated machines are slow."""
WORKS = "grep -q 'hci0 works' /tmp/node.log"


def typed(beginning: str) -> str:
    """Return the command of the sheet that is so, or else the only one that begins so."""
    found = {beginning} & {*CODE} or {code for code in CODE if code.startswith(beginning)}
    assert len(found) == 1, (beginning, found)
    return found.pop()


def begin(lab: RunningLab, machine: str, command: str, log: str, until: str = "true") -> None:
    """Type a command that goes on, and wait until a shell condition holds."""
    lab.run(
        machine,
        f"setsid env --default-signal=INT {command} >/tmp/{log}.log 2>&1 </dev/null &\necho $! >/tmp/{log}.pid\n"
        f"until {until} || ! kill -0 $!; do sleep 1; done",
        PATIENCE,
    ).check()


def end(lab: RunningLab, machine: str, log: str) -> str:
    """Type Ctrl-C, and return what the command has said."""
    script = (
        f"P=$(cat /tmp/{log}.pid); kill -INT $P; while kill -0 $P; do sleep 1; done 2>/dev/null; cat /tmp/{log}.log"
    )
    return lab.run(machine, script, PATIENCE).out


def status(lab: RunningLab, machine: str) -> str:
    return " ".join(lab.run(machine, typed("bt-selfsecure status"), PATIENCE).check().split())


def wait_for(lab: RunningLab, machine: str, pattern: str) -> re.Match[str]:
    """Wait until the status there says so."""
    until = time.monotonic() + PATIENCE
    while not (found := re.search(pattern, status(lab, machine))):
        assert time.monotonic() < until, (machine, pattern, status(lab, machine))
        time.sleep(2)
    return found


def key_of(lab: RunningLab, machine: str) -> str:
    return str(wait_for(lab, machine, r" key (\S{14})")[1])


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLab]:
    folder = tmp_path_factory.mktemp("class")
    words = shlex.split(typed("./pi_setup/lab up"))[2:]
    first_option = words.index("--tap")
    lab = RunningLab(folder / "lab", (*words[:first_option],), (*words[first_option:-1], str(folder / words[-1])))
    yield lab
    lab.end()


def of_lab(lab: RunningLab, verb: str) -> str:
    """Run what the sheet has of `./pi_setup/lab` and this verb."""
    words = [*shlex.split(typed(f"./pi_setup/lab {verb}"))[1:], "--lab", str(lab.shared["alice"].parent)]
    done = subprocess.run(
        [sys.executable, "-m", "bt_selfsecure.cli.main", "lab", *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_step_of_the_live_part_comes_out_as_the_sheet_says(lab: RunningLab) -> None:
    addresses = {name: lab.address(name) for name in lab.names}
    said = of_lab(lab, "status")
    assert all(address in said and address in LIVE for address in addresses.values())
    ends = {"alice": "bob", "bob": "alice"}

    # Listening
    for name in lab.names:
        lab.run(name, typed("mkdir")).check()
    files = {
        name: NODE.replace('"alice"', '"me"').replace('"bob"', f'"{other}"').replace('"me"', f'"{name}"')
        .replace(addresses["bob"], addresses[other])
        for name, other in ends.items()
    }  # fmt: skip
    assert files["alice"] == NODE
    for name in ends:
        lab.run(name, f"cat >{OWN_NODE} <<'END'\n{files[name]}\nEND").check()
        begin(lab, name, typed("bt-selfsecure node"), "node", WORKS)
    wait_for(lab, "alice", "state connected.* key \\S{14}")
    begin(lab, "eve", typed("bt-selfsecure eve report"), "report")
    begin(lab, "eve", typed("bt-selfsecure eve capture"), "capture", "test -d /tmp/eve")
    time.sleep(5)
    establish = typed("bt-selfsecure establish bob")
    assert "A new key" in lab.run("alice", establish, PATIENCE).check()
    assert "packets kept in /tmp/eve" in end(lab, "eve", "capture")
    report = end(lab, "eve", "report")
    assert re.search(r"Eve heard \d+ of [\d,]+ packets and no response: she does not know S", report), report  # Q18
    assert "An onboard radio hears advertisements" in ANSWERS

    # Steering
    lab.run("eve", typed("echo 'own")).check()
    begin(lab, "eve", typed("bt-selfsecure eve attack steering"), "steering", "grep -q listening /tmp/steering.log")
    lab.run("alice", establish, PATIENCE)
    said = end(lab, "eve", "steering")
    assert "an active attack" in lab.run("bob", "cat /tmp/node.log").check(), said
    wait_for(lab, "bob", "state connected")

    # In the middle
    for name, other in ends.items():
        end(lab, name, "node")
        text = files[name].replace(addresses[other], addresses["eve"])
        assert "[establish]\n" in text
        text = text.replace("[establish]\n", "[establish]\n" + typed("bearer =") + "\n")
        lab.run(name, f"cat >{OWN_NODE} <<'END'\n{text}\nEND").check()
    begin(lab, "bob", typed("bt-selfsecure node"), "node", WORKS)
    begin(lab, "eve", typed("bt-selfsecure eve attack middle"), "middle", "grep -q waiting /tmp/middle.log")
    begin(lab, "alice", typed("bt-selfsecure node"), "node", WORKS)
    shared = "grep -c shares /tmp/middle.log | grep -q 2"
    eves = lab.run("eve", f"until {shared}; do sleep 1; done; cat /tmp/middle.log", PATIENCE).check()
    keys = dict(re.findall(r"with (\S+) she shares the key (\S+)", eves))
    assert {addresses[name]: key_of(lab, name) for name in ends} == keys  # Q19
    assert len(set(keys.values())) == 2

    # A flood
    for name in ends:
        end(lab, name, "node")
        lab.run(name, f"cat >{OWN_NODE} <<'END'\n{files[name]}\nEND").check()
        begin(lab, name, typed("bt-selfsecure node"), "node", WORKS)
    wait_for(lab, "bob", "state connected")
    key = key_of(lab, "bob")
    begin(lab, "eve", typed("bt-selfsecure eve attack flood"), "flood")
    time.sleep(30)
    assert "state connected" in status(lab, "bob")
    flooded = end(lab, "eve", "flood")
    assert re.search(r"[1-9]\d* requests sent", flooded), flooded
    assert key_of(lab, "bob") == key

    # Jamming, and the end
    of_lab(lab, "air jammed")
    assert lab.status()["air"].startswith("jammed:")
    of_lab(lab, "down")
    assert lab.process.wait(60) == 0
