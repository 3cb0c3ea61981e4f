"""Tables by column, with pyarrow: some thousand rows at once, their cells as numbers into the few texts there are.

What a text means is told by `tables.Table`, as where rows are read one by one. Whatever could be read in two ways, or
is a fault, is `UncertainError` here: then the table is read row by row, which takes it or names line and cause.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

from bt_selfsecure.errors import BtSelfSecureError, UsageError
from bt_selfsecure.sweep.tables import Progress, Row, Table, opened, position

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

ROWS: Final = 1 << 14
"""Of Parquet, at once."""
BLOCK_BYTES: Final = 1 << 18
"""Bytes of a text at once."""
QUOTED_BLOCK_BYTES: Final = 1 << 17
"""Where there are quotes: no cell may be longer than Python's csv takes, as one whose quote is left open."""


class UncertainError(BtSelfSecureError):
    """This table takes reading row by row."""


class Cells(NamedTuple):
    """This is a column of a batch."""

    codes: NDArray[np.int32]
    """Of each row."""
    texts: list[str]
    """By code, without spaces around; a text may be there twice."""


class Batch(NamedTuple):
    """These are rows that follow each other."""

    numbers: NDArray[np.int64]
    """Of the first column that was asked for."""
    cells: list[Cells]
    """Of the others."""


def batches(table: Table, whole: int, others: Sequence[int]) -> Iterator[Batch]:
    """Yield batches of a column of whole numbers and others of anything, by their places in the table. Raises
    `UncertainError`, see above."""
    try:
        yield from (_of_parquet if not table.encoding else _of_text)(table, whole, others)
    except (pa.ArrowException, OSError, EOFError, zlib.error, ValueError, NotImplementedError) as error:
        raise UncertainError from error


def _of_text(table: Table, whole: int, others: Sequence[int]) -> Iterator[Batch]:
    if table.encoding not in ("utf-8", "utf-8-sig"):
        raise UncertainError
    size = table.file.stat().st_size
    unnamed = range(table.width, len(table.names))
    types = dict.fromkeys(map(str, (*others, *unnamed)), pa.dictionary(pa.int32(), pa.string()))
    types |= {str(whole): pa.int64()}
    names = [str(index) for index in range(len(table.names))]
    parse = csv.ParseOptions(delimiter=table.delimiter)
    convert = csv.ConvertOptions(column_types=types, include_columns=list(types), null_values=[])
    with opened(table.file) as binary:
        binary.seek(table.begins)
        for block in _blocks(binary):
            read = csv.ReadOptions(use_threads=False, block_size=len(block), column_names=names)
            columns = csv.read_csv(_native(block), read, parse, convert).combine_chunks().columns
            *rest, numbers = (column.chunk(0) for column in columns)
            cells = [_certain(_cells(column)) for column in rest]
            if any(any(column.texts) for column in cells[len(others) :]):
                raise UncertainError  # a value that no column has a name for
            yield Batch(_numbers(numbers), cells[: len(others)])
            table.progress(position(binary), size)


def _blocks(binary: BinaryIO) -> Iterator[bytes]:
    """Yield the rest of a text, in whole lines. Raises `UncertainError` where pyarrow may read one otherwise than
    Python's csv does: 0x10 is a number to it."""
    begins = binary.tell()
    quoted = b'"' in binary.read(BLOCK_BYTES)
    binary.seek(begins)
    size, rest, ended = QUOTED_BLOCK_BYTES if quoted else BLOCK_BYTES, b"", False
    while not ended:
        data = binary.read(size - len(rest))
        ended = not data
        block = rest + data
        end = len(block) if ended else block.rfind(b"\n") + 1 or block.rfind(b"\r", 0, -1) + 1
        block, rest = block[:end], block[end:]
        odd = block.count(b'"') % 2 if quoted else b'"' in block
        if odd or b"0x" in block or b"0X" in block or len(rest) == size:
            raise UncertainError
        if block.strip():
            yield block


def _native(block: bytes) -> Any:
    """Return a copy that is none of Python's: a thread of pyarrow's that lets it go while Python ends would take the
    whole process down."""
    copy = pa.BufferOutputStream()
    copy.write(block)
    return pa.BufferReader(copy.getvalue())


def _certain(cells: Cells) -> Cells:
    if any('"' in text or "\n" in text or "\r" in text for text in cells.texts):
        raise UncertainError
    return cells


def _cells(column: Any) -> Cells:
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    texts = [_text(value) for value in column.dictionary.to_pylist()]
    codes = column.indices
    if codes.null_count:
        codes, texts = codes.fill_null(len(texts)), [*texts, ""]
    return Cells(_numbers(codes).astype(np.int32, copy=False), texts)


def _numbers(column: Any) -> NDArray[Any]:
    """Return whole numbers, of which none may lack, without a copy. pyarrow's own `to_numpy` imports pandas, where it
    is installed."""
    if column.null_count:
        raise UncertainError
    return np.from_dlpack(column)


def _text(value: Any) -> str:
    """Return a value as it would stand in a table of text."""
    if value is None:
        return ""
    if isinstance(value, bytes):  # what is no text then is no name either, nor a number
        value = value.decode("utf-8", "surrogateescape")
    return value.isoformat() if hasattr(value, "isoformat") else str(value).strip()


# --- Parquet ----------------------------------------------------------------------------------------------------------


@contextmanager
def parquet(file: Path, progress: Progress) -> Iterator[Table]:
    """Yield the table in a Parquet file. Raises `UsageError` if it is none."""
    from pyarrow.parquet import ParquetFile  # which takes longer than all else of pyarrow, and loads ssl

    try:
        with ParquetFile(file) as source:
            names = [name.strip().casefold() for name in source.schema_arrow.names]
            for name in filter(None, names):
                if names.count(name) > 1:
                    raise UsageError(f"{file}: two columns are called {name!r}: remove or rename one")
            types = dict(zip(names, source.schema_arrow.types, strict=True))
            nested = {name: str(kind) for name, kind in types.items() if _nested(kind)}
            yield Table(file, names, ",", _rows(source, progress), progress, nested=nested)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        why = " ".join(str(error).split())
        if isinstance(error, OSError) and error.strerror:  # the system's; pyarrow says most damage by a bare one
            raise UsageError(f"can't read {file} ({error.strerror}): name a Parquet file") from error
        raise UsageError(f"{file} is not a Parquet file, or is damaged ({why}): write it anew") from error


def _nested(kind: Any) -> bool:
    """Return whether a cell is a list or a record."""
    return bool(pa.types.is_nested(getattr(kind, "storage_type", kind)))


def _rows(source: ParquetFile, progress: Progress) -> Iterator[Row]:
    number, size = 1, source.metadata.num_rows
    for batch in source.iter_batches(ROWS):
        columns = [list(map(_text, _timed(column).to_pylist())) for column in batch.columns]
        for number, cells in enumerate(zip(*columns, strict=True), start=number):  # noqa: B020
            yield number, list(cells)
        number += 1
        progress(number, size)


def _of_parquet(table: Table, whole: int, others: Sequence[int]) -> Iterator[Batch]:
    from pyarrow.parquet import ParquetFile

    with ParquetFile(table.file) as source:
        names = source.schema_arrow.names
        done = 0
        for batch in source.iter_batches(ROWS, columns=[names[index] for index in (whole, *others)]):
            column = batch.column(names[whole])
            if not pa.types.is_integer(column.type):
                codes, texts = _cells(column)
                numbers = np.array([table.whole(text) for text in texts], np.int64)[codes]
            else:
                numbers = _numbers(column.cast(pa.int64()))
            yield Batch(numbers, [_cells(_timed(batch.column(names[index]))) for index in others])
            done += batch.num_rows
            table.progress(done, source.metadata.num_rows)


def _timed(column: Any) -> Any:
    """Return times in the microseconds that Python's have."""
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("us", column.type.tz), safe=False)
    return column
