"""Two ends of DTLS in one process, without a socket."""

from __future__ import annotations

import os
from collections.abc import Callable

from bt_selfsecure.dtls.endpoint import Dtls
from bt_selfsecure.dtls.listener import DtlsListener
from bt_selfsecure.dtls.values import Credentials, DtlsConfig, Event
from bt_selfsecure.sansio.events import FrameRejected

KEY, IDENTITY = bytes(range(32)), b"devA"
Pass = Callable[[bytes], list[bytes]]
PASSED: Pass = lambda data: [data]  # noqa: E731


def ask(key: bytes = KEY, identity: bytes = IDENTITY) -> Callable[[bytes], Credentials]:
    return lambda _hint: Credentials(identity, key)


def listener(config: DtlsConfig | None = None) -> DtlsListener:
    return DtlsListener({IDENTITY: KEY}.get, os.urandom, 0.0, config)


def events(end: Dtls | None) -> list[Event | FrameRejected]:
    return list(iter(end.next_event, None)) if end else []


class Pair:
    """A client and what a listener makes of its datagrams."""

    def __init__(self, client: Dtls, at: DtlsListener | None = None, through: Pass = PASSED) -> None:
        self.client, self.listener, self.through = client, at or listener(), through
        self.server: Dtls | None = None
        self.bytes = self.datagrams = 0

    def turn(self) -> None:
        """Carry what each has to say to the other, once."""
        for data in self.client.frames_to_send(0.0):
            for changed in self.count(data):
                if self.server is not None:
                    self.server.receive_frame(changed, 0.0)
                    continue
                answer = self.listener.receive_frame(changed, b"here", 0.0)
                if isinstance(answer, Dtls):
                    self.server = answer
                else:
                    for reply in answer:
                        self.back(reply)
        for data in self.server.frames_to_send(0.0) if self.server else ():
            self.back(data)

    def count(self, data: bytes) -> list[bytes]:
        self.bytes, self.datagrams = self.bytes + len(data), self.datagrams + 1
        return self.through(data)

    def back(self, data: bytes) -> None:
        for changed in self.count(data):
            self.client.receive_frame(changed, 0.0)

    def shake(self, turns: int = 6) -> Pair:
        for _ in range(turns):
            self.turn()
        return self

    @property
    def established(self) -> bool:
        return self.client.established and self.server is not None and self.server.established
