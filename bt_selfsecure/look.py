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
CSS: Final = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; color: #1b1f24;
  background: #fff; max-width: 46rem; margin: 0 auto; padding: 1.2rem 1rem 3rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .2rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem; border-bottom: 1px solid #d5dae0; padding-bottom: .2rem; }
p { margin: .5rem 0; }
.lead { font-size: 1.1rem; border-left: .4rem solid #0072b2; padding: .5rem .8rem; background: #eef4f9; }
.lead.bad { border-color: #d55e00; background: #fdf1e8; }
.air, figcaption, .note { color: #4d5661; font-size: .92rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .6rem; margin: 1rem 0; }
.facts div { border: 1px solid #d5dae0; border-radius: .4rem; padding: .5rem .7rem; }
.facts b { display: block; font-size: 1.25rem; white-space: nowrap; line-height: 1.2; }
.facts span { font-size: .88rem; color: #4d5661; }
figure { margin: .8rem 0; }
.wide { overflow-x: auto; }
.wide:focus-visible { outline: .2rem solid #0072b2; }
svg { width: 100%; max-width: 38rem; height: auto; display: block; margin: 0 auto; }
table { border-collapse: collapse; margin: .6rem 0; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: .3rem .7rem; vertical-align: top; border: 1px solid #d5dae0; text-align: right; }
th { background: #f4f6f8; font-weight: 600; }
tbody th, .text td { text-align: left; }
.fine { font-size: .8rem; }
.fine th, .fine td { padding: .12rem .3rem; text-align: left; }
.fine td { min-width: 6rem; overflow-wrap: anywhere; }
.fine th { vertical-align: bottom; }
.fine .n { min-width: 0; white-space: nowrap; text-align: right; }
.fine th.n { white-space: normal; }
summary { padding: .3rem 0; }
code, pre { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .92em; }
pre { background: #f4f6f8; padding: .7rem; white-space: pre-wrap; }
@media (max-width: 30rem) { th, td { padding: .3rem .45rem; } .facts b { font-size: 1.1rem; } }
@page { margin: 12mm; }
@media print {
  body { font-size: 11pt; max-width: none; padding: 0; }
  h2, h3, summary { break-after: avoid; }
  figure, table, .facts, .lead { break-inside: avoid; }
  svg { max-width: 30rem; max-height: 23cm; }
  .wide { overflow: visible; }
  details::details-content { content-visibility: visible; }
  table.fine { break-inside: auto; font-size: 7pt; }
  .fine th, .fine td { padding: .1rem .15rem; }
  .fine td { min-width: 3.5em; }
  tr { break-inside: avoid; }
}
"""


def page(title: str, body: str) -> str:
    """Return a whole HTML page."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
        + body.replace(" %", "\N{NO-BREAK SPACE}%")
        + "\n</main>\n</body>\n</html>\n"
    )


def box(label: str, content: str) -> str:
    """Return what may be wider than the screen: it scrolls by itself, also from the keyboard. Labels differ within a
    page."""
    return f'<div class="wide" tabindex="0" role="region" aria-label="{escape(label)}">{content}</div>\n'


def figure(svg: str, caption: str) -> str:
    """Return a figure of a page, with what is to be seen in it."""
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>\n"


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
    return drawn.replace(">", f' role="img"><title>{title}</title>', 1)


def keep_labels_apart(figure: Figure) -> None:
    """Let no tick label touch another: numbers become fewer, names are turned."""
    from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullLocator

    figure.draw_without_rendering()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            for most in (6, 4, 2, 1):
                if not _touch(axis):
                    break
                if isinstance(axis.get_major_locator(), FixedLocator):
                    axis.set_tick_params(rotation=90)
                else:
                    logarithmic = axis.get_scale() == "log"
                    axis.set_major_locator(LogLocator(numticks=most) if logarithmic else MaxNLocator(most))
                    axis.set_minor_locator(NullLocator())
                figure.draw_without_rendering()


def _touch(axis: Axis) -> bool:
    low, high = sorted(axis.get_view_interval())
    ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
    boxes = [
        tick.label1.get_window_extent() for tick in ticks if tick.label1.get_text() and low <= tick.get_loc() <= high
    ]
    return any(one.overlaps(other) for one, other in combinations(boxes, 2))
