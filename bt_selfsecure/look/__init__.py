"""The look of the figures and pages: colours, style, SVG, one HTML file without outside resources."""

from __future__ import annotations

import re
from html import escape
from io import StringIO
from itertools import combinations
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# Okabe and Ito's colours; in each figure shape or line style tells the same.
BLUE, SKY, ORANGE, PURPLE, GREY, PALE = "#0072b2", "#56b4e9", "#d55e00", "#a8508a", "#666666", "#eef1f4"
GREEN, YELLOW = "#009e73", "#b58900"
STYLE: Final = {
    "svg.hashsalt": "bt-selfsecure",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["system-ui", "DejaVu Sans", "sans-serif"],
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
WIDTH: Final = 5.2  # inches: still readable on a phone


def svg(figure: Figure, title: str) -> str:
    """Return an <svg> element that scales with the page, with a title for those who can't see it."""
    text = StringIO()
    keep_labels_apart(figure)
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    drawn = text.getvalue()
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn[drawn.index("<svg") :], flags=re.DOTALL)
    drawn = re.sub(
        r'(<svg[^>]*?) width="[^"]*" height="[^"]*"|(<svg[^>]*?) height="[^"]*" width="[^"]*"', r"\1\2", drawn
    )
    return drawn.replace(">", f' role="img"><title>{escape(title)}</title>', 1)


def keep_labels_apart(figure: Figure) -> None:
    """Let no tick label touch another: numbers become fewer, names are turned."""
    from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullLocator

    every_axis = [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]
    figure.draw_without_rendering()
    for most in (6, 4, 2, 1):
        touching = [axis for axis in every_axis if _touch(axis)]
        if not touching:
            break
        for axis in touching:
            if isinstance(axis.get_major_locator(), FixedLocator):
                axis.set_tick_params(rotation=90)
            else:
                logarithmic = axis.get_scale() == "log"
                axis.set_major_locator(LogLocator(numticks=most) if logarithmic else MaxNLocator(most))
                axis.set_minor_locator(NullLocator())
        figure.draw_without_rendering()


def _touch(axis: Axis) -> bool:
    low, high = sorted(axis.get_view_interval())
    boxes = [
        label.get_window_extent()
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
        if low <= tick.get_loc() <= high
        for label in (tick.label1, tick.label2)  # at the one side and at the other, as of a colour bar
        if label.get_visible() and label.get_text()
    ]
    return any(one.overlaps(other) for one, other in combinations(boxes, 2))
