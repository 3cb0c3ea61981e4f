"""The figures of a sweep (matplotlib, extra `sweep`): readable without colour and in print."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Final

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bt_selfsecure.core.losses import clopper_pearson
from bt_selfsecure.errors import UsageError
from bt_selfsecure.look import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, STYLE, WIDTH, YELLOW, svg
from bt_selfsecure.sweep.results import BITS, Analysis, Listener, OneRun, Pair, Setting

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

Kind = tuple[int, int]
"""Packets a run (0: any), bytes a packet."""
Drawing = Callable[[Analysis], Figure | None]


def loss_by_distance(analysis: Analysis) -> Figure | None:
    """The paper's Fig. 7: loss against distance for each number of packets; with intervals, and with every listener.

    Against the distance that the plan varies, wherever a listener stood; where there is none, against each one's own.
    Where the nodes take turns, all Bobs are one line, and all Eves.
    """
    sums: dict[tuple[str, str, Kind, float], list[int]] = defaultdict(lambda: [0, 0])
    for row in analysis.listeners:
        if row.setting.distance_m is not None:
            kind = (row.setting.packets or 0, row.setting.size_bytes)
            total = sums[row.setting.bearer, _who(analysis, row), kind, row.setting.distance_m]
            total[0] += row.sent - row.heard
            total[1] += row.sent
    for each in [] if sums else analysis.loss_by_distance:
        kind = (each.packets or 0, each.size_bytes)
        at = (each.from_m + each.to_m) / 2
        sums[each.bearer, each.listener or "all listeners", kind, at] = [each.lost, each.sent]
    if not sums:
        return None
    who, kinds = list(dict.fromkeys(key[1] for key in sums)), sorted({key[2] for key in sums})
    reach = max(key[3] for key in sums)
    figure, panels = _panels(list(dict.fromkeys(key[0] for key in sums)), 2.6)
    for (bearer, axes), (at, name), (nth, kind) in product(panels, enumerate(who), enumerate(kinds)):
        points = sorted((key[3], lost, sent) for key, (lost, sent) in sums.items() if key[:3] == (bearer, name, kind))
        shift = (nth + len(kinds) * at - (len(kinds) * len(who) - 1) / 2) * 0.008 * reach
        shares = [(100 * lost / sent if sent else 100.0, *clopper_pearson(lost, sent)) for _, lost, sent in points]
        axes.errorbar(
            [metres + shift for metres, _, _ in points],
            [share for share, _, _ in shares],
            [[share - 100 * low for share, low, _ in shares], [100 * high - share for share, _, high in shares]],
            label=_label(name, kind, kinds),
            color=COLOURS[at % len(COLOURS)],
            linestyle=LINES[at % len(LINES)],
            marker=MARKERS[nth % len(MARKERS)],
            markersize=4.5,
            capsize=2,
            linewidth=1.2,
        )
    room = (0.03 + 0.004 * len(kinds) * len(who)) * reach
    for _, axes in panels:  # when all is drawn: limits that are set stay
        axes.set(ylabel="packets lost, %", xlim=(-room, reach + room), ylim=(0, None))
    panels[-1][1].set_xlabel("metres from the sender")
    _legend(figure, panels)
    return figure


def _who(analysis: Analysis, row: Listener) -> str:
    """The listener and its part; the part alone if the nodes take turns at it."""
    part = analysis.part(row.setting, row.listener)
    parts = {roles[row.listener] for roles in analysis.roles.values() if row.listener in roles}
    if part is None or part == row.listener:
        return _clip(row.listener)
    return f"every {part.capitalize()}" if len(parts) > 1 else f"{_clip(row.listener)} ({part})"


def _label(name: str, kind: Kind, kinds: Sequence[Kind]) -> str:
    packets, size = kind
    words = [name]
    words += [f"{packets} packets"] * (packets > 0 and len({each[0] for each in kinds}) > 1)
    words += [f"{size} B"] * (len({each[1] for each in kinds}) > 1)
    return ", ".join(words)


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
    """Secret bits of the weakest run against distance: the weakest pair that the plan names (else of all)."""
    least: dict[tuple[str, Kind, float], float] = {}
    for pair in analysis.planned():
        if (metres := pair.setting.distance_m) is not None:
            key = (pair.setting.bearer, (pair.setting.packets or 0, pair.setting.size_bytes), metres)
            least[key] = min(pair.secret_bits, least.get(key, pair.secret_bits))
    if len({metres for _, _, metres in least}) < 2:
        return None
    kinds = sorted({kind for _, kind, _ in least})
    figure, panels = _panels(list(dict.fromkeys(bearer for bearer, _, _ in least)), 2.4)
    for (bearer, axes), (nth, kind) in product(panels, enumerate(kinds)):
        points = sorted((key[2], bits) for key, bits in least.items() if key[:2] == (bearer, kind))
        axes.plot(
            [metres for metres, _ in points],
            [bits for _, bits in points],
            label=f"{kind[0]} packets" + f", {kind[1]} B" * (len({size for _, size in kinds}) > 1),
            color=COLOURS[nth % len(COLOURS)],
            linestyle=LINES[nth % len(LINES)],
            marker=MARKERS[nth % len(MARKERS)],
        )
    for _, axes in panels:
        axes.axhline(BITS[-1], color=GREY, linestyle=(0, (1, 2)))
        axes.annotate("128", (0, BITS[-1]), (2, 2), textcoords="offset points", fontsize=8, color=GREY)
        axes.set(ylabel="secret bits, weakest run", xlim=(0, None), ylim=(-4, 262))
    panels[-1][1].set_xlabel("metres from the sender")
    _legend(figure, panels)
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


def _panels(names: Sequence[str], height: float) -> tuple[Figure, list[tuple[str, Axes]]]:
    """One above the other, with their names where there are several."""
    figure = Figure(figsize=(WIDTH, 0.8 + height * len(names)), layout="constrained")
    panels = list(zip(names, figure.subplots(len(names), sharex=True, squeeze=False)[:, 0], strict=True))
    for name, axes in panels if len(names) > 1 else ():
        axes.set_title(name, fontsize=9, loc="left")
    return figure, panels


def _legend(figure: Figure, panels: Sequence[tuple[str, Axes]]) -> None:
    handles, labels = panels[0][1].get_legend_handles_labels()
    if len(labels) <= 2 * MOST_LINES:
        figure.legend(handles, labels, loc="outside upper left", ncols=2, frameon=False, fontsize=8)
