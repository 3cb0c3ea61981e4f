"""The file beside a study's table: what is done already, and the lock that lets one study write."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any, Final, NamedTuple
from zlib import crc32

from bt_selfsecure.errors import UnreadableError, UsageError
from bt_selfsecure.sweep.study_pieces import StudyTotals

_TO_DO: Final = "remove it, or name another --out"


class KeptLine(NamedTuple):
    """This is a line of the file: an outcome, of which the grid tells the rest."""

    point: int
    number: int
    received: int
    missed: dict[int, int]


class Keeper:
    """This is the file, open and locked."""

    def __init__(self, file: FileIO, path: Path, lines: int) -> None:
        self._file, self._path = file, path
        self.lines = lines

    def keep(self, outcome: StudyTotals) -> None:
        """Append it. Raises `UsageError` where the disk takes no more."""
        self._write(outcome.piece.point, outcome.piece.number, outcome.received, outcome.missed)

    def begin(self, made_by: Mapping[str, Any]) -> None:
        """Write the first line, of what made those after it, unless it is there."""
        if not self.lines:
            self._write(made_by)

    def _write(self, *content: Any) -> None:
        data = memoryview(json.dumps([*content, _check(content)]).encode() + b"\n")
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise UsageError(f"can't write {self._path} ({error.strerror}): make room, and it goes on") from error
        self.lines += 1


@contextmanager
def kept(path: Path, made_by: dict[str, Any], take: Callable[[KeptLine], None]) -> Iterator[Keeper]:
    """Lock the file, `take` each line that is there, and yield what keeps more. Without a line it vanishes again.
    Raises `UsageError` if it is another study's, or damaged, or can't be written."""
    with _locked(path) as file:
        keeper = Keeper(file, path, _read(file, path, made_by, take))
        try:
            keeper.begin(made_by)
            yield keeper
        finally:
            if keeper.lines < 2:
                path.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[FileIO]:
    """Yield the file for this process alone; after another one has ended and removed it, a new one."""
    while True:
        try:
            file = FileIO(path, "a+")
        except OSError as error:
            raise UsageError(f"can't write {path} ({error.strerror}): choose another --out") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError(f"another study writes {path}: wait for it, or name another --out") from error
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                yield file
                return


def _read(file: FileIO, path: Path, made_by: dict[str, Any], take: Callable[[KeptLine], None]) -> int:
    """Return the count of the lines. One that was cut off in the middle is cut off wholly."""
    end = lines = 0
    file.seek(0)
    try:
        with path.open("rb") as reader:
            for line in reader:
                if not line.endswith(b"\n"):
                    break
                *content, check = json.loads(line)
                if check != _check(content):
                    raise UnreadableError(f"line {lines + 1} is not as it was written")
                if not lines:
                    _require(content[0] if content else None, made_by, path)
                else:
                    point, number, received, missed = content
                    take(KeptLine(point, number, received, {int(k): count for k, count in missed.items()}))
                lines, end = lines + 1, end + len(line)
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise UsageError(f"{path} is damaged ({error}): remove it; the study then begins anew") from error
    file.truncate(end)
    return lines


def _check(content: Sequence[Any]) -> int:
    """Return what ends a line: no table is made of one that a disk has changed."""
    return crc32(json.dumps([*content]).encode())


def _require(found: Any, made_by: dict[str, Any], path: Path) -> None:
    if found == made_by:
        return
    if not (isinstance(found, dict) and made_by.keys() <= found.keys()):
        raise UnreadableError("line 1 does not say what made it")
    if found.get("grid") == made_by["grid"]:
        had, have = (" ".join(f"{k} {v}" for k, v in each["versions"].items()) for each in (found, made_by))
        raise UsageError(f"{path} is of another version ({had}; this is {have}): {_TO_DO}")
    raise UsageError(f"{path} belongs to another grid or version: {_TO_DO}")
