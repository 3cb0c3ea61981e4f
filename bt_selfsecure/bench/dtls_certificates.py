"""Certificates for an end of DTLS, which the protocols here have no use for: for what is measured beside them."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any, Final

from bt_selfsecure.errors import BtSelfSecureError

_PEM, _VERIFY_PEER, _OR_FAIL = 1, 1, 2
LIBSSL: Final = "libssl.so.3"


def take_certificates(context: Any, certificate: Path, key: Path, trusted: Path) -> None:
    """Give an SSL_CTX of libssl its certificate and key, and whom it trusts, each a file of PEM."""
    lib, at = ctypes.CDLL(LIBSSL), ctypes.c_void_p(context)
    taken = (
        lib.SSL_CTX_use_certificate_file(at, str(certificate).encode(), _PEM)
        and lib.SSL_CTX_use_PrivateKey_file(at, str(key).encode(), _PEM)
        and lib.SSL_CTX_load_verify_locations(at, str(trusted).encode(), None)
    )
    if taken != 1:
        raise BtSelfSecureError(f"libssl does not take the certificates in {certificate.parent}: make them anew")
    lib.SSL_CTX_set_verify(at, _VERIFY_PEER | _OR_FAIL, None)
