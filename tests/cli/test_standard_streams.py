"""Standard streams as they come: closed, full, read no further, of an encoding that lacks letters. Real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = {
    "help": "--help",
    "version": "--version",
    "a command's help": "sweep run --help",
    "a table": "plan --eve-loss 0.1",
    "much output": "config show",
    "a generated file": "sweep plan",
    "a long story": "demo --plain --fast",
}
SAID = "bt-selfsecure: can't write the output ("


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """`line` in bash, where $BT is the command."""
    command = f"{sys.executable} -m bt_selfsecure"
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line.replace("$BT", command)],
        capture_output=True,
        timeout=60,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(("to", "why"), [("/dev/full", "No space left on device"), ("&-", "it is closed")])
@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_output_that_can_not_be_written_is_one_line_and_2(words: str, to: str, why: str, unbuffered: str) -> None:
    done = shell(f"$BT {words} >{to}", PYTHONUNBUFFERED=unbuffered)
    assert (done.stderr.decode(), done.returncode) == (f"{SAID}{why})\n", 2)


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_reader_who_has_seen_enough_is_no_error(words: str) -> None:
    done = shell(f"$BT {words} | head -1")
    assert done.stdout.count(b"\n") == 1
    assert (done.stderr, done.returncode) == (b"", 0)


@pytest.mark.parametrize("nowhere", ["2>/dev/full", "2>&-", "2> >(true)"])
def test_where_nobody_can_hear_complaints_the_exit_status_still_tells(nowhere: str) -> None:
    assert shell(f"$BT plan --eve-loss 1.5 {nowhere}; [ $? = 2 ] && echo refused").stdout == b"refused\n"
    done = shell(f"$BT plan --eve-loss 0.1 {nowhere}")
    assert done.stdout.startswith(b"A key of 128 secret bits")
    assert done.returncode == 0


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_command_that_asks_nothing_runs_without_an_input(words: str) -> None:
    done = shell(f"$BT {words} <&-")
    assert done.stdout
    assert (done.stderr, done.returncode) == (b"", 0)


@pytest.mark.parametrize(
    "words", ["eve read - <&-", "lab run - --on alice <&-", "sweep run plan.toml <&-", "lab run - --on alice < latin-1"]
)
def test_an_input_that_is_needed_and_can_not_be_read_is_one_line_and_2(words: str, tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text('[roles]\nalice = "a"\nbob = "b"\n')
    (tmp_path / "latin-1").write_bytes(b"echo caf\xe9\n")
    done = shell(f"cd {tmp_path}; $BT {words}")
    assert done.stderr.startswith(b"bt-selfsecure: ")
    assert done.stderr.count(b"\n") == 1
    assert (done.stdout, done.returncode) == (b"", 2)


def test_with_all_three_closed_no_file_that_is_written_takes_their_place(tmp_path: Path) -> None:
    done = shell(f"$BT plan --eve-loss 0.1 --plot {tmp_path}/plan.svg <&- >&- 2>&-")
    assert done.returncode == 2
    written = (tmp_path / "plan.svg").read_text()
    assert written.startswith("<?xml")
    assert "bt-selfsecure:" not in written


@pytest.mark.parametrize(
    "environment", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}, {"LC_ALL": "C"}]
)
def test_letters_that_a_terminal_has_not_are_replaced(environment: dict[str, str], tmp_path: Path) -> None:
    names = ["bob\N{HOT BEVERAGE}", "\N{LATIN CAPITAL LETTER A WITH BREVE}va"]
    rows = [f"{seq},{name},{int(seq % 7 > 0)}" for name in names for seq in range(20)]
    (tmp_path / "joint.csv").write_text("\n".join(["seq,receiver,heard", *rows]), encoding="utf-8")
    plain = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", **environment}
    done = shell(f"$BT sweep analyse {tmp_path}/joint.csv", **plain)
    assert b"bob?" in done.stdout
    assert b"?va" in done.stdout
    assert (done.stderr, done.returncode) == (b"", 0)
    for_programs = json.loads(shell(f"$BT sweep analyse --json {tmp_path}/joint.csv", **plain).stdout)
    assert {row["listener"] for row in for_programs["listeners"]} == set(names)


def test_after_ctrl_c_nothing_runs_any_more_and_what_was_said_is_out() -> None:
    """Python's own end takes down every module, which on a busy computer takes seconds with Dask."""
    program = """if True:
        import atexit, os, signal, sys
        from bt_selfsecure.cli import main
        def interrupted(words):
            print("half an answer")
            os.kill(os.getpid(), signal.SIGINT)
        main._run = interrupted
        atexit.register(print, "taken down", flush=True)
        sys.exit(main.main())
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (130, b"half an answer\n")
    assert done.stderr == b"bt-selfsecure: interrupted; nothing was left half-written\n"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_what_a_ctrl_c_interrupts_is_never_written_twice(stream: str) -> None:
    """At any moment: 3000 numbered lines, and an interrupt at each, from before it is written until after that."""
    program = f"""if True:
        import random, signal, sys
        from bt_selfsecure.cli import streams
        streams.take()
        def interrupted(number, frame):
            raise KeyboardInterrupt
        signal.signal(signal.SIGALRM, interrupted)
        for number in range(3000):
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 1e-4))
                print(str(number) + chr(10), end="", file=sys.{stream}, flush=True)
                while True:
                    pass
            except KeyboardInterrupt:
                pass
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
    numbers = getattr(done, stream).split()
    assert done.returncode == 0
    assert len(numbers) > 1000
    assert len(numbers) == len(set(numbers))
