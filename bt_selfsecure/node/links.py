"""An open link as a driver holds it: what is to be sent waits in order, and a link that takes nothing is found out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from bt_selfsecure.bearers.base import Link, LinkClosedError
from bt_selfsecure.errors import LocalError

STUCK_S: Final = 30.0
"""A link that takes no datagram for so many seconds is dead."""


class OpenLink:
    """Queues what goes out on one link, which has the number that its driver gave it. `misfit` is told of a datagram
    that the link does not take."""

    def __init__(self, number: int, bearer: str, link: Link, since: float, misfit: Callable[[str], None]) -> None:
        self.number, self.bearer, self.link, self.since = number, bearer, link, since
        self._misfit = misfit
        self._queue: deque[bytes] = deque()
        self._flushing = False
        self._sending = self._sent = self._sent_before = 0
        self._moved_at = since

    def put(self, data: bytes) -> None:
        """Send a datagram at once, if the link takes it and none waits; else queue it for `flush`."""
        if self._queue or self._flushing or not self._is_sent(data):
            self._queue.append(data)

    def _is_sent(self, data: bytes) -> bool:
        try:
            if not self.link.send_now(data):
                return False
        except LocalError as error:
            self._misfit(str(error))
        except LinkClosedError:
            pass  # its reader tells of it; what matters is repeated
        self._sent += 1
        return True

    @property
    def must_flush(self) -> bool:
        """Return whether something waits that nobody sends."""
        return bool(self._queue) and not self._flushing

    async def flush(self) -> None:
        """Send what waits, in order, unless somebody does that already."""
        if not self.must_flush:
            return
        self._flushing = True
        try:
            while self._queue:
                await self.send(self._queue.popleft())
        finally:
            self._flushing = False

    async def send(self, data: bytes) -> None:
        """Send a datagram now, past those that wait."""
        self._sending += 1
        try:
            await self.link.send(data)
        except LocalError as error:
            self._misfit(str(error))
        except LinkClosedError:
            pass  # its reader tells of it; what matters is repeated
        finally:
            self._sending -= 1
            self._sent += 1

    def is_stuck(self, now: float) -> bool:
        """Return whether the link has taken nothing for too long; ask it every few seconds."""
        if not self._sending or self._sent != self._sent_before:
            self._sent_before, self._moved_at = self._sent, now
        return now - self._moved_at > STUCK_S
