"""Each example runs as its head says, with real sockets and real daemons, and a page of it fits a screen or two."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from bt_selfsecure.cli.main import main
from bt_selfsecure.node.two_nodes import ADDRESSES, OTHER, TwoNodes

EXAMPLES = Path(__file__).parents[2] / "examples"
MOST_LINES = 80


@contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[str]]:
    """One of the examples, with pipes; it is killed if it has not ended at the end."""
    command = [sys.executable, str(EXAMPLES / words[0]), *words[1:]]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_has_at_most_80_lines_and_imports_nothing_private(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MOST_LINES
    assert set(re.findall(r"(?:from|import) (bt_selfsecure\S*)", text)) <= {"bt_selfsecure"}
    assert f"    python examples/{path.name}" in text


@pytest.mark.parametrize("name", ["key_over_udp.py", "chat.py"])
def test_an_example_with_arguments_has_its_head_as_help(name: str) -> None:
    with running(name, "--help") as process:
        told, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert f"python examples/{name}" in told


@pytest.mark.timeout(60)
def test_two_processes_come_to_one_key_over_udp_and_each_message_is_answered(loopback_host: str) -> None:
    """Alice comes too early, and twice: what she sends into the void is a loss as any."""
    with ExitStack() as stack:
        alice = stack.enter_context(
            running("key_over_udp.py", "alice", "pump on", "how warm?", "--host", loopback_host)
        )
        time.sleep(1)
        bob = stack.enter_context(running("key_over_udp.py", "bob", "--host", loopback_host))
        key = line(alice)
        assert re.fullmatch(r"a key from \d+ of 100 packets; compare \d{3} \d{3} \(\w+ \w+ \w+ \w+\)", key)
        assert line(bob) == key
        assert [line(bob), line(bob)] == ["pump on", "how warm?"]
        told, wrong = alice.communicate(timeout=30)
        assert (alice.returncode, told, wrong) == (0, "got: pump on\ngot: how warm?\n", "")


@pytest.mark.timeout(120)
def test_a_chat_over_two_real_daemons_goes_both_ways_and_outlives_one_of_them(tmp_path: Path) -> None:
    nodes = TwoNodes(tmp_path, 0.05)
    with ExitStack() as stack:
        stack.callback(nodes.stop)
        for name in ADDRESSES:
            nodes.start(name)
        while not all(nodes.client(name).peers()[0]["state"] == "connected" for name in ADDRESSES):
            time.sleep(0.1)
        chats = {
            name: stack.enter_context(running("chat.py", OTHER[name], "--socket", str(tmp_path / f"{name}.sock")))
            for name in ADDRESSES
        }
        for name, chat in chats.items():
            assert re.fullmatch(rf"{OTHER[name]} is connected; key [0-9a-f-]+, 0 secret bits", line(chat))
            assert line(chat).startswith("On X25519 alone: losses are drawn by this program")
        for words in ("hello", "how are you?"):
            for name, chat in chats.items():
                assert chat.stdin is not None
                chat.stdin.write(f"{words}\n")
                chat.stdin.flush()
                assert line(chats[OTHER[name]]) == f"{name}: {words}"
        nodes.kill("bob")
        assert chats["alice"].stdin is not None
        chats["alice"].stdin.write("are you back?\n")
        chats["alice"].stdin.flush()
        nodes.start("bob")
        assert line(chats["bob"]) == "alice: are you back?"
        told, wrong = chats["alice"].communicate(timeout=30)
        assert (chats["alice"].returncode, told, wrong) == (0, "", "")


def test_a_chat_without_a_node_says_so_in_one_line(tmp_path: Path) -> None:
    with running("chat.py", "bob", "--socket", str(tmp_path / "none.sock")) as chat:
        told, wrong = chat.communicate(timeout=30)
    assert (chat.returncode, told) == (1, "")
    assert re.fullmatch(r"no node runs on \S+: .*\n", wrong)


def test_the_planner_says_what_the_command_plans(capsys: pytest.CaptureFixture[str]) -> None:
    with running("planner.py") as process:
        told, wrong = process.communicate(timeout=30)
    assert (process.returncode, wrong) == (0, "")
    heard, missed = re.findall(r"Bob heard (\d+) of 1000. Eve misses (\d+)", told)[0]
    measured = ["--measured", f"{missed}/{heard}", "--bob-loss", f"{1 - int(heard) / 1000:.3f}"]
    for bits, keep, send in re.findall(r"(\d+) bits: Bob keeps +(\d+), Alice sends +(\d+)", told):
        assert main(["plan", *measured, "--target-bits", bits, "--json"]) == 0
        plan = json.loads(capsys.readouterr().out)
        assert (plan["received"], plan["packets"]) == (int(keep), int(send))
    assert len(re.findall("bits: Bob keeps", told)) == 4
