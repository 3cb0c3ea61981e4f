"""Who comes to a server that has no endpoint for them yet."""

from __future__ import annotations

import hmac
from typing import Final

from bt_selfsecure.dtls.callbacks import COOKIE_BYTES
from bt_selfsecure.dtls.endpoint import HEADER_BYTES, MOST_DATAGRAM_BYTES, Dtls
from bt_selfsecure.dtls.values import DtlsConfig, LookUp
from bt_selfsecure.sansio.context import Random

COOKIE_S: Final = 60.0
"""A cookie is good for at least so long, and at most twice."""


def is_client_hello(datagram: bytes) -> bool:
    """Return whether this begins a handshake (RFC 6347): where an established endpoint is, its client was started again
    at the same port."""
    return len(datagram) > HEADER_BYTES and (datagram[0], datagram[13]) == (22, 1) and not any(datagram[3:5])


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
        self._waiting = Dtls.listening(look_up, random, now, self._config)

    def receive_frame(self, data: bytes, address: bytes, now: float) -> Dtls | list[bytes]:
        """Return the endpoint of a new client, with its hello taken; else the datagrams to answer with, if any.

        `address` is the sender's, in whatever form is the same each time.
        """
        if not HEADER_BYTES < len(data) <= MOST_DATAGRAM_BYTES:
            return []
        end, epoch = self._waiting, int(now // COOKIE_S)
        result = end.listen(data, (self._cookie(address, epoch), self._cookie(address, epoch - 1)), now)
        if result == 0:
            return end.frames_to_send(now)
        self._waiting = Dtls.listening(self._look_up, self._random, now, self._config)
        if result < 0:
            return []
        end.proceed()
        return end

    def _cookie(self, address: bytes, epoch: int) -> bytes:
        return hmac.digest(self._secret, epoch.to_bytes(8, signed=True) + address, "sha256")[:COOKIE_BYTES]
