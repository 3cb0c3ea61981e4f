"""Discovery: the node advertises what it is, and finds peers by their advertisements.

bluezero advertises (`beacon.py` has the layout), bleak scans for some seconds out of every interval. A chip with legacy
advertising has one advertiser and one scanner, so both are silent from `pause` to `resume`, while a burst runs over
`le_advert`. What is found is a hint: advertisements are not authenticated, and nothing depends on a GATT connection,
which a dual-mode peer refuses.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bt_selfsecure.bearers.system_bus import SystemBusError, require_system_bus
from bt_selfsecure.errors import BtSelfSecureError, LocalError
from bt_selfsecure.node import api_types, beacon
from bt_selfsecure.node.advertiser import Advertiser

if TYPE_CHECKING:
    from bleak.backends.device import BLEDevice
    from bleak.backends.scanner import AdvertisementData

log = logging.getLogger(__name__)

SCAN_S: Final = 6.0
"""Of every interval: four of the kernel's advertising intervals of 1.28 s, some of which are lost."""
MOST_SIGHTINGS: Final = 256
"""Kept, the latest: an advertisement costs a stranger nothing."""
LONGEST_NAME: Final = 64
RSSI_UNKNOWN: Final = 127
"""From a controller that does not tell it (Core Vol 4 Part E 7.7.65.2)."""
HANG_S: Final = 10.0
"""bluetoothd has so long beyond a scan to start and stop it."""


class DiscoveryError(BtSelfSecureError):
    """A scan was not possible; the text says why."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """Holds what a node advertised when it was last heard."""

    address: str
    """Of the configured peer with that identity, or else the one that advertised."""
    name: str
    """As advertised, printable characters only; may be empty."""
    rssi: int | None
    """dBm; None if the controller does not tell."""
    profile: str
    """"paper", "hardened", or "unknown"."""
    version: int
    """Of the protocol; we speak `beacon.VERSION`."""
    seen_at: float
    """Seconds, by the event loop's clock."""

    def told(self, peer: str | None) -> api_types.Sighting:
        """Return it as the local API has it; `peer` is the name of the configured peer that it is."""
        return {
            "address": self.address,
            "name": self.name or None,
            "rssi": self.rssi,
            "peer": peer,
            "profile": self.profile,
            "version": self.version,
        }


class Discovery:
    """Advertises and scans from `start` to `stop`.

    `profile` is advertised; `profiles` are the names of those that are known. `peers` are the configured addresses;
    `on_sighting` is called with the address whenever a node is heard.
    """

    def __init__(
        self,
        *,
        adapter: str,
        name: str,
        profile: int,
        profiles: Mapping[int, str],
        advertise: bool = True,
        scan: bool = True,
        scan_interval_s: float = 60.0,
        peers: Iterable[str] = (),
        on_sighting: Callable[[str], None] = lambda address: None,
    ) -> None:
        self.sightings: dict[str, Sighting] = {}
        """By address; the latest heard is the last."""
        self.advertiser = Advertiser(adapter, name, profile)
        self._adapter, self._profiles = adapter, profiles
        self._advertise, self._scan, self._interval_s = advertise, scan, scan_interval_s
        self._known = {beacon.identity_of(peer): peer for peer in peers}
        self._on_sighting = on_sighting
        self._scan_trouble = ""
        self._pauses = 0
        self._free = asyncio.Event()
        self._free.set()
        self._wanted = asyncio.Event()
        """The radio is wanted for a burst: a scan ends at once."""
        self._scanning = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []

    def know(self, address: str) -> None:
        """Recognise a peer that was not configured at the start."""
        self._known[beacon.identity_of(address)] = address

    async def start(self) -> None:
        """Begin. What fails is tried again, with back-off, and named in `status`."""
        if self._advertise:
            self._tasks.append(asyncio.create_task(self.advertiser.run(), name="discovery: advertise"))
        if self._scan:
            self._tasks.append(asyncio.create_task(self._keep_scanning(), name="discovery: scan"))

    async def stop(self) -> None:
        """Leave the air; the child process has ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def pause(self) -> None:
        """Return when the radio is free of advertisement and scan. As many `resume` as `pause` end it."""
        self._pauses += 1
        self._free.clear()
        self._wanted.set()
        async with self._scanning:
            await self.advertiser.pause()

    async def resume(self) -> None:
        """Advertise and scan again: the burst is over."""
        self._pauses -= 1
        if self._pauses == 0:
            self._wanted.clear()
            self._free.set()
            self.advertiser.resume()

    def wake(self) -> None:
        """Advertise now, not only after the back-off: the adapter is up again."""
        self.advertiser.wake()

    async def scan(self, seconds: float) -> list[Sighting]:
        """Scan for so many seconds (less if a burst comes up), after any burst and scan; return the nodes that were
        heard.

        Raises `DiscoveryError`.
        """
        while True:
            await self._free.wait()
            async with self._scanning:
                if not self._free.is_set():
                    continue
                began = asyncio.get_running_loop().time()
                await self._listen(seconds)
                return [sighting for sighting in self.sightings.values() if sighting.seen_at >= began]

    def set_status(self, status: dict[str, Any]) -> None:
        """Set what the GATT service shows to anybody: JSON of at most 512 bytes, nothing secret. Raises
        `LocalError`."""
        line = json.dumps(status, separators=(",", ":")).encode()
        if len(line) > beacon.LARGEST_STATUS_BYTES:
            raise LocalError(f"{len(line)} bytes do not fit a GATT characteristic of {beacon.LARGEST_STATUS_BYTES}")
        self.advertiser.show(line)

    def status(self) -> api_types.Discovery:
        """Return its part of the node's status."""
        return {
            "advertising": self.advertiser.state.value,
            "advertising_trouble": self.advertiser.trouble,
            "scanning": self._scanning.locked(),
            "scan_trouble": self._scan_trouble,
            "nodes_in_sight": len(self.sightings),
        }

    async def _keep_scanning(self) -> None:
        while True:
            try:
                await self.scan(min(SCAN_S, self._interval_s))
                self._scan_trouble = ""
            except DiscoveryError as error:
                if str(error) != self._scan_trouble:
                    log.warning("%s", error)
                self._scan_trouble = str(error)
            await asyncio.sleep(max(0.0, self._interval_s - SCAN_S))

    async def _listen(self, seconds: float) -> None:
        """One scan of bleak's."""
        try:
            from bleak import BleakScanner
            from bleak.exc import BleakError
        except ImportError as error:
            raise DiscoveryError(f"can't scan without bleak ({error}): pip install 'bt-selfsecure[node]'") from error
        try:
            await require_system_bus()
        except SystemBusError as error:
            raise DiscoveryError(f"can't scan: {error}") from error
        scanner = BleakScanner(self._heard, bluez={"adapter": self._adapter})
        try:
            async with asyncio.timeout(seconds + HANG_S), scanner:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await self._wanted.wait()
        except TimeoutError as error:
            raise DiscoveryError("can't scan, bluetoothd hangs: sudo systemctl restart bluetooth") from error
        except (BleakError, OSError, EOFError) as error:
            raise DiscoveryError(f"can't scan on {self._adapter} ({error}): see bt-selfsecure doctor") from error

    def _heard(self, device: BLEDevice, advertisement: AdvertisementData) -> None:
        self.hear(device.address, advertisement.local_name, advertisement.rssi, advertisement.service_data)

    def hear(self, address: str, name: str | None, rssi: int, service_data: dict[str, bytes]) -> None:
        """Take an advertisement, which is a node's if it carries our service data. Never raises: it comes from the
        air."""
        said = beacon.decode(service_data.get(beacon.SERVICE_UUID, b""))
        if said is None:
            return
        address = self._known.get(said.identity, address.upper())
        shown = "".join(letter for letter in name or "" if letter.isprintable())[:LONGEST_NAME]
        self.sightings.pop(address, None)
        self.sightings[address] = Sighting(
            address,
            shown,
            None if rssi == RSSI_UNKNOWN else rssi,
            self._profiles.get(said.profile, "unknown"),
            said.version,
            asyncio.get_running_loop().time(),
        )
        while len(self.sightings) > MOST_SIGHTINGS:
            del self.sightings[next(iter(self.sightings))]
        self._on_sighting(address)
