"""What systemd wants to hear from a service of Type=notify (sd_notify(3)): one datagram of assignments at a time."""

from __future__ import annotations

import os
import socket


def notify(**assignments: str | int) -> None:
    """Tell systemd, as in `notify(READY=1)`. Does nothing where nobody listens: outside systemd, or when the socket is
    gone."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    text = "\n".join(f"{name}={value}" for name, value in assignments.items())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.sendto(text.encode(), "\0" + address[1:] if address[0] == "@" else address)
        except OSError:
            return


def is_a_service() -> bool:
    """Return whether systemd started this: somebody listens then."""
    return bool(os.environ.get("NOTIFY_SOCKET"))


def watchdog_seconds() -> float | None:
    """Return in how many seconds at the latest systemd wants each WATCHDOG=1; None if it does not watch."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    meant_for_us = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(microseconds) / 1e6 if microseconds.isdecimal() and meant_for_us else None
