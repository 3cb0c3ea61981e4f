"""Speed of the Monte Carlo: N = 400 packets a trial, each one drawn. Run with `pytest benchmarks`."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

import pytest

from bt_selfsecure.air.haoxiao.montecarlo import simulate, simulate_slowly

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

PACKETS, D, E, RHO = 400, 0.1, 0.05, 0.1
TRIALS, SLOW_TRIALS = 400_000, 2_000


@pytest.mark.parametrize("threads", [1, 2])
def test_at_least_400_000_trials_a_second(benchmark: BenchmarkFixture, threads: int) -> None:
    benchmark.extra_info["trials"] = TRIALS
    benchmark.pedantic(
        simulate, args=(TRIALS, PACKETS, D, E, RHO), kwargs={"seed": 1, "threads": threads}, rounds=5, warmup_rounds=1
    )
    assert TRIALS / benchmark.stats.stats.min >= 400_000


def test_at_least_ten_times_the_plain_loop_in_the_same_run(benchmark: BenchmarkFixture) -> None:
    benchmark.pedantic(simulate_slowly, args=(SLOW_TRIALS, PACKETS, D, E, RHO), kwargs={"seed": 1}, rounds=3)
    slow = benchmark.stats.stats.min / SLOW_TRIALS
    simulate(10_000, PACKETS, D, E, RHO, seed=1)
    began = perf_counter()
    simulate(TRIALS, PACKETS, D, E, RHO, seed=1)
    fast = (perf_counter() - began) / TRIALS
    benchmark.extra_info["times_faster"] = slow / fast
    assert slow >= 10 * fast
