"""Every report in a real browser: on a phone, on a desk and on paper nothing is cut off, and axe finds nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from amounts import at_length
from phone import LONG
from sweep_data import BEGAN, info, recorded, simulated

from bt_selfsecure.air.models import Bernoulli
from bt_selfsecure.cli.main import main

CAPTURES = Path(__file__).parents[2] / "captures"
A4_MINUS_MARGINS = 703
"""CSS pixels: 210 mm without 12 at each side."""
RULES = ["wcag2a", "wcag2aa", "wcag2aaa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
OUTSIDE = """box => [...document.querySelectorAll("main *")].filter(e => e.checkVisibility())
  .filter(e => !box || !e.closest(box + " > *"))
  .filter(e => { const r = e.getBoundingClientRect(); return r.right > innerWidth + 1 || r.left < -1 })
  .map(e => e.outerHTML.slice(0, 200))"""
CANNOT_BE_REACHED = """() => [...document.querySelectorAll("main *")].filter(e => e.checkVisibility())
  .filter(e => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== "visible" && e.tabIndex !== 0)
  .map(e => e.outerHTML.slice(0, 200))"""
BROKEN = """() => [...document.querySelectorAll("td")].flatMap(cell => {
  const text = cell.firstChild, range = document.createRange();
  return text ? [...text.data.matchAll(/(?<!\\S)[\\p{L}\\d.]{1,14}(\\u00a0\\p{L}+)?(?!\\S)/gu)].filter(word => {
    range.setStart(text, word.index); range.setEnd(text, word.index + word[0].length);
    return new Set([...range.getClientRects()].map(r => r.top)).size > 1 }).map(word => word[0]) : [] })"""
"""Words and figures with their unit that do not stand in one line."""
TICKS = """() => [...document.querySelectorAll("svg")].map(svg => [...svg.querySelectorAll("text")].map(e => {
  const r = e.getBoundingClientRect(), s = svg.getBoundingClientRect();
  return { text: e.textContent, tick: !!e.closest("g[id*=tick]"), box: [r.left, r.right, r.top, r.bottom],
           inside: r.left >= s.left - 1 && r.right <= s.right + 1 && r.top >= s.top - 1 && r.bottom <= s.bottom + 1 }
}))"""

Write = Callable[[Path, Path], None]


def sweep_report(name: str, eves: int, metres: tuple[float, ...]) -> Write:
    """Of few and short runs, as in a rehearsal."""

    def write(folder: Path, page: Path) -> None:
        names = [f"{name}{number:02}" for number in range(1 + eves)]
        air = Bernoulli({each: 0.1 * (1 + n % 5) for n, each in enumerate(names)})
        notes = {"turn": 0, "roles": {"alice": "alice", "bob": names[0], "eves": names[1:]}, "person": "rain",
                 "nodes": {names[0]: {"wifi_mhz": {"wlan0": 2437}, "temperature_c": 48.3}, names[1]: {"wifi_mhz": {}}},
                 "sender": {}}  # fmt: skip
        runs = []
        for number in range(3 * len(metres)):
            run = info(50, metres[number // 3], repeat=number % 3, started=BEGAN + timedelta(seconds=number / 3),
                       notes=notes | {"tag": number})  # fmt: skip
            runs.append((run, simulated(air, 50, number, tuple(names))))
        plan = {"roles": notes["roles"], "sweep": {"distances_m": list(metres), "bearers": ["air:" + 20 * "eve=0.2,"]}}
        record = recorded(folder / "sweep.db", *runs, plan=plan)
        assert main(["sweep", "report", record, "--out", str(page)]) == 0

    return write


def command(folder: Path, *words: str | Path) -> None:
    """In a process of its own: the browser's has an event loop already."""
    done = subprocess.run([sys.executable, "-m", "bt_selfsecure.cli.main", *words], cwd=folder, capture_output=True)
    assert done.returncode in (0, 1), done.stderr


def demo_report(folder: Path, page: Path) -> None:
    command(folder, "demo", "--plain", "--out", "out")
    (folder / "out/report.html").rename(page)


def verdict(folder: Path, page: Path) -> None:
    heard = [CAPTURES / "theft-hardened.pcapng", CAPTURES / "lab-ipsp.pcapng"]
    stolen = ["--stolen", CAPTURES / "theft-hardened.record.json"]
    command(folder, "eve", "report", *heard, *stolen, "--html", page)


REPORTS: dict[str, Write] = {
    "sweep": sweep_report("pi-eve-", 4, (0.15, 0.5, 1.5, 3, 12.5)),
    "sweep with long names": sweep_report(LONG, 2, (0.15, 123.456)),
    "sweep of twelve": sweep_report("pi-", 11, (0.15, 3, 123.456)),
    "sweep of sensors": sweep_report("sensor", 11, (0.15, 3, 123.456)),
    "demo": demo_report,
    "verdict": verdict,
}


QUICK = {"sweep with long names", "verdict"}
"""One of sweeps and one of another kind; the others are looked at where it may take longer."""


def assert_labels_apart(page: Any) -> None:
    for figure in page.evaluate(TICKS):
        assert [label["text"] for label in figure if not label["inside"]] == []
        for one, other in combinations([label for label in figure if label["tick"] and label["text"].strip()], 2):
            left, right, top, bottom = one["box"]
            from_left, to_right, from_top, to_bottom = other["box"]
            beside = right <= from_left or to_right <= left
            assert beside or bottom <= from_top or to_bottom <= top, (one["text"], other["text"])


@pytest.mark.parametrize("name", [name if name in QUICK else at_length(name) for name in REPORTS])
def test_every_report_fits_a_phone_a_desk_and_paper_and_axe_finds_nothing(
    chromium: Any, tmp_path: Path, name: str
) -> None:
    REPORTS[name](tmp_path, report := tmp_path / "page.html")
    for width, small in ((360, True), (1280, False)):
        context = chromium.new_context(viewport={"width": width, "height": 640}, is_mobile=small, has_touch=small)
        page = context.new_page()
        page.goto(report.as_uri())
        page.screenshot(path=tmp_path / f"{width}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate(OUTSIDE, ".wide") == []
        assert page.evaluate(CANNOT_BE_REACHED) == []
        assert page.evaluate(BROKEN) == []
        assert_labels_apart(page)
        try:
            from axe_playwright_python.sync_playwright import Axe
        except ImportError:
            continue
        found = Axe().run(page, options={"runOnly": RULES, "resultTypes": ["violations"]}).response["violations"]
        assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found] == []
    page.set_viewport_size({"width": A4_MINUS_MARGINS, "height": 1000})
    page.emulate_media(media="print")
    page.screenshot(path=tmp_path / "paper.png", full_page=True)
    assert page.evaluate(OUTSIDE, "") == []
    assert page.evaluate(BROKEN) == []
    assert page.evaluate("[...document.querySelectorAll('details table')].every(e => e.getClientRects().length)")
    context.close()


def test_runs_that_differ_in_nothing_are_one_line_and_notes_are_words(tmp_path: Path) -> None:
    sweep_report("pi-", 2, (0.5, 3))(tmp_path, page := tmp_path / "page.html")
    text = page.read_text().replace("\N{NO-BREAK SPACE}", " ")
    rows = text.partition("<h2>The runs</h2>")[2].partition("</table>")[0].partition("<tbody>")[2]
    told = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows.split("</tr>")[:-1]]
    assert told == [[metres, "le_advert", "64 B", "alice", "rain", "3", "50", "10"] for metres in ("0.5", "3")]
    assert "temperature: 48.3 \N{DEGREE SIGN}C; wifi wlan0: 2437 MHz" in text
    for mark in ("{", "_mhz", "tag", "[]"):
        assert mark not in text.partition("<h2>The runs</h2>")[2]
