"""Captures in gzip or Zstandard, unpacked as they are read: never more than a chunk is held, however much is inside."""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from typing import Final, Protocol, cast

from bt_selfsecure.errors import UsageError
from bt_selfsecure.eve.sources.packet import BOMB, CUT_SHORT, DAMAGED

FREE_BYTES: Final = 1 << 26
"""Unpacked, that a file may hold whatever its own size."""
MOST_EXPANDED: Final = 100
"""Times its own size that it may hold beyond: real captures come to some ten, bombs to a thousand and more."""


class Readable(Protocol):
    """Is an unbuffered binary file: `read` gives what is there, b"" at the end."""

    def read(self, size: int, /) -> bytes | None: ...


class _Unpacking(Protocol):
    """What the libraries have in common."""

    def read1(self, size: int, /) -> bytes: ...


class _Begun:
    """A file of which some bytes were read already: gives them again, and counts what it gave."""

    def __init__(self, file: Readable, start: bytes) -> None:
        self._file, self._start = file, start
        self.given = 0

    def read(self, size: int = 1 << 16, /) -> bytes:
        data, self._start = self._start[:size], self._start[size:]
        data = data or self._file.read(size) or b""
        self.given += len(data)
        return data


class Unpacked:
    """Gives what is inside a compressed file, as a `Readable`. It ends where the file is damaged, which is counted."""

    def __init__(self, file: Readable, start: bytes, faults: Counter[str]) -> None:
        """`start` was read of it already, and `is_compressed`. UsageError if no library unpacks it."""
        self._packed: Final = _Begun(file, start)
        unpack = next(unpack for magic, unpack in _FORMS.items() if start.startswith(magic))
        self._inside, self._fault = unpack(self._packed)
        self._faults: Final = faults
        self._had = 0

    def read(self, size: int, /) -> bytes:
        try:
            data = self._inside.read1(size)
        except EOFError:
            return self._ended(CUT_SHORT)
        except self._fault:
            return self._ended(DAMAGED)
        self._had += len(data)
        if self._had > FREE_BYTES + MOST_EXPANDED * self._packed.given:
            return self._ended(BOMB)
        return data

    def _ended(self, why: str) -> bytes:
        self._faults[why] = 1
        return b""


def is_compressed(start: bytes) -> bool:
    """Return whether a file that begins so is one that `Unpacked` takes."""
    return start.startswith(tuple(_FORMS))


def _gzip(packed: _Begun) -> tuple[_Unpacking, tuple[type[Exception], ...]]:
    return gzip.GzipFile(fileobj=packed, mode="rb"), (gzip.BadGzipFile, zlib.error)  # type: ignore[call-overload]


def _zstandard(packed: _Begun) -> tuple[_Unpacking, tuple[type[Exception], ...]]:
    """Both libraries refuse a window above 128 MiB by themselves."""
    try:
        library = import_module("compression.zstd")  # since Python 3.14
        inside = library.ZstdFile(packed)
    except ImportError:
        try:
            library = import_module("zstandard")
        except ImportError:
            raise UsageError("is in Zstandard: pip install zstandard, or unpack it first with zstd -d") from None
        inside = library.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
    return cast(_Unpacking, inside), (library.ZstdError,)


_FORMS: Final[dict[bytes, Callable[[_Begun], tuple[_Unpacking, tuple[type[Exception], ...]]]]] = {
    b"\x1f\x8b\x08": _gzip,  # RFC 1952, deflate
    b"\x28\xb5\x2f\xfd": _zstandard,  # RFC 8878
}
