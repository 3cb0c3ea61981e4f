"""The radios of the machines: one controller for each, on one air, behind a Unix socket that is its UART."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bumble.transport.common import StreamPacketSink, StreamPacketSource

from bt_selfsecure.air.capture import Tap
from bt_selfsecure.air.link import LossyLink
from bt_selfsecure.air.reception import LossProcess
from bt_selfsecure.lab.controller import LinuxController

DEFAULT_LOSS: Final = 0.1
"""Of every listener, where no model is given: an advertisement is missed about that often within a few metres (field
data: 10 to 12 % at 0 to 2 m)."""


class VirtualRadio:
    """Puts controllers named `names` on `air`. `socket(name)` is where that machine's UART ends; each connection to it
    is a controller that was just switched on, and its end, or the next connection, cuts its power."""

    def __init__(self, air: LossProcess, names: Sequence[str], taps: Mapping[str, Tap], folder: Path) -> None:
        self._link = LossyLink(air.heard, taps, air.rssi)
        self._addresses = {name: address(number) for number, name in enumerate(names, 1)}
        self._folder = folder
        self._servers: list[asyncio.Server] = []
        self._on: dict[str, Any] = {}

    def socket(self, name: str) -> Path:
        return self._folder / f"{name}.uart"

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        for name in self._addresses:
            server = await loop.create_unix_server(lambda name=name: _Uart(self, name), self.socket(name))  # type: ignore[misc]
            self._servers.append(server)

    def close(self) -> None:
        for server in self._servers:
            server.close()
        self._link.close()

    def switch_on(self, name: str, source: Any, sink: Any) -> Any:
        """Return the controller. One of before has a machine that was killed, and whose connection the kernel has not
        ended yet."""
        if before := self._on.get(name):
            self.switch_off(before)
        self._on[name] = LinuxController(
            name, host_source=source, host_sink=sink, link=self._link, public_address=self._addresses[name]
        )
        return self._on[name]

    def switch_off(self, controller: Any) -> None:
        """Cut its power, if it has any."""
        if controller in self._on.values():
            del self._on[controller.name]
            controller.host = None
            controller.le_legacy_advertiser.stop()
            self._link.remove_controller(controller)


def address(number: int) -> str:
    """Return the device address of the machine with this number, 1 to 255: of Raspberry Pi's range, locally
    administered."""
    return f"BA:27:EB:00:00:{number:02X}"


class _Uart(StreamPacketSource):  # type: ignore[misc]
    """H4 packets from one machine."""

    def __init__(self, radio: VirtualRadio, name: str) -> None:
        super().__init__()
        self._radio, self._name = radio, name
        self._controller: Any = None

    def connection_made(self, transport: Any) -> None:
        self._controller = self._radio.switch_on(self._name, self, StreamPacketSink(transport))

    def connection_lost(self, _fault: Exception | None) -> None:
        self._radio.switch_off(self._controller)
