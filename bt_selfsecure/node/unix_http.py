"""HTTP/1.1 (RFC 9112) to the node's own API, over its Unix socket: what `http.client` does with `ssl` and
`email`, whose import takes longer than Python's start."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import suppress
from os import PathLike, fspath
from typing import TYPE_CHECKING, Final

from bt_selfsecure.errors import BtSelfSecureError

if TYPE_CHECKING:
    from io import BufferedReader

CONNECT_S: Final = 5.0
MOST_LINE_BYTES: Final = 65_536
MOST_HEADERS: Final = 100
MOST_READ_BYTES: Final = 1 << 20
"""At once: room is taken for what comes, not for what is claimed."""
UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
"""RFC 3986, 2.3."""
NO_BODY: Final = (204, 304)
"""Statuses that have none, whatever their headers say."""


def quoted(text: str) -> str:
    """Return the text as a part of a path or of a query (RFC 3986, section 2.1)."""
    octets = text.encode(errors="surrogateescape")
    return "".join(chr(octet) if octet in UNRESERVED else f"%{octet:02X}" for octet in octets)


def query(**values: object) -> str:
    """Return these parameters as the end of a target."""
    return "?" + "&".join(f"{name}={quoted(str(value))}" for name, value in values.items())


class BrokenAnswerError(BtSelfSecureError, ConnectionError):
    """An answer is no HTTP, or ends before its end."""


class StoppedError(BrokenAnswerError):
    """A connection came to its end between two lines or pieces: whoever answers has stopped."""


class HttpAnswer:
    """Reads one answer (RFC 9112). Its body is read once, by one of the methods; each raises `OSError`."""

    def __init__(self, stream: BufferedReader) -> None:
        self._stream = stream
        version, _, rest = self._line().partition(b" ")
        if not version.startswith(b"HTTP/1.") or len(code := rest[:3]) < 3 or not code.isdigit():
            raise BrokenAnswerError("no status line of HTTP/1")
        self.status = int(code)
        self.headers: dict[str, str] = {}
        """By their names in lower case."""
        while line := self._line():
            name, _, value = line.decode("latin-1").partition(":")
            self.headers[name.lower()] = value.strip()
            if len(self.headers) > MOST_HEADERS:
                raise BrokenAnswerError("too many headers")

    @property
    def is_last(self) -> bool:
        """Return whether the node closes the connection after this answer."""
        return self.headers.get("connection", "").lower() == "close" or not self._has_end

    def read(self) -> bytes:
        """Return the body."""
        return b"".join(self._pieces())

    def lines(self) -> Iterator[bytes]:
        """Yield each line of the body as soon as it is there."""
        rest = b""
        for piece in self._pieces():
            *whole, rest = (rest + piece).split(b"\n")
            yield from whole
        if rest:
            yield rest

    @property
    def _is_chunked(self) -> bool:
        return self.headers.get("transfer-encoding", "").lower() == "chunked"

    @property
    def _has_end(self) -> bool:
        return self.status in NO_BODY or self._is_chunked or "content-length" in self.headers

    def _pieces(self) -> Iterator[bytes]:
        if self.status in NO_BODY:
            return
        if self._is_chunked:
            while size := _size(self._line().partition(b";")[0].strip(), 16):
                yield self._exactly(size)
                self._exactly(2)  # CRLF
            while self._line():
                pass  # trailers
        elif length := self.headers.get("content-length"):
            yield self._exactly(_size(length.encode("latin-1"), 10))
        else:
            yield self._stream.read()

    def _line(self) -> bytes:
        if not (line := self._stream.readline(MOST_LINE_BYTES)):
            raise StoppedError("nothing more came")
        if not line.endswith(b"\n"):
            raise BrokenAnswerError("a line without its end")
        return line.rstrip(b"\r\n")

    def _exactly(self, size: int) -> bytes:
        pieces = []
        while size:
            if not (piece := self._stream.read(min(size, MOST_READ_BYTES))):
                raise BrokenAnswerError(f"{size} bytes are missing")
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)


def _size(text: bytes, base: int) -> int:
    if not text.isalnum():  # int takes signs and underscores, too
        raise BrokenAnswerError("no size")
    try:
        return int(text, base)
    except ValueError:
        raise BrokenAnswerError("no size") from None


class UnixHttpConnection:
    """Opens a connection when it is needed, and keeps it from one request to the next. Each call raises `OSError`."""

    def __init__(self, path: str | PathLike[str]) -> None:
        self._path = fspath(path)
        self.sock: socket.socket | None = None
        self._stream: BufferedReader | None = None
        self._is_ending = False

    def __del__(self) -> None:
        self.close()

    def end(self) -> None:
        """Let whatever another thread reads from it come to its end."""
        if self.sock:
            with suppress(OSError):  # it has ended
                self.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End it; the next request opens another."""
        for each in (self._stream, self.sock):
            if each:
                each.close()
        self.sock = self._stream = None

    def ask(self, method: str, target: str, body: bytes | None, timeout: float | None) -> HttpAnswer:
        """Send a request and return the answer, whose body is to be read before the next. `timeout` is the longest
        silence in seconds, or None."""
        sock, stream = self._opened()
        sock.settimeout(timeout)
        head = f"{method} {target} HTTP/1.1\r\nHost: node\r\n"
        if body is not None:
            head += "Content-Type: application/octet-stream\r\n"
        if method != "GET":
            head += f"Content-Length: {len(body or b'')}\r\n"
        with suppress(BrokenPipeError):  # it says why
            sock.sendall(head.encode("latin-1") + b"\r\n" + (body or b""))
        answer = HttpAnswer(stream)
        self._is_ending = answer.is_last
        return answer

    def wait_without_end(self) -> None:
        """Let the rest of the answer take its time."""
        if self.sock:
            self.sock.settimeout(None)

    def _opened(self) -> tuple[socket.socket, BufferedReader]:
        if self.sock and (self._is_ending or select.select([self.sock], [], [], 0)[0]):
            self.close()  # as has a node that was started anew
        if not self.sock or not self._stream:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(CONNECT_S)
            self.sock.connect(self._path)
            self._stream = self.sock.makefile("rb")
        return self.sock, self._stream
