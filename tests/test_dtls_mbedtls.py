"""DTLS with a pre-shared key, over UDP on loopback, with python-mbedtls at the other end."""

from __future__ import annotations

import socket
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from dtls_wire import IDENTITY, KEY, WRONG, Wire, client_to, listener

from bt_selfsecure.dtls.values import Established

tls: Any = pytest.importorskip(
    "mbedtls.tls", reason="python-mbedtls is not installed: it has wheels for x86_64 and Python 3.11 and 3.12 alone"
)
TLSError = pytest.importorskip("mbedtls.exceptions").TLSError
LEFT_S, WRONG_S = 3.0, 1.0
CHACHA20 = ("TLS-PSK-WITH-CHACHA20-POLY1305-SHA256", "PSK-CHACHA20-POLY1305")
CASES = pytest.mark.parametrize(
    ("theirs", "ours", "key", "right"),
    [
        (*CHACHA20, KEY, True),
        ("TLS-PSK-WITH-AES-128-CCM-8", "PSK-AES128-CCM8", KEY, True),
        ("TLS-PSK-WITH-AES-128-GCM-SHA256", "PSK-AES128-GCM-SHA256", KEY, True),
        (*CHACHA20, WRONG, False),
    ],
    ids=["chacha20", "ccm8", "gcm", "wrong key"],
)


def configured(cipher: str, **keys: object) -> Any:
    return tls.DTLSConfiguration(
        ciphers=[cipher], validate_certificates=False, lowest_supported_version=tls.DTLSVersion.DTLSv1_2, **keys
    )


def asked_by_mbedtls(place: tuple[str, int], cipher: str, key: bytes) -> bytes:
    """Say hello, and return the answer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.settimeout(LEFT_S if key == KEY else WRONG_S)
        own.connect(place)
        context = tls.ClientContext(configured(cipher, pre_shared_key=(IDENTITY.decode(), key)))
        wrapped = context.wrap_socket(own, None)
        wrapped.do_handshake()
        wrapped.send(b"hello from mbedtls")
        return bytes(wrapped.recv(4096))


def served_by_mbedtls(own: socket.socket, cipher: str) -> tuple[int, bytes]:
    """Answer one client, and return how many cookies were sent, and what it said."""
    cookies, context = 0, tls.ServerContext(configured(cipher, pre_shared_key_store={IDENTITY.decode(): KEY}))
    with own, context.wrap_socket(own) as listening:
        wrapped = listening
        while True:
            wrapped, client = wrapped.accept()
            wrapped.setcookieparam(client[0].encode())
            wrapped.settimeout(LEFT_S)
            try:
                wrapped.do_handshake()
            except tls.HelloVerifyRequest:
                cookies += 1
                continue
            heard = bytes(wrapped.recv(4096))
            wrapped.send(b"hello back")
            return cookies, heard


@CASES
def test_mbedtls_is_served_with_each_cipher_and_the_right_key_alone(
    theirs: str, ours: str, key: bytes, right: bool, loopback_host: str
) -> None:
    with Wire(loopback_host, listener()) as wire, ThreadPoolExecutor(1) as aside:
        answer = aside.submit(asked_by_mbedtls, (loopback_host, wire.port), theirs, key)
        assert wire.drive(lambda: wire.data != b"", LEFT_S if right else WRONG_S) == right
        assert wire.told[:1] == ([Established(IDENTITY, ours)] if right else [])
        if right:
            assert wire.data == b"hello from mbedtls"
            wire.send(b"hello back")
            assert answer.result() == b"hello back"
        else:
            with pytest.raises(TimeoutError):
                answer.result()


@CASES
def test_mbedtls_serves_us_with_each_cipher_after_a_cookie_and_with_the_right_key_alone(
    theirs: str, ours: str, key: bytes, right: bool, loopback_host: str
) -> None:
    own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # it binds another one there for the next client
    own.settimeout(LEFT_S)
    own.bind((loopback_host, 0))
    place: tuple[str, int] = own.getsockname()
    with ThreadPoolExecutor(1) as aside, Wire(loopback_host, client_to(key), place) as wire:
        served: Future[tuple[int, bytes]] = aside.submit(served_by_mbedtls, own, theirs)
        assert wire.drive(lambda: wire.has(Established), LEFT_S if right else WRONG_S) == right
        if right:
            assert wire.told == [Established(IDENTITY, ours)]
            wire.send(b"hello to mbedtls")
            assert wire.drive(lambda: wire.data == b"hello back")
            assert served.result() == (1, b"hello to mbedtls")
        else:
            with pytest.raises(TLSError):
                served.result()
