"""Bluetooth as an IP interface (IPSP), kept up beside whatever uses it."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from bt_selfsecure.bearers.base import BearerError
from bt_selfsecure.bearers.ipsp_link import keep_up

log = logging.getLogger(__name__)

IPSP_RETRY_S: Final = 10.0


async def keep_ipsp_up(adapter: str, peer: str | None) -> None:
    """Keep the IP interface over Bluetooth up, for ever: it listens, or dials this peer. A radio that fails is no
    reason to end: there may be other ways."""
    told = ""
    while True:
        try:
            async for state in keep_up(adapter, peer):
                told = ""
                connected = ", ".join(state.connected) or "nobody"
                log.info("IPSP: %s, connected: %s", state.interface or "no interface", connected)
        except (BearerError, OSError) as error:
            if str(error) != told:
                told = str(error)
                log.error("IPSP: %s", told)
        await asyncio.sleep(IPSP_RETRY_S)
