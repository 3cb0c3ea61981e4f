"""What a node keeps, as one file that is a journal itself, or in a folder of its own: backup, restore, set aside.

Neither the file system of a backup nor that of the state needs hard links, permissions, or (the backup's) locks: a FAT
stick has none of them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from bt_selfsecure.errors import UsageError
from bt_selfsecure.files import is_there
from bt_selfsecure.node import journal_file as journal
from bt_selfsecure.node import paired_copy
from bt_selfsecure.node import set_aside as aside
from bt_selfsecure.node.disk import SQLITE_ERRORS, directory_refusal, file_refusal, refusal
from bt_selfsecure.node.haoxiao.undelivered import Waiting, count_waiting, drop_waiting, mark_restored
from bt_selfsecure.node.journal_log import Known, logged
from bt_selfsecure.node.journal_mark import RESTORED, Mark, is_marked, mark, mark_beside, marked
from bt_selfsecure.node.row_numbers import last_reserved
from bt_selfsecure.node.set_aside import FILE, LOG, NEW, NEW_PAIRED

WAL_MODE: Final = slice(18, 20)
"""The bytes of the header that are 2 where there may be a WAL (sqlite.org/fileformat2.html, 1.3); a backup has none."""

ANOTHER_BACKUP: Final = "name another backup; the node's state stays as it is"


def has_lost_log(directory: Path) -> bool:
    """Return whether what a node that did not end in order kept last is gone, or the end of it. It is to be asked
    before `backup`, after which nobody knows."""
    with contextlib.suppress(OSError, *SQLITE_ERRORS):
        aside.only_files(directory)
        return _lacks(directory / FILE, Known.of(directory / FILE, mark_beside(directory / FILE)))
    return False


def _lacks(file: Path, known: Known) -> bool:
    """Return whether this journal has less than was known. Raises `sqlite3.Error`."""
    with contextlib.closing(journal.connect_read_only(file)) as database:
        last = last_reserved(database)  # and SQLite makes a new index of the log
        return known.has_lost(logged(file)) or known.mark.lacks(last)


def backup(directory: Path, target: Path) -> int:
    """Copy the state as it is on disk now, also while the node runs, and with it the peers that were paired; return the
    copy's size in bytes. It holds keys: mode 0600, where there are modes.

    Raises `UsageError`; then there is no copy.
    """
    source = directory / FILE
    try:
        if not is_there(source):
            raise UsageError(f"there is no state in {directory}: has a node ever run here?")
        try:
            aside.only_files(directory)
        except (IsADirectoryError, FileNotFoundError) as error:
            raise UsageError(f"can't back up {source}: {directory_refusal(error, directory)}") from None
        with _claimed(target) as new:
            try:
                _copy(source, new)
            except SQLITE_ERRORS as error:
                raise UsageError(f"can't back up {source} to {target}: {file_refusal(error)}") from None
            except journal.JournalError as error:
                raise UsageError(f"can't back up {source}: {error}") from None
            aside.sync_file(new)
            new.replace(target)
            aside.sync_folder(target.parent)
        return target.stat().st_size
    except FileExistsError:
        raise UsageError(f"{target} is there already: name a file that is not") from None
    except OSError as error:
        raise UsageError(f"can't back up {source} to {target} ({error.strerror}): use sudo, or another file") from None


def _copy(source: Path, new: Path) -> None:
    """As one file without companions. SQLite asks for no lock on it, which nobody else knows, and can't look at what it
    can't write beside: a card that has become read-only is copied as it is."""
    journal.inspect_head(source)
    with contextlib.closing(sqlite3.connect(f"{new.absolute().as_uri()}?vfs=unix-none", uri=True)) as copy:
        copy.execute("PRAGMA locking_mode = EXCLUSIVE")
        try:
            with contextlib.closing(
                sqlite3.connect(f"{source.absolute().as_uri()}?mode=rw", uri=True, timeout=10)
            ) as database:
                database.backup(copy)
        except sqlite3.OperationalError:
            if os.access(source.parent, os.W_OK):
                raise
            _copy_files(source, new)
        copy.execute("PRAGMA journal_mode = DELETE")
        paired_copy.put(copy, source.parent)
    journal.inspect(new, source, alone=True)


def _copy_files(source: Path, new: Path) -> None:
    """With what stands in the WAL alone, if there is one."""
    shutil.copyfile(source, new)
    if (log := source.with_name(f"{source.name}-wal")).is_file():
        shutil.copyfile(log, new.with_name(f"{new.name}-wal"))


class Restored(NamedTuple):
    """Says what `restore` has done."""

    old: Path | None
    """The folder where the state that was there lies now, if there was any."""
    waiting: Waiting
    """Messages that waited in the backup."""
    paired: tuple[str, ...]
    """Names of the peers in it that were paired. Where there are none, those that are in the state stay."""
    has_lost_log: bool
    """It was a folder in which the log of a node that did not end in order is gone, or the end of it."""


def restore(source: Path, directory: Path, *, drop_messages: bool = False) -> Restored:
    """Put a backup, or a folder that was set aside, in the place of the state, with or without the messages that waited
    in it. Peers that were paired are replaced by those in it, if it has any.

    Raises `UsageError` for what is no backup and while a node runs; then nothing is changed.
    """
    source = _found(source, directory)
    try:
        with journal.locked(directory) as lock:
            _refuse_half(source, directory)
            with _folder(directory) as folder:
                waiting, has_lost_log = _take(source, folder, drop_messages)
                paired = paired_copy.take(folder / FILE, source, folder / NEW_PAIRED, ANOTHER_BACKUP)
                journal.finish_replacing(directory)  # what a restore that was cut short has left, if it was that far
                aside.no_new_paired(directory)
                if paired:
                    (folder / NEW_PAIRED).replace(directory / NEW_PAIRED)
                    aside.sync_folder(directory)
                mark(lock, RESTORED, marked(lock).numbers)
                (folder / FILE).replace(directory / NEW)
            return Restored(aside.put_in_place(directory), waiting, paired, has_lost_log)
    except OSError as error:
        raise UsageError(f"can't restore {source}: {directory_refusal(error, directory)}") from None
    except SQLITE_ERRORS as error:
        raise UsageError(f"can't restore {source}: {refusal(error)}") from None
    except journal.JournalError as error:
        raise UsageError(f"can't restore {source}: {error}") from None


def _found(source: Path, directory: Path) -> Path:
    """The file itself. Raises `UsageError`."""
    try:
        if source.is_dir() and not (directory.is_dir() and source.samefile(directory)):
            source = source / FILE
        if not (is_there(source) and source.is_file()):
            raise UsageError(f"there is no backup {source}: bt-selfsecure backup makes one")
        source.open("rb").close()
    except OSError as error:
        raise UsageError(f"can't read {source} ({error.strerror}): use sudo") from None
    return source


def _refuse_half(source: Path, directory: Path) -> None:
    """Of a journal that was moved away by hand the newest part may have stayed. Raises `UsageError`."""
    log = directory / LOG
    alone = not source.with_name(f"{source.name}-wal").exists()
    with source.open("rb") as file:
        needs_log = file.read(WAL_MODE.stop)[WAL_MODE] == b"\2\2"
    if alone and needs_log and not (directory / FILE).exists() and log.exists() and log.stat().st_size:
        raise UsageError(
            f"{source} seems to be a part of the state, of which the other is {log}: "
            f"mv {source} {directory / FILE}, then start the node; or first bt-selfsecure state set-aside"
        )


def _take(source: Path, folder: Path, drop_messages: bool) -> tuple[Waiting, bool]:
    """Its copy in the folder, with what stood in its WAL, judged; what waited in it, and whether it has less than it
    had."""
    new, known = folder / FILE, Known.of(source, mark_beside(source))
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    _copy_files(source, new)
    journal.inspect(new, source, remedy=ANOTHER_BACKUP)
    lacks = source.name == FILE and _lacks(new, known)
    with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = DELETE")
        journal.migrate(database)
    waiting = count_waiting(new)
    if drop_messages:
        drop_waiting(new)
    mark_restored(new)
    aside.give_to_owner(new)
    aside.sync_file(new)
    return waiting, lacks


def set_aside(directory: Path) -> Path | None:
    """Move all that is kept, also of peers that were paired, to a folder, which `restore` takes, and return it; None
    where nothing of a state is left. Raises `UsageError`; then nothing is changed."""
    try:
        had_state = is_there(directory)
        if had_state:
            with journal.locked(directory) as lock:
                journal.finish_replacing(directory)  # of a restore that was cut short: else the next start would
                folder = aside.set_aside(directory, aside.OF_PAIRED)
                had_state = bool(folder or is_marked(lock))
                if folder:
                    _mark_aside(folder, marked(lock))
                mark(lock)
    except OSError as error:
        raise UsageError(f"can't set {directory} aside: {directory_refusal(error, directory)}") from None
    except journal.JournalError as error:
        raise UsageError(str(error)) from None
    if not had_state:
        raise UsageError(f"there is no state in {directory}: has a node ever run here?")
    return folder


def _mark_aside(folder: Path, before: Mark) -> None:
    """Keep what tells whether what lies there is whole. Raises `OSError`."""
    with journal.locked(folder) as lock:
        mark(lock, *before)


def is_open_to_others(path: Path) -> bool:
    """Return whether others can read it, as on FAT, where nothing is private."""
    return bool(path.stat().st_mode & 0o077)


@contextlib.contextmanager
def _claimed(target: Path) -> Iterator[Path]:
    """A new file for its owner alone, beside the target, whose name is taken meanwhile: to be renamed to it. After an
    exception both are gone. Raises `FileExistsError`."""
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        os.close(descriptor)
        try:
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)
    except BaseException:
        target.unlink()
        raise


@contextlib.contextmanager
def _folder(directory: Path) -> Iterator[Path]:
    """A new one for the node alone, gone afterwards. The directory is locked, so what has its name is a left-over."""
    folder = directory / ".restore"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    try:
        aside.give_to_owner(folder)
        yield folder
    finally:
        shutil.rmtree(folder)
