"""Tables whose packets have numbers, as runs: a row a packet and listener, or a row for each packet that was heard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import groupby, zip_longest
from typing import TYPE_CHECKING, Any, Final, TypeVar

from bt_selfsecure.errors import UsageError
from bt_selfsecure.sweep.circumstances import MOST_PACKETS, Circumstances
from bt_selfsecure.sweep.exporting import COLUMNS
from bt_selfsecure.sweep.gathering import HEARD, MISSED, QUEUED, Gathered
from bt_selfsecure.sweep.runs import RANGES
from bt_selfsecure.sweep.store import Store
from bt_selfsecure.sweep.tables import Row, Table
from bt_selfsecure.sweep.told import circumstances, figure, run_info
from bt_selfsecure.wording import quoted, shortened, unprintable

if TYPE_CHECKING:
    from bt_selfsecure.sweep.pieces import Chunk

WANTED: Final = frozenset(
    (
        "seq",
        "receiver",
        "heard",
        "rssi",
        "time",
        "timestamp",
        "time_s",
        "time_ms",
        "time_us",
        "run",
        "sender",
        "address",
    )
)
"""Columns by which the dialect of a table is told."""
SENTENCE: Final = "seq counts packets from 0, receiver is a name, heard is 1 or 0, and rssi a number of dBm or nothing"
OF_A_RUN: Final = (
    "bearer",
    "sender",
    "spacing_ms",
    "tx_power_dbm",
    "size_bytes",
    "run_distance_m",
    "packets",
    "repeat",
    "started",
)
"""Columns of our own export that are the same throughout a run."""


class Logs:
    """These are one table with a column `receiver`, or a table a listener, with rows of the same runs."""

    def __init__(self, tables: Mapping[str, Table], how: Circumstances, source: Any) -> None:
        """Take `tables` by listener; "" where a column tells. Raises `UsageError` if a column lacks or is not there to
        be taken."""
        self.source = source
        self.readers = [_Reader(table, listener, how) for listener, table in tables.items()]
        self.how = how

    def add_to(self, store: Store) -> int:
        """Add each run, and return how many. Raises `UsageError`, which names file and line of the first fault. The
        tables are read by column, where there is pyarrow and all is certain; else row by row, which names what is not.
        """
        try:
            from bt_selfsecure.sweep.columns import UncertainError
            from bt_selfsecure.sweep.pieces import chunks
        except ImportError:
            return self._add(store, [_Rows(reader) for reader in self.readers])
        with suppress(UncertainError), store.together():
            try:
                return self._add(store, [_Chunks(reader, chunks) for reader in self.readers])
            except UsageError as error:
                raise UncertainError from error
        return self._add(store, [_Rows(reader) for reader in self.readers])

    def _add(self, store: Store, sources: Sequence[_Rows | _Chunks]) -> int:
        added, repeats = 0, store.count()
        for label, run in self._runs(sources):
            if self.how.counted:  # who has a log and is not in it heard nothing
                for reader in self.readers:
                    if reader.listener:
                        run.listeners.setdefault(reader.listener, Gathered())
            try:
                if why := unprintable(label):
                    raise UsageError(why)
                _store(store, run, repeats + added, self.source)
            except (ValueError, UsageError) as error:
                name = f" {quoted(label)}" if label else ""
                table = run.reader.table
                raise UsageError(f"{table.file}: the run{name} from {table.counts} {run.line} on: {error}") from None
            added += 1
        if not added:
            raise UsageError(
                f"{self.readers[0].table.file} has no row: it takes one a packet and receiver, "
                "seq,receiver,heard[,rssi]"
            )
        return added

    def _runs(self, sources: Sequence[_Rows | _Chunks]) -> Iterator[tuple[str, _Run]]:
        """Yield each run and its label, as soon as no table has more of it. Of the others only what is kept is held."""
        runs: dict[str, _Run] = {}
        ended: Counter[str] = Counter()
        for parts in zip_longest(*(source.runs() for source in sources)):
            for source, part in zip(sources, parts, strict=True):
                if part is not None:
                    label, take_all = part
                    take_all(runs.setdefault(label, _Run(self.how, source.reader)))
                    ended[label] += 1
            while runs and ended[label := next(iter(runs))] == len(sources):
                del ended[label]
                yield label, runs.pop(label)
        yield from runs.items()


def condition_columns(table: Table, how: Circumstances) -> dict[str, int]:
    """Return the columns that are conditions of a run: those that are named, and in an export of ours any that is not
    its own.

    Raises `UsageError` for one that is not there.
    """
    wanted = [name for name, value in how.conditions.items() if value is None]
    if set(COLUMNS) <= set(table.columns):
        wanted += [name for name in table.columns if name not in COLUMNS and name not in how.conditions]
    for name in wanted:
        if name not in table.columns or name in COLUMNS:
            raise UsageError(f"{table.file} has no column {name!r} for a condition: name one, or say {name}=VALUE")
    return {name: table.columns[name] for name in wanted}


class _Run:
    """This is one run, as far as its rows were read."""

    def __init__(self, how: Circumstances, reader: _Reader) -> None:
        self.how, self.reader = how, reader
        self.line = 0
        self.told: dict[str, str] = {}
        """What columns say of the whole run: of our own export, and conditions."""
        self.alike: dict[_Reader, list[str]] = {}
        """The cells of that in every row of a table."""
        self.listeners: dict[str, Gathered] = {}
        self.metres: dict[str, str] = {}
        """Each listener's distance, as written."""
        self.misses = False
        """Whether a row says that a packet was not heard: then no row that lacks does."""


class _Reader:
    """This knows one table's columns, found once."""

    def __init__(self, table: Table, listener: str, how: Circumstances) -> None:
        self.table, self.listener = table, listener
        at = table.columns.get
        for name in ("seq", *(() if listener else ("receiver",))):
            if at(name) is None:
                of_text = "its first line names seq,receiver,heard[,rssi], between commas, semicolons or tabs"
                of_parquet = "it takes the columns seq,receiver,heard[,rssi]"
                raise UsageError(f"{table.file} has no column {name!r}: {of_text if table.encoding else of_parquet}")
        if at("heard") is None and not how.counted:
            raise UsageError(
                f"{table.file} has no column 'heard': if it lists only what was heard, say how many packets were sent, "
                "--packets N"
            )
        self.seq, self.receiver, self.heard = table.columns["seq"], table.columns.get("receiver", -1), at("heard")
        self.rssi, self.copies, self.lost, self.metres = map(at, ("rssi", "copies", "lost_in_queue", "distance_m"))
        self.level, self.count = (partial(table.figure, name) for name in ("rssi", "copies"))
        self.run = at("run")
        self.conditions = condition_columns(table, how)
        names = (*OF_A_RUN, *self.conditions)
        self.of_a_run = {name: table.columns[name] for name in names if name in table.columns}
        table.require_flat((*COLUMNS, *self.conditions))

    def take(self, row: Row, run: _Run) -> None:
        """Take one reception more."""
        line, cells = row
        table = self.table
        try:
            seq = table.whole(cells[self.seq])
            name = self.listener or cells[self.receiver]
            heard = True if self.heard is None else table.truth(cells[self.heard])
            lost = self.lost is not None and cells[self.lost] != "" and table.truth(cells[self.lost])
            rssi = self.level(cells[self.rssi]) if self.rssi is not None and cells[self.rssi] else None
            copies = int(self.count(cells[self.copies])) if self.copies is not None and cells[self.copies] else None
            if not 0 <= seq <= MOST_PACKETS or not name:
                raise ValueError
        except ValueError:
            raise self._no_reception(line, cells) from None
        run.line = run.line or line
        if self.of_a_run and [cells[index] for index in self.of_a_run.values()] != run.alike.get(self):
            self._learn(line, cells, run)
        rows = run.listeners.get(name)
        if rows is None:
            if why := unprintable(name):
                raise table.fault(line, why)
            rows = run.listeners[name] = Gathered()
        try:
            if rows.put(seq, HEARD if heard else QUEUED if lost else MISSED, rssi, copies):
                pass
            elif self.heard is None:  # it lists what came, as it came
                rows.again(seq, rssi, copies or 1)
            else:
                raise table.fault(
                    line, f"packet {seq} at {quoted(name)} comes a second time{self._but_for_spaces(name)}"
                )
        except (ValueError, OverflowError):
            raise table.fault(line, f"packet {seq} at {quoted(name)} came {copies} times, which can't be") from None
        if heard and lost:
            raise table.fault(
                line, f"packet {seq} at {quoted(name)} was heard and lost in the queue, which can't be both"
            )
        if not heard:
            run.misses = True
        if self.metres is not None and cells[self.metres]:
            if (metres := run.metres.get(name)) is None:
                metres = run.metres[name] = self._metres(line, cells[self.metres])
            if metres != cells[self.metres]:
                told = f"{shortened(cells[self.metres])} m away, and {shortened(metres)} m before in the run"
                raise table.fault(line, f"{quoted(name)} is {told}")

    def _metres(self, line: int, text: str) -> str:
        try:
            figure(self.table, "distance_m", text)
        except UsageError as error:
            raise self.table.fault(line, str(error)) from None
        return text

    def _but_for_spaces(self, name: str) -> str:
        """Return why a name may be there twice, and what to do."""
        spelled = [] if self.listener else self.table.spellings(self.receiver, name)
        if len(spelled) < 2:
            return ""
        return (
            f": {' and '.join(map(quoted, spelled))} differ only by spaces and are one name; rename one if they are two"
        )

    def _no_reception(self, line: int, cells: list[str]) -> UsageError:
        """Return which cell is no reception."""
        table, truth = self.table, self.table.truth
        kinds = (
            ("seq", self.seq, table.whole), ("heard", self.heard, truth), ("lost_in_queue", self.lost, truth),
            ("rssi", self.rssi, self.level), ("copies", self.copies, self.count),
        )  # fmt: skip
        for name, index, read in kinds:
            if index is None or not (cells[index] or name in ("seq", "heard")):
                continue
            try:
                read(cells[index])
            except ValueError:
                remedy = f": give {RANGES[name]}, or nothing" if name in RANGES else f", but {SENTENCE}"
                return table.fault(line, f"not a reception: {name} is {quoted(cells[index])}{remedy}")
        return table.fault(line, f"not a reception: {SENTENCE}")

    def _learn(self, line: int, cells: list[str], run: _Run) -> None:
        """Learn what the first row says of the run, and every other does then."""
        for column, index in self.of_a_run.items():
            if (told := run.told.setdefault(column, cells[index])) != cells[index]:
                raise self.table.fault(
                    line,
                    f"column {column!r} is {quoted(cells[index])} here and {quoted(told)} in {self.table.counts} "
                    f"{run.line} of the same run: it is one value a run",
                )
        run.alike[self] = [cells[index] for index in self.of_a_run.values()]


Take = Callable[[_Run], None]
Part = TypeVar("Part")


class _Rows:
    """These are a table's rows, one by one."""

    def __init__(self, reader: _Reader) -> None:
        self.reader = reader

    def runs(self) -> Iterator[tuple[str, Take]]:
        """Yield each run, and what takes its rows."""
        table, column = self.reader.table, self.reader.run
        return _together(table, table.rows, lambda row: "" if column is None else row[1][column], self.reader.take)


class _Chunks:
    """These are a table's rows, many at once. Raises `UncertainError` where what they say can't be told so."""

    def __init__(self, reader: _Reader, chunks: Callable[..., Iterator[Chunk]]) -> None:
        self.reader, self._chunks = reader, chunks

    def runs(self) -> Iterator[tuple[str, Take]]:
        """Yield each run, and what takes its rows."""
        reader = self.reader
        chunks = self._chunks(reader.table, reader.listener, reader.of_a_run)
        return _together(reader.table, chunks, lambda chunk: chunk.label, self._take)

    def _take(self, chunk: Chunk, run: _Run) -> None:
        """Take all of its rows."""
        reader = self.reader
        if chunk.told != run.told and any(run.told.setdefault(name, text) != text for name, text in chunk.told.items()):
            raise UsageError("a column is not one value a run")
        run.misses = run.misses or chunk.misses
        for piece in chunk.pieces:
            name = reader.listener or piece.listener
            rows = run.listeners.get(name)
            if rows is None:
                rows = run.listeners[name] = Gathered()
            if not rows.take(piece.first, piece.fates, piece.levels, piece.copies):
                for seq, fate, rssi, copies in piece.rows():
                    if rows.put(seq, fate, rssi, copies):
                        continue
                    if reader.heard is not None:
                        raise UsageError("a packet comes a second time")
                    rows.again(seq, rssi, copies or 1)
            if piece.metres and run.metres.setdefault(name, piece.metres) != piece.metres:
                raise UsageError("a listener is at two places")


def _together(
    table: Table, parts: Iterable[Part], label_of: Callable[[Part], str], take: Callable[[Part, _Run], None]
) -> Iterator[tuple[str, Take]]:
    """Yield each run, of parts that follow each other, and what takes them. Raises `UsageError` if one comes in two
    pieces."""
    seen: set[str] = set()
    for label, its in groupby(parts, key=label_of):
        if label in seen:
            raise UsageError(f"{table.file}: the rows of run {quoted(label)} are not together: sort the file by run")
        seen.add(label)
        yield label, partial(_take_all, take, its)


def _take_all(take: Callable[[Part, _Run], None], parts: Iterable[Part], run: _Run) -> None:
    for part in parts:
        take(part, run)


def _store(store: Store, run: _Run, repeat: int, source: Any) -> None:
    sent = _sent(run)
    table, told = run.reader.table, run.told
    how = circumstances(table, run.how, told, run.metres)
    said = {name: told[name] for name in run.reader.conditions if told.get(name)}
    info = run_info(table, how, told, len(sent), repeat, how.notes(source, said))
    store.add_packed(info, {name: rows.packed(sent) for name, rows in run.listeners.items()})


def _sent(run: _Run) -> range:
    """Return the numbers of the packets of the run. Raises `UsageError` where a row lacks that is not told to be a
    miss."""
    low = min(rows.low for rows in run.listeners.values() if rows.rows)
    high = max(rows.high for rows in run.listeners.values() if rows.rows)
    told = run.how.sent(low, high)
    if told is None and low > 1:
        raise UsageError(
            f"it begins with packet {low}: say --first {low} if that was the first that was sent"
            + (", for it lists misses, too" if run.misses else ", or --first 0 if the log lists only what was heard")
            + " (half a run is not recorded)"
        )
    sent = range(int(low == 1), high + 1) if told is None else told
    if told is None or run.misses:
        for name, rows in run.listeners.items():
            if lacking := len(sent) - rows.rows:
                seq = rows.lacking(sent)
                raise UsageError(
                    f"there is no row for packet {seq} at {quoted(name)} ({lacking:,} lack): half a run is not "
                    "recorded. "
                    + (
                        "A log that lists misses lists all of them"
                        if run.misses
                        else "If the log lists only what was heard, say how many packets were sent, --packets N"
                    )
                )
    counted = run.told.get("packets")
    if counted and run.reader.table.whole(counted) != len(sent):
        raise UsageError(f"its column 'packets' says {counted}, and it has {len(sent)}: half a run is not recorded")
    return sent
