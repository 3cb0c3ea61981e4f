"""The node's beacon: one LE advertisement and a GATT status service, by bluezero in a process of its own.

bluezero needs GLib's main loop and about as much memory as the daemon, which therefore starts this module as a child
(`python -m bt_selfsecure.node.beacon hci0 NAME PROFILE`), speaks with it in lines, and works without it. The child
knows no secret and ends when its stdin does. In, each answered by one line: `pause`, `resume`. In, not answered:
`status JSON` (what the GATT characteristic shows from now on). Out: the words of `Word`, some with a reason after them.

The advertisement holds one AD structure "Service Data, 128-bit UUID" (Core Supplement Part A 1.11), 28 of the 31 bytes;
the kernel's Flags take the other three. A UUID of our own costs 14 bytes more than a 16-bit one, and needs nobody's
leave. After the UUID come ten bytes:

      0         1         2                                   10
     +---------+---------+-----------------------------------+
     | Version | Profile | Identity                          |
     +---------+---------+-----------------------------------+

`Version` is 1, of these ten bytes and of the protocol behind them; a later one may add bytes, and moves none. `Profile`
is the version nibble of the node's frames (1 `paper`, 3 `hardened`). `Identity` is the first eight bytes of SHA-256
over the six bytes of the device address, in the order in which it is written: whoever knows the address recognises the
node when the controller advertises under another one. It proves nothing: anybody can advertise anything.
"""

from __future__ import annotations

import argparse
import enum
import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

SERVICE_UUID: Final = "6c1fb849-c7fb-4947-986e-49c60d6835f9"
"""Of the service data and of the GATT service."""
STATUS_UUID: Final = "62f7e2f2-10a3-4bc7-ab60-3dcdb3d42327"
"""The characteristic: the node's public status, JSON, readable by anybody."""
VERSION: Final = 1
IDENTITY_BYTES: Final = 8
SERVICE_DATA_BYTES: Final = 2 + IDENTITY_BYTES
LARGEST_STATUS_BYTES: Final = 512
"""Bytes of an attribute's value (Core Vol 3 Part F 3.2.9)."""
LARGEST_NAME_BYTES: Final = 26
"""Bytes of the name in a scan response: of 31, less two of its AD structure and three that the kernel may keep."""

BLUEZ: Final = "org.bluez"
ADAPTER: Final = "org.bluez.Adapter1"
ADVERTISING_MANAGER: Final = "org.bluez.LEAdvertisingManager1"
GATT_MANAGER: Final = "org.bluez.GattManager1"
OBJECT_MANAGER: Final = "org.freedesktop.DBus.ObjectManager"
PROPERTIES: Final = "org.freedesktop.DBus.Properties"
REFUSALS: Final = frozenset(
    f"org.bluez.Error.{name}" for name in ("Failed", "InvalidArguments", "InvalidLength", "NotSupported")
)
"""Answers to RegisterAdvertisement that another try would only repeat. Kernels 6.12.93 and 6.18.34 of Raspberry Pi OS
give the first of them to every advertisement (github.com/raspberrypi/linux/issues/7473)."""


class Word(enum.Enum):
    """Begins a line that the child says."""

    ADVERTISING = "advertising"
    """It is on the air: after the start, and in answer to `resume`."""
    PAUSED = "paused"
    """It is silent: in answer to `pause`."""
    STATUS_SERVICE = "status-service"
    """The GATT service was refused; the advertisement is not touched by that."""
    REFUSED = "refused"
    """bluetoothd does not advertise for us on this kernel. Ends the child."""
    UNAVAILABLE = "unavailable"
    """This Python has no bluezero, dbus or gi. Ends the child."""
    GONE = "gone"
    """No bluetoothd, no adapter, or it is off: later it may work. Ends the child."""


class ServiceData(NamedTuple):
    """Says in ten bytes which protocol a node speaks and who it is; the layout is above."""

    version: int
    profile: int
    identity: bytes


def identity_of(address: str) -> bytes:
    """Return the 8 bytes by which a node is recognised, from its device address "AA:BB:CC:DD:EE:FF"."""
    return hashlib.sha256(bytes.fromhex(address.replace(":", ""))).digest()[:IDENTITY_BYTES]


def encode(data: ServiceData) -> bytes:
    """Return the ten bytes of the layout above."""
    return bytes([data.version, data.profile]) + data.identity


def decode(data: bytes) -> ServiceData | None:
    """Return what the bytes say, or None where they are not ours. Never raises: they come from the air."""
    if len(data) < SERVICE_DATA_BYTES or data[0] < VERSION or (data[0] == VERSION and len(data) > SERVICE_DATA_BYTES):
        return None
    return ServiceData(data[0], data[1], data[2:SERVICE_DATA_BYTES])


def ad_structure(data: ServiceData) -> bytes:
    """Return the whole AD structure, as raw HCI advertises it: length, type 0x21, UUID (little-endian), service
    data."""
    body = b"\x21" + bytes.fromhex(SERVICE_UUID.replace("-", ""))[::-1] + encode(data)
    return bytes([len(body)]) + body


def short_name(name: str) -> str:
    """Return as much of the name as fits the scan response, cut between two characters."""
    return name.encode()[:LARGEST_NAME_BYTES].decode(errors="ignore")


def say(word: Word, reason: str = "") -> None:
    """Send one line to the parent."""
    print(" ".join((word.value, *reason.split())), flush=True)


class Beacon:
    """Registers with bluetoothd what it advertises and serves for us. Lives in GLib's main loop, which `end` leaves.

    bluezero gives the D-Bus objects. They are registered here and not by its managers, which make the adapter
    discoverable over BR/EDR, and print a refusal where we need to act on it.
    """

    def __init__(self, bus: Any, adapter: str, end: Callable[[], None]) -> None:
        self._bus, self._end = bus, end
        self._path = f"/org/bluez/{adapter}"
        self._status = b"{}"

    def start(self, name: str, profile: int) -> None:
        """Register everything with bluetoothd. Raises dbus.DBusException where there is no bluetoothd or adapter."""
        import dbus
        from bluezero import advertisement

        adapter = dbus.Interface(self._bus.get_object(BLUEZ, self._path), PROPERTIES)
        if not adapter.Get(ADAPTER, "Powered"):
            self._leave(Word.GONE, "the adapter is off")
            return
        identity = identity_of(str(adapter.Get(ADAPTER, "Address")))
        self._advertisement = advertisement.Advertisement(1, "peripheral")
        self._advertisement.service_data = {SERVICE_UUID: list(encode(ServiceData(VERSION, profile, identity)))}
        self._advertisement.local_name = short_name(name)
        self._watch()
        self._serve()
        self.resume()

    def resume(self) -> None:
        self._manager(ADVERTISING_MANAGER).RegisterAdvertisement(
            self._advertisement.get_path(),
            {},
            signature="oa{sv}",
            reply_handler=lambda: say(Word.ADVERTISING),
            error_handler=self._refused,
        )

    def pause(self) -> None:
        self._manager(ADVERTISING_MANAGER).UnregisterAdvertisement(
            self._advertisement.get_path(),
            reply_handler=lambda: say(Word.PAUSED),
            error_handler=lambda error: self._leave(Word.GONE, str(error)),
        )

    def show(self, status: bytes) -> None:
        """Give the characteristic this value from now on."""
        self._status = status[:LARGEST_STATUS_BYTES]

    def _manager(self, interface: str) -> Any:
        import dbus

        return dbus.Interface(self._bus.get_object(BLUEZ, self._path), interface)

    def _refused(self, error: Any) -> None:
        self._leave(Word.REFUSED if error.get_dbus_name() in REFUSALS else Word.GONE, str(error))

    def _leave(self, word: Word, reason: str) -> None:
        say(word, reason)
        self._end()

    def _watch(self) -> None:
        """End with bluetoothd, with the adapter, and when it goes off: our registration went with them."""

        def owner_changed(owner: str) -> None:
            if not owner:
                self._leave(Word.GONE, "bluetoothd ended")

        def removed(path: str, _interfaces: object) -> None:
            if path == self._path:
                self._leave(Word.GONE, "the adapter was removed")

        def changed(_interface: str, values: dict[str, Any], _invalidated: object) -> None:
            if not values.get("Powered", True):
                self._leave(Word.GONE, "the adapter went off")

        self._bus.watch_name_owner(BLUEZ, owner_changed)
        self._bus.add_signal_receiver(removed, "InterfacesRemoved", OBJECT_MANAGER)
        self._bus.add_signal_receiver(changed, "PropertiesChanged", PROPERTIES, path=self._path, arg0=ADAPTER)

    def _serve(self) -> None:
        """The GATT status service."""
        from bluezero import localGATT

        def read(options: dict[str, Any]) -> list[int]:
            return list(self._status[options.get("offset", 0) :])

        self._application = localGATT.Application()
        self._application.add_managed_object(localGATT.Service(1, SERVICE_UUID, True))
        self._application.add_managed_object(
            localGATT.Characteristic(1, 1, STATUS_UUID, [], False, ["read"], read_callback=read)
        )
        self._manager(GATT_MANAGER).RegisterApplication(
            self._application.get_path(),
            {},
            signature="oa{sv}",
            reply_handler=lambda: None,
            error_handler=lambda error: say(Word.STATUS_SERVICE, str(error)),
        )


def obey(beacon: Beacon, line: str) -> None:
    """Do what one line of the parent asks; a line that is no command is passed over."""
    command, _, rest = line.partition(" ")
    match command:
        case "pause":
            beacon.pause()
        case "resume":
            beacon.resume()
        case "status":
            beacon.show(rest.encode())


def main(arguments: Sequence[str] | None = None) -> int:
    """Advertise until stdin ends. Returns 0 then, 1 if it ended for a reason that was said."""
    parser = argparse.ArgumentParser(prog="bt-selfsecure-beacon", description="advertise a node; started by the daemon")
    parser.add_argument("adapter")
    parser.add_argument("name")
    parser.add_argument("profile", type=int)
    args = parser.parse_args(arguments)
    try:
        import bluezero.localGATT  # noqa: F401 - is it all here? It brings dbus and GLib's main loop into play
        import dbus
        from gi.repository import GLib
    except ImportError as error:
        say(Word.UNAVAILABLE, str(error))
        return 1
    loop = GLib.MainLoop()
    said = 0

    def end() -> None:
        nonlocal said
        said = 1
        loop.quit()

    try:
        beacon = Beacon(dbus.SystemBus(), args.adapter, end)
        beacon.start(args.name, args.profile)
    except dbus.DBusException as error:
        say(Word.GONE, str(error))
        return 1
    if said:
        return 1
    lines = b""

    def hear(stdin: int, _condition: object) -> bool:
        nonlocal lines
        data = os.read(stdin, 4096)
        *whole, lines = (lines + data).split(b"\n")
        for line in whole:
            obey(beacon, line.decode(errors="replace"))
        if not data:
            loop.quit()
        return bool(data)

    GLib.io_add_watch(sys.stdin.fileno(), GLib.PRIORITY_DEFAULT, GLib.IO_IN | GLib.IO_HUP, hear)
    loop.run()
    return said


if __name__ == "__main__":
    sys.exit(main())
