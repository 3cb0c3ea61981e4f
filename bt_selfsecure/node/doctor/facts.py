"""What the running system says of itself, beyond files: the kernel's sockets, bluetoothd, the WiFi, the clock."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import Any, Final

from bt_selfsecure.bearers.base import BearerError
from bt_selfsecure.bearers.hci import HciSocket, adapter_number
from bt_selfsecure.bearers.system_bus import SystemBusError, connect_system_bus, require_system_bus
from bt_selfsecure.errors import BtSelfSecureError
from bt_selfsecure.isolated import FOLDER, python_module
from bt_selfsecure.node import beacon
from bt_selfsecure.node.beacon import BLUEZ, Word
from bt_selfsecure.node.doctor.findings import NotSeen
from bt_selfsecure.node.management import (
    AdapterSetting,
    Management,
    ManagementError,
    Opcode,
    parse_configuration,
)

HCI_GET_DEVICE_INFO: Final = 0x800448D3
"""ioctl HCIGETDEVINFO (kernel include/net/bluetooth/hci_sock.h); needs no privilege."""
DEVICE_INFO: Final = struct.Struct("=H8s6sIB8s")
"""The head of struct hci_dev_info: number, name, address, flags, bus, LMP features."""
DEVICE_INFO_BYTES: Final = 92
BUSES: Final = {0: "virtual", 1: "USB", 3: "UART", 6: "SDIO"}
LE_SUPERVISION_TIMEOUT: Final = 0x001A
"""In the default system configuration, in units of 10 ms (kernel net/bluetooth/mgmt_config.c)."""
LE_READ_LOCAL_SUPPORTED_FEATURES: Final = 0x2003
ANSWER_S: Final = 10.0
"""For bluetoothd."""
TRIAL_S: Final = 40.0
"""For a trial of its advertising: a Python has to start and to import bluezero, on whatever computer this is."""
TRIAL_PROFILE: Final = "3"
"""`hardened`, as nodes advertise it."""
UNSYNCHRONISED: Final = 5
"""TIME_ERROR, returned by adjtimex(2) while no time service has set the clock."""


@dataclass(frozen=True, slots=True)
class RadioFacts:
    """Holds what the kernel says of an adapter."""

    address: str
    up: bool
    bus: str
    """"USB", "UART", ..."""
    lmp_features: bytes
    """Page 0, eight bytes (Core Vol 2 Part C 3.3); zeros if it was never up."""
    settings: AdapterSetting | None = None
    """Current ones; None if the management interface did not answer."""
    supported: AdapterSetting | None = None
    bluetooth_version: int | None = None
    """HCI_Version of the Assigned Numbers."""
    le_supervision_ms: int | None = None
    """Of the LE links that we make."""
    le_features: bytes | None = None
    """Eight bytes (Core Vol 6 Part B 4.6); None if they could not be read, which needs CAP_NET_RAW."""


@dataclass(frozen=True, slots=True)
class Bluez:
    """Holds what bluetoothd says of an adapter and of a peer."""

    adapter: dict[str, Any] | None
    """Properties of org.bluez.Adapter1; None if it does not know the adapter."""
    peer: dict[str, Any] | None = None
    """Properties of org.bluez.Device1; None if it does not know the peer."""


class BluezAbsent(BtSelfSecureError):  # noqa: N818 - an outcome, not a fault of the program
    """Bluetoothd can't be asked; the text says why."""


class Silent(BluezAbsent):
    """There is no bus to ask it on, or it hangs; the text has the remedy, too."""


class AccessDenied(BluezAbsent):
    """This user can't ask bluetoothd: the bus's policy forbids it."""


def read_radio(adapter: str) -> RadioFacts:
    """Return what the kernel and the controller tell of this adapter. Raises `NotSeen` where there is no such one."""
    if not hasattr(socket, "AF_BLUETOOTH"):
        raise NotSeen("this Python has no Bluetooth sockets")
    if ":" in adapter:
        raise NotSeen(f"no adapter has the address {adapter}")
    info = bytearray(adapter_number(adapter).to_bytes(2, sys.byteorder)).ljust(DEVICE_INFO_BYTES, b"\0")
    try:
        hci = socket.socket(socket.AF_BLUETOOTH, socket.SOCK_RAW, socket.BTPROTO_HCI)
    except OSError as error:
        raise NotSeen("this kernel has no Bluetooth") from error
    with hci:
        try:
            fcntl.ioctl(hci, HCI_GET_DEVICE_INFO, info)
        except OSError as error:
            raise NotSeen(f"there is no {adapter}") from error
    return asyncio.run(_with_more(adapter, parse_device_info(bytes(info))))


def parse_device_info(info: bytes) -> RadioFacts:
    """Return the facts that struct hci_dev_info holds (kernel include/net/bluetooth/hci_sock.h), `DEVICE_INFO_BYTES` of
    them."""
    _, _, address, flags, kind, features = DEVICE_INFO.unpack_from(info)
    bus = kind & 0x0F
    return RadioFacts(
        address=":".join(f"{octet:02X}" for octet in reversed(address)),
        up=bool(flags & 1),
        bus=BUSES.get(bus, f"bus {bus}"),
        lmp_features=features,
    )


async def _with_more(adapter: str, radio: RadioFacts) -> RadioFacts:
    """With what only the management interface and the controller know, as far as they answer."""
    with contextlib.suppress(OSError, BearerError, ManagementError):
        management = Management()
        try:
            if (info := await management.info(adapter_number(adapter))) is not None:
                radio = replace(
                    radio, settings=info.current, supported=info.supported, bluetooth_version=info.bluetooth_version
                )
            answer = await management.command(Opcode.READ_DEFAULT_SYSTEM_CONFIGURATION, adapter_number(adapter))
            timeout = parse_configuration(answer).get(LE_SUPERVISION_TIMEOUT)
            if timeout is not None:
                radio = replace(radio, le_supervision_ms=10 * int.from_bytes(timeout, "little"))
        finally:
            await management.close()
    with contextlib.suppress(BearerError):
        hci = HciSocket(adapter)
        try:
            radio = replace(radio, le_features=await hci.command(LE_READ_LOCAL_SUPPORTED_FEATURES))
        finally:
            hci.close()
    return radio


async def ask_bluez(adapter: str, peer: str | None) -> Bluez:
    """Return what bluetoothd knows of adapter and peer, without starting it. Raises `BluezAbsent`, and `NotSeen` where
    dbus-fast is not installed."""
    try:
        from dbus_fast import Message, MessageFlag, MessageType
        from dbus_fast.unpack import unpack_variants
    except ImportError as error:
        raise NotSeen(f"bluetoothd can't be asked without dbus-fast ({error})") from error
    try:
        bus = await connect_system_bus()
    except SystemBusError as error:
        raise Silent(str(error)) from error
    try:
        question = Message(
            destination=BLUEZ,
            path="/",
            interface=beacon.OBJECT_MANAGER,
            member="GetManagedObjects",
            flags=MessageFlag.NO_AUTOSTART,
        )
        async with asyncio.timeout(ANSWER_S):
            reply = await bus.call(question)
    except TimeoutError as error:
        raise Silent(
            f"the daemon bluetoothd did not answer in {ANSWER_S:g} s: sudo systemctl restart bluetooth"
        ) from error
    except (OSError, EOFError) as error:
        raise BluezAbsent(f"the D-Bus system bus hung up ({error})") from error
    finally:
        bus.disconnect()
    if reply is None or reply.message_type is MessageType.ERROR:
        name = reply.error_name if reply else ""
        if name == "org.freedesktop.DBus.Error.AccessDenied":
            raise AccessDenied("the D-Bus policy does not let this user speak with bluetoothd")
        raise BluezAbsent("the daemon bluetoothd is not running")
    objects = unpack_variants(reply.body[0])
    path = f"/org/bluez/{adapter}"
    return Bluez(
        adapter=objects.get(path, {}).get(beacon.ADAPTER),
        peer=objects.get(f"{path}/dev_{peer.replace(':', '_')}", {}).get("org.bluez.Device1") if peer else None,
    )


async def try_advertising(adapter: str) -> tuple[Word, str]:
    """Advertise as the node does, by its beacon, and say what came of it, with the reason. It ends at once."""
    if ":" in adapter:
        return Word.GONE, f"no adapter has the address {adapter}"
    try:
        await require_system_bus()  # libdbus knows no limit
    except SystemBusError as error:
        return Word.GONE, str(error)
    except ImportError:  # the beacon has another library
        pass
    child = await asyncio.create_subprocess_exec(
        *python_module(beacon.__name__, "--", adapter, socket.gethostname(), TRIAL_PROFILE),
        cwd=FOLDER,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert child.stdout is not None
    try:
        async with asyncio.timeout(TRIAL_S):
            async for line in child.stdout:
                word, _, reason = line.decode(errors="replace").strip().partition(" ")
                if word != Word.STATUS_SERVICE.value:
                    return Word(word), reason
    except TimeoutError:
        return Word.GONE, f"no answer in {TRIAL_S:g} s"
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()
    return Word.GONE, "the beacon ended"


def wifi_frequencies() -> dict[str, int]:
    """Return the frequency in MHz of each WiFi interface that is on a channel now, by its name (nl80211). Raises
    `NotSeen`."""
    try:
        from pyroute2 import IW
        from pyroute2.netlink.exceptions import NetlinkError
    except ImportError as error:
        raise NotSeen(f"the WiFi's channel can't be read without pyroute2 ({error})") from error
    try:
        with IW() as wireless:
            answers = [
                (answer.get_attr("NL80211_ATTR_IFNAME"), answer.get_attr("NL80211_ATTR_WIPHY_FREQ"))
                for answer in wireless.get_interfaces_dump()
            ]
    except (OSError, NetlinkError) as error:
        raise NotSeen(f"the kernel does not tell the WiFi's channel ({error})") from error
    return {name: frequency for name, frequency in answers if name and frequency}


def clock_is_synchronised() -> bool:
    """Return whether a time service keeps this machine's clock (adjtimex(2); struct timex has at most 208 bytes)."""
    state: int = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(256))
    return state != UNSYNCHRONISED


def kernel_log() -> list[str]:
    """Return the kernel's messages since it booted, as far as they are kept. Raises `NotSeen`."""
    lines = b""
    try:
        messages = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return _journal()
    try:
        while True:
            try:
                lines += os.read(messages, 8192)
            except BrokenPipeError:  # that message was overwritten while we read
                continue
    except BlockingIOError:
        return lines.decode(errors="replace").splitlines()
    finally:
        os.close(messages)


def _journal() -> list[str]:
    try:
        asked = subprocess.run(
            ["journalctl", "--dmesg", "--boot", "--quiet", "--no-pager", "--output=cat"],
            cwd=FOLDER,
            capture_output=True,
            timeout=ANSWER_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        asked = None
    if asked is None or not asked.stdout:
        raise NotSeen("the kernel's log is for root and the group adm")
    return asked.stdout.decode(errors="replace").splitlines()
