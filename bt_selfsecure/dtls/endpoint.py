"""One end of one connection.

`Dtls.client` and the endpoints that a `DtlsListener` hands out have the five verbs, `send` and `close`. One thing is
not sans-IO: the waits before a flight is repeated run by libssl's own clock. So `get_timer` says when it would be due
by that clock, and `handle_timer` that comes too early repeats nothing and `get_timer` says again when.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, Final

from bt_selfsecure.dtls.callbacks import Callbacks
from bt_selfsecure.dtls.libssl import (
    BIO_RESET,
    BIO_SET_EOF_RETURN,
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
    OP_COOKIE_EXCHANGE,
    OP_NO_QUERY_MTU,
    OP_NO_RENEGOTIATION,
    OP_NO_TICKET,
    TimeVal,
    libssl,
)
from bt_selfsecure.dtls.values import (
    AskCredentials,
    Closed,
    DataReceived,
    DtlsConfig,
    Established,
    Event,
    LookUp,
)
from bt_selfsecure.errors import LocalError
from bt_selfsecure.sansio.context import Random
from bt_selfsecure.sansio.endpoint import EventQueue
from bt_selfsecure.sansio.events import FrameRejected, Rejection

MOST_DATAGRAM_BYTES: Final = 16_384
MOST_EVENTS: Final = 64
HEADER_BYTES: Final = 13
_LEAST_SEALED_BYTES, _LEAST_OF_GCM_BYTES = 17, 25
"""One byte, and what a cipher adds: nonce and tag 8 + 8 in CCM8, 8 + 16 in GCM, 0 + 16 in ChaCha20-Poly1305."""


class Dtls:
    """Is one end of one connection. Drive it by the verbs of `Endpoint`, `send(data, now)` and `close(now)`."""

    def __init__(self, config: DtlsConfig, now: float) -> None:
        self._lib: Final = libssl()
        self._ssl: Any = None
        self._context: Any = self._lib.SSL_CTX_new(self._lib.DTLS_method())
        self._config: Final = config
        self._events: Final[EventQueue[Event]] = EventQueue(MOST_EVENTS)
        self._callbacks: Final = Callbacks(self._events)
        self._room: Final = ctypes.create_string_buffer(MOST_DATAGRAM_BYTES)
        self._now = now
        self._over = self._told = False
        self._least_sealed = _LEAST_OF_GCM_BYTES  # the handshake's own are longer

    @classmethod
    def client(cls, credentials: AskCredentials, now: float, config: DtlsConfig | None = None) -> Dtls:
        """Return a client; its first hello is ready. Raises `NoLibsslError`, and `LocalError` for a bad `config`."""
        end = cls(config or DtlsConfig(), now)
        end._callbacks.ask(end._context, credentials)
        end._begin(end._lib.SSL_set_connect_state)
        end.proceed()
        return end

    @classmethod
    def listening(cls, look_up: LookUp, random: Random, now: float, config: DtlsConfig) -> Dtls:
        """Return a server that waits for a hello with its cookie, for a `DtlsListener`."""
        end = cls(config, now)
        end._callbacks.look_up(end._context, look_up, random)
        end._begin(end._lib.SSL_set_accept_state)
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
        self._callbacks.wait(self._ssl, config)
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
        self.proceed()
        self._lib.BIO_ctrl(self._in, BIO_RESET, 0, None)

    def frames_to_send(self, now: float) -> list[bytes]:
        """Return the datagrams that are due: whole records, as many as fit one each."""
        self._now = now
        written = b""
        while (count := self._lib.BIO_read(self._out, self._room, MOST_DATAGRAM_BYTES)) > 0:
            written += self._room.raw[:count]
        datagrams: list[bytes] = []
        while written:
            length = HEADER_BYTES + int.from_bytes(written[11:13])
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

    def listen(self, data: bytes, cookies: tuple[bytes, ...], now: float) -> int:
        """Give a hello to an end that listens. Return 1 where it brings one of these cookies back: `proceed` is to
        follow; 0 where an answer with the first of them is to be sent; less where this end can't be used any more."""
        lib = self._lib
        self._now, self._callbacks.good_cookies = now, cookies
        lib.BIO_write(self._in, data, len(data))
        peer = lib.BIO_ADDR_new()
        result = int(lib.DTLSv1_listen(self._ssl, peer))
        lib.BIO_ADDR_free(peer)
        lib.BIO_ctrl(self._in, BIO_RESET, 0, None)
        lib.ERR_clear_error()
        return result

    # --- inside -------------------------------------------------------------------------------------------------------

    def proceed(self) -> None:
        """Let libssl work on what is in its memory."""
        lib = self._lib
        if not self._told:
            self._judge(lib.SSL_do_handshake(self._ssl))
            if self._over or not lib.SSL_is_init_finished(self._ssl):
                return
            self._told = True
            cipher: bytes = lib.SSL_CIPHER_get_name(lib.SSL_get_current_cipher(self._ssl))
            self._least_sealed = _LEAST_OF_GCM_BYTES if b"GCM" in cipher else _LEAST_SEALED_BYTES
            self._events.put(Established(self._callbacks.identity, cipher.decode()))
        while (count := lib.SSL_read(self._ssl, self._room, MOST_DATAGRAM_BYTES)) > 0:
            self._events.put(DataReceived(self._room.raw[:count]))
        self._judge(count)

    def _judge(self, result: int) -> None:
        """Tell whether this result of libssl means that it is over."""
        failure, self._callbacks.failure = self._callbacks.failure, None
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
        at += HEADER_BYTES + length
        if length < (least_sealed if sealed else 1):
            return False
    return 0 < at == len(data)
