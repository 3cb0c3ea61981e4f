"""DTLS 1.2 with a pre-shared key (RFC 6347, RFC 4279), sans-IO: the system's libssl between two pieces of memory.

`Dtls.client` and the endpoints that a `DtlsListener` hands out have the five verbs, `send` and `close`. One thing is
not sans-IO: the waits before a flight is repeated run by libssl's own clock. So `get_timer` says when it would be due
by that clock, and `handle_timer` that comes too early repeats nothing and `get_timer` says again when.
"""

from __future__ import annotations

import ctypes
import hmac
from collections.abc import Callable
from dataclasses import field
from typing import Any, Final

from bt_selfsecure.errors import LocalError
from bt_selfsecure.libssl import (
    BIO_RESET,
    BIO_SET_EOF_RETURN,
    CHECK_COOKIE,
    CLIENT_KEY,
    CTRL_DTLS_GET_TIMEOUT,
    CTRL_DTLS_HANDLE_TIMEOUT,
    CTRL_SESS_CACHE_MODE,
    CTRL_SET_MAX_VERSION,
    CTRL_SET_MIN_VERSION,
    CTRL_SET_MTU,
    DTLS1_2,
    ERROR_WANT_READ,
    ERROR_WANT_WRITE,
    ERROR_ZERO_RETURN,
    MAKE_COOKIE,
    NEXT_TIMEOUT,
    OP_COOKIE_EXCHANGE,
    OP_NO_QUERY_MTU,
    OP_NO_RENEGOTIATION,
    OP_NO_TICKET,
    SERVER_KEY,
    TimeVal,
    libssl,
)
from bt_selfsecure.sansio.back_off import doubled
from bt_selfsecure.sansio.context import Random
from bt_selfsecure.sansio.endpoint import EventQueue
from bt_selfsecure.sansio.events import FrameRejected, Rejection
from bt_selfsecure.sansio.value import value

CIPHERS: Final = "PSK-CHACHA20-POLY1305:PSK-AES128-CCM8:PSK-AES128-GCM-SHA256:@SECLEVEL=0"
"""Offered in this order. RFC 7252 asks for CCM8, which libssl has at level 0 alone, for its tag of 8 bytes."""
MOST_DATAGRAM_BYTES: Final = 16_384
MOST_EVENTS: Final = 64
COOKIE_BYTES: Final = 16
COOKIE_S: Final = 60.0
"""A cookie is good for at least so long, and at most twice."""
_HEADER_BYTES: Final = 13
_LEAST_SEALED_BYTES, _LEAST_OF_GCM_BYTES = 17, 25
"""One byte, and what a cipher adds: nonce and tag 8 + 8 in CCM8, 8 + 16 in GCM, 0 + 16 in ChaCha20-Poly1305."""


@value
class DtlsConfig:
    """Holds what both kinds of ends can be told."""

    mtu: int = 1232
    """Most bytes in a datagram: 1280 less IPv6's and UDP's headers."""
    first_timeout_s: float = 1.0
    last_timeout_s: float = 60.0
    """The wait before a flight of the handshake is repeated, doubled with each up to the last."""
    ciphers: str = CIPHERS
    prepare: Callable[[Any], object] = id
    """Given each new SSL_CTX: how a program of yours has certificates."""


@value
class Credentials:
    """Says who a client says it is, and the key that proves it."""

    identity: bytes
    key: bytes = field(repr=False)


@value
class Established:
    """Both ends were seen to have the key."""

    identity: bytes
    cipher: str


@value
class DataReceived:
    """Carries one datagram's worth of what the peer sent."""

    data: bytes


@value
class UnknownIdentity:
    """A client came under a name that the look-up does not know. It is left to fail as one with a wrong key does."""

    identity: bytes


@value
class Closed:
    """It is over: by the peer's wish, or by what libssl says."""

    reason: str


Event = Established | DataReceived | UnknownIdentity | Closed
AskCredentials = Callable[[bytes], Credentials]
"""Given the server's hint, at the moment in which the key is needed: so it can be another one each time."""
LookUp = Callable[[bytes], bytes | None]
"""Given the client's identity; returns its key."""


class _Keys:
    """What libssl calls back for. It has no way back to the endpoint: so that goes as soon as nobody has it."""

    def __init__(self, events: EventQueue[Event]) -> None:
        self.events = events
        self.identity = b""
        self.failure: BaseException | None = None
        self.kept: list[Any] = []
        """The callbacks: libssl has but their addresses."""
        self.cookie: Callable[[], bytes] = bytes
        self.cookies: Callable[[], tuple[bytes, ...]] = tuple

    def guarded(self, function: Callable[..., int]) -> Callable[..., int]:
        """Return the function, with what it raises kept for the caller of the verb: C can't raise it."""

        def call(*arguments: Any) -> int:
            try:
                return function(*arguments)
            except BaseException as error:
                self.failure = error
                return 0

        return call


class Dtls:
    """Is one end of one connection. Drive it by the verbs of `Endpoint`, `send(data, now)` and `close(now)`."""

    def __init__(self, config: DtlsConfig, now: float) -> None:
        self._lib: Final = libssl()
        self._ssl: Any = None
        self._context: Any = self._lib.SSL_CTX_new(self._lib.DTLS_method())
        self._config: Final = config
        self._events: Final[EventQueue[Event]] = EventQueue(MOST_EVENTS)
        self._keys: Final = _Keys(self._events)
        self._room: Final = ctypes.create_string_buffer(MOST_DATAGRAM_BYTES)
        self._now = now
        self._over = self._told = False
        self._least_sealed = _LEAST_OF_GCM_BYTES  # the handshake's own are longer

    @classmethod
    def client(cls, credentials: AskCredentials, now: float, config: DtlsConfig | None = None) -> Dtls:
        """Return a client; its first hello is ready. Raises `NoLibsslError`, and `LocalError` for a bad `config`."""
        end = cls(config or DtlsConfig(), now)
        keys = end._keys

        def ask(_ssl: Any, hint: bytes | None, identity: int, most_identity: int, key: int, most: int) -> int:
            given = credentials(hint or b"")
            if len(given.identity) >= most_identity or not 0 < len(given.key) <= most or b"\0" in given.identity:
                raise LocalError(f"identity or key is too long, or empty: at most {most_identity - 1} and {most} bytes")
            keys.identity = given.identity
            ctypes.memmove(identity, given.identity + b"\0", len(given.identity) + 1)
            ctypes.memmove(key, given.key, len(given.key))
            return len(given.key)

        callback = CLIENT_KEY(keys.guarded(ask))
        keys.kept.append(callback)
        end._lib.SSL_CTX_set_psk_client_callback(end._context, callback)
        end._begin(end._lib.SSL_set_connect_state)
        end._proceed()
        return end

    @classmethod
    def _listening(cls, look_up: LookUp, random: Random, now: float, config: DtlsConfig) -> Dtls:
        """Return a server that waits for a hello with its cookie."""
        end = cls(config, now)
        keys, lib = end._keys, end._lib

        def find(_ssl: Any, identity: bytes | None, key: int, most: int) -> int:
            keys.identity = identity or b""
            found = look_up(keys.identity)
            if found is None:
                keys.events.put_if_room(UnknownIdentity(keys.identity))
                found = random(32)
            if not 0 < len(found) <= most:
                raise LocalError(f"the key of {keys.identity!r} must have 1 to {most} bytes, and has {len(found)}")
            ctypes.memmove(key, found, len(found))
            return len(found)

        def make(_ssl: Any, cookie: int, length: Any) -> int:
            ctypes.memmove(cookie, keys.cookie(), COOKIE_BYTES)
            length[0] = COOKIE_BYTES
            return 1

        def check(_ssl: Any, cookie: int, length: int) -> int:
            given = ctypes.string_at(cookie, length)
            return int(any(hmac.compare_digest(given, good) for good in keys.cookies()))

        callbacks = SERVER_KEY(keys.guarded(find)), MAKE_COOKIE(keys.guarded(make)), CHECK_COOKIE(keys.guarded(check))
        keys.kept += callbacks
        lib.SSL_CTX_set_psk_server_callback(end._context, callbacks[0])
        lib.SSL_CTX_set_cookie_generate_cb(end._context, callbacks[1])
        lib.SSL_CTX_set_cookie_verify_cb(end._context, callbacks[2])
        end._begin(lib.SSL_set_accept_state)
        return end

    def _begin(self, as_what: Callable[[Any], None]) -> None:
        lib, context, config = self._lib, self._context, self._config
        lib.SSL_CTX_ctrl(context, CTRL_SET_MIN_VERSION, DTLS1_2, None)
        lib.SSL_CTX_ctrl(context, CTRL_SET_MAX_VERSION, DTLS1_2, None)
        lib.SSL_CTX_ctrl(context, CTRL_SESS_CACHE_MODE, 0, None)  # a resumed session would not ask for the key
        lib.SSL_CTX_set_options(context, OP_NO_QUERY_MTU | OP_COOKIE_EXCHANGE | OP_NO_TICKET | OP_NO_RENEGOTIATION)
        if not lib.SSL_CTX_set_cipher_list(context, config.ciphers.encode()):
            lib.ERR_clear_error()
            raise LocalError(f"libssl knows none of the ciphers {config.ciphers}")
        config.prepare(context)
        self._ssl = lib.SSL_new(context)
        self._in, self._out = lib.BIO_new(lib.BIO_s_mem()), lib.BIO_new(lib.BIO_s_mem())
        for memory in (self._in, self._out):
            lib.BIO_ctrl(memory, BIO_SET_EOF_RETURN, -1, None)  # empty means later, not never
        lib.SSL_set_bio(self._ssl, self._in, self._out)
        lib.SSL_ctrl(self._ssl, CTRL_SET_MTU, config.mtu, None)
        first, last = int(config.first_timeout_s * 1e6), int(config.last_timeout_s * 1e6)
        timeouts = NEXT_TIMEOUT(lambda _ssl, before: int(doubled(before, last, 1)) or first)
        self._keys.kept.append(timeouts)
        lib.DTLS_set_timer_cb(self._ssl, timeouts)
        as_what(self._ssl)

    def __del__(self) -> None:
        if self._ssl:
            self._lib.SSL_free(self._ssl)  # the two memories with it
        self._lib.SSL_CTX_free(self._context)

    # --- the verbs ----------------------------------------------------------------------------------------------------

    @property
    def established(self) -> bool:
        """Return whether both ends were seen to have the key, and neither has closed."""
        return self._told and not self._over

    @property
    def most_data_bytes(self) -> int:
        """Return the longest data that `send` takes: what fits a datagram beside DTLS's own. 0 before it is
        established."""
        return int(self._lib.DTLS_get_data_mtu(self._ssl)) if self.established else 0

    def receive_frame(self, data: bytes, now: float) -> None:
        """Take one datagram. Never raises for what it contains; what the look-up of keys raises comes out here."""
        self._now = now
        if self._over or not _is_of_records(data, self._least_sealed):
            self._events.reject(Rejection.NOT_FOR_US if self._over else Rejection.MALFORMED)
            return
        self._lib.BIO_write(self._in, data, len(data))
        self._proceed()
        self._lib.BIO_ctrl(self._in, BIO_RESET, 0, None)

    def frames_to_send(self, now: float) -> list[bytes]:
        """Return the datagrams that are due: whole records, as many as fit one each."""
        self._now = now
        written = b""
        while (count := self._lib.BIO_read(self._out, self._room, MOST_DATAGRAM_BYTES)) > 0:
            written += self._room.raw[:count]
        datagrams: list[bytes] = []
        while written:
            length = _HEADER_BYTES + int.from_bytes(written[11:13])
            record, written = written[:length], written[length:]
            if datagrams and len(datagrams[-1]) + length <= self._config.mtu:
                datagrams[-1] += record
            else:
                datagrams.append(record)
        return datagrams

    def get_timer(self) -> float | None:
        """Return the time at which the last flight is to be repeated, as libssl's clock said at the last verb."""
        left = TimeVal()
        if self._over or self._lib.SSL_ctrl(self._ssl, CTRL_DTLS_GET_TIMEOUT, 0, ctypes.byref(left)) != 1:
            return None
        return float(self._now + left.seconds + left.microseconds / 1e6)

    def handle_timer(self, now: float) -> None:
        """Repeat the last flight, if it is due by libssl's clock. After a dozen repetitions it is over."""
        self._now = now
        if not self._over and self._lib.SSL_ctrl(self._ssl, CTRL_DTLS_HANDLE_TIMEOUT, 0, None) < 0:
            self._end(f"no answer ({self._lib.fault()})")

    def next_event(self) -> Event | FrameRejected | None:
        """Return the oldest event that was not taken yet, and forget it; None where there is none."""
        return self._events.take()

    def send(self, data: bytes, now: float) -> None:
        """Seal this into one datagram. Raises `LocalError` before it is established, and for what fits no datagram."""
        self._now = now
        if not 0 < len(data) <= self.most_data_bytes:
            why = f"1 to {self.most_data_bytes} bytes fit" if self.established else "nothing is established"
            raise LocalError(f"{len(data)} bytes can't be sent: {why}")
        if self._lib.SSL_write(self._ssl, data, len(data)) <= 0:
            self._end(self._lib.fault())

    def close(self, now: float) -> None:
        """Tell the peer that it is over; what is still to be sent, is sent."""
        self._now = now
        if self.established:
            self._lib.SSL_shutdown(self._ssl)
            self._lib.ERR_clear_error()
        self._over = True

    # --- inside -------------------------------------------------------------------------------------------------------

    def _proceed(self) -> None:
        """Let libssl work on what is in its memory."""
        lib = self._lib
        if not self._told:
            self._judge(lib.SSL_do_handshake(self._ssl))
            if self._over or not lib.SSL_is_init_finished(self._ssl):
                return
            self._told = True
            cipher: bytes = lib.SSL_CIPHER_get_name(lib.SSL_get_current_cipher(self._ssl))
            self._least_sealed = _LEAST_OF_GCM_BYTES if b"GCM" in cipher else _LEAST_SEALED_BYTES
            self._events.put(Established(self._keys.identity, cipher.decode()))
        while (count := lib.SSL_read(self._ssl, self._room, MOST_DATAGRAM_BYTES)) > 0:
            self._events.put(DataReceived(self._room.raw[:count]))
        self._judge(count)

    def _judge(self, result: int) -> None:
        """Tell whether this result of libssl means that it is over."""
        failure, self._keys.failure = self._keys.failure, None
        if result <= 0:
            error = self._lib.SSL_get_error(self._ssl, result)
            if error == ERROR_ZERO_RETURN:
                self._end("the peer closed it")
            elif error not in (ERROR_WANT_READ, ERROR_WANT_WRITE):
                self._end(self._lib.fault())
        if failure is not None:
            raise failure

    def _end(self, reason: str) -> None:
        self._over = True
        self._events.put(Closed(reason))


def _is_of_records(data: bytes, least_sealed: int) -> bool:
    """Return whether a datagram is of whole records that a peer could have made: libssl 3.0 gives a session up for one
    that is shorter than what its cipher adds, whoever sent it."""
    at = 0
    while at < len(data) <= MOST_DATAGRAM_BYTES:
        sealed, length = any(data[at + 3 : at + 5]), int.from_bytes(data[at + 11 : at + 13])
        at += _HEADER_BYTES + length
        if length < (least_sealed if sealed else 1):
            return False
    return 0 < at == len(data)


class DtlsListener:
    """Takes clients that have no endpoint yet. It keeps nothing of one that was not seen to be where it says.

    A hello without a cookie is answered by a smaller datagram with one (RFC 6347 section 4.2.1), and forgotten; a hello
    that brings the cookie back gets an endpoint of its own, to which the driver gives what comes from there.
    """

    def __init__(self, look_up: LookUp, random: Random, now: float, config: DtlsConfig | None = None) -> None:
        self._look_up: Final = look_up
        self._random: Final = random
        self._config: Final = config or DtlsConfig()
        self._secret: Final = random(32)
        self._waiting = Dtls._listening(look_up, random, now, self._config)

    def receive_frame(self, data: bytes, address: bytes, now: float) -> Dtls | list[bytes]:
        """Return the endpoint of a new client, with its hello taken; else the datagrams to answer with, if any.

        `address` is the sender's, in whatever form is the same each time.
        """
        if not _HEADER_BYTES < len(data) <= MOST_DATAGRAM_BYTES:
            return []
        end, lib = self._waiting, libssl()
        good = self._cookie(address, int(now // COOKIE_S)), self._cookie(address, int(now // COOKIE_S) - 1)
        end._now = now
        end._keys.cookie, end._keys.cookies = (lambda: good[0]), (lambda: good)
        lib.BIO_write(end._in, data, len(data))
        peer = lib.BIO_ADDR_new()
        result = lib.DTLSv1_listen(end._ssl, peer)
        lib.BIO_ADDR_free(peer)
        lib.BIO_ctrl(end._in, BIO_RESET, 0, None)
        lib.ERR_clear_error()
        if result == 0:
            return end.frames_to_send(now)
        self._waiting = Dtls._listening(self._look_up, self._random, now, self._config)
        if result < 0:
            return []
        end._proceed()
        return end

    def _cookie(self, address: bytes, epoch: int) -> bytes:
        return hmac.digest(self._secret, epoch.to_bytes(8, signed=True) + address, "sha256")[:COOKIE_BYTES]
