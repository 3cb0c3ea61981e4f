"""Many bursts at once: how often does Eve hold all that Bob received?

Needs numpy, which the extra `bt-selfsecure[study]` brings.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from random import Random

import numpy as np
from numpy.typing import NDArray

from bt_selfsecure.stats.losses import joint_probabilities

Counts = NDArray[np.uint32]

BLOCK = 4096
"""Trials that one generator draws. Part of the result: another value gives other (equally good) numbers for a seed."""
ROWS = 64
"""Packets drawn at a time: 64 x 4096 words of 4 bytes stay in the cache; below 256, so that 8 bits count them."""


def simulate(
    trials: int, packets: int, d: float, e: float, rho: float = 0.0, *, seed: int, threads: int | None = None
) -> tuple[Counts, Counts]:
    """Every packet of every trial is drawn; nothing is taken from a formula.

    One uniform 32-bit word a packet is laid on the line
        | Bob only | both | the two outcomes where Bob misses |
    of the joint distribution of losses with means d, e and correlation rho (exact to 2^-32). Returns two arrays of
    shape (trials,): |S|, the packets that Bob received, and k, those of them that Eve missed. The same seed (0 or more)
    gives the same result, whatever the number of `threads` (default: one a processor). UsageError for losses or a rho
    that can't be.
    """
    joint = joint_probabilities(d, e, rho)
    return draw(trials, packets, joint.bob_only, joint.both, seed=seed, threads=threads)


def draw(
    trials: int, packets: int, bob_only: float, both: float, *, seed: int, threads: int | None = None
) -> tuple[Counts, Counts]:
    """The same as `simulate`, of a joint distribution that is given by its first two shares."""
    missed_below, received_below = _threshold(bob_only), _threshold(bob_only + both)
    received, missed = np.empty(trials, np.uint32), np.empty(trials, np.uint32)

    def block(first: int) -> None:
        some = slice(first, first + BLOCK)
        width = len(received[some])
        received[some], missed[some] = _block(first // BLOCK, width, packets, missed_below, received_below, seed)

    blocks = range(0, trials, BLOCK)
    if threads == 1:
        for first in blocks:
            block(first)
    else:
        with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
            for _ in pool.map(block, blocks):  # the loop hands on what a thread may raise
                pass
    return received, missed


def _threshold(probability: float) -> int:
    """Of the 2^32 words, those below the result: this share."""
    return round(probability * 2**32)


def _block(
    index: int, width: int, packets: int, missed_below: int, received_below: int, seed: int
) -> tuple[Counts, Counts]:
    generator = np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(index,)))
    received, missed = np.zeros(width, np.uint32), np.zeros(width, np.uint32)
    for done in range(0, packets, ROWS):
        rows = min(ROWS, packets - done)
        words = generator.random_raw((rows * width + 1) // 2).view(np.uint32)[: rows * width].reshape(rows, width)
        received += _count_below(words, received_below)
        missed += _count_below(words, missed_below)
    return received, missed


def _count_below(words: NDArray[np.uint32], threshold: int) -> NDArray[np.uint8]:
    """Of each column; 8-bit sums let the compiler's vector code add 32 columns at once."""
    counts: NDArray[np.uint8] = (words < threshold).view(np.uint8).sum(axis=0, dtype=np.uint8)
    return counts


def simulate_slowly(
    trials: int, packets: int, d: float, e: float, rho: float = 0.0, *, seed: int
) -> tuple[list[int], list[int]]:
    """The same experiment as a plain loop: easy to check, and what the speed of `simulate` is measured against."""
    joint = joint_probabilities(d, e, rho)
    missed_below, received_below = joint.bob_only, joint.bob_only + joint.both
    uniform = Random(seed).random
    received, missed = [], []
    for _ in range(trials):
        kept = lost = 0
        for _ in range(packets):
            word = uniform()
            if word < received_below:
                kept += 1
                if word < missed_below:
                    lost += 1
        received.append(kept)
        missed.append(lost)
    return received, missed
