"""The rows of a table by run and listener, many at once: what `numbered` takes one by one where it must."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import count, repeat
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bt_selfsecure.sweep.circumstances import MOST_PACKETS
from bt_selfsecure.sweep.columns import Batch, Cells, UncertainError, batches
from bt_selfsecure.sweep.gathering import HEARD, MISSED, QUEUED
from bt_selfsecure.sweep.packing import COUNTS, LEVELS, Column, Forms
from bt_selfsecure.sweep.tables import Table

CELLS: Final[tuple[str, ...]] = ("receiver", "heard", "lost_in_queue", "rssi", "copies", "distance_m", "run")
"""Of a row, beside `seq`; what else is told is of the whole run."""


class Piece(NamedTuple):
    """These are rows of one listener, of packets one after another."""

    listener: str
    metres: str
    first: int
    """Number of the first packet."""
    fates: bytes
    levels: tuple[int, bytes] | None
    copies: tuple[int, bytes] | None
    """As `Gathered.take` wants them."""

    def rows(self) -> Iterator[tuple[int, int, float | None, int | None]]:
        """Yield each packet: number, fate, level in dBm, copies."""
        levels: Iterable[float | None] = repeat(None)
        copies: Iterable[int | None] = repeat(None)
        if self.levels:
            form = LEVELS[self.levels[0]]
            levels = map(form.value, array(form.type, self.levels[1]))
        if self.copies:
            copies = array(COUNTS[self.copies[0]].type, self.copies[1])
        return zip(count(self.first), self.fates, levels, copies, strict=False)


@dataclass(frozen=True, slots=True)
class Chunk:
    """These are rows that follow each other and are of one run."""

    label: str
    told: Mapping[str, str]
    """What columns say of the whole run."""
    misses: bool
    """Whether a row says that a packet was not heard."""
    pieces: list[Piece]


def chunks(table: Table, listener: str, of_a_run: Mapping[str, int]) -> Iterator[Chunk]:
    """Yield the rows of a table, which has the column `seq`, and `receiver` unless all are of one `listener`. Raises
    `UncertainError` where it takes reading row by row."""
    there = [name for name in CELLS if name in table.columns and not (listener and name == "receiver")]
    places = [table.columns[name] for name in there] + list(of_a_run.values())
    for batch in batches(table, table.columns["seq"], places):
        cells = dict(zip(there, batch.cells, strict=False))
        told = dict(zip(of_a_run, batch.cells[len(there) :], strict=True))
        try:
            yield from _Rows(table, listener, batch, cells).chunks(told)
        except (ValueError, OverflowError) as error:  # which cell it is, reading row by row tells
            raise UncertainError from error


class _Rows:
    """This is a batch, read."""

    def __init__(self, table: Table, listener: str, batch: Batch, cells: Mapping[str, Cells]) -> None:
        self.count = len(batch.numbers)
        self.seqs = batch.numbers
        if self.count and not 0 <= int(np.min(self.seqs)) <= int(np.max(self.seqs)) <= MOST_PACKETS:
            raise UncertainError
        self.names, self.who = _names(cells["receiver"]) if "receiver" in cells else ([listener], self._same())
        self.labels, self.label = _names(cells["run"], empty=True) if "run" in cells else ([""], self._same())
        self.metres = cells.get("distance_m", Cells(self._same(), [""]))
        heard = self._flags(table.truth, cells.get("heard"), default=True)
        lost = self._flags(lambda text: text != "" and table.truth(text), cells.get("lost_in_queue"), default=False)
        if (heard & lost).any():
            raise UncertainError
        self.fates = np.where(heard, HEARD, np.where(lost, QUEUED, MISSED)).astype(np.uint8)
        self.levels = _column(LEVELS, cells.get("rssi"), partial(table.figure, "rssi"))
        self.copies = _column(COUNTS, cells.get("copies"), partial(table.figure, "copies"))
        if self.copies:
            form, counts = self.copies
            if "" in cells["copies"].texts:
                empty = np.array([text == "" for text in cells["copies"].texts])[cells["copies"].codes]
                counts = np.where(empty, heard, counts).astype(counts.dtype)
            if (counts < heard).any():
                raise UncertainError
            self.copies = form, counts

    def chunks(self, told: Mapping[str, Cells]) -> Iterator[Chunk]:
        starts = _changes(self.label)
        begins = self._at(starts)
        for cells in told.values():
            if not begins[_changes(cells.codes)].all():
                raise UncertainError  # it is one value a run, or written in two ways
        key = (np.cumsum(begins) - 1) * len(self.names) + self.who
        order = None if (key[1:] >= key[:-1]).all() else np.argsort(key, kind="stable")

        def sort(column: Any) -> Any:
            return column if order is None else column[order]

        key, seqs, metres, fates = map(sort, (key, self.seqs, self.metres.codes, self.fates))
        begins = self._at(_changes(key))
        if not begins[_changes(metres)].all():
            raise UncertainError
        begins[1:] |= np.diff(seqs) != 1
        cuts = np.flatnonzero(begins)
        written = fates.tobytes()
        levels, copies = (
            (column[0], column[1].itemsize, sort(column[1]).tobytes()) if column else None
            for column in (self.levels, self.copies)
        )
        chunks = [
            Chunk(
                self.labels[self.label[start]],
                {name: cells.texts[cells.codes[start]] for name, cells in told.items()},
                bool(missed),
                [],
            )
            for start, missed in zip(
                starts.tolist(), np.logical_or.reduceat(self.fates != HEARD, starts).tolist(), strict=True
            )
        ]
        ends = [*cuts[1:].tolist(), self.count]
        heads = zip(cuts.tolist(), ends, key[cuts].tolist(), seqs[cuts].tolist(), metres[cuts].tolist(), strict=True)
        for low, high, both, first, place in heads:
            of, who = divmod(both, len(self.names))
            chunks[of].pieces.append(
                Piece(
                    self.names[who],
                    self.metres.texts[place],
                    first,
                    written[low:high],
                    levels and (levels[0], levels[2][low * levels[1] : high * levels[1]]),
                    copies and (copies[0], copies[2][low * copies[1] : high * copies[1]]),
                )
            )
        yield from chunks

    def _at(self, places: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Return an array that is true at these rows."""
        flags = np.zeros(self.count, np.bool_)
        flags[places] = True
        return flags

    def _same(self) -> NDArray[np.int32]:
        return np.zeros(self.count, np.int32)

    def _flags(self, truth: Callable[[str], bool], cells: Cells | None, *, default: bool) -> NDArray[np.bool_]:
        if cells is None:
            return np.full(self.count, default)
        return np.array([truth(text) for text in cells.texts], np.bool_)[cells.codes]


def _changes(codes: NDArray[Any]) -> NDArray[np.intp]:
    """Return where a value is another than before, and 0."""
    return np.concatenate([[0], np.flatnonzero(codes[1:] != codes[:-1]) + 1])


def _names(cells: Cells, *, empty: bool = False) -> tuple[list[str], NDArray[np.int32]]:
    """Return each name once, in the order in which they come."""
    names = list(dict.fromkeys(cells.texts))
    if "" in names and not empty:
        raise UncertainError
    if len(names) == len(cells.texts):
        return names, cells.codes
    return names, np.array([names.index(text) for text in cells.texts], np.int32)[cells.codes]


def _column(forms: Forms, cells: Cells | None, read: Callable[[str], float]) -> tuple[int, NDArray[Any]] | None:
    """Return a column as `packing` writes it, and in which form; None without any value."""
    if cells is None or not any(cells.texts):
        return None
    column = Column(forms)
    values = [read(text) if text else None for text in cells.texts]
    for value in values:
        column.number(0 if value is None and forms is COUNTS else value)
    numbers = [column.number(0 if value is None and forms is COUNTS else value) for value in values]
    return column.form, np.array(numbers, column.numbers.typecode)[cells.codes]
