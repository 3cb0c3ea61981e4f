"""The two objects that bluetoothd calls on us (BlueZ doc/agent-api.txt, doc/profile-api.txt)."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Annotated

from dbus_fast import DBusError
from dbus_fast.annotations import DBusDict, DBusObjectPath, DBusSignature, DBusStr, DBusUInt32, DBusUnixFd
from dbus_fast.service import ServiceInterface, dbus_method

Nothing = Annotated[None, DBusSignature("")]
log = logging.getLogger(__name__)


class PairingAgent(ServiceInterface):
    """Answers for people: yes to the devices that `allows` names by address, no to all others."""

    def __init__(self, allows: Callable[[str], bool]) -> None:
        super().__init__("org.bluez.Agent1")
        self._allows = allows

    @dbus_method()
    def Release(self) -> Nothing:  # noqa: N802
        pass

    @dbus_method()
    def RequestConfirmation(self, device: DBusObjectPath, passkey: DBusUInt32) -> Nothing:  # noqa: N802
        self._judge(device, "pair")

    @dbus_method()
    def RequestAuthorization(self, device: DBusObjectPath) -> Nothing:  # noqa: N802
        self._judge(device, "pair")

    @dbus_method()
    def AuthorizeService(self, device: DBusObjectPath, uuid: DBusStr) -> Nothing:  # noqa: N802
        self._judge(device, f"use service {uuid}")

    @dbus_method()
    def Cancel(self) -> Nothing:  # noqa: N802
        pass

    def _judge(self, device: str, what: str) -> None:
        """Raises DBusError, which bluetoothd takes for a no. A path ends as in dev_B8_27_EB_12_34_56."""
        address = device.rpartition("/dev_")[2].replace("_", ":")
        if not self._allows(address):
            log.warning("%s wanted to %s, and is no peer: refused", address, what)
            raise DBusError("org.bluez.Error.Rejected", "no peer of this node")
        log.info("%s may %s", address, what)


class ServiceProfile(ServiceInterface):
    """Takes connections over; `on_connection` owns the socket then."""

    def __init__(self, on_connection: Callable[[socket.socket], None]) -> None:
        super().__init__("org.bluez.Profile1")
        self._on_connection = on_connection

    @dbus_method()
    def Release(self) -> Nothing:  # noqa: N802
        pass

    @dbus_method()
    def NewConnection(self, device: DBusObjectPath, fd: DBusUnixFd, properties: DBusDict) -> Nothing:  # noqa: N802
        log.debug("%s connected", device)
        self._on_connection(socket.socket(fileno=fd))

    @dbus_method()
    def RequestDisconnection(self, device: DBusObjectPath) -> Nothing:  # noqa: N802
        log.debug("%s is to be disconnected", device)
