"""aiocoap's message layer on UDP sockets of ours, with a channel between each message and its datagrams.

aiocoap keeps what RFC 7252 asks of a sender: message ids, tokens, retransmission, block-wise transfer.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from ipaddress import IPv6Address
from typing import Any, Final, TypeVar

from aiocoap import COAP_PORT, COAPS_PORT, CON, Message, error, interfaces
from aiocoap.messagemanager import MessageManager
from aiocoap.numbers.constants import MAX_REGULAR_BLOCK_SIZE_EXP
from aiocoap.tokenmanager import TokenManager
from aiocoap.util import hostportjoin, hostportsplit

from bt_selfsecure.coap.channels import Channel, ChannelError, DotpChannel, DtlsChannel, Gate
from bt_selfsecure.errors import BtSelfSecureError, UsageError

log = logging.getLogger(__name__)

Interface = TypeVar("Interface")
Place = tuple[Any, ...]
"""As asyncio names the source of a datagram."""
MOST_REMOTES: Final = 256
"""Peers of a server; the one that was silent for longest goes."""
MOST_REMEMBERED: Final = 4096
"""Requests of which a copy is known to be one; CoAP wants it for 247 s of each."""
IDLE_S: Final = 300.0
"""After which a server forgets a session that is silent and observes nothing, as libcoap does."""
PORTS: Final = {"coap": COAP_PORT, "coaps": COAPS_PORT}


class Remote(interfaces.EndpointAddress):  # type: ignore[misc]
    """Is a place and the channel to it: the same two are the same peer."""

    is_multicast = is_multicast_locally = False
    maximum_block_size_exp = MAX_REGULAR_BLOCK_SIZE_EXP
    scheme = hostinfo_local = ""

    def __init__(self, place: Place, channel: Channel, scheme: str, write: Callable[[bytes], None], local: str) -> None:
        self.place: Final = place
        self.channel: Final = channel
        self.scheme = scheme
        self.write: Final = write
        self.hostinfo_local = local
        self.timer: asyncio.TimerHandle | None = None
        self.last_heard = 0.0
        self.told = ""
        """What the log has of it."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remote) and (self.place, id(self.channel)) == (other.place, id(other.channel))

    def __hash__(self) -> int:
        return hash((self.place, id(self.channel)))

    def __repr__(self) -> str:
        return f"<{self.uri_base} {self.channel.identity}>"

    @property
    def hostinfo(self) -> str:
        host, port = self.place[:2]
        return str(hostportjoin(host, None if port == PORTS[self.scheme] else port))

    @property
    def uri_base(self) -> str:
        return f"{self.scheme}://{self.hostinfo}"

    @property
    def uri_base_local(self) -> str:
        return f"{self.scheme}://{self.hostinfo_local}"

    @property
    def authenticated_claims(self) -> list[str]:
        return [self.channel.identity] if self.channel.identity else []

    @property
    def blockwise_key(self) -> object:
        return self.place, id(self.channel)


def expect_zone(host: str) -> None:
    """Raise `UsageError` for a link-local address without its interface: it can be on each of them."""
    try:
        address = IPv6Address(host)
    except ValueError:
        return
    if address.is_link_local and not address.scope_id:
        raise UsageError(f"{host} can be on any interface: name it, as in {host}%bt0")


def host_of(place: Place) -> str:
    """Return the address of a place, a link-local one with its interface."""
    host, _, *flow_and_zone = place
    zone = flow_and_zone[1] if flow_and_zone else 0
    return f"{host}%{socket.if_indextoname(zone)}" if zone and "%" not in host else str(host)


class _Messages(MessageManager):  # type: ignore[misc]
    """Is aiocoap's message manager with a bound on what it remembers of requests: without one, and with a timer for
    each, a flood fills the memory."""

    def __init__(self, tokens: Any) -> None:
        super().__init__(tokens)
        self._came: Final[OrderedDict[Any, float]] = OrderedDict()

    def _deduplicate_message(self, message: Any) -> bool:
        """Return whether the request came before; then its response is sent again, if there is one."""
        key, now = (message.remote, message.mid), self.loop.time()
        while self._came and (
            len(self._came) > MOST_REMEMBERED
            or next(iter(self._came.values())) + message.transport_tuning.EXCHANGE_LIFETIME <= now
        ):
            self._recent_messages.pop(self._came.popitem(last=False)[0], None)
        if key not in self._came:
            self._came[key] = now
            self._recent_messages[key] = None
            return False
        if message.mtype is CON and (response := self._recent_messages[key]) is not None:
            self._send_initially(response)
        return True


async def carry(context: Any, opened: Callable[[Any], Awaitable[Interface]]) -> Interface:
    """Let an aiocoap context send and receive by this interface, which is opened for its message manager."""
    tokens = TokenManager(context)
    messages = _Messages(tokens)
    tokens.token_interface, messages.message_interface = messages, await opened(messages)
    context.request_interfaces.append(tokens)
    interface: Interface = messages.message_interface
    return interface


class _Udp(interfaces.MessageInterface):  # type: ignore[misc]
    """What server and client have in common: the way through a channel, and its timer."""

    def __init__(self, manager: Any, scheme: str) -> None:
        self._manager: Any = manager
        self._scheme: Final = scheme
        self._loop: Final = asyncio.get_running_loop()

    async def recognize_remote(self, remote: object) -> bool:
        return isinstance(remote, Remote) and remote.scheme == self._scheme

    def send(self, message: Any) -> None:
        remote: Remote = message.remote
        try:
            if remote.channel.ended:
                raise ChannelError(remote.channel.ended)
            remote.channel.send(message.encode(), self._loop.time())
        except BtSelfSecureError as failure:
            self._fail(remote, failure)
        self._flush(remote)

    def _received(self, remote: Remote, messages: list[bytes]) -> None:
        self._flush(remote)
        for data in messages:
            try:
                message = Message.decode(data, remote=remote)
            except (error.UnparsableMessage, ValueError):  # the latter of a path that is no UTF-8
                log.info("%r sent what is no CoAP message", remote)
                continue
            if self._manager is not None:
                self._manager.dispatch_message(message)
        if remote.channel.ended:
            self._ended(remote)

    def _ended(self, remote: Remote) -> None:
        self._fail(remote, ChannelError(remote.channel.ended))

    def _fail(self, remote: Remote, failure: BtSelfSecureError) -> None:
        if self._manager is not None:
            wrapped = error.NetworkError(str(failure))
            wrapped.__cause__ = failure
            self._loop.call_soon(self._manager.dispatch_error, wrapped, remote)

    def _flush(self, remote: Remote) -> None:
        for datagram in remote.channel.datagrams(self._loop.time()):
            remote.write(datagram)
        if remote.timer is not None:
            remote.timer.cancel()
            remote.timer = None
        deadline = None if remote.channel.ended else remote.channel.get_timer()
        if deadline is not None:
            remote.timer = self._loop.call_at(deadline, self._due, remote)

    def _due(self, remote: Remote) -> None:
        remote.channel.handle_timer(self._loop.time())
        self._flush(remote)
        if remote.channel.ended:
            self._ended(remote)

    def _part(self, remote: Remote) -> None:
        """Say good-bye, and do nothing by time any more."""
        remote.channel.close(self._loop.time())
        self._flush(remote)
        if remote.timer is not None:
            remote.timer.cancel()


class UdpServer(_Udp, asyncio.DatagramProtocol):
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


class _Socket(asyncio.DatagramProtocol):
    """A client's socket to one place."""

    def __init__(self, took: Callable[[bytes], None], failed: Callable[[Exception], None]) -> None:
        self._took, self._failed = took, failed

    def datagram_received(self, data: bytes, addr: Place) -> None:
        self._took(data)

    def error_received(self, exc: Exception) -> None:
        self._failed(exc)


class UdpClient(_Udp):
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
