"""A DTLS endpoint of ours on a UDP socket on loopback, for programs and libraries of others to talk to."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import Any

from bt_selfsecure.dtls.endpoint import Dtls
from bt_selfsecure.dtls.listener import DtlsListener
from bt_selfsecure.dtls.values import Credentials, DataReceived

KEY, IDENTITY = b"5301919777550", b"devA"
"""As libcoap's -k takes a key, which OpenSSL's -psk wants in hexadecimal."""
WRONG = b"5301919777551"
PATIENCE_S = 60.0


class Wire:
    """A UDP socket on which one endpoint is driven."""

    def __init__(self, host: str, end: Dtls | DtlsListener, peer: tuple[str, int] | None = None) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.socket.settimeout(0.05)
        self.port: int = self.socket.getsockname()[1]
        self.end, self.peer = end, peer
        self.told: list[Any] = []

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def flush(self) -> None:
        if isinstance(self.end, Dtls):
            for data in self.end.frames_to_send(time.monotonic()):
                self.socket.sendto(data, self.peer or ("", 0))
            self.told += iter(self.end.next_event, None)

    def drive(self, until: Callable[[], bool], patience: float = PATIENCE_S) -> bool:
        """Return whether it came to that in time."""
        stop = time.monotonic() + patience
        while not until():
            now = time.monotonic()
            if now > stop:
                return False
            if isinstance(self.end, Dtls):
                self.end.handle_timer(now)
            self.flush()
            try:
                data, self.peer = self.socket.recvfrom(65535)
            except (TimeoutError, ConnectionRefusedError):
                continue
            if isinstance(self.end, Dtls):
                self.end.receive_frame(data, now)
            else:
                answer = self.end.receive_frame(data, repr(self.peer).encode(), now)
                if isinstance(answer, Dtls):
                    self.end = answer
                else:
                    for reply in answer:
                        self.socket.sendto(reply, self.peer)
            self.flush()
        return True

    def send(self, data: bytes) -> None:
        assert isinstance(self.end, Dtls)
        self.end.send(data, time.monotonic())
        self.flush()

    def close(self) -> None:
        assert isinstance(self.end, Dtls)
        self.end.close(time.monotonic())
        self.flush()

    @property
    def data(self) -> bytes:
        return b"".join(event.data for event in self.told if isinstance(event, DataReceived))

    def has(self, kind: type[object]) -> bool:
        return any(isinstance(event, kind) for event in self.told)


def client_to(key: bytes) -> Dtls:
    return Dtls.client(lambda _hint: Credentials(IDENTITY, key), time.monotonic())


def listener() -> DtlsListener:
    return DtlsListener({IDENTITY: KEY}.get, os.urandom, time.monotonic())
