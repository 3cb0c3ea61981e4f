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

Each point is simulated in pieces with random numbers of their own, drawn from seed, point and piece. So the same grid
gives the same table on one core, on many, on a cluster, and after an interruption: finished pieces are kept in a file
beside the table and not done again.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple

import numpy as np

from bt_selfsecure import __version__ as VERSION  # noqa: N812
from bt_selfsecure.air.haoxiao.montecarlo import BLOCK, simulate
from bt_selfsecure.errors import LocalError, UsageError
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

PIECE: Final = 32_768
"""Establishments in one piece; part of the result, as another value gives other numbers for a seed."""
MOST_POINTS: Final = 100_000
PROBABILITY: Final = between(0, 1)
CONNECT_S: Final = 10
QUANTILES: Final = {"1_in_1000": 0.001, "1_in_100": 0.01, "median": 0.5}
"""Of k, the packets that Bob received and Eve lacks."""

Progress = Callable[[int, int], None]


def _axis(doc: str, rule: Rule) -> Any:
    return field(metadata=about(doc, rule))


@dataclass(frozen=True, slots=True)
class Grid:
    """The values of a study."""

    bob_loss: tuple[float, ...] = _axis("d: share of the packets that Bob misses.", PROBABILITY)
    eve_loss: tuple[float, ...] = _axis("e: share that each Eve misses.", PROBABILITY)
    packets: tuple[int, ...] = _axis("N: packets that are sent.", between(1, 1_000_000))
    correlation: tuple[float, ...] = key((0.0,), "rho: correlation of Bob's losses and each Eve's.", between(-1, 1))
    eves: tuple[int, ...] = key((1,), "Eves who collude; what happened to Bob decides how alike.", between(1, 1000))
    trials: int = key(100_000, "Establishments at each point.", between(1, 1_000_000_000))
    seed: int = key(1, "The same seed gives the same table.", between(0, 2**63 - 1))

    def points(self) -> tuple[list[Point], int]:
        """The points that can be, and how many can't: not every correlation fits every two losses."""
        every = [
            Point(*values)
            for values in product(self.bob_loss, self.eve_loss, self.correlation, self.packets, self.eves)
        ]
        possible = [point for point in every if point.joint() is not None]
        return possible, len(every) - len(possible)

    def digest(self) -> str:
        """Of everything that the table depends on."""
        return hashlib.sha256(json.dumps([VERSION, PIECE, BLOCK, asdict(self)]).encode()).hexdigest()


class Point(NamedTuple):
    """One row of the table."""

    bob_loss: float
    eve_loss: float
    correlation: float
    packets: int
    eves: int

    def joint(self) -> JointProbabilities | None:
        """Bob's loss and that of all Eves together; None if there is no such distribution."""
        try:
            one = joint_probabilities(self.bob_loss, self.eve_loss, self.correlation)
        except UsageError:
            return None
        return colluding_probabilities(one, self.eves)


class Piece(NamedTuple):
    """What one core does at a time."""

    point: int
    number: int
    trials: int


class Outcome(NamedTuple):
    """Of one piece: sums, so that they can be put together in any order."""

    piece: Piece
    received: int
    """Packets that Bob received, of all trials."""
    missed: dict[int, int]
    """In how many trials Eve missed so many of them."""


def read_grid(path: Path) -> Grid:
    """The study that a TOML file describes. UsageError with file, line and key."""
    values, origin = load_toml(path, missing="write one, as `sweep study --help` shows", kind="study")
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


def simulate_piece(grid: Grid, point: Point, piece: Piece, threads: int | None = 1) -> Outcome:
    """Simulate these establishments, each packet drawn."""
    joint = point.joint()
    if joint is None:
        raise LocalError(f"there is no such point: {point}")
    numbers = np.random.SeedSequence(grid.seed, spawn_key=(piece.point, piece.number)).generate_state(2, np.uint64)
    seed = int(numbers[0]) << 64 | int(numbers[1])
    e = joint.bob_only + joint.neither
    spread = math.sqrt(point.bob_loss * (1 - point.bob_loss) * e * (1 - e))
    rho = (joint.neither - point.bob_loss * e) / spread if spread else 0.0
    received, missed = simulate(piece.trials, point.packets, point.bob_loss, e, rho, seed=seed, threads=threads)
    values, counts = np.unique(missed, return_counts=True)
    return Outcome(piece, int(received.sum()), dict(zip(values.tolist(), counts.tolist(), strict=True)))


# --- All pieces -------------------------------------------------------------------------------------------------------


def run(grid: Grid, out: Path, scheduler: str | None, progress: Progress) -> list[dict[str, Any]]:
    """The whole study; its table, which is then in `out` as Parquet.

    `progress` is told the establishments done, and all. What was done before an interruption is taken from
    `out`.pieces, which vanishes at the end. UsageError if that is of another grid, the table can't be written or the
    cluster can't be used.
    """
    _parquet()  # it had better be missed now than after hours
    points, _ = grid.points()
    pieces = [
        Piece(index, number, min(PIECE, grid.trials - number * PIECE))
        for index in range(len(points))
        for number in range(-(-grid.trials // PIECE))
    ]
    beside = out.with_name(out.name + ".pieces")
    with whole(out) as part, _kept(grid, beside) as (done, keep):
        waiting = [piece for piece in pieces if piece not in done]
        simulated, all_of_them = sum(piece.trials for piece in done), grid.trials * len(points)
        progress(simulated, all_of_them)
        for outcome in _on_cluster(grid, points, waiting, scheduler) if scheduler else _here(grid, points, waiting):
            keep(outcome)
            done[outcome.piece] = outcome
            simulated += outcome.piece.trials
            progress(simulated, all_of_them)
        by_point: dict[int, list[Outcome]] = defaultdict(list)
        for outcome in done.values():
            by_point[outcome.piece.point].append(outcome)
        table = [_row(point, by_point[index]) for index, point in enumerate(points)]
        write_parquet(table, grid, part)
    beside.unlink()
    return table


def _here(grid: Grid, points: list[Point], pieces: list[Piece]) -> Iterator[Outcome]:
    for piece in pieces:
        yield simulate_piece(grid, points[piece.point], piece, threads=None)  # all cores


def _on_cluster(grid: Grid, points: list[Point], pieces: list[Piece], scheduler: str) -> Iterator[Outcome]:
    try:
        from distributed import Client, as_completed
        from distributed.scheduler import KilledWorker
    except ImportError as error:
        raise UsageError("--scheduler needs Dask: install it with pip install 'bt-selfsecure[dask]'") from error
    try:
        client = Client(scheduler, timeout=CONNECT_S)
    except (OSError, ValueError) as error:
        raise UsageError(f"no Dask scheduler answers at {scheduler} ({error}): start `dask scheduler` there") from error
    with client:
        try:
            versions = set(client.run(_version).values())
        except ImportError:
            versions = {"absent"}
        if versions != {VERSION}:
            have = ", ".join(sorted(map(str, versions))) or "no worker"
            raise UsageError(f"the workers have bt_selfsecure {have}, not {VERSION}: start workers that have it")
        futures = [client.submit(simulate_piece, grid, points[piece.point], piece, pure=False) for piece in pieces]
        try:
            for future in as_completed(futures):
                yield future.result()
        except KilledWorker as error:
            raise UsageError(f"workers were killed again and again ({error}): look after them, then go on") from error
        finally:
            client.cancel(futures)


def _version() -> str:
    """Of a worker's package."""
    return VERSION


@contextmanager
def _kept(grid: Grid, path: Path) -> Iterator[tuple[dict[Piece, Outcome], Callable[[Outcome], None]]]:
    """What was done before, and how to keep more: a JSON line a piece."""
    digest = grid.digest()
    done: dict[Piece, Outcome] = {}
    with ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("a+", encoding="utf-8"))
            file.seek(0)
            lines = file.read().split("\n")
            if len(lines) > 1 and json.loads(lines[0]) != {"grid": digest}:
                raise UsageError(f"{path} belongs to another grid or version: remove it, or name another --out")
            for line in lines[1:-1]:
                piece, received, missed = json.loads(line)
                outcome = Outcome(Piece(*piece), received, {int(k): count for k, count in missed.items()})
                done[outcome.piece] = outcome
            file.truncate(sum(len(line) + 1 for line in lines[:-1]))  # a line that was cut off in the middle
            if len(lines) == 1:
                file.write(json.dumps({"grid": digest}) + "\n")
        except OSError as error:
            raise UsageError(f"can't write {path} ({error.strerror}): choose another --out") from error
        except ValueError as error:
            raise UsageError(f"{path} is damaged ({error}): remove it; the study then begins anew") from error

        def keep(outcome: Outcome) -> None:
            file.write(json.dumps(outcome) + "\n")
            file.flush()

        yield done, keep


# --- The table --------------------------------------------------------------------------------------------------------


def _row(point: Point, outcomes: list[Outcome]) -> dict[str, Any]:
    trials = sum(outcome.piece.trials for outcome in outcomes)
    missed: Counter[int] = Counter()
    for outcome in outcomes:
        missed.update(outcome.missed)
    joint = point.joint()
    expected = (1 - joint.bob_only) ** point.packets if joint else 1.0
    low, high = clopper_pearson(missed[0], trials)
    return {
        **point._asdict(),
        "trials": trials,
        "e_given_b": joint.bob_only / (1 - point.bob_loss) if joint and point.bob_loss < 1 else 0.0,
        "broken": missed[0],
        "broken_share": missed[0] / trials,
        "broken_low": low,
        "broken_high": high,
        "broken_expected": expected,
        "secret_bits": min(float(KEY_BITS), -math.log2(expected)) if expected else float(KEY_BITS),
        "received_mean": sum(outcome.received for outcome in outcomes) / trials,
        "missed_mean": sum(k * count for k, count in missed.items()) / trials,
        **{f"missed_{name}": _quantile(missed, share * trials) for name, share in QUANTILES.items()},
    }


def _quantile(counts: Counter[int], rank: float) -> int:
    seen = 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= rank:
            break
    return value


def write_parquet(table: list[dict[str, Any]], grid: Grid, out: Path) -> None:
    """The table, with the grid in its metadata."""
    pa, parquet = _parquet()
    described = json.dumps({"version": VERSION, **asdict(grid)})
    parquet.write_table(pa.Table.from_pylist(table).replace_schema_metadata({"bt_selfsecure": described}), out)


def _parquet() -> tuple[ModuleType, ModuleType]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError("a study needs pyarrow: install it with pip install 'bt-selfsecure[sweep]'") from error
    return pa, parquet
