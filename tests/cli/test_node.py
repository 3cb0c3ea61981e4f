"""`bt-selfsecure node`: it ends as it is told to, and says in one line why it can't begin."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAM = """
import asyncio, sys, types
from bt_selfsecure.cli import node
from bt_selfsecure.cli.main import main
from bt_selfsecure.errors import BtSelfSecureError, UsageError

daemon = sys.modules["bt_selfsecure.node.daemon"] = types.ModuleType("daemon")
async def run_node(config):
{body}
daemon.run_node = run_node
node.STOP_S = {stop_s}
sys.exit(main(["node", *sys.argv[1:]]))
"""
"""The command around another daemon than the real one, which needs a Bluetooth adapter."""
STOP_S = 0.5
CLEAN = """
    try:
        print("ready", config.node.name, flush=True)
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.1)
        print("clean")
"""
STUBBORN = """
    print("ready", flush=True)
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (path := tmp_path / "node.toml").write_text('[node]\nname = "alice"\n')
    return path


@pytest.fixture
def start(config: Path) -> Start:
    def start(body: str, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PROGRAM.format(body=body, stop_s=STOP_S), "--config", str(config), *words]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(start: Start, number: signal.Signals) -> None:
    daemon = start(CLEAN)
    assert daemon.stdout
    assert daemon.stdout.readline() == "ready alice\n"
    daemon.send_signal(number)
    assert daemon.communicate(timeout=60) == ("clean\n", "")
    assert daemon.returncode == 0


def test_one_that_does_not_end_is_cut_off_in_time(start: Start) -> None:
    daemon = start(STUBBORN)
    assert daemon.stdout
    daemon.stdout.readline()
    daemon.send_signal(signal.SIGTERM)
    begin = time.monotonic()
    _, words = daemon.communicate(timeout=60)
    assert daemon.returncode == 1
    assert STOP_S < time.monotonic() - begin < STOP_S + 10
    assert "did not end within 0.5 s" in words


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ("    raise UsageError('hci0 is missing')", 2, "bt-selfsecure: hci0 is missing\n"),
        (
            "    raise BtSelfSecureError('the journal is damaged')",
            1,
            "ERROR bt_selfsecure.cli.node: the journal is damaged\n",
        ),
        ("    return 0", 0, ""),
    ],
)
def test_its_end_is_the_exit_status(start: Start, body: str, status: int, words: str) -> None:
    daemon = start(body)
    _, error = daemon.communicate(timeout=60)
    assert daemon.returncode == status
    assert error.endswith(words)
    assert error.count("\n") == words.count("\n")


def test_the_log_level_is_the_configured_one_or_the_given(start: Start) -> None:
    body = "    import logging; logging.getLogger('x').info('info'); logging.getLogger('x').debug('debug'); return 0"
    for words, said in (((), ["info"]), (("--log-level", "debug"), ["info", "debug"]), (("--log-level", "error"), [])):
        _, error = start(body, *words).communicate(timeout=60)
        assert [line.rpartition(" ")[2] for line in error.splitlines() if " x: " in line] == said


def test_a_configuration_with_a_fault_begins_nothing(start: Start, config: Path) -> None:
    config.write_text("[node]\nmax_links = 0\n")
    out, error = (daemon := start(CLEAN)).communicate(timeout=60)
    assert (daemon.returncode, out) == (2, "")
    assert error == f"bt-selfsecure: {config}:2: [node] max_links is 0 and must be 1 to 255\n"
