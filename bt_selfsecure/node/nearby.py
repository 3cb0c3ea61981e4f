"""What is seen of the nodes near, and what they see of this one, for as long as there is an adapter to look with."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from typing import Any

from bt_selfsecure.errors import BtSelfSecureError
from bt_selfsecure.node import api_types
from bt_selfsecure.node.config import Config
from bt_selfsecure.node.discovery import Discovery, Sighting


class Nearby:
    """Holds the node's `Discovery` between `begin` and `end`. `profile` is advertised, `profiles` are the names of
    those that are known; `known` are the addresses of the configured peers; `on_sighting` is called with the address of
    each node that is heard."""

    def __init__(
        self,
        config: Config,
        profile: int,
        profiles: Mapping[int, str],
        known: Iterable[str],
        on_sighting: Callable[[str], None],
    ) -> None:
        self._config, self._profile, self._profiles = config, profile, profiles
        self._known, self._on_sighting = known, on_sighting
        self._discovery: Discovery | None = None

    async def begin(self, adapter: str) -> None:
        """Be seen and look, as configured, with this adapter."""
        table = self._config.discovery
        if not (table.advertise or table.scan):
            return
        self._discovery = Discovery(
            adapter=adapter,
            name=self._config.node.name,
            profile=self._profile,
            profiles=self._profiles,
            advertise=table.advertise,
            scan=table.scan,
            scan_interval_s=table.scan_interval_s,
            peers=self._known,
            on_sighting=self._on_sighting,
        )
        await self._discovery.start()

    async def end(self) -> None:
        """Leave the air."""
        if self._discovery:
            await self._discovery.stop()
            self._discovery = None

    @contextlib.asynccontextmanager
    async def paused(self) -> AsyncGenerator[None, None]:
        """Leave the radio to a burst meanwhile."""
        discovery = self._discovery
        try:
            if discovery:
                await discovery.pause()
            yield
        finally:
            if discovery:
                await discovery.resume()

    def know(self, address: str) -> None:
        """Recognise a peer that was not configured at the start."""
        if self._discovery:
            self._discovery.know(address)

    @property
    def sightings(self) -> Mapping[str, Sighting]:
        """Return those that were heard, by address."""
        return self._discovery.sightings if self._discovery else {}

    async def scan(self, seconds: float, names: Mapping[str, str]) -> list[api_types.Sighting]:
        """Return the nodes that are heard in that time; `names` are those of the peers, by address. Raises
        `BtSelfSecureError`."""
        if self._discovery is None:
            raise BtSelfSecureError("there is no adapter to scan with, or [discovery] is off in the configuration")
        return [sighting.told(names.get(sighting.address)) for sighting in await self._discovery.scan(seconds)]

    def show(self, status: dict[str, Any]) -> None:
        """Let everybody near read it, by GATT."""
        if self._discovery:
            self._discovery.set_status(status)

    def status(self) -> api_types.Discovery | None:
        """Return its part of the node's status; None where there is no adapter."""
        return self._discovery.status() if self._discovery else None
