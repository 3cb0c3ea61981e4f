"""The story in plain lines: for pipes, logs, terminals that can't do more, and readers who want no movement."""

from __future__ import annotations

import shutil
import textwrap
from dataclasses import dataclass
from typing import Final, TextIO

from bt_selfsecure.demo.outcome import ReceptionOutcome
from bt_selfsecure.demo.scenario import Scenario
from bt_selfsecure.demo.summary import WIDTH

ROW: Final = 64
"""Packets in one row of the map, where there is room for them."""
NARROWEST: Final = 40
_BESIDE: Final = 9  # columns beside the marks


@dataclass(frozen=True, slots=True)
class Marks:
    """Holds the characters that mark the packets of the map, apart by their shape alone, and the thief's lane."""

    both: str
    bob_only: str
    eve_only: str
    neither: str
    ahead: str
    """A round before the theft."""
    read: str
    missed: str
    """A round that she had the key of, and missed."""
    out: str
    rule: str

    def of(self, fate: ReceptionOutcome) -> str:
        match fate:
            case ReceptionOutcome.BOTH:
                return self.both
            case ReceptionOutcome.BOB_ONLY:
                return self.bob_only
            case ReceptionOutcome.EVE_ONLY:
                return self.eve_only
            case ReceptionOutcome.NEITHER:
                return self.neither

    @property
    def legend(self) -> str:
        """Return one line of at most 76 columns."""
        return (
            f"{self.both} Bob and Eve   {self.bob_only} Bob only: that is the secret   {self.eve_only} Eve only   "
            f"{self.neither} nobody"
        )


BLOCKS: Final = Marks("█", "◆", "○", "·", "·", "█", "×", "─", "─")
ASCII: Final = Marks("#", "B", "e", ".", ".", "#", "x", "-", "-")


def marks_for(encoding: str) -> Marks:
    """Return the marks that can be written in an encoding."""
    try:
        "".join((BLOCKS.legend, BLOCKS.missed, BLOCKS.rule)).encode(encoding)
    except UnicodeEncodeError:
        return ASCII
    return BLOCKS


def packet_map(
    fates: list[ReceptionOutcome], rows: int, columns: int = ROW
) -> list[tuple[int, list[ReceptionOutcome]]]:
    """Return the last `rows` rows: number of the first packet, and the fates of up to `columns` packets."""
    return [(start, fates[start : start + columns]) for start in range(0, len(fates), columns)[-rows:]]


def width_of(stream: TextIO) -> int:
    """Return columns to use: 80, or those of a narrower terminal."""
    if not stream.isatty():
        return WIDTH
    return max(NARROWEST, min(WIDTH, shutil.get_terminal_size().columns))


def write(stream: TextIO, *lines: str) -> None:
    """Write each line, with a question mark for what the stream can't encode."""
    encoding = stream.encoding or "ascii"
    for line in lines:
        stream.write(line.encode(encoding, "replace").decode(encoding) + "\n")
    stream.flush()


class SilentStage:
    """This stage shows nothing."""

    def say(self, line: str) -> None:
        pass

    def show(self, story: Scenario) -> None:
        pass


class PlainStage:
    """This stage writes the sentences as they come, and the packet map when the establishment is over."""

    MAP_ROWS: Final = 8

    def __init__(self, stream: TextIO) -> None:
        self._stream: Final = stream
        self._width: Final = width_of(stream)
        self._marks: Final = marks_for(stream.encoding or "ascii")
        self._map_due = True

    def say(self, line: str) -> None:
        write(self._stream, *(textwrap.wrap(line, self._width, subsequent_indent="  ") or [""]))

    def show(self, story: Scenario) -> None:
        if self._map_due and story.phase != "establish":
            self._map_due = False
            self._draw(story)

    def _draw(self, story: Scenario) -> None:
        fates = story.outcome.fates
        columns = ROW if self._width >= ROW + _BESIDE else ROW // 2
        rows = packet_map(fates, self.MAP_ROWS, columns)
        if not rows:
            return
        last = "" if rows[0][0] == 0 else f"; the last {len(fates) - rows[0][0]} of {len(fates)}"
        write(self._stream, "", *textwrap.wrap(f"Who heard each packet of the burst{last}:", self._width))
        for start, row in rows:
            write(self._stream, f"{start:>6} {''.join(map(self._marks.of, row))}")
        write(self._stream, *textwrap.wrap(self._marks.legend, self._width), "")
