"""Checks of what is around the radio: WiFi, debugfs, the clock, the disk."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

from bt_selfsecure.node.doctor import facts
from bt_selfsecure.node.doctor.findings import Finding, NotSeen, ok, warning
from bt_selfsecure.node.doctor.host_system import HostSystem

WRITES: Final = 20
LONGEST_MEASUREMENT_S: Final = 1.5
SLOW_FSYNC_MS: Final = 30.0
"""A session with durability every-message then does at most some 30 messages a second."""


def wifi(system: HostSystem) -> Finding:
    """Look whether WiFi is in Bluetooth's band: on a Pi one antenna serves both, and they take turns, badly."""
    interfaces = {path.parent.name for path in system.some("/sys/class/net/*/phy80211")}
    if not interfaces:
        return ok("No WiFi.")
    on_air = {name: mhz for name, mhz in system.wifi_frequencies.items() if name in interfaces}
    if crowded := [f"{name} ({mhz} MHz)" for name, mhz in on_air.items() if mhz < 3000]:
        return warning(
            f"WiFi shares the 2.4 GHz band with Bluetooth: {', '.join(sorted(crowded))}.",
            "Use Ethernet or a 5 GHz network. While measuring: sudo rfkill block wlan.",
        )
    where = ", ".join(f"{name} at {mhz} MHz" for name, mhz in sorted(on_air.items()))
    return ok(f"WiFi {where}: not in Bluetooth's band." if where else "WiFi is not connected.")


def debugfs(system: HostSystem) -> Finding:
    """Look whether debugfs is mounted and open: ipsp is switched on there and nowhere else."""
    mounts = [line.split() for line in (system.text("/proc/mounts") or "").splitlines()]
    if not any(len(mount) > 2 and mount[2] == "debugfs" for mount in mounts):
        return warning("debugfs is not mounted: no ipsp.", "sudo mount -t debugfs none /sys/kernel/debug")
    lockdown = system.text("/sys/kernel/security/lockdown") or "[none]"
    if "[none]" not in lockdown:
        return warning(f"The kernel is locked down ({lockdown}), debugfs with it: no ipsp.", "Boot without lockdown=.")
    return ok("debugfs is mounted, and the kernel is not locked down.")


def clock(system: HostSystem) -> Finding:
    """Look whether the clock is kept: the protocol does without the time of day, logs and sweeps do not."""
    fake = bool(system.some("/etc/fake-hwclock.data"))
    if not facts.clock_is_synchronised():
        return warning(
            "The clock is not synchronised" + (", and after a boot it jumps (fake-hwclock)." if fake else "."),
            "For a sweep with several machines: sudo timedatectl set-ntp true. The keys do not depend on it.",
        )
    return ok("The clock is synchronised" + (", and jumps after a boot (fake-hwclock)." if fake else "."))


def disk(system: HostSystem) -> Finding:
    """Measure an fsync where the journal is, or as near to it as this user may write."""
    places = (system.state_directory, *system.state_directory.parents, system.path("/var/tmp"))
    place = next((path for path in places if path.is_dir() and os.access(path, os.W_OK)), None)
    if place is None:
        raise NotSeen(f"{system.state_directory} is not ours to write")
    milliseconds = sorted(_fsyncs(place))
    middle, longest = statistics.median(milliseconds), milliseconds[-1]
    figures = f"fsync in {place}: median {middle:.2f} ms, longest of {len(milliseconds)} {longest:.2f} ms."
    if middle > SLOW_FSYNC_MS:
        return warning(figures, 'Set durability = "every-W" under [session], or put state_directory on a faster disk.')
    return ok(figures)


def _fsyncs(place: Path) -> list[float]:
    """Milliseconds of writing 4 KiB and fsync, as a commit of the journal does; nothing is left behind."""
    taken: list[float] = []
    with tempfile.TemporaryFile(dir=place) as file:
        while len(taken) < WRITES and sum(taken) < 1000 * LONGEST_MEASUREMENT_S:
            began = time.perf_counter()
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
            taken.append(1000 * (time.perf_counter() - began))
    return taken
