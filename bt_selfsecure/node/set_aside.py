"""What a node keeps, moved aside or replaced: nothing of it is destroyed, and a crash in between loses nothing.

A journal is replaced in three steps: the new one, complete, gets the name `journal.db.new`; what is there moves to a
folder; the new one gets the old one's name. From the first step on the next start does the others. Peers that were
paired are replaced with it where they lie ready, in `paired.new`, before the first step.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from bt_selfsecure.files import is_there

FILE: Final = "journal.db"
LOG: Final = f"{FILE}-wal"
"""Where the newest of the state stands until SQLite brings it into the file."""
NEW: Final = f"{FILE}.new"
FILES: Final = (FILE, LOG, f"{FILE}-journal", f"{FILE}-shm")
PAIRED: Final = "paired.toml"
PAIRED_KEYS: Final = "paired"
OF_PAIRED: Final = (PAIRED_KEYS, PAIRED)
"""The list of peers that were paired, and the folder of their keys, which is there before whoever names them."""
NEW_PAIRED: Final = "paired.new"
"""A folder of both, which means something while there is a `journal.db.new` alone."""


def only_files(directory: Path, names: Collection[str] = FILES) -> None:
    """Raises `OSError` where something else has the name of a file of the journal's: a pipe would be waited for, and
    for a link to nothing beside the journal SQLite has no words."""
    for name in names:
        path = directory / name
        if is_there(path) and not path.is_file():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if name != FILE and path.is_symlink() and not path.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


def set_aside(directory: Path, others: Collection[str] = ()) -> Path | None:
    """Move the journal, and others of these names, to a new folder in the directory, which `state.restore` takes; None
    if there is none of them.

    The directory is locked by the caller. Raises `OSError`.
    """
    return move_aside(directory, (*FILES, *others))


def move_aside(directory: Path, names: Collection[str]) -> Path | None:
    """Move what has one of these names, as `set_aside` does the journal."""
    files = [directory / name for name in names if os.path.lexists(directory / name)]
    if not files:
        return None
    name, number = f"set-aside-{time.strftime('%Y%m%d-%H%M%S')}", 1
    folder = directory / name
    while folder.exists():
        number += 1
        folder = directory / f"{name}-{number}"
    folder.mkdir(mode=0o700)
    give_to_owner(folder)
    for file in files:
        file.replace(folder / file.name)
    sync_folder(folder)
    sync_folder(directory)
    return folder


@contextlib.contextmanager
def new_file(directory: Path) -> Iterator[Path]:
    """Make an empty file for the node alone, to write a journal to: it is `journal.db.new` afterwards, and gone after
    an exception.

    The directory is locked by the caller. Raises `OSError`.
    """
    part = directory / f"{NEW}.part"
    part.unlink(missing_ok=True)
    try:
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        yield part
        give_to_owner(part)
        sync_file(part)
        no_new_paired(directory)
        part.replace(directory / NEW)
    finally:
        part.unlink(missing_ok=True)


def no_new_paired(directory: Path) -> None:
    """Remove what a restore that was cut short has left: nothing was replaced by it. The directory is locked by the
    caller, and has no `journal.db.new`. Raises `OSError`."""
    if (directory / NEW_PAIRED).exists():
        shutil.rmtree(directory / NEW_PAIRED)


def put_in_place(directory: Path) -> Path | None:
    """Let `journal.db.new` be the journal, if there is one, and what lies in `paired.new` the peers that were paired;
    return the folder where what was there lies now.

    The directory is locked by the caller. Raises `OSError`.
    """
    new = directory / NEW
    if not new.exists():
        return None
    paired = directory / NEW_PAIRED
    names = [name for name in OF_PAIRED if (paired / name).exists()]
    old = set_aside(directory, names)
    for name in names:
        (paired / name).replace(directory / name)
    if paired.exists():
        sync_folder(directory)
        paired.rmdir()
    new.replace(directory / FILE)
    sync_folder(directory)
    return old


def give_to_owner(path: Path) -> None:
    """Give what root has made in a folder to whom the folder belongs: the node is not root. Raises `OSError`."""
    owner = path.parent.stat()
    if os.geteuid() == 0:
        try:
            os.chown(path, owner.st_uid, owner.st_gid)
        except OSError:  # as on FAT, where all belongs to one user
            if path.stat().st_uid != owner.st_uid:
                raise


def sync_file(path: Path) -> None:
    """Bring a file to the disk. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(directory: Path) -> None:
    """Bring a folder to the disk where the file system can: not all know that of folders. Raises `OSError`."""
    try:
        sync_file(directory)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


def identity(path: Path) -> tuple[int, int] | None:
    """Return what tells this file from every other one, device and inode; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
