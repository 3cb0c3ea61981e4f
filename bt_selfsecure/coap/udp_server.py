"""The socket of a server: one for all who come."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from functools import partial
from typing import Any, Final

from aiocoap.util import hostportjoin

from bt_selfsecure.coap.channels import Channel, ChannelError, DotpChannel, DtlsChannel, Gate
from bt_selfsecure.coap.interface import UdpInterface
from bt_selfsecure.coap.remote import Place, Remote
from bt_selfsecure.errors import BtSelfSecureError

log = logging.getLogger(__name__)

MOST_REMOTES: Final = 256
"""Peers of a server; the one that was silent for longest goes."""
IDLE_S: Final = 300.0
"""After which a server forgets a session that is silent and observes nothing, as libcoap does."""


class UdpServer(UdpInterface, asyncio.DatagramProtocol):
    """Has one socket for all who come. Open it by `open`."""

    def __init__(self, manager: Any, scheme: str, gate: Gate) -> None:
        super().__init__(manager, scheme)
        self._gate: Final = gate
        self._remotes: Final[OrderedDict[Place, Remote]] = OrderedDict()
        self._socket: asyncio.DatagramTransport
        self.place: Place
        self._local = ""
        self._sweeping: asyncio.TimerHandle | None = None

    @classmethod
    async def open(cls, manager: Any, scheme: str, gate: Gate, host: str, port: int) -> UdpServer:
        """Raises `OSError` where the place can't be had."""
        server = cls(manager, scheme, gate)
        server._socket, _ = await server._loop.create_datagram_endpoint(lambda: server, local_addr=(host, port))
        server.place = server._socket.get_extra_info("sockname")
        server._local = hostportjoin(*server.place[:2])
        server._sweep()
        return server

    @property
    def remotes(self) -> int:
        """Return how many peers it keeps."""
        return len(self._remotes)

    def datagram_received(self, data: bytes, place: Place) -> None:
        try:
            self._take(data, place, self._loop.time())
        except BtSelfSecureError as failure:  # of the disk, on which the state has to be before anything is done
            log.error("a datagram of %s was dropped: %s", hostportjoin(*place[:2]), failure)

    def _take(self, data: bytes, place: Place, now: float) -> None:
        remote = self._remotes.get(place)
        if remote is not None and not self._gate.is_anew(data, remote.channel):
            messages = remote.channel.receive(data, now)
        else:
            channel, answers = self._gate.admit(data, repr(place).encode(), now)
            if channel is None:
                for answer in answers:
                    self._socket.sendto(answer, place)
                return
            messages = answers
            if remote is None or remote.channel is not channel:
                remote = self._welcome(place, channel)
        remote.last_heard = now
        self._note(remote, data)
        self._remotes.move_to_end(place)
        self._received(remote, messages)

    def _note(self, remote: Remote, data: bytes) -> None:
        """Log who it is, once of a session and for each number of D-OTP's object layer; and a wrong key."""
        channel, told = remote.channel, remote.channel.identity
        if isinstance(channel, DotpChannel):
            told = f"{told}, number {channel.transmission[1]}"
        elif isinstance(channel, DtlsChannel) and channel.is_unopened(data):
            log.info("no session with %s: its key is another, or somebody changes what it sends", remote.hostinfo)
        if told != remote.told:
            remote.told = told
            log.info("session with %s: %s", remote.hostinfo, told)

    def _welcome(self, place: Place, channel: Channel) -> Remote:
        if former := self._remotes.pop(place, None):
            self._forget(former)
        remote = Remote(place, channel, self._scheme, partial(self._socket.sendto, addr=place), self._local)
        self._remotes[place] = remote
        if len(self._remotes) > MOST_REMOTES:
            _, oldest = self._remotes.popitem(last=False)
            self._part(oldest)
            self._forget(oldest)
        return remote

    def _forget(self, remote: Remote) -> None:
        if remote.timer is not None:
            remote.timer.cancel()
        self._fail(remote, ChannelError(remote.channel.ended or "forgotten"))

    def _ended(self, remote: Remote) -> None:
        if self._remotes.get(remote.place) is remote:
            del self._remotes[remote.place]
        if not remote.channel.identity:
            log.info("no session with %s: %s", remote.hostinfo, remote.channel.ended)
        super()._ended(remote)

    def _sweep(self) -> None:
        now = self._loop.time()
        observing = {remote for _, remote in self._manager.token_manager.incoming_requests}
        for place, remote in list(self._remotes.items()):
            if remote.last_heard + IDLE_S > now:
                break
            if remote in observing:
                continue
            del self._remotes[place]
            self._part(remote)
            self._forget(remote)
        self._sweeping = self._loop.call_later(IDLE_S / 10, self._sweep)

    def error_received(self, exc: Exception) -> None:
        log.info("somebody to whom we answered is not there any more: %s", exc)

    async def determine_remote(self, request: Any) -> None:
        """Nobody is called from here."""

    async def shutdown(self) -> None:
        self._manager = None
        if self._sweeping is not None:
            self._sweeping.cancel()
        for remote in self._remotes.values():
            self._part(remote)
        self._remotes.clear()
        self._socket.close()
