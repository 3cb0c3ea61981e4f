"""`bt-selfsecure doctor` on whatever machine this is: whole, readable, and right about its exit status."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bt_selfsecure.cli import doctor
from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.doctor.checks import CHECKS
from bt_selfsecure.node.doctor.findings import Finding, Verdict
from bt_selfsecure.node.doctor.machine import Machine
from bt_selfsecure.node.doctor.report import Check, Result

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
    for check in CHECKS:
        assert sum(line[10:].startswith(f"{check.name:<18}") for line in lines) == 1
    assert "There is no hci99" in captured.out
    assert lines[-1].startswith("20 checks: ")
    assert "\x1b" not in captured.out


def test_json_has_the_same_verdicts_and_their_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*NO_ADAPTER, "--peer", "aa:bb:cc:dd:ee:ff", "--json") == 1
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
    seen: list[Machine] = []
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
    assert doctor._adapter("b8:27:eb:00:00:0b") == "hci2"
    with pytest.raises(UsageError, match=r"no adapter has the address .*: hci0 is B8:27:EB:00:00:0A, hci2 is"):
        doctor._adapter("B8:27:EB:00:00:0C")


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
    lines = doctor.lines(long, coloured=False).splitlines()
    assert lines[0].startswith("FAILURE   Adapter           word word")
    assert all(len(line) <= 80 for line in lines)
    assert all(line.startswith(" " * 28) for line in lines[1:])
    assert sum(line[28:].startswith("> ") for line in lines) == 1


def test_colour_changes_no_width() -> None:
    plain, coloured = (doctor.lines(result(Verdict.WARNING), coloured=colour) for colour in (False, True))
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
