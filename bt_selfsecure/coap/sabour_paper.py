"""Sabour as the paper has it: M1 to M4 as datagrams on a port of their own, the request in clear, its response sealed.

Which device a request is of, the paper does not say: here its IP address decides, as that of its last handshake.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any, Final

from aiocoap import error, interfaces

from bt_selfsecure.coap.sabour import HandshakeError, agreed, name_of
from bt_selfsecure.errors import UsageError
from bt_selfsecure.protocols.sabour.client import Client
from bt_selfsecure.protocols.sabour.events import Established, UnknownDevice
from bt_selfsecure.protocols.sabour.keys import PayloadKey
from bt_selfsecure.protocols.sabour.server import Server

log = logging.getLogger(__name__)

AUTH_PORT: Final = 5588
MOST_KEYS: Final = 256


class PaperHandshakes(asyncio.DatagramProtocol):
    """Is the server's port for handshakes, and the keys that came of them, by IP address."""

    def __init__(self, server: Server) -> None:
        self._server: Final = server
        self._socket: asyncio.DatagramTransport
        self._keys: Final[dict[str, tuple[PayloadKey, bytes]]] = {}

    def key_of(self, host: str) -> PayloadKey | None:
        """Return the key of the last handshake from this address, if its device is still enrolled."""
        key, device = self._keys.get(host, (None, b""))
        return key if device in self._server.config.devices else None

    async def open(self, host: str, port: int = AUTH_PORT) -> int:
        """Return the port. Raises `UsageError` where it can't be had."""
        try:
            self._socket, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: self, local_addr=(host, port)
            )
        except OSError as failure:
            raise UsageError(f"can't listen on {host} port {port} ({failure.strerror}): name another") from None
        return int(self._socket.get_extra_info("sockname")[1])

    def datagram_received(self, data: bytes, place: tuple[Any, ...]) -> None:
        now = asyncio.get_running_loop().time()
        self._server.receive_frame(data, now)
        for event in iter(self._server.next_event, None):
            match event:
                case Established(device_id=device, keys=PayloadKey() as key):
                    self._keys.pop(place[0], None)
                    self._keys[place[0]] = key, device
                    if len(self._keys) > MOST_KEYS:
                        del self._keys[next(iter(self._keys))]
                    log.info("Client authenticated!")
                case UnknownDevice(device_id=device):
                    log.warning("Device not defined! (%s)", device.hex())
                case _:
                    log.info("%s", event)
        for frame in self._server.frames_to_send(now):
            self._socket.sendto(frame, place)

    def close(self) -> None:
        self._socket.close()


class PaperSite(interfaces.ObservableResource):  # type: ignore[misc]
    """Seals the responses of the site within, notifications too."""

    def __init__(self, inner: Any, handshakes: PaperHandshakes) -> None:
        self._inner: Final = inner
        self._handshakes: Final = handshakes

    async def needs_blockwise_assembly(self, request: Any) -> bool:
        return bool(await self._inner.needs_blockwise_assembly(request))

    async def render(self, request: Any) -> Any:
        key = self._handshakes.key_of(request.remote.place[0])
        if key is None:
            raise error.Unauthorized("there was no handshake")
        response = await self._inner.render(request)
        if response.payload:
            response.payload = key.seal(response.payload, os.urandom)
        return response

    async def add_observation(self, request: Any, serverobservation: Any) -> None:
        serverobservation.accept(lambda: None)  # where the site within takes none, it is as if nothing ever changed
        await self._inner.add_observation(request, serverobservation)

    async def render_to_pipe(self, pipe: Any) -> None:
        await interfaces.ObservableResource._render_to_pipe(self, pipe)


class _Answers(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.queue: Final[asyncio.Queue[bytes | OSError]] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.queue.put_nowait(data)

    def error_received(self, exc: Any) -> None:
        self.queue.put_nowait(exc)


async def paper_handshake(host: str, port: int, client: Client) -> PayloadKey:
    """Run a device's handshake with the server there. Raises `HandshakeError`."""
    loop = asyncio.get_running_loop()
    socket, answers = await loop.create_datagram_endpoint(_Answers, remote_addr=(host, port))
    client.start(loop.time())
    try:
        while True:
            if key := agreed(client, PayloadKey):
                return key
            for frame in client.frames_to_send(loop.time()):
                log.info("%s sent", name_of(frame))
                socket.sendto(frame)
            deadline = client.get_timer()
            try:
                async with asyncio.timeout_at(deadline):
                    answer = await answers.queue.get()
                if isinstance(answer, OSError):
                    raise HandshakeError(
                        f"no answer of {host} port {port}, the handshake's: nothing listens there ({answer.strerror})"
                    )
                log.info("%s received", name_of(answer))
                client.receive_frame(answer, loop.time())
            except TimeoutError:
                client.handle_timer(loop.time())
    finally:
        socket.close()
