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
"""Trials that one generator draws."""
ROWS = 32
"""Packets drawn at a time: 32 x 4096 words of 2 bytes stay in the cache; below 256, so that 8 bits count them.

Both are part of the result: another value gives other (equally good) numbers for a seed.
"""
LOW_BITS = 32
"""Of a packet's 48 random bits, those that are drawn only where the first 16 don't decide: of 65536 packets two."""


def simulate(
    trials: int, packets: int, d: float, e: float, rho: float = 0.0, *, seed: int, threads: int | None = None
) -> tuple[Counts, Counts]:
    """Every packet of every trial is drawn; nothing is taken from a formula.

    One uniform number of 48 bits a packet is laid on the line
        | Bob only | both | the two outcomes where Bob misses |
    of the joint distribution of losses with means d, e and correlation rho (exact to 2^-48). Returns two arrays of
    shape (trials,): |S|, the packets that Bob received, and k, those of them that Eve missed. The same seed (0 or more)
    gives the same result, whatever the number of `threads` (default: one a processor). UsageError for losses or a rho
    that can't be.

    The stream: trials in blocks of `BLOCK`, block i by SFC64 of SeedSequence(seed, spawn_key=(i,)). It draws `ROWS`
    packets at a time: the first of all the block's trials, then the second, a word of 16 bits each, four in each of 64
    bits, least significant first. Then come those of them that are the first 16 bits of the end of "Bob only", and then
    those that are the first of the end of "both": the rest of their numbers, two in each of 64 bits.
    """
    joint = joint_probabilities(d, e, rho)
    return draw(trials, packets, joint.bob_only, joint.both, seed=seed, threads=threads)


def draw(
    trials: int, packets: int, bob_only: float, both: float, *, seed: int, threads: int | None = None
) -> tuple[Counts, Counts]:
    """Do the same as `simulate`, of a joint distribution that is given by its first two shares."""
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
    """Of the 2^48 numbers, those below the result: this share."""
    return round(probability * (1 << 16 + LOW_BITS))


def _block(
    index: int, width: int, packets: int, missed_below: int, received_below: int, seed: int
) -> tuple[Counts, Counts]:
    generator = np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(index,)))
    received, missed = np.zeros(width, np.uint32), np.zeros(width, np.uint32)
    ends = [(missed_below, missed), (received_below, received)]
    for done in range(0, packets, ROWS):
        rows = min(ROWS, packets - done)
        words = generator.random_raw((rows * width + 3) // 4).view(np.uint16)[: rows * width].reshape(rows, width)
        for end, counts in ends:
            counts += _count(words < (end >> LOW_BITS))
        for high in dict.fromkeys(end >> LOW_BITS for end, _ in ends):  # one draw, where both ends have the same
            undecided = np.flatnonzero(words == high)
            low = generator.random_raw((len(undecided) + 1) // 2).view(np.uint32)[: len(undecided)]
            for end, counts in ends:
                if end >> LOW_BITS == high:
                    below = undecided[low < (end & (1 << LOW_BITS) - 1)]
                    np.add.at(counts, below % width, 1)
    return received, missed


def _count(words: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Of each column; 8-bit sums let the compiler's vector code add 32 columns at once."""
    counts: NDArray[np.uint8] = words.view(np.uint8).sum(axis=0, dtype=np.uint8)
    return counts


def simulate_slowly(
    trials: int, packets: int, d: float, e: float, rho: float = 0.0, *, seed: int
) -> tuple[list[int], list[int]]:
    """Make the same experiment in a plain loop: easy to check, and what the speed of `simulate` is measured against."""
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
