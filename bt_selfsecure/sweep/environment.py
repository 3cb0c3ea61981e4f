"""What a node can tell about itself and its environment: the notes that nobody has to take."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Awaitable, Callable
from typing import Any, Final

from bt_selfsecure import __version__
from bt_selfsecure.errors import BtSelfSecureError
from bt_selfsecure.node.client import NodeClient
from bt_selfsecure.node.doctor.findings import NotSeen
from bt_selfsecure.node.doctor.host_system import HostSystem

TEMPERATURE: Final = "/sys/class/thermal/thermal_zone0/temp"
WIRELESS: Final = "/sys/class/net/*/phy80211"
MODEL: Final = "/proc/device-tree/model"
FIRMWARE: Final = ("BCM: firmware", "Patch", "hci0: BCM")
"""In the kernel's log, of a Pi's chip."""


def facts(system: HostSystem, client: NodeClient | None) -> dict[str, Any]:
    """Return what can be seen; what can't is left out. No address is in it."""
    found: dict[str, Any] = {
        "version": __version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
    }
    if model := system.text(MODEL):
        found["machine"] = model.rstrip("\0\n")
    if temperature := system.text(TEMPERATURE):
        found["temperature_c"] = int(temperature) / 1000
    for look in (_radio, _wifi, _firmware):
        try:
            found |= look(system)
        except NotSeen:
            continue
    if client:
        found |= _node(client)
    return found


def facts_of(system: HostSystem, client: NodeClient | None) -> Callable[[], Awaitable[dict[str, Any]]]:
    """Return what gives the same to an agent, which must not be held up."""
    return lambda: asyncio.to_thread(facts, system, client)


def _radio(system: HostSystem) -> dict[str, Any]:
    radio = system.radio
    return {
        "bus": radio.bus,
        "bluetooth_version": radio.bluetooth_version,
        "le_features": radio.le_features.hex() if radio.le_features else None,
    }


def _wifi(system: HostSystem) -> dict[str, Any]:
    if not system.some(WIRELESS):  # where the kernel knows no wireless, pyroute2 0.9 leaves an event loop open
        return {"wifi_mhz": {}}
    return {"wifi_mhz": system.wifi_frequencies}


def _firmware(system: HostSystem) -> dict[str, Any]:
    lines = [line for line in system.kernel_log if "Bluetooth" in line and any(word in line for word in FIRMWARE)]
    return {"firmware": [line.partition("Bluetooth: ")[2] for line in lines[-3:]]}


def _node(client: NodeClient) -> dict[str, Any]:
    try:
        peers = client.peers()
    except BtSelfSecureError:
        return {}
    return {"peers_rssi": {peer["name"]: peer["rssi"] for peer in peers if peer["rssi"] is not None}}
