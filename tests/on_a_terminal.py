"""A program on a terminal of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence


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
