"""An event loop whose clock jumps to the next deadline whenever nothing happens: real sockets and threads, no waits."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar

Result = TypeVar("Result")


class _Jumping(selectors.DefaultSelector):  # type: ignore[valid-type, misc]
    def __init__(self) -> None:
        super().__init__()
        self.jumped = 0.0
        self.working = 0
        """Threads that do something, for which the clock does not jump: how long that takes is real."""

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout <= 0 or self.working:
            return super().select(timeout)
        found = super().select(0)  # what a socket of this process was given is there at once
        if not found:
            self.jumped += timeout
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """Is that loop."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return super().time() + self._jumping.jumped

    def run_in_executor(self, executor: Executor | None, func: Callable[..., Any], *args: Any) -> Any:  # type: ignore[override]
        future = super().run_in_executor(executor, func, *args)
        self._jumping.working += 1
        future.add_done_callback(self._worked)
        return future

    def _worked(self, future: object) -> None:
        self._jumping.working -= 1

    def wall(self) -> float:
        """Return seconds since 1970, with all that was jumped over."""
        return time.time() + self._jumping.jumped


def virtual_wall() -> Callable[[], float]:
    """Return the wall clock of the loop that runs."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop.wall


def run_virtually(main: Coroutine[Any, Any, Result]) -> Result:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
