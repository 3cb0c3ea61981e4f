"""Speed of the Monte Carlo: N = 400 packets a trial, each one drawn. Run with `pytest benchmarks`."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import pytest

from bt_selfsecure.air.haoxiao.montecarlo import BLOCK, simulate, simulate_slowly
from bt_selfsecure.stats.losses import joint_probabilities

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

PACKETS, D, E, RHO = 400, 0.1, 0.05, 0.1
TRIALS, SLOW_TRIALS = 400_000, 2_000
LONG_WORD_ROWS = 64
"""As `simulate` drew 32-bit words until 48 bits came in two parts."""


def one_long_word_each(trials: int, seed: int) -> tuple[int, int]:
    """The same experiment with 32 random bits for every packet, in the same blocks; how many came, and Eve missed."""
    joint = joint_probabilities(D, E, RHO)
    missed_below, received_below = round(joint.bob_only * 2**32), round((joint.bob_only + joint.both) * 2**32)
    received = missed = 0
    for first in range(0, trials, BLOCK):
        generator = np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(first,)))
        width = min(BLOCK, trials - first)
        for done in range(0, PACKETS, LONG_WORD_ROWS):
            rows = min(LONG_WORD_ROWS, PACKETS - done)
            words = generator.random_raw(rows * width // 2).view(np.uint32).reshape(rows, width)
            received += int((words < received_below).view(np.uint8).sum(axis=0, dtype=np.uint8).sum(dtype=np.uint64))
            missed += int((words < missed_below).view(np.uint8).sum(axis=0, dtype=np.uint8).sum(dtype=np.uint64))
    return received, missed


def test_at_least_1_4_times_the_rate_with_32_bits_a_packet(benchmark: BenchmarkFixture) -> None:
    best = float("inf")
    for _ in range(5):
        began = perf_counter()
        one_long_word_each(TRIALS, seed=1)
        best = min(best, perf_counter() - began)
    options = {"seed": 1, "threads": 1}
    benchmark.pedantic(simulate, args=(TRIALS, PACKETS, D, E, RHO), kwargs=options, rounds=5, warmup_rounds=1)
    benchmark.extra_info["times_faster"] = best / benchmark.stats.stats.min
    assert best >= 1.4 * benchmark.stats.stats.min


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
