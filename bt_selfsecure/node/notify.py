"""What systemd wants to hear from a service of Type=notify (sd_notify(3)): one datagram of assignments at a time."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import NoReturn


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


async def beat(say: Callable[[], str], longest_s: float) -> NoReturn:
    """Tell systemd that the loop turns, and what `say` returns then: a service that hangs is restarted. Not more than
    `longest_s` seconds apart; more often where systemd asks for it. Raises what `say` raises."""
    asked = watchdog_seconds()
    every = min(longest_s, asked / 2) if asked else longest_s
    while True:
        notify(WATCHDOG=1, STATUS=say())
        await asyncio.sleep(every)
