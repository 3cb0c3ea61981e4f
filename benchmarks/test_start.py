"""How long a command takes to start, as CPU time and in starts of bare Python. Run with `pytest benchmarks -s`."""

from __future__ import annotations

import subprocess
import sys
from resource import RUSAGE_CHILDREN, getrusage
from typing import Final

ROUNDS: Final = 7
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


def cpu_s(*arguments: str) -> float:
    """The least of several starts: what else the machine does only adds."""

    def once() -> float:
        before = getrusage(RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], stdin=subprocess.DEVNULL, capture_output=True, check=False)
        after = getrusage(RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return min(once() for _ in range(ROUNDS))


def test_the_table_of_starts() -> None:
    bare = cpu_s("-c", "pass")
    took = {command: cpu_s("-m", "bt_selfsecure", *command.split()) for command in COMMANDS}
    print(f"\n{'bare Python':<24}{1e3 * bare:>7.0f} ms CPU")
    for command, seconds in took.items():
        print(f"{command:<24}{1e3 * seconds:>7.0f} {seconds / bare:>6.1f} times")
