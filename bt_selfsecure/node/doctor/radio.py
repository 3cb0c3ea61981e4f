"""Checks of the radio: its switch, address, attachment, features, what it does when asked, and its neighbours."""

from __future__ import annotations

import re
from typing import Final

from bt_selfsecure.node.beacon import Word
from bt_selfsecure.node.doctor.findings import Finding, NotSeen, failure, ok, warning
from bt_selfsecure.node.doctor.host_system import HostSystem
from bt_selfsecure.node.fitness import NEEDED, misfits

UNPROGRAMMED: Final = re.compile(r"AA:AA:AA:AA:AA:AA|43:4[35]:.*|00:00:00:00:00:00")
"""Addresses of Broadcom chips whose own is not set (and of none): several boards have the same."""
UART_TROUBLE: Final = re.compile(r"Frame reassembly failed|tx timeout|hardware error|Out-of-order packet")
BLUEZERO_PACKAGES: Final = ("python3-venv", "python3-dbus", "python3-gi", "python3-cairo")
"""Debian's, without which pip would have to compile what bluezero needs."""
BAD_KERNELS: Final = "6.12.93 and 6.18.34"
VERSIONS: Final = {6: "4.0", 7: "4.1", 8: "4.2", 9: "5.0", 10: "5.1", 11: "5.2", 12: "5.3", 13: "5.4", 14: "6.0"}
"""HCI_Version (Assigned Numbers 2.1)."""
SHORTEST_SUPERVISION_MS: Final = 720
"""At this no link of 1850 was lost in a published trial over 23 cm, at the kernel's 420 ms 50 were."""
USB_RADIOS: Final = {
    "1915:522a": "nRF Sniffer for Bluetooth LE",
    "1d50:6002": "Ubertooth One",
    "0451:bef3": "TI LaunchPad (Sniffle)",
    "0451:16ae": "TI CC2531",
    "0d28:0204": "micro:bit (Btlejack)",
    "0a12:0001": "CSR8510 dongle",
    "0bda:8771": "RTL8761B dongle",
    "0b05:190e": "RTL8761B dongle",
    "2357:0604": "RTL8761B dongle",
}


def switch(system: HostSystem) -> Finding:
    """Look whether rfkill blocks the adapter; on first boots of Raspberry Pi OS that is often the whole fault."""
    states = []
    for entry in system.some("/sys/class/rfkill/rfkill*"):
        values = {
            name: system.text(f"/sys/class/rfkill/{entry.name}/{name}") for name in ("type", "name", "soft", "hard")
        }
        if values["type"] == "bluetooth":
            states.append(values)
    ours = [state for state in states if state["name"] == system.adapter or not str(state["name"]).startswith("hci")]
    if any(state["hard"] == "1" for state in ours):
        return failure("Bluetooth is blocked by a hardware switch.", "Turn it on there, or in the firmware's set-up.")
    if any(state["soft"] == "1" for state in ours):
        return failure("Bluetooth is blocked by rfkill.", "sudo rfkill unblock bluetooth")
    return ok("Not blocked." if ours else "There is no radio switch for Bluetooth.")


def adapter(system: HostSystem) -> Finding:
    """Look whether the adapter is there, is on, and has an address of its own."""
    others = [path.name for path in system.some("/sys/class/bluetooth/hci*") if re.fullmatch(r"hci\d+", path.name)]
    if system.adapter not in others:
        absent = f"No adapter has the address {system.adapter}" if ":" in system.adapter else None
        absent = absent or f"There is no {system.adapter}"
        if others:
            addresses = system.addresses
            here = ", ".join(f"{name} is {addresses[name]}" if name in addresses else name for name in others)
            return failure(
                f"{absent}, but {here}.",
                f"Plug it in, or set [node] adapter to the one that is meant; --adapter {others[0]} looks at that one.",
            )
        return failure(
            f"{absent}.",
            "On a Pi: no dtoverlay=disable-bt in /boot/firmware/config.txt, bluez-firmware installed, then reboot; "
            "see dmesg | grep -i bluetooth. Else: plug in a USB adapter, or begin with virtual Pis: "
            "bt-selfsecure lab --help",
        )
    radio = system.radio
    if UNPROGRAMMED.fullmatch(radio.address):
        return failure(
            f"{system.adapter} has the address {radio.address}, which is nobody's own: another Pi may have it too.",
            "Give it one: sudo btmgmt --index N public-addr B8:27:EB:xx:xx:xx, with digits of this board's serial.",
        )
    if system.peer == radio.address:
        return failure(
            f"{system.adapter} and the peer have the same address, {radio.address}.",
            "Name the peer's own address; if they really are equal, set another by sudo btmgmt public-addr.",
        )
    if not radio.up:
        return failure(f"{system.adapter} ({radio.address}) is off.", "bluetoothctl power on")
    return ok(f"{system.adapter} is {radio.address}, on {radio.bus}, and up.")


def uart(system: HostSystem) -> Finding:
    """Look at speed and flow control of an adapter on a UART, and for its faults in the kernel's log."""
    if system.radio.bus != "UART":
        return ok(f"{system.adapter} is on {system.radio.bus}, not on a UART.")
    how = _uart(system)
    try:
        log = system.kernel_log
    except NotSeen as reason:
        raise NotSeen(f"{how} Its faults: {reason}.") from reason
    faults = [line for line in log if system.adapter in line and UART_TROUBLE.search(line)]
    if faults:
        last = re.sub(r"^.*(?=Bluetooth)", "", faults[-1])
        return warning(
            f"{how} Faults in the kernel's log: {len(faults)}, the last: {last}",
            "dtparam=krnbt_baudrate=921600 in /boot/firmware/config.txt and reboot; a good power supply.",
        )
    return ok(f"{how} No fault of it in the kernel's log.")


def _uart(system: HostSystem) -> str:
    """Speed and flow control, from the device tree or from the program that attached the chip."""
    node = f"/sys/class/bluetooth/{system.adapter}/device/of_node"
    speed = system.path(f"{node}/max-speed")
    if speed.exists():
        flow = any(system.path(f"{node}{up}/uart-has-rtscts").exists() for up in ("", "/.."))
        return f"{int.from_bytes(speed.read_bytes(), 'big')} Bd, {'with' if flow else 'without'} flow control."
    for command in system.some("/proc/[0-9]*/cmdline"):
        words = (system.text(f"/proc/{command.parent.name}/cmdline") or "").strip("\0").split("\0")
        if words[0].rpartition("/")[2] in ("btattach", "hciattach"):
            return f"Attached by: {' '.join(words)}."
    return "Its speed is not told."


def advertising(system: HostSystem) -> Finding:
    """Try to advertise, and infer nothing: release numbers of patched kernels tell little."""
    word, reason = system.advertising
    match word:
        case Word.ADVERTISING:
            return ok("bluetoothd advertises the node (tried).")
        case Word.REFUSED:
            return warning(
                f"bluetoothd refuses to advertise ({reason}) on the kernel {system.kernel}; "
                f"{BAD_KERNELS} of Raspberry Pi OS are known for it.",
                "Upgrade the kernel (6.18.37 is well) or BlueZ (5.87). The node advertises by raw HCI until then.",
            )
        case Word.UNAVAILABLE:
            return warning(
                f"bluezero is not usable ({reason}), so the node advertises by raw HCI.",
                f"sudo apt install {' '.join(BLUEZERO_PACKAGES)}; then, in an environment made by python3 -m venv "
                "--system-site-packages: pip install bluezero.",
            )
        case _:
            raise NotSeen(f"advertising could not be tried: {reason}")


def features(system: HostSystem) -> Finding:
    """Look what the chip can do; "Bluetooth 5.0" on a Pi is the feature set of 4.2."""
    radio = system.radio
    lmp = int.from_bytes(radio.lmp_features, "little")
    if not lmp:
        raise NotSeen(f"{system.adapter} has not been up yet, so its features are not known")
    version = VERSIONS.get(radio.bluetooth_version or 0, "?")
    if not lmp >> 38 & 1:
        return failure(f"Bluetooth {version} without LE: no le_advert.", "Use an adapter with LE, 4.0 or later.")
    if lmp >> 37 & 1:
        return warning(
            f"Bluetooth {version}, LE only: no rfcomm, no l2cap.", "Use le_advert and ipsp, or another adapter."
        )
    if not lmp >> 54 & 1:
        return warning(
            f"Bluetooth {version} without non-flushable packets: losses can't be shown over l2cap.",
            "Establish over le_advert.",
        )
    return ok(f"Bluetooth {version}, BR/EDR with flushable packets, LE{_le(radio.le_features)}.")


def _le(features: bytes | None) -> str:
    if features is None:
        return " (its features need CAP_NET_RAW to be read)"
    bits = int.from_bytes(features, "little")
    names = {5: "data length extension", 8: "2M", 11: "Coded", 12: "extended advertising"}
    has = [name for bit, name in names.items() if bits >> bit & 1]
    lacks = [name for bit, name in names.items() if not bits >> bit & 1]
    return (f" with {', '.join(has)}" if has else "") + (f"; no {', no '.join(lacks)}" if lacks else "")


def bearers(system: HostSystem) -> Finding:
    """Look whether the adapter has on what the configured bearers need."""
    needed = sorted(NEEDED.keys() & system.bearers)
    if not needed:
        return ok("No bearer of the configuration takes a radio.")
    radio = system.radio
    if radio.settings is None or radio.supported is None:
        raise NotSeen("the kernel's management interface does not answer")
    if not radio.up:
        raise NotSeen(f"{system.adapter} is off")
    if found := list(misfits(system.bearers, system.adapter, radio.supported, radio.settings)):
        what, remedies = zip(*(misfit.split(": ", 1) for misfit in found), strict=True)
        return failure("; ".join(what) + ".", "; ".join(dict.fromkeys(remedies)))
    return ok(f"{system.adapter} has what {' and '.join(needed)} need.")


def supervision(system: HostSystem) -> Finding:
    """Look how long an LE link of ours outlives a silence."""
    timeout = system.radio.le_supervision_ms
    if timeout is None:
        raise NotSeen("the kernel does not tell its LE supervision timeout")
    if timeout < SHORTEST_SUPERVISION_MS:
        return warning(
            f"LE links, which ipsp uses, are given up after {timeout} ms of silence.",
            "Under [LE] in /etc/bluetooth/main.conf: ConnectionSupervisionTimeout=200 (2 s); restart bluetooth.",
        )
    return ok(f"LE links outlive {timeout} ms of silence.")


def neighbours(system: HostSystem) -> Finding:
    """Look for a second radio or a sniffer, which an Eve of one's own needs."""
    found = []
    for device in system.some("/sys/bus/usb/devices/*"):
        vendor, product = (
            system.text(f"/sys/bus/usb/devices/{device.name}/{name}") for name in ("idVendor", "idProduct")
        )
        if name := USB_RADIOS.get(f"{vendor}:{product}"):
            found.append(f"{name} (USB {device.name})")
    found += [
        path.name
        for path in system.some("/sys/class/bluetooth/hci*")
        if re.fullmatch(r"hci\d+", path.name) and path.name != system.adapter
    ]
    return ok(f"{', '.join(found)}." if found else "No second radio and no known sniffer; none is needed.")
