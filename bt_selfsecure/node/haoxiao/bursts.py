"""Brings the peers together that are to have a key now: one burst for all of them, on a medium that all hear."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from typing import Final

from bt_selfsecure.node.haoxiao.peer_machine import PeerMachine
from bt_selfsecure.node.haoxiao.shared_burst import LEGS, SharedBurst
from bt_selfsecure.protocols.haoxiao.establish import EstablishConfig
from bt_selfsecure.sansio.context import EndpointContext

log = logging.getLogger(__name__)

GATHER_S: Final = 0.5
"""From the first that is to have a key to the burst: others are due in the same moment, or asked for by one command."""
LONGEST_S: Final = 6.0
"""The same, where a person has asked for one whose link is not there yet."""
STUCK_S: Final = 1800.0
"""A burst that is not over by then has lost its peers by a fault."""


class Bursts:
    """Gathers the machines of peers, and begins one burst after the other."""

    def __init__(self) -> None:
        self._peers: dict[PeerMachine, Callable[[], None]] = {}
        self._gathering: list[PeerMachine] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, peer: PeerMachine, wake: Callable[[], None]) -> None:
        """Know this peer from now on; `wake` gives its machine a turn soon."""
        self._peers[peer] = wake

    def forget(self, peer: PeerMachine) -> None:
        """Know this peer no more."""
        self._peers.pop(peer, None)

    def gather(self, peer: PeerMachine) -> None:
        """Give this peer its leg of the next burst."""
        self._gathering.append(peer)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="bursts")

    async def stop(self) -> None:
        """Begin no more."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while self._gathering:
            await self._wait_for_others()
            shared = self._begin()
            if shared is not None:
                try:
                    async with asyncio.timeout(STUCK_S):
                        await shared
                except TimeoutError:
                    log.error("a fault of this program, please report it: a burst has not ended")

    async def _wait_for_others(self) -> None:
        if len(self._peers) == 1:
            return
        for wake in self._peers.values():
            wake()  # a machine that has a turn looks whether a key is due
        await asyncio.sleep(GATHER_S)
        waited = GATHER_S
        while waited < LONGEST_S and len(self._gathering) < LEGS and any(map(_is_expected, self._peers)):
            await asyncio.sleep(GATHER_S)
            waited += GATHER_S

    def _begin(self) -> asyncio.Future[None] | None:
        """Begin a burst for those who still want it, and return what is done when it is over."""
        loop = asyncio.get_running_loop()
        now, over = loop.time(), loop.create_future()
        taking: dict[bytes, tuple[PeerMachine, EstablishConfig]] = {}
        while self._gathering and len(taking) < LEGS:
            peer = self._gathering.pop(0)
            if peer in self._peers and (config := peer.agreement.burst_config(now)):
                taking[config.peer] = peer, config
        if not taking:
            return None

        def moved(identity: bytes) -> None:
            if wake := self._peers.get(taking[identity][0]):
                wake()

        def ended() -> None:
            if not over.done():
                over.set_result(None)

        name = "burst for " + ", ".join(peer.config.name for peer, _ in taking.values())
        context = EndpointContext(secrets.token_bytes, name=name)
        shared = SharedBurst([config for _, config in taking.values()], context, moved, ended)
        for identity, (peer, _) in taking.items():
            peer.join_burst(shared.legs[identity], now)
            moved(identity)
        if len(taking) > 1:
            log.info("one %s", name)
        shared.start(now)
        return over


def _is_expected(peer: PeerMachine) -> bool:
    """Whether somebody waits for a key with it that is not begun."""
    return peer.agreement.is_asked and not peer.agreement.is_under_way
