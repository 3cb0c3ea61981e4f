"""The page of pairing, at two real daemons: in Debian's Chromium with a thumb, and as strangers ask for it."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from browser_phone import SIZES, Phone
from lone_nodes import Command, LoneNodes
from two_daemons import wait_until

from bt_selfsecure.node.two_nodes import ADDRESSES, OTHER
from bt_selfsecure.oob.qr import CodeKind, code_of, write_picture
from bt_selfsecure.phone.introduction import PATIENCE_S

pytestmark = pytest.mark.timeout(180)
JSON = {"Content-Type": "application/json"}


class ServedPage:
    """`pair page` at one node, whose phone is `ask`."""

    def __init__(self, nodes: LoneNodes, name: str, *words: str) -> None:
        place = nodes.place(OTHER[name])
        self.command: Command = nodes.pair(name, "page", "--json", "--listen", "127.0.0.1:0", "--udp", place, *words)
        self.url = self.command.event("page")["address"]

    def ask(self, path: str, body: bytes | None = None, headers: Any = None, method: str = "") -> tuple[int, bytes]:
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method or ("GET" if body is None else "POST"), path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()

    @property
    def root(self) -> str:
        return urlsplit(self.url).path

    def view(self) -> dict[str, Any]:
        return dict(json.loads(self.ask(self.root + "state")[1]))

    def wish(self, **wish: str) -> tuple[int, dict[str, Any]]:
        status, body = self.ask(self.root + "do", json.dumps(wish).encode(), JSON)
        return status, json.loads(body)

    def wait(self, phase: str) -> dict[str, Any]:
        wait_until(lambda: self.view()["phase"] == phase)
        return self.view()


def compared(nodes: LoneNodes, *pages: ServedPage) -> str:
    """What all of these pages show to compare."""
    for page in pages:
        page.wait("comparing")
    string = nodes.shared_string()
    for page in pages:
        wait_until(lambda page=page: page.view()["string"] == string)
    return string


@pytest.fixture
def pages(nodes: LoneNodes) -> Iterator[Callable[..., ServedPage]]:
    with contextlib.ExitStack() as stack:

        def served(name: str, *words: str) -> ServedPage:
            page = ServedPage(nodes, name, *words)
            stack.enter_context(page.command)
            return page

        yield served


@pytest.mark.parametrize(
    "size", [pytest.param(size, marks=[] if size == SIZES[1] else pytest.mark.long) for size in SIZES], ids=str
)
def test_two_devices_without_keyboard_are_paired_by_their_pages_and_a_photo(
    nodes: LoneNodes,
    pages: Callable[..., ServedPage],
    phone: Callable[..., Phone],
    size: tuple[int, int],
    tmp_path: Path,
) -> None:
    served = {name: pages(name) for name in ADDRESSES}
    screens = {name: phone(page.url, size) for name, page in served.items()}
    began = time.monotonic()
    for name, screen in screens.items():
        screen.says("Pair two devices")
        assert screen.text("own") == f"This device is {name}, {ADDRESSES[name]}"
        screen.picture(f"{name}-showing")
        screen.assert_all_within_reach()
    picture = tmp_path / "photo.png"
    screens["bob"].page.evaluate("document.getElementById('qr').scrollIntoView({block: 'start'})")
    screens["bob"].page.locator("#qr").screenshot(path=picture)
    screens["alice"].page.set_input_files("#photo", picture)
    for name, screen in screens.items():
        screen.says(f"Does {OTHER[name]} show the same?")
        screen.picture(f"{name}-string")
        screen.assert_all_within_reach()
    digits = nodes.shared_string().partition("(")[0].strip()
    for screen in screens.values():
        wait_until(lambda screen=screen: screen.text("digits") == digits)
    assert screens["alice"].text("words") == screens["bob"].text("words")
    assert nodes.names("alice") == ["bob"]
    with pytest.raises(Exception, match="being paired"):
        nodes.client("alice").send("bob", b"too early")
    screens["alice"].tap("main")
    screens["alice"].says("Waiting for bob")
    screens["bob"].tap("main")
    for name, screen in screens.items():
        screen.says(f"Paired with {OTHER[name]}")
        screen.picture(f"{name}-paired")
    assert time.monotonic() - began < 60
    for name, page in served.items():
        assert page.command.event("paired")["peer"] == OTHER[name]
        assert page.command.end()[0] == 0
        (peer,) = nodes.client(name).peers()
        assert (peer["trust"]["confirmed"], peer["key"]["authenticated"]) == ("string", True)
        screens[name].settle()
        assert screens[name].text("doing") == f"Paired with {OTHER[name]}"
        assert screens[name].problems == []


@pytest.mark.long
@pytest.mark.parametrize("size", [SIZES[0], SIZES[2]], ids=str)
def test_axe_finds_nothing_whatever_the_page_shows(
    nodes: LoneNodes, pages: Callable[..., ServedPage], phone: Callable[..., Phone], size: tuple[int, int]
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    rules = ["wcag2a", "wcag2aa", "wcag2aaa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

    def assert_clean(screen: Phone, heading: str) -> None:
        screen.says(heading)
        screen.settle()
        found = axe.run(screen.page, options={"runOnly": rules, "resultTypes": ["violations"]})
        assert found.response["violations"] == []

    alice, bob = pages("alice"), pages("bob")
    screen, other = phone(alice.url, size), phone(bob.url, size)
    assert_clean(screen, "Pair two devices")
    screen.page.fill("#text", "no code")
    screen.page.locator("#form button").tap()
    screen.page.wait_for_selector("#notice:not(:empty)")
    assert_clean(screen, "Pair two devices")
    screen.page.fill("#text", bob.view()["code"])
    screen.page.locator("#form button").tap()
    assert_clean(screen, "Does bob show the same?")
    screen.tap("other")
    screen.page.wait_for_selector("#trouble:visible")
    assert_clean(screen, "Pair two devices")
    other.page.wait_for_selector("#trouble:visible")
    screen.page.fill("#text", bob.wait("showing")["code"])
    screen.page.locator("#form button").tap()
    screen.says("Does bob show the same?")
    screen.tap("main")
    assert_clean(screen, "Waiting for bob")
    other.tap("main")
    assert_clean(screen, "Paired with bob")
    alice.command.end()
    bob.command.end()
    lost = phone(pages("bob").url, size)
    lost.says("Pair two devices")
    lost.page.route("**/state", lambda route: route.abort())
    assert_clean(lost, "No connection to the Pi")


def test_a_page_and_a_terminal_are_paired_by_a_code_as_text(nodes: LoneNodes, pages: Callable[..., ServedPage]) -> None:
    page = pages("alice")
    page.wait("showing")
    with nodes.pair("bob", "show", "--compare", "--json") as bob:
        code = bob.event("shown")["code"]
        status, view = page.wish(wish="read", code=code.lower())
        assert (status, view["phase"]) == (200, "starting")
        bob.event("string")
        string = compared(nodes, page)
        status, view = page.wish(wish="same", string="000 000")
        assert status == 409
        assert "compare that one" in view["error"]
        assert page.wish(wish="same", string=string)[0] == 200
        nodes.client("bob").compared(same=True)
        assert bob.event("paired")["peer"] == "alice"
        assert bob.end()[0] == 0
    assert page.wait("paired")["peer"] == "bob"
    assert page.command.end()[0] == 0


@pytest.mark.long
def test_strings_that_differ_pair_neither_and_the_page_shows_another_code(
    nodes: LoneNodes, pages: Callable[..., ServedPage]
) -> None:
    alice, bob = pages("alice"), pages("bob")
    first = bob.wait("showing")["code"]
    alice.wait("showing")
    alice.wish(wish="read", code=first)
    string = compared(nodes, alice, bob)
    assert alice.wish(wish="differs", string=string)[0] == 200
    view = alice.wait("showing")
    assert "differ" in view["trouble"]
    bob.wait("showing")
    for name in ADDRESSES:
        wait_until(lambda name=name: nodes.has_nothing(name))


@pytest.mark.long
def test_ctrl_c_at_any_point_leaves_nothing_half_paired(nodes: LoneNodes, pages: Callable[..., ServedPage]) -> None:
    for phase in ("showing", "calling", "comparing", "waiting"):
        alice, bob = pages("alice"), pages("bob")
        code = bob.wait("showing")["code"]
        alice.wait("showing")
        if phase == "calling":
            assert bob.command.interrupt()[0] == 130
        if phase != "showing":
            assert alice.wish(wish="read", code=code)[0] == 200
            alice.wait("calling" if phase == "calling" else "comparing")
        if phase == "waiting":
            alice.wish(wish="same", string=compared(nodes, alice))
            alice.wait("waiting")
        status, _, errors = alice.command.interrupt()
        assert status == 130
        assert "Traceback" not in errors
        if phase != "calling":
            bob.wait("showing")
            bob.command.interrupt()
        for name in ADDRESSES:
            wait_until(lambda name=name: nodes.has_nothing(name))


def test_what_can_not_be_called_is_refused_in_a_sentence(
    nodes: LoneNodes, pages: Callable[..., ServedPage], tmp_path: Path
) -> None:
    page = pages("alice")
    own = page.wait("showing")["code"]

    def upload(code: str) -> tuple[int, str]:
        write_picture(code, tmp_path / "code.png", "png")
        picture = (tmp_path / "code.png").read_bytes()
        status, body = page.ask(page.root + "photo", picture, {"Content-Type": "image/png"})
        return status, json.loads(body).get("error", "")

    status, why = upload(code_of(CodeKind.PAIRING, bytes(39)))
    assert status == 409
    assert why.startswith("that code holds a secret")
    assert upload(own) == (409, "this is the code of this very device: read that of the other one")
    assert "no code of ours" in upload("https://example.com")[1]
    for bad in (b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(100), b"P6 99999 99999 255\n"):
        status, body = page.ask(page.root + "photo", bad, {"Content-Type": "image/jpeg"})
        assert status == 409
        assert "give a photo or screenshot" in json.loads(body)["error"]
    status, _ = page.wish(wish="read", code=f"{own[:-1]}\u00e9")
    assert status == 409
    for nonsense in (b"", b"[]", b"{", b'{"wish": "read"}', b'{"wish": "read", "code": 1}', b'{"wish": "sing"}'):
        assert page.ask(page.root + "do", nonsense, JSON)[0] == 400
    assert page.view()["phase"] == "showing"
    assert page.view()["code"] == own


def test_who_does_not_know_the_address_or_comes_from_elsewhere_is_let_in_nowhere(
    nodes: LoneNodes, pages: Callable[..., ServedPage]
) -> None:
    page = pages("alice")
    code = page.wait("showing")["code"]
    for path in ("/", "/state", "/photo", page.root[:-1], "/" + "0" * 10 + "/state"):
        assert page.ask(path) == (404, b"")
    large = bytes(200_000)
    assert page.ask("/" + "0" * 10 + "/photo", large, {"Content-Type": "image/png"})[0] == 413
    assert page.ask(page.root + "photo", bytes(13 << 20), {"Content-Type": "image/png"})[0] == 413
    body = json.dumps({"wish": "give up"}).encode()
    for headers, wanted in (
        ({"Origin": "http://elsewhere.test"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Host": "rebound.test"}, 421),
        ({"Content-Type": "text/plain"}, 415),
    ):
        for path in ("do", "photo"):
            kind = JSON if path == "do" else {"Content-Type": "image/png"}
            assert page.ask(page.root + path, body, kind | headers)[0] == wanted
    for method, path in (("POST", "state"), ("GET", "do"), ("GET", "photo"), ("PUT", "")):
        assert page.ask(page.root + path, method=method)[0] == 405
    assert page.view()["code"] == code


@pytest.mark.long
def test_a_node_that_stops_is_told_on_the_page_and_the_page_goes_on_when_it_is_back(
    nodes: LoneNodes, pages: Callable[..., ServedPage]
) -> None:
    page = pages("bob")
    before = page.wait("showing")["code"]
    nodes.kill("bob")
    wait_until(lambda: "no node runs" in page.view()["trouble"] or "has stopped" in page.view()["trouble"])
    nodes.start("bob")
    wait_until(lambda: page.view()["phase"] == "showing" and page.view()["code"] != before)


@pytest.mark.long
def test_two_people_who_read_at_the_same_moment_are_told_that_one_reads_and_then_pair(
    nodes: LoneNodes, pages: Callable[..., ServedPage]
) -> None:
    served = {name: pages(name) for name in ADDRESSES}
    codes = {name: page.wait("showing")["code"] for name, page in served.items()}
    with ThreadPoolExecutor() as people:
        people.map(lambda name: served[name].wish(wish="read", code=codes[OTHER[name]]), ADDRESSES)
    for page in served.values():
        wait_until(lambda page=page: "not calling this one" in page.view()["trouble"], 60)
    alice, bob = served["alice"], served["bob"]
    alice.wait("showing")
    alice.wish(wish="read", code=bob.wait("showing")["code"])
    string = compared(nodes, alice, bob)
    for page in (alice, bob):
        page.wish(wish="same", string=string)
    assert [page.wait("paired")["peer"] for page in (alice, bob)] == ["bob", "alice"]


@pytest.mark.long
def test_a_page_for_this_computer_sends_no_phone_there_and_what_goes_on_is_told_once(
    nodes: LoneNodes, pages: Callable[..., ServedPage]
) -> None:
    pages("alice").wait("showing")
    with nodes.pair("alice", "page", "--listen", "127.0.0.1:0") as second:
        assert second.until("On ").startswith("On this computer")
        time.sleep(3 * PATIENCE_S)
        status, output, _ = second.interrupt()
    assert status == 130
    assert output.count("another pairing is under way") == 1
