"""The broadcast link of one peer: held while a burst is sent or awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from bt_selfsecure.bearers.base import Link, LinkClosedError
from bt_selfsecure.errors import BtSelfSecureError
from bt_selfsecure.node.haoxiao.context import NodeContext
from bt_selfsecure.node.links import Start


class BurstRadio:
    """`heard` gets every datagram, `failed` the reason when there is no radio."""

    def __init__(
        self,
        node: NodeContext,
        address: str,
        start: Start,
        heard: Callable[[bytes], Awaitable[None]],
        failed: Callable[[str], None],
    ) -> None:
        self._node, self._address, self._start = node, address, start
        self._heard, self._failed = heard, failed
        self._task: asyncio.Task[None] | None = None
        self._taken: asyncio.Future[Link | None] | None = None

    async def hold(self) -> Link | None:
        """The link, from now until `release`; None if there is none to be had."""
        if self._taken is None:
            self._taken = asyncio.get_running_loop().create_future()
            self._task = self._start(self._use(self._taken), "radio")
        return await asyncio.shield(self._taken)

    def release(self) -> None:
        """Give it back, if it is held."""
        task, self._task, self._taken = self._task, None, None
        if task:
            task.cancel()

    async def _use(self, taken: asyncio.Future[Link | None]) -> None:
        try:
            async with self._node.radio(self._address) as link:
                taken.set_result(link)
                while True:
                    await self._heard(await link.receive())
        except LinkClosedError:
            pass
        except BtSelfSecureError as error:
            self._failed(str(error))
        finally:
            if not taken.done():
                taken.set_result(None)
            if self._taken is taken:
                self._task = self._taken = None
