"""The few functions of the system's libssl that this room needs, by ctypes: nothing is compiled.

OpenSSL 3.0 to 3.5 have them all, under these names and with these types. The numbers are from its public headers.
"""

from __future__ import annotations

import ctypes
from ctypes import c_char_p, c_int, c_long, c_uint, c_uint64, c_ulong, c_void_p
from functools import cache
from typing import Any, Final

from bt_selfsecure.errors import BtSelfSecureError

DTLS1_2: Final = 0xFEFD
OP_NO_QUERY_MTU, OP_COOKIE_EXCHANGE, OP_NO_TICKET, OP_NO_RENEGOTIATION = 1 << 12, 1 << 13, 1 << 14, 1 << 30
ERROR_WANT_READ, ERROR_WANT_WRITE, ERROR_ZERO_RETURN = 2, 3, 6
CTRL_SET_MTU, CTRL_SESS_CACHE_MODE = 17, 44
CTRL_DTLS_GET_TIMEOUT, CTRL_DTLS_HANDLE_TIMEOUT = 73, 74
CTRL_SET_MIN_VERSION, CTRL_SET_MAX_VERSION = 123, 124
BIO_RESET, BIO_SET_EOF_RETURN = 1, 130

CLIENT_KEY: Final = ctypes.CFUNCTYPE(c_uint, c_void_p, c_char_p, c_void_p, c_uint, c_void_p, c_uint)
"""SSL, hint, room for the identity and its size, room for the key and its size; returns the key's length, or 0."""
SERVER_KEY: Final = ctypes.CFUNCTYPE(c_uint, c_void_p, c_char_p, c_void_p, c_uint)
"""SSL, identity, room for the key and its size; returns the key's length, or 0."""
MAKE_COOKIE: Final = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, ctypes.POINTER(c_uint))
CHECK_COOKIE: Final = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_uint)
NEXT_TIMEOUT: Final = ctypes.CFUNCTYPE(c_uint, c_void_p, c_uint)
"""SSL, the last timeout in microseconds (0 at first); returns the next one."""


class TimeVal(ctypes.Structure):
    """Is C's struct timeval."""

    _fields_ = (("seconds", c_long), ("microseconds", c_long))


_SSL: Final[dict[str, tuple[Any, ...]]] = {  # name: what it returns, what it takes
    "DTLS_method": (c_void_p,),
    "DTLS_get_data_mtu": (ctypes.c_size_t, c_void_p),
    "DTLS_set_timer_cb": (None, c_void_p, NEXT_TIMEOUT),
    "DTLSv1_listen": (c_int, c_void_p, c_void_p),
    "SSL_CIPHER_get_name": (c_char_p, c_void_p),
    "SSL_CTX_ctrl": (c_long, c_void_p, c_int, c_long, c_void_p),
    "SSL_CTX_free": (None, c_void_p),
    "SSL_CTX_new": (c_void_p, c_void_p),
    "SSL_CTX_set_cipher_list": (c_int, c_void_p, c_char_p),
    "SSL_CTX_set_cookie_generate_cb": (None, c_void_p, MAKE_COOKIE),
    "SSL_CTX_set_cookie_verify_cb": (None, c_void_p, CHECK_COOKIE),
    "SSL_CTX_set_options": (c_uint64, c_void_p, c_uint64),
    "SSL_CTX_set_psk_client_callback": (None, c_void_p, CLIENT_KEY),
    "SSL_CTX_set_psk_server_callback": (None, c_void_p, SERVER_KEY),
    "SSL_ctrl": (c_long, c_void_p, c_int, c_long, c_void_p),
    "SSL_do_handshake": (c_int, c_void_p),
    "SSL_free": (None, c_void_p),
    "SSL_get_current_cipher": (c_void_p, c_void_p),
    "SSL_get_error": (c_int, c_void_p, c_int),
    "SSL_is_init_finished": (c_int, c_void_p),
    "SSL_new": (c_void_p, c_void_p),
    "SSL_read": (c_int, c_void_p, c_void_p, c_int),
    "SSL_set_accept_state": (None, c_void_p),
    "SSL_set_bio": (None, c_void_p, c_void_p, c_void_p),
    "SSL_set_connect_state": (None, c_void_p),
    "SSL_shutdown": (c_int, c_void_p),
    "SSL_write": (c_int, c_void_p, c_char_p, c_int),
}
_CRYPTO: Final[dict[str, tuple[Any, ...]]] = {
    "BIO_ADDR_free": (None, c_void_p),
    "BIO_ADDR_new": (c_void_p,),
    "BIO_ctrl": (c_long, c_void_p, c_int, c_long, c_void_p),
    "BIO_new": (c_void_p, c_void_p),
    "BIO_read": (c_int, c_void_p, c_void_p, c_int),
    "BIO_s_mem": (c_void_p,),
    "BIO_write": (c_int, c_void_p, c_char_p, c_int),
    "ERR_clear_error": (None,),
    "ERR_peek_error": (c_ulong,),
    "ERR_reason_error_string": (c_char_p, c_ulong),
}


class NoLibsslError(BtSelfSecureError):
    """There is no libssl here that does: the text says what to install."""


class Libssl:
    """Holds the functions, each under its own name."""

    def __init__(self) -> None:
        try:
            libraries = [ctypes.CDLL(f"lib{name}.so.3") for name in ("ssl", "crypto")]
            for library, functions in zip(libraries, (_SSL, _CRYPTO), strict=True):
                for name, (result, *arguments) in functions.items():
                    function = getattr(library, name)
                    function.restype, function.argtypes = result, arguments
                    setattr(self, name, function)
        except (OSError, AttributeError) as error:
            raise NoLibsslError(
                f"DTLS needs the system's OpenSSL 3 ({error}): sudo apt-get install libssl3 (or libssl3t64)"
            ) from None

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    def fault(self) -> str:
        """Return what libssl says went wrong just now, in its words."""
        text: bytes | None = self.ERR_reason_error_string(self.ERR_peek_error())
        self.ERR_clear_error()
        return text.decode() if text else "no reason given"


@cache
def libssl() -> Libssl:
    """Return the library, loaded at the first call. Raises `NoLibsslError`."""
    return Libssl()
