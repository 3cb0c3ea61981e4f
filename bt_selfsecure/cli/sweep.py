"""`bt-selfsecure sweep analyse`, `plot`, `report`, `compare`: what was measured about losses at several distances, and
what a key made there is worth."""

from __future__ import annotations

import argparse
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from bt_selfsecure.cli.sweep_record import DEFAULT, SWEEP_HELP
from bt_selfsecure.cli.sweep_text import compared, needed, progress_line, table
from bt_selfsecure.errors import UsageError
from bt_selfsecure.files import folder, whole
from bt_selfsecure.sweep.plain_json import json_of
from bt_selfsecure.sweep.results import DAMAGED

if TYPE_CHECKING:
    from argparse import _SubParsersAction
    from collections.abc import Sequence

    from bt_selfsecure.sweep.results import Analysis


def add_analyse(commands: _SubParsersAction[ArgumentParser]) -> None:
    parser = commands.add_parser(
        "analyse",
        help="losses, joint losses, secret bits, and whom to believe",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="""\
Losses with 95 % intervals, what Eve misses of what Bob hears, what a key made
of each run is worth, packets needed for more, colluding Eves, and a warning
for each figure that rests on an assumption which the data contradict. Of more
than four settings an overview.

Each listener is judged as Bob against each other one as Eve, run by run. The
weakest run decides; figures of all runs together are called pooled. A pair is
  no key  if Bob heard nothing, in all runs,
  broken  if Eve missed nothing that Bob heard, in all runs,
  weak    if the key of the weakest run is worth less than 128 bits (0 if Eve
          missed nothing of that run),
  holds   otherwise.""",
    )
    parser.set_defaults(run=run_analyse)
    parser.add_argument("sweep", nargs="?", default=DEFAULT, metavar="SWEEP", help=SWEEP_HELP)
    parser.add_argument("--json", action="store_true", help="everything, as one JSON object")
    parser.add_argument("--all", action="store_true", help="each setting, however many there are")
    parser.add_argument("--runs", action="store_true", help="each run of each pair, too; long without --listeners")
    _add_choices(parser)


def _add_choices(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--listeners", default=(), type=_names, metavar="NAME,NAME", help="judge these only (default: all)"
    )
    _add_damaged(parser)


def _add_damaged(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--damaged",
        choices=DAMAGED,
        default=DAMAGED[0],
        help="packets of which Eve has damaged copies alone count as heard by her, who makes them good (default), or, "
        "to compare, as lost",
    )


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} names no listener: write them as in bob,eve")
    return names


def run_analyse(args: Namespace) -> int:
    """Print the analysis."""
    analysis = _analysed(args.sweep, args.listeners, args.damaged)
    if args.json:
        sys.stdout.writelines(analysis.json_text())
        print()
    else:
        print(table(analysis, whole=args.all, runs=args.runs))
    return 0


def add_plot(commands: _SubParsersAction[ArgumentParser]) -> None:
    parser = commands.add_parser(
        "plot",
        help="figures, as SVG and PNG",
        description="Draw loss against distance (the paper's Fig. 7, with intervals and with Eve's lines), the joint "
        "losses, secret bits against distance, packets against colluding Eves, loss against time and against RSSI. "
        "Figures for which the record has no data are left out.",
    )
    parser.set_defaults(run=run_plot)
    parser.add_argument("sweep", nargs="?", default=DEFAULT, metavar="SWEEP", help=SWEEP_HELP)
    parser.add_argument("--out", default="figures", metavar="DIRECTORY", help="(default figures)")
    _add_choices(parser)


def run_plot(args: Namespace) -> int:
    """Draw, and name the files."""
    with needed():
        from bt_selfsecure.sweep.figures import save

    with folder(out := Path(args.out)) as part:
        if not (drawn := save(_analysed(args.sweep, args.listeners, args.damaged), part)):
            raise UsageError(
                "there is nothing to draw: a figure takes two listeners, distances, RSSI, or three runs; add what lacks"
            )
    for path in drawn:
        print(out / path.name)
    return 0


def add_report(commands: _SubParsersAction[ArgumentParser]) -> None:
    parser = commands.add_parser(
        "report",
        help="one HTML page to send to a colleague",
        description="Everything on one HTML page without outside resources: result, warnings, figures, tables, what "
        "was measured with, and how to do it again.",
    )
    parser.set_defaults(run=run_report)
    parser.add_argument("sweep", nargs="?", default=DEFAULT, metavar="SWEEP", help=SWEEP_HELP)
    parser.add_argument("--out", default="report.html", metavar="FILE", help="(default report.html)")
    _add_choices(parser)


def run_report(args: Namespace) -> int:
    """Write the page, and name it."""
    with needed():
        from bt_selfsecure.sweep.analysis import analyse
        from bt_selfsecure.sweep.importing import opened
        from bt_selfsecure.sweep.report import html
    with whole(Path(args.out)) as part, progress_line("read") as progress, opened(args.sweep, progress) as store:
        part.write_text(html(store, analyse(store, progress, args.listeners, damaged=args.damaged)), encoding="utf-8")
    print(args.out)
    return 0


def _analysed(name: str, listeners: Sequence[str] = (), damaged: str = DAMAGED[0]) -> Analysis:
    with needed():
        from bt_selfsecure.sweep.analysis import analyse
        from bt_selfsecure.sweep.importing import opened
    with progress_line("read") as progress, opened(name, progress) as store:
        return analyse(store, progress, listeners, damaged=damaged)


def add_compare(commands: _SubParsersAction[ArgumentParser]) -> None:
    parser = commands.add_parser(
        "compare",
        help="two sweeps side by side",
        description="Put two sweeps side by side, distance by distance: a rehearsal and the field, or the paper and "
        "yours. Listeners are matched by the part that they play in the plan, else by name. A * marks a difference "
        "beyond chance (95 %, packets independent), and a ^ the least that Eve missed in any run; the "
        "other figures are of all runs pooled. Either may also be FILE.csv with the columns distance_m, packets "
        "and loss (0..1), as read off the paper's Fig. 7: it counts as Bob's loss.",
    )
    parser.set_defaults(run=run_compare)
    parser.add_argument("a", metavar="A", help="a record, FILE.csv or FILE.json")
    parser.add_argument("b", metavar="B", help="the same")
    _add_damaged(parser)
    parser.add_argument("--json", action="store_true", help="one JSON array")


def run_compare(args: Namespace) -> int:
    """Print the rows."""
    with needed():
        from bt_selfsecure.sweep.compare import compare, figures_of, figures_read_off
    both = []
    for name in (args.a, args.b):
        read_off = figures_read_off(Path(name)) if name.endswith(".csv") else None
        both.append(figures_of(_analysed(name, damaged=args.damaged)) if read_off is None else read_off)
    rows = list(compare(*both))
    if args.json:
        print(json_of([row.as_json() for row in rows], indent=1))
    else:
        print(f"A: {args.a}\nB: {args.b}\n\n{compared(rows)}")
    return 0
