"""How much the journal's log holds, and whether that is all that it held: by its index, which tells how many frames
there were.

SQLite reads its log up to the first frame whose checksum is wrong, and takes what is behind it for a transaction that
was under way: so a log that the card cut back, or in which it changed a byte, seems to be one that never had more. But
it tells the index of a commit once that is synced, and makes a new index of the log at the next start. Nothing syncs
the index: after a loss of power it may be half a minute older than the log, and of that time nothing is known.
"""

from __future__ import annotations

import contextlib
import os
import struct
from bisect import bisect_left
from pathlib import Path
from typing import Final, NamedTuple

from bt_selfsecure.node.journal_mark import LOST, Mark
from bt_selfsecure.node.row_numbers import reserved_in_file

INDEX: Final = struct.Struct("=16xI12x4s4s8x48xI")
"""The index begins with its head, 48 bytes in the machine's order, and that once more; then how much was copied
(sqlite.org/walformat.html, 2.1)."""
HEAD_BYTES: Final = 48
LOG_HEAD_BYTES: Final = 32
PAGE_SIZE: Final = slice(8, 12)
SALTS: Final = slice(16, 24)
FRAME_HEAD_BYTES: Final = 24
PAGES_AFTER: Final = slice(4, 8)
"""Of the database, in the head of a transaction's last frame; zero in all others."""
FRAME_SALTS: Final = slice(8, 16)
"""In the log itself: its head, and that before the page of each frame (sqlite.org/fileformat2.html, 4.1)."""
NO_SALTS: Final = bytes(4), bytes(4)
"""What stands there where the log has no head, or one of something else."""


class Logged(NamedTuple):
    """Says what an index knows of its log."""

    frames: int
    """With those of the newest commit."""
    salts: tuple[bytes, bytes]
    """Both are others each time that the log begins anew; in a damaged head one of them may be, too."""
    copied: int
    """So many of the frames stand in the database, too."""

    def has_lost(self, now: Logged, sync_each: bool = True) -> bool:
        """Return whether a log of which this was known has lost a commit, if an index made from it says `now`. Unless
        each commit was synced, whether it has lost one that was."""
        is_new = now.salts != NO_SALTS and now.salts[0] != self.salts[0] and now.salts[1] != self.salts[1]
        if is_new or now.frames >= self.frames:
            return False
        if not now.frames:
            return self.copied < self.frames  # or all of it stands in the database
        return sync_each or now.frames < self.copied  # which were synced before they were copied


class Known(NamedTuple):
    """Says what was known of a journal that nobody has opened since the node did."""

    mark: Mark
    log: Logged
    in_file: int | None
    """Up to which number they are reserved in the journal's file without its log."""

    @classmethod
    def of(cls, file: Path, mark: Mark) -> Known:
        """Look at a journal that is there, with what the lock file says of it."""
        return cls(mark, logged(file), reserved_in_file(file))

    def has_lost(self, now: Logged, sync_each: bool = True) -> bool:
        """Return whether something of it is gone, if an index made from its log says `now`; as `Logged` does."""
        is_older = self.in_file is not None and self.in_file < self.mark.in_file
        has_lost_log = self.mark.log_was_in_use and self.log.has_lost(now, sync_each)
        return is_older or has_lost_log or self.mark.word == LOST


def logged(file: Path) -> Logged:
    """Return what the index of this journal's log says; of one that is not there, or was being written, nothing. The
    caller's process has no connection to the journal: closing the index would give up its locks."""
    index = file.with_name(f"{file.name}-shm")
    with contextlib.suppress(OSError):
        data = b""
        if index.is_file():  # a pipe would be waited for
            with index.open("rb") as opened:
                data = opened.read(INDEX.size)
        if len(data) == INDEX.size and data[:HEAD_BYTES] == data[HEAD_BYTES : 2 * HEAD_BYTES]:
            frames, *salts, copied = INDEX.unpack(data)
            return Logged(frames, (salts[0], salts[1]), copied)
    return Logged(0, NO_SALTS, 0)


def written(log: Path) -> int:
    """Return how many bytes of this log were written since it began anew: the frames of those, the first in it, have
    the salts of its head; what was filled with zeros has none."""
    with contextlib.suppress(OSError), log.open("rb", buffering=0) as file:
        frames = _Frames(file.fileno())
        number = bisect_left(range(frames.there), True, key=lambda number: not frames.is_new(frames.head(number)))
        return frames.end(number) if number else 0
    return 0


def committed(log: Path) -> int:
    """Return how many bytes of this log there are to the end of its last transaction, wherever it is: what is damaged
    before that is none of its end. Raises `OSError`."""
    with log.open("rb", buffering=0) as file:
        frames = _Frames(file.fileno())
        for number in reversed(range(frames.there)):
            head = frames.head(number)
            if any(head[PAGES_AFTER]) and frames.is_new(head):
                return frames.end(number + 1)
    return 0


class _Frames:
    """Reads the heads of a log's frames. One without a head has none."""

    def __init__(self, file: int) -> None:
        self._file, head = file, os.pread(file, LOG_HEAD_BYTES, 0)
        self._salts, self._bytes = head[SALTS], FRAME_HEAD_BYTES + int.from_bytes(head[PAGE_SIZE])
        self.there = (os.fstat(file).st_size - LOG_HEAD_BYTES) // self._bytes if any(head) else 0

    def head(self, number: int) -> bytes:
        return os.pread(self._file, FRAME_HEAD_BYTES, self.end(number))

    def is_new(self, head: bytes) -> bool:
        return head[FRAME_SALTS] == self._salts

    def end(self, number: int) -> int:
        """Where so many end, and the next one begins."""
        return LOG_HEAD_BYTES + number * self._bytes
