"""What the kernel's error numbers mean, on Bluetooth sockets unless others are given, and what to do about each."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping
from typing import Final, NamedTuple

from bt_selfsecure.bearers.base import BearerError, LinkClosedError


class Meaning(NamedTuple):
    """Says what an error number means, and what to do."""

    text: str
    transient: bool
    """Whether it is worth trying again after a while."""


BLUETOOTH: Final[Mapping[int, Meaning]] = {
    errno.EHOSTDOWN: Meaning("it does not answer: switch it on, bring it nearer, make it connectable", True),
    errno.ECONNREFUSED: Meaning("nobody listens there: start bt-selfsecure on it, with the same bearer", True),
    errno.EBUSY: Meaning("a connection to it is just being made: try again", True),
    errno.EALREADY: Meaning("a connection to it is just being made: try again", True),
    errno.ETIMEDOUT: Meaning("it stopped answering: bring it nearer", True),
    errno.ECONNRESET: Meaning("the other end closed the connection", True),
    errno.EPIPE: Meaning("the other end closed the connection", True),
    errno.ENOTCONN: Meaning("the connection is over", True),
    errno.ENOLINK: Meaning("the link broke", True),
    errno.ECONNABORTED: Meaning("pairing was refused: see that bt-selfsecure runs on both", True),
    errno.EACCES: Meaning("pairing failed: forget it on both sides (bluetoothctl remove ADDRESS)", True),
    errno.EBADE: Meaning("it has lost the link key: forget it on both sides (bluetoothctl remove ADDRESS)", True),
    errno.EPERM: Meaning("it takes the capabilities CAP_NET_RAW and CAP_NET_ADMIN, as the service has", False),
    errno.EBADFD: Meaning("the socket was used before: a fault of this program, please report it", False),
    errno.EHOSTUNREACH: Meaning("the adapter is down: bluetoothctl power on", True),
    errno.ENETDOWN: Meaning("the adapter is down: bluetoothctl power on", True),
    errno.ENODEV: Meaning("there is no such adapter: see bluetoothctl list, and dmesg | grep -i bluetooth", True),
    errno.EADDRNOTAVAIL: Meaning("there is no such adapter: see bluetoothctl list", True),
    errno.ERFKILL: Meaning("the radio is blocked: rfkill unblock bluetooth", True),
    errno.EADDRINUSE: Meaning("another program listens on it already: end that one, or take another number", True),
    errno.EAFNOSUPPORT: Meaning("this kernel has no Bluetooth (as in a container): modprobe bluetooth", False),
    errno.EPROTONOSUPPORT: Meaning("the kernel lacks the protocol: modprobe rfcomm", False),
    errno.EMSGSIZE: Meaning("the other end takes only shorter datagrams", False),
    errno.EOPNOTSUPP: Meaning("the adapter can't do that", False),
    errno.ENOMEM: Meaning("the kernel is out of memory for it", True),
}


ABORTED: Final = "this computer cut it, as when its adapter is switched off: bluetoothctl power on"


def fault(error: OSError, doing: str, meanings: Mapping[int, Meaning] = BLUETOOTH) -> BearerError:
    """Return the error as a sentence: "DOING: what it means: remedy"."""
    text, transient = _say(error, doing, meanings)
    return BearerError(text, transient=transient)


def closed(error: OSError, peer: str) -> LinkClosedError:
    """Do the same for a link that has worked until now: nobody refuses to pair any more."""
    if error.errno == errno.ECONNABORTED:
        return LinkClosedError(f"the link to {peer} ended: {ABORTED}", transient=True)
    text, transient = _say(error, f"the link to {peer} ended", BLUETOOTH)
    return LinkClosedError(text, transient=transient)


def _say(error: OSError, doing: str, meanings: Mapping[int, Meaning]) -> tuple[str, bool]:
    if isinstance(error, TimeoutError) and error.errno is None:
        error = OSError(errno.ETIMEDOUT, "timed out")
    meaning = meanings.get(error.errno or 0)
    if meaning is None:
        return f"{doing}: {error.strerror or error}", True
    return f"{doing}: {meaning.text}", meaning.transient


def require_bluetooth_sockets() -> None:
    """Raises `BearerError` where this Python was built without them."""
    if not hasattr(socket, "AF_BLUETOOTH"):
        raise BearerError("this Python lacks AF_BLUETOOTH: run with Debian's /usr/bin/python3")
