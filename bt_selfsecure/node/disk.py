"""What the disk took for commits, and what SQLite and the kernel say when it refuses: a sentence with the remedy that
helps.

SQLite's own texts can hold what stands in a row, and a row can hold keys: only its code is used.
"""

from __future__ import annotations

import errno
import os
import pwd
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple


class DiskRefusal(NamedTuple):
    """Says why the journal can't be read or written, and what helps."""

    what: str
    remedy: str
    damaged: bool = False
    """The file is at fault, and waiting does not help."""

    def __str__(self) -> str:
        return f"{self.what}: {self.remedy}"


SET_ASIDE: Final = (
    "put a backup in its place (bt-selfsecure restore FILE), or begin with new keys: "
    "bt-selfsecure state set-aside moves all that is there to a folder"
)
"""The remedy for a state that can't be used. It destroys nothing."""
FULL: Final = DiskRefusal("the disk is full", "make room on it")
_BROKEN: Final = DiskRefusal("the disk does not work (an I/O error)", "see dmesg, and save the state elsewhere")
_LOCKED: Final = DiskRefusal("another program has locked the journal", "end it (an sqlite3 shell, say)")
_READ_ONLY: Final = DiskRefusal(
    "the journal can't be written",
    "is its disk mounted read-only (dmesg tells why), or does it belong to somebody else than the node?",
)
_DAMAGED: Final = DiskRefusal("the journal is damaged", SET_ASIDE, damaged=True)
_ELSEWHERE: Final = DiskRefusal(
    "its file system lacks locks or shared memory, as network and FUSE ones do",
    "name a [node] state_directory on a disk of this computer",
)
_REFUSALS: Final = {
    sqlite3.SQLITE_FULL: FULL,
    sqlite3.SQLITE_IOERR_SHMSIZE: FULL,  # of a file that is written to memory alone, which only a full disk refuses
    **dict.fromkeys(
        (
            sqlite3.SQLITE_IOERR_SHMMAP,
            sqlite3.SQLITE_IOERR_SHMLOCK,
            sqlite3.SQLITE_IOERR_LOCK,
            sqlite3.SQLITE_IOERR_RDLOCK,
        ),
        _ELSEWHERE,
    ),
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_PROTOCOL: _LOCKED,
    sqlite3.SQLITE_IOERR: _BROKEN,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_READONLY_ROLLBACK: DiskRefusal(
        "another program that changed it has not ended in order (journal.db-journal)",
        "let that program open it once more; or, where there was none, move that file away",
    ),
    sqlite3.SQLITE_PERM: _READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: DiskRefusal(
        "the journal can't be opened", "may the node use its folder and its files, and are not too many files open?"
    ),
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
}
"""By result code (sqlite.org/rescode.html); by the primary one where the extended one is not there."""
SQLITE_ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)
"""What Python's sqlite3 raises for SQLite's errors: the second where SQLite names what stands in a damaged schema, and
that is no UTF-8."""
_ANOTHER_PLACE: Final = "move it away, or name another [node] state_directory"


def refusal(error: sqlite3.Error | UnicodeDecodeError) -> DiskRefusal:
    """Return why SQLite refused, by the error's code; an error without one is a fault of the program that called
    SQLite."""
    if isinstance(error, UnicodeDecodeError):
        return _DAMAGED
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    found = _REFUSALS.get(code) or _REFUSALS.get(code & 0xFF)
    return found or DiskRefusal(f"the journal can't be used ({name})", "please report it")


def file_refusal(error: sqlite3.Error | UnicodeDecodeError) -> DiskRefusal:
    """Return why SQLite refused a file of which nothing was asked but what any journal has: so an error that SQLite has
    no code for is one of the file's schema, damaged too."""
    is_plain = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR
    return _DAMAGED if is_plain else refusal(error)


def is_full(error: sqlite3.Error) -> bool:
    """There is no room for it."""
    return refusal(error) is FULL


def is_damage(error: sqlite3.Error | UnicodeDecodeError) -> bool:
    """The file itself is at fault."""
    return refusal(error).damaged


def directory_refusal(error: OSError, directory: Path) -> DiskRefusal:
    """Return why the kernel does not let the node use its state directory, or a file in it."""
    what = error.strerror or type(error).__name__
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return FULL
        case errno.EIO:
            return _BROKEN
        case errno.EROFS:
            return DiskRefusal(
                "its disk is mounted read-only",
                "see dmesg for the reason, then mount -o remount,rw; the installed service may write to "
                "/var/lib/bt-selfsecure alone (ReadWritePaths= of its unit allows more)",
            )
        case errno.EACCES | errno.EPERM if os.geteuid():
            return _ownership(directory)
        case errno.EACCES | errno.EPERM:
            return DiskRefusal(f"not even root may ({what})", f"lsattr {directory} shows what is immutable; chattr -i")
        case errno.ENOLCK | errno.ENOSYS | errno.EOPNOTSUPP | errno.EINVAL:
            return _ELSEWHERE
        case errno.EMFILE | errno.ENFILE:
            return DiskRefusal("too many files are open", "raise LimitNOFILE= of the unit, or ulimit -n")
        case errno.EEXIST | errno.ENOTDIR | errno.ELOOP | errno.ENOENT if link := _to_nowhere(error, directory):
            return DiskRefusal(
                f"{'it' if link == directory else link} is a link to {link.readlink()}, and nothing is there",
                "mount that disk, or remove the link",
            )
        case errno.EEXIST | errno.ENOTDIR:
            return DiskRefusal("a file is where a folder should be", _ANOTHER_PLACE)
        case errno.EISDIR:
            found = Path(str(error.filename))
            kind = "a folder" if found.is_dir() else "no file"
            return DiskRefusal(f"{found.name} in it is {kind}", _ANOTHER_PLACE)
    return DiskRefusal(what, "name another [node] state_directory")


def _to_nowhere(error: OSError, directory: Path) -> Path | None:
    places = (directory, Path(os.fsdecode(error.filename or "")))
    return next((place for place in places if place.is_symlink() and not place.exists()), None)


def _ownership(directory: Path) -> DiskRefusal:
    try:
        owner = directory.stat().st_uid
    except OSError:
        return DiskRefusal("its folder is not open to this user", "use sudo")
    own = f"sudo chown -R {_user(os.geteuid())} {directory}"
    if owner == os.geteuid():
        return DiskRefusal("a file in it belongs to somebody else, as after a run with sudo", own)
    return DiskRefusal(f"it belongs to {_user(owner)}", f"use sudo, or give it to this user: {own}")


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


@dataclass(slots=True)
class Latency:
    """Counts what the disk took for commits since the start, in seconds; as `Journal` in api_types.py."""

    commits: int = 0
    seconds: float = 0.0
    slowest_s: float = 0.0

    def add(self, seconds: float) -> None:
        self.commits += 1
        self.seconds += seconds
        self.slowest_s = max(self.slowest_s, seconds)
