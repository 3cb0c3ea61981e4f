"""The radio of a node's groups: broadcasts on their way out, and the owners who are listened to."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection

from bt_selfsecure.errors import BtSelfSecureError
from bt_selfsecure.node.haoxiao.group_context import GroupNode

log = logging.getLogger(__name__)


class GroupAir:
    """Sends one broadcast after the other, and hears owners while the radio looks for nobody: until then their messages
    come by the sessions."""

    def __init__(self, node: GroupNode, hear: Callable[[bytes, bytes], None], unsent: Callable[[], None]) -> None:
        """`hear` is given the identity of an owner, and what came from his address; `unsent` is called when what waited
        for the radio could not leave."""
        self._node, self._hear, self._unsent = node, hear, unsent
        self._to_send: deque[bytes] = deque()
        self._sending = asyncio.Event()
        self._listening: dict[str, asyncio.Task[None]] = {}

    @property
    def waiting(self) -> int:
        """Return how many fragments wait for the radio."""
        return len(self._to_send)

    def can_hear(self) -> bool:
        """Return whether owners are listened to: by the radio if it is free for it, and where none is, by the links."""
        return not self._node.on_radio or self._node.is_radio_free

    def send(self, fragments: list[bytes]) -> None:
        """Broadcast these, behind those that wait."""
        self._to_send.extend(fragments)
        self._sending.set()

    async def send_all(self) -> None:
        """Send what is to be sent, for ever."""
        while True:
            await self._sending.wait()
            self._sending.clear()
            try:
                async with self._node.radio(self._node.own or "") as link:
                    while self._to_send:
                        await link.send(self._to_send.popleft())
            except BtSelfSecureError as error:
                log.info("a broadcast could not be sent, and goes by the sessions: %s", error)
                self._to_send.clear()
                self._unsent()

    def listen(self, owners: Collection[str]) -> None:
        """Hear these owners from now on, by their addresses, if the radio is free for it."""
        wanted = set(owners) if self._node.on_radio and self.can_hear() else set[str]()
        for address in set(self._listening) - wanted:
            self._listening.pop(address).cancel()
        for address in wanted:
            if address not in self._listening or self._listening[address].done():
                self._listening[address] = asyncio.create_task(self._hear_owner(address), name=f"hear {address}")

    async def stop(self) -> None:
        """Hear nobody."""
        for task in self._listening.values():
            task.cancel()
        await asyncio.gather(*self._listening.values(), return_exceptions=True)

    async def _hear_owner(self, address: str) -> None:
        try:
            async with self._node.radio(address) as link:
                while True:
                    self._hear(bytes.fromhex(address.replace(":", "")), await link.receive())
        except BtSelfSecureError as error:
            log.debug("%s", error)  # the next look begins anew
