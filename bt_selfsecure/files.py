"""What a command leaves on disk: all of it or nothing, and a place that can't be written is found before the work."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from bt_selfsecure.errors import UsageError

OWNER: Final = 0o600
"""Mode of a file of secrets."""


def is_there(path: Path) -> bool:
    """Return whether anything has this name. Unlike `Path.exists`, which says no there since Python 3.14, it raises
    `OSError` where that can't be seen, as in another user's folder."""
    try:
        path.stat()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        return False
    return True


def private(path: Path) -> bytes:
    """Return what a file of secrets holds. Raises `UsageError` where others may read it, or it can't be read."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            if mode & 0o077:
                raise UsageError(f"{path} holds a secret and others may read it (mode {mode:03o}): chmod 600 {path}")
            return file.read()
    except OSError as error:
        raise UsageError(f"can't read {path} ({error.strerror}): name a file of yours") from None


def write_private(path: Path, data: bytes, *, new: bool = False) -> None:
    """Put this in the place of the file, readable for its owner alone, and return once it is on the disk.

    Raises `UsageError` where it can't be written, with `new` where there is one already, and for a name that is none.
    """
    if not path.name:
        raise UsageError(f"{path} is a folder: name a file in it")
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if new and is_there(path):
            raise UsageError(f"{path} is there already: name another, or remove it if nothing uses its keys any more")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, OWNER)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise UsageError(f"can't write {path} ({error.strerror}): make room there, or name another folder") from None


@contextmanager
def whole(file: Path, mode: int = 0o666) -> Iterator[Path]:
    """Yield a path to write to, made at once, which takes the place of `file` at the end; after an exception nothing is
    left.

    `mode` is as for `Path.touch`. A device or FIFO is written to as it is. UsageError where `file` can't be written,
    nearly always before anything is yielded.
    """
    if file.exists() and not (file.is_file() or file.is_dir()):
        yield file
        return
    part = file.parent / f"{file.name}.part"  # a folder may have no name to go with: "." or ""
    try:
        if file.is_dir():
            raise IsADirectoryError(0, "it is a folder", str(part))
        part.touch(mode)
        part.chmod(part.stat().st_mode & mode)
        yield part
        part.replace(file)
    except OSError as error:
        if error.filename not in (None, str(part), part):
            raise
        raise UsageError(f"can't write {str(file)!r} ({error.strerror}): choose another place") from error
    finally:
        with suppress(OSError):
            part.unlink()


@contextmanager
def folder(directory: Path, names: Collection[str] = ()) -> Iterator[Path]:
    """Yield a temporary folder whose files replace those in `directory` at the end; after an exception nothing is left.

    UsageError, before anything is yielded, where `directory` can't be written or has folders of these `names`.
    """
    fresh = not directory.exists()
    try:
        directory.mkdir(exist_ok=True)
    except OSError as error:
        raise UsageError(f"can't write into {directory} ({error.strerror}): give --out a folder") from None
    for name in names:
        if (directory / name).is_dir():
            raise UsageError(f"can't write {directory / name} (it is a folder): give --out another one")
    try:
        part = Path(tempfile.mkdtemp(prefix=".part-", dir=directory))
    except OSError as error:
        raise UsageError(f"can't write into {directory} ({error.strerror}): give --out a folder of yours") from None
    try:
        yield part
        for file in sorted(part.iterdir()):
            _replace(file, directory / file.name)
    except BaseException:
        shutil.rmtree(part)
        if fresh:
            directory.rmdir()
        raise
    part.rmdir()


def _replace(file: Path, old: Path) -> None:
    try:
        file.replace(old)
    except OSError as error:
        raise UsageError(f"can't write {old} ({error.strerror}): give --out another folder") from None
