"""The three standard streams, made so that no command need think of them: closed, full, of whatever encoding.

Python takes a closed stream for None, and gives its number to the next file that is opened. It raises whatever the
system says of a full disk, in the middle of a command or at exit, and refuses letters that the terminal has not.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable
from io import BufferedReader, BufferedWriter, FileIO, TextIOWrapper
from typing import TYPE_CHECKING, Final, NoReturn, TextIO, TypeVar

from bt_selfsecure.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

T = TypeVar("T")

USELESS: Final = {0: os.O_WRONLY, 1: os.O_RDONLY, 2: os.O_WRONLY}
"""How /dev/null takes the place of a closed stream: whoever reads the input or writes the output is told EBADF (as
gnulib's `stdopen` does it), and complaints vanish."""
INTERRUPTED: Final = 130
"""As a shell tells a program that Ctrl-C ended."""


class _Input(FileIO):
    """Standard input. UsageError where it can't be read."""

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        return _told("read standard input", lambda: super(_Input, self).readinto(buffer))

    def readall(self) -> bytes:
        return _told("read standard input", super().readall)


class _Output(BufferedWriter):
    """Standard output. UsageError where it can't be written, BrokenPipeError where nobody reads it any more.

    Not below the buffer, as the input: a Ctrl-C that fell between the system's call and its return to the buffer would
    leave there what was written, to be written once more.
    """

    def write(self, data: ReadableBuffer, /) -> int:
        return _told("write the output", lambda: super(_Output, self).write(data))

    def flush(self) -> None:
        _told("write the output", super().flush)


class _Complaints(BufferedWriter):
    """Standard error: what can't be said there can be said nowhere, and must not change the exit status."""

    def write(self, data: ReadableBuffer, /) -> int:
        with contextlib.suppress(OSError):
            return super().write(data)
        return memoryview(data).nbytes

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()


def _told(what: str, do: Callable[[], T]) -> T:
    try:
        return do()
    except (BrokenPipeError, BlockingIOError):
        raise
    except OSError as error:
        why = "it is closed" if error.errno == errno.EBADF else error.strerror
        raise UsageError(f"can't {what} ({why})") from None


def take() -> None:
    """Put ours in the place of Python's, once at the start of the program."""
    for number, way in USELESS.items():
        try:
            os.fstat(number)
        except OSError:  # closed, and so is the lowest number that is free
            os.set_inheritable(os.open(os.devnull, way), True)
    sys.stdin = TextIOWrapper(BufferedReader(_Input(0, closefd=False)), _encoding(sys.stdin))
    sys.stdout = _text(_Output(FileIO(1, "w", closefd=False)), sys.stdout, "replace")
    sys.stderr = _text(_Complaints(FileIO(2, "w", closefd=False)), sys.stderr, "backslashreplace")


def _text(output: BufferedWriter, before: TextIO | None, errors: str) -> TextIOWrapper:
    """As buffered as Python's own was, which knows of terminals and PYTHONUNBUFFERED."""
    by_line = isinstance(before, TextIOWrapper) and (before.line_buffering or before.write_through)
    return TextIOWrapper(output, _encoding(before), errors, line_buffering=by_line)


def _encoding(before: TextIO | None) -> str:
    return before.encoding if before else "utf-8"


def drop_output() -> None:
    """Drop what can't be written, or Python tries it again at exit, complains, and exits with 120."""
    try:
        sys.stdout.flush()
    except (OSError, UsageError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def leave(status: int) -> NoReturn:
    """End this process now: whatever it held, it has let go by itself. Python would first take down every module, which
    with Dask is 0.15 s on a CPU and seconds on a busy one, and may trip over a thread that still reads."""
    sys.stderr.flush()
    os._exit(status)
