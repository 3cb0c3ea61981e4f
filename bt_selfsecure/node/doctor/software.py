"""Checks of the software: Python, kernel modules, BlueZ, D-Bus, privileges, pairing."""

from __future__ import annotations

import ctypes
import re
import socket
import subprocess
import sys
from typing import Final

from bt_selfsecure.node.doctor.facts import AccessDenied, BluezAbsent, Silent
from bt_selfsecure.node.doctor.findings import Finding, NotSeen, failure, ok, warning
from bt_selfsecure.node.doctor.host_system import HostSystem
from bt_selfsecure.node.management import AdapterSetting

NEEDED_MODULES: Final = ("bluetooth", "rfcomm")
WANTED_MODULES: Final = {"hci_uart": "a Pi's onboard radio", "bluetooth_6lowpan": "the ipsp bearer"}
BLUETOOTHD: Final = ("/usr/libexec/bluetooth/bluetoothd", "/usr/lib/bluetooth/bluetoothd", "/usr/sbin/bluetoothd")
OLDEST_BLUEZ: Final = (5, 66)
CAPABILITIES: Final = {
    13: ("CAP_NET_RAW", "le_advert, and the flush timeout of l2cap"),
    12: ("CAP_NET_ADMIN", "recovering the adapter"),
}
"""By bit (capabilities(7)): the name, and what in the node needs it."""
FAULTY_KERNEL: Final = re.compile(r"\b6\.1\.192\b")
"""Frees twice what belongs to an L2CAP connection that could not be made (Debian 6.1.0-56; 6.1.176 is sound)."""


def sockets(system: HostSystem) -> Finding:
    """Look whether Python and kernel have Bluetooth sockets; users of pyenv, conda and uv meet this first."""
    version = f"Python {'.'.join(map(str, sys.version_info[:3]))}"
    if not hasattr(socket, "AF_BLUETOOTH"):
        return failure(
            f"{version} at {sys.executable} lacks AF_BLUETOOTH.",
            "Run with /usr/bin/python3, or build Python where libbluetooth-dev is installed.",
        )
    try:
        socket.socket(socket.AF_BLUETOOTH, socket.SOCK_RAW, socket.BTPROTO_HCI).close()
    except OSError as error:
        return failure(
            f"{version} has AF_BLUETOOTH, but the kernel refuses: {error.strerror}.",
            "sudo modprobe bluetooth. In a container: use the host's network namespace.",
        )
    return ok(f"{version} and the kernel have AF_BLUETOOTH.")


def modules(system: HostSystem) -> Finding:
    """Look whether the kernel's modules are loaded, built in, or there to be loaded."""
    folder = f"/lib/modules/{system.kernel}"
    loaded = {line.split()[0] for line in (system.text("/proc/modules") or "").splitlines()}
    there = loaded | {
        re.split(r"[.:]", line)[0].rpartition("/")[2].replace("-", "_")
        for table in ("modules.dep", "modules.builtin")
        for line in (system.text(f"{folder}/{table}") or "").splitlines()
    }
    if missing := [name for name in NEEDED_MODULES if name not in there]:
        return failure(
            f"{' and '.join(missing)}: not in the kernel {system.kernel}, nor in {folder}.",
            "After a kernel upgrade: reboot. Else take a kernel with Bluetooth, as that of Raspberry Pi OS.",
        )
    if missing := [name for name in WANTED_MODULES if name not in there]:
        return warning(
            "; ".join(f"{name}, which {WANTED_MODULES[name]} needs, is missing" for name in missing) + ".",
            "After a kernel upgrade: reboot. Else take a kernel with it, as that of Raspberry Pi OS, or do without.",
        )
    names = (*NEEDED_MODULES, *WANTED_MODULES)
    resting = [name for name in names if name not in loaded]
    return ok(f"{', '.join(names)}" + (f"; not loaded yet: {', '.join(resting)}." if resting else ": loaded."))


def bluez(system: HostSystem) -> Finding:
    """Look which bluetoothd is installed, by asking its file, whether it runs or not."""
    found = next((system.path(path) for path in BLUETOOTHD if system.path(path).exists()), None)
    if found is None:
        return failure("bluetoothd is not installed.", "sudo apt install bluez")
    try:
        said = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
        major, minor = re.findall(r"\d+", said)[:2]
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise NotSeen(f"bluetoothd does not tell its version ({error})") from error
    if (int(major), int(minor)) < OLDEST_BLUEZ:
        return warning(
            f"BlueZ {major}.{minor} is older than any that this was tried with.",
            "Upgrade to Debian 12 (BlueZ 5.66) or later.",
        )
    if system.some("/usr/lib/systemd/system/bthelper@.service") or system.some("/lib/systemd/system/bthelper@.service"):
        return ok(f"BlueZ {major}.{minor}. pi-bluetooth's bthelper power-cycles the adapter some 5 s after boot.")
    return ok(f"BlueZ {major}.{minor}.")


def capabilities(system: HostSystem) -> Finding:
    """Look what this process may do; the node's own capabilities come from its systemd unit."""
    status = system.text("/proc/self/status") or ""
    effective = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    if effective is None:
        raise NotSeen("/proc/self/status tells no capabilities")
    bits = int(effective[1], 16)
    missing = [names for bit, names in CAPABILITIES.items() if not bits >> bit & 1]
    if missing:
        return warning(
            "This shell lacks " + " and ".join(f"{name} ({what})" for name, what in missing) + ".",
            "Nothing to do for the node as a systemd service. Else run it, and the doctor, with sudo.",
        )
    return ok("CAP_NET_RAW and CAP_NET_ADMIN are there.")


def dbus(system: HostSystem) -> Finding:
    """Look whether bluetoothd answers, and manages the adapter."""
    try:
        answer = system.bluez
    except AccessDenied as error:
        return failure(_sentence(error), "sudo usermod -aG bluetooth $USER, and log in anew.")
    except Silent as error:
        text, _, remedy = _sentence(error).partition(": ")
        return failure(f"{text}.", remedy)
    except BluezAbsent as error:
        return failure(
            _sentence(error),
            "sudo systemctl enable --now bluetooth. If it was skipped for want of /sys/class/bluetooth: start it now.",
        )
    if answer.adapter is None:
        return failure(
            f"bluetoothd runs, and knows no {system.adapter}.",
            "If there is one (see the adapter's line): sudo systemctl restart bluetooth",
        )
    return ok(f"bluetoothd answers, and manages {system.adapter}.")


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[0].upper()}{text[1:]}."


def pairing(system: HostSystem) -> Finding:
    """Look how two nodes will pair, and whether they have."""
    settings = system.radio.settings
    if settings is None:
        raise NotSeen("the kernel's management interface does not answer")
    if AdapterSetting.BREDR not in settings:
        return ok(f"{system.adapter} has BR/EDR off: nothing is paired.")
    if AdapterSetting.SSP not in settings:
        return warning(
            "Secure Simple Pairing is off: links are neither paired nor encrypted by the radio.",
            "sudo btmgmt ssp on",
        )
    how = "Secure Simple Pairing" + (", Secure Connections" if AdapterSetting.SECURE_CONNECTIONS in settings else "")
    return ok(f"{how}. The node answers pairing requests itself (an agent of its own).{_peer(system)}")


def _peer(system: HostSystem) -> str:
    if system.peer is None:
        return ""
    try:
        known = system.bluez.peer
    except (BluezAbsent, NotSeen):
        return ""
    if known is None:
        return f" {system.peer} is not known yet."
    return f" {system.peer} is {'paired' if known.get('Paired') else 'known, not paired'}."


def python(system: HostSystem) -> Finding:
    """Look whether ctypes reaches the C library: by it goes what of the kernel's addresses Python can't name."""
    try:
        ctypes.CDLL(None).bind  # noqa: B018 - is it there?
    except (OSError, AttributeError) as error:
        return failure(
            f"ctypes can't reach the C library ({error}): no HCI channels, no LE L2CAP.", "Run with /usr/bin/python3."
        )
    if sys.version_info >= (3, 14):
        return ok("Python names LE L2CAP addresses and HCI channels itself (3.14 and later).")
    return ok("LE L2CAP addresses and HCI channels by ctypes (Python names them from 3.14 on).")


def kernel(system: HostSystem) -> Finding:
    """Look whether this kernel is one that is known to corrupt its memory."""
    version = system.text("/proc/version") or ""
    if FAULTY_KERNEL.search(version):
        return failure(
            "This kernel, 6.1.192, kills the node when a peer that it dials is away, and Bluetooth with it.",
            "Boot another: apt list -a linux-image-amd64 shows which there are; 6.1.176 is sound.",
        )
    return ok(f"No known fault of Linux {system.kernel} concerns the node.")
