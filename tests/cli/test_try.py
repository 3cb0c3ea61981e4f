"""`bt-selfsecure try`: two real daemons on this computer, whatever ends it, and nothing of them remains."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from bt_selfsecure.cli import try_nodes
from bt_selfsecure.cli.main import main

COMMAND = [sys.executable, "-m", "bt_selfsecure.cli.main", "try"]


@contextmanager
def trying(place: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """The command, whose temporary folder is in `place`."""
    process = subprocess.Popen(
        [*COMMAND, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(place)},
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


def read_until(process: subprocess.Popen[str], words: str) -> str:
    assert process.stdout
    said = ""
    for line in process.stdout:
        said += line
        if words in line:
            return said
    raise AssertionError(f"{said!r} has no {words!r}")


def remains(place: Path) -> list[str]:
    """Files in `place`, and processes that were told of it."""
    told = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace")
        except OSError:  # it has ended
            continue
        if str(place) in words:
            told.append(words)
    return [*map(str, place.iterdir()), *told]


@pytest.mark.timeout(180)
def test_a_key_a_message_a_pulled_plug_and_a_ctrl_c_that_leaves_nothing(tmp_path: Path) -> None:
    with trying(tmp_path, "--stay") as process:
        said = read_until(process, "Ctrl-C ends both, and removes")
        assert "such losses are drawn by this program" in said
        assert "On X25519 alone: losses are drawn by this program, no radio." in " ".join(said.split())
        assert "secret    0.0 bits" in said
        assert re.search(r"receive --raw .*\nhello, bob\n", said)
        assert re.search(r"receive --raw .*\ndid you survive\?\n", said)
        assert "One key at both ends, and each message once." in said
        assert len(remains(tmp_path)) == 3
        (pid,) = re.findall(r"^ +kill -9 (\d+)$", said, re.MULTILINE)
        os.kill(int(pid), signal.SIGKILL)
        assert pid not in read_until(process, "bob was gone, and runs again")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert remains(tmp_path) == []


@pytest.mark.parametrize(
    ("words", "number"),
    [
        ("such losses", signal.SIGTERM),
        ("alice.toml &", signal.SIGHUP),
        ("bob.toml &", signal.SIGTERM),
        ("status --config", signal.SIGINT),
    ],
)
@pytest.mark.timeout(120)
def test_whatever_interrupts_it_at_any_moment_leaves_nothing(tmp_path: Path, words: str, number: int) -> None:
    with trying(tmp_path) as process:
        read_until(process, words)
        for _ in range(3):
            process.send_signal(number)
            time.sleep(0.1)
        _, error = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "Traceback" not in error
    assert remains(tmp_path) == []


@pytest.mark.timeout(120)
def test_a_folder_of_ones_own_stays_and_its_configurations_are_used_again(tmp_path: Path) -> None:
    folder = tmp_path / 'a "folder"'
    with trying(tmp_path, "--folder", str(folder)) as process:
        read_until(process, "bob.toml")
    assert {"alice.toml", "bob.toml", "alice.log", "alice"} <= {path.name for path in folder.iterdir()}
    configuration = (folder / "bob.toml").read_text()
    with trying(tmp_path, "--folder", str(folder), "--loss", "0") as process:
        read_until(process, "bob.toml")
    assert (folder / "bob.toml").read_text() == configuration
    assert remains(tmp_path) == [str(folder)]


def test_a_node_that_can_not_start_says_why_and_nothing_remains(tmp_path: Path) -> None:
    folder = tmp_path / "two"
    with trying(tmp_path, "--folder", str(folder)) as process:
        read_until(process, "alice.toml")
    broken = folder / "alice.toml"
    broken.write_text(broken.read_text().replace("[udp]", "[upd]"))
    with trying(tmp_path, "--folder", str(folder)) as process:
        said, error = process.communicate(timeout=30)
        assert process.returncode == 2
    assert said == ""
    assert re.fullmatch(r"bt-selfsecure: \S*alice.toml:\d+: \[upd\] is an unknown table: do you mean udp\?\n", error)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--loss", "0.6"], "0.6 is out of range: give a number at least 0 and at most 0.5"),
        (["--loss", "nan"], "nan is out of range: give a number at least 0 and at most 0.5"),
        (["--folder", "/proc/two"], "can't write to /proc/two (No such file or directory): name another folder"),
        (["--folder", 120 * "x"], "must be an absolute path of at most 107 bytes"),
    ],
)
def test_what_can_not_be_used_is_refused_in_one_line(
    words: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["try", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert why in captured.err


def test_what_takes_minutes_shows_a_dot_each_second_and_no_line_wider_than_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    at = [0.0]
    monkeypatch.setattr(try_nodes, "time", SimpleNamespace(monotonic=lambda: at[0]))
    dots = try_nodes.Dots("Two nodes start ")
    for number in range(600):
        at[0] = number / 4
        dots.go_on()
    lines = capsys.readouterr().out.splitlines()
    assert [len(line) for line in lines[:-1]] == [80] * (len(lines) - 1)
    assert "".join(lines) == "Two nodes start " + "." * 149
