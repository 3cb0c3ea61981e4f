"""How long a command takes to start, as CPU time and in starts of bare Python. Run with `pytest benchmarks -s`.

Python and all of its modules are compiled already, as where they are installed. `status` and `send` once find no node,
and once a real one, by its configuration and by the usual socket."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from typing import Final

import pytest

from bt_selfsecure.node.two_nodes import TwoNodes

ROUNDS: Final = 15
COMMANDS: Final = (
    "--version",
    "--help",
    "status",
    "send bob",
    "plan --eve-loss 0.05",
    "config show",
    "demo --help",
    "node --help",
    "sweep analyse --help",
    "sweep study --help",
    "eve read --help",
    "doctor --help",
)
AT_THE_SOCKET: Final = (
    "import sys; from bt_selfsecure.node import where; where.SOCKET = sys.argv.pop(1);"
    "from bt_selfsecure.cli.main import main; sys.exit(main())"
)
"""As `-m bt_selfsecure` on a machine whose node has this socket."""


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[TwoNodes]:
    nodes = TwoNodes(tmp_path)
    try:
        nodes.start("alice", "bob")
        yield nodes
    finally:
        nodes.stop()


def cpu_s(starts: dict[str, list[str]], environment: dict[str, str]) -> dict[str, float]:
    """The least of several starts of each, in turn: what else the machine does only adds."""

    def once(arguments: list[str]) -> float:
        before = getrusage(RUSAGE_CHILDREN)
        command = [sys.executable, *arguments]
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, env=environment)
        after = getrusage(RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    rounds = [{name: once(arguments) for name, arguments in starts.items()} for _ in range(ROUNDS)]
    return {name: min(each[name] for each in rounds) for name in starts}


def test_the_table_of_starts(nodes: TwoNodes, tmp_path: Path) -> None:
    config, socket = str(nodes.config("alice")), str(tmp_path / "alice.sock")
    starts = {"bare Python": ["-c", "pass"]}
    starts |= {command: ["-m", "bt_selfsecure", *command.split()] for command in COMMANDS}
    for words in (["status"], ["send", "bob"]):
        starts[f"{' '.join(words)}, answered"] = ["-c", AT_THE_SOCKET, socket, *words]
        starts[f"{' '.join(words)}, --config"] = ["-m", "bt_selfsecure", *words, "--config", config]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(tmp_path / "compiled")
    took = cpu_s(starts, environment)
    bare = took["bare Python"]
    print()
    for name, seconds in took.items():
        print(f"{name:<24}{1e3 * seconds:>7.0f} ms CPU {seconds / bare:>6.1f} times")
