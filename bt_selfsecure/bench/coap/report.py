"""The figures and the table as text, JSON and pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bt_selfsecure import look
from bt_selfsecure.bench.coap.figures import PAPER, CostPoint
from bt_selfsecure.bench.coap.table import PAPER as PAPER_TABLE
from bt_selfsecure.bench.coap.table import PAPER_PROPOSED, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HARDENED: Final = "Sabour, hardened"
ECDHE: Final = "CoAPS, DTLS-ECDHE"
FIGURES: Final = {
    "figure-13": ("per-session 64", "per-io-inc1 64", "per-io-prng 64"),
    "figure-14": ("per-io-inc1 64", "per-io-prng 64", "per-io-nrprng 64"),
    "figure-15": ("per-session 64", "per-io-inc1 64", "per-io-prng 64", "per-io-nrprng 64", "hardened 256"),
    "figure-16": ("per-io-prng 64", "per-io-nrprng 64", "per-io-prng 96", "per-io-nrprng 96", "hardened 256"),
}
COLOURS: Final = (look.BLUE, look.ORANGE, look.GREEN, look.PURPLE, look.GREY)
SHAPES: Final = "osv^D"


@dataclass(frozen=True, slots=True)
class CoapBench:
    """Holds what one run measured."""

    points: Sequence[CostPoint]
    tables: Mapping[str, Sequence[Row]]
    """Table 1, by what it was measured over."""

    def to_json(self) -> dict[str, Any]:
        """Return all of it, with the papers' own figures."""
        return {
            "figures": [point.to_json() for point in self.points],
            "tables": {where: [row.to_json() for row in rows] for where, rows in self.tables.items()},
            "papers_figures_percent": PAPER,
            "papers_table_s": PAPER_TABLE | {"Proposed": PAPER_PROPOSED},
        }


class CostShare(NamedTuple):
    """Says what hardened Sabour takes of another way's."""

    name: str
    time: float
    """Of the medians."""
    least: float
    """Of the least times: what other programs on this computer add is in neither."""
    size: float


def ratios(rows: Iterable[Row]) -> list[CostShare]:
    """Return hardened Sabour's shares of each way with DTLS-ECDHE."""
    by_name = {row.name: row for row in rows}
    if HARDENED not in by_name:
        return []
    own = by_name[HARDENED]
    return [
        CostShare(name, own.median_s / row.median_s, own.least_s / row.least_s, own.bytes / row.bytes)
        for name, row in by_name.items()
        if name.startswith(ECDHE)
    ]


def lines(bench: CoapBench) -> list[str]:
    """Return all of it as text of at most 80 columns."""
    text: list[str] = []
    for layer in dict.fromkeys(point.layer for point in bench.points):
        text += _figure_lines([point for point in bench.points if point.layer == layer], layer)
    for where, rows in bench.tables.items():
        text += _table_lines(f"Table 1, {where}", rows)
    return text


def _figure_lines(points: Sequence[CostPoint], layer: str) -> list[str]:
    text = [
        f"D-OTP, layer {layer}: CPU time more than under one static key",
        f"{'policy, bits':18} {'sessions':>8} {'of baseline':>12} {'of total':>9} {'the paper':>10}",
    ]
    for point in points:
        theirs = PAPER.get(point.policy, {}).get(point.sessions) if layer == "dtls" else None
        said = f"{theirs:.2f} %" if theirs is not None else ""
        text.append(
            f"{point.policy:18} {point.sessions:8} {point.of_static:10.2f} % {point.of_total:7.2f} % {said:>10}"
        )
    return [*text, ""]


def _table_lines(title: str, rows: Sequence[Row]) -> list[str]:
    text = [
        title,
        f"GET of 315 bytes by a new client, {len(rows[0].seconds)} times, all ways in turn; ms",
        f"{'':36} {'min':>7} {'average':>7} {'max':>7} {'median':>7} {'bytes':>6}",
    ]
    for row in rows:
        times = (row.least_s, mean(row.seconds), max(row.seconds), row.median_s)
        text.append(f"{row.name:36} " + " ".join(f"{1000 * each:7.2f}" for each in times) + f" {row.bytes:6.0f}")
    text += [
        f"{HARDENED}, of {share.name}:\n"
        f"  {share.time:.2f} of the time (of the least {share.least:.2f}), {share.size:.2f} of the bytes"
        for share in ratios(rows)
    ]
    return [*text, ""]


def draw(bench: CoapBench, folder: Path) -> list[Path]:
    """Write pictures (SVG) of the figures and the table, and return them. Needs matplotlib."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    written = []
    with mpl.rc_context(look.STYLE):
        for name, policies in FIGURES.items() if bench.points else ():
            shown = [point for point in bench.points if point.layer == "dtls" and point.policy in policies]
            figure = Figure(figsize=(look.WIDTH, 3.4), layout="constrained")
            axes = figure.subplots()
            draw_bars = name in ("figure-13", "figure-14")
            (_bars if draw_bars else _curves)(axes, policies, shown)
            axes.set_ylabel("more than one static key, %")
            axes.set_title(f"{name.replace('-', ' ').capitalize()}, remade")
            written.append(_write(folder / f"coap-{name}.svg", look.svg(figure, f"{name}, remade")))
        for name, (where, rows) in zip(("table-1", "table-1-slow-link"), bench.tables.items(), strict=False):
            figure = Figure(figsize=(look.WIDTH, 3.8), layout="constrained")
            axes = figure.subplots()
            _times(axes, rows)
            axes.set_title(f"Table 1, {where}")
            written.append(_write(folder / f"coap-{name}.svg", look.svg(figure, f"{name}, remade")))
    return written


def _write(path: Path, svg: str) -> Path:
    path.write_text(svg, encoding="utf-8")
    return path


def _bars(axes: Axes, policies: Sequence[str], points: Sequence[CostPoint]) -> None:
    few = min((point.sessions for point in points), default=0)
    values = {point.policy: point.of_static for point in points if point.sessions == few}
    axes.bar(
        [policy.removesuffix(" 64") for policy in policies], [values[policy] for policy in policies], color=COLOURS[0]
    )
    axes.set_xlabel(f"{few} sessions")


def _curves(axes: Axes, policies: Sequence[str], points: Sequence[CostPoint]) -> None:
    for policy, colour, shape in zip(policies, COLOURS, SHAPES, strict=False):
        own = [point for point in points if point.policy == policy]
        axes.plot(
            [point.sessions for point in own],
            [point.of_static for point in own],
            shape + "-",
            color=colour,
            label=policy,
        )
    axes.set_xlabel("sessions")
    axes.legend(frameon=False, fontsize=8)


def _times(axes: Axes, rows: Sequence[Row]) -> None:
    names = [row.name for row in reversed(rows)]
    axes.barh(names, [1000 * row.median_s for row in reversed(rows)], color=COLOURS[0])
    axes.set_xlabel("median of a GET, ms")
