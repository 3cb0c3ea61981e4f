"""Flights 5 and 8 over Bluetooth: one channel of RFCOMM, beside whatever a node has on the same adapter.

Nobody is paired for it: the link's key is that connection's alone, and proves nothing. A flight proves itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from bt_selfsecure.bearers.base import BearerError, Link, LinkClosedError
from bt_selfsecure.bearers.hci import adapter_addresses
from bt_selfsecure.bearers.pairing import Pairing
from bt_selfsecure.bearers.rfcomm import RfcommBearer
from bt_selfsecure.errors import UsageError

log = logging.getLogger(__name__)

CHANNEL: Final = 27
MOST_LINKS: Final = 7
"""Of strangers at once, as many as a piconet has; the oldest goes."""
LINK_S: Final = 180.0
"""A node proves itself within so long, or calls again."""
RETRY_S: Final = 2.0
Take = Callable[[bytes, Any], None]


class LinkFlights:
    """Sends flights on links."""

    def __init__(self) -> None:
        self.link: Link | None = None
        """Where all go to one place."""
        self.waiting = b""
        """For that link to come; the newest."""
        self.trouble = ""
        """Why there is no such link."""

    def sendto(self, data: bytes, to: Any = None, /) -> None:
        """Send a flight on the link that another came from, or to the one place."""
        link = to or self.link
        if link is None:
            self.waiting = data
            return
        with contextlib.suppress(LinkClosedError):
            link.send_now(data)  # what does not go is repeated like any loss


@contextlib.asynccontextmanager
async def called(take: Take, address: str) -> AsyncIterator[LinkFlights]:
    """Listen on the adapter with this address. Raises `UsageError`."""
    adapter = next((name for name, own in adapter_addresses().items() if own == address), None)
    if adapter is None:
        here = ", ".join(own for own in adapter_addresses().values()) or "there is none here"
        raise UsageError(f"no adapter has the address {address} of this NID ({here}): see bluetoothctl list")
    async with _bearer(adapter) as bearer:
        try:
            listener = await bearer.listen()
        except BearerError as error:
            raise UsageError(str(error)) from None
        try:
            async with _running(_accept(listener, take)):
                yield LinkFlights()
        finally:
            await listener.close()


@contextlib.asynccontextmanager
async def calling(take: Take, address: str) -> AsyncIterator[LinkFlights]:
    """Call this address again and again, by the first adapter. Raises `UsageError`."""
    adapter = next(iter(sorted(adapter_addresses())), None)
    if adapter is None:
        raise UsageError("there is no Bluetooth adapter here, and the NID is one of Bluetooth: see bluetoothctl list")
    flights = LinkFlights()
    async with _bearer(adapter) as bearer, _running(_call(bearer, address, flights, take)):
        yield flights


@contextlib.asynccontextmanager
async def _bearer(adapter: str) -> AsyncIterator[RfcommBearer]:
    bearer = RfcommBearer(adapter, CHANNEL, pairing=Pairing(answers=False), is_open=True)
    try:
        yield bearer
    finally:
        await bearer.close()


@contextlib.asynccontextmanager
async def _running(work: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _call(bearer: RfcommBearer, address: str, flights: LinkFlights, take: Take) -> None:
    while True:
        try:
            link = await bearer.connect(address)
        except BearerError as error:
            flights.trouble = str(error)
        else:
            flights.link, flights.trouble = link, ""
            if flights.waiting:
                flights.sendto(flights.waiting)
            await _read(link, take)
            flights.link = None
        await asyncio.sleep(RETRY_S)


async def _accept(listener: Any, take: Take) -> None:
    links: dict[Link, asyncio.Task[None]] = {}
    try:
        while True:
            try:
                link = await listener.accept()
            except BearerError as error:
                log.warning("%s", error)
                await asyncio.sleep(RETRY_S)
                continue
            if len(links) >= MOST_LINKS:
                links.pop(next(iter(links))).cancel()
            task = links[link] = asyncio.create_task(_read(link, take))
            task.add_done_callback(functools.partial(_forget, links, link))
    finally:
        for task in links.values():
            task.cancel()
        await asyncio.gather(*links.values(), return_exceptions=True)


def _forget(links: dict[Link, asyncio.Task[None]], link: Link, _: asyncio.Task[None]) -> None:
    links.pop(link, None)


async def _read(link: Link, take: Take) -> None:
    """Take what comes on a link, for as long as it may last."""
    try:
        with contextlib.suppress(LinkClosedError, TimeoutError):
            async with asyncio.timeout(LINK_S):
                while True:
                    take(await link.receive(), link)
    finally:
        await link.close()
