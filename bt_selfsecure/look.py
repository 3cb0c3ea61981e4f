"""The look of the figures and pages: colours, style, SVG, one HTML file without outside resources."""

from __future__ import annotations

import re
from html import escape
from io import StringIO
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
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
  background: #fff; max-width: 46rem; margin: 0 auto; padding: 1.2rem 1rem 3rem; }
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
svg { width: 100%; max-width: 38rem; height: auto; display: block; margin: 0 auto; }
table { border-collapse: collapse; margin: .6rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; vertical-align: top; border: 1px solid #d5dae0; text-align: right; }
th { background: #f4f6f8; font-weight: 600; }
tbody th, .text td { text-align: left; }
.fine { font-size: .8rem; }
.fine th, .fine td { padding: .12rem .3rem; white-space: nowrap; }
.fine.text td { white-space: normal; }
code, pre { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .92em; }
pre { background: #f4f6f8; padding: .7rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.hash { overflow-wrap: anywhere; }
@media (max-width: 30rem) { th, td { padding: .3rem .45rem; } .facts b { font-size: 1.1rem; } }
@media print {
  body { font-size: 11pt; max-width: none; }
  h2 { break-after: avoid; }
  figure, table, .facts { break-inside: avoid; }
  table.fine { break-inside: auto; font-size: 7.5pt; }
  tr { break-inside: avoid; }
}
"""


def page(title: str, body: str) -> str:
    """A whole HTML page."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n"
        + body.replace(" %", "\N{NO-BREAK SPACE}%")
        + "\n</body>\n</html>\n"
    )


def figure(svg: str, caption: str) -> str:
    """A figure of a page, with what is to be seen in it."""
    return f'<figure><div class="wide">{svg}</div><figcaption>{escape(caption)}</figcaption></figure>\n'


def svg(figure: Figure, title: str) -> str:
    """An <svg> element that scales with the page, with a title for those who can't see it."""
    text = StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    drawn = text.getvalue()
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn[drawn.index("<svg") :], flags=re.DOTALL)
    drawn = re.sub(
        r'(<svg[^>]*?) width="[^"]*" height="[^"]*"|(<svg[^>]*?) height="[^"]*" width="[^"]*"', r"\1\2", drawn
    )
    return drawn.replace(">", f' role="img"><title>{title}</title>', 1)
