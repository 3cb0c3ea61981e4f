"""HTTP to the node's API: what a node answers is read whole, and what is no answer is an `OSError`."""

from __future__ import annotations

import contextlib
import io
import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bt_selfsecure.node.client import NodeAwayError, NodeClient
from bt_selfsecure.node.unix_http import BrokenAnswerError, HttpAnswer, UnixHttpConnection, query, quoted

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LINE = b'{"id": 7, "peer": "bob", "port": 0, "time": 1.5, "message": "aGk=", "age_s": null}\n'


def answer(data: bytes) -> HttpAnswer:
    return HttpAnswer(io.BufferedReader(io.BytesIO(data)))  # type: ignore[arg-type]


def chunk(data: bytes) -> bytes:
    return b"%x;name=value\r\n%b\r\n" % (len(data), data)


@pytest.mark.parametrize(
    "data",
    [
        OK + b"Content-Length: 5\r\n\r\nhello and more",
        CHUNKED + chunk(b"he") + chunk(b"llo") + b"0\r\nTrailer: x\r\n\r\nmore",
        OK + b"\r\nhello",
    ],
    ids=["length", "chunks", "to the end"],
)
def test_a_body_is_read_to_its_end_and_no_further(data: bytes) -> None:
    assert answer(data).read() == b"hello"


def test_lines_are_whole_wherever_their_chunks_are_cut() -> None:
    chunks = b"".join(map(chunk, (b"one\ntw", b"o", b"\n\nlast"))) + b"0\r\n\r\n"
    assert list(answer(CHUNKED + chunks).lines()) == [b"one", b"two", b"", b"last"]


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_a_status_without_a_body_has_none_whatever_its_headers_say(status: bytes) -> None:
    found = answer(b"HTTP/1.1 " + status + b"\r\nContent-Length: 5\r\n\r\nhello")
    assert (found.read(), found.is_last) == (b"", False)


@pytest.mark.parametrize(
    ("head", "last"),
    [(b"Content-Length: 0", False), (b"Connection: Close\r\nContent-Length: 0", True), (b"X: y", True)],
)
def test_an_answer_says_whether_another_may_follow(head: bytes, last: bool) -> None:
    assert answer(OK + head + b"\r\n\r\n").is_last is last


@pytest.mark.parametrize(
    "body",
    [
        OK + b"Content-Length: 999999999999999\r\n\r\nhello",
        OK + b"Content-Length: -5\r\n\r\nhello",
        OK + b"Content-Length: 1_0\r\n\r\nhello",
        CHUNKED + b"ffffffffffff\r\nhello",
        CHUNKED + b"-5\r\nhello",
        CHUNKED + b"\r\nhello",
        CHUNKED + chunk(b"hello"),
        OK + b"X: y\r\n" * 1_000,
        OK + b"X: " + b"y" * 100_000,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 2\r\n\r\n",
        b"",
    ],
)
def test_what_is_not_whole_is_refused_and_takes_no_more_room_than_came(body: bytes) -> None:
    with pytest.raises(BrokenAnswerError):
        answer(body).read()


@given(st.one_of(st.binary(), st.binary().map(OK.__add__), st.binary().map(CHUNKED.__add__)))
def test_any_bytes_are_an_answer_or_an_os_error(data: bytes) -> None:
    for read in (HttpAnswer.read, lambda found: b"".join(found.lines())):
        with contextlib.suppress(OSError):
            assert len(read(answer(data))) <= len(data)


def test_names_are_written_so_that_they_can_be_nothing_else_in_a_target() -> None:
    assert quoted("a/b c?&=%é~") == "a%2Fb%20c%3F%26%3D%25%C3%A9~"
    assert quoted("\udcff") == "%FF", "what a shell gave that is no UTF-8"
    assert query(peer="a b", port=3) == "?peer=a%20b&port=3"


# --- on a socket ------------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "node.sock"


@pytest.fixture
def listener(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        listening.settimeout(10)
        yield listening


def serve(listener: socket.socket, *connections: list[bytes]) -> Thread:
    """Each connection answers its requests with these bytes, one after the other, and ends."""

    def run() -> None:
        for answers in connections:
            accepted, _ = listener.accept()
            with accepted:
                for each in answers:
                    accepted.recv(65_536)
                    accepted.sendall(each)

    thread = Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_one_connection_serves_many_requests_and_another_follows_where_it_has_ended(
    path: Path, listener: socket.socket
) -> None:
    one = OK + b"Content-Length: 1\r\n"
    serve(listener, [one + b"\r\na", one + b"Connection: close\r\n\r\nb"], [one + b"\r\nc"])
    connection = UnixHttpConnection(path)
    assert [connection.ask("GET", "/", None, 10).read() for _ in range(3)] == [b"a", b"b", b"c"]
    connection.close()


@pytest.mark.parametrize("follow", [False, True])
def test_a_node_that_stops_between_two_messages_ends_only_what_goes_on_until_it_stops(
    path: Path, listener: socket.socket, follow: bool
) -> None:
    serve(listener, [CHUNKED + chunk(LINE)])
    messages = NodeClient(path).receive(follow=follow)
    assert next(messages).message == b"hi"
    with pytest.raises(StopIteration if follow else NodeAwayError):
        next(messages)


def test_a_node_that_stops_within_a_message_is_away(path: Path, listener: socket.socket) -> None:
    serve(listener, [CHUNKED + chunk(LINE)[:-20]])
    with pytest.raises(NodeAwayError, match="mid-sentence"):
        list(NodeClient(path).receive(follow=True))
