"""The tables of a sweep's report: losses, Bob and Eve, Eves together. Here is their text, the look is report.html's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final, NamedTuple, TypeVar

from bt_selfsecure.sweep import words
from bt_selfsecure.sweep.results import Analysis, Collusion, InRun, ListenerLosses, Pair, Setting

MOST_ROWS: Final = 72
"""A table has so many rows at most; the weakest pairs come first, and the JSON has all."""
FIGURE: Final = re.compile(r"-|\W*\d\S*( (%|M|B|dBm))?")
"""This is set as figures are: to the right, and in one line."""
UNIT: Final = re.compile(r"(?<=\d) (?=(m|B|M|dBm|ms|MHz)\b)")
"""Before it no line ends."""
LONG_WORD: Final = re.compile(r"\S{15}")
"""This may be longer than its cell, and is broken there; nothing else is."""
MOST_EACH_RUN: Final = 12
"""So many pairs are shown run by run."""

Row = TypeVar("Row")
Columns = Sequence[tuple[str, Callable[[Row], object]]]
"""Of each column the name, and what stands there in a row."""


class ReportTable(NamedTuple):
    """Text and, of each cell, whether its column has nothing but figures. No other table of a page has the label."""

    label: str
    head: list[tuple[str, bool]]
    rows: list[tuple[tuple[str, bool], ...]]
    of: int
    """The number of rows that there are; `rows` may be less."""


def table(label: str, columns: Columns[Row], rows: Iterable[Row], most: int | None = MOST_ROWS) -> ReportTable:
    """Return the table of so many rows, or all, without the columns in which none of them has anything."""
    every = list(rows)
    head, cells = [], []
    for name, cell in columns:
        column = [str(cell(row)) for row in every[:most]]
        if not column or any(value not in (words.NONE, "") for value in column):
            figures = all(FIGURE.fullmatch(value) for value in column)
            head.append((name, figures))
            cells.append([(UNIT.sub("\N{NO-BREAK SPACE}", value), figures) for value in column])
    return ReportTable(label, head, list(zip(*cells, strict=True)), len(every))


def told_apart(analysis: Analysis) -> dict[Setting, str]:
    """Return words for each setting: what differs from the others."""
    settings = list(dict.fromkeys(row.setting for row in analysis.listeners))
    return {setting: ", ".join(said) for setting, said in words.what_differs(settings).items()}


def listeners(analysis: Analysis, apart: Mapping[Setting, str]) -> ReportTable:
    """Return what each listener lost, in each setting."""

    def burst(row: ListenerLosses) -> str:
        fit = row.gilbert_elliott
        return words.NONE if not fit or fit.mean_burst is None else f"{fit.mean_burst:.2f}"

    columns: Columns[ListenerLosses] = [
        ("setting", lambda row: apart[row.setting]),
        ("listener", lambda row: row.listener),
        ("at, m", lambda row: words.metres(row.nearest_m, row.farthest_m)),
        ("on the air", lambda row: f"{row.sent:,}"),
        ("lost", lambda row: words.percent(row.loss)),
        ("95 %", lambda row: words.interval(row.loss_low, row.loss_high)),
        ("burst", burst),
        ("dBm", lambda row: words.NONE if row.rssi_dbm is None else f"{row.rssi_dbm:.0f}"),
    ]
    return table("Losses", columns, analysis.listeners)


def ordered(analysis: Analysis) -> list[Pair]:
    """Return the pairs that the plan names, the weakest first, and then the others."""
    planned = analysis.planned()
    named = {id(pair) for pair in planned}
    others = [pair for pair in analysis.pairs if id(pair) not in named]
    return [*sorted(planned, key=lambda pair: pair.strength), *others]


def pairs(analysis: Analysis, apart: Mapping[Setting, str]) -> ReportTable:
    """Return what a key is worth of each Bob against each Eve."""
    columns: Columns[Pair] = [
        ("setting", lambda pair: apart[pair.setting]),
        ("Bob", lambda pair: pair.bob),
        ("at, m", lambda pair: words.metres(pair.bob_distance_m)),
        ("Eve", lambda pair: pair.eve),
        ("at, m", lambda pair: words.metres(pair.eve_distance_m)),
        ("verdict", lambda pair: pair.marked_verdict),
        ("bits", lambda pair: words.bits(pair.secret_bits)),
        ("N for 128", lambda pair: words.count(pair.packets_to_send["128"])),
        (
            "broken",
            lambda pair: f"{pair.runs_broken}/{pair.runs}, \N{LESS-THAN OR EQUAL TO} {words.percent(pair.broken_high)}",
        ),
        ("worst run", lambda pair: words.NONE if pair.worst_run is None else pair.worst_run),
        ("its e|B at least", lambda pair: words.percent(pair.bound)),
        ("least e|B", lambda pair: words.percent(pair.least_e_given_b)),
        ("median", lambda pair: words.percent(pair.median_e_given_b)),
        ("most", lambda pair: words.percent(pair.greatest_e_given_b)),
        ("pooled", lambda pair: words.percent(pair.e_given_b)),
        ("95 %", lambda pair: words.interval(pair.ci_low, pair.ci_high)),
        ("phi", lambda pair: f"{pair.phi:.2f}"),
    ]
    return table("Bob and Eve", columns, ordered(analysis))


def each_run(analysis: Analysis, apart: Mapping[Setting, str]) -> Iterator[ReportTable]:
    """Return the runs of each of the weakest pairs that has several, the worst first."""
    columns: Columns[InRun] = [
        ("run", lambda run: run.run),
        ("Bob heard", lambda run: f"{run.bob_heard:,}"),
        ("Eve missed", lambda run: f"{run.eve_missed_given_bob:,}"),
        ("e|B", lambda run: words.percent(run.e_given_b)),
        ("at least", lambda run: words.percent(run.bound)),
        ("bits", lambda run: words.bits(run.secret_bits)),
        ("verdict", lambda run: run.verdict),
    ]
    for pair in ordered(analysis)[:MOST_EACH_RUN]:
        if pair.runs > 1:
            runs = sorted(pair.each_run, key=lambda run: (run.secret_bits is None, run.secret_bits, run.run))
            title = f"Bob {pair.bob}, Eve {pair.eve}, {apart[pair.setting]}: each run, the worst first"
            yield table(title, columns, runs, most=None)


def colluding(analysis: Analysis, apart: Mapping[Setting, str]) -> ReportTable:
    """Return, for each number of Eves above one, the Bob and the Eves who make it worst."""
    several = sorted((row for row in analysis.colluding if row.eves > 1), key=lambda row: row.eves)
    worst = [min(same, key=lambda row: row.strength) for _, same in groupby(several, key=lambda row: row.eves)]
    columns: Columns[Collusion] = [
        ("Eves", lambda row: row.eves),
        ("Bob", lambda row: row.bob),
        ("setting", lambda row: apart[row.setting]),
        ("pooled e|B", lambda row: words.percent(row.e_given_b)),
        ("if independent", lambda row: words.percent(row.if_independent)),
        ("worst run", lambda row: row.in_run.run if row.in_run else words.NONE),
        ("e|B", lambda row: words.percent(row.in_run.e_given_b if row.in_run else None)),
        ("bits", lambda row: words.bits(row.in_run.secret_bits if row.in_run else None)),
        ("broken", lambda row: f"{row.runs_broken}/{row.runs}"),
        ("|S| for 128", lambda row: words.count(row.packets_needed["128"])),
        ("pooled", lambda row: words.count(row.pooled_packets_needed["128"])),
        ("who", lambda row: ", ".join(row.worst_in_run)),
    ]
    return table("Eves together", columns, worst)
