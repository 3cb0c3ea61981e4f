"""Random schedules of a state machine, each told by its seed: how a test runs many of them, on all cores.

`SCHEDULES` and `SCHEDULE_SEED` of the environment say how many, and from which seed on.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial

CHUNK = 100


def failures(run: Callable[[int], object], first: int, count: int) -> list[str]:
    """Return what went wrong in the schedules of these seeds."""
    told = []
    for seed in range(first, first + count):
        try:
            run(seed)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            told.append(f"seed {seed}: {type(error).__name__}: {error} ({place.name}, line {place.lineno})")
    return told


def run_many(run: Callable[[int], object], count: int) -> tuple[str, list[str]]:
    """Run `count` schedules, or as many as the environment says; return which they were, and what went wrong."""
    first, count = int(os.environ.get("SCHEDULE_SEED", "0")), int(os.environ.get("SCHEDULES", count))
    with ProcessPoolExecutor() as pool:
        chunks = [(seed, min(CHUNK, first + count - seed)) for seed in range(first, first + count, CHUNK)]
        told = [line for lines in pool.map(partial(failures, run), *zip(*chunks, strict=True)) for line in lines]
    return f"{count} schedules, seeds {first} to {first + count - 1}", told
