"""The page of the network in a real headless Chromium, with a living network behind it, on a phone and a desktop."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from amounts import at_length
from browser_phone import Screen
from test_cloud_command import demonstration

SIZES = [(390, 844), (1280, 900)]
PERIOD_MS = 4000


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Path]]:
    folder = tmp_path_factory.mktemp("page") / "demo"
    with demonstration(folder) as (_, url, token):
        yield url, token, folder


class CloudScreen(Screen):
    def __init__(self, browser: Any, size: tuple[int, int], url: str, pictures: Path) -> None:
        super().__init__(browser, url, size, locale="en-GB")
        self._pictures = pictures

    def picture(self, name: str) -> None:
        self._pictures.mkdir(exist_ok=True)
        self.page.screenshot(path=self._pictures / f"cloud-{name}-{self.width}.png", full_page=True)


@pytest.fixture(params=[SIZES[0], at_length(SIZES[1])], ids=["phone", "desktop"])
def screen(chromium: Any, network: Any, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CloudScreen]:
    url, token, _ = network
    made = CloudScreen(
        chromium, request.param, f"{url}/#token={token}", Path(os.environ.get("SCREENSHOTS") or tmp_path)
    )
    yield made
    made.context.close()


def test_the_network_is_seen_live_without_outside_resources(screen: CloudScreen, network: Any) -> None:
    page = screen.page
    page.wait_for_selector(".device")
    assert page.url == f"{network[0]}/"  # the token is not in what one sees or bookmarks
    for name in ("processor", "storage", "lamp"):
        page.wait_for_selector(f".device summary b:has-text('{name}')")
    page.wait_for_function("document.querySelectorAll('.device .values b').length >= 6")
    page.locator(".device summary", has_text="processor").click()
    page.wait_for_selector("svg.line")
    load = ".device[open] .note"
    before = page.inner_text(load)
    page.wait_for_function("([q, t]) => document.querySelector(q).innerText !== t", arg=[load, before])
    assert page.locator(".device[open]").count() == 1  # what is open stays open
    screen.picture("network")
    assert page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [screen.width] * 2
    for control in page.locator("button:visible, summary:visible").all():
        assert control.bounding_box()["height"] >= 44, control.inner_text()
    assert {address.split("/")[2] for address in screen.asked if not address.startswith("data:")} == {
        network[0].split("/")[2]
    }
    assert screen.problems == []


def test_an_alert_is_shown_and_seen(screen: CloudScreen, network: Any) -> None:
    page = screen.page
    page.wait_for_selector(".device")
    lamp = page.locator(".device summary", has_text="lamp").locator("..").get_attribute("data-key")
    was_on = "on true" in page.locator(".device summary", has_text="lamp").inner_text()
    page.evaluate(
        "([path, token]) => fetch(path, { method: 'POST', headers: { Authorization: `Bearer ${token}` } })",
        [f"/v1/devices/{lamp}/commands?name=switch&argument={str(not was_on).lower()}", network[1]],
    )
    button = page.get_by_role("button", name=f"Seen: the lamp is {'off' if was_on else 'on'}").first
    button.wait_for()
    screen.picture("alert")
    button.click()
    button.wait_for(state="hidden")
    assert screen.problems == []


def test_a_wrong_token_is_told_and_asked_for_again(screen: CloudScreen, network: Any) -> None:
    page = screen.page
    page.wait_for_selector(".device")
    page.evaluate("sessionStorage.setItem('token', 'wrong')")
    page.reload()
    page.wait_for_selector("#trouble:visible")
    assert "unknown, was revoked or has expired" in page.inner_text("#trouble")
    page.get_by_label("Token").fill(network[1])
    screen.picture("token")
    page.get_by_role("button", name="Show").click()
    page.wait_for_selector(".device")


def test_everybody_can_use_the_page(screen: CloudScreen) -> None:
    axe_playwright = pytest.importorskip("axe_playwright_python.sync_playwright")
    screen.page.wait_for_selector(".device")
    screen.page.locator(".device summary", has_text="processor").click()
    screen.page.wait_for_selector("svg.line")
    result = axe_playwright.Axe().run(screen.page)
    assert [each["id"] + ": " + each["help"] for each in result.response["violations"]] == []


def test_what_devices_say_is_text_and_never_markup(chromium: Any, network: Any, tmp_path: Path) -> None:
    script = (Path(__file__).parents[2] / "bt_selfsecure/iot/cloud/page.js").read_text()
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert way not in script
