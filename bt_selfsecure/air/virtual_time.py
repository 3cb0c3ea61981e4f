"""An asyncio event loop whose clock jumps: a simulated minute costs only the work done in it, and each run is the same.

Whenever nothing is ready, the clock is put forward to the next deadline instead of waiting for it. Timers, queues,
locks and whole protocol stacks written for asyncio then run unchanged, as fast as the processor allows, and the order
of their steps depends on nothing outside the program. Only what lives inside the loop can be simulated so: waiting here
for a socket, a child process or a thread is waiting for something that has no virtual time.
"""

from __future__ import annotations

import asyncio
import math
import selectors
from typing import TYPE_CHECKING, Any, TypeVar

from bt_selfsecure.errors import BtSelfSecureError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")


class DeadlockError(BtSelfSecureError):
    """Everything in the loop waits and no deadline is left that could wake it: real time would stand still for ever."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Begins at second 0.0 and moves its clock only to deadlines of its own timers."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_JumpingSelector(self._jump))

    def time(self) -> float:
        """Return virtual seconds since the loop was made."""
        return self._now

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """End the run with the exception of a callback that fails: nobody watches the log of a simulation."""
        if "handle" in context:
            raise context["exception"]
        super().call_exception_handler(context)

    def _jump(self, seconds: float | None) -> None:
        if seconds is None:
            waiting = sorted(task.get_name() for task in asyncio.all_tasks(self) if not task.done())
            raise DeadlockError(f"nothing can happen any more after {self._now:.6f} s; waiting: {', '.join(waiting)}")
        moment = self._now + seconds
        # asyncio runs timers with a deadline < time() + 1e-9; after 97 days a float no longer tells the two apart.
        self._now = moment if moment + 1e-9 > moment else math.nextafter(moment, math.inf)


class _JumpingSelector(selectors.DefaultSelector):
    """Reports the files that are ready now (the loop's own wake-up pipe, so Ctrl-C works) and never waits for them.

    asyncio gives `select` the seconds to the next deadline, 0 where something is ready, None where there is neither.
    """

    def __init__(self, jump: Callable[[float | None], None]) -> None:
        super().__init__()
        self._jump = jump

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout != 0:
            self._jump(timeout)
        return ready


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end in a fresh `VirtualTimeLoop`: `asyncio.run` with virtual time.

    Raises what `main` raises, and `DeadlockError` where `main` waits for something that can't come.
    """
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
