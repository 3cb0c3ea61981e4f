"""Ports that are bound later, perhaps by another program: free now, and given to nobody meanwhile who names none.

A port that bind(2) chose itself is anybody's as soon as it is closed: from the same range every socket without a port
gets one. So these are drawn from what lies outside of that range.
"""

from __future__ import annotations

import errno
import random
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bt_selfsecure.errors import UsageError

RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
"""Of IPv6, too."""
USUAL_RANGE: Final = range(32_768, 61_000)
LOWEST_PORT: Final = 20_000
HIGHEST_PORT: Final = 65_535


def free_ports(host: str, count: int, group: int = 1) -> list[int]:
    """Return that many ports, in no order, which are free at an address for UDP and for TCP.

    With a group of N each is the first of N that are, and a multiple of N. Where the system chooses from all ports
    above `LOWEST_PORT`, so does this. Raises `UsageError` where there are not so many, as at an address of another
    computer."""
    chosen = chosen_by_system()
    lowest = -(-LOWEST_PORT // group) * group
    all_groups = [range(port, port + group) for port in range(lowest, HIGHEST_PORT + 2 - group, group)]
    groups = [ports for ports in all_groups if ports.stop <= chosen.start or chosen.stop <= ports.start] or all_groups
    found: list[int] = []
    why = "others have them"
    with ExitStack() as until_all_are_found:
        for ports in random.SystemRandom().sample(groups, len(groups)):
            try:
                until_all_are_found.enter_context(_bound(host, ports))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    continue
                why = error.strerror or str(error)
                break
            found.append(ports.start)
            if len(found) == count:
                return found
    raise UsageError(f"there are no {count} free ports at {host} ({why}): name another address of this computer's")


def chosen_by_system() -> range:
    """Return the ports from which a socket gets one that names none (ip_local_port_range of ip(7))."""
    try:
        first, last = map(int, RANGE.read_text().split())
    except (OSError, ValueError):
        return USUAL_RANGE
    return range(first, last + 1)


def _bound(host: str, ports: range) -> ExitStack:
    """Return what holds these ports until it is closed. Raises `OSError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with ExitStack() as held:
        for port in ports:
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                held.enter_context(socket.socket(family, kind)).bind((host, port))
        return held.pop_all()
