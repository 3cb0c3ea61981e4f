"""aiocoap's message layer on UDP sockets of ours, with a channel between each message and its datagrams.

aiocoap keeps what RFC 7252 asks of a sender: message ids, tokens, retransmission, block-wise transfer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from aiocoap import CON, NON, Message, error, interfaces
from aiocoap.messagemanager import MessageManager
from aiocoap.tokenmanager import TokenManager

from bt_selfsecure.coap.channels import ChannelError
from bt_selfsecure.coap.remote import Remote
from bt_selfsecure.errors import BtSelfSecureError

log = logging.getLogger(__name__)

Interface = TypeVar("Interface")
MOST_REMEMBERED: Final = 4096
"""Requests of which a copy is known to be one; CoAP wants it for 247 s of each."""


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

    def _add_exchange(self, message: Any, messageerror_monitor: Callable[[], None]) -> None:
        """Let a reset of a request that is answered already be nothing: what aiocoap says of it is a TypeError of
        logging's, after which nothing would go to that place any more."""

        def reset() -> None:
            with contextlib.suppress(TypeError):
                messageerror_monitor()

        super()._add_exchange(message, reset)

    def _process_request(self, request: Any) -> None:
        """Answer what the site has an answer to at once; the rest goes through aiocoap, a task for each request."""
        site = self.token_manager.context.serversite
        response = site.at_once(request) if request.mtype is NON and hasattr(site, "at_once") else None
        if response is None:
            super()._process_request(request)
            return
        response.token, response.remote, response.mtype = request.token, request.remote, NON
        self.send_message(response, lambda: None)


async def carry(context: Any, opened: Callable[[Any], Awaitable[Interface]]) -> Interface:
    """Let an aiocoap context send and receive by this interface, which is opened for its message manager."""
    tokens = TokenManager(context)
    messages = _Messages(tokens)
    tokens.token_interface, messages.message_interface = messages, await opened(messages)
    context.request_interfaces.append(tokens)
    interface: Interface = messages.message_interface
    return interface


class UdpInterface(interfaces.MessageInterface):  # type: ignore[misc]
    """Holds what server and client have in common: the way through a channel, and its timer."""

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
