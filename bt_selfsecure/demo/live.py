"""The story on a terminal, moving: who heard what, the secret bits as they grow, the session, the stolen key's life.

Virtual time runs as fast as the processor, so the show is paced: a picture each `FRAME_S` seconds, each a step further.
"""

from __future__ import annotations

import textwrap
import time
from typing import TYPE_CHECKING, Final

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from bt_selfsecure.demo.outcome import ReceptionOutcome
from bt_selfsecure.demo.plain import ROW, Marks, marks_for, packet_map
from bt_selfsecure.demo.scenario import Scenario
from bt_selfsecure.demo.setting import Production
from bt_selfsecure.demo.summary import air
from bt_selfsecure.look import BLUE, ORANGE, PURPLE
from bt_selfsecure.stats.losses import packets_needed, secret_bits

if TYPE_CHECKING:
    from types import TracebackType

FRAME_S: Final = 0.05
"""Seconds a picture stays."""
ACT_S: Final = 3.0
"""Seconds for the establishment, and for the session."""
PAUSE_S: Final = 0.25
"""Seconds after each sentence of the story."""
MIN_COLUMNS, MIN_LINES = 72, 20
_FIXED_LINES: Final = 17
"""All lines but the packet map's, and one for the cursor."""
_MOST_ROWS: Final = 12
_BAR: Final = 44

# Of light or dark ground nobody knows: each colour stands out from both. Shapes tell where there is no colour.
_QUIET: Final = "#767676"
_STYLES: Final = {
    ReceptionOutcome.BOTH: BLUE,
    ReceptionOutcome.BOB_ONLY: f"bold {ORANGE}",
    ReceptionOutcome.EVE_ONLY: PURPLE,
    ReceptionOutcome.NEITHER: _QUIET,
}
_DONE: Final = BLUE
_THIEF: Final = PURPLE
_HEAD: Final = "bold"


def fits(console: Console) -> bool:
    """Return whether the live view can be shown here."""
    return (
        console.is_terminal
        and not console.is_dumb_terminal
        and console.width >= MIN_COLUMNS
        and console.height >= MIN_LINES
    )


class LiveStage:
    """Draws one picture again and again in its place. It is a context manager: leaving it, however, restores the
    terminal."""

    def __init__(self, production: Production, console: Console, *, paced: bool) -> None:
        self._production: Final = production
        self._console: Final = console
        self._paced: Final = paced
        self._marks: Final[Marks] = marks_for(console.encoding)
        self._lines: list[str] = []
        self._story: Scenario | None = None
        self._shown = (0, 0)
        self._live: Final = Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        self._step: Final = self._packets_a_frame() if paced else 50

    def __enter__(self) -> LiveStage:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._story is not None:
            self._draw(self._story)
        self._live.stop()
        if error is None:
            self._wait(4 * PAUSE_S)

    def say(self, line: str) -> None:
        self._lines += textwrap.wrap(line, self._width - 2, subsequent_indent="  ")
        if self._story is not None:
            self._draw(self._story)
            self._wait(PAUSE_S)

    def show(self, story: Scenario) -> None:
        """Draw if enough has changed since the last picture."""
        packets, messages = self._shown
        self._story = story
        step = max(1, len(story.chunks) * FRAME_S / ACT_S) if self._paced else 10
        if story.sent - packets < self._step and story.delivered - messages < step:
            return
        self._draw(story)
        self._wait(max(FRAME_S, ACT_S / len(story.chunks)) if story.phase == "session" else FRAME_S)

    @property
    def _width(self) -> int:
        return min(self._console.width, 80)

    def _packets_a_frame(self) -> int:
        """Return so many packets that the burst, as long as it is expected to be, takes `ACT_S` seconds."""
        config, d = self._production.plot.alice, self._production.survey.joint.d
        needed = packets_needed(config.target_bits, config.eve_loss_bound) / max(0.01, 1 - d)
        return max(1, round(min(needed, config.max_burst) * FRAME_S / ACT_S))

    def _wait(self, seconds: float) -> None:
        if self._paced:
            time.sleep(seconds)

    def _draw(self, story: Scenario) -> None:
        self._shown = (story.sent, story.delivered)
        picture = [*self._map(story), *self._bits(story), *self._session(story), *self._said()]
        self._live.update(Group(self._title(), *picture), refresh=True)

    def _title(self) -> Text:
        return Text(f"Air: {air(self._production.request)}"[: self._width], _HEAD)

    def _rule(self, title: str) -> Text:
        rule = self._marks.rule
        return Text(f"{rule * 2} {title} ".ljust(self._width, rule), _QUIET)

    def _map(self, story: Scenario) -> list[Text]:
        rows = max(2, min(_MOST_ROWS, self._console.height - _FIXED_LINES))
        # the newest packet is still on its way
        fates = story.fates()[:-1] if story.phase == "establish" else story.outcome.fates
        lines = [self._rule("Who heard each packet of the burst (the newest)"), self._legend()]
        for start, row in packet_map(fates, rows):
            line = Text(f"{start:>6} ", _QUIET)
            for fate in row:
                line.append(self._marks.of(fate), _STYLES[fate])
            lines.append(line)
        return lines + [Text("")] * (rows + 2 - len(lines))

    def _legend(self) -> Text:
        line, names = (
            Text("       "),
            dict(zip(ReceptionOutcome, ("both", "Bob only: the secret", "Eve only", "nobody"), strict=True)),
        )
        for fate, name in names.items():
            line.append(self._marks.of(fate), _STYLES[fate])
            line.append(f" {name}    ")
        return line

    def _bits(self, story: Scenario) -> list[Text]:
        config = story.plot.alice
        bits = secret_bits(story.received, config.eve_loss_bound)
        mark = f"{bits:5.0f} of {config.target_bits:g} bits"
        return [
            self._rule(f"Secret bits: Bob kept {story.received} of {story.sent} packets"),
            self._bar("growing", bits / config.target_bits, mark),
        ]

    def _bar(self, label: str, share: float, text: str) -> Text:
        full = min(_BAR, int(share * _BAR))
        line = Text(f"{label:>8} ")
        line.append(self._marks.both * full, _DONE)
        line.append(self._marks.neither * (_BAR - full), _QUIET)
        return line.append(f" {text}")

    def _session(self, story: Scenario) -> list[Text]:
        total = len(story.chunks)
        return [
            self._rule("Session: the key rolls at each message"),
            self._bar("file", story.delivered / total, f"{story.delivered} of {total} messages"),
            self._lane(story),
            Text(f"         {self._thief(story)}", _QUIET),
        ]

    def _lane(self, story: Scenario) -> Text:
        """Return a character for some rounds each: what Eve does with the stolen key."""
        line, columns = Text("     Eve "), min(ROW, len(story.chunks))
        for column in range(columns):
            rounds = range(column * len(story.chunks) // columns, (column + 1) * len(story.chunks) // columns)
            line.append(*self._moment(story, rounds))
        return line

    def _moment(self, story: Scenario, rounds: range) -> tuple[str, str]:
        stolen_at, out_at = story.outcome.stolen_at, story.out_at
        if rounds[0] >= story.delivered or stolen_at is None:
            return " ", ""
        if rounds[-1] < stolen_at:
            return self._marks.ahead, _QUIET
        if out_at is not None and out_at <= rounds[-1] + 1:
            return (self._marks.missed, "bold") if out_at > rounds[0] else (self._marks.out, _QUIET)
        return self._marks.read, _THIEF

    def _thief(self, story: Scenario) -> str:
        stolen_at, out_at = story.outcome.stolen_at, story.out_at
        computed = story.outcome.eve_has_key
        if not computed and (stolen_at is None or story.delivered <= stolen_at):
            return "nobody else holds a key"
        key = "Eve has K_0" if computed else f"Eve stole K_{stolen_at}"
        if out_at is None:
            return f"{key} and reads along: {len(story.read)} messages"
        return f"{key}, read {len(story.read)}, missed one ({self._marks.missed}), and is out from K_{out_at} on"

    def _said(self) -> list[Text]:
        lines = self._lines[-4:]
        return [self._rule("Scenario"), *map(Text, lines), *[Text("")] * (4 - len(lines))]
