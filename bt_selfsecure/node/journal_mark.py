"""What the lock file says of the state beside it: so one that the card has lost is not taken for one that never was,
nor an old one for the newest.

It says up to which numbers the node has given out that was the last to have the state. Each log begins with a commit
that reserves more than were before, and only then they stand here: so a state without that log has fewer, and one that
an older log was put beside.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Final, NamedTuple
from zlib import crc32

LOCK: Final = "lock"
IN_USE: Final = "in use"
"""The log has something in it, which is safe from a loss of power."""
LOST: Final = "lost"
"""As before, and a part of the log is gone, which has not been told yet by a node that could keep anything."""
SETTLED: Final = "settled"
CLOSED: Final = "closed"
"""The node has ended in order."""
RESTORED: Final = "restored"
"""What is there now is older, as somebody wanted it."""
FORM: Final = re.compile(
    rf"(({IN_USE}|{LOST}|{SETTLED}|{CLOSED}|{RESTORED})(?: ([0-9]+)(?: of ([0-9]+))?)?)(?: #([0-9a-f]{{8}}))?"
)
"""Older versions wrote no checksum."""
LENGTH: Final = 64
"""Of all of them: a crash while one is written leaves no end of the one before."""


class Mark(NamedTuple):
    """Is what stands there; nothing where there is no state, and where it is damaged."""

    word: str = ""
    numbers: int = 0
    """Up to which they were given out; 0 where nobody knows."""
    in_file: int = 0
    """Of them so many stand in the journal's file without its log, or more."""

    def lacks(self, numbers: int) -> bool:
        """Return whether a state in which so many are reserved is older than what was there."""
        return self.word != RESTORED and numbers < self.numbers

    @property
    def log_was_in_use(self) -> bool:
        """Return whether there is a log that has something in it, unless another program has taken it away."""
        return self.word in {IN_USE, LOST}


def mark(descriptor: int, word: str = "", numbers: int = 0, in_file: int = 0) -> None:
    """Write this to the lock file, or that there is no state any more; where the disk does not take it, it is told of a
    lost state later, or nothing is told of one."""
    what = word + (f" {numbers}" if numbers else "") + (f" of {in_file}" if numbers and in_file else "")
    with contextlib.suppress(OSError):
        os.pwrite(descriptor, f"{what} #{_check(what)}".ljust(LENGTH).encode() if what else b"", 0)
        os.ftruncate(descriptor, LENGTH if what else 0)
        os.fsync(descriptor)


def is_marked(descriptor: int) -> bool:
    """Return whether there has been a state, also where the mark is damaged."""
    return bool(_content(descriptor))


def marked(descriptor: int) -> Mark:
    """Return what stands in the lock file."""
    return _mark_of(_content(descriptor))


def mark_beside(file: Path) -> Mark:
    """Return what the lock file in the folder of this journal says, if there is one."""
    lock = file.with_name(LOCK)
    with contextlib.suppress(OSError):
        return _mark_of(lock.read_bytes()[: LENGTH + 1] if lock.is_file() else b"")  # a pipe would be waited for
    return Mark()


def _content(descriptor: int) -> bytes:
    with contextlib.suppress(OSError):
        return os.pread(descriptor, LENGTH + 1, 0)
    return b""


def _mark_of(content: bytes) -> Mark:
    found = FORM.fullmatch(content.decode("ascii", errors="replace").rstrip(" "))
    if not found or found[5] not in {None, _check(found[1])}:
        return Mark()
    return Mark(found[2], int(found[3] or 0), int(found[4] or 0))


def _check(what: str) -> str:
    return f"{crc32(what.encode()):08x}"
