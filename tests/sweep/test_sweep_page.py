"""The page on the phone, in a real headless Chromium with a thumb: it is shown, read and tapped as in a car park."""

from __future__ import annotations

import http.server
import json
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from importlib import resources
from itertools import pairwise
from pathlib import Path

import pytest
from phone import LONG, SIZES, SLOW, Phone, WebSweep, plan, until

from bt_selfsecure.sweep.store import Store

THUMB = 48
"""CSS pixels: what a thumb hits (Material Design: 48, WCAG 2.2 AAA: 44)."""
Start = Callable[..., WebSweep]
Open = Callable[..., Phone]


def test_the_page_says_that_what_it_shows_is_pooled_and_what_decides() -> None:
    page = " ".join(resources.files("bt_selfsecure.sweep").joinpath("page.html").read_text(encoding="utf-8").split())
    for picture in ('<div id="plot">', '<table class="figures" id="places">'):
        above = page.split(picture)[0].rpartition("<h2>")[2]
        assert re.search("all runs( of a place)? pooled", above, re.IGNORECASE)
    assert "A key is made of one run, and the worst decides" in page


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
OUTSIDE = """() => [...document.querySelectorAll("main *, footer *")].filter(e => e.checkVisibility())
  .filter(e => !e.closest(".box > *")).filter(e => { const box = e.getBoundingClientRect();
    return box.right > innerWidth + 1 || box.left < -1 }).map(e => e.outerHTML)"""
LABELS = """() => { const picture = document.querySelector("#plot svg").getBoundingClientRect();
  return [...document.querySelectorAll("#plot text")].map(e => { const b = e.getBoundingClientRect();
    return [e.textContent, b.left - picture.left, b.right - picture.left, picture.width, b.top, b.bottom] }) }"""
MARKS = """() => [...document.querySelectorAll("#key path")]
  .map(e => [e.getAttribute("d"), e.getAttribute("fill") === "#fff"])"""


def assert_all_within_reach(phone: Phone, *, dialog: bool = False) -> None:
    """No button off the screen or too small for a thumb, and nothing that makes the page wider than it."""
    page = phone.page
    for control in page.locator("dialog button" if dialog else "footer button, select").all():
        box = control.bounding_box()
        assert box["height"] >= THUMB, control.inner_text()
        assert box["width"] >= THUMB, control.inner_text()
        assert box["x"] >= 0, control.inner_text()
        assert box["x"] + box["width"] <= phone.width, control.inner_text()
        assert box["y"] >= (0 if dialog else phone.height / 2), control.inner_text()
        assert box["y"] + box["height"] <= phone.height, control.inner_text()
        cut = control.evaluate(
            "e => e.tagName === 'BUTTON' && (e.scrollWidth > e.clientWidth || e.scrollHeight > e.clientHeight)"
        )
        assert not cut, control.inner_text()
    assert page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [phone.width, phone.width]
    assert page.evaluate(OUTSIDE) == []


NAMES = {"eleven-long": (11, LONG), "long": (1, LONG), "short": (1, "pi-"), "of-the-installer": (4, "pi-1234")}
QUICK = [("eleven-long", SIZES[0]), ("eleven-long", SIZES[2]), ("short", SIZES[1])]


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
    assert_all_within_reach(screen)
    for metres in (3, 123.456):
        screen.tap("main")
        screen.says(f"Move to {metres} m, turn 1")
        sweep.wait("asking", metres)
        screen.settle()
    screen.picture("asking")
    assert_all_within_reach(screen)
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
    screen.tap("again")
    screen.page.locator("#yes:enabled").wait_for()
    screen.picture("sure")
    assert_all_within_reach(screen, dialog=True)
    screen.tap("no")
    screen.tap("skip")
    screen.says("Move to 0.15 m, turn 2")
    screen.picture("turn-2")
    assert_all_within_reach(screen)
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
    assert sweep.process.wait(10) == 0
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
    sweep.start(f"127.0.0.1:{sweep.port}")
    screen.says("Move to 0.5 m")
    screen.page.reload()
    screen.says("Move to 0.5 m")
    assert screen.text("count") == "6 runs done, 30 to go"


# --- nothing by mistake -----------------------------------------------------------------------------------------------

AFTER: dict[tuple[str, str], tuple[str, float | None, list[float]]] = {
    ("asking", "main"): ("under way", 3, [1.5]),
    ("asking", "skip"): ("asking", 4.5, [1.5, 3]),
    ("asking", "again"): ("asking", 1.5, []),
    ("asking", "yes"): ("asking", 0.5, [1.5]),
    ("counting", "main"): ("asking", 3, [1.5]),
    ("counting", "skip"): ("asking", 4.5, [1.5, 3]),
    ("counting", "again"): ("under way", 3, []),
    ("counting", "yes"): ("asking", 0.5, [1.5]),
    ("done", "main"): ("over", None, [1.5, 3, 4.5]),
    ("done", "again"): ("asking", 4.5, [1.5, 3]),
    ("done", "yes"): ("asking", 0.5, [1.5, 3, 4.5]),
}
"""Phase, place and skipped places after one tap; before it half a metre is measured, and one and a half are skipped."""
AFTER |= {("measuring", button): after for (state, button), after in AFTER.items() if state == "counting"}
GAPS = [0.05 * number for number in range(1, 11)]
STATES = ("asking", "counting", "measuring", "done")


def four_places(state: str) -> str:
    """A plan in which a countdown, or the measuring, lasts longer than a test does."""
    slow = {"packets": [32_000], "repeats": 4, "countdown_s": 0}
    quick = {"packets": [50], "countdown_s": 600}
    return plan(distances_m=[0.5, 1.5, 3, 4.5], **slow if state == "measuring" else quick)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    """A record with the first of `four_places`."""

    @cache
    def made(state: str) -> bytes:
        text = four_places(state).replace("countdown_s = 600", "countdown_s = 0")
        with WebSweep(tmp_path_factory.mktemp("measured"), text) as sweep:
            sweep.wish("placed")
            sweep.wait("asking", 1.5)
        return sweep.record.read_bytes()

    return lambda state: made("measuring" if state == "measuring" else "")


def assert_two_taps_do_what_one_does(start: Start, phone: Open, case: tuple[str, str], gap_s: float) -> None:
    state, button = case
    sweep = start(four_places(state))
    screen = phone(sweep.url, SIZES[0])
    for metres in (1.5, 3, 4.5)[: 3 if state == "done" else 1]:
        screen.says(f"Move to {metres} m")
        screen.tap("skip")
    if state != "done":
        screen.says("Move to 3 m")
    if state in ("counting", "measuring"):
        screen.tap("main")
        until(lambda: sweep.view()["ground"]["phase"] == "under way")
    if button == "yes":
        screen.page.locator("#which:enabled").select_option("0 0.5")
        screen.tap("again")
    screen.blind_taps(button, button, gap_s=gap_s)
    screen.page.wait_for_timeout(1000)
    view = sweep.view()
    here = view["place"] and view["place"]["distance_m"]
    assert (view["ground"]["phase"], here, [place["distance_m"] for place in view["skipped"]]) == AFTER[case]
    withdrawn = sum("withdrawn" in line for line in view["lines"])
    assert withdrawn == (button == "yes")
    assert not screen.page.is_visible("#sure")
    sweep.stop()


@pytest.mark.parametrize("case", [("asking", "main"), ("counting", "yes")], ids="-".join)
def test_a_double_tap_does_what_one_tap_does(
    start: Start, phone: Open, measured: Callable[[str], bytes], tmp_path: Path, case: tuple[str, str]
) -> None:
    (tmp_path / "plan.db").write_bytes(measured(case[0]))
    assert_two_taps_do_what_one_does(start, phone, case, 0.2)


@pytest.mark.long
@pytest.mark.parametrize("case", AFTER, ids="-".join)
def test_ten_double_taps_of_each_button_in_each_state_have_one_effect_each(
    start: Start, phone: Open, measured: Callable[[str], bytes], tmp_path: Path, case: tuple[str, str]
) -> None:
    for gap_s in GAPS:
        (tmp_path / "plan.db").write_bytes(measured(case[0]))
        assert_two_taps_do_what_one_does(start, phone, case, gap_s)


def test_two_phones_that_show_the_same_have_one_effect_and_the_second_one_is_told(start: Start, phone: Open) -> None:
    sweep = start(plan())
    one, other = phone(sweep.url), phone(sweep.url, SIZES[0])
    for screen in (one, other):
        screen.says("Move to 0.15 m")
        screen.settle()
    one.page.evaluate("document.getElementById('skip').click()")
    other.page.evaluate("document.getElementById('skip').click()")
    other.page.get_by_text("Nothing is done: the screen showed that 0.15 m is to be started").wait_for()
    other.picture("told")
    assert_all_within_reach(other)
    for screen in (one, other):
        screen.says("Move to 0.5 m")
    assert [place["distance_m"] for place in sweep.view()["skipped"]] == [0.15]


def test_a_question_about_a_redo_ends_where_the_sweep_goes_on_and_is_about_the_place_that_it_names(
    start: Start, phone: Open, measured: Callable[[str], bytes], tmp_path: Path
) -> None:
    (tmp_path / "plan.db").write_bytes(measured(""))
    sweep = start(four_places(""))
    screen = phone(sweep.url)
    screen.says("Move to 1.5 m")
    screen.tap("again")
    assert screen.text("yes") == "Withdraw and redo 0.5 m"
    sweep.wish("skip")
    screen.says("Move to 3 m")
    assert not screen.page.is_visible("#sure")
    assert screen.text("notice") == "Nothing is withdrawn: the sweep has gone on meanwhile."
    screen.page.select_option("#which", "0 0.5")
    screen.tap("again")
    screen.page.evaluate("chosen = '0 1.5'; look()")  # the list changes under the question
    screen.tap("yes")
    screen.says("Move to 0.5 m")


def test_what_is_tapped_without_a_connection_is_never_done(start: Start, phone: Open) -> None:
    sweep = start(plan())
    screen = phone(sweep.url)
    screen.says("Move to 0.15 m")
    screen.settle()
    screen.context.set_offline(True)
    screen.page.locator("#skip:disabled").wait_for()
    screen.says("No connection to the Pi")
    screen.page.evaluate("wish('skip'); wish('skip')")
    screen.context.set_offline(False)
    screen.says("Move to 0.15 m")
    screen.settle()
    # The Pi stands still: this tap is on its way when it does, and those after it are on no button.
    sweep.process.send_signal(signal.SIGSTOP)
    screen.blind_taps("skip", "skip", gap_s=2.75)
    assert screen.text("doing") == "No connection to the Pi"
    sweep.process.send_signal(signal.SIGCONT)
    screen.says("Move to 0.15 m")
    screen.page.wait_for_timeout(1500)
    assert sweep.view()["skipped"] == []


class Elsewhere(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(
            b"<title>elsewhere</title><iframe></iframe><form method=post enctype=text/plain><input></form>"
        )

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """Another site."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://elsewhere.test:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_another_site_in_the_same_browser_steers_nothing_though_it_knows_the_address(
    start: Start, phone: Open, elsewhere: str
) -> None:
    sweep = start(plan())
    screen = phone(elsewhere)
    page, do = screen.page, sweep.url + "do"
    view = sweep.view()
    time.sleep(1)
    wish = {"wish": "skip", "at": view["now"] + 1, "ground": view["ground"]}
    fetch = "([url, init]) => fetch(url, init).then(r => r.type, e => 'blocked')"
    assert page.evaluate(fetch, [sweep.url + "state", {}]) == "blocked"
    for init in (
        {"method": "POST", "body": json.dumps(wish), "mode": "no-cors"},
        {"method": "POST", "body": json.dumps(wish), "headers": {"Content-Type": "application/json"}},
    ):
        page.evaluate(fetch, [do, init])
    text = json.dumps(wish | {"x": "="})
    send = "([action, name, value]) => { const form = document.forms[0]; Object.assign(form[0], {name, value}); "
    page.evaluate(send + "Object.assign(form, {action}); form.submit() }", [do, text[:-3], text[-2:]])
    page.wait_for_timeout(500)
    page.goto(elsewhere)
    page.evaluate("url => { document.querySelector('iframe').src = url }", sweep.url)
    page.wait_for_timeout(500)
    assert [frame.url for frame in page.frames[1:]] == ["chrome-error://chromewebdata/"]
    rebound = page.request.get(sweep.url, headers={"Host": f"rebound.test:{sweep.port}"})
    assert (rebound.status, rebound.text()) == (421, "")
    assert sweep.view()["skipped"] == []
    page.goto(sweep.url)
    screen.tap("skip")
    screen.says("Move to 0.5 m")
    page.goto("about:blank")
    page.go_back()
    screen.says("Move to 0.5 m")


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
