"""The server, SBS: answers controllers over UDP, or in one process with them."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import Final

from bt_selfsecure.bootstrap.store import BootstrapStore, ChangedMeanwhileError, ControllersNow, NodesNow
from bt_selfsecure.errors import UsageError
from bt_selfsecure.protocols.bootstrap.config import SbsConfig
from bt_selfsecure.protocols.bootstrap.events import NodeJoined, NodeRefused
from bt_selfsecure.protocols.bootstrap.messages import FlightChannel, FlightError, channel_of
from bt_selfsecure.protocols.bootstrap.sbs import Sbs
from bt_selfsecure.protocols.bootstrap.write_ahead import settle
from bt_selfsecure.sansio.context import EndpointContext

log = logging.getLogger(__name__)

PORT: Final = 5701
DAY_S: Final = 86_400.0
Reply = Callable[[bytes], None]


class SbsServer:
    """Is an SBS with its file. `on_refused` is told of each node that is refused."""

    def __init__(
        self,
        store: BootstrapStore,
        lifetime_s: float,
        on_refused: Callable[[NodeRefused], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        config = SbsConfig(ControllersNow(store), clock, lifetime_s=lifetime_s)
        self._store: Final = store
        self._clock: Final = clock
        self._on_refused: Final = on_refused
        self._sbs: Final = Sbs(config, NodesNow(store), EndpointContext(os.urandom, name="server"))

    def take(self, data: bytes, reply: Reply) -> None:
        """Take what a controller sent. What came by this way and is no flight between SBR and SBS is dropped."""
        try:
            if channel_of(data) is not FlightChannel.SERVER:
                return
        except FlightError:
            return
        now = time.monotonic()
        try:
            self._sbs.receive_frame(data, now)
            events = settle(self._sbs, self._store.write_nodes)
        except (UsageError, ChangedMeanwhileError) as error:
            self._sbs.refused()
            log.error("%s", error)
            return
        for event in events:
            if isinstance(event, NodeRefused):
                log.warning(
                    "node %s is refused, for whom controller %s asks: %s",
                    self.name_of(event.node_id),
                    event.controller_id.hex(),
                    event.reason.value,
                )
                self._on_refused(event)
            elif isinstance(event, NodeJoined):
                log.info("node %s has joined; its key before is forgotten", self.name_of(event.node_id))
        for flight in self._sbs.frames_to_send(now):
            reply(flight)

    def name_of(self, node_id: bytes) -> str:
        """Return what people call this node."""
        known = self._store.node(node_id.hex())
        return known.name if known else node_id.hex()

    def tell_ended(self) -> None:
        """Log whose PSK has come to the end of its lifetime."""
        for node in self._store.nodes():
            if node.record.until is not None and node.record.until < self._clock() and not node.record.revoked:
                log.warning("the PSK of %s has come to its end: let it join again", node.name)
