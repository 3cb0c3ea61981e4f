"""What live attacks have in common: they go on until somebody ends them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

ENDS: Final = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def ended_by_signals(over: asyncio.Event | None) -> Iterator[asyncio.Event]:
    """Give this event, or a new one, which Ctrl-C and SIGTERM set as long as the context lasts."""
    over = over or asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in ENDS:
        loop.add_signal_handler(number, over.set)
    try:
        yield over
    finally:
        for number in ENDS:
            loop.remove_signal_handler(number)
