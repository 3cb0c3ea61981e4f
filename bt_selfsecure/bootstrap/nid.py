"""Where nodes reach a controller: its NID, as people write it, and what carries flights 5 and 8 there and back.

udp:192.0.2.1:5702         datagrams
udp:[fe80::1%eth0]:5702
bt:B8:27:EB:12:34:56       a channel of RFCOMM of that adapter, for which nobody is paired: flights prove themselves
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, NamedTuple, Protocol

from bt_selfsecure.addresses import is_address, spelled
from bt_selfsecure.bearers.places import Place, parse_place, shown_place
from bt_selfsecure.errors import UsageError

UDP: Final = "udp:"
BLUETOOTH: Final = "bt:"
Take = Callable[[bytes, Any], None]


class BluetoothPlace(NamedTuple):
    """Is an adapter, by its device address."""

    address: str


Nid = Place | BluetoothPlace


class Flights(Protocol):
    """Sends flights."""

    def sendto(self, data: bytes, to: Any = None, /) -> None:
        """Send one: to where another came from, or, where all go to one place, there."""


def parse_nid(text: str) -> Nid:
    """Return where an NID is. Raises `UsageError`."""
    if text.startswith(UDP):
        return parse_place(text.removeprefix(UDP))
    if text.startswith(BLUETOOTH) and is_address(address := spelled(text.removeprefix(BLUETOOTH))):
        return BluetoothPlace(address)
    raise UsageError(
        f"{text!r} is no NID: write it as udp:192.0.2.1:5702, udp:[fe80::1%eth0]:5702 or bt:B8:27:EB:12:34:56"
    )


def shown_nid(nid: Nid) -> str:
    """Write an NID as `parse_nid` reads it."""
    return f"{BLUETOOTH}{nid.address}" if isinstance(nid, BluetoothPlace) else f"{UDP}{shown_place(nid)}"


@contextlib.asynccontextmanager
async def flights(take: Take, *, at: Nid | None = None, to: Nid | None = None) -> AsyncIterator[tuple[Flights, Nid]]:
    """Yield what listens at an NID, or talks to one, and where that is. Raises `UsageError` where it can't."""
    where = at or to
    if isinstance(where, BluetoothPlace):
        from bt_selfsecure.bootstrap.bluetooth import called, calling

        async with called(take, where.address) if at else calling(take, where.address) as carried:
            yield carried, where
        return
    async with datagrams(take, at=at if at is None else where, to=to if to is None else where) as transport:
        yield transport, transport.get_extra_info("sockname")[:2]


class _Endpoint(asyncio.DatagramProtocol):
    def __init__(self, take: Take) -> None:
        self._take = take

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._take(data, addr)

    def error_received(self, exc: Exception) -> None:
        """What an ICMP message says is tried again like any loss."""


@contextlib.asynccontextmanager
async def datagrams(take: Take, *, at: Place | None = None, to: Place | None = None) -> AsyncIterator[Any]:
    """Yield a UDP transport that listens at a place, or talks to one. Raises `UsageError` where it can't."""
    where = at or to
    assert where is not None
    try:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Endpoint(take), local_addr=at, remote_addr=to
        )
    except OSError as error:
        what = f"listen on {shown_place(where)}" if at else f"send to {shown_place(where)}"
        why = error.strerror or error
        raise UsageError(f"can't {what} over UDP ({why}): name an address of this computer, or a free port") from None
    try:
        yield transport
    finally:
        transport.close()
