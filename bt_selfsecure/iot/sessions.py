"""Links on real sockets: what drives one, a transmission whose asks are awaited, and the dialling of both protocols."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, Final, Generic, Protocol

from bt_selfsecure.bearers.places import Place, shown_place
from bt_selfsecure.dtls.endpoint import Dtls
from bt_selfsecure.dtls.values import Credentials
from bt_selfsecure.errors import PeerError
from bt_selfsecure.iot.folder import NetworkKey
from bt_selfsecure.iot.links import DTLS, Inner, LinkDown, LinkUp, SecuredLink
from bt_selfsecure.protocols.iotcrypto import limits
from bt_selfsecure.protocols.iotcrypto.certificate import SignedCertificate
from bt_selfsecure.protocols.iotcrypto.config import NegotiationConfig
from bt_selfsecure.protocols.iotcrypto.events import Established, Failure, NegotiationFailed
from bt_selfsecure.protocols.iotcrypto.initiator import Initiator
from bt_selfsecure.protocols.iotcrypto.keys import SessionKeys
from bt_selfsecure.protocols.iotcrypto.transmission import (
    AskAnswered,
    AskReceived,
    AskUnanswered,
    Transmission,
    TransmissionEnd,
)
from bt_selfsecure.protocols.iotcrypto.transmission_messages import Answer, Ask, ReadingRequest
from bt_selfsecure.sansio.context import EndpointContext

DIAL_S: Final = 15.0
"""For each of negotiation and connection."""
SILENCE_S: Final = 20.0
"""After which the other end is asked whether it is there."""


class NotConnectedError(PeerError):
    """There is no connection, or no answer on it: the text says why."""


class NegotiationError(NotConnectedError):
    """A negotiation has failed for a reason of its own."""

    def __init__(self, failed: NegotiationFailed, text: str) -> None:
        super().__init__(text)
        self.failed = failed


class DrivenLink(Generic[Inner]):
    """Drives a link by the event loop's clock."""

    def __init__(
        self, link: SecuredLink[Inner], transmit: Callable[[bytes], None], take: Callable[[Any], None] | None = None
    ) -> None:
        self.link: Final = link
        self.take: Callable[[Any], None] = take or (lambda event: None)
        """Given each event."""
        self.closed = False
        self._transmit: Final = transmit
        self._loop: Final = asyncio.get_running_loop()
        self.begun: Final = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._turning = False

    def receive(self, datagram: bytes) -> None:
        if not self.closed:
            self.link.receive_frame(datagram, self._loop.time())
            self.turn()

    def turn(self) -> None:
        """Tell what was told, send what is due, and wait for the next deadline."""
        if self._turning or self.closed:
            return
        self._turning = True
        try:
            while True:
                for event in iter(self.link.next_event, None):
                    self.take(event)
                datagrams = self.link.frames_to_send(self._loop.time())
                for datagram in datagrams:
                    self._transmit(datagram)
                if not datagrams:
                    break
        finally:
            self._turning = False
        self._arm()

    def close(self) -> None:
        """Tell the other end, and be deaf from now on."""
        if self.closed:
            return
        self.closed = True
        now = self._loop.time()
        self.link.close(now)
        for datagram in self.link.frames_to_send(now):
            self._transmit(datagram)
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = None if self.closed else self.link.get_timer()
        if deadline is not None:
            self._timer = self._loop.call_at(deadline, self._due)

    def _due(self) -> None:
        self._timer = None
        self.link.handle_timer(self._loop.time())
        self.turn()


class SessionHandler(Protocol):
    """Takes what the other end of a session does."""

    def asked(self, session: IotSession, n: int, message: Ask) -> None:
        """Take an ask; `session.answer(n, ...)` answers it, now or later."""
        ...

    def ended(self, session: IotSession, reason: str) -> None:
        """Take the end of a session, whoever wished it. It is told once."""
        ...


class IotSession:
    """Is a transmission with one peer."""

    def __init__(
        self, driven: DrivenLink[Transmission], established: Established, where: str, close: Callable[[], None]
    ) -> None:
        self.peer: Final[SignedCertificate] = established.peer
        self.judgement = established.judgement
        """What is thought of the peer; whoever judges anew puts it here."""
        self.heard = asyncio.get_running_loop().time()
        """When an ask or an answer has come last."""
        self.where: Final = where
        self.begun: Final = driven.begun
        self.handler: SessionHandler | None = None
        self._driven: Final = driven
        self._close: Final = close
        self._awaited: Final[dict[int, asyncio.Future[Answer]]] = {}
        self._room: Final = asyncio.Semaphore(limits.MOST_ASKED)
        self._early: list[AskReceived] = []
        self.end_reason = ""
        driven.take = self._take

    @property
    def id(self) -> bytes:
        return self.peer.certificate.id

    def attend(self, handler: SessionHandler) -> None:
        """Give what comes, and came already, to this handler."""
        self.handler = handler
        early, self._early = self._early, []
        for event in early:
            handler.asked(self, event.n, event.message)

    async def request(self, message: Ask) -> Answer:
        """Return the other end's answer. Raises `NotConnectedError`."""
        async with self._room:
            if self.end_reason:
                raise NotConnectedError(self.end_reason)
            n = self._driven.link.inner.ask(message, asyncio.get_running_loop().time())
            future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            self._awaited[n] = future
            self._driven.turn()
            try:
                return await future
            finally:
                self._awaited.pop(n, None)

    async def ask_when_silent(self, after_s: float = SILENCE_S) -> None:
        """Ask the other end whether it is there whenever nothing has come of it for so long. Without an answer the
        session ends, and `NotConnectedError` is raised."""
        while True:
            rest = self.heard + after_s - asyncio.get_running_loop().time()
            await (asyncio.sleep(rest) if rest > 0 else self.request(ReadingRequest()))

    def answer(self, n: int, message: Answer) -> None:
        if not self.end_reason:
            self._driven.link.inner.answer(n, message)
            self._driven.turn()

    def close(self, reason: str) -> None:
        """End it, for this reason."""
        if not self.end_reason:
            self.end_reason = reason
            self._driven.close()
            self._close()
            self._over()

    def _take(self, event: Any) -> None:
        if isinstance(event, AskReceived | AskAnswered):
            self.heard = asyncio.get_running_loop().time()
        match event:
            case AskReceived(n=n, message=message):
                if self.handler is None:
                    self._early.append(event)
                else:
                    self.handler.asked(self, n, message)
            case AskAnswered(n=n, message=answer):
                if (future := self._awaited.get(n)) and not future.done():
                    future.set_result(answer)
            case AskUnanswered():
                self.close("it does not answer any more")
            case LinkDown(reason=reason):
                self.close(reason)
            case _:
                pass

    def _over(self) -> None:
        for future in self._awaited.values():
            if not future.done():
                future.set_exception(NotConnectedError(self.end_reason))
        if self.handler is not None:
            self.handler.ended(self, self.end_reason)


# --- dialling ---------------------------------------------------------------------------------------------------------


class _Dialled(asyncio.DatagramProtocol):
    """Is the one socket of a link that was dialled."""

    def __init__(self) -> None:
        self.driven: DrivenLink[Any] | None = None

    def datagram_received(self, data: bytes, addr: object) -> None:
        if self.driven is not None:
            self.driven.receive(data)

    def error_received(self, exc: Exception) -> None:
        """Give up where the system says that nobody listens: that costs another try at most, if it is a lie."""
        if self.driven is not None and not self.driven.link.is_up and isinstance(exc, ConnectionRefusedError):
            self.driven.take(LinkDown("nobody listens there"))


async def _dial(
    place: Place, identity: bytes, key: bytes, inner: Inner
) -> tuple[DrivenLink[Inner], Callable[[], None]]:
    """Return a link that has begun its handshake, and what closes its socket. Raises `NotConnectedError`."""
    loop = asyncio.get_running_loop()
    try:
        transport, protocol = await loop.create_datagram_endpoint(_Dialled, remote_addr=place)
    except OSError as error:
        raise NotConnectedError(f"nothing goes to {shown_place(place)}: {error.strerror or error}") from None
    dtls = Dtls.client(lambda hint: Credentials(identity, key), loop.time(), DTLS)
    driven = DrivenLink(SecuredLink(dtls, inner), transport.sendto)
    protocol.driven = driven
    return driven, transport.close


async def negotiate(place: Place, network: NetworkKey, config: NegotiationConfig) -> Established:
    """Run the connection protocol with whoever is there. Raises `NotConnectedError`, as a `NegotiationError` where it
    is for a reason of the protocol's."""
    initiator = Initiator(config, EndpointContext(os.urandom, name=config.signed.certificate.name))
    driven, close = await _dial(place, network.name.encode(), network.key, initiator)
    outcome: asyncio.Future[Established] = asyncio.get_running_loop().create_future()

    def take(event: Any) -> None:
        if outcome.done():
            return
        match event:
            case LinkUp():
                initiator.start(asyncio.get_running_loop().time())
            case Established():
                outcome.set_result(event)
            case NegotiationFailed():
                outcome.set_exception(NegotiationError(event, _words(event)))
            case LinkDown(reason=reason):
                outcome.set_exception(NotConnectedError(f"the negotiation broke off: {reason}"))
            case _:
                pass

    driven.take = take
    driven.turn()
    try:
        async with asyncio.timeout(DIAL_S):
            return await outcome
    except TimeoutError:
        raise NotConnectedError(
            f"no answer from {shown_place(place)}: nobody is there, or the network's key is another"
        ) from None
    finally:
        driven.close()
        close()


def _words(failed: NegotiationFailed) -> str:
    whose = f" ({failed.peer.certificate.name!r})" if failed.peer else ""
    verdict = f": {failed.verdict.words}" if failed.verdict else ""
    if failed.reason is Failure.REFUSED:
        return f"the other end says of this certificate{verdict}"
    return f"{failed.reason.value}{whose}{verdict}"


async def connect(place: Place, established: Established, end: TransmissionEnd) -> IotSession:
    """Open the transmission after a negotiation. Raises `NotConnectedError`."""
    keys: SessionKeys = established.keys
    inner = Transmission(end, EndpointContext(os.urandom))
    driven, close = await _dial(place, keys.identity, keys.key, inner)
    outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take(event: Any) -> None:
        if outcome.done():
            return
        if isinstance(event, LinkUp):
            outcome.set_result(None)
            made.append(IotSession(driven, established, shown_place(place), close))
        elif isinstance(event, LinkDown):
            outcome.set_exception(NotConnectedError(f"the connection broke off: {event.reason}"))

    made: list[IotSession] = []
    driven.take = take
    driven.turn()
    try:
        async with asyncio.timeout(DIAL_S):
            await outcome
        return made[0]
    except BaseException as error:
        driven.close()
        close()
        if isinstance(error, TimeoutError):
            raise NotConnectedError(f"no answer from {shown_place(place)} under the new key") from None
        raise
