"""A machine of the protocol inside of one DTLS connection, sans-IO: datagrams on one side, its events on the other."""

from __future__ import annotations

from collections import deque
from typing import Any, Final, Generic, TypeVar

from bt_selfsecure.dtls.endpoint import Dtls
from bt_selfsecure.dtls.values import Closed, DataReceived, DtlsConfig, Established
from bt_selfsecure.sansio.endpoint import Endpoint, earliest
from bt_selfsecure.sansio.value import value

DTLS: Final = DtlsConfig(ciphers="PSK-CHACHA20-POLY1305", last_timeout_s=8.0)
"""The cipher of section 4.6, and no other."""
Inner = TypeVar("Inner", bound=Endpoint[Any])


@value
class LinkUp:
    """Both ends have the key."""

    identity: bytes
    """Whose it is, as the client said."""


@value
class LinkDown:
    """It is over."""

    reason: str


class SecuredLink(Generic[Inner]):
    """Is both as one endpoint. Its events are those of the inner machine, and `LinkUp` and `LinkDown`."""

    def __init__(self, dtls: Dtls, inner: Inner) -> None:
        self._dtls: Final = dtls
        self.inner: Final = inner
        self._events: Final[deque[LinkUp | LinkDown]] = deque()

    @property
    def is_up(self) -> bool:
        return self._dtls.established

    def receive_frame(self, data: bytes, now: float) -> None:
        self._dtls.receive_frame(data, now)
        self._take(now)

    def frames_to_send(self, now: float) -> list[bytes]:
        if self._dtls.established:
            for message in self.inner.frames_to_send(now):
                if self.is_up:
                    self._dtls.send(message, now)
            self._take(now)
        return self._dtls.frames_to_send(now)

    def get_timer(self) -> float | None:
        return earliest(self._dtls.get_timer(), self.inner.get_timer() if self._dtls.established else None)

    def handle_timer(self, now: float) -> None:
        self._dtls.handle_timer(now)
        if self._dtls.established:
            self.inner.handle_timer(now)
        self._take(now)

    def next_event(self) -> Any:
        if self._events and isinstance(self._events[0], LinkUp):
            return self._events.popleft()
        told = self.inner.next_event()
        return told if told is not None or not self._events else self._events.popleft()

    def close(self, now: float) -> None:
        """Tell the other end; what is still to be sent, is sent."""
        self._dtls.close(now)

    def _take(self, now: float) -> None:
        for event in iter(self._dtls.next_event, None):
            match event:
                case Established(identity=identity):
                    self._events.append(LinkUp(identity))
                case DataReceived(data=data):
                    self.inner.receive_frame(data, now)
                case Closed(reason=reason):
                    self._events.append(LinkDown(reason))
                case _:
                    pass
