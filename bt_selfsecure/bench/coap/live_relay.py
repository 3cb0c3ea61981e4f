"""Eve's place in front of a server of this computer: whoever asks at her port reaches it through her."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, Protocol, runtime_checkable

from bt_selfsecure.errors import UsageError
from bt_selfsecure.eve.dotp.attacks import Sent
from bt_selfsecure.protocols.dotp.keys import Role

Say = Callable[[str], None]
Hear = Callable[[Role, bytes], Iterable[Sent]]
Place = tuple[str, int]
MOST_CLIENTS: Final = 64
LONGEST: Final = 65_535


class LiveAttack(Protocol):
    """Is an attack, and what it came to."""

    @property
    def succeeded(self) -> bool: ...

    def hear(self, sender: Role, data: bytes) -> Iterable[Sent]: ...


@runtime_checkable
class LivePlayer(LiveAttack, Protocol):
    """Is one that also calls on the server itself."""

    async def play(self, place: Place) -> object: ...


def place_of(text: str) -> Place:
    """Return the place 127.0.0.1:PORT. Raises `UsageError` for any other: she attacks this computer's servers alone."""
    host, _, port = text.rpartition(":")
    try:
        is_here = ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        is_here = False
    if not is_here or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise UsageError(f"{text!r}: servers are attacked on this computer alone: name one as in 127.0.0.1:5683")
    return host.strip("[]"), int(port)


def udp(place: Place) -> socket.socket:
    """Return a socket that fits the place and does not wait."""
    made = socket.socket(socket.AF_INET6 if ":" in place[0] else socket.AF_INET, socket.SOCK_DGRAM)
    made.setblocking(False)
    return made


class EveRelay:
    """Stands in the place of one server, in the running loop. Each client has a socket of its own to the server."""

    def __init__(self, target: Place, hear: Hear) -> None:
        self._target: Final = target
        self._hear: Final = hear
        self._loop: Final = asyncio.get_running_loop()
        self._backs: Final[dict[Any, socket.socket]] = {}
        self._front: Final = udp(target)
        self._front.bind((target[0], 0))
        self._loop.add_reader(self._front, self._from_client)

    @property
    def port(self) -> int:
        """Return where she listens."""
        return int(self._front.getsockname()[1])

    def _from_client(self) -> None:
        data, client = self._front.recvfrom(LONGEST)
        if client not in self._backs and len(self._backs) < MOST_CLIENTS:
            back = self._backs[client] = udp(self._target)
            back.connect(self._target)
            self._loop.add_reader(back, partial(self._from_server, back, client))
        self._pass_on(Role.CLIENT, data, client)

    def _from_server(self, back: socket.socket, client: Any) -> None:
        try:
            data = back.recv(LONGEST)
        except OSError:  # nobody listens there: the client learns it by waiting
            return
        self._pass_on(Role.SERVER, data, client)

    def _pass_on(self, sender: Role, data: bytes, client: Any) -> None:
        for to, out in self._hear(sender, data):
            try:
                if to is Role.CLIENT:
                    self._front.sendto(out, client)
                elif client in self._backs:
                    self._backs[client].send(out)
            except OSError:
                continue

    def close(self) -> None:
        for one in (self._front, *self._backs.values()):
            self._loop.remove_reader(one)
            one.close()
