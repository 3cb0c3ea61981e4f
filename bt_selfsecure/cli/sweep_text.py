"""What the commands of `sweep` show on a terminal: progress, and an analysis in 80 columns."""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Final

from bt_selfsecure.errors import UsageError

if TYPE_CHECKING:
    from bt_selfsecure.sweep.compare import Row
    from bt_selfsecure.sweep.results import Analysis, Collusion, Listener, Pair

MOST_PAIRS: Final = 12
"""Of one setting; the weakest are shown."""
WIDTH: Final = 79
PROGRESS_SECONDS: Final = 0.5


@contextmanager
def needed() -> Iterator[None]:
    """Imports within, of what the extra `sweep` brings: UsageError that says so where it is not there."""
    try:
        yield
    except ImportError as error:
        raise UsageError(f"this needs {error.name}: install it with pip install 'bt-selfsecure[sweep]'") from error


@contextmanager
def progress_line(what: str) -> Iterator[Callable[[int, int], None]]:
    """A line on a terminal that says how far we are: as a share, since files are read in bytes, records in runs."""
    told = time.monotonic()
    shown = False

    def tell(done: int, all_of_them: int) -> None:
        nonlocal told, shown
        if sys.stderr.isatty() and time.monotonic() - told > PROGRESS_SECONDS:
            told, shown = time.monotonic(), True
            print(f"\r{what}: {100 * done // max(all_of_them, 1)} %", end="", file=sys.stderr, flush=True)

    try:
        yield tell
    finally:
        if shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def table(analysis: Analysis) -> str:
    """Setting by setting: listeners, the pairs that are worth least, colluding Eves; then the warnings."""
    withdrawn = f", {analysis.withdrawn} withdrawn" if analysis.withdrawn else ""
    lines = [f"{analysis.sweep}: {analysis.runs} run{'s' if analysis.runs > 1 else ''}{withdrawn}"]
    for setting, rows in groupby(analysis.listeners, key=lambda row: row.setting):
        lines += ["", *textwrap.wrap(str(setting), WIDTH), ""]
        lines += _listeners(list(rows))
        if pairs := [pair for pair in analysis.pairs if pair.setting == setting]:
            lines += ["", *_pairs(pairs)]
        several = [row for row in analysis.colluding if row.setting == setting and row.eves > 1]
        lines += _colluding(several)
    if any(row.setting.distance_m is None for row in analysis.pairs) and analysis.loss_by_distance:
        lines += ["", *_by_distance(analysis)]
    for warning in analysis.warnings:
        lines += ["", *textwrap.wrap(f"! {warning}", WIDTH, subsequent_indent="  ")]
    return "\n".join(lines)


def compared(rows: list[Row]) -> str:
    """Both sweeps in columns, a line a figure."""
    lines = [f"{'metres':>7}  {'figure':<26}{'A':>9}{'B':>9}{'B - A':>10}  95 %"]
    for row in rows:
        metres = "-" if row.distance_m is None else f"{row.distance_m:g}"
        line = f"{metres:>7}  {row.figure[:25]:<26}" + "".join(
            f"{'-' if share is None else _percent(share):>9}" for share in (row.a, row.b)
        )
        if row.difference is not None and row.low is not None and row.high is not None:
            line += f"{100 * row.difference:>+8.2f} %  {100 * row.low:+.2f} to {100 * row.high:+.2f}"
            line += " *" if row.differs else ""
        lines.append(line)
    return "\n".join(lines)


def _listeners(rows: list[Listener]) -> Iterator[str]:
    yield f"  {'listener':<18}{'metres':>7}{'sent':>9}{'lost':>8}   {'95 %':<15}{'burst':>6}{'RSSI':>8}"
    for row in rows:
        fit = row.gilbert_elliott
        yield (
            f"  {row.listener[:17]:<18}{_plain(row.distance_m):>7}{row.sent:>9}{_percent(row.loss):>8}"
            f"   {_interval(row.loss_low, row.loss_high):<15}{_plain(fit.mean_burst if fit else None):>6}"
            f"{_plain(row.rssi_dbm):>8}"
        )


def _pairs(pairs: list[Pair]) -> Iterator[str]:
    weakest = sorted(pairs, key=lambda pair: (pair.secret_bits, pair.bound))
    yield f"  {'Bob':<9}{'Eve':<9}{'e|B':>7}  {'95 %':<15}{'phi':>6}{'broken':>8}{'bits':>6}{'N: 128':>8} verdict"
    for pair in weakest[:MOST_PAIRS]:
        yield (
            f"  {pair.bob[:8]:<9}{pair.eve[:8]:<9}{_percent(pair.e_given_b):>7}"
            f"  {_interval(pair.ci_low, pair.ci_high):<15}{pair.phi:>6.2f}{f'{pair.runs_broken}/{pair.runs}':>8}"
            f"{pair.secret_bits:>6.0f}{_count(pair.packets_to_send['128']):>8} {pair.verdict}"
        )
    if len(weakest) > MOST_PAIRS:
        verdicts = ", ".join(
            f"{sum(pair.verdict == verdict for pair in pairs)} {verdict}" for verdict in ("broken", "weak", "holds")
        )
        yield f"  the weakest of {len(pairs)} pairs: {verdicts}; --json has all"


def _colluding(rows: list[Collusion]) -> Iterator[str]:
    if rows:
        yield ""
        yield (
            f"  {'Eves together':<15}{'e|B':>8}{'if indep.':>11}{'broken':>9}{'|S|: 40':>9}{'80':>8}{'128':>8}  against"
        )
    for _, same in groupby(sorted(rows, key=lambda row: row.eves), key=lambda row: row.eves):
        row = min(same, key=lambda row: row.bound)
        needed = row.packets_needed
        yield (
            f"  {row.eves:<15}{_percent(row.e_given_b):>8}{_percent(row.if_independent):>11}"
            f"{f'{row.runs_broken}/{row.runs}':>9}{_count(needed['40']):>9}{_count(needed['80']):>8}"
            f"{_count(needed['128']):>8}  {row.bob[:8]}"
        )


def _by_distance(analysis: Analysis) -> Iterator[str]:
    yield f"  {'metres':<12}{'listener':<14}{'bearer':<11}{'packets':>9}{'lost':>8}   95 %"
    for row in analysis.loss_by_distance:
        metres = f"{row.from_m:g}" if row.from_m == row.to_m else f"{row.from_m:g} to {row.to_m:g}"
        yield (
            f"  {metres:<12}{(row.listener or 'all')[:13]:<14}{row.bearer[:10]:<11}{row.sent:>9}"
            f"{_percent(row.loss):>8}   {_interval(row.low, row.high)}"
        )


def _percent(share: float) -> str:
    if share > 0.9999:
        return "100 %"
    return f"{100 * share:.2f} %" if share >= 0.001 or share == 0 else f"{100 * share:.0e} %"


def _interval(low: float, high: float) -> str:
    return f"{100 * low:.2f}-{100 * high:.2f} %"


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value}" if value < 10**7 else f"{value:.1e}"
