"""An event loop whose clock jumps to the next deadline whenever nothing happens: real sockets and threads, no waits."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")
REAL_S = 0.004
"""For which sockets and threads of this process have a chance before the clock jumps."""


class _Jumping(selectors.DefaultSelector):  # type: ignore[valid-type, misc]
    def __init__(self) -> None:
        super().__init__()
        self.jumped = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        found = super().select(min(timeout, REAL_S))
        if not found:
            self.jumped += max(0.0, timeout - REAL_S)
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """Is that loop."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return super().time() + self._jumping.jumped


def run_virtually(main: Coroutine[Any, Any, Result]) -> Result:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
