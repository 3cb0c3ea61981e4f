"""The local API, through its real socket: what it promises, what it refuses, and that no input breaks it."""

from __future__ import annotations

import base64
import contextlib
import grp
import http.client
import json
import logging
import os
import re
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode

import pytest
from amounts import part_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loopback_node import LoopbackNode, Server

from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.api import STOP_S, Api, description
from bt_selfsecure.node.client import ApiError, NodeAwayError, NodeClient
from bt_selfsecure.node.connections import listen
from bt_selfsecure.node.metrics import render

DESCRIPTION = description()
PATHS, SCHEMAS = DESCRIPTION["paths"], DESCRIPTION["components"]["schemas"]


class Caller(contextlib.ExitStack):
    """Plain HTTP on the socket, as a program in any language would use it. What was opened is closed at its end."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(10)
        connection.connect(str(self.path))
        return connection

    def open(self, method: str, path: str, body: bytes | None = None) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("node")
        connection.sock = self.connect()
        self.callback(connection.close)
        connection.request(method, path, body)
        response = self.enter_context(connection.getresponse())
        response.connection = connection
        return response

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
        response = self.open(method, path, body)
        text = response.read()
        assert response.headers["Content-Type"] == "application/json; charset=utf-8"
        return response.status, json.loads(text)

    def refused(self, method: str, path: str, body: bytes | None = None) -> tuple[int, str]:
        status, answer = self.ask(method, path, body)
        assert list(answer) == ["error"]
        assert answer["error"].isprintable()
        return status, answer["error"]


@pytest.fixture
def caller(server: Server, at_alice: NodeClient) -> Iterator[Caller]:
    with Caller(server.socket("alice")) as caller:
        yield caller


@pytest.fixture
def bobs(server: Server, at_bob: NodeClient) -> Iterator[Caller]:
    with Caller(server.socket("bob")) as caller:
        yield caller


def lines(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    assert response.status == 200
    assert response.headers["Content-Type"] == "application/x-ndjson"
    while line := response.readline():
        yield json.loads(line)


# --- messages ---------------------------------------------------------------------------------------------------------


def test_a_message_comes_out_at_the_other_end_byte_for_byte(caller: Caller, bobs: Caller) -> None:
    message = bytes(range(256)) * 4096
    status, answer = caller.ask("POST", "/v1/peers/bob/messages", message)
    assert (status, list(answer)) == (200, ["id"])
    (line,) = lines(bobs.open("GET", "/v1/messages"))
    assert base64.b64decode(line["message"]) == message
    assert (line["peer"], line["port"]) == ("alice", 0)
    assert abs(line["time"] - time.time()) < 10


def test_a_message_comes_again_until_it_is_acknowledged(caller: Caller, bobs: Caller) -> None:
    caller.ask("POST", "/v1/peers/bob/messages", b"one")
    for _ in range(3):
        (line,) = lines(bobs.open("GET", "/v1/messages"))
    assert bobs.open("DELETE", f"/v1/messages/{line['id']}").status == 204
    assert list(lines(bobs.open("GET", "/v1/messages"))) == []
    assert bobs.open("DELETE", f"/v1/messages/{line['id']}").status == 204


def test_a_stream_shows_what_waits_and_then_what_comes(caller: Caller, bobs: Caller) -> None:
    caller.ask("POST", "/v1/peers/bob/messages", b"before")
    stream = lines(bobs.open("GET", "/v1/messages?follow=true"))
    assert base64.b64decode(next(stream)["message"]) == b"before"
    caller.ask("POST", "/v1/peers/b8:27:eb:00:00:02/messages", b"")
    assert next(stream)["message"] == ""


def test_ports_and_peers_are_apart(caller: Caller, bobs: Caller, bob: LoopbackNode, alice: LoopbackNode) -> None:
    carol = LoopbackNode("carol", "B8:27:EB:00:00:03")
    carol.join(bob)
    caller.ask("POST", "/v1/peers/bob/messages?port=7", b"seven")
    caller.ask("POST", "/v1/peers/bob/messages", b"zero")
    for query, peers in (("?port=7", ["alice"]), ("?peer=alice", ["alice"]), ("?peer=carol", []), ("", ["alice"])):
        assert [line["peer"] for line in lines(bobs.open("GET", "/v1/messages" + query))] == peers


def test_a_reader_that_dies_loses_nothing_and_makes_room_for_the_next(caller: Caller, bobs: Caller) -> None:
    for _ in range(3):
        stream = bobs.open("GET", "/v1/messages?follow=true&peer=alice")
        assert stream.status == 200
        status, words = bobs.refused("GET", "/v1/messages")
        assert (status, words[:36]) == (409, "another program reads these messages")
        stream.connection.sock.close()  # type: ignore[attr-defined]
        stream.close()
        wait_until(lambda: bobs.open("GET", "/v1/messages?peer=b8:27:eb:00:00:01").status == 200)
    caller.ask("POST", "/v1/peers/bob/messages", b"still here")
    assert len(list(lines(bobs.open("GET", "/v1/messages")))) == 1


def wait_until(true: Any) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_different_ports_have_a_reader_each(bobs: Caller) -> None:
    streams = [bobs.open("GET", f"/v1/messages?follow=true&port={port}") for port in range(3)]
    assert [stream.status for stream in streams] == [200, 200, 200]


def test_nothing_is_read_ahead_of_a_slow_reader(caller: Caller, bobs: Caller, bob: LoopbackNode) -> None:
    big = bytes(1 << 20)
    stream = bobs.open("GET", "/v1/messages?follow=true")
    for _ in range(10):
        assert caller.ask("POST", "/v1/peers/bob/messages", big)[0] == 200
    assert bob.shown <= 2
    assert sum(1 for _ in zip(range(10), lines(stream), strict=False)) == 10
    assert bob.shown == 10


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        ("POST", "/v1/peers/mallory/messages", b"x"),
        ("POST", "/v1/peers/mallory/establish"),
        ("GET", "/v1/messages?peer=mallory"),
    ],
)
def test_an_unknown_peer_is_404(caller: Caller, call: tuple[str, str]) -> None:
    assert caller.refused(*call) == (404, "there is no peer 'mallory': see `bt-selfsecure peers`")


def test_a_message_that_is_too_long_is_413(caller: Caller, bob: LoopbackNode) -> None:
    status, words = caller.refused("POST", "/v1/peers/bob/messages", bytes((1 << 20) + 1))
    assert (status, words) == (413, "a message has at most 1048576 bytes: cut it, or use `bt-selfsecure pipe`")
    assert not bob.kept


def test_a_full_queue_is_429_and_says_when_to_come_back(caller: Caller, bob: LoopbackNode) -> None:
    bob.limit = 2
    answers = [caller.open("POST", "/v1/peers/bob/messages", b"x") for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[2].headers["Retry-After"] == "1"


def test_no_acknowledgement_in_time_is_504_and_the_message_stays(caller: Caller, bob: LoopbackNode) -> None:
    bob.away = True
    path = "/v1/peers/bob/messages?until=acknowledged&timeout=0.05"
    assert caller.refused("POST", path, b"x") == (
        504,
        "bob did not acknowledge within 0.05 s: the message stays queued",
    )
    assert [message.message for message in bob.kept.values()] == [b"x"]
    assert caller.ask("POST", "/v1/peers/bob/messages", b"durable")[0] == 200


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v1/peers/bob/messages?port=64", "port is '64' and must be a whole number, 0 to 63"),
        ("/v1/peers/bob/messages?port=-1", "port is '-1' and must be"),
        ("/v1/peers/bob/messages?port=%D9%A3", "and must be a whole number"),
        ("/v1/peers/bob/messages?until=never", "until is 'never' and must be one of durable, acknowledged"),
        ("/v1/peers/bob/messages?timeout=nan", "timeout is 'nan' and must be seconds, 0 to 86400"),
        ("/v1/peers/bob/messages?timeout=1e3", "must be seconds"),
        ("/v1/peers/bob/messages?wait=1", "'wait' can't be used here, or not twice: the parameters are port, until"),
        ("/v1/peers/bob/messages?port=1&port=2", "'port' can't be used here, or not twice"),
        ("/v1/scan?seconds=0.5", "seconds is '0.5' and must be seconds, 1 to 60"),
        ("/v1/peers/bob/establish?now=1", "the parameters are wait, without_continuity"),
    ],
)
def test_a_parameter_that_is_wrong_is_400_and_named(caller: Caller, path: str, words: str, bob: LoopbackNode) -> None:
    status, answer = caller.refused("POST", path, b"x")
    assert status == 400
    assert words in answer
    assert not bob.kept


@pytest.mark.parametrize("number", ["0", "-1", "x", "1.5", str(2**63), "9" * 40, "%20"])
def test_an_id_that_can_not_be_is_400(caller: Caller, number: str) -> None:
    assert caller.refused("DELETE", f"/v1/messages/{number}") == (
        400,
        f"a message's id is {unquote(number)!r} and must be a whole number, 1 to 9223372036854775807",
    )


def test_unknown_paths_and_methods_are_told_where_to_look(caller: Caller) -> None:
    assert caller.refused("GET", "/")[0] == 404
    assert caller.refused("GET", "/v2/status") == (404, "Not Found: GET /v2/status; see GET /v1/openapi.json")
    assert caller.refused("DELETE", "/v1/status")[0] == 405


def test_what_the_node_can_not_do_now_is_503_with_its_words(caller: Caller, alice: LoopbackNode) -> None:
    alice.problems.append("the adapter is off: bluetoothctl power on")
    assert caller.refused("POST", "/v1/scan") == (503, "the adapter is off: bluetoothctl power on")
    assert caller.ask("GET", "/v1/health") == (503, {"healthy": False, "problems": alice.problems})


def test_a_fault_of_the_node_is_500_without_its_details(caller: Caller, alice: LoopbackNode) -> None:
    alice.known["secret"] = None  # type: ignore[assignment]
    assert caller.refused("GET", "/v1/status") == (
        500,
        "the node failed at this; its log says why (journalctl -u bt-selfsecure)",
    )


def test_a_fault_in_the_stream_does_not_look_like_its_end(caller: Caller, bobs: Caller, bob: LoopbackNode) -> None:
    caller.ask("POST", "/v1/peers/bob/messages", b"one")
    stream = bobs.open("GET", "/v1/messages?follow=true")
    stream.readline()
    bob.kept[99] = None  # type: ignore[assignment]
    caller.ask("POST", "/v1/peers/bob/messages", b"two")
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        stream.read()


def test_an_establishment_goes_on_when_the_client_leaves(caller: Caller, alice: LoopbackNode) -> None:
    alice.establishing_s = 0.2
    connection = caller.connect()
    connection.sendall(b"POST /v1/peers/bob/establish HTTP/1.1\r\nHost: node\r\n\r\n")
    wait_until(lambda: alice.establishing == "bob")
    connection.close()
    wait_until(lambda: alice.established == 1)


def test_a_client_that_is_closed_has_no_connection_and_the_next_call_opens_another(at_alice: NodeClient) -> None:
    at_alice.close()
    for _ in range(2):
        assert at_alice.status()["name"] == "alice"
        connection = at_alice._kept.connection.sock
        at_alice.close()
        assert connection.fileno() == -1


@pytest.mark.parametrize("message", ["str", None, 5, [1]])
def test_a_message_that_is_no_bytes_is_named_and_not_the_node(at_alice: NodeClient, message: Any) -> None:
    with pytest.raises(UsageError, match=f"a message is bytes, and this is {type(message).__name__}"):
        at_alice.send("bob", message)
    assert at_alice.send("bob", b"bytes") > 0


# --- the description --------------------------------------------------------------------------------------------------


def test_every_route_is_described_and_every_described_one_exists(alice: LoopbackNode, server: Server) -> None:
    routes = Api(alice, server.config("alice")).application.router.routes()
    served = {(route.resource.canonical, route.method.lower()) for route in routes if route.resource}
    assert served == {(path, method) for path, methods in PATHS.items() for method in methods}


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for below in value.values():
            yield from references(below)
    elif isinstance(value, list):
        for below in value:
            yield from references(below)


def test_the_description_names_no_schema_that_it_lacks_and_has_none_to_spare() -> None:
    assert {name.removeprefix("#/components/schemas/") for name in references(DESCRIPTION)} == set(SCHEMAS)


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """Whether a value is what a schema of ours says, and has no property that it does not name."""
    if "$ref" in schema:
        return fits(value, SCHEMAS[schema["$ref"].rpartition("/")[2]])
    if "anyOf" in schema:
        return sum(fits(value, one) for one in schema["anyOf"]) == 1
    if "const" in schema:
        return bool(value == schema["const"])
    types = {"object": dict, "string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list,
             "null": type(None)}  # fmt: skip
    names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not any(isinstance(value, types[name]) and (name == "boolean") == isinstance(value, bool) for name in names):
        return False
    if isinstance(value, list):
        return all(fits(item, schema["items"]) for item in value)
    if isinstance(value, dict) and "properties" in schema:
        known = schema["properties"]
        return set(schema["required"]) <= set(value) <= set(known) and all(
            fits(value[name], known[name]) for name in value
        )
    return True


def described(path: str, method: str, status: int) -> dict[str, Any]:
    (content,) = PATHS[path][method]["responses"][str(status)]["content"].values()
    schema: dict[str, Any] = content["schema"]
    return schema


@pytest.fixture
def root_level() -> Iterator[logging.Logger]:
    """The level of all logs, which is put back."""
    root = logging.getLogger()
    level = root.level
    yield root
    root.setLevel(level)


def test_answers_are_as_described(caller: Caller, bobs: Caller, bob: LoopbackNode, root_level: logging.Logger) -> None:
    for _ in range(2):
        for method, path, template in (
            ("GET", "/v1/health", None),
            ("GET", "/v1/status", None),
            ("GET", "/v1/peers", None),
            ("POST", "/v1/peers/bob/messages", "/v1/peers/{peer}/messages"),
            ("POST", "/v1/peers/bob/establish", "/v1/peers/{peer}/establish"),
            ("POST", "/v1/peers/eve/establish", "/v1/peers/{peer}/establish"),
            ("GET", "/v1/log-level", None),
            ("PUT", "/v1/log-level?level=error", "/v1/log-level"),
            ("PUT", "/v1/log-level?level=loud", "/v1/log-level"),
            ("PUT", "/v1/log-level", None),
            ("POST", "/v1/scan", None),
            ("POST", "/v1/scan?seconds=x", "/v1/scan"),
        ):
            status, answer = caller.ask(method, path)
            assert fits(answer, described(template or path, method.lower(), status)), (path, answer)
        bob.away = True
    (line, _) = lines(bobs.open("GET", "/v1/messages"))
    assert fits(line, described("/v1/messages", "get", 200))
    assert caller.ask("GET", "/v1/openapi.json") == (200, DESCRIPTION)


def test_the_log_level_is_told_and_changed_at_once(caller: Caller, root_level: logging.Logger) -> None:
    for level in ("debug", "warning"):
        assert caller.ask("PUT", f"/v1/log-level?level={level}") == (200, {"level": level})
        assert caller.ask("GET", "/v1/log-level") == (200, {"level": level})
        assert logging.getLogger("bt_selfsecure.node").getEffectiveLevel() == getattr(logging, level.upper())
    status, words = caller.refused("PUT", "/v1/log-level?level=loud")
    assert (status, words) == (400, "level is 'loud' and must be one of debug, info, warning, error")
    assert caller.refused("PUT", "/v1/log-level")[1] == "level is missing: give one of debug, info, warning, error"


def test_metrics_are_prometheus_text(caller: Caller, alice: LoopbackNode) -> None:
    response = caller.open("GET", "/v1/metrics")
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert response.read() == render(alice.status())


def test_the_schema_check_can_fail() -> None:
    assert fits({"error": "x"}, SCHEMAS["Error"])
    for wrong in ({}, {"error": 1}, {"error": "x", "more": 1}, [], None):
        assert not fits(wrong, SCHEMAS["Error"])


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_is_enough(caller: Caller, bobs: Caller) -> None:
    def curl(path: Path, *words: str, given: bytes = b"") -> bytes:
        command = ["curl", "--silent", "--fail", "--max-time", "10", "--unix-socket", str(path), *words]
        return subprocess.run(command, input=given, capture_output=True, check=True).stdout

    message = os.urandom(1 << 20)
    answer = curl(caller.path, "--data-binary", "@-", "http://node/v1/peers/bob/messages", given=message)
    (line,) = curl(bobs.path, "http://node/v1/messages").splitlines()
    assert base64.b64decode(json.loads(line)["message"]) == message
    assert json.loads(line)["id"] == json.loads(answer)["id"]
    curl(bobs.path, "-X", "DELETE", f"http://node/v1/messages/{json.loads(line)['id']}")
    assert curl(bobs.path, "http://node/v1/messages") == b""


def test_the_client_keeps_its_connection_and_finds_a_node_that_was_started_anew(
    server: Server, at_alice: NodeClient, alice: LoopbackNode
) -> None:
    def used() -> set[socket.socket]:
        """By three calls, one of which is refused."""
        sockets = set()
        for call in (at_alice.status, lambda: at_alice.send("eve", b"x"), at_alice.peers):
            with contextlib.suppress(ApiError):
                call()
            sockets.add(at_alice._kept.connection.sock)
        return sockets

    before = used()
    server.stop("alice")
    with pytest.raises(NodeAwayError):
        at_alice.status()
    server.serve(alice)
    after = used()
    assert len(before) == len(after) == 1
    assert before != after


# --- the socket -------------------------------------------------------------------------------------------------------


def test_the_socket_is_for_its_group_only(server: Server, at_alice: NodeClient) -> None:
    assert stat.S_IMODE(server.socket("alice").stat().st_mode) == 0o660


def test_the_socket_belongs_to_the_configured_group(tmp_path: Path) -> None:
    group = grp.getgrgid(os.getgid()).gr_name
    with listen(tmp_path / "node.sock", group):
        assert (tmp_path / "node.sock").stat().st_gid == os.getgid()
    with pytest.raises(UsageError, match=r"there is no group 'nobody-has-it' for the socket: sudo groupadd"):
        listen(tmp_path / "other.sock", "nobody-has-it")
    assert not (tmp_path / "other.sock").exists()


def test_a_second_node_is_refused_and_the_first_goes_on(server: Server, at_alice: NodeClient) -> None:
    with pytest.raises(UsageError, match=r"a node runs already on .*/alice\.sock: stop it first"):
        listen(server.socket("alice"), "")
    assert at_alice.status()["name"] == "alice"


def test_the_socket_of_a_killed_node_is_replaced(tmp_path: Path) -> None:
    listen(tmp_path / "node.sock", "").close()
    assert (tmp_path / "node.sock").is_socket()
    listen(tmp_path / "node.sock", "").close()


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (path := tmp_path / "node.sock").write_text("precious")
    with pytest.raises(UsageError, match="is in the way and not a socket"):
        listen(path, "")
    assert path.read_text() == "precious"


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o777], ids=oct)
def test_the_sockets_group_passes_through_folders_that_are_made_for_it(tmp_path: Path, umask: int) -> None:
    tmp_path.chmod(0o700)
    path = tmp_path / "new" / "newer" / "node.sock"
    before = os.umask(umask)
    try:
        listen(path, "").close()
    finally:
        os.umask(before)
    assert [stat.S_IMODE(place.stat().st_mode) for place in (path.parents[1], path.parent, path)] == [
        0o755,
        0o755,
        0o660,
    ]
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700, "a folder that was there stays as it was"


def test_a_folder_that_can_not_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"can't make the socket .*/file/node.sock \("):
        listen(tmp_path / "file" / "node.sock", "")


def test_stopping_ends_streams_at_once_and_removes_the_socket(server: Server, caller: Caller) -> None:
    stream = caller.open("GET", "/v1/messages?follow=true")
    start = time.monotonic()
    server.stop("alice")
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        stream.read()
    assert time.monotonic() - start < STOP_S / 2
    assert not caller.path.exists()


# --- fuzz -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    server = Server(tmp_path_factory.mktemp("fuzz"))
    alice, bob = LoopbackNode("alice", "B8:27:EB:00:00:01"), LoopbackNode("bob", "B8:27:EB:00:00:02", limit=5)
    alice.join(bob)
    server.serve(alice)
    with Caller(server.socket("alice")) as caller:
        yield caller
        assert caller.ask("GET", "/v1/health")[0] == 200
    server.close()


LAST = b"GET /v1/health HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n"


def statuses(caller: Caller, data: bytes) -> list[int]:
    """Send these bytes, and return the status of every answer until the node waits for more."""
    answer = b""
    with caller.connect() as connection, contextlib.suppress(ConnectionError, TimeoutError):
        connection.sendall(data)
        connection.settimeout(0.05)
        while piece := connection.recv(1 << 16):
            answer += piece
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer)]


FUZZ = settings(max_examples=part_of(150), suppress_health_check=[HealthCheck.function_scoped_fixture])
HOST = b"Host: node"
HEADERS = st.sampled_from(
    [HOST, b"Host:", b"Content-Length: 5", b"Content-Length: -5", b"Content-Length: 99999999999999999999", b": y", b"X",
     b"Content-Length: 3, 3", b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Content-Encoding: gzip",
     b"Content-Encoding: deflate", b"Content-Encoding: br", b"Expect: 100-continue", b"Expect: x", b"Connection: close",
     b"Upgrade: websocket", b"Connection: upgrade", b"Range: bytes=0-1", b" folded",
     b"Content-Type: \xff; charset=\xff", b"Cookie: " + b"a" * 9000, b"Content-Type: multipart/form-data; boundary="]
)  # fmt: skip
BODIES = st.sampled_from(
    [b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"zz\r\n", b"fffffffffffffffff\r\n", b"\x1f\x8b\x08\x00x"]
)
SEGMENTS = st.sampled_from(["bob", "peers", "messages", "establish", "1", "..", "-1", str(2**63)]) | st.text(max_size=8)
ASKED_PATHS = st.one_of(
    st.sampled_from(["/v1/status", "/v1/messages", "/v1/scan", "/v1/peers/bob/messages", "/v1/peers/bob/establish"]),
    st.builds("/v1/messages/{}".format, SEGMENTS.map(lambda text: quote(text, safe=""))),
    st.builds("/v1/peers/{}/messages".format, SEGMENTS.map(lambda text: quote(text, safe=""))),
    st.lists(SEGMENTS.map(lambda text: quote(text, safe="%")), max_size=5).map(lambda parts: "/" + "/".join(parts)),
)
QUERIES = st.dictionaries(
    st.sampled_from(["port", "peer", "follow", "until", "timeout", "seconds"]) | st.text(max_size=4),
    st.sampled_from(
        ["0", "1", "63", "true", "false", "durable", "acknowledged", "0.01", "bob", "nan", "-0", "1e9", "٣"]
    )
    | st.text(max_size=6),
    max_size=3,
).map(urlencode)


@st.composite
def asked(draw: st.DrawFn) -> bytes:
    """HTTP as it should be, but for what is asked."""
    method = draw(st.sampled_from(["GET", "POST", "POST", "DELETE", "HEAD", "PUT"]))
    head = f"{method} {draw(ASKED_PATHS)}?{draw(QUERIES)} HTTP/1.1".encode()
    body = draw(st.binary(max_size=20))
    return b"\r\n".join([head, HOST, b"Content-Length: %d" % len(body), b"", body])


@st.composite
def misshapen(draw: st.DrawFn) -> bytes:
    """HTTP with a head that may not fit itself or its body."""
    method = draw(st.sampled_from([b"GET", b"POST", b"POST", b"DELETE", b"CONNECT", b"TRACE", b"P\xf6ST"]))
    version = draw(st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9.9", b"HTTP/2", b""]))
    target = draw(
        st.sampled_from([b"/v1/peers/bob/messages", b"/v1/status", b"*", b"//", b"/?%=%&&==#", b"http://node/"])
    )
    headers = draw(st.lists(HEADERS, max_size=3))
    return b"\r\n".join([b" ".join([method, target, version]), HOST, *headers, b"", b""]) + draw(BODIES)


@FUZZ
@given(st.lists(asked() | misshapen(), min_size=1, max_size=3).map(b"".join))
def test_no_request_is_a_fault_of_the_node(fuzzed: Caller, data: bytes) -> None:
    assert all(status < 500 for status in statuses(fuzzed, data + LAST))


@FUZZ
@given(st.binary(max_size=300))
def test_no_bytes_are_a_fault_of_the_node(fuzzed: Caller, data: bytes) -> None:
    assert all(status < 500 for status in statuses(fuzzed, data + LAST))


def test_the_fuzz_sees_answers(fuzzed: Caller) -> None:
    get = b"GET /v1/status?x=1 HTTP/1.1\r\nHost: node\r\n\r\n"
    assert statuses(fuzzed, get + LAST) == [400, 200]
    assert statuses(fuzzed, b"rubbish\r\n\r\n" + LAST) == [400]


def test_a_head_without_end_is_refused(fuzzed: Caller) -> None:
    assert statuses(fuzzed, b"GET /" + b"a" * (1 << 20)) in ([400], [414], [])


def test_a_body_without_end_is_refused(fuzzed: Caller) -> None:
    head = b"POST /v1/peers/bob/messages HTTP/1.1\r\nHost: node\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + bytes(1 << 16) + b"\r\n"
    assert statuses(fuzzed, head + 64 * chunk) in ([413], [])
