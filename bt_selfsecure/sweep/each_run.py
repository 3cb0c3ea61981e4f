"""Figures of single runs, made when they are asked for: a record may have a million, and most results need a few."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from operator import eq
from typing import Final, TypeVar, overload

from bt_selfsecure.sweep.counting import Numbers, SettingCounts
from bt_selfsecure.sweep.results import InRun, OneRun
from bt_selfsecure.sweep.worth import in_run

T = TypeVar("T")
BLOCK: Final = 4096
"""Runs that become Python's numbers at once."""


class _Made(Sequence[T]):
    """Is a sequence whose elements are made when they are read; equal to any other of equal elements."""

    @abstractmethod
    def _made(self, index: int) -> T:
        """Return the element of this number, 0 to len - 1."""

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        numbers = range(len(self))[index]
        return self._made(numbers) if isinstance(numbers, int) else [self._made(number) for number in numbers]

    def __iter__(self) -> Iterator[T]:
        return map(self._made, range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]


class InRuns(_Made[InRun]):
    """Has each run by itself: packets that Bob heard, and those of them that Eve (or Eves together) missed, both of
    shape (runs,)."""

    def __init__(self, one: SettingCounts, heard: Numbers, missed: Numbers) -> None:
        self._one, self._heard, self._missed = one, heard, missed

    def __len__(self) -> int:
        return len(self._one.runs)

    def _made(self, index: int) -> InRun:
        one = self._one
        heard, missed = int(self._heard[index]), int(self._missed[index])
        return in_run(one.runs[index], one.sent_in[index], heard, missed, one.key.setting.size_bytes)

    def kinds(self) -> Iterator[tuple[InRun, int]]:
        """Yield the first run of each kind, with how many are like it: short runs are of few kinds."""
        found: dict[tuple[int, int, int], list[int]] = {}
        for start in range(0, len(self), BLOCK):
            block = slice(start, start + BLOCK)
            kinds = zip(
                self._one.sent_in[block], self._heard[block].tolist(), self._missed[block].tolist(), strict=True
            )
            for number, kind in enumerate(kinds, start):
                found.setdefault(kind, [number, 0])[1] += 1
        for first, alike in found.values():
            yield self._made(first), alike


class OneRuns(_Made[OneRun]):
    """Has what each listener heard of each run, run by run."""

    def __init__(self, one: SettingCounts) -> None:
        self._one = one
        self._metres, self._rssi = one.metres, one.rssi
        self._heard = one.both.diagonal(axis1=1, axis2=2)

    def __len__(self) -> int:
        return len(self._one.runs) * len(self._one.key.listeners)

    def _made(self, index: int) -> OneRun:
        one = self._one
        number, listener = divmod(index, len(one.key.listeners))
        began = one.started(number)
        return OneRun(
            one.runs[number],
            one.key.setting,
            one.key.listeners[listener],
            number_or_none(self._metres[number, listener]),
            began.isoformat() if began else None,
            one.sent_in[number],
            one.sent_in[number] - int(self._heard[number, listener]),
            one.queued_in[number],
            number_or_none(self._rssi[number, listener]),
        )


def number_or_none(value: float) -> float | None:
    """Return it, or None for what JSON has not: infinity and nan."""
    return float(value) if math.isfinite(value) else None
