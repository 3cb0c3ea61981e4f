"""`bt-selfsecure sweep study`: many establishments, simulated over a grid of losses."""

from __future__ import annotations

import argparse
import shlex
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from bt_selfsecure.cli.streams import INTERRUPTED
from bt_selfsecure.cli.sweep_text import needed, progress_line
from bt_selfsecure.errors import UsageError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from bt_selfsecure.sweep.study import PointResult

MOST_ROWS = 40

DESCRIPTION = """\
Simulate establishments at each point of a grid of losses, correlations, packet
numbers and colluding Eves, each packet drawn; and write how often the Eves had
everything that Bob received. The same grid and seed give the same table on one
core, on all (the default), or on a Dask cluster. Interrupt it with Ctrl-C, and
the same command goes on where it was."""
EPILOG = """\
GRID.toml, where every combination of values is a point:
  [study]
  trials = 100_000             # establishments at each point
  seed = 1
  bob_loss = [0.05, 0.1]       # d
  eve_loss = [0.02, 0.05]      # e, of each Eve
  correlation = [0.0, 0.2]     # of Bob's losses and each Eve's (default 0)
  packets = [200, 400, 800]    # N
  eves = [1, 2]                # who collude (default 1)

A cluster: `dask scheduler` on one machine, `dask worker tcp://THAT:8786` on
each, then --scheduler tcp://THAT:8786 here. The workers and this machine need
the same bt_selfsecure[dask], numpy and Python (3.11, 3.13 ...): a worker that
has others, whenever it joins, is left out. The scheduler needs Dask alone.
Every address of Dask's does: tcp, tls (with certificates in Dask's
configuration), ws, wss; ucx where its package is installed. Where scheduler or
workers go, the study says so and goes on when they are back. One study writes
a table at a time. Dask lets anybody who reaches its ports run programs: keep
it in a network of your own.
"""


def add_parser(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `study` and its options."""
    parser = commands.add_parser(
        "study",
        help="Monte Carlo over a grid of losses, packets and Eves",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run_study)
    parser.add_argument("grid", metavar="GRID.toml", help="see below")
    parser.add_argument("--out", metavar="FILE", help="table (default: the grid's name with .parquet)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a running Dask cluster, as in tcp://10.0.0.2:8786")


def run_study(args: Namespace) -> int:
    """Run or go on, write the table, and show its head."""
    with needed():
        from bt_selfsecure.sweep import study
    grid = study.read_grid(Path(args.grid))
    out = Path(args.out) if args.out else Path(args.grid).with_suffix(".parquet")
    if out.suffix != ".parquet":
        raise UsageError(f"the table is written as Parquet: give --out a name that ends in .parquet, not {str(out)!r}")
    words = ["bt-selfsecure", "sweep", "study", args.grid]
    words += ["--out", args.out] if args.out else []
    again = shlex.join(words + (["--scheduler", args.scheduler] if args.scheduler else []))

    def tell(what: str) -> None:
        print(f"bt-selfsecure: {what}. After Ctrl-C, too, it goes on with {again}", file=sys.stderr, flush=True)

    with progress_line("simulated") as progress:
        try:
            table = study.run(grid, out, args.scheduler, progress, tell)
        except KeyboardInterrupt:
            print(f"bt-selfsecure: interrupted; it goes on where it was with {again}", file=sys.stderr)
            return INTERRUPTED
    print(_table(table, grid.points()[1], out))
    return 0


def _table(rows: list[PointResult], impossible: int, out: Path) -> str:
    lines = [f"{'d':>6}{'e':>7}{'rho':>6}{'N':>7}{'Eves':>5}{'e|B':>9}{'broken':>10}  {'95 %':<19}{'formula':>9}"]
    lines += [
        f"{row.bob_loss:>6.3g}{row.eve_loss:>7.3g}{row.correlation:>6.2g}{row.packets:>7}{row.eves:>5}"
        f"{row.e_given_b:>9.2g}{row.broken_share:>10.2g}  {row.broken_low:<8.2g} {row.broken_high:<10.2g}"
        f"{row.broken_expected:>9.2g}"
        for row in rows[:MOST_ROWS]
    ]
    if len(rows) > MOST_ROWS:
        lines.append(f"and {len(rows) - MOST_ROWS} more")
    if impossible:
        lines.append(f"{impossible} points can't be: their correlation fits no such losses")
    return "\n".join([*lines, str(out)])
