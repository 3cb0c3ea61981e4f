"""LE advertising as a broadcast bearer: burst packets in legacy non-connectable advertisements, by raw HCI.

    AD structure   | length | 0xFF | company id 0xFFFF (2) | datagram of 1 to 24 bytes |

Why not over D-Bus: bluetoothd, kernel and bleak drop what looks like a repetition, so nobody could count losses. A
datagram is on the air for one advertising event, on all three channels; the next replaces it. A receiver scans without
a break, so it misses what its own channel changes and the air cost it.

A chip without extended advertising has one advertiser and one scanner, and bluetoothd thinks that they are its own:
while a link of ours is open we set them again whenever somebody else has changed them, and at the end both are off.
Pause other advertising for the time of a burst. It takes CAP_NET_RAW.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Coroutine
from typing import Any, Final

from bt_selfsecure.bearers import hci
from bt_selfsecure.bearers.advertising_data import manufacturer_data, manufacturer_datagrams
from bt_selfsecure.bearers.base import Bearer, BearerError, Link, Listener, Traits
from bt_selfsecure.bearers.hci_events import LE_META, answered, parse_reports
from bt_selfsecure.bearers.limits import ADVERT_BYTES
from bt_selfsecure.bearers.queued import QueuedLink
from bt_selfsecure.errors import UsageError

INTERVAL_UNITS: Final = 32
"""Of the advertiser, 20 ms in units of 0.625 ms: the shortest of Bluetooth 5.0."""
OLD_INTERVAL_UNITS: Final = 160
"""100 ms: the shortest for non-connectable advertising before 5.0 (Core 4.2 Vol 2 Part E 7.8.5)."""
UNIT_S: Final = 0.000625
DELAY_S: Final = 0.010
"""The longest random delay; within the interval and this there was one event (Core Vol 6 Part B 4.4.2.2.1)."""
GAP_S: Final = 0.01
"""A sender that has nothing more to send for so long is silenced."""
REPAIR_S: Final = 0.2
"""Before we set again what somebody else has set, so that two who both do it stay quiet."""
SCAN_UNITS: Final = 0x0010
"""Interval and window of the scanner, 10 ms: equal, so it always listens."""
ENDED: Final = "advertising has ended: the link is closed or the adapter gone"
TRAITS: Final = Traits(losses_visible=True, ordered=True, broadcast=True, link_encrypted=False)
_NONCONN: Final = 3
_ALL_CHANNELS: Final = 7


class LeAdvertBearer(Bearer):
    """Has one advertiser and one scanner, shared by all links; both are on only while a link is open.

    `address`, six bytes, is advertised from instead of the adapter's own, as a random one: Eve says she is Alice.
    """

    name = "le_advert"
    traits = TRAITS

    def __init__(self, adapter: str, address: bytes = b"") -> None:
        self._adapter, self._address = adapter, address
        self._radio: _Radio | None = None
        self._turn = asyncio.Lock()

    async def connect(self, peer: str) -> Link:
        """Return a link that hears this peer's datagrams; what it sends everybody hears."""
        async with self._turn:
            if self._radio is None or self._radio.is_lost:
                radio = _Radio(self._adapter, self._address)
                try:
                    await radio.start()
                except BaseException:
                    radio.stop()
                    raise
                self._radio = radio
            return LeAdvertLink(self, self._radio, peer)

    async def listen(self) -> Listener:
        raise UsageError("le_advert has no connections to wait for: connect to each peer that is to be heard")

    async def close(self) -> None:
        if self._radio:
            for link in list(self._radio.links):
                await link.close()

    def release(self, link: LeAdvertLink) -> None:
        """Switch the radio's part off when the last link has ended."""
        if self._radio:
            self._radio.links.discard(link)
            if not self._radio.links:
                self._radio.stop()
                self._radio = None


class LeAdvertLink(QueuedLink):
    """Is made by `LeAdvertBearer.connect`."""

    def __init__(self, bearer: LeAdvertBearer, radio: _Radio, peer: str) -> None:
        super().__init__()
        self.peer, self.mtu, self.traits = peer, ADVERT_BYTES, TRAITS
        self._bearer, self._radio = bearer, radio
        radio.links.add(self)

    async def send(self, data: bytes) -> None:
        self._require_size(data)
        self._require_open()
        await self._radio.advertise(data)

    async def close(self) -> None:
        self.end(ENDED)
        self._bearer.release(self)


class _Radio:
    """The advertiser and the scanner of one adapter."""

    def __init__(self, adapter: str, address: bytes) -> None:
        self.links: set[LeAdvertLink] = set()
        self._address = address
        self._hci = hci.HciSocket(adapter, self._on_event)
        self._hci.lost.add_done_callback(lambda lost: self._on_lost())
        self._turn = asyncio.Lock()
        self._prepared = self._advertising = False
        self._event_seconds = 0.0
        self._datagrams = 0
        self._repairing = False
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_lost(self) -> bool:
        return self._hci.lost.done()

    async def start(self) -> None:
        """Scan. Raises `BearerError` where the controller will not."""
        try:
            await self._scan()
        except hci.HciError as refused:
            raise _explained(refused) from None

    def stop(self) -> None:
        """Leave the air, at once: a wait for the controller could be cancelled, and the last datagram be repeated."""
        for task in self._tasks:
            task.cancel()
        if not self.is_lost:
            self._hci.tell(hci.LE_SET_SCAN_ENABLE, b"\0\0")
            if self._advertising:
                self._hci.tell(hci.LE_SET_ADVERTISING_ENABLE, b"\0")
        self._hci.close()

    async def advertise(self, data: bytes) -> None:
        """Put this on the air for one event; returns when that is surely over."""
        structure = manufacturer_data(data)
        payload = bytes([len(structure)]) + structure.ljust(31, b"\0")
        self._datagrams += 1
        async with self._turn:
            try:
                if not self._prepared:
                    await self._prepare_advertiser()
                await self._hci.command(hci.LE_SET_ADVERTISING_DATA, payload)
                if not self._advertising:
                    self._advertising = True
                    await self._hci.command(hci.LE_SET_ADVERTISING_ENABLE, b"\1")
                await asyncio.sleep(self._event_seconds)
            except hci.HciError as refused:
                raise _explained(refused) from None
            finally:
                asyncio.get_running_loop().call_later(GAP_S, self._if_nothing_follows, self._datagrams)

    def _if_nothing_follows(self, datagrams: int) -> None:
        if datagrams == self._datagrams and not self.is_lost:
            self._start(self._fall_silent(datagrams))

    async def _fall_silent(self, datagrams: int) -> None:
        """Or the last datagram would be repeated for ever."""
        async with self._turn:
            if datagrams == self._datagrams and self._advertising:
                await self._hci.command(hci.LE_SET_ADVERTISING_ENABLE, b"\0")
                self._advertising = False

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._unless_lost(work), name="le_advert")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _unless_lost(self, work: Coroutine[Any, Any, None]) -> None:
        with contextlib.suppress(BearerError):  # the links learn of it when the adapter is gone
            await work

    async def _prepare_advertiser(self) -> None:
        """Where somebody else advertises, that ends."""
        with contextlib.suppress(hci.HciError):
            await self._hci.command(hci.LE_SET_ADVERTISING_ENABLE, b"\0")
        for units in (INTERVAL_UNITS, OLD_INTERVAL_UNITS):
            parameters = struct.pack(
                "<HHBBB6sBB", units, units, _NONCONN, bool(self._address), 0, bytes(6), _ALL_CHANNELS, 0
            )  # own address: public, or random
            try:
                await self._hci.command(hci.LE_SET_ADVERTISING_PARAMETERS, parameters)
                self._event_seconds = units * UNIT_S + DELAY_S
                break
            except hci.HciError:
                if units == OLD_INTERVAL_UNITS:
                    raise
        self._prepared, self._advertising = True, False

    async def _scan(self) -> None:
        """Passive, all the time, every repetition reported."""
        with contextlib.suppress(hci.HciError):
            await self._hci.command(hci.LE_SET_SCAN_ENABLE, b"\0\0")  # parameters can't be set while it is on
        if self._address:
            await self._hci.command(hci.LE_SET_RANDOM_ADDRESS, self._address[::-1])  # nor this
        await self._hci.command(hci.LE_SET_SCAN_PARAMETERS, struct.pack("<BHHBB", 0, SCAN_UNITS, SCAN_UNITS, 0, 0))
        await self._hci.command(hci.LE_SET_SCAN_ENABLE, b"\1\0")

    def _on_event(self, code: int, parameters: bytes) -> None:
        if code == LE_META:
            for report in parse_reports(parameters):
                for data in manufacturer_datagrams(report.data):
                    self._hear(report.address, data, report.rssi)
        opcode, _ = answered(code, parameters)
        if opcode in (hci.LE_SET_SCAN_ENABLE, hci.LE_SET_ADVERTISING_ENABLE, hci.LE_SET_ADVERTISING_PARAMETERS):
            self._others_interfered()

    def _hear(self, address: str, data: bytes, rssi: int | None) -> None:
        for link in self.links:
            if link.peer == address:
                link.hear(data, rssi)

    def _others_interfered(self) -> None:
        """bluetoothd or another program has set scanner or advertiser: set ours again."""
        if not self._repairing:
            self._repairing = True
            self._start(self._set_again())

    async def _set_again(self) -> None:
        await asyncio.sleep(REPAIR_S)
        async with self._turn:
            self._repairing = self._prepared = False
            await self._scan()

    def _on_lost(self) -> None:
        for link in self.links:
            link.end(ENDED)


def _explained(refused: hci.HciError) -> BearerError:
    if refused.status != hci.COMMAND_DISALLOWED:
        return refused
    return BearerError(
        "the controller refuses legacy advertising: it has been told to use extended, which this bearer does not speak;"
        " take another adapter, or another bearer for the establishment"
    )
