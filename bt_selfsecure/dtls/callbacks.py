"""What libssl calls back for: keys, cookies and the waits before a flight is repeated."""

from __future__ import annotations

import ctypes
import hmac
from collections.abc import Callable
from typing import Any, Final

from bt_selfsecure.dtls.libssl import CHECK_COOKIE, CLIENT_KEY, MAKE_COOKIE, NEXT_TIMEOUT, SERVER_KEY, libssl
from bt_selfsecure.dtls.values import AskCredentials, DtlsConfig, Event, LookUp, UnknownIdentity
from bt_selfsecure.errors import LocalError
from bt_selfsecure.sansio.back_off import doubled
from bt_selfsecure.sansio.context import Random
from bt_selfsecure.sansio.endpoint import EventQueue

COOKIE_BYTES: Final = 16


class Callbacks:
    """Answers libssl for one endpoint. It has no way back to the endpoint: so that goes as soon as nobody has it."""

    def __init__(self, events: EventQueue[Event]) -> None:
        self.identity = b""
        """Of the client."""
        self.failure: BaseException | None = None
        """What one of them has raised."""
        self.good_cookies: tuple[bytes, ...] = ()
        """Those that a hello may bring back; the first is the one to give out."""
        self._events: Final = events
        self._kept: Final[list[Any]] = []  # libssl has but their addresses

    def ask(self, context: Any, credentials: AskCredentials) -> None:
        """Give a client's context these credentials."""

        def ask(_ssl: Any, hint: bytes | None, identity: int, most_identity: int, key: int, most: int) -> int:
            given = credentials(hint or b"")
            if len(given.identity) >= most_identity or not 0 < len(given.key) <= most or b"\0" in given.identity:
                raise LocalError(f"identity or key is too long, or empty: at most {most_identity - 1} and {most} bytes")
            self.identity = given.identity
            ctypes.memmove(identity, given.identity + b"\0", len(given.identity) + 1)
            ctypes.memmove(key, given.key, len(given.key))
            return len(given.key)

        libssl().SSL_CTX_set_psk_client_callback(context, self._keep(CLIENT_KEY(self._guarded(ask))))

    def look_up(self, context: Any, look_up: LookUp, random: Random) -> None:
        """Give a server's context the keys of its clients, and cookies."""

        def find(_ssl: Any, identity: bytes | None, key: int, most: int) -> int:
            self.identity = identity or b""
            found = look_up(self.identity)
            if found is None:
                self._events.put_if_room(UnknownIdentity(self.identity))
                found = random(32)
            if not 0 < len(found) <= most:
                raise LocalError(f"the key of {self.identity!r} must have 1 to {most} bytes, and has {len(found)}")
            ctypes.memmove(key, found, len(found))
            return len(found)

        def make(_ssl: Any, cookie: int, length: Any) -> int:
            ctypes.memmove(cookie, self.good_cookies[0], COOKIE_BYTES)
            length[0] = COOKIE_BYTES
            return 1

        def check(_ssl: Any, cookie: int, length: int) -> int:
            given = ctypes.string_at(cookie, length)
            return int(any(hmac.compare_digest(given, good) for good in self.good_cookies))

        lib = libssl()
        lib.SSL_CTX_set_psk_server_callback(context, self._keep(SERVER_KEY(self._guarded(find))))
        lib.SSL_CTX_set_cookie_generate_cb(context, self._keep(MAKE_COOKIE(self._guarded(make))))
        lib.SSL_CTX_set_cookie_verify_cb(context, self._keep(CHECK_COOKIE(self._guarded(check))))

    def wait(self, ssl: Any, config: DtlsConfig) -> None:
        """Let flights be repeated after the waits that are configured."""
        first, last = int(config.first_timeout_s * 1e6), int(config.last_timeout_s * 1e6)
        timeouts = NEXT_TIMEOUT(lambda _ssl, before: int(doubled(before, last, 1)) or first)
        libssl().DTLS_set_timer_cb(ssl, self._keep(timeouts))

    def _keep(self, callback: Any) -> Any:
        self._kept.append(callback)
        return callback

    def _guarded(self, function: Callable[..., int]) -> Callable[..., int]:
        """Return the function, with what it raises kept for the caller of the verb: C can't raise it."""

        def call(*arguments: Any) -> int:
            try:
                return function(*arguments)
            except BaseException as error:
                self.failure = error
                return 0

        return call
