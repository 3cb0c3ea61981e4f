"""Losses that this program draws, where it receives: to see the protocol work, and heal, without a radio.

They keep no secret: whoever reads the medium misses none of what is lost here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from bt_selfsecure.bearers.base import Bearer, Link, Listener


@dataclass(frozen=True, slots=True)
class Faults:
    """Holds what is drawn for each datagram: probabilities, below 1."""

    loss: float = 0.0
    duplicate: float = 0.0


class DrawnBearer(Bearer):
    """Is `bearer`, of whose datagrams each that comes is lost or doubled with the probability that `faults` says."""

    def __init__(self, bearer: Bearer, faults: Faults, random: Random | None = None) -> None:
        self.name = bearer.name
        self.traits = replace(bearer.traits, losses_visible=True)
        self._bearer, self._faults, self._random = bearer, faults, random or Random()

    async def connect(self, peer: str) -> Link:
        return self._drawn(await self._bearer.connect(peer))

    async def listen(self) -> Listener:
        return _DrawnListener(await self._bearer.listen(), self._drawn)

    async def close(self) -> None:
        await self._bearer.close()

    def _drawn(self, link: Link) -> Link:
        return _DrawnLink(link, self._faults, self._random)


class _DrawnListener(Listener):
    def __init__(self, listener: Listener, drawn: Callable[[Link], Link]) -> None:
        self._listener, self._drawn = listener, drawn

    async def accept(self) -> Link:
        return self._drawn(await self._listener.accept())

    async def close(self) -> None:
        await self._listener.close()


class _DrawnLink(Link):
    def __init__(self, link: Link, faults: Faults, random: Random) -> None:
        self.peer, self.mtu = link.peer, link.mtu
        self.traits = replace(link.traits, losses_visible=True)
        self.whereabouts = link.whereabouts
        self._link, self._faults, self._random = link, faults, random
        self._double = b""

    async def send(self, data: bytes) -> None:
        await self._link.send(data)

    async def receive(self) -> bytes:
        if self._double:
            data, self._double = self._double, b""
            return data
        data = await self._link.receive()
        while self._random.random() < self._faults.loss:
            data = await self._link.receive()
        self.rssi = self._link.rssi
        if self._random.random() < self._faults.duplicate:
            self._double = data
        return data

    async def close(self) -> None:
        await self._link.close()
