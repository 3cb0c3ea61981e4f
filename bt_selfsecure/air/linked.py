"""Drives endpoints over the links of virtual Bluetooth: the same `Air` as `World`, over Bumble's real host stack."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from bt_selfsecure.air.world import EventHandler
from bt_selfsecure.protocols.haoxiao.frames import Kind, peek_kind
from bt_selfsecure.sansio.endpoint import Endpoint

if TYPE_CHECKING:
    from bt_selfsecure.air.bluetooth import VirtualBluetooth

EARLY_S: Final = 1e-6
"""Seconds by which a loop may call before the deadline: its clock has a resolution, and sums of floats are rounded."""


class LinkedAir:
    """Give it a `VirtualBluetooth` that was entered. Runs in the loop that it is awaited in; with `run_virtual`, in
    virtual time."""

    def __init__(self, bluetooth: VirtualBluetooth) -> None:
        self._bluetooth: Final = bluetooth
        self._woken: Final[dict[str, asyncio.Event]] = {}
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
        link, woken = self._bluetooth.link(name), self._woken.setdefault(name, asyncio.Event())
        woken.clear()
        while not until() and self.now < end and not link.closed.is_set():
            for data in endpoint.frames_to_send(self.now):
                link.send(data, advertise=peek_kind(data) is Kind.RAND_COMPACT)  # control frames go beside the adverts
            event = endpoint.next_event()
            if event is not None:
                on_event(name, event, self.now)
                if until():
                    for other in self._woken:
                        self.wake(other)
                continue
            timer = endpoint.get_timer()
            deadline = end if timer is None else min(timer, end)
            received = await self._next(link.received, woken, deadline)
            if received is not None:
                endpoint.receive_frame(received, self.now)
            elif self.now > deadline - EARLY_S:
                self._reached = max(self._reached, deadline)
                endpoint.handle_timer(self.now)

    async def _next(self, received: asyncio.Queue[bytes], woken: asyncio.Event, deadline: float) -> bytes | None:
        """The next datagram, or None at the deadline or when woken."""
        if not received.empty():
            return received.get_nowait()
        getting, waking = asyncio.create_task(received.get()), asyncio.create_task(woken.wait())
        try:
            timeout = max(0.0, deadline - self.now)
            await asyncio.wait((getting, waking), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            woken.clear()
            return getting.result() if getting.done() else None
        finally:
            getting.cancel()
            waking.cancel()
