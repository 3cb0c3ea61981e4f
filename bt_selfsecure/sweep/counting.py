"""From packed receptions to counts: each run is read once, counted and forgotten, so memory does not grow with packets.

Joint counts are popcounts of the bitmaps, which are numbers to Python (see `bits`). A packet counts where it was on the
air for every listener: one that was lost in the sender's queue for any of them is counted apart, and is in no table.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from datetime import UTC, datetime, timedelta
from typing import Any

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

    def __init__(self, key: SettingKey, *, damaged_heard: bool = True) -> None:
        """Count what a listener has damaged copies of as heard by it as an Eve, never as Bob; or as lost."""
        self.key = key
        self.damaged_heard = damaged_heard
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
        self.heard_as_eve = [0] * count
        """Packets that each listener counts as having heard when it is Eve."""
        self.hands_on_damaged = [True] * count
        """Whether each listener hands on damaged copies, as far as is known of all runs."""
        self._damaged: dict[int, Numbers] = {}
        """[Bob, Eve], by the number of the run: packets that Bob heard, and of which Eve has damaged copies alone."""
        self._damaged_words: dict[tuple[int, int], tuple[NDArray[np.uint16], Numbers]] = {}
        """As `_words`, by the number of the run and Bob: of the packets of which he has damaged copies alone."""
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
        """Return packets that Bob heard and Eve, too (one: the diagonal), shape (runs, Bobs, Eves)."""
        count = len(self.key.listeners)
        return np.frombuffer(self._both, np.int64).reshape(-1, count, count)

    @property
    def alone(self) -> Numbers:
        """Return packets that this Bob heard and no Eve, shape (runs, listeners)."""
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
        """Return packets heard by Bob and Eve in all runs, shape (Bobs, Eves)."""
        tables: Numbers = self.both.sum(axis=0)
        return tables

    def damaged(self) -> Numbers:
        """Return packets that Bob heard, and of which Eve has damaged copies alone, shape (runs, Bobs, Eves)."""
        count = len(self.key.listeners)
        every = np.zeros((len(self.runs) if self._damaged else 1, count, count), np.int64)
        for number, damaged in self._damaged.items():
            every[number] = damaged
        return every if self._damaged else np.broadcast_to(every, (len(self.runs), count, count))

    def unheard(self, number: int) -> Numbers:
        """Return, of each set of Eves (bit i for listener i), the packets that none of them heard in the run of
        this number in `runs`, shape (2^listeners,). It is empty where there are too many listeners."""
        listeners = len(self.key.listeners)
        if listeners > MOST_TOGETHER:
            return np.empty(0, np.int64)
        if listeners <= FEW:
            sets = np.frombuffer(self._unheard, np.int64)
            return sets[number << listeners : (number + 1) << listeners]
        return _unheard(listeners, *self._words[number])

    def damaged_at(self, number: int, bob: int) -> Numbers | None:
        """Return the same of the packets of which this Bob has damaged copies alone; None where there are none."""
        words = self._damaged_words.get((number, bob))
        return None if words is None else _unheard(len(self.key.listeners), *words)

    def add(self, store: Store, run: StoredRun, sniffers: Set[str] = frozenset()) -> None:
        """Add a row a listener. `sniffers` are known to hand on damaged copies, whether they have any of this run."""
        packed = store.packed(run.id)
        listeners = [packed[name] for name in self.key.listeners]
        flags = _bits([each.heard for each in listeners], run.info.packets)
        for each, heard in zip(listeners, flags, strict=True):
            self._copies.append(_mean_copies(each, heard))
            self._rssi.append(_mean_level(each, heard))
        bitmaps = [each.heard for each in listeners]
        damaged = _damaged(listeners, flags)
        for index, name in enumerate(self.key.listeners):
            self.hands_on_damaged[index] &= name in sniffers or bool(damaged is not None and damaged[index].any())
        if queued := [each.lost_in_queue for each in listeners if each.lost_in_queue is not None]:
            left = ~_bits(queued, run.info.packets).any(axis=0)
            flags, damaged = flags[:, left], None if damaged is None else damaged[:, left]
            bitmaps = [row.tobytes() for row in np.packbits(flags, axis=1, bitorder="little")]
        sent = flags.shape[1]
        self.runs.append(run.id)
        self.sent_in.append(sent)
        self.queued_in.append(run.info.packets - sent)
        began = run.info.started
        self._started.append(UNKNOWN if began is None else (began - EPOCH) // timedelta(microseconds=1))
        _add_roles(self.roles, run.info)
        heard_by = [int.from_bytes(bitmap, "little") for bitmap in bitmaps]
        by_eve, as_eve = heard_by, flags
        if damaged is not None and damaged.any():
            self._count_damaged(flags, damaged)
            if self.damaged_heard:
                as_eve = flags | damaged
                by_eve = [
                    int.from_bytes(row.tobytes(), "little") for row in np.packbits(as_eve, axis=1, bitorder="little")
                ]
        for index, heard_too in enumerate(by_eve):
            self.heard_as_eve[index] += heard_too.bit_count()
        self._count_together(heard_by, by_eve, as_eve, sent)
        self._count_order(heard_by, by_eve, flags, as_eve, sent)
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

    def _count_damaged(self, flags: Flags, damaged: Flags) -> None:
        number = len(self.runs) - 1
        self._damaged[number] = flags.astype(np.int64) @ damaged.T.astype(np.int64)
        if self.damaged_heard and len(flags) <= MOST_TOGETHER:
            for bob in np.flatnonzero(damaged.any(axis=1)).tolist():
                self._damaged_words[number, bob] = _words((flags | damaged)[:, damaged[bob]])

    def _count_together(self, heard_by: Sequence[int], by_eve: Sequence[int], as_eve: Flags, sent: int) -> None:
        self._both.extend(
            (heard if bob == eve else heard & too).bit_count()
            for bob, heard in enumerate(heard_by)
            for eve, too in enumerate(by_eve)
        )
        if len(heard_by) > MOST_TOGETHER:
            self._alone.extend(bits.alone(heard_by, by_eve))
        elif len(heard_by) > FEW:
            self._words.append(_words(as_eve))
        else:
            self._unheard.extend(sent - heard.bit_count() for heard in bits.unions(by_eve))

    def _count_order(
        self, heard_by: Sequence[int], by_eve: Sequence[int], flags: Flags, as_eve: Flags, sent: int
    ) -> None:
        all_of_them = (1 << sent) - 1
        lost_by = [heard ^ all_of_them for heard in heard_by]
        self._waiting[0].add(~flags[:, : sent // WINDOW * WINDOW])
        for lost, steps, bursts, row in zip(lost_by, self.loss_steps, self.bursts, flags, strict=True):
            _add(steps, bits.steps(lost, all_of_them))
            bursts.update(bits.bursts(lost) or _bursts(row))
        missed_by = [heard ^ all_of_them for heard in by_eve]
        for bob, heard in enumerate(heard_by):
            for lost, steps in zip(missed_by, self.miss_steps[bob], strict=True):
                _add(steps, bits.steps(lost & heard, heard))
            whole = heard.bit_count() // WINDOW * WINDOW
            if whole:
                self._waiting[1 + bob].add(~as_eve[:, flags[bob]][:, :whole])


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
    *,
    damaged_heard: bool = True,
) -> list[SettingCounts]:
    """Return all runs that count, by setting: nearest first. `progress` is told the runs done and to do. Of the
    listeners only those that are `chosen`; all where none is. What Eve has damaged copies of counts as heard, or as
    lost. Raises `UsageError` if there is no run, or one has too
    many listeners."""
    settings = by_setting(store, chosen)
    all_of_them, done = sum(map(len, settings.values())), 0
    counted = []
    sniffers = {number: _sniffers(manifest) for number, manifest in store.manifests().items()}
    for key, runs in settings.items():
        if len(key.listeners) > MOST_LISTENERS:
            raise UsageError(
                f"run {runs[0]} has {len(key.listeners)} listeners, and at most {MOST_LISTENERS} are compared: "
                "choose some with --listeners NAME,NAME"
            )
        counted.append(SettingCounts(key, damaged_heard=damaged_heard))
        for run in store.in_batches(runs):
            progress(done, all_of_them)
            counted[-1].add(store, run, sniffers[run.manifest])
            done += 1
        counted[-1].finish()
    progress(done, all_of_them)
    return counted


def table(sent: int, by_bob: int, by_eve: int, by_both: int) -> JointLoss:
    """Return the 2x2 table of two listeners, from packets sent and packets heard."""
    return JointLoss(by_both, by_bob - by_both, by_eve - by_both, sent - by_bob - by_eve + by_both)


def _sniffers(manifest: Mapping[str, Any]) -> frozenset[str]:
    """Return the listeners whose captures have packets with a wrong CRC, and whose record has what came of them."""
    captures = (manifest.get("captured") or {}).get("captures", {})
    return frozenset(name for name, told in captures.items() if told.get("hands_on_damaged"))


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


def _damaged(listeners: Sequence[Packed], heard: Flags) -> Flags | None:
    """Return a row of each of them: packets of which it has damaged copies alone; None where none has any."""
    if all(each.copies is None for each in listeners):
        return None
    damaged = np.zeros_like(heard)
    for row, each in zip(damaged, listeners, strict=True):
        if each.copies is not None:
            row[:] = np.frombuffer(numbers := unpacked(each.copies, COUNTS, each.packets)[1], numbers.typecode) > 0
    damaged &= ~heard
    return damaged if damaged.any() else None


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


def _unheard(listeners: int, words: NDArray[np.uint16], counts: Numbers) -> Numbers:
    """Sum over the subsets of the complement, one listener at a time."""
    total: Numbers = np.zeros(1 << listeners, np.int64)
    total[words] = counts
    for bit in range(listeners):
        halves = total.reshape(-1, 2, 1 << bit)
        halves[:, 1] += halves[:, 0]
    of_complement: Numbers = total[::-1]
    return of_complement


def _bursts(heard: Flags) -> Counter[int]:
    edges = np.flatnonzero(np.diff(~heard, prepend=False, append=False))
    return Counter((edges[1::2] - edges[::2]).tolist())
