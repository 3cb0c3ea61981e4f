"""The two objects that bluetoothd calls on us (BlueZ doc/agent-api.txt, doc/profile-api.txt)."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Annotated

from dbus_fast.annotations import DBusDict, DBusObjectPath, DBusSignature, DBusStr, DBusUInt32, DBusUnixFd
from dbus_fast.service import ServiceInterface, dbus_method

Nothing = Annotated[None, DBusSignature("")]
log = logging.getLogger(__name__)


class PairingAgent(ServiceInterface):
    """Says yes to everything that needs no person."""

    def __init__(self) -> None:
        super().__init__("org.bluez.Agent1")

    @dbus_method()
    def Release(self) -> Nothing:  # noqa: N802
        pass

    @dbus_method()
    def RequestConfirmation(self, device: DBusObjectPath, passkey: DBusUInt32) -> Nothing:  # noqa: N802
        log.info("pairing with %s", device)

    @dbus_method()
    def RequestAuthorization(self, device: DBusObjectPath) -> Nothing:  # noqa: N802
        log.info("pairing with %s", device)

    @dbus_method()
    def AuthorizeService(self, device: DBusObjectPath, uuid: DBusStr) -> Nothing:  # noqa: N802
        log.debug("%s uses service %s", device, uuid)

    @dbus_method()
    def Cancel(self) -> Nothing:  # noqa: N802
        pass


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
