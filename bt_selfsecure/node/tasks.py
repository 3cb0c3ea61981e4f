"""Tasks of a node, by name: a fault in one is logged."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)


class NamedTasks:
    """Holds what is under way."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def begin(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Do this work, under this name, beside all else."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(_log_fault)
        self._tasks[name] = task

    async def cancel(self, beginning: str = "") -> None:
        """End those whose names begin so."""
        tasks = [self._tasks.pop(name) for name in list(self._tasks) if name.startswith(beginning)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _log_fault(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (fault := task.exception()):
        log.error("%s: a fault of this program, please report it", task.get_name(), exc_info=fault)
