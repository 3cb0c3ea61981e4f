"""A stream of bytes in each direction over messages, like nc: what `bt-selfsecure pipe` does.

A message of the stream is

     0        8        16     17
    +--------+--------+------+---------------+
    | stream | offset | flag | data          |
    +--------+--------+------+---------------+

with a random number for the stream, the position of its data in it (both big-endian), and a flag on the last message.
So a message that was sent or read twice around a crash is seen as such, a new stream is not taken for the rest of an
old one, and a file that holds the first part of a stream can be appended to.
"""

from __future__ import annotations

import enum
import fcntl
import os
import queue
import secrets
import stat
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Final

from bt_selfsecure.errors import BtSelfSecureError, UsageError
from bt_selfsecure.node.client import LONGEST_S, ApiError, NodeAwayError, NodeClient

PORT: Final = 1
HEAD: Final = struct.Struct(">QQB")
CHUNK_BYTES: Final = 32 * 1024 - HEAD.size
"""Most bytes read at once: some seconds of a slow link, so that a lost connection costs little."""
TELL_S: Final = 0.5
GOODBYE_S: Final = 2.0
GRACE_S: Final = 0.1
"""Ctrl-C in a shell also ends what writes our input: its end must not be taken for the stream's."""


class Flag(enum.IntEnum):
    """Says what comes after a message."""

    MORE = 0
    END = 1
    ABORT = 2
    """Nothing, although it was not all: the other end was interrupted."""


class PipeError(BtSelfSecureError):
    """The stream from the peer is not whole; the text says how."""


class Pipe:
    """Carries bytes of the file descriptor `source` to the peer, and the peer's to `sink`, while `run` runs."""

    def __init__(self, client: NodeClient, peer: str, source: int, sink: int) -> None:
        self._client = client
        self._peer = peer
        self._source = source
        self._sink = sink
        self._ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._stream = secrets.randbits(64)
        self._aborted = False
        self.sent = 0
        """Bytes of the source that the node took."""
        self.received = 0
        """Bytes that were written to the sink."""
        self.sent_all = False
        """Whether the source has ended (the peer's node may not have everything yet)."""
        self.received_all = False
        """Whether the peer's stream has ended."""

    def run(self, tell: Callable[[Pipe], None]) -> None:
        """Return when both directions have ended and the peer's node has everything; `tell` is called now and then.

        Raises `PipeError` where the peer breaks off, `UsageError` where the node is away for long or refuses,
        `BrokenPipeError` where nobody reads the sink any more.
        """
        for work in (self._send_all, self._receive_all):
            Thread(target=self._report, args=(work,), daemon=True).start()
        running = 2
        while running:
            try:
                failure = self._ended.get(timeout=TELL_S)
            except queue.Empty:
                tell(self)
                continue
            running -= 1
            if failure is not None:
                raise failure

    def abort(self) -> None:
        """Let the other end know, if it can be done at once, that `run` was interrupted."""
        self._aborted = True
        with suppress(UsageError):
            self._client.send(self._peer, self._head(Flag.ABORT), port=PORT, timeout=GOODBYE_S)

    def _report(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._ended.put(error)
        else:
            self._ended.put(None)

    # --- to the peer --------------------------------------------------------------------------------------------------

    def _send_all(self) -> None:
        while data := self._read():
            self._send(self._head(Flag.MORE) + data, until="durable")
            self.sent += len(data)
        self.sent_all = True
        time.sleep(GRACE_S)
        if not self._aborted:
            self._send(self._head(Flag.END), until="acknowledged")

    def _head(self, flag: Flag) -> bytes:
        return HEAD.pack(self._stream, self.sent, flag)

    def _read(self) -> bytes:
        try:
            return os.read(self._source, CHUNK_BYTES)
        except OSError as error:
            raise UsageError(f"can't read the input ({error.strerror}): give another") from None

    def _send(self, message: bytes, until: str) -> None:
        """Until the node takes it, however full its queue is."""
        while True:
            try:
                self._client.send(self._peer, message, port=PORT, until=until, timeout=LONGEST_S)
            except ApiError as error:
                if error.status != 429:
                    raise
                time.sleep(error.retry_after)
            except NodeAwayError as error:
                self._client.wait(error)
            else:
                return

    # --- from the peer ------------------------------------------------------------------------------------------------

    def _receive_all(self) -> None:
        stream: int | None = None
        position = 0
        for received in self._client.follow(peer=self._peer, port=PORT):
            if len(received.message) < HEAD.size:
                raise PipeError(f"{self._peer} sent what is no part of a stream: see `receive --port {PORT}`")
            its_stream, offset, flag = HEAD.unpack_from(received.message)
            data = received.message[HEAD.size :]
            if stream is None and (offset == 0 or data) and flag != Flag.ABORT:
                stream, position = its_stream, 0 if offset == 0 else self._appended()
                self._require_beginning(position, offset)
            if stream is not None:
                self._require_next(stream == its_stream, position, offset)
                if fresh := data[position - offset :]:
                    self._write(fresh)
                    position += len(fresh)
            self._acknowledge(received.id)
            if stream is not None and flag == Flag.ABORT:
                raise PipeError(f"{self._peer} was interrupted after {position:,} bytes: that is not all")
            if stream is not None and flag == Flag.END:
                self.received_all = True
                return

    def _require_beginning(self, position: int, offset: int) -> None:
        if offset > position:
            raise PipeError(
                f"a stream of {self._peer} waits at byte {offset:,}, the output has {position:,}: append to the file "
                f"with the rest (>> FILE), or drop it (receive --peer {self._peer} --port {PORT} --raw > /dev/null)"
            )

    def _require_next(self, same: bool, position: int, offset: int) -> None:
        if not same:
            raise PipeError(f"{self._peer} broke off after {position:,} bytes and began anew: start once more")
        if offset > position:
            raise PipeError(f"bytes {position:,} to {offset:,} are missing, lost in a crash: send it again")

    def _appended(self) -> int:
        """Bytes that the sink holds already, if it is a file that is appended to."""
        appends = fcntl.fcntl(self._sink, fcntl.F_GETFL) & os.O_APPEND
        return os.fstat(self._sink).st_size if appends and self._is_file() else 0

    def _is_file(self) -> bool:
        return stat.S_ISREG(os.fstat(self._sink).st_mode)

    def _write(self, data: bytes) -> None:
        """All of it; to a file, so that it is there after a power cut."""
        try:
            while data:
                written = os.write(self._sink, data)
                self.received += written
                data = data[written:]
            if self._is_file():
                os.fsync(self._sink)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise UsageError(f"can't write the output ({error.strerror}): the rest stays in the node") from None

    def _acknowledge(self, number: int) -> None:
        with suppress(NodeAwayError):  # it comes again, and is seen to be old
            self._client.acknowledge(number)
