"""A connection to D-Bus's system bus, or a sentence on why there is none."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from bt_selfsecure.bearers.base import BearerError

if TYPE_CHECKING:
    from dbus_fast.aio import MessageBus

ANSWER_S: Final = 10.0
"""A bus answers within milliseconds; one that has not by then hangs."""


class SystemBusError(BearerError):
    """Nobody can be asked: there is no bus, it turns us away, or it or bluetoothd hangs."""


async def connect_system_bus() -> MessageBus:
    """Raises `SystemBusError`, and ImportError without dbus-fast."""
    from dbus_fast import BusType
    from dbus_fast.aio import MessageBus
    from dbus_fast.errors import AuthError, DBusError, InvalidAddressError

    try:
        async with asyncio.timeout(ANSWER_S):
            return await MessageBus(bus_type=BusType.SYSTEM, negotiate_unix_fd=True).connect()
    except (AuthError, EOFError, ConnectionResetError, BrokenPipeError) as error:
        if "REJECTED" not in str(error):  # it hung up, or what listens there is no bus
            raise SystemBusError(
                "what answers as the D-Bus system bus does not speak with us: see journalctl -u dbus", transient=True
            ) from error
        raise SystemBusError(
            "the D-Bus system bus turns this user away, as it does what runs in another user namespace: run outside of "
            "the container, or with the host's users (podman --userns=host)",
            transient=True,
        ) from error
    except TimeoutError as error:
        raise SystemBusError(
            f"the D-Bus system bus has not answered in {ANSWER_S:g} s: restart the computer", transient=True
        ) from error
    except OSError as error:
        raise SystemBusError(
            f"there is no D-Bus system bus ({error.strerror or error}): sudo systemctl start dbus bluetooth; in a "
            "container, share the host's /run/dbus",
            transient=True,
        ) from error
    except (DBusError, InvalidAddressError) as error:
        raise SystemBusError(
            f"the D-Bus system bus can't be used ({error}): see $DBUS_SYSTEM_BUS_ADDRESS", transient=True
        ) from error


async def require_system_bus() -> None:
    """Raises as `connect_system_bus`: to be asked before a library that knows no such sentence, and no limit."""
    (await connect_system_bus()).disconnect()
