"""Virtual time: no waiting, no surprises, and an error instead of a wait for ever."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bt_selfsecure.air.virtual_time import DeadlockError, VirtualTimeLoop, run_virtual

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.parametrize("seconds", [1e-3, 3600.0, 365 * 86400.0, 1e10], ids=["1 ms", "an hour", "a year", "317 years"])
def test_sleep_takes_virtual_time_only(seconds: float) -> None:
    async def main() -> float:
        await asyncio.sleep(seconds)
        return asyncio.get_running_loop().time()

    begun = time.monotonic()
    assert run_virtual(main()) == pytest.approx(seconds, rel=1e-9)
    assert time.monotonic() - begun < 60


def test_the_clock_begins_at_zero_and_stands_still_while_something_is_ready() -> None:
    async def main() -> list[float]:
        times = []
        for _ in range(1000):
            await asyncio.sleep(0)
            times.append(asyncio.get_running_loop().time())
        return times

    assert set(run_virtual(main())) == {0.0}


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30))
def test_timers_run_at_their_deadlines_in_order(deadlines: list[float]) -> None:
    async def main() -> list[tuple[float, float]]:
        loop = asyncio.get_running_loop()
        fired: list[tuple[float, float]] = []

        def fire(deadline: float) -> None:
            fired.append((deadline, loop.time()))

        for deadline in deadlines:
            loop.call_at(deadline, fire, deadline)
        await asyncio.sleep(max(deadlines) + 1)
        return fired

    fired = run_virtual(main())
    assert [deadline for deadline, _ in fired] == sorted(deadlines)
    assert all(at == pytest.approx(deadline, abs=1e-8) for deadline, at in fired)


def test_a_timeout_ends_a_wait_at_its_deadline() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(20):
                await asyncio.Event().wait()
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 20


def test_a_program_of_many_tasks_runs_the_same_way_each_time() -> None:
    async def main() -> list[tuple[float, int]]:
        steps: list[tuple[float, int]] = []
        queue: asyncio.Queue[int] = asyncio.Queue()

        async def work(number: int) -> None:
            for step in range(20):
                await asyncio.sleep((number * 7 + step * 13) % 11 / 10)
                queue.put_nowait(number)
                steps.append((asyncio.get_running_loop().time(), await queue.get()))

        await asyncio.gather(*(work(number) for number in range(20)))
        return steps

    assert run_virtual(main()) == run_virtual(main())


def test_a_wait_that_nothing_can_end_is_an_error_that_names_the_task() -> None:
    async def forever() -> None:
        await asyncio.get_running_loop().create_future()

    async def main() -> None:
        await asyncio.sleep(3)
        await asyncio.create_task(forever(), name="bob receiving")

    with pytest.raises(DeadlockError, match=r"after 3\.000000 s.*bob receiving"):
        run_virtual(main())


def test_a_callback_that_fails_ends_the_run() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_later(1, lambda: 1 // 0)
        await asyncio.sleep(2)

    with pytest.raises(ZeroDivisionError):
        run_virtual(main())


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as in a terminal; a shell's background jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_stops_a_simulation() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_later(100, signal.raise_signal, signal.SIGINT)
        for _ in range(10_000):
            await asyncio.sleep(1)

    with pytest.raises(KeyboardInterrupt):
        run_virtual(main())


def test_a_loop_can_be_closed_and_others_made_after_it() -> None:
    for _ in range(50):
        loop = VirtualTimeLoop()
        assert loop.run_until_complete(asyncio.sleep(5, "done")) == "done"
        loop.close()
        assert loop.is_closed()
