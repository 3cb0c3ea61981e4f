"""The sockets of a client: one for each server that is called."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from aiocoap import error
from aiocoap.util import hostportjoin, hostportsplit

from bt_selfsecure.coap.channels import Channel, ChannelError
from bt_selfsecure.coap.interface import UdpInterface
from bt_selfsecure.coap.remote import PORTS, Place, Remote
from bt_selfsecure.errors import BtSelfSecureError


class _Socket(asyncio.DatagramProtocol):
    """A client's socket to one place."""

    def __init__(self, took: Callable[[bytes], None], failed: Callable[[Exception], None]) -> None:
        self._took, self._failed = took, failed

    def datagram_received(self, data: bytes, addr: Place) -> None:
        self._took(data)

    def error_received(self, exc: Exception) -> None:
        self._failed(exc)


class UdpClient(UdpInterface):
    """Has a socket for each server that is called."""

    def __init__(self, manager: Any, scheme: str, connect: Callable[[float], Channel]) -> None:
        super().__init__(manager, scheme)
        self._connect: Final = connect
        self._remotes: Final[dict[tuple[str, int], tuple[Remote, asyncio.DatagramTransport]]] = {}

    @property
    def channels(self) -> list[Channel]:
        return [remote.channel for remote, _ in self._remotes.values()]

    async def determine_remote(self, request: Any) -> Remote | None:
        if request.requested_scheme not in (self._scheme, None):
            return None
        if self._manager is None:
            raise error.LibraryShutdown
        if request.unresolved_remote is not None:
            host, port = hostportsplit(request.unresolved_remote)
        else:
            host, port = request.opt.uri_host, request.opt.uri_port
        return await self.remote(host, port)

    async def remote(self, host: str, port: int | None) -> Remote:
        """Return the server there, with a channel that has not ended. Raises aiocoap's errors."""
        key = host.lower(), port or PORTS[self._scheme]
        known = self._remotes.get(key)
        if known is None or known[0].channel.ended:
            known = self._remotes[key] = await self._call(*key)
        return known[0]

    async def _call(self, host: str, port: int) -> tuple[Remote, asyncio.DatagramTransport]:
        remote: Remote
        try:
            channel = self._connect(self._loop.time())
        except BtSelfSecureError as failure:
            raise error.NetworkError(str(failure)) from failure

        def took(data: bytes) -> None:
            try:
                self._received(remote, channel.receive(data, self._loop.time()))
            except BtSelfSecureError as failure:  # of the disk
                self._fail(remote, failure)

        def failed(exc: Exception) -> None:
            self._fail(remote, ChannelError(f"nothing listens there ({exc.strerror or exc})"))  # type: ignore[attr-defined]

        try:
            transport, _ = await self._loop.create_datagram_endpoint(
                lambda: _Socket(took, failed), remote_addr=(host, port)
            )
        except OSError as failure:
            raise error.ResolutionError(f"{host}: {failure.strerror}") from None
        local = hostportjoin(*transport.get_extra_info("sockname")[:2])
        place = transport.get_extra_info("peername")
        remote = Remote(place, channel, self._scheme, transport.sendto, local)
        return remote, transport

    async def shutdown(self) -> None:
        self._manager = None
        for remote, transport in self._remotes.values():
            self._part(remote)
            transport.close()
        self._remotes.clear()
