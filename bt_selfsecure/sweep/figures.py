"""The figures of a sweep (matplotlib, extra `sweep`): readable without colour and in print."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Final

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from bt_selfsecure.errors import UsageError
from bt_selfsecure.look import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, STYLE, WIDTH, YELLOW, keep_labels_apart, svg
from bt_selfsecure.stats.losses import clopper_pearson
from bt_selfsecure.sweep import words
from bt_selfsecure.sweep.results import BITS, Analysis, ListenerLosses, OneRun, Setting

LINES: Final = ("-", "--", ":", "-.")
MARKERS: Final = "osD^vPX*"
COLOURS: Final = (BLUE, ORANGE, GREEN, PURPLE, YELLOW, SKY, GREY)
MOST_LINES: Final = 8
MOST_COLUMNS: Final = 8
"""Of a map with a column a setting; more settings, and it shows the pairs of all of them together."""
MOST_PAIRS: Final = 24
"""Rows of a map at most, the weakest."""
MOST_RANGES: Final = 24
"""Columns at most; more distances are put together."""
INK: Final = 0.55
"""Cells darker than this share of the scale take white figures."""
LONGEST: Final = 14
"""Letters of a listener's name."""
PRINT_DPI: Final = 200

Kind = tuple[int, int, tuple[tuple[str, str], ...]]
"""Packets a run (0: any), bytes a packet, conditions."""
Drawing = Callable[[Analysis], Figure | None]


def loss_by_distance(analysis: Analysis) -> Figure | None:
    """Draw the paper's Fig. 7: loss against distance for each number of packets; with intervals, and with every
    listener.

    Against the distance that the plan varies, wherever a listener stood; where there is none, against each one's own.
    Where the nodes take turns, all Bobs are one line, and all Eves. Several listeners with several kinds of runs have a
    panel each (or each kind has one, if those are fewer), so that no panel has all lines.
    """
    sums = _losses(analysis)
    if not sums:
        return None
    bearers, who = list(dict.fromkeys(key[0] for key in sums)), list(dict.fromkeys(key[1] for key in sums))
    kinds = sorted({key[2] for key in sums})
    both, by_who = len(who) > 1 and len(kinds) > 1, len(who) <= len(kinds)
    series: dict[str, dict[str, list[tuple[float, int, int]]]] = {}
    for bearer, name, kind in product(bearers, who, kinds):
        what = _label(kind, kinds)
        title, line = (name, what) if both and by_who else (what, name) if both else ("", _joined(name, what))
        points = sorted((key[3], lost, sent) for key, (lost, sent) in sums.items() if key[:3] == (bearer, name, kind))
        series.setdefault(_joined(words.bearer(bearer) * (len(bearers) > 1), title), {})[line] = points
    lines = list(dict.fromkeys(line for panel in series.values() for line in panel))
    reach = max(key[3] for key in sums)
    figure, panels = _panels(list(series), 2.6 if len(series) == 1 else 1.9)
    for (title, axes), (nth, line) in product(panels, enumerate(lines)):
        points = series[title].get(line, [])
        shift = (nth - (len(lines) - 1) / 2) * 0.008 * reach
        shares = [(100 * lost / sent if sent else 100.0, *clopper_pearson(lost, sent)) for _, lost, sent in points]
        axes.errorbar(
            [metres + shift for metres, _, _ in points],
            [share for share, _, _ in shares],
            [[share - 100 * low for share, low, _ in shares], [100 * high - share for share, _, high in shares]],
            label=line,
            color=COLOURS[nth % len(COLOURS)],
            linestyle=LINES[nth % len(LINES)],
            marker=MARKERS[nth % len(MARKERS)],
            markersize=4.5,
            capsize=2,
            linewidth=1.2,
        )
    room = (0.03 + 0.004 * len(lines)) * reach
    for _, axes in panels:  # when all is drawn: limits that are set stay
        axes.set(ylabel="packets lost, %", xlim=(-room, reach + room), ylim=(0, None))
    panels[-1][1].set_xlabel("metres from the sender")
    _legend(figure, panels)
    return figure


def _losses(analysis: Analysis) -> dict[tuple[str, str, Kind, float], list[int]]:
    """Return packets lost and sent, by bearer, listener, kind of run and distance."""
    sums: dict[tuple[str, str, Kind, float], list[int]] = defaultdict(lambda: [0, 0])
    short = _names(analysis)
    for row in analysis.listeners:
        if row.setting.distance_m is not None:
            total = sums[row.setting.bearer, _who(analysis, row, short), _kind(row.setting), row.setting.distance_m]
            total[0] += row.sent - row.heard
            total[1] += row.sent
    for each in [] if sums else analysis.loss_by_distance:
        kind, at = (each.packets or 0, each.size_bytes, each.conditions), (each.from_m + each.to_m) / 2
        who = short[each.listener] if each.listener else "all listeners"
        sums[each.bearer, who, kind, at] = [each.lost, each.sent]
    return sums


def _who(analysis: Analysis, row: ListenerLosses, short: dict[str, str]) -> str:
    """Return the listener and its part; the part alone if the nodes take turns at it."""
    part = analysis.part(row.setting, row.listener)
    parts = {roles[row.listener] for roles in analysis.roles.values() if row.listener in roles}
    if part is None or part == row.listener:
        return short[row.listener]
    return f"every {part.capitalize()}" if len(parts) > 1 else f"{short[row.listener]} ({part})"


def _kind(setting: Setting) -> Kind:
    return setting.packets or 0, setting.size_bytes, setting.conditions


def _label(kind: Kind, kinds: Sequence[Kind]) -> str:
    """Return what tells this kind from the others."""
    packets, size, so = kind
    several = [len({each[part] for each in kinds}) > 1 for part in range(3)]
    said = (f"{packets} packets" if packets else "any number", f"{size} B", words.conditions(so))
    return _joined(*(one for one, differs in zip(said, several, strict=True) if differs))


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def joint_loss_map(analysis: Analysis) -> Figure | None:
    """Draw the least e|B of a run of every pair: a row a Bob and a column an Eve for one setting, else a row a pair,
    the weakest first, and a column a setting. Pairs for which there is no room are counted below."""
    known = [(pair, pair.least_e_given_b) for pair in analysis.pairs if pair.least_e_given_b is not None]
    settings = list(dict.fromkeys(pair.setting for pair in analysis.pairs))
    if not known:
        return None
    short = _names(analysis)
    if len(settings) == 1:
        names = sorted({pair.bob for pair in analysis.pairs})
        cells = {(names.index(pair.bob), names.index(pair.eve)): share for pair, share in known}
        return _map(cells, [f"Bob {short[name]}" for name in names], [short[name] for name in names], "Eve")
    ranked = sorted(known, key=lambda known_pair: known_pair[0].strength)
    worst = list(dict.fromkeys((pair.bob, pair.eve) for pair, _ in ranked))
    pairs = worst[:MOST_PAIRS]
    columns = _columns(settings)
    shown = list(dict.fromkeys(columns.values()))
    cells = {}
    for pair, share in known:
        at = (pair.bob, pair.eve)
        if at in pairs:
            cell = pairs.index(at), shown.index(columns[pair.setting])
            cells[cell] = min(share, cells.get(cell, share))
    rest = len(worst) - len(pairs)
    below = f"the weakest pairs; {rest} more are not shown" if rest else ""
    return _map(cells, [f"Bob {short[bob]}, Eve {short[eve]}" for bob, eve in pairs], shown, below)


def _columns(settings: Sequence[Setting]) -> dict[Setting, str]:
    """Return names for the columns: the distance, and what else differs; only the distance if that would be too many,
    or the distance in steps."""
    differs = words.what_differs(settings)
    whole = {setting: "\n".join(said) for setting, said in differs.items()}
    if len(set(whole.values())) <= MOST_COLUMNS:
        return whole
    first = {setting: said[0] for setting, said in differs.items()}
    metres = [setting.distance_m for setting in settings if setting.distance_m is not None]
    if len(set(first.values())) <= MOST_RANGES or not metres:
        return first
    step = max(1, math.ceil((max(metres) - min(metres)) / MOST_RANGES))
    return {setting: _range(setting.distance_m, step) for setting in settings}


def _range(metres: float | None, step: int) -> str:
    if metres is None:
        return "-"
    low = int(metres // step * step)
    return f"{low}-{low + step} m"


def _map(shares: dict[tuple[int, int], float], rows: list[str], columns: list[str], what: str) -> Figure:
    top = max(*shares.values(), 1e-3)
    figure, axes = _axes(1.0 + 0.32 * len(rows))
    grid = [[shares.get((r, c), float("nan")) for c in range(len(columns))] for r in range(len(rows))]
    image = axes.imshow(grid, cmap="cividis_r", vmin=0, vmax=top, aspect="auto")
    for (row, column), share in shares.items():
        axes.text(
            column,
            row,
            words.hundredths(share),
            ha="center",
            va="center",
            fontsize=7,
            fontweight="normal" if share else "bold",
            color="white" if share > INK * top else "black",
        )
    axes.set_xticks(range(len(columns)), columns, fontsize=8)
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.set_xlabel(what)
    axes.spines[:].set_visible(False)
    axes.set_title("least e|B of a run, %", fontsize=9, loc="left")
    figure.colorbar(image, ax=axes, format=lambda value, _: words.hundredths(value))
    return figure


def bits_by_distance(analysis: Analysis) -> Figure | None:
    """Draw the secret bits of the worst run against distance: the weakest pair that the plan names (else of all)."""
    least: dict[tuple[str, Kind, float], float] = {}
    for pair in analysis.planned():
        if (metres := pair.setting.distance_m) is not None and pair.secret_bits is not None:
            key = (pair.setting.bearer, _kind(pair.setting), metres)
            least[key] = min(pair.secret_bits, least.get(key, pair.secret_bits))
    if len({metres for _, _, metres in least}) < 2:
        return None
    kinds = sorted({kind for _, kind, _ in least})
    bearers = list(dict.fromkeys(bearer for bearer, _, _ in least))
    figure, panels = _panels([words.bearer(bearer) * (len(bearers) > 1) for bearer in bearers], 2.4)
    for (bearer, (_, axes)), (nth, kind) in product(zip(bearers, panels, strict=True), enumerate(kinds)):
        points = sorted((key[2], bits) for key, bits in least.items() if key[:2] == (bearer, kind))
        axes.plot(
            [metres for metres, _ in points],
            [bits for _, bits in points],
            label=_label(kind, kinds) or "the weakest pair",
            color=COLOURS[nth % len(COLOURS)],
            linestyle=LINES[nth % len(LINES)],
            marker=MARKERS[nth % len(MARKERS)],
        )
    for _, axes in panels:
        axes.axhline(BITS[-1], color=GREY, linestyle=(0, (1, 2)))
        axes.annotate("128", (0, BITS[-1]), (2, 2), textcoords="offset points", fontsize=8, color=GREY)
        axes.set(ylabel="secret bits, worst run", xlim=(0, None), ylim=(-4, 262))
    panels[-1][1].set_xlabel("metres from the sender")
    _legend(figure, panels)
    return figure


def packets_by_eves(analysis: Analysis) -> Figure | None:
    """Draw the packets that the key takes against so many colluding Eves, in the worst run and pooled; the worst Bob
    and the worst Eves of each number."""
    numbers = sorted({row.eves for row in analysis.colluding})
    if not numbers or numbers[-1] < 2:
        return None
    figure, axes = _axes(3.0)
    for pooled, line, said in ((False, "-", "worst run"), (True, ":", "pooled")):
        for bits, marker, colour in zip(BITS, MARKERS, COLOURS, strict=False):
            most = [(eves, _most(analysis, eves, str(bits), pooled=pooled)) for eves in numbers]
            if known := [(eves, packets) for eves, packets in most if packets]:
                label = f"{bits} bits, {said}"
                face = "none" if pooled else colour
                axes.semilogy(*zip(*known, strict=True), line, marker=marker, color=colour, mfc=face, label=label)
    if hopeless := [eves for eves in numbers if not _most(analysis, eves, str(BITS[-1]), pooled=False)]:
        label = "worst run: missed nothing, no key"
        axes.axvspan(hopeless[0] - 0.5, numbers[-1] + 0.5, color=GREY, alpha=0.2, linewidth=0, label=label)
    axes.set(xlabel="colluding Eves", ylabel="packets in the key, |S|", xlim=(0.5, numbers[-1] + 0.5))
    axes.set_xticks(numbers)
    logarithmic = axes.get_yscale() == "log"  # if any number of packets is enough
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if logarithmic else NullLocator())
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=8)
    return figure


def _most(analysis: Analysis, eves: int, bits: str, *, pooled: bool) -> int | None:
    """Return packets that the key takes against so many Eves; None if no number is enough."""
    rows = [row for row in analysis.colluding if row.eves == eves and row.in_run]
    takes = [(row.pooled_packets_needed if pooled else row.packets_needed)[bits] for row in rows]
    return None if None in takes else max((each for each in takes if each), default=None)


def loss_by_time(analysis: Analysis) -> Figure | None:
    """Draw the loss of each run at each listener, by time; by run where some have no time, or one that can't be
    right."""
    rows = analysis.each_run
    if len({row.run for row in rows}) < 3:
        return None
    astray = analysis.times_astray()
    timed = not astray and all(row.started for row in rows)
    first = min(rows, key=lambda row: row.started or "")

    def when(row: OneRun) -> float:
        return row.since(first).total_seconds() / 60 if timed else row.run

    figure, axes = _axes(2.8)
    for (name, points), colour, marker in zip(_by_listener(analysis, rows), COLOURS * 3, MARKERS * 3, strict=False):
        points.sort(key=when)
        axes.plot(
            [when(row) for row in points],
            [100 * row.lost / row.sent if row.sent else 100 for row in points],
            marker,
            markersize=3,
            color=colour,
            markerfacecolor="none",
            label=name,
        )
    by_run = "run (by their times they were in another order, or years apart)" if astray else "run"
    axes.set(xlabel="minutes from the first run" if timed else by_run, ylabel="packets lost, %", ylim=(0, None))
    figure.legend(loc="outside upper left", ncols=4, frameon=False, fontsize=8, handletextpad=0.1)
    return figure


def loss_by_rssi(analysis: Analysis) -> Figure | None:
    """Draw the loss of each run at each listener against the mean RSSI (dBm) of what it heard."""
    rows = [row for row in analysis.each_run if row.rssi_dbm is not None]
    if not rows:
        return None
    figure, axes = _axes(2.8)
    for (name, points), colour, marker in zip(_by_listener(analysis, rows), COLOURS * 3, MARKERS * 3, strict=False):
        levels = [row.rssi_dbm for row in points if row.rssi_dbm is not None]
        losses = [100 * row.lost / row.sent if row.sent else 100 for row in points]
        axes.plot(levels, losses, marker, markersize=4, color=colour, markerfacecolor="none", label=name)
    axes.set(xlabel="mean RSSI of the packets heard, dBm", ylabel="packets lost, %", ylim=(0, None))
    figure.legend(loc="outside upper left", ncols=4, frameon=False, fontsize=8, handletextpad=0.1)
    return figure


FIGURES: Final[dict[str, tuple[str, Drawing]]] = {
    "loss-by-distance": ("Loss against distance", loss_by_distance),
    "joint-loss": ("What Eve misses of what Bob hears", joint_loss_map),
    "bits-by-distance": ("Secret bits against distance", bits_by_distance),
    "packets-by-eves": ("Packets needed against colluding Eves", packets_by_eves),
    "loss-by-time": ("Loss against time", loss_by_time),
    "loss-by-rssi": ("Loss against signal strength", loss_by_rssi),
}
"""Name of the file: title, and what draws it (None where the sweep has nothing to draw)."""


def drawn(analysis: Analysis) -> Iterator[tuple[str, str]]:
    """Yield name and SVG of each figure that there is."""
    for name, (title, draw) in FIGURES.items():
        with rc_context(STYLE):
            figure = draw(analysis)
            if figure is not None:
                yield name, svg(figure, title)


def save(analysis: Analysis, directory: Path) -> list[Path]:
    """Write each figure as NAME.svg and NAME.png, and return their paths. Raises `UsageError` if they can't be
    written."""
    paths = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, (title, draw) in FIGURES.items():
            with rc_context(STYLE):
                figure = draw(analysis)
                if figure is None:
                    continue
                keep_labels_apart(figure)
                for suffix in ("svg", "png"):
                    picture = BytesIO()
                    metadata = {"Title": title} | ({"Date": None} if suffix == "svg" else {})
                    figure.savefig(picture, format=suffix, dpi=PRINT_DPI, metadata=metadata)
                    paths.append(directory / f"{name}.{suffix}")
                    paths[-1].write_bytes(picture.getvalue())
    except OSError as error:
        raise UsageError(f"can't write to {str(directory)!r} ({error.strerror}): choose another place") from error
    return paths


def _names(analysis: Analysis) -> dict[str, str]:
    return words.names((row.listener for row in analysis.listeners), LONGEST)


def _by_listener(analysis: Analysis, rows: Sequence[OneRun]) -> list[tuple[str, list[OneRun]]]:
    short = _names(analysis)
    names = sorted({row.listener for row in rows})
    return [(short[name], [row for row in rows if row.listener == name]) for name in names]


def _axes(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def _panels(names: Sequence[str], height: float) -> tuple[Figure, list[tuple[str, Axes]]]:
    """Return panels one above the other, with their names where there are several."""
    figure = Figure(figsize=(WIDTH, 0.8 + height * len(names)), layout="constrained")
    panels = list(zip(names, figure.subplots(len(names), sharex=True, sharey=True, squeeze=False)[:, 0], strict=True))
    for name, axes in panels:
        axes.set_title(name, fontsize=9, loc="left")
    return figure, panels


def _legend(figure: Figure, panels: Sequence[tuple[str, Axes]]) -> None:
    handles, labels = panels[0][1].get_legend_handles_labels()
    if len(labels) <= 2 * MOST_LINES:
        columns = 3 if max(map(len, labels), default=0) <= LONGEST else 2
        figure.legend(handles, labels, loc="outside upper left", ncols=columns, frameon=False, fontsize=8)
