"""The tables of a sweep's report: losses, Bob and Eve, Eves together. In HTML, each with what its columns say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any, Final

from bt_selfsecure.look import box
from bt_selfsecure.sweep import words
from bt_selfsecure.sweep.results import Analysis, Pair, Setting

MOST_ROWS: Final = 72
"""Of a table; the weakest pairs come first, and the JSON has all."""
FIGURE: Final = re.compile(r"-|\W*\d\S*( (%|M|B|dBm))?")
"""What is set as figures are: to the right, and in one line."""
MOST_EACH_RUN: Final = 12
"""Pairs that are shown run by run."""


def listeners(analysis: Analysis) -> str:
    """What each lost, in each setting."""
    apart = _apart(analysis)
    rows = (
        (
            *apart[row.setting],
            row.listener,
            words.metres(row.nearest_m, row.farthest_m),
            f"{row.sent:,}",
            words.percent(row.loss),
            words.interval(row.loss_low, row.loss_high),
            "-"
            if not row.gilbert_elliott or row.gilbert_elliott.mean_burst is None
            else f"{row.gilbert_elliott.mean_burst:.2f}",
            "-" if row.rssi_dbm is None else f"{row.rssi_dbm:.0f}",
        )
        for row in analysis.listeners[:MOST_ROWS]
    )
    names = ("setting", "listener", "at, m", "on the air", "lost", "95 %", "burst", "dBm")
    return (
        "<h2>Losses</h2>\n"
        + table("Losses", names, rows)
        + '<p class="note">At: metres from the sender, where they are known. Intervals: Clopper and Pearson, for '
        "packets lost independently. Burst: mean length of a run of losses in packets, by Gilbert's chain; independent "
        f"losses have 1/(1 - loss).{_more(len(analysis.listeners))}</p>"
    )


def _apart(analysis: Analysis) -> dict[Setting, tuple[str, ...]]:
    """Words for each setting: what differs from the others."""
    settings = list(dict.fromkeys(row.setting for row in analysis.listeners))
    return {setting: (", ".join(said),) for setting, said in words.what_differs(settings).items()}


def pairs(analysis: Analysis) -> str:
    """Those that the plan names first, and of them the weakest; then the weakest run by run."""
    planned, apart = analysis.planned(), _apart(analysis)
    named = {id(pair) for pair in planned}
    others = [pair for pair in analysis.pairs if id(pair) not in named]
    ordered = [*sorted(planned, key=lambda pair: pair.strength), *others]
    names = (
        "setting",
        "Bob",
        "at, m",
        "Eve",
        "at, m",
        "verdict",
        "bits",
        "N for 128",
        "broken",
        "worst run",
        "its e|B at least",
        "least e|B",
        "median",
        "most",
        "pooled",
        "95 %",
        "phi",
    )
    rows = (
        (
            *apart[pair.setting],
            pair.bob,
            words.metres(pair.bob_distance_m),
            pair.eve,
            words.metres(pair.eve_distance_m),
            pair.verdict,
            words.bits(pair.secret_bits),
            words.count(pair.packets_to_send["128"]),
            f"{pair.runs_broken}/{pair.runs}, \N{LESS-THAN OR EQUAL TO} {words.percent(pair.broken_high)}",
            words.NONE if pair.worst_run is None else str(pair.worst_run),
            words.percent(pair.bound),
            words.percent(pair.least_e_given_b),
            words.percent(pair.median_e_given_b),
            words.percent(pair.greatest_e_given_b),
            words.percent(pair.e_given_b),
            words.interval(pair.ci_low, pair.ci_high),
            f"{pair.phi:.2f}",
        )
        for pair in ordered[:MOST_ROWS]
    )
    return (
        "<h2>Bob and Eve</h2>\n"
        + table("Bob and Eve", names, rows)
        + f"""<p class="note">The verdict is no key if Bob heard nothing, broken if Eve missed nothing that Bob heard in
all runs, weak if the worst run is worth less than 128 bits, else holds. bits: the key of the worst run, by the lower
95 % bound of its own e|B. N for 128: packets to send for 128 bits in the run that takes most, so that Bob keeps enough
with 99 % probability; -: no number is enough there. broken: runs of which Eve heard all that Bob did, and the 95 %
bound of that share (about 3/R if none of R was). Worst run: its key is worth least, and its e|B is at least so much.
Least, median, most: e|B of the runs; the least may be another run's, of more packets. pooled: e|B of all runs together,
with its interval; no verdict rests on it. phi: correlation of the two losses.{_more(len(ordered))}</p>"""
        + _each_run(ordered[:MOST_EACH_RUN], apart)
    )


def _each_run(pairs: Sequence[Pair], apart: Mapping[Setting, tuple[str, ...]]) -> str:
    """Run by run, of the weakest pairs; folded, for it is long."""
    names = ("run", "Bob heard", "Eve missed", "e|B", "at least", "bits", "verdict")
    parts = []
    for pair in pairs:
        if pair.runs < 2:
            continue
        rows = (
            (
                str(run.run),
                f"{run.bob_heard:,}",
                f"{run.eve_missed_given_bob:,}",
                words.percent(run.e_given_b),
                words.percent(run.bound),
                words.bits(run.secret_bits),
                run.verdict,
            )
            for run in sorted(pair.each_run, key=lambda run: (run.secret_bits is None, run.secret_bits, run.run))
        )
        title = f"Bob {pair.bob}, Eve {pair.eve}, {apart[pair.setting][0]}: each run, the worst first"
        parts.append(f"<details><summary>{escape(title)}</summary>\n{table(title, names, rows)}</details>\n")
    return "".join(parts)


def _more(rows: int) -> str:
    return "" if rows <= MOST_ROWS else f" Shown are {MOST_ROWS} of {rows}; the JSON has all."


def colluding(analysis: Analysis) -> str:
    """The best Eves of each number; nothing where there is one Eve."""
    rows = [row for row in analysis.colluding if row.eves > 1]
    if not rows:
        return ""
    worst = [
        min(same, key=lambda row: row.strength)
        for _, same in groupby(sorted(rows, key=lambda row: row.eves), key=lambda row: row.eves)
    ]
    apart = _apart(analysis)
    names = (
        "Eves",
        "Bob",
        "setting",
        "pooled e|B",
        "if independent",
        "worst run",
        "e|B",
        "bits",
        "broken",
        "|S| for 128",
        "pooled",
        "who",
    )
    told = table(
        "Eves together",
        names,
        (
            (
                str(row.eves),
                row.bob,
                *apart[row.setting],
                words.percent(row.e_given_b),
                words.percent(row.if_independent),
                "-" if row.in_run is None else str(row.in_run.run),
                words.percent(row.in_run.e_given_b if row.in_run else None),
                words.bits(row.in_run.secret_bits if row.in_run else None),
                f"{row.runs_broken}/{row.runs}",
                words.count(row.packets_needed["128"]),
                words.count(row.pooled_packets_needed["128"]),
                ", ".join(row.worst_in_run),
            )
            for row in worst
        ),
    )
    return (
        f"<h2>Eves who put their captures together</h2>\n{told}"
        '<p class="note">For each number of Eves the Bob and the Eves who make it worst. Worst run, bits and |S|: by '
        "the run that these Eves are best at; pooled: all runs together. broken: the most runs that so many, always "
        "the same, hold whole.</p>"
    )


def table(label: str, names: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """What no other table is called, and its columns; those of which no row has anything are left out."""
    columns = [
        (name, column, ' class="n"' * all(FIGURE.fullmatch(value) for value in column))
        for name, *column in zip(names, *(map(str, row) for row in rows), strict=True)
        if any(value not in (words.NONE, "") for value in column) or not column
    ]
    head = "".join(f'<th scope="col"{kind}>{escape(name)}</th>' for name, _, kind in columns)
    cells = zip(*([f"<td{kind}>{escape(value)}</td>" for value in column] for _, column, kind in columns), strict=True)
    body = "".join(f"<tr>{''.join(row)}</tr>\n" for row in cells)
    return box(label, f'<table class="fine"><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>')
