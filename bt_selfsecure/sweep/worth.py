"""What the key of a run is worth. Each run is judged by its own lower bound of e|B, and the weakest decides.

e|B of all runs pooled is a mean: a run of which Eve missed one packet is no better for others of which she missed half.
The bounds are one-sided, Clopper and Pearson's at 95 %: the run with the least e|B is below its own with 95 %, hence
the least of all bounds is one of the least e|B, however many runs there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.frames import COMPACT_FRAME_BYTES, RAND_FRAME_BYTES
from bt_selfsecure.stats.losses import (
    bits_per_packet,
    lower_bound,
    missed_entropy,
    packets_needed,
    packets_to_send,
    secret_bits,
)
from bt_selfsecure.sweep.results import BITS, BROKEN, HOLDS, NO_KEY, WEAK, InRun

SURE: Final = 0.99
MOST_PACKETS: Final = 10**9


def hidden_bits(size_bytes: int) -> int:
    """Return the random bits that a missed packet of so many bytes hides: those of the burst message that fits into it,
    less what the list of its part gives away of each (`hardened`)."""
    if size_bytes >= RAND_FRAME_BYTES:
        message = limits.BURST_MESSAGE_BYTES
    else:
        message = min(limits.COMPACT_MESSAGE_BYTES, size_bytes - (COMPACT_FRAME_BYTES - limits.COMPACT_MESSAGE_BYTES))
    return 8 * max(0, message - limits.DIGEST_BYTES)


def in_run(run: int, sent: int, heard: int, missed: int, size_bytes: int) -> InRun:
    """Return the worth of a run of which Bob heard so many packets, and Eve (or Eves together) missed so many of
    those."""
    if not heard:
        return InRun(run, sent, 0, 0, None, 0.0, None, NO_KEY)
    bound = lower_bound(missed, heard)
    bits = secret_bits(heard, bound, missed_entropy=missed_entropy(missed, packet_bits=hidden_bits(size_bytes)))
    verdict = BROKEN if not missed else WEAK if bits < BITS[-1] else HOLDS
    return InRun(run, sent, heard, missed, missed / heard, bound, bits, verdict)


class Together(NamedTuple):
    """Holds what the runs of a pair come to, each judged by itself."""

    worst: InRun | None
    """The run whose key is worth least; None if no run has a key. Of several alike the first."""
    longest: InRun | None
    """The run that takes most packets on average, likewise."""
    least_bound: float
    """Of the runs with a key; 0 if none has."""
    keys: int
    """Runs with one."""
    broken: int


def together(runs: Iterable[tuple[InRun, int]]) -> Together:
    """Return what these runs come to, each given with how many are like it."""
    found: list[InRun] = []
    keys = broken = 0
    for run, alike in runs:
        if run.bob_heard:
            found.append(run)
            keys += alike
            broken += alike * (run.verdict == BROKEN)
    return Together(
        min(found, key=lambda run: (run.secret_bits, _per_packet_sent(run), run.run), default=None),
        min(found, key=lambda run: (_per_packet_sent(run), run.run), default=None),
        min((run.bound for run in found), default=0.0),
        keys,
        broken,
    )


def verdict(heard: int, missed: int, worst: InRun | None) -> str:
    """Return the verdict over all runs of a pair: packets that Bob heard in them, packets of those that Eve missed, and
    the worst run."""
    if not heard or worst is None or worst.secret_bits is None:
        return NO_KEY
    return BROKEN if not missed else WEAK if worst.secret_bits < BITS[-1] else HOLDS


def needed(bound: float) -> dict[str, int | None]:
    """Return |S| for each strength by a bound of e|B; None where no number is enough."""
    return {str(bits): packets_needed(bits, bound) if bound else None for bits in BITS}


def to_send(run: InRun | None) -> dict[str, int | None]:
    """Return N for each strength, in the run that takes most on average."""
    if run is None:
        return dict.fromkeys(map(str, BITS))
    return {name: _to_send(packets, 1 - run.bob_heard / run.sent) for name, packets in needed(run.bound).items()}


def _per_packet_sent(run: InRun) -> float:
    """Return the secret bits per packet sent."""
    return run.bob_heard / run.sent * bits_per_packet(run.bound)


@lru_cache(maxsize=1 << 12)
def _to_send(packets: int | None, d: float) -> int | None:
    return None if packets is None or packets > MOST_PACKETS else packets_to_send(packets, d, SURE)
