"""One listener's receptions of a run, packed: a bit a packet, and about a byte more where levels are known.

docs/sweep.md documents the format. Rows become it by `gathering`. No numpy: a Pi that records a sweep needs none.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from operator import add
from typing import Any, Final, NamedTuple

from bt_selfsecure.errors import UnreadableError, UsageError


class Reception(NamedTuple):
    """This is what became of one packet at one listener."""

    seq: int
    receiver: str
    heard: bool
    rssi: float | None = None
    """dBm, of the best copy."""
    copies: int | None = None
    """How often it came (an advertisement is repeated); None is once, if it was heard. Copies of one that was not heard
    were damaged."""
    lost_in_queue: bool = False
    """It never went on the air for this listener: dropped or flushed in the sender's queue. No loss of the radio's."""


SHORT_BYTES: Final = 1 << 12
"""Bytes of a column for which zlib need not make room for more, which takes it most of the time."""

KNOWN: Final = 1 << 12
"""Values whose numbers are kept: levels are few, as a rule."""


# --- Columns ----------------------------------------------------------------------------------------------------------


class Form(NamedTuple):
    """A column of values is written as numbers of one type."""

    type: str
    """As `array` calls it; little-endian."""
    bytes: int
    per_unit: int
    """The number that is written for 1."""
    least: float
    none: float
    """What is written where there is no value, and the least number that can't be one."""

    def number(self, value: float | None) -> float | None:
        """Return what is written for a value; None if this form can't say it exactly."""
        if value is None or value != value:
            return self.none
        if self.type == "d":
            return float(value)
        if not self.least / self.per_unit <= value < self.none / self.per_unit:
            return None
        number = round(value * self.per_unit)
        exact = number == value if self.per_unit == 1 else number / self.per_unit == value
        return number if exact and number < self.none else None

    def value(self, number: float) -> float | None:
        """Return the level for which this was written."""
        return None if number == self.none or number != number else number / self.per_unit


Forms = tuple[Form, ...]
LEVELS: Final = (
    Form("b", 1, 1, -128, 127),
    Form("h", 2, 100, -32768, 32767),
    Form("d", 8, 1, float("-inf"), float("nan")),
)
"""Whole dBm, as most receivers tell it; hundredths; anything else."""
COUNTS: Final = (
    Form("B", 1, 1, 0, 1 << 8),
    Form("H", 2, 1, 0, 1 << 16),
    Form("I", 4, 1, 0, 1 << 32),
    Form("Q", 8, 1, 0, 1 << 63),
)


class Column:
    """A column has a value a packet, in the narrowest form that can say all of them."""

    __slots__ = ("_known", "form", "forms", "numbers")

    def __init__(self, forms: Forms, count: int = 0) -> None:
        """Begin with `count` packets without a value."""
        self.forms, self.form = forms, 0
        self.numbers: array[Any] = array(forms[0].type)
        if count:
            self.numbers = array(forms[0].type, [int(forms[0].none)]) * count
        self._known: dict[float | None, float] = {}

    def number(self, value: float | None) -> float:
        """Return what is written for a value, having changed the form if need be. UnreadableError beyond 64 bits."""
        try:
            return self._known[value]
        except KeyError:
            while (number := self.forms[self.form].number(value)) is None:
                if self.form + 1 == len(self.forms):
                    raise UnreadableError("too large") from None
                self.widen(self.form + 1)
            if value == value and len(self._known) < KNOWN:
                self._known[value] = number
            return number

    def widen(self, form: int) -> None:
        """Change to a wider form."""
        if form > self.form:
            self.numbers = _converted(self.numbers, self.forms, self.form, form)
            self.form = form
            self._known.clear()

    def extend(self, form: int, data: bytes) -> None:
        """Append numbers that are written in any of the forms."""
        self.widen(form)
        if form < self.form:
            narrow: array[Any] = array(self.forms[form].type)
            narrow.frombytes(data)
            self.numbers.extend(_converted(narrow, self.forms, form, self.form))
        else:
            self.numbers.frombytes(data)

    def empty(self, part: slice) -> bool:
        """Return whether none of these packets has a value."""
        numbers = self.numbers[part]
        none: array[Any] = array(numbers.typecode, [self.number(None)])
        return numbers.tobytes() == none.tobytes() * len(numbers)

    def packed(self, part: slice) -> bytes:
        """Return what the record keeps of these packets."""
        data = _little_endian(self.numbers[part]).tobytes()
        if len(data) > SHORT_BYTES:
            return zlib.compress(data, 1)
        writer = zlib.compressobj(1, zlib.DEFLATED, SHORT_BYTES.bit_length() - 1, 5)
        return writer.compress(data) + writer.flush()


def _converted(numbers: array[Any], forms: Forms, before: int, after: int) -> array[Any]:
    if forms is COUNTS:
        return array(forms[after].type, numbers)
    wider = {number: forms[after].number(forms[before].value(number)) for number in set(numbers)}
    return array(forms[after].type, map(wider.__getitem__, numbers))


def _little_endian(numbers: array[Any]) -> array[Any]:
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers


def unpacked(blob: bytes, forms: Forms, packets: int) -> tuple[Form, array[Any]]:
    """Return a column of so many packets. Raises `UsageError` if it is damaged."""
    try:
        data = zlib.decompressobj().decompress(blob, packets * forms[-1].bytes + 1)
    except zlib.error as error:
        raise _damaged(str(error)) from None
    for form in forms:
        if len(data) == packets * form.bytes:
            numbers: array[Any] = array(form.type)
            numbers.frombytes(data)
            return form, _little_endian(numbers)
    raise _damaged(f"a column of {len(data)} bytes for {packets} packets")


def _damaged(how: str) -> UsageError:
    return UsageError(f"what the record has of a run is damaged ({how}): take the record from a copy, and go on there")


# --- Packed -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Packed:
    """This is what the record keeps of one listener in a run."""

    packets: int
    heard: bytes
    """A bitmap: packet i is bit i % 8 of byte i // 8, the least significant being bit 0."""
    lost_in_queue: bytes | None = None
    """Likewise; None where there are none."""
    copies: bytes | None = None
    """A column, see `COUNTS`; None where each packet that was heard came once, and no other came."""
    rssi: bytes | None = None
    """A column, see `LEVELS`; None where none is known."""

    def __post_init__(self) -> None:
        """Raise `UsageError` where the bitmaps can't be of so many packets."""
        for bitmap in (self.heard, self.lost_in_queue):
            if bitmap is not None and (
                len(bitmap) != (self.packets + 7) // 8 or int.from_bytes(bitmap, "little") >> self.packets
            ):
                raise _damaged(f"a bitmap of {len(bitmap)} bytes for {self.packets} packets")

    def fates(self) -> bytes:
        """Return what became of each packet: 0 missed, 1 heard, 2 lost in the queue."""
        heard = _flags(self.heard, self.packets)
        if self.lost_in_queue is None:
            return heard
        lost = _flags(self.lost_in_queue, self.packets)
        return bytes(map(add, heard, map(add, lost, lost)))

    def copies_of_each(self) -> Sequence[int]:
        """Return how often each packet came. Raises `UsageError` if the column is damaged."""
        if self.copies is None:
            return _flags(self.heard, self.packets)
        return unpacked(self.copies, COUNTS, self.packets)[1]

    def levels(self) -> Sequence[float | None]:
        """Return the dBm of each packet. Raises `UsageError` if the column is damaged."""
        if self.rssi is None:
            return [None] * self.packets
        form, numbers = unpacked(self.rssi, LEVELS, self.packets)
        if form.type == "d":
            return [form.value(number) for number in numbers]
        values = {number: form.value(number) for number in set(numbers)}
        return list(map(values.__getitem__, numbers))

    def rows(self, name: str) -> Iterator[Reception]:
        """Yield each packet, in order. Raises `UsageError` if a column is damaged."""
        for seq, (fate, rssi, copies) in enumerate(
            zip(self.fates(), self.levels(), self.copies_of_each(), strict=True)
        ):
            yield Reception(seq, name, fate == 1, rssi, copies, fate == 2)

    def may_be(self, other: Packed) -> bool:
        """Return whether both say the same of each packet: the same fate and, where both know it, the same level."""
        if (self.packets, self.heard, self.lost_in_queue) != (other.packets, other.heard, other.lost_in_queue):
            return False
        if self.rssi is None or other.rssi is None or self.rssi == other.rssi:
            return True
        pairs = zip(self.levels(), other.levels(), strict=True)
        return all(one is None or another is None or one == another for one, another in pairs)


def digest(listeners: Mapping[str, Packed]) -> bytes:
    """Return what tells runs apart of which a packet had another fate at a listener, or that have other listeners."""
    hashed = blake2b(digest_size=8)
    for name, packed in sorted(listeners.items()):
        for part in (name.encode(), packed.heard, packed.lost_in_queue or b""):
            hashed.update(len(part).to_bytes(8, "big") + part)
    return hashed.digest()


_DIGITS: Final = bytes.maketrans(bytes(range(2)), b"01")
_VALUES: Final = bytes.maketrans(b"01", bytes(range(2)))


def bitmap(flags: bytes) -> bytes:
    """Return the bitmap of bytes that are 1 or 0. Python reads and writes numbers to the base of two in linear time,
    any length."""
    return int(flags.translate(_DIGITS)[::-1], 2).to_bytes((len(flags) + 7) // 8, "little")


def _flags(bitmap: bytes, count: int) -> bytes:
    return format(int.from_bytes(bitmap, "little"), f"0{count}b").encode().translate(_VALUES)[::-1]
