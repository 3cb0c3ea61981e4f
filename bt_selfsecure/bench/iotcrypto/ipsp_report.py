"""Figures 11 and 12 as text and as pictures, beside what the paper prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import Final

from bt_selfsecure import look
from bt_selfsecure.bench.iotcrypto.ipsp import IpspRow

PAPER_KBIT_S: Final = 239.2
"""Its greatest throughput, at 1 m."""
PAPER_INTERVALS_MS: Final = (30, 60)
"""Of BLE connections by default, least and most."""
PAPER_DELAYS_MS: Final = {False: 120, True: 180}
"""What the connection interval can make of a round trip, by whether it goes through a gateway."""
VIRTUAL: Final = "virtual: on virtual machines and their air, which tells nothing of a radio"


def lines(rows: Sequence[IpspRow]) -> Iterator[str]:
    """Yield both figures as text of 80 columns."""
    rows = sorted(rows, key=lambda row: (row.distance_m, row.through_gateway))
    if any(row.virtual for row in rows):
        yield VIRTUAL
    yield f"{'Figure 11: throughput by iperf3, kbit/s':45} {'mean':>8} {'least':>8} {'most':>8} {'runs':>5}"
    for row in rows:
        if row.kbit_s:
            yield f"  {_where(row):43} {_figures(row.kbit_s)} {len(row.kbit_s):5}"
    yield f"  paper: {PAPER_KBIT_S} at most, at 1 m"
    yield f"{'Figure 12: there and back by ping, ms':45} {'mean':>8} {'least':>8} {'most':>8} {'lost':>5}"
    for row in rows:
        yield f"  {_where(row):43} {_figures(row.round_trips_ms)} {row.pings - len(row.round_trips_ms):5}"
    yield "  paper: up to {} direct, {} through a gateway, by intervals of {} to {} ms".format(
        PAPER_DELAYS_MS[False], PAPER_DELAYS_MS[True], *PAPER_INTERVALS_MS
    )


def _figures(values: Sequence[float]) -> str:
    return " ".join(f"{each:8.1f}" for each in (mean(values), min(values), max(values)))


def _where(row: IpspRow) -> str:
    way = "through a gateway" if row.through_gateway else "direct"
    return f"{row.distance_m:5g} m, {way}{', virtual' if row.virtual else ''}"


def draw(rows: Sequence[IpspRow], folder: Path) -> list[Path]:
    """Write both figures as SVG, and return them. Needs matplotlib."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    written = []
    figures = (
        ("figure-11", "throughput, kbit/s", [(row, row.kbit_s) for row in rows if row.kbit_s]),
        ("figure-12", "there and back, ms", [(row, row.round_trips_ms) for row in rows]),
    )
    virtual = any(row.virtual for row in rows)
    with mpl.rc_context(look.STYLE):
        for name, label, measured in figures:
            figure = Figure(figsize=(look.WIDTH, 3.4), layout="constrained")
            axes = figure.subplots()
            ways = ((False, "direct", look.BLUE, "o"), (True, "through a gateway", look.ORANGE, "s"))
            for through, way, colour, shape in ways:
                points = sorted(
                    (row.distance_m, mean(values), min(values), max(values))
                    for row, values in measured
                    if row.through_gateway is through
                )
                if points:
                    distances, means, least, most = zip(*points, strict=True)
                    axes.plot(distances, means, color=colour, marker=shape, label=way)
                    axes.vlines(distances, least, most, color=colour, alpha=0.5)
            if name == "figure-11":
                axes.axhline(PAPER_KBIT_S, color=look.GREY, linestyle=":", label="the paper's greatest")
            axes.set_xlabel("distance, m")
            axes.set_ylabel(label)
            axes.set_ylim(bottom=0)
            title = f"{name.replace('-', ' ').capitalize()}, remade{' on VIRTUAL machines' if virtual else ''}"
            axes.set_title(title)
            axes.legend(frameon=False, loc="lower left")
            path = folder / f"ipsp-{name}.svg"
            path.write_text(look.svg(figure, title), encoding="utf-8")
            written.append(path)
    return written
