"""Commands on a card that has become read-only, and on one that is full: a sentence, and no half of a file that looks
whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from own_mounts import run_on

PLAN = """
[roles]
alice = "a"
bob = "b"
eves = ["e"]
[sweep]
distances_m = [1.0]
packets = [40]
repeats = 40
bearers = ["air:distance:eve=4"]
countdown_s = 0
"""
CAPTURE = min((Path(__file__).parents[2] / "captures").glob("*.pcapng"), key=lambda path: path.stat().st_size)
PROGRAM = [sys.executable, "-P", "-m", "bt_selfsecure.cli.main"]
long = pytest.mark.long


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands read."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "plan.toml").write_text(PLAN)
    (folder / "table.csv").write_text("seq,receiver,heard\n0,bob,1\n")
    (folder / "capture").write_bytes(CAPTURE.read_bytes())
    command = [*PROGRAM, "sweep", "run", "plan.toml", "--record", "r.db", "--unattended"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


def run(inputs: Path, place: Path, size: str, then: str, *words: str) -> subprocess.CompletedProcess[str]:
    """On a file system of this size with the inputs, in a namespace of its own, after `then` was done to it."""
    return run_on(place, size, f"cp {inputs}/* . && {then}", *PROGRAM, *words)


@pytest.mark.parametrize(
    "command",
    [
        "plan --eve-loss 0.05 --plot p.svg",
        "sweep export r.db --out e.csv",
        *(
            pytest.param(command, marks=long)
            for command in (
                "demo --out report",
                "sweep plot r.db --out figures",
                "sweep report r.db --out report.html",
                "sweep export r.db --out e.jsonl",
                "sweep export r.db --out e.parquet",
                "sweep run plan.toml --record new.db --unattended",
                "eve capture capture --output captured",
                "report --output report.txt",
                "backup copy",
            )
        ),
    ],
)
def test_a_card_that_is_read_only_is_told_in_one_sentence(inputs: Path, tmp_path: Path, command: str) -> None:
    done = run(inputs, tmp_path, "4m", "mount -o remount,ro .", *command.split())
    *told, last = done.stderr.removesuffix("\n").rsplit("\ncapture\n", 1)[0].splitlines()
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert last.startswith("bt-selfsecure: ")
    assert any(word in last for word in ("ead-only", "writable", "state in")), last
    assert not [line for line in told if line.startswith("bt-selfsecure: ")]


def test_a_record_that_can_not_begin_on_a_card_that_is_read_only_is_told_why(inputs: Path, tmp_path: Path) -> None:
    done = run(inputs, tmp_path, "4m", "mount -o remount,ro .", "sweep", "import", "table.csv", "--out", "new.db")
    assert done.returncode == 2, done.stderr
    assert "can't open the sweep 'new.db' (Read-only file system): choose another place" in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "sweep run plan.toml --record new.db --unattended",
        *(
            pytest.param(command, marks=long)
            for command in (
                "plan --eve-loss 0.05 --plot p.svg",
                "sweep export r.db --out e.csv",
                "sweep plot r.db --out figures",
                "sweep report r.db --out report.html",
                "sweep export r.db --out e.parquet",
                "eve capture capture --output captured",
                "report --output report.txt",
            )
        ),
    ],
)
def test_a_card_that_is_full_is_told_in_one_sentence_and_nothing_looks_whole(
    inputs: Path, tmp_path: Path, command: str
) -> None:
    done = run(inputs, tmp_path, "2m", "dd if=/dev/zero of=filler bs=4096 2>/dev/null; true", *command.split())
    *told, last = done.stderr.removesuffix("\n").rsplit("\ncapture\n", 1)[0].splitlines()
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert last.startswith("bt-selfsecure: ")
    assert "o space left" in last, last
    assert not [line for line in told if line.startswith("bt-selfsecure: ")]
