"""The adapter's bearers for test packets, and what its controller counts meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from typing import Any, Final

from bt_selfsecure.bearers import hci
from bt_selfsecure.bearers.base import Bearer
from bt_selfsecure.bearers.specs import open_bearer
from bt_selfsecure.errors import BtSelfSecureError
from bt_selfsecure.node.client import NodeClient
from bt_selfsecure.sweep.agent import Counters, no_counters
from bt_selfsecure.sweep.plan import bearer_of, medium

FLUSH_OCCURRED: Final = 0x11  # Core Vol 4 Part E 7.7.17
NUMBER_OF_COMPLETED_PACKETS: Final = 0x13  # 7.7.19
DRAIN_S: Final = 10.0
"""At most, for packets that were handed to the kernel and wait for the controller: an emulated one is slow."""
LOOK_S: Final = 0.02


class KernelEnvironment:
    """This is an `AgentEnvironment` on the adapter of the node behind `client`."""

    def __init__(self, client: NodeClient) -> None:
        self._client = client
        self._adapter = ""

    def open(self, bearer: str) -> Bearer:
        status = self._client.status()
        self._adapter = str(status["adapter"])
        if medium(bearer) == "le_advert" and status["discovery"]:
            raise BtSelfSecureError(
                "its node advertises and scans by itself, which would disturb the measurement: set advertise = false "
                "and scan = false in [discovery] of its configuration, and restart it"
            )
        return open_bearer(bearer_of(bearer, self._adapter))

    def now(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def counting(self, bearer: str, receivers: dict[str, str]) -> contextlib.AbstractAsyncContextManager[Counters]:
        return _counting(self._adapter, receivers) if medium(bearer) == "l2cap" else no_counters()


@contextlib.asynccontextmanager
async def _counting(adapter: str, receivers: dict[str, str]) -> AsyncGenerator[Counters, None]:
    handles = {}
    for name, address in receivers.items():
        if connection := hci.connection_to(adapter, address):
            handles[connection.handle] = name
    counters = AclCounters(handles)
    socket = hci.HciSocket(adapter, counters.on_event)
    try:
        yield counters
    finally:
        socket.close()


class AclCounters:
    """Counts ACL packets, on the connections whose `handles` have names. The control link's own packets travel on
    the same connections and are counted with them; while test packets are in the air it is silent but for
    acknowledgements."""

    def __init__(self, handles: dict[int, str]) -> None:
        self._handles = handles
        self._completed = dict.fromkeys(handles.values(), 0)
        self._flushed = dict.fromkeys(handles.values(), 0)

    def on_event(self, code: int, parameters: bytes) -> None:
        """Take what the controller said."""
        if code == FLUSH_OCCURRED and len(parameters) == 2:
            self._count(self._flushed, parameters, 1)
        elif code == NUMBER_OF_COMPLETED_PACKETS and parameters and len(parameters) == 1 + 4 * parameters[0]:
            for start in range(1, len(parameters), 4):
                self._count(
                    self._completed, parameters[start:], int.from_bytes(parameters[start + 2 : start + 4], "little")
                )

    def _count(self, counts: dict[str, int], parameters: bytes, packets: int) -> None:
        handle = int.from_bytes(parameters[:2], "little") & 0x0FFF
        if handle in self._handles:
            counts[self._handles[handle]] += packets

    async def drained(self, given: dict[str, int]) -> dict[str, int]:
        for _ in range(round(DRAIN_S / LOOK_S)):
            if not any(self._left(given).values()):
                break
            await asyncio.sleep(LOOK_S)
        return {name: left for name, left in self._left(given).items() if left}

    def _left(self, given: dict[str, int]) -> dict[str, int]:
        return {name: max(0, given[name] - done) for name, done in self._completed.items()}

    def totals(self) -> dict[str, Any]:
        """Return the counts. Flushed are packets that the controller gave up after the flush timeout: those the air
        lost, if the receiver was listening."""
        return {"completed": self._completed, "flushed": self._flushed}
