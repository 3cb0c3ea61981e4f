"""Datagrams on a reliable stream: the length of each, in two bytes, big-endian, before it."""

from __future__ import annotations

from typing import Final

LENGTH_BYTES: Final = 2


def framed(datagram: bytes) -> bytes:
    """Return a datagram as it stands on a stream."""
    return len(datagram).to_bytes(LENGTH_BYTES) + datagram


class StreamReader:
    """Takes a stream as it comes, and gives the datagrams on it."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> None:
        """Take what comes next."""
        self._buffer += data

    def next(self) -> bytes | None:
        """Return the next whole datagram, or None. Nobody sends an empty one; it is nothing to us."""
        while len(self._buffer) >= LENGTH_BYTES:
            end = LENGTH_BYTES + int.from_bytes(self._buffer[:LENGTH_BYTES])
            if len(self._buffer) < end:
                return None
            datagram, self._buffer = self._buffer[LENGTH_BYTES:end], self._buffer[end:]
            if datagram:
                return datagram
        return None
