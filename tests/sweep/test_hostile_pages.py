"""Names and notes that would be markup, script or a template are text in every page."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from browser_phone import Phone
from jinja2 import UndefinedError
from phone import WebSweep, plan
from sweep_data import info, recorded, simulated

from bt_selfsecure.air.models import Bernoulli
from bt_selfsecure.air.virtual_time import run_virtual
from bt_selfsecure.demo import report, verdict_page
from bt_selfsecure.demo.plain import SilentStage
from bt_selfsecure.demo.setting import StoryRequest, perform, stage_set
from bt_selfsecure.demo.summary import FinishedRun
from bt_selfsecure.eve.haoxiao.verdict import Judge
from bt_selfsecure.eve.sources import open_source
from bt_selfsecure.look.pages import page
from bt_selfsecure.sweep.analysis import analyse
from bt_selfsecure.sweep.report import html
from bt_selfsecure.sweep.store import Store

HOSTILE = "'\"></title></style><img src=x onerror=alert(1)><script>alert(1)</script>&amp;{{ 7 * 7 }}{% raw %}"
CAPTURE = Path(__file__).parents[2] / "captures/passive-hardened.pcapng"


def demo(folder: Path) -> str:
    production = stage_set(StoryRequest())
    production = replace(production, plot=replace(production.plot, file_name=HOSTILE))
    _, outcome = run_virtual(perform(production, SilentStage()))
    return report.html(FinishedRun(production, replace(outcome, fingerprint=HOSTILE, sas=HOSTILE), HOSTILE))


def verdict(folder: Path) -> str:
    judge = Judge(0)
    with open_source(str(CAPTURE)) as source:
        judge.hear_all(source)
    told = judge.report()
    verdicts = [replace(each, initiator=HOSTILE, profile=HOSTILE) for each in told.verdicts]
    return "".join(verdict_page.pieces(replace(told, verdicts=verdicts, bearers={HOSTILE: 1}), 128.0))


def sweep(folder: Path) -> str:
    names = ("bob", HOSTILE)
    notes = {"person": HOSTILE, "nodes": {HOSTILE: {HOSTILE: HOSTILE}}}
    run = info(50, 3.0, notes=notes | {"roles": {"alice": "alice", "bob": "bob", "eves": [HOSTILE]}})
    heard = simulated(Bernoulli(dict.fromkeys(names, 0.2)), 50, 1, names)
    planned = {"roles": {"alice": HOSTILE, "bob": "bob", "eves": [HOSTILE]}, "sweep": {"distances_m": [3.0]}}
    with Store(recorded(folder / f"{HOSTILE.replace('/', '')}.db", (run, heard), (run, heard), plan=planned)) as store:
        return html(store, analyse(store))


class Parsed(HTMLParser):
    """What a browser finds in a page: elements, their attributes, and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(text.replace("\N{NO-BREAK SPACE}", " "))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("write", [demo, verdict, sweep])
def test_a_hostile_name_is_text_in_every_report(tmp_path: Path, write: Callable[[Path], str]) -> None:
    found = Parsed(write(tmp_path))
    assert found.text.count(HOSTILE) >= 3
    assert found.elements.isdisjoint({"img", "script"})
    assert not any(name.startswith("on") for name in found.attributes)


def test_a_hostile_name_is_text_on_the_phone(start: Callable[..., WebSweep], phone: Callable[..., Phone]) -> None:
    """No plan lets such a name in, so what comes from the Pi is changed on its way."""
    screen = phone(start(plan(distances_m=[0.5, 1.5], countdown_s=0)).url)

    def change(route: Any) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=answer.text().replace("pi-0", json.dumps(HOSTILE)[1:-1]))

    screen.page.route("**/state", change)
    screen.page.reload()
    screen.tap("main")
    screen.says("Move to 1.5 m")
    shown = screen.page.inner_text("body")
    assert all(f"{HOSTILE}{number}" in shown for number in range(3))
    assert screen.page.locator("img").count() == 0
    assert screen.page.locator("script").count() == 1
    assert screen.problems == []


def test_a_value_that_a_page_lacks_is_an_error_and_no_hole_in_it() -> None:
    values: dict[str, Any] = {}
    for template in ("demo/report.html", "demo/verdict.html", "sweep/report.html"):
        with pytest.raises(UndefinedError):
            page(template, **values)
