"""`bt-selfsecure doctor` on whatever machine this is: whole, readable, and right about its exit status."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bt_selfsecure.cli import doctor
from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.doctor.checks import CHECKS
from bt_selfsecure.node.doctor.findings import Finding, Verdict
from bt_selfsecure.node.doctor.host_system import HostSystem
from bt_selfsecure.node.doctor.report import Check, Result
from bt_selfsecure.node.two_nodes import TwoNodes

NO_ADAPTER = ("--adapter", "hci99")


def run(*words: str) -> int:
    parser = argparse.ArgumentParser(prog="bt-selfsecure")
    doctor.add_parser(parser.add_subparsers(required=True))
    args = parser.parse_args(["doctor", *words])
    assert args.run is doctor.run
    return doctor.run(args)


def test_a_machine_without_the_adapter_fails_with_a_line_for_each_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*NO_ADAPTER) == 1
    captured = capsys.readouterr()
    assert captured.err == ""
    lines = captured.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("hci99 on Linux ")
    for check in CHECKS[:20]:
        assert sum(line[10:].startswith(f"{check.name:<18}") for line in lines) == 1
    assert "There is no hci99" in captured.out
    assert lines[-1].startswith("20 checks: ")
    assert "\x1b" not in captured.out


def test_json_has_the_same_verdicts_and_their_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*NO_ADAPTER, "--peer", "aa-bb-cc-dd-ee-ff", "--json") == 1
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (answer["adapter"], answer["peer"]) == ("hci99", "AA:BB:CC:DD:EE:FF")
    assert [check["number"] for check in answer["checks"]] == list(range(1, 21))
    for verdict, count in answer["counts"].items():
        assert count == sum(check["verdict"] == verdict for check in answer["checks"])
    (adapter,) = (check for check in answer["checks"] if check["name"] == "Adapter")
    assert adapter["verdict"] == "failure"
    assert adapter["remedy"]


@pytest.mark.parametrize(
    ("text", "adapter", "bearers"),
    [
        ('[node]\nadapter = "hci98"\n[session]\nbearer = "l2cap#4097"', "hci98", ("le_advert", "l2cap")),
        ('[establish]\nbearer = "ipsp"', "hci0", ("ipsp", "rfcomm")),
        ("[node]\nadapter = 7", "hci0", ("le_advert", "rfcomm")),
    ],
    ids=["another adapter", "another bearer", "a wrong file"],
)
def test_the_doctor_looks_at_what_the_node_is_configured_for(
    text: str, adapter: str, bearers: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[HostSystem] = []
    monkeypatch.setattr(doctor, "examine", lambda machine, checks: seen.append(machine) or [])
    (tmp_path / "node.toml").write_text(text)
    assert run("--config", str(tmp_path / "node.toml")) == 0
    assert (seen[0].adapter, seen[0].bearers) == (adapter, bearers)
    assert run("--config", str(tmp_path / "node.toml"), *NO_ADAPTER) == 0
    assert seen[1].adapter == "hci99", "what is said at the command line goes before"
    with pytest.raises(UsageError, match="there is no"):
        run("--config", str(tmp_path / "none.toml"))


def test_an_adapter_may_be_named_by_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    here = {"hci0": "B8:27:EB:00:00:0A", "hci2": "B8:27:EB:00:00:0B"}
    monkeypatch.setattr("bt_selfsecure.cli.doctor.adapter_addresses", lambda: here)
    assert doctor._adapter("b8:27:eb:00:00:0b") == doctor._adapter("B8-27-EB-00-00-0B") == "hci2"
    assert doctor._adapter("b8-27-eb-00-00-0c") == "B8:27:EB:00:00:0C"


def test_an_address_that_no_adapter_has_is_a_failure_among_the_others(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "node.toml").write_text('[node]\nadapter = "b8-27-eb-00-00-0c"')
    assert run("--config", str(tmp_path / "node.toml"), "--json") == 1
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert answer["adapter"] == "B8:27:EB:00:00:0C"
    checks = {check["name"]: check for check in answer["checks"]}
    assert len(checks) == 20
    assert checks["Adapter"]["verdict"] == "failure"
    assert checks["Adapter"]["finding"].startswith("No adapter has the address B8:27:EB:00:00:0C")
    assert checks["Advertising"]["verdict"] == "not seen"
    assert "no adapter has the address" in checks["Radio features"]["finding"]
    assert "fsync in" in checks["Disk"]["finding"]


def test_of_a_node_on_udp_alone_no_radio_is_looked_at_and_its_port_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, loopback_host: str
) -> None:
    nodes = TwoNodes(tmp_path, 0.1, loopback_host, (5710, 5711))
    words = ("--config", str(nodes.config("alice")))
    assert run(*words) == 0
    said = capsys.readouterr().out
    assert said.startswith("A node without a radio on Linux ")
    assert "no check of a radio is made" in said
    assert [line[10:28].strip() for line in said.splitlines() if line[:1].isupper() and line[28:29].strip()][2:] == [
        "Clock",
        "Disk",
        "UDP",
    ]
    assert f"{loopback_host}:5710 is free to listen on; there is a way to 1 peer." in " ".join(said.split())
    assert run(*words, *NO_ADAPTER, "--json") == 1
    assert len(json.loads(capsys.readouterr().out)["checks"]) == 21, "what is said at the command line goes before"


@pytest.mark.parametrize(("by_the_node", "status"), [(True, 0), (False, 1)])
def test_a_port_of_udp_that_another_program_has_is_a_failure_and_the_running_nodes_own_is_none(
    by_the_node: bool, status: int, capsys: pytest.CaptureFixture[str], tmp_path: Path, loopback_host: str
) -> None:
    nodes = TwoNodes(tmp_path, 0.1, loopback_host, (5712, 5713))
    with contextlib.ExitStack() as stack:
        if by_the_node:
            stack.callback(nodes.stop)
            nodes.start("alice")
        else:
            other = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            other.bind((loopback_host, 5712))
        assert run("--config", str(nodes.config("alice")), "--json") == status
    (check,) = (one for one in json.loads(capsys.readouterr().out)["checks"] if one["name"] == "UDP")
    if by_the_node:
        assert "5712 is what the running node listens on; there is a way to 1 peer." in check["finding"]
    else:
        assert "Can't listen on UDP" in check["finding"]
        assert check["remedy"] == "Take another in [udp] listen."


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('listen = "192.0.2.7:5700"', "this computer has no such address"),
        ('listen = "127.0.0.1:57"', "ports below 1024 are root's"),
        ('udp = "192.0.2.7:5700"', "listens on 127.0.0.1 reaches this computer alone"),
    ],
)
def test_a_place_of_udp_that_cannot_be_used_is_a_failure_with_its_remedy(text: str, words: str, tmp_path: Path) -> None:
    nodes = TwoNodes(tmp_path, 0.1, "127.0.0.1", (5712, 5713))
    file = nodes.config("alice")
    key = text.split(" ")[0]
    file.write_text(re.sub(rf"(?m)^{key} = .*$", text, file.read_text()))
    nobody = {"user": 65534} if os.geteuid() == 0 and ':57"' in text else {}
    if nobody:
        for path in (tmp_path, *tmp_path.parents[:3]):
            path.chmod(path.stat().st_mode | 0o755)
    done = subprocess.run(
        nodes.command("doctor", "--config", str(file), "--json"), capture_output=True, text=True, timeout=60, **nobody
    )
    assert done.returncode == 1, done.stderr
    check = json.loads(done.stdout)["checks"][-1]
    assert (check["name"], check["verdict"]) == ("UDP", "failure")
    assert words in f"{check['finding']} {check['remedy']}"


@pytest.mark.parametrize("words", [["--adapter", "usb0"], ["--adapter", "hci"], ["--peer", "bob"], ["--peer", "AA:BB"]])
def test_words_that_name_no_adapter_or_address_are_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match="write it as in"):
        run(*words)
    assert capsys.readouterr().out == ""


def result(verdict: Verdict, text: str = "What was seen.", remedy: str = "") -> Result:
    return Result(Check(4, "Adapter", lambda machine: Finding(verdict, text)), Finding(verdict, text, remedy))


def test_a_long_finding_and_its_remedy_are_wrapped_in_their_column() -> None:
    long = result(Verdict.FAILURE, "word " * 40 + "/a/path/" + "of-many-letters/" * 8, "do this " * 20)
    lines = doctor.lines("Adapter", long.finding, coloured=False).splitlines()
    assert lines[0].startswith("FAILURE   Adapter           word word")
    assert all(len(line) <= 80 for line in lines)
    assert all(line.startswith(" " * 28) for line in lines[1:])
    assert sum(line[28:].startswith("> ") for line in lines) == 1


def test_colour_changes_no_width() -> None:
    plain, coloured = (
        doctor.lines("name", result(Verdict.WARNING).finding, coloured=colour) for colour in (False, True)
    )
    assert "\x1b[33mWARNING \x1b[0m" in coloured
    assert coloured.replace("\x1b[33m", "").replace("\x1b[0m", "") == plain


@pytest.mark.parametrize(("no_colour", "coloured"), [("", True), ("1", False)])
def test_colours_come_on_a_terminal_and_not_with_no_color(no_colour: str, coloured: bool) -> None:
    program = (
        "import argparse; from bt_selfsecure.cli import doctor; p = argparse.ArgumentParser();"
        "doctor.add_parser(p.add_subparsers()); a = p.parse_args(['doctor', '--adapter', 'hci99']); a.run(a)"
    )
    wrapper = f"import os, pty, sys; pty.spawn([sys.executable, '-c', {program!r}])"
    said = subprocess.run(
        [sys.executable, "-c", wrapper],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=True,
        env={"PATH": "/usr/bin:/bin", "NO_COLOR": no_colour},
    ).stdout
    assert b"20 checks" in said
    assert (b"\x1b[31m" in said) is coloured
