"""Where `udp` ends are: an IP address and a port, written "127.0.0.1:5700" or "[::1]:5700"."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bt_selfsecure.errors import UsageError

Place = tuple[str, int]
"""IP address and UDP port."""


@dataclass(frozen=True, slots=True)
class UdpPlaces:
    """Holds what `udp` takes beside its name: where this end and its peers are, as in "127.0.0.1:5700"."""

    own: str
    """This end's device address; a node without adapter makes one up."""
    listen: str
    peers: Mapping[str, str] = field(default_factory=dict)
    """By device address, as they are whenever it is looked up."""
    anyone: Callable[[], bool] = field(default=lambda: False, compare=False)
    """Whether other devices may dial as well, now."""


def parse_place(text: str) -> Place:
    """Read a place. Raises `UsageError`."""
    from ipaddress import ip_address

    found = re.fullmatch(r"(?:\[(?P<six>[\w:.%-]*)\]|(?P<four>[0-9.]*)):(?P<port>[0-9]{1,5})", text)
    try:
        if found and 0 < int(found["port"]) < 0x10000:
            address = ip_address(found["six"] or found["four"])
            if address.version == (6 if found["six"] else 4):
                return str(address), int(found["port"])
    except ValueError:
        pass
    raise UsageError(f"{text!r} is no IP address with a UDP port: write it as 127.0.0.1:5700 or [::1]:5700")


def shown_place(place: Place) -> str:
    """Write a place as `parse_place` reads it."""
    return "[{}]:{}".format(*place) if ":" in place[0] else "{}:{}".format(*place)
