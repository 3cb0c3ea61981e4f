"""Tables as people's programs write them: CSV with commas, semicolons or tabs, of any spreadsheet and any locale.

What is certain is taken: a byte order mark (UTF-8, UTF-16), `sep=;` on the first line, names in capitals or with spaces
around them, `1.0` for 1, TRUE, T, WAHR or VRAI for true, a decimal comma where commas don't part the columns, columns
and lines without content. What could mean two things is refused, with its file and line.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, Final

from bt_selfsecure.errors import UnreadableError, UsageError
from bt_selfsecure.sweep.runs import RANGES

TEXTS: Final = (".csv", ".tsv", ".txt")
PARQUET: Final = ".parquet"
SUFFIXES: Final = (*TEXTS, *(f"{suffix}.gz" for suffix in TEXTS), PARQUET)
"""How tables are called."""
DELIMITERS: Final = (",", ";", "\t")
PROGRESS_LINES: Final = 10_000
_MARKS: Final = {  # UTF-32's begins as UTF-16's does
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_TRUE: Final = ("1", "true", "t", "yes", "y", "wahr", "ja", "vrai", "oui")
_FALSE: Final = ("0", "false", "f", "no", "n", "falsch", "nein", "faux", "non")
_TRUTH: Final = dict.fromkeys(_TRUE, True) | dict.fromkeys(_FALSE, False)
_WHOLE: Final = re.compile(r"([+-]?\d+)(?:\.0*|,0|,00)?")
"""Not `1,000`, which is a thousand to some and one to others."""
_GROUPED: Final = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")

Progress = Callable[[int, int], None]
Row = tuple[int, list[str]]
"""The number of its line, and a cell a column, without spaces around."""


@dataclass(slots=True)
class Table:
    """This is a table that is being read: names, and the rows that are still to come."""

    file: Path
    names: list[str]
    """Of the columns, without spaces around, in small letters; some may be empty."""
    delimiter: str
    rows: Iterator[Row]
    progress: Progress
    encoding: str = ""
    """Empty for Parquet."""
    begins: int = 0
    """Where the first row begins, in bytes."""
    nested: Mapping[str, str] = field(default_factory=dict)
    """Types of named columns whose cells are no texts, which only Parquet has."""
    columns: dict[str, int] = field(init=False)
    """Where each named column is in a row."""
    _truth: dict[str, bool] = field(default_factory=lambda: dict(_TRUTH))

    def __post_init__(self) -> None:
        self.columns = {name: index for index, name in enumerate(self.names) if name}

    @property
    def width(self) -> int:
        """Return how many cells a row has up to that of the last named column; those behind have to be empty."""
        return max(self.columns.values(), default=-1) + 1

    def require_flat(self, names: Iterable[str]) -> None:
        """Raise `UsageError` where a cell of one of these columns is none."""
        for name in names:
            if kind := self.nested.get(name):
                raise self.fault(1, f"a cell of the column {name!r} is a {kind}: it takes one text or number")

    @property
    def counts(self) -> str:
        """Return what its rows are counted in."""
        return "line" if self.encoding else "row"

    def spellings(self, column: int, text: str) -> list[str]:
        """Return how the cells of a column that are taken for `text` stand in the file, with their spaces."""
        if not self.encoding:
            return [text]
        with opened(self.file) as binary, TextIOWrapper(binary, self.encoding, newline="") as lines:
            rows = csv.reader(lines, delimiter=self.delimiter)
            cells = (row[column] for row in rows if len(row) > column)
            return list(dict.fromkeys(cell for cell in cells if cell.strip() == text))

    def fault(self, line: int, why: str) -> UsageError:
        """Return what is wrong there, as an error to be raised."""
        return UsageError(f"{self.file}:{line}: {why}" if self.encoding else f"{self.file}, row {line}: {why}")

    def truth(self, text: str) -> bool:
        """Return the truth that a cell tells; `1.0` and any spelling of a program that we know. Raises
        `UnreadableError` where it is none."""
        try:
            return self._truth[text]
        except KeyError:
            word = text.casefold()
            number = int(_TRUTH[word]) if word in _TRUTH else self.whole(text)
            if number not in (0, 1):
                raise UnreadableError(text) from None
            self._truth[text] = bool(number)
            return bool(number)

    def whole(self, text: str) -> int:
        """Return a whole number. Raises `UnreadableError` where it is none, or could be two."""
        if text.isdecimal():
            return int(text)
        match = _WHOLE.fullmatch(text)
        if not match or ("," in text and self.delimiter == ","):
            raise UnreadableError(text)
        return int(match[1])

    def number(self, text: str) -> float:
        """Return a finite number. Raises `ValueError` where it is none."""
        if "," in text and self.delimiter != ",":
            if "." in text or (self.delimiter != ";" and _GROUPED.fullmatch(text)):
                raise UnreadableError(text)
            text = text.replace(",", ".", 1)
        value = float(text)
        if not math.isfinite(value) or "_" in text:
            raise UnreadableError(text)
        return value

    def figure(self, column: str, text: str) -> float:
        """Return a number that can be in a column of this name. Raises `ValueError` where it is none."""
        numbers = RANGES[column]
        value = self.whole(text) if numbers.whole else self.number(text)
        if not numbers.has(value):
            raise UnreadableError(text)
        return value


@contextmanager
def reading(file: Path, wanted: frozenset[str], progress: Progress) -> Iterator[Table]:
    """Yield the table in a file of text. `wanted` are columns of which it should have some: they tell what parts the
    columns.

    Raises `UsageError`, also while the rows are taken, that names the file, the line and what to do.
    """
    encoding = ""
    try:
        encoding = _encoding(file)
        with opened(file) as binary, TextIOWrapper(binary, encoding, newline="") as text:
            yield _table(file, text, wanted, progress)
    except (OSError, EOFError, zlib.error) as error:
        if isinstance(error, OSError) and error.strerror:
            raise UsageError(f"can't read {file} ({error.strerror}): name a CSV file") from error
        raise UsageError(f"can't read {file}, it is no gzip file or damaged ({error}): pack it anew") from error
    except UnicodeError:
        raise UsageError(
            f"{file} is not a CSV file of text in UTF-8 ({_not_text(file, encoding)}): save it as 'CSV UTF-8'"
        ) from None


def opened(file: Path) -> BinaryIO:
    """Yield the bytes of a text, unpacked if its name ends in .gz."""
    return gzip.open(file) if file.suffix.lower() == ".gz" else file.open("rb")  # type: ignore[return-value]


def _encoding(file: Path) -> str:
    with opened(file) as binary:
        start = binary.read(4096)
    for mark, encoding in _MARKS.items():
        if start.startswith(mark):
            return encoding
    if start.startswith(b"PK\x03\x04"):
        raise UsageError(f"{file} is a workbook or an archive, not a CSV file: save it as 'CSV UTF-8'")
    if b"\0" in start:
        raise UsageError(f"{file} is not a CSV file of text, or in UTF-16 without its mark: save it as 'CSV UTF-8'")
    return "utf-8"


def _not_text(file: Path, encoding: str) -> str:
    """Return the error for a file that can't be read as text."""
    if not encoding.startswith("utf-8"):
        return f"nor in {encoding.upper()}, whose mark it has: a byte lacks"
    with opened(file) as binary:
        for number, line in enumerate(binary, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return f"line {number}, byte {error.object[error.start]:#04x}"
    return "its end is cut off"


def _table(file: Path, text: TextIOWrapper, wanted: frozenset[str], progress: Progress) -> Table:
    first, said = "\n", None
    skipped = begins = 0
    while first and not first.strip("\ufeff\r\n\t ;,"):
        first = text.readline()
        skipped += 1
        begins += len(first.encode(text.encoding.removesuffix("-sig")))
        if match := re.fullmatch(r'"?sep=(.)"?[;,\t]*\s*', first, re.IGNORECASE | re.DOTALL):
            said, first = match[1], "\n"
    delimiter = said or max(DELIMITERS, key=lambda each: len(wanted & set(_names(first, each))))
    names = _names(first, delimiter)
    for name in filter(None, names):
        if names.count(name) > 1:
            raise UsageError(f"{file}:{skipped}: two columns are called {name!r}: remove or rename one")
    begins += 3 * (text.encoding == "utf-8-sig")
    table = Table(file, names, delimiter, iter(()), progress, text.encoding, begins)
    table.rows = _rows(table, text, skipped)
    return table


def _names(line: str, delimiter: str) -> list[str]:
    try:
        cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    except (csv.Error, TypeError):  # a quote that is not closed; a delimiter that can't be one
        return []
    return [cell.strip().casefold() for cell in cells]


def position(binary: Any) -> int:
    """Return how far a file is read, in bytes of the disk."""
    return int(getattr(binary, "fileobj", binary).tell())


def _rows(table: Table, text: TextIOWrapper, skipped: int) -> Iterator[Row]:
    width, size = table.width, table.file.stat().st_size
    reader = csv.reader(text, delimiter=table.delimiter, skipinitialspace=True)
    number = skipped
    try:
        for cells in reader:
            number = skipped + reader.line_num
            if number % PROGRESS_LINES == 0:
                table.progress(position(text.buffer), size)
            row = [cell.strip() for cell in cells]
            if not any(row):
                continue
            if len(row) < width or any(row[width:]):
                raise table.fault(number, "the row has not as many fields as the first line names columns")
            yield number, row
    except csv.Error as error:
        raise table.fault(number + 1, f"not a CSV file's row ({error}): is a quote left open?") from None
