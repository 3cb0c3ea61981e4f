"""From rows to counts: each run is read once, counted with numpy and forgotten, so memory does not grow with the sweep.

A packet counts where it was on the air for every listener: one that was lost in the sender's queue for any of them is
counted apart, and is in no table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from bt_selfsecure.core.losses import JointLoss
from bt_selfsecure.errors import UsageError
from bt_selfsecure.sweep.settings import Key, by_setting, stands
from bt_selfsecure.sweep.statistics import WINDOW, Windows
from bt_selfsecure.sweep.store import RunInfo, Store, StoredRun

Flags = NDArray[np.bool_]
Numbers = NDArray[np.int64]

MOST_LISTENERS = 128
"""Every two of them are compared, which takes memory and time by the square."""
MOST_TOGETHER = 16
"""Up to so many, who heard a packet is one 16-bit word, and of the sets of colluding Eves, 2^listeners, none is left
out."""


@dataclass(frozen=True, slots=True)
class RunCounts:
    """One run, in counts. Arrays have an entry a listener, in the order of the setting's."""

    id: int
    started: datetime | None
    info: RunInfo
    sent: int
    """Packets that were on the air."""
    heard: Numbers
    both: Numbers
    """Packets that two listeners both heard, shape (listeners, listeners)."""
    alone: Numbers
    """Packets that this listener heard and no other one."""
    words: NDArray[np.uint16]
    """The different sets of listeners that heard a packet: bit i for listener i. Empty if they are too many."""
    counts: Numbers
    """How often each of these sets occurs."""
    lost_in_queue: int
    copies: NDArray[np.float64]
    """Mean over the packets that were heard."""
    rssi: NDArray[np.float64]
    """Mean over the packets that were heard, dBm; nan if nobody told."""


@dataclass(slots=True)
class Counts:
    """All runs of one setting."""

    key: Key
    runs: list[RunCounts]
    loss_steps: Numbers
    """Successive packets at a listener, shape (listeners, 4): kept-kept, kept-lost, lost-kept, lost-lost."""
    miss_steps: Numbers
    """The same of Eve's misses among the packets that Bob heard, shape (Bob, Eve, 4)."""
    bursts: list[Counter[int]]
    """How often so many packets in a row were lost, of each listener."""
    loss_windows: list[Windows]
    miss_windows: list[list[Windows]]
    """[Bob][Eve]"""
    distances: dict[tuple[str, float], list[int]] = field(default_factory=dict)
    """Packets sent and heard, by listener and its own distance."""

    @classmethod
    def empty(cls, key: Key) -> Counts:
        count = len(key.listeners)
        return cls(
            key,
            [],
            np.zeros((count, 4), np.int64),
            np.zeros((count, count, 4), np.int64),
            [Counter() for _ in range(count)],
            [Windows() for _ in range(count)],
            [[Windows() for _ in range(count)] for _ in range(count)],
        )

    @property
    def sent(self) -> int:
        return sum(run.sent for run in self.runs)

    def heard(self) -> Numbers:
        """Packets heard by each listener."""
        return sum((run.heard for run in self.runs), np.zeros(len(self.key.listeners), np.int64))

    def tables(self) -> Numbers:
        """Packets heard by two listeners, shape (listeners, listeners)."""
        return sum((run.both for run in self.runs), np.zeros(2 * (len(self.key.listeners),), np.int64))

    def add(self, store: Store, run: StoredRun) -> None:
        """Read and count one run."""
        heard, on_air = _flags(store, run, self.key.listeners)
        kept = heard[:, on_air]
        words, counts = np.unique(_words(kept), return_counts=True)
        copies, rssi = store.means(run.id, self.key.listeners)
        sums = kept.astype(np.float32)  # float: numpy multiplies matrices of integers slowly; exact below 2^24 packets
        with np.errstate(all="ignore"):  # on some ARM CPUs OpenBLAS raises flags for lanes that it does not use
            both = np.rint(sums @ sums.T).astype(np.int64)
        info = run.info
        self.runs.append(
            RunCounts(
                run.id,
                info.started,
                info,
                kept.shape[1],
                kept.sum(axis=1),
                both,
                (kept & (kept.sum(axis=0) == 1)).sum(axis=1),
                words,
                counts,
                int(np.count_nonzero(~on_air)),
                np.array(copies),
                np.array(rssi),
            )
        )
        self._count_order(kept)
        for name, received in zip(self.key.listeners, self.runs[-1].heard, strict=True):
            metres = stands(info, name)
            if metres is not None:
                sum_up = self.distances.setdefault((name, metres), [0, 0])
                sum_up[0] += kept.shape[1]
                sum_up[1] += int(received)

    def _count_order(self, kept: Flags) -> None:
        lost = ~kept
        self.loss_steps += _steps(lost)
        _add_windows(self.loss_windows, lost)
        for bursts, one in zip(self.bursts, lost, strict=True):
            bursts.update(_burst_lengths(one))
        for bob, received in enumerate(kept):
            missed = lost[:, received]
            self.miss_steps[bob] += _steps(missed)
            _add_windows(self.miss_windows[bob], missed)


def count(
    store: Store,
    progress: Callable[[int, int], None] = lambda done, all_of_them: None,
    chosen: Sequence[str] = (),
) -> list[Counts]:
    """All runs that count, by setting: nearest first. `progress` is told the runs done and to do.

    Of the listeners only those that are `chosen`; all where none is. UsageError if there is no run, or one has too many
    listeners.
    """
    settings = by_setting(store, chosen)
    all_of_them, done = sum(map(len, settings.values())), 0
    counted = []
    for key, runs in settings.items():
        if len(key.listeners) > MOST_LISTENERS:
            raise UsageError(
                f"run {runs[0].id} has {len(key.listeners)} listeners, and at most {MOST_LISTENERS} are compared: "
                "choose some with --listeners NAME,NAME"
            )
        counted.append(Counts.empty(key))
        for run in runs:
            progress(done, all_of_them)
            counted[-1].add(store, run)
            done += 1
    progress(done, all_of_them)
    return counted


def table(sent: int, both: Numbers, bob: int, eve: int) -> JointLoss:
    """The 2x2 table of two listeners, from packets sent and packets heard by each two (by one: the diagonal)."""
    by_bob, by_eve, by_both = (int(both[pair]) for pair in ((bob, bob), (eve, eve), (bob, eve)))
    return JointLoss(by_both, by_bob - by_both, by_eve - by_both, sent - by_bob - by_eve + by_both)


def _flags(store: Store, run: StoredRun, listeners: tuple[str, ...]) -> tuple[Flags, Flags]:
    """Who heard each packet, shape (listeners, N), and whether it was on the air for all of them, shape (N,)."""
    packets = run.info.packets
    heard, on_air = np.empty((len(listeners), packets), np.bool_), np.ones(packets, np.bool_)
    for index, name in enumerate(listeners):
        fates = np.fromiter(store.fates(run.id, name), np.uint8, packets)
        heard[index] = fates == 1
        on_air &= fates != 2
    return heard, on_air


def _words(kept: Flags) -> NDArray[np.uint16]:
    if len(kept) > MOST_TOGETHER:
        return np.empty(0, np.uint16)
    bits = (np.uint16(1) << np.arange(len(kept), dtype=np.uint16))[:, None]
    words: NDArray[np.uint16] = np.where(kept, bits, np.uint16(0)).sum(axis=0, dtype=np.uint16)
    return words


def _steps(lost: Flags) -> Numbers:
    """Of each row: successive values False-False, False-True, True-False, True-True."""
    before, after = lost[:, :-1], lost[:, 1:]
    bad_bad = np.count_nonzero(before & after, axis=1)
    bad, then_bad = np.count_nonzero(before, axis=1), np.count_nonzero(after, axis=1)
    good_bad, bad_good = then_bad - bad_bad, bad - bad_bad
    return np.stack([before.shape[1] - bad_bad - good_bad - bad_good, good_bad, bad_good, bad_bad], axis=1)


def _burst_lengths(lost: Flags) -> Iterator[int]:
    edges = np.flatnonzero(np.diff(lost, prepend=False, append=False))
    return iter((edges[1::2] - edges[::2]).tolist())


def _add_windows(windows: list[Windows], lost: Flags) -> None:
    whole = lost.shape[1] // WINDOW
    if not whole:
        return
    missed = lost[:, : whole * WINDOW].reshape(len(lost), whole, WINDOW).sum(axis=2)
    squares, sums = (missed * missed).sum(axis=1) / WINDOW, missed.sum(axis=1)
    for one, square, total in zip(windows, squares.tolist(), sums.tolist(), strict=True):
        one.squares += square
        one.missed += total
        one.packets += whole * WINDOW
        one.windows += whole
