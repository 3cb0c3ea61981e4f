"""What SQLite refuses of a sweep's record, in words of those who have the file, and what to do."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path
from typing import Final

from bt_selfsecure.errors import UsageError

_REMEDIES: Final = {
    "not a database": "{} can't be used, it is not a sweep: name the file that `sweep run` or `sweep import` wrote",
    "locked": "another program is writing to the sweep {}: wait for it, or end it",
    "readonly": "the sweep {} can't be written: make the file and its folder writable, or name another",
    "unable to open": "can't open the sweep {} ({why}): {remedy}",
    "disk is full": "there is no space left for the sweep {}: free some and do it again",
    "malformed": "the sweep {} is damaged, can't be used: take a copy, or recover it with sqlite3's .recover",
    "disk I/O error": "the disk refuses the sweep {}: look at `dmesg`, or choose another place",
    "no such table": "the sweep {} lacks a table, can't be used: name another",
    "surrogates not allowed": "a name for the sweep {} is not text in UTF-8: write it anew",
    "too large": "a number for the sweep {} is beyond 64 bits: look for a slip",
}
"""What users can do, by SQLite's words."""
_NO_MORE: Final = (os.strerror(errno.EMFILE), os.strerror(errno.ENFILE))
_NO_FILES: Final = "end what holds so many, or raise the limit (`ulimit -n`, or LimitNOFILE= of the unit)"


def refused(path: Path, error: Exception) -> UsageError:
    """Return one sentence with a remedy, as an error to be raised."""
    if isinstance(error, sqlite3.IntegrityError):
        return UsageError(f"the run does not fit the record ({_said(error)}): nothing of it was written")
    for words, sentence in _REMEDIES.items():
        if words in str(error):
            why = _why_not_open(path)
            remedy = _NO_FILES if why in _NO_MORE else "choose another place, a folder that is there and writable"
            return UsageError(sentence.format(repr(str(path)), why=why, remedy=remedy))
    return UsageError(f"the sweep {str(path)!r} can't be used ({error}): name another")


def _why_not_open(path: Path) -> str:
    """Return why the file can't be opened. SQLite tells no cause: the system does."""
    try:
        path.open("r+b").close()
    except FileNotFoundError:
        if not path.parent.is_dir():
            return os.strerror(errno.ENOENT)
        read_only = os.statvfs(path.parent).f_flag & os.ST_RDONLY
        return os.strerror(errno.EROFS if read_only else errno.EACCES)
    except OSError as error:
        return os.strerror(error.errno or 0)
    return "no file can be made beside it"


def _said(error: sqlite3.IntegrityError) -> str:
    """Return a broken rule in words: SQLite names its kind and the rule."""
    kind, _, rule = str(error).partition(" constraint failed: ")
    match kind:
        case "CHECK":
            return f"{rule} does not hold"
        case "NOT NULL":
            return f"{rule} is missing"
    return str(error)
