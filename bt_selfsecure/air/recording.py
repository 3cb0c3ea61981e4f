"""Recorded radio: which of several receivers heard each advertisement of a real transmitter.

The recording that ships with the package is a part of the Position-Annotated BLE RSSI Dataset (CC0; `data/LICENSE.CC0`
says what was derived from it): 320 234 advertisements, one every 455 ms, from 81 positions in an office of 20.7 m by
17.6 m, and for each of them which of 12 receivers heard it. Your own recording has the same two files:
`data/ble_office_reception.json` is the example to follow.
"""

from __future__ import annotations

import hashlib
import json
import sys
import zlib
from array import array
from collections import Counter
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from bt_selfsecure.errors import UnreadableError, UsageError
from bt_selfsecure.stats.losses import JointLoss
from bt_selfsecure.wording import unprintable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from importlib.resources.abc import Traversable

OFFICE = "ble_office_reception.json"
MAX_RECEIVERS = 16
"""One bit each in a 16-bit word."""
MAX_EVENTS = 1 << 25
"""A hundred times the office's, which took two days: 64 MiB of words."""
MAX_DESCRIPTION_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class RecordedReceiver:
    """Describes one of the receivers that listened all the time."""

    bit: int
    name: str
    metres: tuple[float, ...]
    raspberry_pi_oui: bool
    """Its address is of the Raspberry Pi Foundation: presumably a Pi's onboard radio."""


@dataclass(frozen=True, slots=True)
class RecordedPosition:
    """Describes one place of the transmitter, and its run of events."""

    metres: tuple[float, ...]
    first_event: int
    events: int
    interval: float
    """Seconds between two advertisements, mean."""


class Recording:
    """Holds receptions as one 16-bit word an event: bit i is set if receiver i heard it."""

    def __init__(
        self, receivers: tuple[RecordedReceiver, ...], positions: tuple[RecordedPosition, ...], words: array[int]
    ) -> None:
        """`words` has type code "H"; `UnreadableError` if receivers, positions and words do not fit together."""
        bits = {receiver.bit for receiver in receivers}
        if not bits or len(bits) < len(receivers) or not bits <= set(range(MAX_RECEIVERS)):
            raise UnreadableError(f"receivers need bits of their own in 0..{MAX_RECEIVERS - 1}")
        if not positions:
            raise UnreadableError("it has no transmitter position")
        for index, position in enumerate(positions):
            if position.events < 1 or not 0 <= position.first_event <= len(words) - position.events:
                raise UnreadableError(f"position {index} reaches outside the {len(words)} events")
        if sum(position.events for position in positions) > len(words):
            raise UnreadableError(f"its positions claim more than the {len(words)} events that there are")
        self.receivers = receivers
        self.positions = positions
        self._words = memoryview(words).toreadonly()
        self._counts: dict[int | None, Counter[int]] = {}
        if any(word >> bit & 1 for word in self._count(None) for bit in set(range(MAX_RECEIVERS)) - bits):
            raise UnreadableError("an event was heard by a receiver that is not described")

    @classmethod
    def load(cls, path: str | Path | None = None) -> Self:
        """Return the recording that `path` (the JSON file) describes, or the package's own.

        UsageError that names the file, the fault and the remedy if either of the two files can't be read, is truncated,
        is not what its checksum says, or does not fit the other.
        """
        if path is None:
            folder: Traversable = files("bt_selfsecure.air") / "data"
            name, remedy = OFFICE, "install bt-selfsecure again"
        else:
            folder, name = Path(path).parent, Path(path).name
            remedy = "copy it again from where it came from"
        text = _read(folder / name, MAX_DESCRIPTION_BYTES, remedy)
        try:
            description = json.loads(text)
            words = _words(folder, description, remedy)
            return cls(*_described(description), words)
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            fault = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            raise UsageError(f"{folder / name} does not describe a recording ({fault}): {remedy}") from error

    def events(self, position: int | None = None) -> memoryview[int]:
        """Return the words of one position in the order of sending, or of all positions; nothing is copied."""
        if position is None:
            return self._words
        place = self.positions[self.position(position)]
        return self._words[place.first_event : place.first_event + place.events]

    def position(self, index: int) -> int:
        """Return `index`, if there is such a position. UsageError otherwise."""
        if not 0 <= index < len(self.positions):
            raise UsageError(f"the recording has no position {index}: choose 0..{len(self.positions) - 1}")
        return index

    def receiver(self, which: str | int) -> RecordedReceiver:
        """Return the receiver of that name or bit. UsageError, naming them all, if there is none."""
        for receiver in self.receivers:
            if str(which) in (receiver.name, str(receiver.bit)):
                return receiver
        names = ", ".join(f"{receiver.bit}={receiver.name}" for receiver in self.receivers)
        raise UsageError(f"the recording has no receiver {which!r}: choose one of {names}")

    def joint_loss(self, position: int | None, bob: str | int, eves: Collection[str | int]) -> JointLoss:
        """Return what Bob and colluding Eves heard of one position's events (None: of all): she misses what all of them
        miss.

        Receivers by name or bit. UsageError if Bob is one of the Eves, or there is no Eve.
        """
        bob_mask = 1 << self.receiver(bob).bit
        eve_mask = 0
        for eve in eves:
            eve_mask |= 1 << self.receiver(eve).bit
        if not eve_mask or eve_mask & bob_mask:
            raise UsageError("Eve is at least one receiver, and none of hers is Bob's: choose others")
        table = [0, 0, 0, 0]
        for word, count in self._count(position).items():
            table[2 * (not word & bob_mask) + (not word & eve_mask)] += count
        return JointLoss(*table)

    def _count(self, position: int | None) -> Counter[int]:
        """How often each word occurs: 2 806 of them stand for the office's 320 234 events."""
        if position not in self._counts:
            self._counts[position] = Counter(self.events(position))
        return self._counts[position]


def _read(file: Traversable, most: int, remedy: str) -> bytes:
    """The file, if it has at most so many octets: no more of it is read than that."""
    try:
        with file.open("rb") as opened:
            content: bytes = opened.read(most + 1)
    except OSError as error:
        raise UsageError(f"can't read {file} ({error.strerror}): {remedy}, or name another") from error
    if len(content) > most:
        raise UsageError(f"{file} is too long for what it should be (more than {most} octets): {remedy}")
    return content


def _words(folder: Traversable, description: Mapping[str, Any], remedy: str) -> array[int]:
    """The events, after every check that the description allows."""
    name, size = str(description["file"]), 2 * int(description["events"])
    if "/" in name:
        raise UnreadableError(f"its data file {name!r} is not beside it")
    if not 0 <= size <= 2 * MAX_EVENTS:
        raise UnreadableError(f"it has 0 to {MAX_EVENTS} events, not {size // 2}")
    packed = _read(folder / name, size + size // 100 + 1024, remedy)  # zlib adds less where it gains nothing
    inflate = zlib.decompressobj()
    try:
        raw = inflate.decompress(packed, size + 1)
    except zlib.error as error:
        raise UsageError(f"{folder / name} is corrupted ({error}): {remedy}") from error
    if len(raw) != size:
        size_seen = f"more than {size}" if len(raw) > size else f"{len(raw)} of {size}"
        raise UsageError(f"{folder / name} is truncated or too long ({size_seen} octets inside): {remedy}")
    if hashlib.sha256(raw).hexdigest() != description["sha256_uncompressed"]:
        raise UsageError(f"{folder / name} is corrupted (its SHA-256 is not the one described): {remedy}")
    words = array("H", raw)
    if sys.byteorder == "big":
        words.byteswap()
    return words


def _described(description: Mapping[str, Any]) -> tuple[tuple[RecordedReceiver, ...], tuple[RecordedPosition, ...]]:
    receivers = tuple(
        RecordedReceiver(int(item["bit"]), str(item["name"]), _metres(item), bool(item["raspberry_pi_oui"]))
        for item in description["receivers"]
    )
    positions = tuple(
        RecordedPosition(
            _metres(item),
            int(item["first_event"]),
            int(item["events"]),
            float(item["interval_s"]),
        )
        for item in description["transmitter_positions"]
    )
    if len({len(place) for place in (*(each.metres for each in receivers), *(each.metres for each in positions))}) > 1:
        raise UnreadableError("its positions have not all as many coordinates")
    for why in filter(None, (unprintable(each.name) for each in receivers)):
        raise UnreadableError(why)
    return receivers, positions


def _metres(item: Mapping[str, Any]) -> tuple[float, ...]:
    return tuple(map(float, item["position_m"]))
