"""From packed receptions to counts: each run is read once, counted and forgotten, so memory does not grow with packets.

Joint counts are popcounts of the bitmaps, which are numbers to Python (see `bits`). A packet counts where it was on the
air for every listener: one that was lost in the sender's queue for any of them is counted apart, and is in no table.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from bt_selfsecure.errors import UsageError
from bt_selfsecure.stats.losses import JointLoss
from bt_selfsecure.sweep import bits
from bt_selfsecure.sweep.packing import COUNTS, LEVELS, Packed, unpacked
from bt_selfsecure.sweep.runs import RunInfo, StoredRun
from bt_selfsecure.sweep.settings import SettingKey, by_setting, stands
from bt_selfsecure.sweep.statistics import WINDOW, Windows
from bt_selfsecure.sweep.store import Store

Flags = NDArray[np.bool_]
Numbers = NDArray[np.int64]

MOST_LISTENERS = 128
"""Every two of them are compared, which takes memory and time by the square."""
MOST_TOGETHER = 16
"""Up to so many, who heard a packet is one 16-bit word, and of the sets of colluding Eves, 2^listeners, none is left
out."""
FEW = 6
"""Up to so many, each set of them is counted by itself."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UNKNOWN = -(1 << 63)
"""For a beginning that nobody noted."""
AT_ONCE = 1 << 20
"""Packets of windows that are counted together: most runs are short."""


class SettingCounts:
    """These are of all runs of one setting."""

    def __init__(self, key: SettingKey) -> None:
        self.key = key
        count = len(key.listeners)
        self.runs, self.sent_in, self.queued_in = array("q"), array("q"), array("q")
        """Of each run: its id, the packets that were on the air, and those that were lost in the sender's queue."""
        self.roles: dict[str, set[str]] = {}
        """By listener: the parts that the plans of the runs say it plays."""
        self.loss_steps = [[0] * 4 for _ in range(count)]
        """Of each listener: successive packets kept-kept, kept-lost, lost-kept, lost-lost."""
        self.miss_steps = [[[0] * 4 for _ in range(count)] for _ in range(count)]
        """[Bob][Eve]: the same of Eve's misses among the packets that Bob heard."""
        self.bursts: list[Counter[int]] = [Counter() for _ in range(count)]
        """How often so many packets in a row were lost, of each listener."""
        self.loss_windows = [Windows() for _ in range(count)]
        self.miss_windows = [[Windows() for _ in range(count)] for _ in range(count)]
        """[Bob][Eve]"""
        self.distances: dict[tuple[str, float], list[int]] = {}
        """Packets sent and heard, by listener and its own distance."""
        self._both, self._alone, self._unheard = array("q"), array("q"), array("q")
        self._words: list[tuple[NDArray[np.uint16], Numbers]] = []
        self._copies, self._rssi, self._metres = array("d"), array("d"), array("d")
        self._started = array("q")
        self._waiting = [_Waiting(windows) for windows in (self.loss_windows, *self.miss_windows)]

    @property
    def sent(self) -> int:
        return sum(self.sent_in)

    @property
    def both(self) -> Numbers:
        """Return packets that two listeners both heard (one: the diagonal), shape (runs, listeners, listeners)."""
        count = len(self.key.listeners)
        return np.frombuffer(self._both, np.int64).reshape(-1, count, count)

    @property
    def alone(self) -> Numbers:
        """Return packets that this listener heard and no other one, shape (runs, listeners)."""
        return np.frombuffer(self._alone, np.int64).reshape(-1, len(self.key.listeners))

    @property
    def copies(self) -> NDArray[np.float64]:
        """Return the mean over the packets that were heard, shape (runs, listeners); nan if none was."""
        return np.frombuffer(self._copies, np.float64).reshape(-1, len(self.key.listeners))

    @property
    def rssi(self) -> NDArray[np.float64]:
        """Return the mean likewise, in dBm; nan if nobody told."""
        return np.frombuffer(self._rssi, np.float64).reshape(-1, len(self.key.listeners))

    @property
    def metres(self) -> NDArray[np.float64]:
        """Return where each listener stood in each run, shape (runs, listeners); nan if nobody told."""
        return np.frombuffer(self._metres, np.float64).reshape(-1, len(self.key.listeners))

    def started(self, number: int) -> datetime | None:
        """Return when the run of this number in `runs` began."""
        since = self._started[number]
        return None if since == UNKNOWN else EPOCH + timedelta(microseconds=since)

    def heard(self) -> Numbers:
        """Return packets heard by each listener."""
        return self.tables().diagonal()

    def tables(self) -> Numbers:
        """Return packets heard by two listeners in all runs, shape (listeners, listeners)."""
        tables: Numbers = self.both.sum(axis=0)
        return tables

    def unheard(self, number: int) -> Numbers:
        """Return, of each set of listeners (bit i for listener i), the packets that none of them heard in the run of
        this number in `runs`, shape (2^listeners,). It is empty where there are too many listeners."""
        listeners = len(self.key.listeners)
        if listeners > MOST_TOGETHER:
            return np.empty(0, np.int64)
        if listeners <= FEW:
            sets = np.frombuffer(self._unheard, np.int64)
            return sets[number << listeners : (number + 1) << listeners]
        # Sums over the subsets of the complement, one listener at a time.
        words, counts = self._words[number]
        total: Numbers = np.zeros(1 << listeners, np.int64)
        total[words] = counts
        for bit in range(listeners):
            halves = total.reshape(-1, 2, 1 << bit)
            halves[:, 1] += halves[:, 0]
        of_complement: Numbers = total[::-1]
        return of_complement

    def add(self, store: Store, run: StoredRun) -> None:
        """Add a row a listener."""
        packed = store.packed(run.id)
        listeners = [packed[name] for name in self.key.listeners]
        flags = _bits([each.heard for each in listeners], run.info.packets)
        for each, heard in zip(listeners, flags, strict=True):
            self._copies.append(_mean_copies(each, heard))
            self._rssi.append(_mean_level(each, heard))
        bitmaps = [each.heard for each in listeners]
        if queued := [each.lost_in_queue for each in listeners if each.lost_in_queue is not None]:
            flags = flags[:, ~_bits(queued, run.info.packets).any(axis=0)]
            bitmaps = [row.tobytes() for row in np.packbits(flags, axis=1, bitorder="little")]
        sent = flags.shape[1]
        self.runs.append(run.id)
        self.sent_in.append(sent)
        self.queued_in.append(run.info.packets - sent)
        began = run.info.started
        self._started.append(UNKNOWN if began is None else (began - EPOCH) // timedelta(microseconds=1))
        _add_roles(self.roles, run.info)
        heard_by = [int.from_bytes(bitmap, "little") for bitmap in bitmaps]
        self._count_together(heard_by, flags, sent)
        self._count_order(heard_by, flags, sent)
        for name, bitmap in zip(self.key.listeners, heard_by, strict=True):
            metres = stands(run.info, name)
            self._metres.append(math.nan if metres is None else metres)
            if metres is not None:
                sum_up = self.distances.setdefault((name, metres), [0, 0])
                sum_up[0] += sent
                sum_up[1] += bitmap.bit_count()

    def finish(self) -> None:
        """Count what was put aside, to be counted with more of its kind."""
        for waiting in self._waiting:
            waiting.count()

    def _count_together(self, heard_by: Sequence[int], flags: Flags, sent: int) -> None:
        self._both.extend((one & other).bit_count() for one in heard_by for other in heard_by)
        if len(heard_by) > MOST_TOGETHER:
            self._alone.extend(bits.alone(heard_by))
        elif len(heard_by) > FEW:
            self._words.append(_words(flags))
        else:
            self._unheard.extend(sent - heard.bit_count() for heard in bits.unions(heard_by))

    def _count_order(self, heard_by: Sequence[int], flags: Flags, sent: int) -> None:
        all_of_them = (1 << sent) - 1
        lost_by = [heard ^ all_of_them for heard in heard_by]
        self._waiting[0].add(~flags[:, : sent // WINDOW * WINDOW])
        for lost, steps, bursts, row in zip(lost_by, self.loss_steps, self.bursts, flags, strict=True):
            _add(steps, bits.steps(lost, all_of_them))
            bursts.update(bits.bursts(lost) or _bursts(row))
        for bob, heard in enumerate(heard_by):
            for lost, steps in zip(lost_by, self.miss_steps[bob], strict=True):
                _add(steps, bits.steps(lost & heard, heard))
            whole = heard.bit_count() // WINDOW * WINDOW
            if whole:
                self._waiting[1 + bob].add(~flags[:, flags[bob]][:, :whole])


class _Waiting:
    """These are whole windows of packets, to be counted many at once."""

    def __init__(self, windows: Sequence[Windows]) -> None:
        self._windows = windows
        self._lost: list[Flags] = []
        self._packets = 0

    def add(self, lost: Flags) -> None:
        """Add a row a listener."""
        self._lost.append(lost)
        self._packets += lost.size
        if self._packets >= AT_ONCE:
            self.count()

    def count(self) -> None:
        if not self._packets:
            return
        together = np.concatenate(self._lost, axis=1).view(np.uint8)
        missed = together.reshape(len(together), -1, WINDOW).sum(axis=2, dtype=np.uint8).astype(np.int64)
        squares, sums = (missed * missed).sum(axis=1) / WINDOW, missed.sum(axis=1)
        for one, square, total in zip(self._windows, squares.tolist(), sums.tolist(), strict=True):
            one.squares += square
            one.missed += total
            one.packets += together.shape[1]
            one.windows += missed.shape[1]
        self._lost, self._packets = [], 0


def count(
    store: Store,
    progress: Callable[[int, int], None] = lambda done, all_of_them: None,
    chosen: Sequence[str] = (),
) -> list[SettingCounts]:
    """Return all runs that count, by setting: nearest first. `progress` is told the runs done and to do. Of the
    listeners only those that are `chosen`; all where none is. Raises `UsageError` if there is no run, or one has too
    many listeners."""
    settings = by_setting(store, chosen)
    all_of_them, done = sum(map(len, settings.values())), 0
    counted = []
    for key, runs in settings.items():
        if len(key.listeners) > MOST_LISTENERS:
            raise UsageError(
                f"run {runs[0]} has {len(key.listeners)} listeners, and at most {MOST_LISTENERS} are compared: "
                "choose some with --listeners NAME,NAME"
            )
        counted.append(SettingCounts(key))
        for run in store.in_batches(runs):
            progress(done, all_of_them)
            counted[-1].add(store, run)
            done += 1
        counted[-1].finish()
    progress(done, all_of_them)
    return counted


def table(sent: int, by_bob: int, by_eve: int, by_both: int) -> JointLoss:
    """Return the 2x2 table of two listeners, from packets sent and packets heard."""
    return JointLoss(by_both, by_bob - by_both, by_eve - by_both, sent - by_bob - by_eve + by_both)


def _add_roles(roles: dict[str, set[str]], info: RunInfo) -> None:
    told = info.notes.get("roles")
    if isinstance(told, Mapping):
        for name, part in ((told.get("bob"), "bob"), *((eve, "eve") for eve in told.get("eves", ()))):
            roles.setdefault(str(name), set()).add(part)


def _add(steps: list[int], more: Sequence[int]) -> None:
    for kind, count in enumerate(more):
        steps[kind] += count


def _bits(bitmaps: Sequence[bytes], packets: int) -> Flags:
    """Return a row of bits for each of them."""
    together = np.frombuffer(b"".join(bitmaps), np.uint8).reshape(len(bitmaps), -1)
    return np.unpackbits(together, axis=1, count=packets, bitorder="little").view(np.bool_)


def _mean_copies(one: Packed, heard: Flags) -> float:
    """Return the mean of the packets that were heard; nan if none was."""
    if not heard.any():
        return math.nan
    return 1.0 if one.copies is None else float(np.mean(unpacked(one.copies, COUNTS, one.packets)[1], where=heard))


def _mean_level(one: Packed, heard: Flags) -> float:
    """Return the mean likewise, in dBm; nan where none is known."""
    if one.rssi is None:
        return math.nan
    form, numbers = unpacked(one.rssi, LEVELS, one.packets)
    levels = np.frombuffer(numbers, numbers.typecode)[heard]
    known = levels[(levels != form.none) & (levels == levels)]  # NaN is not itself
    return float(known.mean(dtype=np.float64)) / form.per_unit if len(known) else math.nan


def _words(flags: Flags) -> tuple[NDArray[np.uint16], Numbers]:
    """Return the different sets of listeners that heard a packet, bit i for listener i, and how often each occurs."""
    words = np.zeros(flags.shape[1], np.uint16)
    for listener, heard in enumerate(flags):
        words |= heard.astype(np.uint16) << np.uint16(listener)
    return np.unique(words, return_counts=True)


def _bursts(heard: Flags) -> Counter[int]:
    edges = np.flatnonzero(np.diff(~heard, prepend=False, append=False))
    return Counter((edges[1::2] - edges[::2]).tolist())
