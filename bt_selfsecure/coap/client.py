"""`coap get` and the like as a library: requests over one scheme, and failures as sentences."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import aiocoap
from aiocoap import error

from bt_selfsecure.coap.channels import DtlsChannel
from bt_selfsecure.coap.interface import carry
from bt_selfsecure.coap.oscore import ContextLostError, MemoryContext, OscoreRequests
from bt_selfsecure.coap.oscore_pairs import OscorePair
from bt_selfsecure.coap.remote import expect_zone
from bt_selfsecure.coap.sabour import handshake
from bt_selfsecure.coap.sabour_paper import AUTH_PORT, paper_handshake
from bt_selfsecure.coap.schemes import DotpDtls, DotpObject, Plain, Scheme
from bt_selfsecure.coap.udp_client import UdpClient
from bt_selfsecure.errors import BtSelfSecureError, PeerError, UsageError
from bt_selfsecure.protocols.sabour.client import Client as SabourClient
from bt_selfsecure.protocols.sabour.config import ClientConfig
from bt_selfsecure.protocols.sabour.keys import NotAuthentic, PayloadKey
from bt_selfsecure.sansio.context import EndpointContext

TIMEOUT_S: Final = 10.0
DEFAULT_MAX_AGE_S: Final = 60
AFTER_MAX_AGE_S = 5.0, 15.0
"""Between which an observer waits on, by chance, so that not all ask at once (RFC 7641, 3.3.1)."""
METHODS: Final = {
    "get": aiocoap.GET,
    "put": aiocoap.PUT,
    "post": aiocoap.POST,
    "delete": aiocoap.DELETE,
}


class NoResponseError(PeerError):
    """Nothing came back that counts: the text says what that can mean."""


class CoapClient:
    """Sends requests over one scheme. Made by `connected`."""

    def __init__(
        self,
        context: Any,
        interface: UdpClient,
        scheme: Scheme,
        device: ClientConfig | None,
        auth_port: int,
        security: OscorePair | None = None,
    ) -> None:
        self._auth_port: Final = auth_port
        self._context: Final = context
        self._interface: Final = interface
        self._scheme: Final = scheme
        self._device: Final = device
        self._proved = ""
        self._protecting: OscoreRequests | None = None
        self._payload_key: PayloadKey | None = None
        self.before: Callable[[tuple[str, int]], Awaitable[None]] | None = None
        """Called before a request with its channel's transmission: how the D-OTP manager is asked."""
        self.after: Callable[[], Awaitable[None]] | None = None
        """Called once the registration of an observation is answered: notifications are not asked for one by one."""
        if security is not None:
            self._protect(security)

    def _protect(self, security: Any) -> None:
        self._protecting = OscoreRequests(self._context, security)
        self._context.request_interfaces.insert(0, self._protecting)

    async def request(self, method: str, uri: str, payload: bytes = b"", timeout: float = TIMEOUT_S) -> Any:
        """Return aiocoap's response message, also where its code says no.

        Raises `UsageError` for a URI that can't be used, and `NoResponseError`.
        """
        with _as_sentences(self, uri, timeout):
            async with asyncio.timeout(timeout):
                await self._prepare(uri)
                response = await self._context.request(self._message(method, uri, payload)).response
        return self._opened(response)

    async def observe(self, uri: str, timeout: float = TIMEOUT_S) -> AsyncIterator[Any]:
        """Yield the resource, and again at each change, until the server ends it. `timeout` is for a registration.

        What is older than its Max-Age is asked for again (RFC 7641, 3.3.1): a server that is gone is noticed so. Raises
        as `request` does.
        """
        last: Any = None
        while True:
            try:
                with _as_sentences(self, uri, timeout):
                    async with asyncio.timeout(timeout):
                        await self._prepare(uri)
                        request = self._context.request(self._message("get", uri, b"", observe=0))
                        response = self._opened(await request.response)
                        if self.after is not None:
                            await self.after()
            except NoResponseError as failure:
                if last is None:
                    raise
                raise NoResponseError(f"the server is gone: {failure}") from None
            if last is None or (response.code, response.payload) != (last.code, last.payload):
                yield response
            last = response
            if response.opt.observe is None:
                return
            notifications = aiter(request.observation)
            while True:
                with _as_sentences(self, uri, timeout):
                    try:
                        async with asyncio.timeout(_fresh_s(last)):
                            last = self._opened(await anext(notifications))
                    except TimeoutError:
                        break
                    except (StopAsyncIteration, error.ObservationCancelled, error.NotObservable):
                        return
                yield last
            if not request.observation.cancelled:
                request.observation.cancel()

    def _opened(self, response: Any) -> Any:
        """Open the payload, which the paper's profile of Sabour seals. Raises `NoResponseError` where that fails."""
        if self._payload_key is not None and response.payload:
            try:
                response.payload = self._payload_key.open(response.payload)
            except NotAuthentic:
                raise NoResponseError("what came was not sealed by the server of the handshake: ask again") from None
        return response

    def _message(self, method: str, uri: str, payload: bytes, **options: Any) -> Any:
        return aiocoap.Message(code=METHODS[method], uri=uri, payload=payload, **options)

    async def _prepare(self, uri: str) -> None:
        """Refuse what is no URI of this scheme; with Sabour's, have a context with the server."""
        try:
            parts = urlsplit(uri)
            host = parts.hostname or ""
        except ValueError:  # an address that is none
            host = ""
        if not host or parts.scheme != self._scheme.uri_scheme:
            raise UsageError(f"{uri!r} does not fit: this scheme has {self._scheme.uri_scheme}://HOST/PATH")
        try:
            port = parts.port
        except ValueError:
            raise UsageError(f"{parts.netloc!r} has a port that is none: give 1 to 65535, or nothing") from None
        expect_zone(host)
        origin = f"{parts.scheme}://{parts.netloc}"
        if self.before is not None:
            remote = await self._interface.remote(host, port)
            await self.before(remote.channel.transmission)
        if self._device is None or origin == self._proved:
            return
        client = SabourClient(self._device, EndpointContext(os.urandom, name="device"))
        self.forget()
        if not self._device.profile.hardened:
            self._payload_key = await paper_handshake(host, self._auth_port, client)
            self._proved = origin
            return
        keys = await handshake(self._context, origin, client)
        self._protect(MemoryContext(keys, self._device.server.device_id.hex()))
        self._proved = origin

    def forget(self) -> None:
        """Do the handshake anew before the next request."""
        if self._protecting is not None:
            self._context.request_interfaces.remove(self._protecting)
        self._protecting, self._proved = None, ""

    def what_is_wrong(self, uri: str, timeout: float) -> str:
        """Return what it can mean that no response came."""
        where = urlsplit(uri).netloc
        channels = self._interface.channels
        heard = any(channel.heard for channel in channels)
        if isinstance(self._scheme, DotpObject):
            return (
                f"no authentic answer of {where} in {timeout:g} s: nobody may be there, or it is not the pair's other "
                "end, or the two are out of step (then make the pair anew)"
            )
        if any(isinstance(channel, DtlsChannel) and not channel.established for channel in channels) and heard:
            spent = ", or the number is used or too far ahead" if isinstance(self._scheme, DotpDtls) else ""
            return f"{where} answers, and no session came about in {timeout:g} s: its key or identity is another{spent}"
        if self._device is not None and not self._proved:
            return (
                f"no answer of {where} in {timeout:g} s: it may not know this device id "
                f"({self._device.identity.device_id.hex()}), or can't be reached"
            )
        return f"no answer of {where} in {timeout:g} s: {'it was heard before' if heard else 'is it served there?'}"


def _fresh_s(response: Any) -> float:
    """Return for how long an observer waits before it asks again."""
    max_age = response.opt.max_age
    return float(DEFAULT_MAX_AGE_S if max_age is None else max_age) + random.uniform(*AFTER_MAX_AGE_S)


class _as_sentences:  # noqa: N801 - a context manager, used as a function
    """Turns what aiocoap raises into errors of ours."""

    def __init__(self, client: CoapClient, uri: str, timeout: float) -> None:
        self._client, self._uri, self._timeout = client, uri, timeout

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, failure: BaseException | None, _where: object) -> None:
        if isinstance(failure, TimeoutError | error.ConRetransmitsExceeded):
            raise NoResponseError(self._client.what_is_wrong(self._uri, self._timeout)) from None
        if isinstance(failure, error.NetworkError):
            cause = failure.__cause__
            if isinstance(cause, ContextLostError):
                self._client.forget()
            if isinstance(cause, BtSelfSecureError) and not isinstance(cause, PeerError):
                raise cause from None
            raise NoResponseError(f"no answer of {urlsplit(self._uri).netloc}: {cause or failure}") from None
        if isinstance(failure, error.MalformedUrlError | error.IncompleteUrlError):
            raise UsageError(f"{self._uri!r} is no URI of CoAP: give coap://HOST/PATH") from None
        # of aiocoap, too, where an answer's block options are not those that it supposes
        if isinstance(failure, error.Error | AttributeError | AssertionError):
            where = urlsplit(self._uri).netloc
            raise NoResponseError(f"what came from {where} is no answer to this request: ask again") from None


@asynccontextmanager
async def connected(
    scheme: Scheme | None = None,
    device: ClientConfig | None = None,
    auth_port: int = AUTH_PORT,
    security: OscorePair | None = None,
) -> AsyncIterator[CoapClient]:
    """Yield a client over this scheme; with `device` after Sabour's handshake, for which the paper's profile has a port
    of its own, with `security` in OSCORE under a key that both ends have. Raises `UsageError`."""
    secured = scheme or Plain()
    loop = asyncio.get_running_loop()
    context = aiocoap.Context(loop=loop, loggername="bt_selfsecure.coap.client")
    connect = secured.client()

    async def opened(manager: Any) -> UdpClient:
        return UdpClient(manager, secured.uri_scheme, connect)

    interface = await carry(context, opened)
    try:
        yield CoapClient(context, interface, secured, device, auth_port, security)
    finally:
        await context.shutdown()
