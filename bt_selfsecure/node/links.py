"""The links to one peer, one a bearer: attached, read, replaced, given up; and the waits between two tries."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from bt_selfsecure.bearers.base import Link, LinkClosedError
from bt_selfsecure.node.peer_log import PeerLog

log = logging.getLogger(__name__)

FIRST_RETRY: Final = 1.0
LAST_RETRY_S: Final = 60.0
"""Seconds between two tries: at least the first, and at most what doubles with each up to the last."""
STEADY_S: Final = 30.0
"""A link that lasted so many seconds ends the back-off."""
CROSSING_S: Final = 5.0
"""Two links that the two ends dialled within so many seconds of each other have crossed."""
STUCK_S: Final = 30.0
"""A link that takes no datagram for so many seconds is dead."""

Start = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]
"""Runs something in a task of its own, under a name; what it raises is a fault."""


class BackOff:
    """When to try again: exponential, with full jitter, so that many that failed together do not try together."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.until = 0.0
        """Loop time before which there is to be no try."""
        self._wait = FIRST_RETRY

    def failed(self) -> None:
        self._wait = min(2 * self._wait, LAST_RETRY_S)
        self.until = self._clock() + random.uniform(FIRST_RETRY, self._wait)

    def reset(self) -> None:
        """Try at once, and wait for little after that."""
        self.until, self._wait = 0.0, FIRST_RETRY


@dataclass(slots=True, eq=False)
class ActiveLink:
    """One open link."""

    bearer: str
    link: Link
    dialled: bool
    """By this end."""
    since: float
    """Loop time."""
    reader: asyncio.Task[None]


class PeerLinks:
    """`deliver` gets every datagram; `closed` is told of a link that ended without being replaced, and why."""

    def __init__(
        self,
        name: str,
        start: Start,
        deliver: Callable[[bytes], Awaitable[None]],
        closed: Callable[[ActiveLink, str], None],
    ) -> None:
        self._start, self._deliver, self._closed = start, deliver, closed
        self._log = PeerLog(log, name)
        self._clock = asyncio.get_running_loop().time
        self._lines: dict[str, ActiveLink] = {}

    def __len__(self) -> int:
        return len(self._lines)

    def get(self, bearer: str) -> ActiveLink | None:
        return self._lines.get(bearer)

    def attach(self, bearer: str, link: Link, *, dialled: bool, dialler_wins: bool) -> bool:
        """Use this link from now on, and close an older one; whether it is used.

        The newest is, but of two that crossed the one that the end with the lower address has dialled, so that both
        ends close the same one. `dialler_wins` says whether that is this end.
        """
        now, old = self._clock(), self._lines.get(bearer)
        crossed = old is not None and old.dialled is not dialled and now - old.since < CROSSING_S
        if crossed and dialled is not dialler_wins:
            self._log.info("links over %s have crossed, the other one stays", bearer, event="crossed")
            self._start(link.close(), "close")
            return False
        if old:
            del self._lines[bearer]
            old.reader.cancel()
        reader = self._start(self._read(bearer, link), f"read {bearer}")
        self._lines[bearer] = ActiveLink(bearer, link, dialled, now, reader)
        return True

    async def send(self, bearer: str, data: bytes) -> None:
        """On this bearer's link, if there is one. A link that takes nothing is given up. Raises `LocalError`."""
        line = self._lines.get(bearer)
        if line is None:
            return
        try:
            async with asyncio.timeout(STUCK_S):
                await line.link.send(data)
        except LinkClosedError:
            pass  # its reader tells of it; what matters is repeated
        except TimeoutError:
            self._log.warning("the link over %s took nothing for %d s and is given up", bearer, STUCK_S, event="stuck")
            await line.link.close()

    def hang_up(self, bearer: str) -> None:
        """Close this bearer's link; `closed` is told when that is done."""
        if line := self._lines.get(bearer):
            self._start(line.link.close(), "hang up")

    async def close(self) -> None:
        """All of them."""
        for line in list(self._lines.values()):
            await line.link.close()

    async def _read(self, bearer: str, link: Link) -> None:
        try:
            while True:
                await self._deliver(await link.receive())
        except LinkClosedError as error:
            line = self._lines.get(bearer)
            if line is not None and line.link is link:
                del self._lines[bearer]
                self._closed(line, str(error))
        finally:
            await link.close()
