"""The page on the phone under a hasty thumb, with a second phone, in a dead network, beside another site: one tap does
one thing, and what is not certain is not done."""

from __future__ import annotations

import http.server
import json
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from amounts import at_length
from browser_phone import SIZES, Phone
from phone import SLOW, WebSweep, four_places, plan, until

from bt_selfsecure.sweep.store import Store
from bt_selfsecure.sweep.wishes import DEAD_S, STALE_S

Start = Callable[..., WebSweep]
Open = Callable[..., Phone]

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


def assert_two_taps_do_what_one_does(
    start: Start, phone: Open, measured: Callable[[str], bytes], folder: Path, case: tuple[str, str], gap_s: float
) -> None:
    """Taps that are farther apart than `DEAD_S`, as on a busy computer, are two wishes: those are tried again."""
    state, button = case
    taps_s = 2 * DEAD_S
    while taps_s > DEAD_S:
        (folder / "plan.db").write_bytes(measured(state))
        sweep = start(four_places(state))
        screen = phone(sweep.url, SIZES[0])
        for metres in (1.5, 3, 4.5)[: 3 if state == "done" else 1]:
            screen.says(f"Move to {metres} m")
            screen.tap("skip")
        if state != "done":
            screen.says("Move to 3 m")
        if state in ("counting", "measuring"):
            screen.tap("main")
            until(lambda sweep=sweep: sweep.view()["ground"]["phase"] == "under way")
        if button == "yes":
            screen.page.locator("#which:enabled").select_option("0 0.5")
            screen.tap("again")
        taps_s = screen.blind_taps(button, button, gap_s=gap_s)
        screen.page.wait_for_timeout(1000)
        view = sweep.view()
        hidden = not screen.page.is_visible("#sure")
        sweep.stop()
    here = view["place"] and view["place"]["distance_m"]
    assert (view["ground"]["phase"], here, [place["distance_m"] for place in view["skipped"]]) == AFTER[case]
    withdrawn = sum("withdrawn" in line for line in view["lines"])
    assert withdrawn == (button == "yes")
    assert hidden


@pytest.mark.parametrize("case", [("asking", "main"), at_length(("counting", "yes"))], ids="-".join)
def test_a_double_tap_does_what_one_tap_does(
    start: Start, phone: Open, measured: Callable[[str], bytes], tmp_path: Path, case: tuple[str, str]
) -> None:
    assert_two_taps_do_what_one_does(start, phone, measured, tmp_path, case, 0.2)


@pytest.mark.long
@pytest.mark.parametrize("case", AFTER, ids="-".join)
def test_ten_double_taps_of_each_button_in_each_state_have_one_effect_each(
    start: Start, phone: Open, measured: Callable[[str], bytes], tmp_path: Path, case: tuple[str, str]
) -> None:
    for gap_s in GAPS:
        assert_two_taps_do_what_one_does(start, phone, measured, tmp_path, case, gap_s)


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
    other.assert_all_within_reach()
    for screen in (one, other):
        screen.says("Move to 0.5 m")
    assert [place["distance_m"] for place in sweep.view()["skipped"]] == [0.15]


@pytest.mark.long
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


def test_a_question_about_a_redo_follows_the_runs_that_are_written_and_withdraws_as_many_as_it_names(
    start: Start, phone: Open
) -> None:
    sweep = start(plan(**SLOW, distances_m=[0.5, 1.5], countdown_s=0))
    screen = phone(sweep.url)
    screen.tap("main")
    here = {"turn": 0, "distance_m": 0.5}
    until(lambda: sweep.view()["places"][0]["done"] > 1)
    status, told = sweep.wish("redo", place=here, runs=0)
    assert (status, told["places"][0]["done"] >= 1) == (409, True)
    assert re.fullmatch(r"0.5 m has \d+ runs? now, and the question was about 0: ask again", told["error"])
    screen.tap("again")
    first = screen.text("question")
    screen.page.wait_for_function("told => document.getElementById('question').textContent !== told", arg=first)
    said = """() => { if (!$("sure").open) $("again").click(); if ($("yes").disabled) return "";
        const told = $("question").textContent; $("yes").click(); return told }"""
    named = 0
    while not (line := next((line for line in sweep.view()["lines"] if "withdrawn" in line), "")):
        if question := screen.page.evaluate(said):
            named = int(re.findall(r"Withdraw (\d+) run", question)[0])
        screen.page.wait_for_timeout(100)
    assert line.startswith("the runs at 0.5 m are withdrawn")
    with Store(sweep.record) as store:
        assert named == sum(bool(run.withdrawn) for run in store.runs(withdrawn=True)) > 1


def test_a_second_tap_on_redo_leaves_the_question_open(
    start: Start, phone: Open, measured: Callable[[str], bytes], tmp_path: Path
) -> None:
    (tmp_path / "plan.db").write_bytes(measured(""))
    screen = phone(start(four_places("")).url, SIZES[0])
    screen.says("Move to 1.5 m")
    screen.settle()
    taps = "() => { for (const id of ['again', 'no', 'yes']) document.getElementById(id).click() }"
    screen.page.evaluate(taps)
    assert screen.page.is_visible("#sure")
    screen.tap("no")
    assert not screen.page.is_visible("#sure")


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
    screen.says("No connection to the Pi")
    screen.page.wait_for_timeout(1000 * STALE_S)
    sweep.process.send_signal(signal.SIGCONT)
    screen.says("Move to 0.15 m")
    screen.page.get_by_text("Your last tap got no answer: it was done if the screen shows it").wait_for()
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
