"""The daemon: one node from the start to a signal, and what it tells systemd and Prometheus meanwhile."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final

from bt_selfsecure import __version__
from bt_selfsecure.node import metrics
from bt_selfsecure.node.api_types import Status
from bt_selfsecure.node.config import Config
from bt_selfsecure.node.journal_file import JournalError
from bt_selfsecure.node.notify import beat, is_a_service, notify
from bt_selfsecure.node.service import Node

log = logging.getLogger(__name__)

BEAT_S: Final = 10.0
"""Between two looks at the node's own health, where systemd does not ask for more."""
PATIENCE_S: Final = 40.0
AGAIN_S: Final = 3.0
"""Between two attempts at the state."""


async def run_node(config: Config) -> int:
    """Run the node until cancelled. Raises `UsageError` for what a person must mend first, `JournalError` where a new
    start may help."""
    node = await _begun(config)
    try:
        await node.start()
        notify(READY=1, STATUS="listening")
        await _beat(node, MetricsFile(config.node.metrics_file))
    finally:
        notify(STOPPING=1)
        await node.stop()
    return 0


async def _begun(config: Config) -> Node:
    """As a service, for a state that can't be used now some time is given before the next start: systemd gives up after
    20 failures in 10 minutes, and a disk may be full for longer."""
    loop = asyncio.get_running_loop()
    until, told = loop.time() + PATIENCE_S * is_a_service(), ""
    while True:
        try:
            return Node(config)
        except JournalError as error:
            if loop.time() >= until:
                raise
            if str(error) != told:
                told = str(error)
                log.error("%s", told)
            notify(STATUS=told)
            await asyncio.sleep(AGAIN_S)


async def _beat(node: Node, file: MetricsFile) -> None:
    """Tell systemd that the loop turns and the node can say how it is: one that hangs is restarted."""

    def look() -> str:
        node.look_at_disk()
        told = node.status()
        connected = sum(peer["state"] == "connected" for peer in told["peers"])
        node.show_nearby({"version": __version__, "healthy": told["healthy"], "connected": connected})
        file.write(told)
        return told["problems"][0] if told["problems"] else f"{connected} of {len(told['peers'])} peers connected"

    await beat(look, BEAT_S)


class MetricsFile:
    """Writes `[node] metrics_file`, if there is one. A disk that does not take it is a line in the log, not a fault."""

    def __init__(self, path: str) -> None:
        self._path = Path(path) if path else None
        self._trouble = ""

    def write(self, status: Status) -> None:
        if self._path is None:
            return
        trouble = ""
        try:
            metrics.write(self._path, status)
        except OSError as error:
            trouble = f"can't write [node] metrics_file {self._path}: {error.strerror}"
        if trouble and trouble != self._trouble:
            log.warning("%s", trouble)
        self._trouble = trouble
