"""`confirm`, `establish --wait` and `--without-continuity`: as people type them, and between two real daemons."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from loopback_node import LoopbackNode, Server
from on_a_terminal import ended, interrupt_when_it_waits, spawn
from two_daemons import QuickNodes, start, wait_until

from bt_selfsecure.cli import client
from bt_selfsecure.cli.main import main
from bt_selfsecure.node.client import NodeClient
from bt_selfsecure.node.haoxiao.confirmation import is_same_string
from bt_selfsecure.node.two_nodes import ADDRESSES, TwoNodes

PORTS = 5710, 5711
CTRL_C, CTRL_D = "\x03", "\x04"
OWN = "123 456 (apple river stone moon)"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def config(server: Server) -> Path:
    """Of alice."""
    (path := server.folder / "alice.toml").write_text(f'[node]\nsocket = "{server.socket("alice")}"\n')
    return path


@pytest.fixture
def run(at_alice: NodeClient, at_bob: NodeClient, config: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str) -> tuple[int, str, str]:
        status = main([*words, "--config", str(config)])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def typed(config: Path, answer: str, *words: str) -> tuple[int, str]:
    """On a terminal, with this answer to the first question: exit status, and all that stood there."""
    command = [sys.executable, "-m", "bt_selfsecure.cli.main", *words, "--config", str(config)]
    pid, terminal = spawn(command, {**os.environ, "COLUMNS": "80", "LINES": "24"})
    seen, answered = b"", False
    while True:
        try:
            new = os.read(terminal, 4096)
        except OSError:  # its end has closed
            break
        if not new:
            break
        seen += new
        if b"Type yes or no: " in seen and not answered:
            answered = True
            if answer == CTRL_C:
                interrupt_when_it_waits(pid, terminal)
            else:
                os.write(terminal, answer.encode())
    status, rest = ended(pid, terminal)
    return status, (seen + rest).decode().replace("\r\n", "\n")


def test_confirm_shows_the_string_and_asks_and_yes_confirms(run: Run, config: Path, alice: LoopbackNode) -> None:
    run("establish", "bob")
    status, seen = typed(config, "perhaps\nyes\n", "confirm", "bob")
    assert status == 0
    assert "bob  B8:27:EB:00:00:02  key ab12-bob\n\n    123 456 (apple river stone moon)\n" in seen
    assert seen.count("Does bob show the same? Type yes or no: ") == 2
    assert seen.endswith("bob is confirmed.\n")
    assert alice.confirmed == {"bob": getpass.getuser()}
    status, out, _ = run("status")
    assert f"peer      confirmed: {getpass.getuser()} has compared the strings" in out
    assert run("peers")[1].splitlines()[1].split()[4] == "confirmed"


def test_no_confirms_nothing_and_is_exit_status_1(run: Run, config: Path, alice: LoopbackNode) -> None:
    run("establish", "bob")
    status, seen = typed(config, "no\n", "confirm", "bob")
    assert (status, alice.confirmed) == (1, {"bob": ""})
    assert "bob is not confirmed: the strings differ" in seen


def test_an_answer_that_never_comes_changes_nothing(run: Run, config: Path, alice: LoopbackNode) -> None:
    run("establish", "bob")
    for answer, expected in ((CTRL_D, 2), (CTRL_C, 130)):
        status, seen = typed(config, answer, "confirm", "bob")
        assert (status, alice.confirmed) == (expected, {}), seen
        assert "Traceback" not in seen
    *_, asked, said = seen.splitlines()
    assert asked == "Does bob show the same? Type yes or no: ^C"
    assert said == "bt-selfsecure: interrupted; nothing was left half-written"


def test_a_script_gives_the_string_of_the_other_end(run: Run, alice: LoopbackNode) -> None:
    run("establish", "bob")
    assert run("confirm", "bob", "--string", "654 321")[0] == 1
    status, out, _ = run("confirm", "bob", "--string", "123456", "--json")
    assert (status, json.loads(out)["confirmed"]) == (0, True)
    for given, said in (("", "--string is empty"), ("  ", "--string is empty")):
        status, _, err = run("confirm", "bob", "--string", given)
        assert (status, said in err) == (2, True), given


def test_who_was_confirmed_stays_so_whatever_is_compared_later_and_the_line_says_it(run: Run) -> None:
    run("establish", "bob")
    assert run("confirm", "bob", "--string", "123456")[0] == 0
    status, out, _ = run("confirm", "bob", "--string", "654321")
    assert (status, out) == (1, "bob stays confirmed, not by this: the strings differ\n")


def test_without_a_terminal_and_without_a_string_it_says_what_to_give(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("establish", "bob")
    with Path(os.devnull).open() as nobody:
        monkeypatch.setattr(sys, "stdin", nobody)
        status, _, err = run("confirm", "bob")
    assert (status, "there is no terminal to ask on: give --string" in err) == (2, True)


def test_a_peer_without_key_is_not_confirmed_and_an_unknown_one_is_2(run: Run) -> None:
    status, out, _ = run("confirm", "bob")
    assert (status, "there is no key with it yet" in out) == (1, True)
    assert run("confirm", "carol")[0] == 2


def test_a_confirmed_peer_is_given_up_only_after_a_yes(run: Run, config: Path, alice: LoopbackNode) -> None:
    run("establish", "bob")
    run("confirm", "bob", "--string", "123456")
    status, seen = typed(config, "no\n", "establish", "bob", "--without-continuity")
    assert status == 1
    assert "bob is confirmed:" in seen
    assert all(len(line) <= 80 for line in seen.splitlines()), seen
    assert seen.endswith("Nothing is changed.\n")
    assert run("establish", "bob", "--without-continuity", "--yes")[0] == 0


# --- what status and establish advise ---------------------------------------------------------------------------------


def test_no_command_advises_a_confirmation_that_is_always_refused(
    run: Run, alice: LoopbackNode, bob: LoopbackNode
) -> None:
    alice.profile = "paper"
    for _, out, _ in (run("establish", "bob"), run("status")):
        assert "the profile paper confirms nobody" in " ".join(out.split())
        assert "bt-selfsecure confirm" not in " ".join(out.split())
    alice.profile, bob.name = "hardened", bob.address
    for _, out, _ in (run("establish", bob.address), run("status")):
        assert "add it to the configuration as a [[peer]]" in " ".join(out.split())
        assert "bt-selfsecure confirm" not in " ".join(out.split())


def test_a_key_of_an_unconfirmed_peer_that_was_put_off_has_a_remedy(run: Run, alice: LoopbackNode) -> None:
    run("establish", "bob")
    alice.refused = 3
    out = " ".join(run("status")[1].split())
    assert "refused 3 keys, the last 1 min ago, from one who has not the key in use, too soon after others" in out
    assert "at once: bt-selfsecure establish bob, and compare" in out


def test_who_waits_for_a_key_is_told_each_thing_that_goes_wrong_meanwhile_once(run: Run, alice: LoopbackNode) -> None:
    """Standard error is no terminal here."""
    alice.establishing_s = 3.0
    troubles = [
        "its establishment failed: no burst packet came after the accept",
        "its request is refused: " + 20 * "x ",
    ]

    def go_wrong() -> None:
        for each in troubles:
            time.sleep(1.2)
            alice.trouble = each

    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(go_wrong)
        status, _, err = run("establish", "bob", "--wait")
        job.result()
    assert status == 0
    assert [" ".join(line.split()) for line in err.split("bob: ")[1:]] == [each.strip() for each in troubles]
    assert all(len(line) <= 80 for line in err.splitlines())


def test_ctrl_c_on_the_way_to_a_key_from_whoever_answers_says_what_may_be_so_already(
    run: Run, config: Path, alice: LoopbackNode
) -> None:
    run("establish", "bob")
    run("confirm", "bob", "--string", "123456")
    alice.establishing_s = 30.0
    words = ("establish", "bob", "--without-continuity", "--yes", "--config", str(config))
    process = subprocess.Popen(
        [sys.executable, "-m", "bt_selfsecure.cli.main", *words], stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: alice.establishing is not None)
    process.send_signal(signal.SIGINT)
    assert "bob stays confirmed, if it was and has no new key yet: see status.\n" in said_to_stderr(process)


def test_a_key_without_continuity_that_did_not_come_is_said_to_have_changed_nothing(
    run: Run, bob: LoopbackNode
) -> None:
    run("establish", "bob")
    run("confirm", "bob", "--string", "123456")
    bob.away = True
    status, out, _ = run("establish", "bob", "--without-continuity", "--yes")
    assert (status, out) == (1, "no key with bob: nobody accepted the request\nbob stays confirmed.\n")


@pytest.mark.parametrize("words", [(), ("--without-continuity", "--yes")])
def test_who_waits_for_a_key_that_the_other_end_refuses_is_told_where_it_says_why(
    run: Run, alice: LoopbackNode, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """No frame says so, and standard error is no terminal here."""
    monkeypatch.setattr(client, "STILL_S", 1.0)
    alice.establishing_s, alice.sent = 3.0, 0
    _, _, err = run("establish", "bob", *words)
    assert err.count("its own bt-selfsecure status says why") == 1, err
    alice.sent = 1200
    _, _, err = run("establish", "bob", *words)
    assert "1,200 packets sent" in err
    assert "refuses" not in err


def test_strings_that_differed_and_whom_they_were_compared_by_are_in_status(run: Run, alice: LoopbackNode) -> None:
    run("establish", "bob")
    run("confirm", "bob", "--string", "123456")
    assert "differed" not in run("status")[1]
    alice.differed_by = "pi"
    out = " ".join(run("status")[1].split())
    assert "strings differed on 3 May 2026, compared by pi: one may stand between the two" in out
    assert "bt-selfsecure establish bob, if need be --without-continuity" in out


@pytest.mark.parametrize("why", ["no continuity", "restored", "too soon"])
def test_keys_that_were_refused_are_shown_with_the_reason_of_then(run: Run, alice: LoopbackNode, why: str) -> None:
    run("establish", "bob")
    alice.refused, alice.refused_why = 5, why
    out = " ".join(run("status")[1].split())
    assert ("too soon after others" in out) is (why == "too soon")
    assert ("this node's state that was restored" in out) is (why == "restored")
    assert ("if bob has lost its state" in out) is (why == "no continuity")


def said_to_stderr(process: subprocess.Popen[str]) -> str:
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    return err


@pytest.mark.parametrize(
    ("given", "same"),
    [
        ("123456", True),
        ("123 456", True),
        (" 123 456 (apple river stone moon)", True),
        ("Apple river  STONE moon", True),
        ("(apple river stone moon)", True),
        ("123457", False),
        ("apple river stone mood", False),
        ("123 456 (apple river stone mood)", False),
        ("1234567", None),
        ("12345", None),
        ("apple river stone", None),
        ("", None),
        ("yes", None),
        ("123 45 apple moon", None),
    ],
)
def test_six_digits_or_four_words_are_a_string(given: str, same: bool | None) -> None:
    if same is None:
        with pytest.raises(ValueError, match="six digits, or four words"):
            is_same_string(given, OWN)
    else:
        assert is_same_string(given, OWN) is same


# --- two real daemons -------------------------------------------------------------------------------------------------


@pytest.fixture
def nodes(tmp_path: Path, loopback_host: str) -> Iterator[TwoNodes]:
    nodes = QuickNodes(tmp_path, 0.05, loopback_host, PORTS)
    yield nodes
    nodes.stop()
    for name in ADDRESSES:
        assert "fault of this program" not in nodes.log(name).read_text()


def peer(nodes: TwoNodes, name: str) -> dict[str, Any]:
    return nodes.client(name).peers()[0]


def command(nodes: TwoNodes, name: str, *words: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    line = nodes.command(*words, "--config", str(nodes.config(name)))
    return subprocess.Popen(line, stdout=pipe, stderr=pipe, stdin=subprocess.DEVNULL, text=True)


def said(process: subprocess.Popen[str], status: int = 0) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == status, (out, err)
    return out


@pytest.mark.timeout(240)
@pytest.mark.long
def test_between_daemons_a_compared_key_is_not_replaced_by_who_has_only_bobs_address(nodes: TwoNodes) -> None:
    start(nodes)
    at_bob = command(nodes, "bob", "establish", "alice", "--wait", "--json")
    ended = None
    while ended is None:  # the first of them may be too early for it
        at_alice = said(command(nodes, "alice", "establish", "bob", "--json"))
        with contextlib.suppress(subprocess.TimeoutExpired):
            ended = at_bob.wait(5)
    outcomes = [json.loads(each) for each in (at_alice, said(at_bob))]
    assert outcomes[0]["sas"] == outcomes[1]["sas"] != ""
    for name in ADDRESSES:
        wait_until(lambda name=name: peer(nodes, name)["key"]["fingerprint"] == outcomes[0]["fingerprint"])
    for name, other, outcome in (("alice", "bob", outcomes[1]), ("bob", "alice", outcomes[0])):
        assert said(command(nodes, name, "confirm", other, "--string", outcome["sas"])) == f"{other} is confirmed.\n"
    nodes.kill("bob")
    shutil.rmtree(nodes.folder / "bob")
    (nodes.folder / "bob").mkdir(mode=0o700)
    wait_until(lambda: peer(nodes, "alice")["state"] != "connected")
    nodes.client("alice").send("bob", b"open the door: 4711")
    nodes.start("bob")
    wait_until(lambda: peer(nodes, "alice")["trust"]["refused"] > 0)
    status = said(command(nodes, "alice", "status"))
    assert "--without-continuity" in " ".join(status.split())
    assert f"confirmed: {getpass.getuser()} has compared the strings" in status
    assert "bt-selfsecure establish bob --without-continuity" in nodes.log("alice").read_text()
    assert peer(nodes, "alice")["key"]["fingerprint"] == outcomes[0]["fingerprint"]
    assert peer(nodes, "bob")["key"] is None
    nodes.kill("alice")
    nodes.start("alice")
    assert peer(nodes, "alice")["trust"]["confirmed"] == "string"
    wait_until(lambda: peer(nodes, "alice")["trust"]["refused"] > 0)
    assert said(command(nodes, "alice", "establish", "bob", "--without-continuity"), 2) == ""
    assert peer(nodes, "alice")["trust"]["confirmed"] == "string"
    said(command(nodes, "alice", "establish", "bob", "--without-continuity", "--yes"))
    wait_until(lambda: peer(nodes, "bob")["queues"]["inbox"] == 1)
    assert peer(nodes, "alice")["trust"]["confirmed"] is None
