"""Figures 11 and 12: measured by the real programs on loopback, kept, shown, drawn, and each fault in a sentence."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bt_selfsecure.bench.iotcrypto import ipsp
from bt_selfsecure.bench.iotcrypto.ipsp_report import lines
from bt_selfsecure.cli.main import main
from bt_selfsecure.free_ports import free_ports

ROW = ipsp.IpspRow(1.0, False, "fe80::1%bt0", False, 1_790_000_000, (239.2, 180.0), (30.5, 61.5), 3)
needs_programs = pytest.mark.skipif(
    any(shutil.which(program) is None for program in ipsp.PACKAGES), reason="not installed: iperf3 (apt install iperf3)"
)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (port,) = free_ports("127.0.0.1", 1)
    monkeypatch.setattr(ipsp, "IPERF3_PORT", port)
    command = ["iperf3", "-s", "--forceflush", "-B", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout
    while "listening" not in (line := process.stdout.readline()):
        assert line
    yield
    process.terminate()
    process.communicate(timeout=60)


@needs_programs
def test_what_iperf3_and_ping_say_is_added_to_the_results_shown_and_drawn(
    server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ipsp, "PING_INTERVAL_S", 0.2)
    results = tmp_path / "ble.json"
    results.write_text(json.dumps(ipsp.to_json([ROW])))
    short = ("--repeats", "1", "--seconds", "1", "--pings", "2", "--results", str(results))
    options = ("--distance", "2.5", "--through-gateway", *short, "--plots", str(tmp_path))
    assert main(["bench", "ipsp", "127.0.0.1", *options]) == 0
    said = capsys.readouterr().out
    assert "      1 m, direct  " in said
    assert "    2.5 m, through a gateway" in said
    before, new = ipsp.load(results)
    assert before == ROW
    assert (len(new.kbit_s), len(new.round_trips_ms), new.pings, new.through_gateway) == (1, 2, 2, True)
    assert new.kbit_s[0] > 1000
    assert {path.name for path in tmp_path.glob("*.svg")} == {"ipsp-figure-11.svg", "ipsp-figure-12.svg"}
    assert main(["bench", "ipsp", "--results", str(results), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 2


def test_what_is_shown_fits_a_terminal_and_says_what_is_virtual() -> None:
    said = [*lines([ROW])]
    assert max(map(len, said)) <= 80
    assert "virtual" not in "".join(said)
    assert any(line.split()[-4:] == ["209.6", "180.0", "239.2", "2"] for line in said)
    assert any(line.split()[-4:] == ["46.0", "30.5", "61.5", "1"] for line in said)
    said = [*lines([replace(ROW, virtual=True, through_gateway=True, distance_m=9999.5)])]
    assert max(map(len, said)) <= 80
    assert said[0] == "virtual: on virtual machines and their air, which tells nothing of a radio"
    assert sum("through a gateway, virtual" in line for line in said) == 2


def test_a_virtual_computer_is_known_by_its_cpu(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    for text, is_virtual in (
        ("flags\t\t: fpu vme hypervisor lahf_lm\n", True),
        ("vendor_id\t: User Mode Linux\n", True),
        ("flags\t\t: fpu vme\nmodel name\t: hypervisor\n", False),
        ("Features\t: half thumb neon\nModel\t\t: Raspberry Pi 4 Model B\n", False),
    ):
        cpuinfo.write_text(text)
        assert ipsp.is_virtual(cpuinfo) is is_virtual


@needs_programs
def test_without_a_server_or_an_answer_it_is_said_what_to_do_and_the_results_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "ble.json"
    short = ("--distance", "1", "--repeats", "1", "--pings", "1", "--results", str(results))
    monkeypatch.setattr(ipsp, "IPERF3_PORT", free_ports("127.0.0.1", 1)[0])
    assert main(["bench", "ipsp", "127.0.0.1", *short]) == 1
    assert "run `iperf3 -s` there" in capsys.readouterr().err
    assert main(["bench", "ipsp", "fe80::1%none", *short]) == 1
    assert "does not answer ping" in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "give PEER to measure, or --results FILE"),
        (["::1"], "--distance M is missing"),
        (["--results", "none.json"], "there is no file none.json"),
        (["--results", "odd.json"], "odd.json is no file of results"),
        (["::1", "--distance", "1", "--plots", "none"], "there is no folder none"),
    ],
)
def test_input_that_cant_be_used_is_named(
    words: list[str], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("odd.json").write_text("[]")
    assert main(["bench", "ipsp", *words]) == 2
    assert why in capsys.readouterr().err


def test_a_program_that_is_missing_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["bench", "ipsp", "::1", "--distance", "1"]) == 2
    assert capsys.readouterr().err == "bt-selfsecure: bench ipsp needs iperf3: apt install iperf3\n"
