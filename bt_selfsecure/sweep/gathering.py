"""The rows of a run put together, listener by listener, in whatever order they come."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from bt_selfsecure.errors import UnreadableError, UsageError
from bt_selfsecure.sweep.packing import COUNTS, LEVELS, Column, Packed, Reception, bitmap

NO_ROW, MISSED, HEARD, QUEUED = range(4)
"""What a row says of a packet, or that there is none."""
AHEAD: Final = 4096
"""Packets that a row may be ahead of all others before it is kept aside: one number must not take memory for all."""
NO_LEVEL: Final = bytes([int(LEVELS[0].none)])


def _only(fate: int) -> bytes:
    return bytes(value == fate for value in range(256))


_HEARD, _QUEUED = _only(HEARD), _only(QUEUED)


class Gathered:
    """This is one listener's packets of a run, from rows in any order."""

    __slots__ = ("_ahead", "_copies", "_fates", "_levels", "rows")

    def __init__(self) -> None:
        self.rows = 0
        """Packets of which there is a row."""
        self._fates = bytearray()
        self._levels: Column | None = None
        self._copies: Column | None = None
        """As long as `_fates`; None while there is nothing to tell."""
        self._ahead: dict[int, tuple[int, float | None, int | None]] = {}

    def put(self, seq: int, fate: int, rssi: float | None, copies: int | None) -> bool:
        """Take a row, and return whether it is the first of its packet: a second one is not taken.

        Raises `UnreadableError` for copies that can't be, or are beyond 64 bits.
        """
        if copies is not None and copies < (fate == HEARD):
            raise UnreadableError("copies")
        fates = self._fates
        if seq == len(fates) and copies is None is self._copies and not self._ahead:  # as most rows come
            fates.append(fate)
            if self._levels is not None:
                number = self._levels.number(rssi)  # which may change the form
                self._levels.numbers.append(number)
            elif rssi is not None:
                self._tell(seq, fate, rssi, None)
        else:
            if (seq < len(fates) and fates[seq]) or seq in self._ahead:
                return False
            if seq > len(fates) + AHEAD:
                self._ahead[seq] = fate, rssi, copies
                if not len(self._ahead) % AHEAD:
                    self._catch_up(8 * len(self._ahead))
            else:
                self._place(seq, fate, rssi, copies)
        self.rows += 1
        return True

    def again(self, seq: int, rssi: float | None, copies: int) -> None:
        """Take another copy, or several, of a packet of which there is a row."""
        if seq in self._ahead:
            fate, level, told = self._ahead[seq]
            self._ahead[seq] = fate, _best(level, rssi), copies + (told or 1)
            return
        before = int(self._copies.numbers[seq]) if self._copies else 1
        level = self._levels.forms[self._levels.form].value(self._levels.numbers[seq]) if self._levels else None
        self._tell(seq, HEARD, _best(level, rssi), copies + before)

    def take(
        self, first: int, fates: bytes, levels: tuple[int, bytes] | None, copies: tuple[int, bytes] | None
    ) -> bool:
        """Take rows of packets one after another, `first` the first; return whether it was possible at once.

        `levels` and `copies` are as `Column.extend` wants them, none of the copies one that can't be.
        """
        if first < len(self._fates) or first > len(self._fates) + AHEAD or self._ahead:
            return False
        self._extend_to(first)
        if levels and not self._levels:
            self._levels = Column(LEVELS, first)
        if copies and not self._copies:
            self._copies = self._implied()
        self._fates += fates
        self.rows += len(fates)
        if self._levels:
            self._levels.extend(*(levels or (0, NO_LEVEL * len(fates))))
        if self._copies:
            self._copies.extend(*(copies or (0, fates.translate(_HEARD))))
        return True

    @property
    def low(self) -> int:
        """Return the first packet of which there is a row."""
        there = len(self._fates) - len(self._fates.lstrip(b"\0"))
        return there if self._fates else min(self._ahead)

    @property
    def high(self) -> int:
        """Return the last one."""
        return max(len(self._fates) - 1, max(self._ahead, default=0))

    def lacking(self, sent: range) -> int:
        """Return the first of these packets of which there is no row; the end of the range if there are all."""
        self._catch_up()
        at = self._fates.find(NO_ROW, sent.start, sent.stop)
        return min(len(self._fates), sent.stop) if at < 0 else at

    def packed(self, sent: range) -> Packed:
        """Return what is kept of these packets. One of which there is no row was missed."""
        self._catch_up()
        self._extend_to(sent.stop)
        part, fates = slice(sent.start, sent.stop), bytes(self._fates[sent.start : sent.stop])
        heard, queued = fates.translate(_HEARD), fates.translate(_QUEUED)
        copies, levels = self._copies, self._levels
        told_copies = copies and (copies.form or copies.numbers[part].tobytes() != heard)
        told_levels = levels and not levels.empty(part)
        return Packed(
            len(sent),
            bitmap(heard),
            bitmap(queued) if any(queued) else None,
            copies.packed(part) if copies and told_copies else None,
            levels.packed(part) if levels and told_levels else None,
        )

    def _place(self, seq: int, fate: int, rssi: float | None, copies: int | None) -> None:
        self._extend_to(seq + 1)
        self._fates[seq] = fate
        self._tell(seq, fate, rssi, copies)

    def _tell(self, seq: int, fate: int, rssi: float | None, copies: int | None) -> None:
        if copies is None:
            copies = int(fate == HEARD)
        elif self._copies is None and copies != (fate == HEARD):
            self._copies = self._implied()
        if rssi is not None and self._levels is None:
            self._levels = Column(LEVELS, len(self._fates))
        for column, value in ((self._levels, rssi), (self._copies, copies)):
            if column is not None:
                number = column.number(value)  # which may change the form
                column.numbers[seq] = number

    def _implied(self) -> Column:
        """Return the copies, while each packet that was heard came once."""
        column = Column(COUNTS)
        column.extend(0, bytes(self._fates.translate(_HEARD)))
        return column

    def _extend_to(self, count: int) -> None:
        """Make room for so many packets, those that are new without a row."""
        if (more := count - len(self._fates)) <= 0:
            return
        self._fates.extend(bytes(more))
        if self._levels is not None:
            self._levels.extend(0, NO_LEVEL * more)
        if self._copies is not None:
            self._copies.extend(0, bytes(more))

    def _catch_up(self, most: float = float("inf")) -> None:
        """Put what was kept aside to the others, unless that takes more packets than `most`."""
        if self._ahead and max(self._ahead) <= most:
            self._extend_to(max(self._ahead) + 1)
            for seq, row in self._ahead.items():
                self._place(seq, *row)
            self._ahead.clear()


def _best(*levels: float | None) -> float | None:
    return max((level for level in levels if level is not None), default=None)


def gathered(receptions: Iterable[Reception], packets: int) -> dict[str, Gathered]:
    """Return the rows of a run by listener. Raises `UsageError` for one that can't be."""
    listeners: dict[str, Gathered] = {}
    for seq, name, heard, rssi, copies, lost in receptions:
        if not 0 <= seq < packets:
            raise UsageError(f"packet {seq} at {name!r} is not one of the {packets} of the run")
        if heard and lost:
            raise UsageError(f"packet {seq} at {name!r} was heard and lost in the queue, which can't be both")
        if name not in listeners:
            listeners[name] = Gathered()
        try:
            first = listeners[name].put(seq, HEARD if heard else QUEUED if lost else MISSED, rssi, copies)
        except UnreadableError:
            raise UsageError(f"packet {seq} at {name!r} came {copies} times, which can't be") from None
        if not first:
            raise UsageError(f"packet {seq} at {name!r} comes a second time")
    return listeners
