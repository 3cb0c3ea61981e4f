"""Who is at the other end: a place, and the channel to it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from ipaddress import IPv6Address
from typing import Any, Final

from aiocoap import COAP_PORT, COAPS_PORT, interfaces
from aiocoap.numbers.constants import MAX_REGULAR_BLOCK_SIZE_EXP
from aiocoap.util import hostportjoin

from bt_selfsecure.coap.channels import Channel
from bt_selfsecure.errors import UsageError

Place = tuple[Any, ...]
"""As asyncio names the source of a datagram."""
PORTS: Final = {"coap": COAP_PORT, "coaps": COAPS_PORT}


class Remote(interfaces.EndpointAddress):  # type: ignore[misc]
    """Is a place and the channel to it: the same two are the same peer."""

    is_multicast = is_multicast_locally = False
    maximum_block_size_exp = MAX_REGULAR_BLOCK_SIZE_EXP
    scheme = hostinfo_local = ""

    def __init__(self, place: Place, channel: Channel, scheme: str, write: Callable[[bytes], None], local: str) -> None:
        self.place: Final = place
        self.channel: Final = channel
        self.scheme = scheme
        self.write: Final = write
        self.hostinfo_local = local
        self.timer: asyncio.TimerHandle | None = None
        self.last_heard = 0.0
        self.told = ""
        """What the log has of it."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remote) and (self.place, id(self.channel)) == (other.place, id(other.channel))

    def __hash__(self) -> int:
        return hash((self.place, id(self.channel)))

    def __repr__(self) -> str:
        return f"<{self.uri_base} {self.channel.identity}>"

    @property
    def hostinfo(self) -> str:
        host, port = self.place[:2]
        return str(hostportjoin(host, None if port == PORTS[self.scheme] else port))

    @property
    def uri_base(self) -> str:
        return f"{self.scheme}://{self.hostinfo}"

    @property
    def uri_base_local(self) -> str:
        return f"{self.scheme}://{self.hostinfo_local}"

    @property
    def authenticated_claims(self) -> list[str]:
        return [self.channel.identity] if self.channel.identity else []

    @property
    def blockwise_key(self) -> object:
        return self.place, id(self.channel)


def expect_zone(host: str) -> None:
    """Raise `UsageError` for a link-local address without its interface: it can be on each of them."""
    try:
        address = IPv6Address(host)
    except ValueError:
        return
    if address.is_link_local and not address.scope_id:
        raise UsageError(f"{host} can be on any interface: name it, as in {host}%bt0")


def host_of(place: Place) -> str:
    """Return the address of a place, a link-local one with its interface."""
    host, _, *flow_and_zone = place
    zone = flow_and_zone[1] if flow_and_zone else 0
    return f"{host}%{socket.if_indextoname(zone)}" if zone and "%" not in host else str(host)
