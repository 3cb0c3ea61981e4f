"""The commands as a person types them: a rehearsal on the virtual air, killed and resumed, prompts on a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from amounts import at_length
from on_a_terminal import ended, spawn

from bt_selfsecure.cli.main import main
from bt_selfsecure.stats.losses import JointLoss, clopper_pearson, joint_probabilities
from bt_selfsecure.sweep.store import Store
from bt_selfsecure.sweep.wishes import DEAD_S
from bt_selfsecure.wording import counted

D, E, RHO = 0.2, 0.15, 0.5
PLAN = f"""
[roles]
alice = "pi-a"
bob = "pi-b"
eves = ["pi-c"]
[sweep]
distances_m = [0.5, 3]
packets = [200, 400]
repeats = 4
bearers = ["air:correlated:bob={D},eve={E},rho={RHO}"]
countdown_s = 0
"""
ALL = 2 * 2 * 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plan.toml").write_text(PLAN)
    return tmp_path


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "bt_selfsecure.cli.main", "sweep", *words]


def runs_in(record: Path) -> int:
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(record)) as db:
        return int(db.execute("SELECT count(*) FROM run").fetchone()[0])
    return 0


def test_a_rehearsal_killed_in_the_middle_and_resumed_finds_what_was_put_into_the_air(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = folder / "plan.db"
    child = subprocess.Popen(command("run", "plan.toml", "--unattended"), cwd=folder, stdout=subprocess.DEVNULL)
    while runs_in(record) < 3:
        assert child.poll() is None
        time.sleep(0.002)
    child.kill()
    child.wait()
    done = runs_in(record)
    assert 3 <= done < ALL
    assert (
        main(["sweep", "run", str(folder / "plan.toml"), "--unattended", "--record", str(record), "--seed", "2"]) == 0
    )
    assert f"{ALL - done} runs to do at 2 places, {done} are done already" in capsys.readouterr().out
    counts: Counter[tuple[bool, bool]] = Counter()
    with Store(record) as store:
        assert Counter((run.info.distance_m, run.info.packets) for run in store.runs()) == dict.fromkeys(
            [(0.5, 200), (0.5, 400), (3.0, 200), (3.0, 400)], 4
        )
        for run in store.runs():
            rows = list(store.receptions(run.id))
            assert len(rows) == 2 * run.info.packets
            heard = {name: [row.heard for row in rows if row.receiver == name] for name in run.listeners}
            counts.update(zip(heard["pi-b"], heard["pi-c"], strict=True))
    table = JointLoss(counts[True, True], counts[True, False], counts[False, True], counts[False, False])
    sent = counts.total()
    for count, probability in zip(
        (table.both, table.bob_only, table.eve_only, table.neither), joint_probabilities(D, E, RHO), strict=True
    ):
        low, high = clopper_pearson(count, sent, 0.9999)
        assert low <= probability <= high
    assert table.phi == pytest.approx(RHO, abs=4 / sent**0.5)


class Terminal:
    """A command on a terminal of 80 columns."""

    def __init__(self, words: list[str], folder: Path) -> None:
        self.said = ""
        self.pid, self._terminal = spawn(["env", f"--chdir={folder}", *words])
        os.set_blocking(self._terminal, False)

    def wait_for(self, true: Callable[[], bool], seconds: float = 60.0) -> None:
        until = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < until, self.said
            with contextlib.suppress(OSError):
                self.said += os.read(self._terminal, 65536).decode()
            time.sleep(0.01)

    def type(self, line: str) -> None:
        """As a person does who has read what changed."""
        time.sleep(DEAD_S + 0.1)
        self.press(line + "\n")

    def press(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def end(self) -> int:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                self.said += os.read(self._terminal, 65536).decode()
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                status, rest = ended(self.pid, self._terminal)
                self.said += rest.decode()
                return status
            time.sleep(0.01)
        os.kill(self.pid, signal.SIGKILL)
        raise AssertionError(self.said)


@pytest.fixture
def terminal(folder: Path) -> Iterator[Terminal]:
    terminal = Terminal(command("run", "plan.toml"), folder)
    yield terminal
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(terminal.pid, signal.SIGKILL)
        os.waitpid(terminal.pid, 0)


def test_on_a_terminal_the_person_places_redoes_and_quits_and_nothing_is_lost(terminal: Terminal, folder: Path) -> None:
    terminal.wait_for(lambda: "pi-b               receives, 0.5 m from there" in terminal.said)
    terminal.type("r 7")
    terminal.wait_for(lambda: "r takes a place of the plan: 0.5 m, 3 m" in terminal.said)
    terminal.type("r 3")
    terminal.wait_for(lambda: "there is no run at 3 m yet: nothing to do again" in terminal.said)
    terminal.type("")
    terminal.wait_for(lambda: "pi-b         moves receives, 3 m from there" in terminal.said)
    assert "pi-a         stays sends, at the end of the tape" in terminal.said
    assert "0.5 m  air  400 packets  run 4 of 4  lost: pi-b" in terminal.said
    for answer in ("", "y"):
        terminal.type("r 0.5")
        terminal.wait_for(lambda: "withdraw 8 runs at 0.5 m and do them again? y" in terminal.said)
        terminal.type(answer)
        terminal.wait_for(lambda: "nothing is withdrawn" in terminal.said)
        terminal.said = terminal.said.replace("withdraw 8 runs", "")
    terminal.wait_for(lambda: "withdrawn and done again" in terminal.said)
    terminal.type("q")
    assert terminal.end() == 0
    assert f"0 runs written down, {ALL} to go; the same command goes on with the next" in terminal.said
    assert "Traceback" not in terminal.said
    assert "interrupted" not in terminal.said
    with Store(folder / "plan.db") as store:
        assert store.runs() == []
        assert len(store.runs(withdrawn=True)) == ALL / 2


def test_keys_pressed_twice_do_what_one_does_and_a_skip_can_be_taken_back_to_the_very_end(
    terminal: Terminal, folder: Path
) -> None:
    terminal.wait_for(lambda: "q quits" in terminal.said)
    terminal.type("s\ns")
    terminal.wait_for(lambda: "nothing is done: the screen" in terminal.said or "very moment" in terminal.said)
    terminal.wait_for(lambda: "next: 3 m" in terminal.said)
    terminal.type("\n")  # Enter twice
    terminal.wait_for(lambda: "ended, 8 runs left out" in terminal.said)
    assert "Enter ends the sweep; b takes a skip back" in terminal.said
    terminal.said = ""
    terminal.type("b")
    terminal.wait_for(lambda: "next: 0.5 m" in terminal.said)
    terminal.type("")
    terminal.wait_for(lambda: "all runs are done" in terminal.said)
    terminal.type("")
    assert terminal.end() == 0
    assert f"the report: bt-selfsecure sweep report {folder / 'plan.db'}" in terminal.said
    assert runs_in(folder / "plan.db") == ALL


@pytest.mark.parametrize(("key", "status"), [("q\n", 0), ("\x04", 0), ("\x03", 130)])
@pytest.mark.parametrize("after", ["the question", "some runs"])
def test_who_ends_a_sweep_keeps_what_is_written_and_goes_on_later(
    key: str, status: int, after: str, terminal: Terminal, folder: Path
) -> None:
    """Ctrl-C is an interruption, q and the end of the input are not."""
    terminal.wait_for(lambda: "q quits" in terminal.said)
    if after == "some runs":
        terminal.type("")
        terminal.wait_for(lambda: "0.5 m  air  200 packets  run 1 of 4" in terminal.said)
    terminal.press(key)
    assert terminal.end() == status
    assert ("interrupted" in terminal.said) == bool(status)
    done = runs_in(folder / "plan.db")
    assert f"{counted(done, 'run')} written down, {ALL - done} to go; the same command goes on" in terminal.said
    assert (done > 0) == (after == "some runs")


def test_a_redo_of_a_finished_sweep_is_asked_for_on_the_command_line(folder: Path) -> None:
    plan, record = str(folder / "plan.toml"), str(folder / "plan.db")
    for more in ([], ["--redo", "3"]):
        assert main(["sweep", "run", plan, "--unattended", "--record", record, *more]) == 0
    with Store(record) as store:
        assert len(store.runs()) == ALL
        assert {run.info.distance_m for run in store.runs(withdrawn=True) if run.withdrawn} == {3.0}


def test_sigterm_ends_it_as_systemd_does(folder: Path) -> None:
    child = subprocess.Popen(
        command("run", "plan.toml", "--web", "127.0.0.1:0"),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    while "on the phone: http://127.0.0.1:" not in child.stdout.readline():
        assert child.poll() is None
    child.terminate()
    _, said = child.communicate(timeout=60)
    assert said == "", said
    assert child.returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "plan.toml"], "there is no terminal to ask you on"),
        (["run", "none.toml"], "there is no none.toml: `bt-selfsecure sweep plan` prints one"),
        (["run", "plan.toml", "--web", "here"], "--web here is no place to listen on"),
        (["run", "plan.toml", "--unattended", "--redo", "4"], "--redo 4 is no place of the plan: 0.5 m, 3 m"),
        (["run", "plan.toml", "--unattended", "--record", "/nowhere/x.db"], "can't open the sweep"),
        (["plan", "plan.db"], "there is no plan.db"),
        (["agent", "--config", "none.toml"], "there is no none.toml"),
    ],
)
def test_what_can_not_be_used_is_said_in_one_line(
    words: list[str], said: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert main(["sweep", *words]) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("seed", [1, *(at_length(seed) for seed in range(2, 6))])
def test_the_rehearsal_as_the_page_has_it_goes_from_holds_to_broken(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs/sweep.md").read_text()
    lines = re.findall(r"^    bt-selfsecure (sweep (?:plan|run|analyse) .*rehearsal.*?) *(?:#.*)?$", page, re.MULTILINE)
    assert [line.split()[1] for line in lines] == ["plan", "run", "analyse"]
    plan, run, analyse = (line.split() for line in lines)
    assert plan[-2] == ">"
    assert main(plan[:-2]) == 0
    Path(plan[-1]).write_text(capsys.readouterr().out)
    assert main(["sweep", "plan", plan[-1]]) == 0
    assert "5 places, 50 runs, 7 minutes of packets, which the virtual air sends at once" in capsys.readouterr().out
    assert main([*run, "--unattended", "--seed", str(seed)]) == 0
    capsys.readouterr()
    assert main([*analyse, "--json"]) == 0
    pairs = json.loads(capsys.readouterr().out)["pairs"]
    assert {row["distance_m"]: row["verdict"] for row in pairs if (row["bob"], row["eve"]) == ("pi-bob", "pi-eve")} == {
        3.0: "holds",
        6.0: "holds",
        12.0: "holds",
        24.0: "weak",
        48.0: "broken",
    }


def test_a_rehearsal_is_printed_or_a_plan_is_checked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "plan", "--rehearsal", str(folder / "plan.toml")]) == 2
    assert "leave one of them out" in capsys.readouterr().err


RADIOS = '[roles]\nalice = "pi-a"\nbob = "pi-b"\n'


@pytest.mark.parametrize(
    ("plan", "words", "said"),
    [
        (PLAN, ["--web", "here"], "--web here is no place to listen on"),
        (PLAN, ["--web", "127.0.0.1:{taken}"], "(Address already in use): take another address or port"),
        (PLAN, ["--web", "192.0.2.1:0"], "(Cannot assign requested address): take another address or port"),
        (PLAN, ["--web", "no.such.invalid:0"], "--web can't listen on no.such.invalid:0 ("),
        (PLAN, ["--unattended", "--redo", "4"], "--redo 4 is no place of the plan"),
        (PLAN, [], "there is no terminal to ask you on"),
        (RADIOS, ["--unattended"], "no node"),
    ],
)
def test_a_run_that_is_refused_leaves_no_record(
    plan: str,
    words: list[str],
    said: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    (folder / "plan.toml").write_text(plan)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["sweep", "run", "plan.toml", *(word.format(taken=port) for word in words)]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert [file.name for file in folder.iterdir()] == ["plan.toml"]


def test_a_plan_is_printed_and_checked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "plan"]) == 0
    (folder / "new.toml").write_text(capsys.readouterr().out)
    assert main(["sweep", "plan", str(folder / "new.toml")]) == 0
    assert "6 places, 360 runs, 56 minutes of packets" in capsys.readouterr().out
