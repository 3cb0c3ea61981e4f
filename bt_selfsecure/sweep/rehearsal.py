"""The virtual air: a sweep's bearer without radios, in no time. Losses come from a model of `air/`.

Every listener hears or misses the one packet that is sent, as with advertisements. There is no queue, and no distance
in the RSSI but the mean of a model that has distances.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Mapping
from random import Random
from typing import Final

from bt_selfsecure.air.models import Distance, LossModel, parse_model
from bt_selfsecure.bearers.base import Bearer, Link, LinkClosedError, Listener, Traits
from bt_selfsecure.errors import UsageError
from bt_selfsecure.sweep.agent import Counters, no_counters
from bt_selfsecure.sweep.plan import AIR

MTU: Final = 5000
TRAITS: Final = Traits(losses_visible=True, ordered=True, broadcast=True, link_encrypted=False)


class RehearsalMedium:
    """What joins the agents of one rehearsal; it is the `Media` of each, by `at`. `roles` gives the model's name of
    each address, as in {"BA:27:EB:00:00:02": "bob"}; whoever orders a burst sets it."""

    def __init__(self, seed: int) -> None:
        self.roles: Mapping[str, str] = {}
        self.ears: dict[str, AirLink] = {}
        self._random = Random(seed)
        self._models: dict[str, LossModel] = {}
        self._now = 0.0

    def at(self, address: str) -> AirMedia:
        return AirMedia(self, address)

    def now(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        """The air's time goes on; nobody waits."""
        self._now += seconds
        await asyncio.sleep(0)

    def model(self, bearer: str) -> LossModel:
        """One for each spec, which keeps its state from run to run."""
        if bearer not in self._models:
            self._models[bearer] = parse_model(bearer.removeprefix(AIR))
        return self._models[bearer]

    def transmit(self, model: LossModel, data: bytes) -> None:
        addresses = {role: address for address, role in self.roles.items() if address in self.ears}
        for role in model.transmit(self._random, "alice", tuple(addresses), self._now):
            rssi = round(model.mean_rssi(model.metres[role])) if isinstance(model, Distance) else None
            self.ears[addresses[role]].hear(data, rssi)


class AirMedia:
    """What one agent has of it."""

    def __init__(self, air: RehearsalMedium, address: str) -> None:
        self._air, self._address = air, address
        self.now, self.sleep = air.now, air.sleep

    def open(self, bearer: str) -> Bearer:
        return AirBearer(self._air, self._address, self._air.model(bearer))

    def counting(self, bearer: str, receivers: dict[str, str]) -> contextlib.AbstractAsyncContextManager[Counters]:
        return no_counters()


class AirBearer(Bearer):
    """One agent's end."""

    name = "air"
    traits = TRAITS

    def __init__(self, air: RehearsalMedium, address: str, model: LossModel) -> None:
        self._air, self._address, self._model = air, address, model
        self._links: list[AirLink] = []

    async def connect(self, peer: str) -> Link:
        link = AirLink(self._air, self._address, self._model, peer)
        self._links.append(link)
        return link

    async def listen(self) -> Listener:
        raise UsageError("the virtual air has no connections to wait for")

    async def close(self) -> None:
        for link in self._links:
            await link.close()


class AirLink(Link):
    """Hears whoever sends."""

    def __init__(self, air: RehearsalMedium, address: str, model: LossModel, peer: str) -> None:
        self.peer, self.mtu, self.traits = peer, MTU, TRAITS
        self._air, self._address, self._model = air, address, model
        self._received: deque[tuple[bytes, int | None]] = deque()
        self._changed = asyncio.Event()
        self._closed = False
        air.ears[address] = self

    async def send(self, data: bytes) -> None:
        self._require_size(data)
        self._air.transmit(self._model, data)

    async def receive(self) -> bytes:
        while not self._received:
            if self._closed:
                raise LinkClosedError("the link is closed")
            self._changed.clear()
            await self._changed.wait()
        data, self.rssi = self._received.popleft()
        return data

    async def close(self) -> None:
        self._closed = True
        if self._air.ears.get(self._address) is self:
            del self._air.ears[self._address]
        self._changed.set()

    def hear(self, data: bytes, rssi: int | None) -> None:
        self._received.append((data, rssi))
        self._changed.set()
