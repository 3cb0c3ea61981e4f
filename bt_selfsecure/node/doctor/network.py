"""The check of what udp needs: an own place that can be listened on, and a way to each peer's."""

from __future__ import annotations

import errno

from bt_selfsecure.bearers.base import BearerError
from bt_selfsecure.bearers.places import parse_place, shown_place
from bt_selfsecure.bearers.udp import listening, require_way
from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.client import NodeClient
from bt_selfsecure.node.doctor.findings import Finding, NotSeen, failure, ok
from bt_selfsecure.node.doctor.host_system import HostSystem
from bt_selfsecure.wording import counted


def udp(system: HostSystem) -> Finding:
    """Look whether the own place is free and each peer's can be reached, on sockets of the doctor's own, of which
    nobody hears anything."""
    places = system.udp
    if places is None:
        raise NotSeen("no place of udp is configured")
    if system.peer == places.own:
        return failure(
            f"This node and the peer have the same address, {places.own}.",
            "Name the peer's own address; if they really are equal, set another [node] address.",
        )
    own = parse_place(places.listen)
    held: str | None = "is free to listen on"
    try:
        listening(own).close()
    except BearerError as error:
        if not (isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE):
            return _failure(error)
        if (held := _held_by_the_node(system)) is None:
            return _failure(error)
    for peer, place in places.peers.items():
        try:
            require_way(own[0], parse_place(place), f"{peer} at {place} can't be reached")
        except BearerError as error:
            return _failure(error)
    ways = f"; there is a way to {counted(len(places.peers), 'peer')}" if places.peers else ""
    return ok(f"{shown_place(own)} {held}{ways}.")


def _failure(error: BearerError) -> Finding:
    text, remedy = str(error).rsplit(": ", 1)
    return failure(f"{text[0].upper()}{text[1:]}.", f"{remedy[0].upper()}{remedy[1:]}.")


def _held_by_the_node(system: HostSystem) -> str | None:
    """Return the words for a port that the running node has; None if it is not that node's. Raises `NotSeen`."""
    try:
        status = NodeClient(system.socket).status()
        taken = any(str(problem).startswith("udp: ") for problem in status["problems"])
    except UsageError as error:
        if system.socket.exists():
            raise NotSeen(f"{system.udp and system.udp.listen} is taken, perhaps by the node ({error})") from error
        return None
    return None if taken else "is what the running node listens on"
