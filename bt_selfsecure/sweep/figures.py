"""The figures of a sweep (matplotlib, extra `sweep`): readable without colour and in print."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Final, NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bt_selfsecure.errors import UsageError
from bt_selfsecure.look import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, STYLE, WIDTH, YELLOW, svg
from bt_selfsecure.sweep.results import BITS, Analysis, OneRun, Pair, Setting

LINES: Final = ("-", "--", ":", "-.")
MARKERS: Final = "osD^vPX*"
COLOURS: Final = (BLUE, ORANGE, GREEN, PURPLE, YELLOW, SKY, GREY)
MOST_LINES: Final = 8
MOST_COLUMNS: Final = 8
"""Of a map with a column a setting; more settings, and it shows the pairs of all of them together."""
INK: Final = 0.55
"""Cells darker than this share of the scale take white figures."""
LONGEST: Final = 14
"""Letters of a listener's name."""
PRINT_DPI: Final = 200

Kind = tuple[str, int, int]
"""Bearer, bytes a packet, packets a run (0: any)."""


class Point(NamedTuple):
    """A share with its interval."""

    metres: float
    loss: float
    low: float
    high: float


Drawing = Callable[[Analysis], Figure | None]


def loss_by_distance(analysis: Analysis) -> Figure | None:
    """The paper's Fig. 7: loss against distance for each number of packets; with intervals, and with every listener.

    Against the distance that the plan varies, wherever a listener stood; where there is none, against each one's own.
    """
    lines: dict[tuple[str, Kind], list[Point]] = defaultdict(list)
    for row in analysis.listeners:
        if row.setting.distance_m is not None:
            kind = (row.setting.bearer, row.setting.size_bytes, row.setting.packets or 0)
            point = Point(row.setting.distance_m, row.loss, row.loss_low, row.loss_high)
            lines[row.listener, kind].append(point)
    for each in [] if lines else analysis.loss_by_distance:
        kind = (each.bearer, each.size_bytes, each.packets or 0)
        point = Point((each.from_m + each.to_m) / 2, each.loss, each.low, each.high)
        lines[each.listener or "all listeners", kind].append(point)
    if not lines:
        return None
    listeners = list(dict.fromkeys(name for name, _ in lines))
    kinds = sorted({kind for _, kind in lines})
    figure, axes = _axes(3.4)
    reach = max(point.metres for points in lines.values() for point in points)
    for (name, kind), points in lines.items():
        at, nth = listeners.index(name), kinds.index(kind) + len(kinds) * listeners.index(name)
        shift = (nth - (len(kinds) * len(listeners) - 1) / 2) * 0.008 * reach
        points.sort()
        below, above = [p.loss - p.low for p in points], [p.high - p.loss for p in points]
        axes.errorbar(
            [point.metres + shift for point in points],
            [100 * point.loss for point in points],
            [[100 * each for each in below], [100 * each for each in above]],
            label=_label(analysis, name, kind, kinds),
            color=COLOURS[at % len(COLOURS)],
            linestyle=LINES[at % len(LINES)],
            marker=MARKERS[kinds.index(kind) % len(MARKERS)],
            markersize=4.5,
            capsize=2,
            linewidth=1.2,
        )
    axes.set(xlabel="metres from the sender", ylabel="packets lost, %", xlim=(-0.03 * reach, None), ylim=(0, None))
    if len(lines) <= 2 * MOST_LINES:
        figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=8)
    return figure


def _label(analysis: Analysis, name: str, kind: Kind, kinds: Sequence[Kind]) -> str:
    bearer, size, packets = kind
    parts = {part for roles in analysis.roles.values() for who, part in roles.items() if who == name}
    words = [_clip(name) if not parts or parts == {name} else f"{_clip(name)} ({' or '.join(sorted(parts))})"]
    if len(kinds) > 1:
        words.append(f"{packets} packets" if packets else "")
        words += [f"{bearer}"] * (len({each[0] for each in kinds}) > 1)
        words += [f"{size} B"] * (len({each[1] for each in kinds}) > 1)
    return ", ".join(word for word in words if word)


def joint_loss_map(analysis: Analysis) -> Figure | None:
    """e|B of every pair: a row a Bob and a column an Eve for one setting, else a row a pair and a column a setting."""
    settings = list(dict.fromkeys(pair.setting for pair in analysis.pairs))
    if not analysis.pairs:
        return None
    if len(settings) == 1:
        names = sorted({pair.bob for pair in analysis.pairs})
        cells = {(names.index(p.bob), names.index(p.eve)): p for p in analysis.pairs}
        return _map(cells, [f"Bob {_clip(name)}" for name in names], [_clip(name) for name in names], "Eve")
    pairs = sorted({(pair.bob, pair.eve) for pair in analysis.pairs})[:24]
    short = _short(settings)
    shown = sorted(set(short.values()), key=list(short.values()).index)
    cells = {}
    for pair in sorted(analysis.pairs, key=lambda pair: -pair.e_given_b):  # the worst of a cell stays
        if (pair.bob, pair.eve) in pairs:
            cells[pairs.index((pair.bob, pair.eve)), shown.index(short[pair.setting])] = pair
    return _map(cells, [f"Bob {_clip(bob)}, Eve {_clip(eve)}" for bob, eve in pairs], shown, "")


def _short(settings: Sequence[Setting]) -> dict[Setting, str]:
    """Names for the columns: the distance, and what else differs; only the distance if that would be too many."""
    differs = {name for name in ("bearer", "packets", "size_bytes") if len({getattr(s, name) for s in settings}) > 1}

    def name(setting: Setting, *what: str) -> str:
        words = ["-" if setting.distance_m is None else f"{setting.distance_m:g} m"]
        return "\n".join(words + [f"{getattr(setting, each)}" for each in what if each in differs])

    for what in (("packets", "bearer", "size_bytes"), ("bearer",), ()):
        names = {setting: name(setting, *what) for setting in settings}
        if len(set(names.values())) <= MOST_COLUMNS:
            break
    return names


def _map(cells: dict[tuple[int, int], Pair], rows: list[str], columns: list[str], what: str) -> Figure:
    top = max(max(pair.e_given_b for pair in cells.values()), 1e-3)
    figure, axes = _axes(1.0 + 0.32 * len(rows))
    grid = [
        [cells[r, c].e_given_b if (r, c) in cells else float("nan") for c in range(len(columns))]
        for r in range(len(rows))
    ]
    image = axes.imshow(grid, cmap="cividis_r", vmin=0, vmax=top, aspect="auto")
    for (row, column), pair in cells.items():
        broken = pair.eve_missed_given_bob == 0
        axes.text(
            column,
            row,
            "broken" if broken else f"{100 * pair.e_given_b:.2g}",
            ha="center",
            va="center",
            fontsize=7,
            fontweight="bold" if broken else "normal",
            color="white" if pair.e_given_b > INK * top else "black",
        )
    long = max(len(name) for name in columns) > 6
    axes.set_xticks(
        range(len(columns)), columns, fontsize=8, rotation=60 if long else 0, ha="right" if long else "center"
    )
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.set_xlabel(what)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label="e|B, %", format=lambda value, _: f"{100 * value:.3g}")
    return figure


def bits_by_distance(analysis: Analysis) -> Figure | None:
    """Secret bits of the weakest run against distance, of each pair that the plan names (else of all)."""
    pairs = [pair for pair in analysis.planned() if pair.setting.distance_m is not None]
    if len({pair.setting.distance_m for pair in pairs}) < 2:
        return None
    lines: dict[tuple[str, str], list[Pair]] = defaultdict(list)
    for pair in pairs:
        words = [f"{pair.setting.packets} packets"]
        words += [pair.setting.bearer] * (len({other.setting.bearer for other in pairs}) > 1)
        lines[f"Bob {pair.bob}, Eve {pair.eve}", ", ".join(words)].append(pair)
    who = list(dict.fromkeys(name for name, _ in lines))
    kinds = list(dict.fromkeys(kind for _, kind in lines))
    figure, axes = _axes(3.2)
    for (name, kind), points in list(lines.items())[: 2 * MOST_LINES]:
        points.sort(key=lambda pair: pair.setting.distance_m or 0)
        axes.plot(
            [pair.setting.distance_m or 0 for pair in points],
            [pair.secret_bits for pair in points],
            label=f"{name}, {kind}" if len(who) > 1 else kind,
            color=COLOURS[kinds.index(kind) % len(COLOURS)],
            linestyle=LINES[who.index(name) % len(LINES)],
            marker=MARKERS[kinds.index(kind) % len(MARKERS)],
        )
    axes.axhline(BITS[-1], color=GREY, linestyle=(0, (1, 2)))
    axes.annotate("128", (0, BITS[-1]), (2, 2), textcoords="offset points", fontsize=8, color=GREY)
    axes.set(xlabel="metres from the sender", ylabel="secret bits, weakest run", xlim=(0, None), ylim=(-4, 262))
    figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=8)
    return figure


def packets_by_eves(analysis: Analysis) -> Figure | None:
    """Packets that the key takes against so many colluding Eves; the worst Bob and the worst Eves of each number."""
    most = max((row.eves for row in analysis.colluding), default=0)
    if most < 2:
        return None
    worst = [
        min((row for row in analysis.colluding if row.eves == eves), key=lambda row: row.bound)
        for eves in range(1, most + 1)
    ]
    figure, axes = _axes(3.0)
    for bits, marker, colour in zip(BITS, MARKERS, COLOURS, strict=False):
        known = [(row.eves, row.packets_needed[str(bits)]) for row in worst if row.packets_needed[str(bits)]]
        axes.semilogy(
            *zip(*known, strict=True) if known else ((), ()), marker=marker, color=colour, label=f"{bits} bits"
        )
    if hopeless := [row.eves for row in worst if not row.bound]:
        axes.axvspan(hopeless[0] - 0.5, most + 0.5, color=GREY, alpha=0.2, linewidth=0, label="missed nothing: no key")
    axes.set(xlabel="colluding Eves", ylabel="packets in the key, |S|", xlim=(0.5, most + 0.5))
    axes.set_xticks(range(1, most + 1))
    axes.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside upper left", ncols=4, frameon=False, fontsize=8)
    return figure


def loss_by_time(analysis: Analysis) -> Figure | None:
    """Loss of each run at each listener, in the order of time."""
    rows = analysis.each_run
    if len({row.run for row in rows}) < 3:
        return None
    timed = all(row.started for row in rows)
    began = min((datetime.fromisoformat(row.started) for row in rows if row.started), default=None)

    def when(row: OneRun) -> float:
        if timed and began and row.started:
            return (datetime.fromisoformat(row.started) - began).total_seconds() / 60
        return row.run

    figure, axes = _axes(2.8)
    for (name, points), colour, marker in zip(_by_listener(rows), COLOURS * 3, MARKERS * 3, strict=False):
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
    axes.set(xlabel="minutes from the first run" if timed else "run", ylabel="packets lost, %", ylim=(0, None))
    figure.legend(loc="outside upper left", ncols=4, frameon=False, fontsize=8, handletextpad=0.1)
    return figure


def loss_by_rssi(analysis: Analysis) -> Figure | None:
    """Loss of each run at each listener against the mean RSSI of what it heard."""
    rows = [row for row in analysis.each_run if row.rssi_dbm is not None]
    if not rows:
        return None
    figure, axes = _axes(2.8)
    for (name, points), colour, marker in zip(_by_listener(rows), COLOURS * 3, MARKERS * 3, strict=False):
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
    """Name and SVG of each figure that there is."""
    for name, (title, draw) in FIGURES.items():
        with rc_context(STYLE):
            figure = draw(analysis)
            if figure is not None:
                yield name, svg(figure, title)


def save(analysis: Analysis, directory: Path) -> list[Path]:
    """Each figure as NAME.svg and NAME.png; their paths. UsageError if they can't be written."""
    paths = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, (title, draw) in FIGURES.items():
            with rc_context(STYLE):
                figure = draw(analysis)
                if figure is None:
                    continue
                for suffix in ("svg", "png"):
                    picture = BytesIO()
                    metadata = {"Title": title} | ({"Date": None} if suffix == "svg" else {})
                    figure.savefig(picture, format=suffix, dpi=PRINT_DPI, metadata=metadata)
                    paths.append(directory / f"{name}.{suffix}")
                    paths[-1].write_bytes(picture.getvalue())
    except OSError as error:
        raise UsageError(f"can't write to {str(directory)!r} ({error.strerror}): choose another place") from error
    return paths


def _clip(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"


def _by_listener(rows: Sequence[OneRun]) -> list[tuple[str, list[OneRun]]]:
    names = sorted({row.listener for row in rows})
    return [(_clip(name), [row for row in rows if row.listener == name]) for name in names]


def _axes(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()
