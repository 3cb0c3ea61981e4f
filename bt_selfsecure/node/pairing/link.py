"""A link on which a pairing and, beside it, a peer's session are carried: each gets its own datagrams."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from bt_selfsecure.bearers.base import Link, LinkClosedError
from bt_selfsecure.bearers.queued import QueuedLink
from bt_selfsecure.protocols.pairing.frames import is_pairing


class PairingLink(QueuedLink):
    """Is `link` without the datagrams of a pairing, which `take` gets. `ended` is told when it is over."""

    def __init__(
        self,
        bearer: str,
        link: Link,
        take: Callable[[PairingLink, bytes], None],
        ended: Callable[[PairingLink], None],
        *,
        dialled: bool,
    ) -> None:
        super().__init__()
        self.bearer: Final = bearer
        self.dialled: Final = dialled
        """By this end."""
        self.peer, self.mtu, self.traits, self.whereabouts = link.peer, link.mtu, link.traits, link.whereabouts
        self.since: Final = asyncio.get_running_loop().time()
        self.is_handed_over = False
        """A peer's driver has it, and ends it."""
        self._link, self._take, self._told = link, take, ended
        self._reader = asyncio.create_task(self._read(), name=f"pairing: read {link.peer}")

    async def send(self, data: bytes) -> None:
        await self._link.send(data)

    def send_now(self, data: bytes) -> bool:
        return self._link.send_now(data)

    async def close(self) -> None:
        self._reader.cancel()
        await self._link.close()
        self._over(f"the link to {self.peer} is closed")

    async def _read(self) -> None:
        try:
            while True:
                data = await self._link.receive()
                if is_pairing(data):
                    self._take(self, data)
                elif self.is_handed_over:
                    self.hear(data, self._link.rssi)
        except LinkClosedError as error:
            self._over(str(error))

    def _over(self, why: str) -> None:
        if not self._ended:
            self.end(why)
            self._told(self)
