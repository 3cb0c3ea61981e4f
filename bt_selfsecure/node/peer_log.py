"""The log of one peer, and the journal's fields: systemd's native protocol, so that `journalctl BTSS_PEER=bob` works.

    MESSAGE=bob: resynchronised, out from round 41     PRIORITY=6     LOGGER=bt_selfsecure.node.haoxiao.peer
    BTSS_PEER=bob     BTSS_EVENT=resynchronised     BTSS_ROUND=41

One datagram a line of the log (systemd.io/JOURNAL_NATIVE_PROTOCOL). No field ever holds a secret.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, Final

JOURNAL: Final = Path("/run/systemd/journal/socket")
IDENTIFIER: Final = "bt-selfsecure"
PRIORITIES: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""Least level and syslog(3) priority; what is below all is debug, 7."""
FIELDS: Final = ("peer", "event", "round")
"""Attributes of a record that become BTSS_PEER and so on."""


class PeerLog(logging.LoggerAdapter[logging.Logger]):
    """Puts the peer's name before each line; `event=` and `round=` go to the journal's fields."""

    def __init__(self, logger: logging.Logger, peer: str) -> None:
        super().__init__(logger, {"peer": peer})
        self._head = peer.replace("%", "%%") + ": "

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        fields = {name: kwargs.pop(name) for name in FIELDS if name in kwargs} | dict(kwargs.pop("extra", {}))
        return f"{self._head}{msg}", {**kwargs, "extra": {**(self.extra or {}), **fields}}

    def line(self, level: int, text: str, event: str = "", of_round: int | None = None) -> None:
        """Log a text that is not a format."""
        if self.isEnabledFor(level):
            fields: dict[str, object] = {"event": event} if event else {}
            of: dict[str, object] = {} if of_round is None else {"round": of_round}
            self.log(level, "%s", text, extra=fields | of)


class JournalHandler(logging.Handler):
    """Sends each record to journald. Raises `OSError` where there is none."""

    def __init__(self, path: Path = JOURNAL) -> None:
        super().__init__()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.connect(str(path))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._socket.send(encoded(self._fields(record)))
        except OSError:
            print(self.format(record), file=sys.stderr)  # too long for a datagram, or journald is starting anew

    def _fields(self, record: logging.LogRecord) -> dict[str, str]:
        priority = next((priority for level, priority in PRIORITIES if record.levelno >= level), 7)
        named = {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
        return {
            "MESSAGE": self.format(record),
            "PRIORITY": str(priority),
            "SYSLOG_IDENTIFIER": IDENTIFIER,
            "LOGGER": record.name,
            "CODE_FILE": record.pathname,
            "CODE_LINE": str(record.lineno),
            "CODE_FUNC": record.funcName or "",
            **{f"BTSS_{name.upper()}": str(value) for name, value in named.items()},
        }

    def close(self) -> None:
        self._socket.close()
        super().close()


def encoded(fields: dict[str, str]) -> bytes:
    """Return the fields as NAME=value lines; one of several lines as NAME, its length (64 bits, little-endian) and the
    bytes."""
    lines = b""
    for name, value in fields.items():
        data = value.encode(errors="backslashreplace")
        if b"\n" in data:
            lines += name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"
        else:
            lines += name.encode() + b"=" + data + b"\n"
    return lines


def stderr_is_the_journal() -> bool:
    """Return whether systemd has connected our standard error with it (systemd.exec(5), JOURNAL_STREAM)."""
    with contextlib.suppress(OSError, ValueError):
        device, inode = os.environ.get("JOURNAL_STREAM", "").split(":")
        stream = os.fstat(sys.stderr.fileno())
        return (stream.st_dev, stream.st_ino) == (int(device), int(inode))
    return False
