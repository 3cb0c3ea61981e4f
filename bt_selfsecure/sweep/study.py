"""Many establishments at once, over a grid of losses: how often would Eves have everything that Bob received?

A grid file names values, and every combination of them is a point of the study:

    [study]
    trials = 100_000             # establishments at each point
    seed = 1
    bob_loss = [0.05, 0.1]       # d
    eve_loss = [0.02, 0.05]      # e, of each Eve
    correlation = [0.0, 0.2]     # rho, of Bob's losses and each Eve's
    packets = [200, 400, 800]    # N
    eves = [1, 2]                # who collude

Each point is simulated in pieces with random numbers of their own, drawn from the seed, the point's values and the
piece's number. So the same grid gives the same table on one core, on many, on a cluster, and after an interruption, and
a point has the same row in every grid: finished pieces are kept in a file beside the table and not done again.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple

from bt_selfsecure.errors import UnreadableError, UsageError
from bt_selfsecure.files import whole
from bt_selfsecure.node.config import Rule, about, between, key
from bt_selfsecure.node.tables import TableReader, load_toml
from bt_selfsecure.stats.losses import (
    KEY_BITS,
    JointProbabilities,
    clopper_pearson,
    colluding_probabilities,
    joint_probabilities,
)
from bt_selfsecure.sweep.plain_json import json_of
from bt_selfsecure.sweep.study_cluster import on_cluster
from bt_selfsecure.sweep.study_kept import KeptLine, kept
from bt_selfsecure.sweep.study_pieces import StudyPiece, StudyTotals, batches, simulated, versions

PIECE_TRIALS: Final = 32_768
PIECE_PACKETS: Final = 2**27
"""Most establishments in one piece, and packets of all of them (about 0.1 s); part of the result, as other values give
other numbers for a seed."""
MOST_POINTS: Final = 100_000
MOST_BYTES: Final = 4 * 2**20
"""Of a grid's file: room for a value a point, each with all its digits and on a line of its own."""
PROBABILITY: Final = between(0, 1)

Progress = Callable[[int, int], None]


def _axis(doc: str, rule: Rule) -> Any:
    return field(metadata=about(doc, rule))


@dataclass(frozen=True, slots=True)
class Grid:
    """Holds the values of a study."""

    bob_loss: tuple[float, ...] = _axis("d: share of the packets that Bob misses.", PROBABILITY)
    eve_loss: tuple[float, ...] = _axis("e: share that each Eve misses.", PROBABILITY)
    packets: tuple[int, ...] = _axis("N: packets that are sent.", between(1, 1_000_000))
    correlation: tuple[float, ...] = key((0.0,), "rho: correlation of Bob's losses and each Eve's.", between(-1, 1))
    eves: tuple[int, ...] = key((1,), "Eves who collude; what happened to Bob decides how alike.", between(1, 1000))
    trials: int = key(100_000, "Establishments at each point.", between(1, 1_000_000_000))
    seed: int = key(1, "The same seed gives the same table.", between(0, 2**63 - 1))

    def __post_init__(self) -> None:
        """Make every 0 the same: -0.0 equals it, and has other digits, of which the random numbers are drawn."""
        for name in ("bob_loss", "eve_loss", "correlation"):
            object.__setattr__(self, name, tuple(float(value) + 0.0 for value in getattr(self, name)))

    def points(self) -> tuple[list[Point], int]:
        """Return the points that can be, and how many can't: not every correlation fits every two losses."""
        every = [
            Point(*values)
            for values in product(self.bob_loss, self.eve_loss, self.correlation, self.packets, self.eves)
        ]
        possible = [point for point in every if point.joint() is not None]
        return possible, len(every) - len(possible)

    def digest(self) -> str:
        """Return a digest of everything that the table depends on."""
        return hashlib.sha256(json.dumps([PIECE_TRIALS, PIECE_PACKETS, asdict(self)]).encode()).hexdigest()


class Point(NamedTuple):
    """Is one row of the table."""

    bob_loss: float
    eve_loss: float
    correlation: float
    packets: int
    eves: int

    def joint(self) -> JointProbabilities | None:
        """Return Bob's loss and that of all Eves together; None if there is no such distribution."""
        try:
            one = joint_probabilities(self.bob_loss, self.eve_loss, self.correlation)
        except UsageError:
            return None
        return colluding_probabilities(one, self.eves)


class PointResult(NamedTuple):
    """Holds what came of a point."""

    bob_loss: float
    eve_loss: float
    correlation: float
    packets: int
    eves: int
    trials: int
    e_given_b: float
    broken: int
    broken_share: float
    broken_low: float
    broken_high: float
    broken_expected: float
    secret_bits: float
    received_mean: float
    missed_mean: float
    missed_1_in_1000: int
    missed_1_in_100: int
    missed_median: int


def read_grid(path: Path) -> Grid:
    """Return the study that a TOML file describes. Raises `UsageError` with file, line and key."""
    missing = "write one, as `sweep study --help` shows"
    values, origin = load_toml(path, missing=missing, kind="study", most_bytes=MOST_BYTES)
    for name in values:
        if name != "study":
            origin.fail((name,), "is unknown: a study has one table, [study]")
    grid: Grid = TableReader(origin).table(Grid, ("study",), values.get("study"))
    if (
        len(grid.bob_loss) * len(grid.eve_loss) * len(grid.correlation) * len(grid.packets) * len(grid.eves)
        > MOST_POINTS
    ):
        origin.fail(("study",), f"has more than {MOST_POINTS:,} points: name fewer values")
    if not grid.points()[0]:
        origin.fail(("study", "correlation"), "fits none of these losses: give 0, or one between Frechet's bounds")
    return grid


# --- All pieces -------------------------------------------------------------------------------------------------------


def run(
    grid: Grid,
    out: Path,
    scheduler: str | None,
    progress: Progress,
    tell: Callable[[str], None] = lambda what: None,
) -> list[PointResult]:
    """Simulate the whole study and return its table, which is then in `out` as Parquet.

    `progress` is told the establishments done, and all; `tell` what became of the cluster. What was done before an
    interruption is taken from `out`.pieces, which vanishes at the end. Raises `UsageError` if that is of another grid
    or version, another study writes it, the table can't be written or the cluster can't be used.
    """
    _parquet()  # it had better be missed now than after hours
    sums = _Sums(grid)
    beside = out.with_name(out.name + ".pieces")
    with kept(beside, {"grid": grid.digest(), "versions": versions()}, sums.add) as keeper:
        with whole(out) as part:
            progress(sums.done, sums.all)
            waiting = batches(sums.missing())
            with closing(_here(waiting) if scheduler is None else on_cluster(waiting, scheduler, tell)) as outcomes:
                for batch in outcomes:
                    for piece, received, missed in batch:
                        keeper.keep(StudyTotals(piece, received, missed))
                        sums.add(KeptLine(piece.point, piece.number, received, missed))
                        progress(sums.done, sums.all)
            table = sums.table()
            write_parquet(table, grid, part)
        beside.unlink()
    return table


def _here(waiting: Iterator[list[StudyPiece]]) -> Generator[list[StudyTotals]]:
    """Yield the results of pieces, on all cores."""
    cores = os.cpu_count() or 1
    going: set[Future[list[StudyTotals]]] = set()
    pool = ThreadPoolExecutor(cores)
    try:
        for batch in waiting:
            going.add(pool.submit(simulated, batch))
            if len(going) > cores:
                done, going = wait(going, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        yield from (future.result() for future in going)
    finally:
        pool.shutdown(cancel_futures=True)


class _Sums:
    """What is done of each point. One that is complete is a row, and no more is kept of it."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._points = grid.points()[0]
        self._rows: list[PointResult | None] = [None] * len(self._points)
        self._begun: dict[int, _Sum] = {}
        self.done, self.all = 0, grid.trials * len(self._points)

    def add(self, outcome: KeptLine) -> None:
        """Add one piece's. Raises `UnreadableError` if it is none of this study's, or was added before."""
        index, number, received, missed = outcome
        point = self._points[index]
        begun = self._begun.setdefault(index, _Sum())
        trials = sum(missed.values())
        if self._rows[index] or number in begun.numbers or trials != self._trials(point, number):
            raise UnreadableError(f"piece {number} of point {index} can't be there")
        begun.numbers.add(number)
        begun.received += received
        begun.missed.update(missed)
        self.done += trials
        if len(begun.numbers) == self._pieces(point):
            self._rows[index] = _row(point, self._begun.pop(index), self._grid.trials)

    def missing(self) -> Iterator[StudyPiece]:
        """Yield the pieces that are still to be done."""
        for index, point in enumerate(self._points):
            numbers = self._begun[index].numbers if index in self._begun else set()
            joint = point.joint()
            if self._rows[index] or joint is None:
                continue
            for number in range(self._pieces(point)):
                if number not in numbers:
                    trials, seed = self._trials(point, number), _seed(self._grid.seed, point, number)
                    yield StudyPiece(index, number, trials, point.packets, joint.bob_only, joint.both, seed)

    def table(self) -> list[PointResult]:
        """Return the rows, which have to be complete."""
        return [row for row in self._rows if row]

    def _pieces(self, point: Point) -> int:
        return -(-self._grid.trials // _piece_trials(point))

    def _trials(self, point: Point, number: int) -> int:
        return min(_piece_trials(point), self._grid.trials - number * _piece_trials(point))


@dataclass(slots=True)
class _Sum:
    numbers: set[int] = field(default_factory=set)
    received: int = 0
    missed: Counter[int] = field(default_factory=Counter)


def _piece_trials(point: Point) -> int:
    return max(1, min(PIECE_TRIALS, PIECE_PACKETS // point.packets))


def _seed(seed: int, point: Point, number: int) -> int:
    """Return a seed of 128 bits. It hangs on the point's values, not on its place in the grid."""
    return int.from_bytes(hashlib.sha256(json.dumps([seed, *point, number]).encode()).digest()[:16])


# --- The table --------------------------------------------------------------------------------------------------------


def _row(point: Point, of: _Sum, trials: int) -> PointResult:
    joint = point.joint()
    expected = (1 - joint.bob_only) ** point.packets if joint else 1.0
    broken = of.missed[0]
    low, high = clopper_pearson(broken, trials)
    return PointResult(
        *point,
        trials,
        e_given_b=joint.bob_only / (1 - point.bob_loss) if joint and point.bob_loss < 1 else 0.0,
        broken=broken,
        broken_share=broken / trials,
        broken_low=low,
        broken_high=high,
        broken_expected=expected,
        secret_bits=min(float(KEY_BITS), 0.0 - math.log2(expected)) if expected else float(KEY_BITS),
        received_mean=of.received / trials,
        missed_mean=sum(k * count for k, count in of.missed.items()) / trials,
        missed_1_in_1000=_quantile(of.missed, 0.001 * trials),
        missed_1_in_100=_quantile(of.missed, 0.01 * trials),
        missed_median=_quantile(of.missed, 0.5 * trials),
    )


def _quantile(counts: Counter[int], rank: float) -> int:
    """Return a quantile of k, the packets that Bob received and Eve lacks."""
    seen = 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= rank:
            break
    return value


def write_parquet(table: list[PointResult], grid: Grid, out: Path) -> None:
    """Write the table, with the grid and what made it in its metadata."""
    pa, parquet = _parquet()
    made = versions()
    described = json_of(
        {"version": made["bt_selfsecure"], "numpy": made["numpy"], "python": made["Python"], **asdict(grid)}
    )
    columns = dict(zip(PointResult._fields, map(list, zip(*table, strict=True)), strict=True))
    parquet.write_table(pa.table(columns, metadata={"bt_selfsecure": described}), out)


def _parquet() -> tuple[ModuleType, ModuleType]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError("a study needs pyarrow: install it with pip install 'bt-selfsecure[sweep]'") from error
    return pa, parquet
