"""A program on a terminal of its own."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


def spawn(words: Sequence[str], environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """The program's process, leader of a session, and the terminal that controls it, as one reads and types there.

    Not `pty.fork`: to fork where threads run, as pytest-xdist's do, is deprecated since Python 3.12.
    """
    ours, theirs = os.openpty()
    files = [(os.POSIX_SPAWN_OPEN, 0, os.ttyname(theirs), os.O_RDWR, 0)]
    files += [(os.POSIX_SPAWN_DUP2, 0, copy) for copy in (1, 2)]
    pid = os.posix_spawnp(words[0], words, environment, file_actions=files, setsid=True)
    os.close(theirs)
    return pid, ours


def interrupt_when_it_waits(pid: int, terminal: int) -> None:
    """Type Ctrl-C once the program sleeps: Python remembers one that falls between its question and its read, and goes
    to sleep all the same."""
    until = time.monotonic() + 60
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
        assert time.monotonic() < until
        time.sleep(0.001)
    os.write(terminal, b"\x03")


def ended(pid: int, terminal: int) -> tuple[int, bytes]:
    """The exit status of a program that ends by itself, and what it still wrote; the terminal is closed.

    Linux may say that the other end is closed (EIO) before it has handed over what was written last: so what comes when
    the process is gone is read, too.
    """
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    rest = b""
    os.set_blocking(terminal, False)
    with contextlib.suppress(OSError):
        while new := os.read(terminal, 65536):
            rest += new
    os.close(terminal)
    return status, rest
