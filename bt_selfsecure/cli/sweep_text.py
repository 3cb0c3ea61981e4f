"""What the commands of `sweep` show on a terminal: progress, and an analysis in 80 columns."""

from __future__ import annotations

import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Final

from bt_selfsecure.errors import UsageError
from bt_selfsecure.sweep import words
from bt_selfsecure.sweep.results import DROPS, NO_KEY, VERDICTS
from bt_selfsecure.wording import counted

if TYPE_CHECKING:
    from bt_selfsecure.sweep.compare import FigureDifference
    from bt_selfsecure.sweep.results import Analysis, Collusion, ListenerLosses, Pair, Setting

MOST_PAIRS: Final = 12
"""Of one setting, and of an overview; the weakest are shown."""
MOST_SETTINGS: Final = 4
"""That are shown one by one; of more, an overview."""
NAME: Final = 8
"""Letters of a name in a table of pairs."""
WIDTH: Final = 79
LEGEND: Final = (
    " pooled: of all runs together. worst run: its key is worth least, by the 95 %",
    " bound of its own e|B; it decides. The least e|B may be another run's, of more",
    " packets. N: packets to send for 128 bits, by the run that takes most; -: no",
    " number is enough.",
)
DROPPED: Final = (
    f" {DROPS}: this Eve's receiver drops damaged copies, as BlueZ does: a sniffer there",
    " makes them good, and misses less. The bound is not one against a sniffer.",
)
PROGRESS_S: Final = 0.5


@contextmanager
def needed() -> Iterator[None]:
    """Imports within, of what the extra `sweep` brings: UsageError that says so where it is not there."""
    try:
        yield
    except ImportError as error:
        raise UsageError(f"this needs {error.name}: install it with pip install 'bt-selfsecure[sweep]'") from error


@contextmanager
def progress_line(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a line on a terminal that says how far we are: as a share, since files are read in bytes, records in
    runs."""
    told = time.monotonic()
    shown = False

    def tell(done: int, all_of_them: int) -> None:
        nonlocal told, shown
        if sys.stderr.isatty() and time.monotonic() - told > PROGRESS_S:
            told, shown = time.monotonic(), True
            print(f"\r{what}: {100 * done // max(all_of_them, 1)} %\033[K", end="", file=sys.stderr, flush=True)

    try:
        yield tell
    finally:
        if shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def table(analysis: Analysis, *, whole: bool = False, runs: bool = False) -> str:
    """Return the lines, setting by setting: listeners, the pairs that are worth least, colluding Eves; then the
    warnings.

    Of many settings an overview, unless it shall be the `whole`. With `runs`, each run of each pair.
    """
    settings = list(dict.fromkeys(row.setting for row in analysis.listeners))
    withdrawn = f", {analysis.withdrawn} withdrawn" if analysis.withdrawn else ""
    several = f" in {len(settings)} settings" if len(settings) > 1 else ""
    lines = [f"{analysis.sweep}: {counted(analysis.runs, 'run')}{several}{withdrawn}"]
    if len(settings) > MOST_SETTINGS and not whole and not runs:
        lines += ["", *_overview(analysis)]
    else:
        for setting in settings:
            lines += _setting(analysis, setting)
            lines += [line for pair in analysis.pairs if runs and pair.setting == setting for line in _runs(pair)]
        if analysis.pairs:
            lines += ["", *LEGEND, *_of_damaged(analysis)]
        if any(row.setting.distance_m is None for row in analysis.pairs) and analysis.loss_by_distance:
            lines += ["", *_by_distance(analysis)]
    for warning in analysis.warnings:
        lines += ["", *textwrap.wrap(f"! {warning}", WIDTH, subsequent_indent="  ")]
    return "\n".join(lines)


def compared(rows: list[FigureDifference]) -> str:
    """Return the lines that have both sweeps in columns, a line a figure."""
    short = words.names((name for row in rows for name in (row.figure.listener, row.figure.bob) if name), NAME)
    lines = []
    for so, same in groupby(rows, key=lambda row: row.figure.conditions):
        lines += ["", *textwrap.wrap(words.conditions(so), WIDTH), ""] if so else []
        lines.append(f"{'metres':>6}  {'in %':<31}{'A':>7}{'B':>7}{'B - A':>7} 95 %")
        lines += [_compared(row, short) for row in same]
    least = any(row.figure.least_of_a_run for row in rows)
    return "\n".join(lines + ["", "^: the least that she missed in a run; the others are of all runs pooled"] * least)


def _compared(row: FigureDifference, short: dict[str, str]) -> str:
    figure = row.figure
    what = short[figure.listener] + (f" missed of {short[figure.bob]}'s" if figure.bob else " lost")
    line = f"{words.metres(figure.distance_m):>6}  {what + ' ^' * figure.least_of_a_run:<31}" + "".join(
        f"{words.hundredths(share):>7}" for share in (row.a, row.b)
    )
    line += "" if row.difference is None else f"{100 * row.difference:>+7.2f}"
    if row.low is not None and row.high is not None:
        line += f" {100 * row.low:+.2f} to {100 * row.high:+.2f}{' *' * bool(row.differs)}"
    return line


def _overview(analysis: Analysis) -> Iterator[str]:
    """Verdicts, and the pairs and settings that are worth least."""
    pairs = analysis.planned()
    different = words.what_differs(list(dict.fromkeys(row.setting for row in analysis.listeners)))
    short = words.names((name for pair in pairs for name in (pair.bob, pair.eve)), NAME)
    planned = " as planned" * (len(pairs) < len(analysis.pairs))
    yield f"{counted(len(pairs), 'pair')} of Bob and Eve{planned}: {_verdicts(pairs)}"
    of_damaged = list(_of_damaged(analysis))
    lines: list[str] = []
    shown = 0
    for pair in sorted(pairs, key=lambda pair: pair.strength):
        line = (
            f" {short[pair.bob]:<9}{short[pair.eve]:<9}{pair.marked_verdict:<9}{words.bits(pair.secret_bits):>5}"
            f"{_count(pair.worst_run):>5}{words.percent(pair.least_e_given_b):>9}  "
        )
        setting = ", ".join(different[pair.setting])
        wrapped = textwrap.wrap(setting, WIDTH, initial_indent=line, subsequent_indent=" " * len(line))
        if len(lines) + len(wrapped) > MOST_PAIRS - len(of_damaged):
            break
        lines += wrapped
        shown += 1
    if shown:
        yield ""
        yield f"{'':28}{'worst run':>10}{'least':>9}"
        yield f" {'Bob':<9}{'Eve':<9}{'verdict':<9}{'bits':>5}{'run':>5}{'e|B':>9}  setting"
        yield from lines
        yield from [f" the weakest of {len(pairs)}"] * (shown < len(pairs))
    yield ""
    yield from of_damaged
    yield "--all shows each setting, --json everything, and `sweep report` makes a page"


def _setting(analysis: Analysis, setting: Setting) -> Iterator[str]:
    yield from ("", *textwrap.wrap(str(setting), WIDTH), "")
    yield from _listeners([row for row in analysis.listeners if row.setting == setting])
    if pairs := [pair for pair in analysis.pairs if pair.setting == setting]:
        yield from ("", *_pairs(pairs))
    if several := [row for row in analysis.colluding if row.setting == setting and row.eves > 1]:
        yield from ("", *_colluding(several))


def _listeners(rows: list[ListenerLosses]) -> Iterator[str]:
    short = words.names((row.listener for row in rows), 16)
    yield f" {'listener':<17}{'metres':>10}{'sent':>9}{'lost':>9}  {'95 %':<14}{'burst':>6}{'RSSI':>8}"
    for row in rows:
        burst = row.gilbert_elliott.mean_burst if row.gilbert_elliott else None
        yield (
            f" {short[row.listener]:<17}{words.metres(row.nearest_m, row.farthest_m):>10}{row.sent:>9}"
            f"{words.percent(row.loss):>9}  {words.interval(row.loss_low, row.loss_high):<14}"
            f"{_plain(burst):>6}{_plain(row.rssi_dbm):>8}"
        )


def _pairs(pairs: list[Pair]) -> Iterator[str]:
    weakest = sorted(pairs, key=lambda pair: pair.strength)
    short = words.names((name for pair in pairs for name in (pair.bob, pair.eve)), NAME)
    yield f" {'':18}{'e|B, %':>6}{'e|B of a run, %':>21}{'worst run':>10}"
    yield (
        f" {'Bob':<9}{'Eve':<9}{'pooled':>6}{'least':>7}{'median':>7}{'most':>7}{'run':>5}{'bits':>5}{'broken':>7}"
        f"{'N: 128':>9} verdict"
    )
    for pair in weakest[:MOST_PAIRS]:
        shares = (pair.least_e_given_b, pair.median_e_given_b, pair.greatest_e_given_b)
        yield (
            f" {short[pair.bob]:<9}{short[pair.eve]:<9}{words.hundredths(pair.e_given_b):>6}"
            + "".join(f"{words.hundredths(share):>7}" for share in shares)
            + f"{_count(pair.worst_run):>5}{words.bits(pair.secret_bits):>5}{f'{pair.runs_broken}/{pair.runs}':>7}"
            f"{words.count(pair.packets_to_send['128']):>9} {pair.marked_verdict}"
        )
    if len(weakest) > MOST_PAIRS:
        yield f" the weakest of {len(pairs)} pairs: {_verdicts(pairs)}; --json has all"


def _of_damaged(analysis: Analysis) -> Iterator[str]:
    if any(pair.marked_verdict != pair.verdict for pair in analysis.pairs):
        yield from DROPPED
    if any(pair.eve_damaged_given_bob for pair in analysis.pairs):
        yield f" packets of which Eve has damaged copies alone count as {analysis.damaged} (--damaged)."


def _runs(pair: Pair) -> Iterator[str]:
    yield from ("", *textwrap.wrap(f" Bob {pair.bob}, Eve {pair.eve}, each run by itself", WIDTH))
    yield f" {'run':>5}{'sent':>9}{'Bob heard':>11}{'Eve missed':>12}{'e|B':>10}{'at least':>10}{'bits':>6} verdict"
    for run in pair.each_run:
        yield (
            f" {run.run:>5}{run.sent:>9}{run.bob_heard:>11}{run.eve_missed_given_bob:>12}"
            f"{words.percent(run.e_given_b):>10}{words.percent(run.bound):>10}{words.bits(run.secret_bits):>6}"
            f" {run.verdict}"
        )


def _colluding(rows: list[Collusion]) -> Iterator[str]:
    short = words.names((row.bob for row in rows), NAME)
    yield f" {'':5}{'e|B, %':>8}{'if inde-':>9}{'in the worst run, %':>21}{'|S| for 128':>20}"
    yield (
        f" {'Eves':<5}{'pooled':>8}{'pendent':>9}{'e|B':>7}{'run':>6}{'bits':>6}{'broken':>8}{'there':>8}{'pooled':>9}"
        "  against"
    )
    for _, same in groupby(sorted(rows, key=lambda row: row.eves), key=lambda row: row.eves):
        row = min(same, key=lambda row: row.strength)
        there = row.in_run
        e_given_b, run, bits = (there.e_given_b, there.run, there.secret_bits) if there else (None, None, None)
        yield (
            f" {row.eves:<5}{words.hundredths(row.e_given_b):>8}{words.hundredths(row.if_independent):>9}"
            f"{words.hundredths(e_given_b):>7}{_count(run):>6}{words.bits(bits):>6}{f'{row.runs_broken}/{row.runs}':>8}"
            f"{words.count(row.packets_needed['128']):>8}{words.count(row.pooled_packets_needed['128']):>9}"
            f"  {short[row.bob]}"
        )


def _by_distance(analysis: Analysis) -> Iterator[str]:
    short = words.names((row.listener or "all" for row in analysis.loss_by_distance), 13)
    yield f" {'metres':<12}{'listener':<14}{'bearer':<11}{'packets':>9}{'lost':>9}   95 %"
    by_conditions = sorted(analysis.loss_by_distance, key=lambda row: row.conditions)
    for so, rows in groupby(by_conditions, key=lambda row: row.conditions):
        yield from textwrap.wrap(f" {words.conditions(so)}:", WIDTH) if so else ()
        for row in rows:
            metres = f"{row.from_m:g}" if row.from_m == row.to_m else f"{row.from_m:g} to {row.to_m:g}"
            yield (
                f" {metres:<12}{short[row.listener or 'all']:<14}{words.bearer(row.bearer)[:10]:<11}{row.sent:>9}"
                f"{words.percent(row.loss):>9}   {words.interval(row.low, row.high)}"
            )


def _verdicts(pairs: list[Pair]) -> str:
    counted = Counter(pair.verdict for pair in pairs)
    return ", ".join(f"{counted[verdict]} {verdict}" for verdict in VERDICTS if counted[verdict] or verdict != NO_KEY)


def _plain(value: float | None) -> str:
    return words.NONE if value is None else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def _count(run: int | None) -> str:
    return words.NONE if run is None else f"{run}"
