"""The machine under examination; everything about it is read when a check first asks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from bt_selfsecure.bearers.hci import adapter_addresses
from bt_selfsecure.bearers.places import UdpPlaces
from bt_selfsecure.node.beacon import Word
from bt_selfsecure.node.config import STATE_DIRECTORY
from bt_selfsecure.node.doctor import facts
from bt_selfsecure.node.doctor.facts import Bluez, RadioFacts
from bt_selfsecure.node.doctor.findings import NotSeen
from bt_selfsecure.node.where import SOCKET


class HostSystem:
    """Reads what the checks look at; `root` is where its files are, and sockets are those of the running kernel.
    `adapter` is empty where none is used, and an address where none has it."""

    def __init__(
        self,
        adapter: str = "hci0",
        *,
        peer: str | None = None,
        bearers: Iterable[str] = ("le_advert", "rfcomm"),
        state_directory: Path = STATE_DIRECTORY,
        socket: Path = Path(SOCKET),
        udp: UdpPlaces | None = None,
        through: Iterable[str] = (),
        root: Path = Path("/"),
    ) -> None:
        self.adapter, self.peer, self.root = adapter, peer, root
        self.bearers = tuple(bearers)
        """Those that the node is configured for."""
        self.state_directory = self.path(state_directory)
        self.socket, self.udp, self.through = socket, udp, tuple(through)
        """The last are the peers that the node reaches through others."""

    def path(self, path: str | Path) -> Path:
        """Return where this path lies below the root."""
        return self.root / str(path).lstrip("/")

    def text(self, path: str) -> str | None:
        """Return a file's text, stripped; None where there is no such file. Raises `NotSeen` if only root may read
        it."""
        try:
            return self.path(path).read_text(errors="replace").strip()
        except PermissionError as error:
            raise NotSeen(f"only root can read {path}") from error
        except OSError:
            return None

    def some(self, pattern: str) -> list[Path]:
        """Return the paths below the root that match this pattern, in order."""
        return sorted(self.root.glob(pattern.lstrip("/")))

    @cached_property
    def kernel(self) -> str:
        """Return the kernel's release, as in "6.12.47+rpt-rpi-v8"."""
        return self.text("/proc/sys/kernel/osrelease") or "unknown"

    @cached_property
    def addresses(self) -> dict[str, str]:
        """Return the device addresses of the adapters that there are, by name."""
        return adapter_addresses()

    @cached_property
    def radio(self) -> RadioFacts:
        """Return what the kernel says of the adapter. Raises `NotSeen` where there is none."""
        return facts.read_radio(self.adapter)

    @cached_property
    def bluez(self) -> Bluez:
        """Return what bluetoothd says of adapter and peer. Raises `facts.BluezAbsent`, and `NotSeen`."""
        return asyncio.run(facts.ask_bluez(self.adapter, self.peer))

    @cached_property
    def advertising(self) -> tuple[Word, str]:
        """Return what came of an advertisement by bluetoothd, and the reason."""
        return asyncio.run(facts.try_advertising(self.adapter))

    @cached_property
    def wifi_frequencies(self) -> dict[str, int]:
        """Return the frequency in MHz of each WiFi interface on a channel. Raises `NotSeen`."""
        return facts.wifi_frequencies()

    @cached_property
    def kernel_log(self) -> list[str]:
        """Return the kernel's messages since it booted. Raises `NotSeen`."""
        return facts.kernel_log()
