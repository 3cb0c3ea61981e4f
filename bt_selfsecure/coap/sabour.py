"""Sabour's handshake over CoAP, then OSCORE: M1 to M4 are POSTs to `/auth`, none of them confirmable.

The handshake has its own retransmissions, and an id that is not enrolled is met with silence, also of CoAP's layer.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from aiocoap import Message, error
from aiocoap.numbers import CHANGED, POST
from aiocoap.numbers.constants import Unreliable

from bt_selfsecure.coap.channels import ChannelError
from bt_selfsecure.coap.oscore import MemoryContext, OscoreSite
from bt_selfsecure.errors import PeerError
from bt_selfsecure.protocols.sabour.client import Client
from bt_selfsecure.protocols.sabour.events import Established, HandshakeExpired, HandshakeFailed, UnknownDevice
from bt_selfsecure.protocols.sabour.keys import OscoreContext
from bt_selfsecure.protocols.sabour.messages import peek_kind
from bt_selfsecure.protocols.sabour.server import Server

log = logging.getLogger(__name__)
Keys = TypeVar("Keys")

AUTH: Final = ("auth",)
NO_ANSWER: Final = 0b11010
"""No-Response for 2.xx, 4.xx and 5.xx (RFC 7967)."""
MOST_CONTEXTS: Final = 256
CONTEXTS_OF_A_DEVICE: Final = 2
"""The newest, and the one before it, which a device that got no M4 may still have."""


class HandshakeError(PeerError):
    """There is no key: the text says why."""


def name_of(datagram: bytes) -> str:
    """Return what a log calls it: M1 to M4, a refusal, or nothing of these."""
    kind = peek_kind(datagram)
    return "no message" if kind is None else kind.name


class Contexts:
    """Keeps a server's contexts, by the id of who sends. Bounded: the oldest go."""

    def __init__(self, devices: Mapping[bytes, bytes]) -> None:
        self._devices: Final = devices
        self._contexts: Final[OrderedDict[int, MemoryContext]] = OrderedDict()

    def add(self, keys: OscoreContext, device_id: bytes) -> None:
        """Take the context of a device that has proved itself. It is over once the device is struck off, or its id has
        another key."""
        key = self._devices.get(device_id)
        context = MemoryContext(keys, device_id.hex(), lambda: key is not None and self._devices.get(device_id) == key)
        own = [which for which, one in self._contexts.items() if one.identity == context.identity]
        for which in own[: len(own) + 1 - CONTEXTS_OF_A_DEVICE]:
            del self._contexts[which]
        self._contexts[id(context)] = context
        if len(self._contexts) > MOST_CONTEXTS:
            self._contexts.popitem(last=False)

    def of(self, sender_id: bytes) -> Iterable[MemoryContext]:
        """Return those of this sender, the newest first."""
        return [one for one in reversed(self._contexts.values()) if one.recipient_id == sender_id and one.is_trusted()]


class Auth:
    """Is where devices prove themselves."""

    def __init__(self, server: Server, contexts: Contexts) -> None:
        self._server: Final = server
        self._contexts: Final = contexts

    def answer(self, request: Any) -> Any:
        """Return the response. Raises aiocoap's error for what is no POST."""
        if request.code is not POST:
            raise error.UnallowedMethod
        now = asyncio.get_running_loop().time()
        self._server.receive_frame(request.payload, now)
        for event in iter(self._server.next_event, None):
            match event:
                case Established(device_id=device, keys=OscoreContext() as keys):
                    self._contexts.add(keys, device)
                    log.info("device %s has proved itself", device.hex())
                case UnknownDevice(device_id=device):
                    log.warning("device %s is not enrolled here: it got no answer", device.hex())
                case HandshakeExpired(device_id=device):
                    log.warning("device %s began a handshake and did not prove itself", device.hex())
                case _:
                    log.info("%s", event)
        answers = self._server.frames_to_send(now)
        if not answers:
            return Message(code=CHANGED, no_response=NO_ANSWER)
        return Message(code=CHANGED, payload=answers[0])


def secured(inner: Any, server: Server) -> OscoreSite:
    """Return the site as its devices reach it: after the handshake, in OSCORE."""
    contexts = Contexts(server.config.devices)
    return OscoreSite(inner, contexts.of, {AUTH: Auth(server, contexts).answer})


def agreed(client: Client, kind: type[Keys]) -> Keys | None:
    """Return what a device's handshake came to; None while it is under way. Raises `HandshakeError`."""
    for event in iter(client.next_event, None):
        if isinstance(event, Established) and isinstance(event.keys, kind):
            log.info("Server authenticated!")
            return event.keys
        if isinstance(event, HandshakeFailed):
            raise HandshakeError(event.reason.value)
    return None


async def handshake(aiocoap_context: Any, origin: str, client: Client) -> OscoreContext:
    """Run a device's handshake with the server at `origin` ("coap://host"). Raises `HandshakeError`."""
    loop = asyncio.get_running_loop()
    asked: set[Any] = set()
    client.start(loop.time())
    try:
        while True:
            if keys := agreed(client, OscoreContext):
                return keys
            for frame in client.frames_to_send(loop.time()):
                log.info("%s sent", name_of(frame))
                message = Message(code=POST, uri=f"{origin}/auth", payload=frame, transport_tuning=Unreliable())
                asked.add(aiocoap_context.request(message, handle_blockwise=False).response)
            deadline = client.get_timer()
            wait = None if deadline is None else max(0.0, deadline - loop.time())
            if asked:
                done, _ = await asyncio.wait(asked, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
            else:
                done = set()
                await asyncio.sleep(wait or 0.0)
            for answer in done:
                asked.discard(answer)
                try:
                    client.receive_frame(answer.result().payload, loop.time())
                    log.info("%s received", name_of(answer.result().payload))
                except error.Error as failure:
                    if isinstance(failure.__cause__, ChannelError):  # nothing listens there
                        raise HandshakeError(f"no answer of {urlsplit(origin).netloc}: {failure.__cause__}") from None
                    log.debug("no answer: %s", failure)
            client.handle_timer(loop.time())
    finally:
        for answer in asked:
            answer.cancel()
