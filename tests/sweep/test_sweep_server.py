"""What the page's server says to those who are not meant, and that no connection of theirs reaches the sweep."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import re
import resource
import socket
import sqlite3
import ssl
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from amounts import at_length
from phone import WebSweep, plan, until
from test_sweep_wishes import NO_WISHES

from bt_selfsecure.phone.guard import listening
from bt_selfsecure.phone.http import MOST, REQUEST_S
from bt_selfsecure.sweep.control import AirCrew
from bt_selfsecure.sweep.driver import Driver
from bt_selfsecure.sweep.events import End, Placed
from bt_selfsecure.sweep.plan import parse
from bt_selfsecure.sweep.record import Book
from bt_selfsecure.sweep.rehearsal import RehearsalMedium
from bt_selfsecure.sweep.states import State
from bt_selfsecure.sweep.store import Store
from bt_selfsecure.sweep.web import serve

HEADERS = {
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@pytest.fixture
def sweep(start: Callable[..., WebSweep]) -> WebSweep:
    return start(plan())


def raw(sweep: WebSweep, data: bytes, seconds: float = 60.0) -> bytes:
    """All that comes back."""
    with socket.create_connection(("127.0.0.1", sweep.port), timeout=seconds) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(65536):
                answer += part
        return answer


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def assert_guarded(headers: dict[str, str]) -> None:
    assert headers.items() >= HEADERS.items()
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


def test_only_who_knows_the_address_gets_anything_and_every_answer_has_the_headers(sweep: WebSweep) -> None:
    wrong = "/" + "0" * 10 + "/"
    for path in ("/", "/state", "/do", sweep.path[:-1], wrong, wrong + "state", sweep.path + "page.js", sweep.path * 2):
        status, headers, body = sweep.request(path)
        assert (status, body) == (404, b"")
        assert_guarded(headers)
    assert sweep.request(wrong + "do", b"{}")[0] == 404
    for method, path in (("PUT", ""), ("HEAD", ""), ("POST", "state"), ("GET", "do"), ("DELETE", "do")):
        status, headers, _ = sweep.request(sweep.path + path, method=method)
        assert status == 405
        assert_guarded(headers)
    for path in ("", "state", "?a=b"):
        status, headers, _ = sweep.request(sweep.path + path)
        assert status == 200
        assert_guarded(headers)


def test_a_wish_is_carried_out_or_refused_with_the_reason_and_what_there_is_now(sweep: WebSweep) -> None:
    before = sweep.view()
    assert (before["ground"]["phase"], before["place"]["distance_m"]) == ("asking", 0.15)
    status, view = sweep.wish("skip")
    assert (status, view["place"]["distance_m"]) == (200, 0.5)
    status, view = sweep.wish("skip", before)
    assert (status, view["place"]["distance_m"]) == (409, 0.5)
    assert view["error"] == "the screen showed that 0.15 m is to be started, and meanwhile 0.5 m is to be started"
    status, view = sweep.wish("skip", view)
    assert (status, view["error"]) == (409, "it came at the very moment of a change, and now 0.5 m is to be started")
    status, view = sweep.wish("placed")
    assert (status, view["ground"]["phase"]) == (200, "under way")


@pytest.mark.parametrize("words", [at_length(()), ("--unattended",)], ids=["by the person", "by itself"])
def test_what_is_wished_after_the_end_is_refused_and_the_count_is_what_the_file_has(
    words: tuple[str, ...], start: Callable[..., WebSweep]
) -> None:
    sweep = start(plan(distances_m=[1.5], countdown_s=0), *words)
    if not words:
        sweep.wish("placed")
        sweep.wait("done")
        assert sweep.wish("redo", place={"turn": 0, "distance_m": 1.5})[1]["place"]["distance_m"] == 1.5
        sweep.wish("placed")
        sweep.wait("done")
        assert sweep.wish("end")[0] == 200
    view = sweep.wait("over")
    for name in ("redo", "back", "skip", "placed", "stop", "end"):
        status, told = sweep.wish(name, view, {"turn": 0, "distance_m": 1.5})
        assert (status, told["error"], told["done"]) == (409, "the sweep has ended", 6)
    assert sweep.process.wait(60) == 0
    assert sweep.said.read_text().endswith(f"\nthe report: bt-selfsecure sweep report {sweep.record}\n")
    assert runs_in(sweep.record) == 6 * (2 - len(words))
    with Store(sweep.record) as store:
        assert len(store.runs()) == 6


def request(line: str, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join((f"{line} HTTP/1.1", "Host: 127.0.0.1", *headers, "", "")).encode("latin-1") + body


CHUNKED, JSON = "Transfer-Encoding: chunked", "Content-Type: application/json"
MALFORMED = {
    "long address": (request("GET /" + "a" * 100_000), {400, 431}),
    "long header": (request("GET /", "X: " + "a" * 100_000), {431}),
    "escape in a header": (request("GET /", "X\x1b]0;owned\x07: a"), {400}),
    "escape in the method": (b"G\x1b[2JT / HTTP/1.1\r\nHost: x\r\n\r\n", {400}),
    "escape in the address": (request("GET /\x1b[2J"), {400}),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", {400}),
    "two lengths": (request("POST TOKENdo", "Content-Length: 1", "Content-Length: 2", body=b"{}"), {400}),
    "endless length": (request("POST TOKENdo", "Content-Length: 1e9", body=b"{}"), {400}),
    "length of 400 digits": (request("POST TOKENdo", "Content-Length: " + "9" * 400, body=b"{}"), {400}),
    "length below 0": (request("POST TOKENdo", "Content-Length: -1"), {400}),
    "longer than announced": (request("POST TOKENdo", "Content-Length: 2", body=b"{}" * 9), {400}),
    "longer than is taken": (request("POST TOKENdo", "Content-Length: 5000", body=b" " * 5000), {413}),
    "endless": (request("POST TOKENdo", CHUNKED, body=b"400\r\n" + b" " * 1024 + b"\r\n1\r\n \r\n"), {413}),
    "bad chunk": (request("POST TOKENdo", CHUNKED, body=b"zz\r\n"), {400}),
    "bad gzip": (request("POST TOKENdo", JSON, "Content-Encoding: gzip", "Content-Length: 2", body=b"{}"), {415}),
    "another type": (request("POST TOKENdo", "Content-Type: text/plain", "Content-Length: 2", body=b"{}"), {415}),
    "a tunnel": (request("CONNECT 127.0.0.1:22"), {404}),
    "an upgrade": (request("GET TOKENstate", "Connection: upgrade", "Upgrade: websocket"), {200}),
    "not HTTP": (b"\0" * 500 + b"\r\n\r\n", {400}),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 404}),
}  # fmt: skip


def test_what_is_malformed_gets_a_4xx_with_the_headers_and_nothing_on_the_terminal(sweep: WebSweep) -> None:
    said = sweep.said.read_text()
    for name, (data, wanted) in MALFORMED.items():
        answer = raw(sweep, data.replace(b"TOKEN", sweep.path.encode()))
        assert status_of(answer) in wanted, (name, answer)
        assert b"X-Content-Type-Options: nosniff" in answer, name
    for body in (*NO_WISHES, gzip.compress(b"{}")):
        status, headers, answer = sweep.request(sweep.path + "do", body)
        assert (status, json.loads(answer)["error"]) == (400, "this is no wish of the page"), body
        assert_guarded(headers)
    for shorter in (request("POST TOKENdo", "Content-Length: 99", body=b"{"), b"GET /"):
        with socket.create_connection(("127.0.0.1", sweep.port), timeout=60) as connection:
            connection.sendall(shorter.replace(b"TOKEN", sweep.path.encode()))
            connection.shutdown(socket.SHUT_WR)
            assert status_of(connection.recv(4096)) == 400
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", sweep.port), timeout=60) as connection:
        ssl._create_unverified_context().wrap_socket(connection, server_hostname="x")
    assert sweep.view()["ground"]["phase"] == "asking"
    assert sweep.said.read_text() == said


ELSEWHERE: list[tuple[dict[str, str], int]] = [
    ({"Origin": "http://elsewhere.test"}, 403),
    ({"Origin": "null"}, 403),
    ({"Origin": "https://127.0.0.1:{port}"}, 403),
    ({"Origin": "http://127.0.0.1:{port}, http://elsewhere.test"}, 403),
    ({"Sec-Fetch-Site": "cross-site"}, 403),
    ({"Sec-Fetch-Site": "same-site"}, 403),
    ({"Sec-Fetch-Site": "none"}, 403),
    ({"Host": "rebound.test:{port}", "Origin": "http://rebound.test:{port}"}, 421),
    ({"Host": "127.0.0.1.rebound.test"}, 421),
    ({"Host": ""}, 421),
    ({"Host": "localhost.evil.test"}, 421),
    ({"Host": f"{socket.gethostname()}.evil.test"}, 421),
    ({"Host": "192.0.2.7:{port}"}, 421),
    ({"Host": "0.0.0.0:{port}"}, 421),
    ({"Host": "[2001:db8::7]"}, 421),
    ({"Content-Type": "text/plain"}, 415),
    ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
]


def test_who_knows_the_address_steers_from_its_own_page_alone(sweep: WebSweep) -> None:
    time.sleep(0.8)
    view = sweep.view()
    body = json.dumps({"wish": "skip", "at": view["now"], "ground": view["ground"]}).encode()
    for headers, wanted in ELSEWHERE:
        own = {name: value.format(port=sweep.port) for name, value in headers.items()}
        assert sweep.request(sweep.path + "do", body, own)[0] == wanted, headers
    assert sweep.view()["place"]["distance_m"] == 0.15
    for name in ("LocalHost", "localhost.", f"{socket.gethostname().partition('.')[0]}.local", "127.0.0.1"):
        assert sweep.request(sweep.path + "state", headers={"Host": f"{name}:{sweep.port}"})[0] == 200, name
    own = {"Origin": f"http://{socket.gethostname()}:{sweep.port}", "Host": f"{socket.gethostname()}:{sweep.port}"}
    assert sweep.request(sweep.path + "do", body, own | {"Sec-Fetch-Site": "same-origin"})[0] == 200


def test_a_connection_that_asks_for_nothing_is_closed_and_a_slow_one_too(sweep: WebSweep) -> None:
    silent = socket.create_connection(("127.0.0.1", sweep.port), timeout=REQUEST_S + 5)
    slow = socket.create_connection(("127.0.0.1", sweep.port), timeout=REQUEST_S + 5)
    began = time.monotonic()
    with silent, slow, contextlib.suppress(ConnectionError):
        for letter in b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 99:
            slow.sendall(bytes([letter]))
            time.sleep(REQUEST_S / 20)
            if time.monotonic() > began + REQUEST_S + 1:
                raise AssertionError("a slow request has all the time of the world")
    assert silent.fileno() == -1


def test_a_request_that_does_not_come_whole_in_its_time_is_told_so(sweep: WebSweep) -> None:
    body = request("POST TOKENdo", JSON, "Content-Length: 99", body=b"{").replace(b"TOKEN", sweep.path.encode())
    with ThreadPoolExecutor() as pool:  # the time of one
        for answer in pool.map(lambda part: raw(sweep, part), (body, b"GET / HT", b"")):
            assert status_of(answer) == 408
            assert b"X-Content-Type-Options: nosniff" in answer


# --- floods -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def flood(sweep: WebSweep, count: int, data: bytes = b"") -> Iterator[list[socket.socket]]:
    """Connections that stay as long as they can."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, count + 500), hard))
    held: list[socket.socket] = []
    try:
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", sweep.port), timeout=60)
            held.append(connection)
            with contextlib.suppress(ConnectionError):
                connection.sendall(data)
        yield held
    finally:
        for connection in held:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def runs_in(record: Path) -> int:
    with contextlib.closing(sqlite3.connect(f"file:{record}?mode=ro", uri=True)) as db:
        return int(db.execute("SELECT count(*) FROM run").fetchone()[0])


def files_of(sweep: WebSweep) -> int:
    return len(list(Path(f"/proc/{sweep.process.pid}/fd").iterdir()))


def assert_untouched_by(sweep: WebSweep, *floods: tuple[int, bytes]) -> None:
    """A sweep that measures stores every run meanwhile, serves its phone and says nothing."""
    resource.prlimit(sweep.process.pid, resource.RLIMIT_NOFILE, (64, 1024))
    until(lambda: sweep.record.exists() and runs_in(sweep.record) >= 3)
    for count, data in floods:
        with flood(sweep, count, data):
            before = runs_in(sweep.record)
            assert files_of(sweep) < 64
            until(lambda before=before: runs_in(sweep.record) > before + 3)
            assert sweep.view()["done"] >= before
    until(lambda: sweep.process.poll() is not None, 120)
    assert sweep.process.returncode == 0
    said = sweep.said.read_text()
    lines = re.findall(r"^[0-9.]+ m  air  \d+ packets  run \d+ of \d+  lost", said, re.MULTILINE)
    with Store(sweep.record) as store:
        assert len(store.runs()) == len(lines) == int(re.match(r"[\d,]+", said)[0].replace(",", ""))  # type: ignore[index]
    assert "Traceback" not in said
    assert "rror" not in said


SILENT, SLOWLY = b"", b"GET / HTTP/1.1\r\nHost: x\r\n"


def test_silent_connections_while_a_sweep_measures_lose_no_run(start: Callable[..., WebSweep]) -> None:
    sweep = start(plan(distances_m=[1.5], packets=[4000], repeats=30), "--unattended")
    assert_untouched_by(sweep, (3 * MOST, SILENT))


@pytest.mark.long
def test_200_slow_and_1100_silent_connections_while_a_sweep_measures_lose_no_run(
    start: Callable[..., WebSweep],
) -> None:
    sweep = start(plan(distances_m=[1.5], packets=[4000], repeats=400), "--unattended")
    assert_untouched_by(sweep, (200, SLOWLY), (1100, SILENT))


def test_the_sweep_outlives_its_page_and_says_so(tmp_path: Path) -> None:
    text = plan(distances_m=[1.5], countdown_s=0)

    async def main(store: Store) -> Driver:
        sweep_plan = parse(text, tmp_path)
        crew = AirCrew(sweep_plan.nodes, RehearsalMedium(1), nothing)
        driver = Driver(sweep_plan, Book(store, sweep_plan), crew)
        with listening("127.0.0.1:0", "--web") as listener:
            async with serve(driver, listener, "0" * 10):
                work = asyncio.create_task(driver.run())
                await asyncio.sleep(0)
                listener.shutdown(socket.SHUT_RDWR)
                while not any("page" in line for line in driver.lines):
                    await asyncio.sleep(0.01)
                assert driver.sweep.place
                driver.do(Placed(driver.sweep.place))
                while driver.sweep.state is not State.DONE:
                    await asyncio.sleep(0.01)
                driver.do(End())
                await work
        return driver

    async def nothing() -> dict[str, Any]:
        return {}

    with Store(tmp_path / "sweep.db", create=True) as store:
        driver = asyncio.run(main(store))
        assert len(store.runs()) == 6
    assert (
        "the page is gone ([Errno 22] Invalid argument), and the sweep goes on without it; a new start brings it back"
        in driver.lines
    )


# --- the address ------------------------------------------------------------------------------------------------------


def test_a_sweep_that_is_started_anew_has_its_old_address_until_a_new_one_is_asked_for(
    start: Callable[..., WebSweep],
) -> None:
    sweep = start(plan())
    first = sweep.path
    token = sweep.folder / "plan.db.page"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    sweep.stop()
    sweep.start()
    assert sweep.path == first
    sweep.stop()
    sweep.words = ("--new-address",)
    sweep.start()
    assert sweep.path != first
    second = sweep.path
    sweep.stop()
    for damaged in (b"", b"../../etc\n", b"\xff" * 10):
        token.write_bytes(damaged)
        sweep.words = ()
        sweep.start()
        assert re.fullmatch("/[0-9a-f]{10}/", sweep.path)
        assert sweep.path not in (first, second)
        sweep.stop()


def test_a_run_that_can_not_be_written_names_the_cause(start: Callable[..., WebSweep]) -> None:
    """As where the process may open no more files: the record is refused, or whatever else Python opens before it."""
    sweep = start(plan(packets=[2000], repeats=1000), "--unattended")
    until(lambda: sweep.record.exists() and runs_in(sweep.record))
    resource.prlimit(sweep.process.pid, resource.RLIMIT_NOFILE, (3, 1024))
    assert sweep.process.wait(30) == 2
    *_, last = sweep.said.read_text().splitlines()
    assert re.fullmatch(r"bt-selfsecure: .*\bToo many open files\b.*`ulimit -n`.*", last)
