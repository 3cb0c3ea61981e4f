"""Drives endpoints over links: the same `Medium` as `World`, over virtual Bluetooth or any other bearer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from bt_selfsecure.air.world import EventHandler
from bt_selfsecure.bearers.base import Link, LinkClosedError
from bt_selfsecure.sansio.endpoint import Endpoint

EARLY_S: Final = 1e-6
"""Seconds by which a loop may call before the deadline: its clock has a resolution, and sums of floats are rounded."""


class LinkedAir:
    """Give it each endpoint's link by its name. Runs in the loop that it is awaited in; with `run_virtual`, in virtual
    time. An endpoint whose link ends is left alone."""

    def __init__(self, links: Mapping[str, Link]) -> None:
        self._links: Final = links
        self._woken: Final[dict[str, asyncio.Event]] = {}
        self._received: Final[dict[str, asyncio.Task[bytes]]] = {}
        self._reached = 0.0  # the latest deadline that the loop has called at

    @property
    def now(self) -> float:
        return max(asyncio.get_running_loop().time(), self._reached)

    def wake(self, name: str) -> None:
        self._woken.setdefault(name, asyncio.Event()).set()

    async def run(
        self, endpoints: Mapping[str, Endpoint[Any]], on_event: EventHandler, until: Callable[[], bool], seconds: float
    ) -> None:
        end = self.now + seconds
        tasks = [
            asyncio.create_task(self._drive(name, endpoint, on_event, until, end), name=f"driver of {name}")
            for name, endpoint in endpoints.items()
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _drive(
        self, name: str, endpoint: Endpoint[Any], on_event: EventHandler, until: Callable[[], bool], end: float
    ) -> None:
        link, woken = self._links[name], self._woken.setdefault(name, asyncio.Event())
        woken.clear()
        receiving = self._received.pop(name, None)
        try:
            while not until() and self.now < end:
                for data in endpoint.frames_to_send(self.now):
                    await link.send(data)
                event = endpoint.next_event()
                if event is not None:
                    on_event(name, event, self.now)
                    if until():
                        for other in self._woken:
                            self.wake(other)
                    continue
                timer = endpoint.get_timer()
                deadline = end if timer is None else min(timer, end)
                receiving = receiving or asyncio.create_task(link.receive(), name=f"{name} receiving")
                if await self._next(receiving, woken, deadline):
                    endpoint.receive_frame(receiving.result(), self.now)
                    receiving = None
                elif self.now > deadline - EARLY_S:
                    self._reached = max(self._reached, deadline)
                    endpoint.handle_timer(self.now)
        except LinkClosedError:
            pass
        finally:
            if receiving and not receiving.cancel():  # what came meanwhile is for the next run
                self._received[name] = receiving

    async def _next(self, receiving: asyncio.Task[bytes], woken: asyncio.Event, deadline: float) -> bool:
        """Return whether a datagram is there, at the latest at the deadline or when woken."""
        waking = asyncio.create_task(woken.wait())
        try:
            timeout = max(0.0, deadline - self.now)
            await asyncio.wait((receiving, waking), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            woken.clear()
            return receiving.done()
        finally:
            waking.cancel()
