"""The page on the phone, in a real headless Chromium with a thumb: it is shown, read and tapped as in a car park."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from browser_phone import SIZES, Phone
from phone import LONG, SLOW, WebSweep, four_places, plan

from bt_selfsecure.look.pages import page
from bt_selfsecure.sweep.store import Store

Start = Callable[..., WebSweep]
Open = Callable[..., Phone]


def test_the_page_says_that_what_it_shows_is_pooled_and_what_decides() -> None:
    shown = " ".join(page("sweep/page.html").replace("\N{NO-BREAK SPACE}", " ").split())
    for picture in ('<div id="plot">', '<table class="figures" id="places">'):
        above = shown.split(picture)[0].rpartition("<h2>")[2]
        assert re.search("all runs( of a place)? pooled", above, re.IGNORECASE)
    assert "A key is made of one run, and the worst decides" in shown


# --- any size ---------------------------------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    """Relative, of "rgb(r, g, b)" (WCAG 2.2)."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


TEXTS = """() => [...document.querySelectorAll("body *:not(script, style, option)")].filter(e => e.checkVisibility()
    && [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()))
  .map(e => { let b = e; const paint = x => getComputedStyle(x).backgroundColor;
    while (b.parentElement && paint(b).endsWith(", 0)")) b = b.parentElement;
    const style = getComputedStyle(e), back = paint(b).endsWith(", 0)") ? "rgb(255, 255, 255)" : paint(b);
    const ink = e instanceof SVGElement ? style.fill : style.color;
    return [e.textContent.trim(), ink, back, parseFloat(style.fontSize)] })"""
LABELS = """() => { const picture = document.querySelector("#plot svg").getBoundingClientRect();
  return [...document.querySelectorAll("#plot text")].map(e => { const b = e.getBoundingClientRect();
    return [e.textContent, b.left - picture.left, b.right - picture.left, picture.width, b.top, b.bottom] }) }"""
DRAWN = """() => { const picture = document.querySelector("#plot svg").getBoundingClientRect();
  return [...document.querySelectorAll("#plot path, #plot polyline")]
    .map(e => e.getBoundingClientRect().left - picture.left) }"""
SHOWN = """() => { const list = document.getElementById("which"), style = getComputedStyle(list), arrow = 24;
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = `${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
  const room = list.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight) - arrow;
  let text = list.selectedOptions[0].textContent;
  while (pen.measureText(text).width > room) text = text.slice(0, -1);
  return text.length }"""
"""How many letters of the choice there is room for."""
MARKS = """() => [...document.querySelectorAll("#key path")]
  .map(e => [e.getAttribute("d"), e.getAttribute("fill") === "#fff"])"""


NAMES = {"eleven-long": (11, LONG), "long": (1, LONG), "short": (1, "pi-"), "of-the-installer": (4, "pi-1234")}
QUICK = [("eleven-long", SIZES[0])]


@pytest.mark.parametrize(
    ("names", "size"),
    [
        pytest.param(names, size, id=f"{names}-{size[0]}", marks=[] if (names, size) in QUICK else pytest.mark.long)
        for names in NAMES
        for size in SIZES
    ],
)
def test_at_any_size_with_any_names_every_button_is_on_the_screen(
    start: Start, phone: Open, names: str, size: tuple[int, int]
) -> None:
    eves, name = NAMES[names]
    sweep = start(plan(eves, name=name, roles="rotate = true", distances_m=[0.15, 3, 123.456], countdown_s=0))
    screen = phone(sweep.url, size)
    screen.says(f"Move to 0.15 m, turn 1 of {eves + 2}")
    screen.assert_all_within_reach()
    for metres in (3, 123.456):
        screen.tap("main")
        screen.says(f"Move to {metres} m, turn 1")
        sweep.wait("asking", metres)
        screen.settle()
    screen.picture("asking")
    screen.assert_all_within_reach()
    for colour, back, pixels in {tuple(text[1:]) for text in screen.page.evaluate(TEXTS)}:
        assert contrast(colour, back) >= 7, (colour, back)  # WCAG AAA; sunlight takes most of it
        assert pixels >= 15
    wide = screen.page.evaluate(
        "[...document.querySelectorAll('.box')].map(e => [e.scrollWidth > e.clientWidth, e.tabIndex])"
    )
    assert (True, 0) in map(tuple, wide) or eves == 1 or size[0] > 1000
    marks = [tuple(mark) for mark in screen.page.evaluate(MARKS)]
    assert len(marks) == len(set(marks)) == 1 + eves
    labels = screen.page.evaluate(LABELS)
    for text, left, right, width, _, _ in labels:
        assert left >= 0, text
        assert right <= width, text
    below = sorted((left, right) for text, left, right, _, _, _ in labels if re.fullmatch(r"[\d.]+", text))
    assert all(one[1] < other[0] for one, other in pairwise(below))
    assert "123.456" in [text for text, *_ in labels]  # the furthest
    of_losses = max(right for text, _, right, *_ in labels if text.endswith("%"))
    assert of_losses <= min(screen.page.evaluate(DRAWN))
    assert " · turn 1" in screen.text("again")
    assert screen.page.evaluate(SHOWN) >= len("123.456 m · turn 1")
    screen.tap("again")
    screen.page.locator("#yes:enabled").wait_for()
    screen.picture("sure")
    screen.assert_all_within_reach(dialog=True)
    screen.tap("no")
    screen.tap("skip")
    screen.says("Move to 0.15 m, turn 2")
    assert screen.text("again") == "Unskip 123.456 m · turn 1"
    screen.picture("turn-2")
    screen.assert_all_within_reach()
    assert screen.problems == []


@pytest.mark.parametrize("size", [SIZES[0], pytest.param(SIZES[2], marks=pytest.mark.long)], ids=str)
def test_axe_finds_nothing_whatever_the_page_shows(
    start: Start, phone: Open, measured: Callable[[str], bytes], tmp_path: Path, size: tuple[int, int]
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    rules = ["wcag2a", "wcag2aa", "wcag2aaa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

    def assert_clean(heading: str) -> None:
        screen.says(heading)
        screen.settle()
        found = axe.run(screen.page, options={"runOnly": rules, "resultTypes": ["violations"]})
        assert found.response["violations"] == []

    (tmp_path / "plan.db").write_bytes(measured(""))
    sweep = start(four_places(""))
    screen = phone(sweep.url, size)
    assert_clean("Move to 1.5 m")
    screen.tap("main")
    assert_clean("Step away")
    sweep.process.send_signal(signal.SIGSTOP)
    assert_clean("No connection")
    sweep.process.send_signal(signal.SIGCONT)
    screen.tap("main")
    assert_clean("Stopped at 1.5 m")
    for _ in range(3):
        screen.tap("skip")
    assert_clean("Ended, 9 runs left out")
    screen.page.select_option("#which", "0 0.5")
    screen.tap("again")
    assert_clean("Ended")


# --- what to do -------------------------------------------------------------------------------------------------------


def who(screen: Phone) -> list[list[str]]:
    rows = "[...document.querySelectorAll('#who tbody tr')].map(r => [...r.children].map(c => c.textContent))"
    return [list(map(str, row)) for row in screen.page.evaluate(rows)]


def test_a_rotating_plan_is_told_turn_by_turn_and_stays_is_said_only_of_who_stays(start: Start, phone: Open) -> None:
    sweep = start(plan(roles="rotate = true\neve_distances_m = [4]", distances_m=[1.5, 3], countdown_s=0))
    screen = phone(sweep.url, SIZES[0])
    eve = "listens, 4 m from there, at the place of Eve"
    screen.says("1.5 m, turn 1 of 3")
    assert who(screen) == [
        ["pi-00", "sends, at the end of the tape", "put there"],
        ["pi-01", "receives, 1.5 m from there", "put there"],
        ["pi-02", eve, "put there"],
    ]
    assert screen.text("then") == "Then: 3 m, turn 1 of 3"
    screen.tap("main")
    screen.says("3 m, turn 1 of 3")
    assert [[row[0], row[2]] for row in who(screen)] == [["pi-01", "moves"], ["pi-00", "stays"], ["pi-02", "stays"]]
    assert screen.text("then") == "Then: 1.5 m, turn 2 of 3"
    screen.tap("main")
    screen.says("1.5 m, turn 2 of 3")
    screen.picture("turn-2")
    assert who(screen) == [
        ["pi-01", "sends, at the end of the tape", "moves"],
        ["pi-02", "receives, 1.5 m from there", "moves"],
        ["pi-00", eve, "moves"],
    ]


def test_after_a_move_was_asked_for_who_may_have_moved_is_told_where_to_stand(start: Start, phone: Open) -> None:
    sweep = start(plan(distances_m=[0.15, 0.5], countdown_s=0))
    screen = phone(sweep.url, SIZES[0])
    screen.tap("main")
    screen.says("Move to 0.5 m")
    screen.tap("again")
    screen.tap("yes")
    screen.says("Move to 0.15 m")
    assert who(screen) == [
        ["pi-01", "receives, 0.15 m from there", "put there"],
        ["pi-00", "sends, at the end of the tape", "stays"],
        ["pi-02", "listens, at the place of Eve", "stays"],
    ]


def test_a_sweep_is_walked_through_with_one_thumb_and_its_end_stays_on_the_screen(start: Start, phone: Open) -> None:
    sweep = start(plan(packets=[50], distances_m=[0.5, 1.5, 3], countdown_s=2))
    screen = phone(sweep.url)
    slept = phone(sweep.url, SIZES[0])
    screen.says("Move to 0.5 m")
    screen.tap("main")
    screen.says("Step away")
    assert re.fullmatch(r"[12] s", screen.text("timer"))
    screen.says("Move to 1.5 m")
    for answer in ("no", "yes"):
        screen.tap("again")
        assert screen.text("question") == "Withdraw 3 runs at 0.5 m, and measure there again?"
        screen.tap(answer)
    screen.says("Move to 0.5 m")
    screen.tap("main")
    screen.says("Step away")
    screen.tap("main")
    screen.says("Stopped at 0.5 m")
    assert screen.text("trouble") == "interrupted by you"
    screen.picture("interrupted")
    for metres in ("1.5", "3"):
        screen.tap("main")
        screen.says(f"Move to {metres} m")
    slept.context.set_offline(True)
    screen.tap("skip")
    screen.says("Ended, 3 runs left out")
    assert screen.text("then") == "Skipped: 3 m"
    assert screen.text("again") == "Unskip 3 m"
    report = f"On the Pi, for the report: bt-selfsecure sweep report {sweep.record}"
    assert screen.text("report") == report
    screen.picture("done")
    slept.context.set_offline(False)  # the sweep waits for who sleeps
    slept.says("Ended, 3 runs left out")
    screen.tap("main")
    for each in (screen, slept):
        each.says("The sweep has ended")
    assert sweep.process.wait(60) == 0
    screen.page.wait_for_timeout(1000)
    for each in (screen, slept):
        assert (each.text("doing"), each.text("report"), each.text("notice")) == ("The sweep has ended", report, "")
        assert each.page.locator("footer :enabled").count() == 0
    assert {url.split("/")[2] for url in screen.asked} == {f"127.0.0.1:{sweep.port}"}
    assert screen.problems == []
    with Store(sweep.record) as store:
        assert {run.info.distance_m for run in store.runs()} == {0.5, 1.5}
        assert {run.info.distance_m for run in store.runs(withdrawn=True) if run.withdrawn} == {0.5}


def test_a_sweep_that_is_started_anew_is_on_the_phone_again_by_itself(start: Start, phone: Open) -> None:
    sweep = start(plan(countdown_s=0))
    screen = phone(sweep.url)
    screen.tap("main")
    screen.says("Move to 0.5 m")
    sweep.stop()
    screen.says("No connection to the Pi")
    screen.picture("gone")
    assert "What you tap now is not done" in screen.text("notice")
    assert screen.text("report").endswith(f"bt-selfsecure sweep report {sweep.record}")
    assert screen.page.locator("footer :enabled").count() == 0
    sweep.start(sweep.port)
    screen.says("Move to 0.5 m")
    screen.page.reload()
    screen.says("Move to 0.5 m")
    assert screen.text("count") == "6 runs done, 30 to go"
    sweep.stop()
    sweep.words = ("--new-address",)
    sweep.start(sweep.port)
    screen.says("This address is out of date")
    assert screen.page.locator("footer :enabled").count() == 0


# --- for those who do not see it --------------------------------------------------------------------------------------


def test_nothing_is_rebuilt_that_did_not_change(start: Start, phone: Open) -> None:
    sweep = start(plan(distances_m=[0.5, 3], countdown_s=0))
    screen = phone(sweep.url)
    screen.tap("main")
    screen.says("Move to 3 m")
    screen.settle()
    watch = """() => { window.changes = [];
        new MutationObserver(all => all.forEach(c => changes.push(c.type + " " + (c.target.id || c.target.nodeName))))
        .observe(document, {subtree: true, childList: true, attributes: true, characterData: true}) }"""
    screen.page.evaluate(watch)
    asked = len(screen.asked)
    screen.page.wait_for_timeout(3500)
    assert len(screen.asked) >= asked + 3
    assert screen.page.evaluate("changes") == []


def test_progress_has_a_value_and_what_is_new_is_announced(start: Start, phone: Open) -> None:
    sweep = start(plan(**SLOW, distances_m=[1.5], countdown_s=0))
    screen = phone(sweep.url)
    assert screen.page.locator("main").count() == 1
    screen.tap("main")
    screen.says("1.5 m: measuring")
    screen.page.wait_for_function("document.querySelector('[aria-label=\"Packets of this run\"]').value > 0")
    assert screen.page.get_by_role("progressbar", name="Packets of this run").count() == 1
    assert screen.page.locator("[role=status] h1").inner_text() == "1.5\xa0m: measuring"
    screen.picture("measuring")
