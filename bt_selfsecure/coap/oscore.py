"""OSCORE (RFC 8613) by aiocoap. The contexts that a handshake made are in memory, gone with the program.

aiocoap's own transport and site for OSCORE import EDHOC, whose library has no wheels for Pis; so these two are ours.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from aiocoap import Message, error, interfaces, oscore
from aiocoap.numbers import FETCH, INTERNAL_SERVER_ERROR, POST, UNAUTHORIZED
from aiocoap.numbers.constants import MAX_REGULAR_BLOCK_SIZE_EXP
from aiocoap.pipe import IterablePipe, error_to_message, run_driving_pipe

from bt_selfsecure.errors import PeerError
from bt_selfsecure.protocols.sabour.keys import OscoreContext

log = logging.getLogger(__name__)

WINDOW: Final = 32
"""Requests that may overtake each other (RFC 8613 section 3.2.2)."""
MOST_SAID_BYTES: Final = 60
"""Bytes of what a stranger says that are shown."""


class ContextLostError(PeerError):
    """The server says, and anybody can, that it has no such context: so the request may have been done or not."""

    def __init__(self, said: str) -> None:
        super().__init__("it has no context for this device any more (or somebody says so): ask again")


class PresetLostError(PeerError):
    """The other end no longer has the context of a key that both ends had in advance."""

    def __init__(self, said: str) -> None:
        super().__init__(
            f"it says, unproved, {said!r}: its key or identity is another, or it does not serve this pair, or an end "
            "was put back from a copy; then make the pair anew, with a new key"
        )


class MemoryContext(oscore.CanProtect, oscore.CanUnprotect, oscore.SecurityContextUtils):  # type: ignore[misc]
    """Is a security context that nobody has used before and nobody will later: its numbers need no disk."""

    lost = ContextLostError
    """How it is told that the server has no such context."""
    id_context = None
    echo_recovery = None
    alg_aead = oscore.algorithms[oscore.DEFAULT_ALGORITHM]
    hashfun = oscore.hashfunctions[oscore.DEFAULT_HASHFUNCTION]

    def __init__(self, context: OscoreContext, identity: str, is_trusted: Callable[[], bool] = lambda: True) -> None:
        """`is_trusted` tells whether the one at the other end still may use it."""
        self.is_trusted: Final = is_trusted
        self.sender_id, self.recipient_id = context.sender_id, context.recipient_id
        self.identity: Final = identity
        self.sender_sequence_number = 0
        self.recipient_replay_window = oscore.ReplayWindow(WINDOW, lambda: None)
        self.recipient_replay_window.initialize_empty()
        self.derive_keys(context.master_salt, context.master_secret)

    @property
    def authenticated_claims(self) -> list[str]:
        return [self.identity]

    def post_seqnoincrease(self) -> None: ...


class _Address(NamedTuple):
    context: Any
    below: Any


class OscoreRemote(_Address, interfaces.EndpointAddress):  # type: ignore[misc]
    """Says who is at the other end of a context, and where."""

    is_multicast = is_multicast_locally = False
    maximum_payload_size = 1024
    maximum_block_size_exp = MAX_REGULAR_BLOCK_SIZE_EXP
    hostinfo = property(lambda self: self.below.hostinfo)
    hostinfo_local = property(lambda self: self.below.hostinfo_local)
    uri_base = property(lambda self: self.below.uri_base)
    uri_base_local = property(lambda self: self.below.uri_base_local)
    scheme = property(lambda self: self.below.scheme)
    authenticated_claims = property(lambda self: self.context.authenticated_claims)
    blockwise_key = property(lambda self: (self.below.blockwise_key, self.context.recipient_key))


class OscoreRequests(interfaces.RequestProvider):  # type: ignore[misc]
    """Protects all requests of an aiocoap context but those to `/auth`. Put it before what sends them on."""

    def __init__(self, aiocoap_context: Any, security: Any) -> None:
        self._wire: Final = aiocoap_context
        self._security: Final = security
        self._tasks: Final[set[Any]] = set()

    async def fill_or_recognize_remote(self, message: Any) -> bool:
        if message.opt.oscore is not None or message.opt.uri_path == ("auth",):
            return False
        if not isinstance(message.remote, OscoreRemote):
            message.remote = OscoreRemote(self._security, message.remote)
        return True

    def request(self, pipe: Any) -> None:
        task = self._wire.loop.create_task(self._request(pipe))
        self._tasks.add(task)
        pipe.on_interest_end(task.cancel)
        task.add_done_callback(self._tasks.discard)

    async def _request(self, pipe: Any) -> None:
        try:
            wire, number = self._send(pipe.request)
            first = await wire.response
            message = self._opened(first, number)
            if message.code is UNAUTHORIZED and message.opt.echo is not None:  # it was started again: RFC 8613, B.1.2
                wire, number = self._send(pipe.request.copy(echo=message.opt.echo))
                first = await wire.response
                message = self._opened(first, number)
            if self._respond(pipe, first, message):
                async for notification in wire.observation:
                    if not self._respond(pipe, notification, self._opened(notification, number)):
                        return
        except Exception as failure:
            told = error.NetworkError(str(failure))
            told.__cause__ = failure
            if isinstance(failure, oscore.NotAProtectedMessage):
                said = failure.plain_message
                told.__cause__ = self._security.lost(
                    f"{said.code} {said.payload[:MOST_SAID_BYTES].decode(errors='replace')}"
                )
            pipe.add_exception(failure if isinstance(failure, error.NetworkError) else told)

    def _send(self, request: Any) -> tuple[Any, Any]:
        protected, number = self._security.protect(request)
        protected.remote = request.remote.below
        return self._wire.request(protected), number

    def _opened(self, protected: Any, number: Any) -> Any:
        if oscore.COSE_COUNTERSIGNATURE0 in oscore.verify_start(protected):
            raise oscore.DecodeError("it is of a group")
        message, _ = self._security.unprotect(protected, number)
        message.remote = OscoreRemote(self._security, protected.remote)
        return message

    def _respond(self, pipe: Any, protected: Any, message: Any) -> bool:
        """Hand a response on; return whether others follow."""
        follow = protected.opt.observe is not None and message.code.is_successful()
        pipe.add_response(message, is_last=not follow)
        return follow

    async def shutdown(self) -> None:
        for task in self._tasks:
            task.cancel()


class OscoreSite(interfaces.Resource):  # type: ignore[misc]
    """Opens requests for the site within, and protects its responses. Who comes without a context has what is
    `in_clear`, by path: whole messages, without block-wise transfer, so that a stranger costs little."""

    def __init__(
        self,
        inner: Any,
        contexts_of: Callable[[bytes], Iterable[Any]],
        in_clear: Mapping[tuple[str, ...], Callable[[Any], Any]] | None = None,
    ) -> None:
        self._inner: Final = inner
        self._contexts_of: Final = contexts_of
        self._in_clear: Final = in_clear or {}

    def at_once(self, request: Any) -> Any | None:
        """Return the response where it takes no waiting: what is in clear, and is right."""
        answer = self._in_clear.get(request.opt.uri_path) if request.opt.oscore is None else None
        try:
            return None if answer is None else answer(request)
        except error.RenderableError:
            return None

    async def render(self, request: Any) -> None:
        raise error.MethodNotAllowed

    async def needs_blockwise_assembly(self, request: Any) -> bool:
        return False

    async def render_to_pipe(self, pipe: Any) -> None:
        request = pipe.request
        try:
            unprotected = oscore.verify_start(request)
        except oscore.NotAProtectedMessage:
            answer = self._in_clear.get(request.opt.uri_path)
            if answer is None:
                raise error.Unauthorized("OSCORE is needed here") from None
            pipe.add_response(answer(request), is_last=True)
            return
        except (oscore.DecodeError, IndexError):  # the latter of an option that is cut off
            raise error.BadOption("Failed to decode COSE") from None
        if request.code not in (FETCH, POST):
            raise error.MethodNotAllowed
        context, message, number = self._unprotect(request, unprotected)
        message.remote = OscoreRemote(context, request.remote)
        within = IterablePipe(message)
        run_driving_pipe(error_to_message(within, log), self._inner.render_to_pipe(within))
        async for event in within:
            if not context.is_trusted():
                raise _NoContextError
            response = Message(code=INTERNAL_SERVER_ERROR) if event.exception is not None else event.message
            if not event.is_last:
                response.opt.observe = 0
            protected, _ = context.protect(response, number)
            if response.opt.observe is not None:
                protected.opt.observe = context.sender_sequence_number & 0xFFFFFF
            pipe.add_response(protected, is_last=event.is_last)
            if event.is_last:
                break

    def _unprotect(self, request: Any, unprotected: Any) -> tuple[Any, Any, Any]:
        """Raises a CoAP error where no context opens it."""
        if oscore.COSE_COUNTERSIGNATURE0 in unprotected:  # a group's: aiocoap looks for what such a context alone has
            raise error.BadOption("Failed to decode COSE")
        found = False
        for context in self._contexts_of(unprotected.get(oscore.COSE_KID, b"")):
            found = True
            try:
                return context, *context.unprotect(request)
            except oscore.ReplayErrorWithEcho:
                raise  # a 4.01 that proves itself
            except oscore.ReplayError:
                raise error.Unauthorized("Replay detected") from None
            except oscore.DecodeError:
                raise error.BadOption("Failed to decode COSE") from None
            except oscore.ProtectionInvalid:
                continue
        if found:
            raise error.BadRequest("Decryption failed")
        raise _NoContextError


class _NoContextError(error.RenderableError):  # type: ignore[misc]
    """RFC 8613 section 8.2: not cached."""

    def to_message(self) -> Any:
        return Message(code=UNAUTHORIZED, payload=b"Security context not found", max_age=0)
