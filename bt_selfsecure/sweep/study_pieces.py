"""One piece of a study: what a core does at a time, in this process or on a worker of Dask, and what made it."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import numpy as np

from bt_selfsecure import __version__
from bt_selfsecure.air.haoxiao.montecarlo import draw
from bt_selfsecure.errors import UnreadableError

BATCH_S: Final = 0.2
"""Work of one task: far above what a task costs a scheduler, and soon over after Ctrl-C."""
PIECE_S: Final = 0.5e-3
PACKET_S: Final = 1e-9
"""What a piece takes, however small, and each of its packets; roughly, as this parts work alone."""


class StudyPiece(NamedTuple):
    """Holds plain numbers, as it travels: a seed of its own stands in place of the grid."""

    point: int
    number: int
    trials: int
    packets: int
    bob_only: float
    both: float
    seed: int


class StudyTotals(NamedTuple):
    """These are of one piece: sums, so that they can be put together in any order."""

    piece: StudyPiece
    received: int
    """Packets that Bob received, of all trials."""
    missed: dict[int, int]
    """In how many trials Eve missed so many of them."""


def versions() -> dict[str, str]:
    """Return all that a piece's numbers may depend on beside its parameters."""
    minor = ".".join(platform.python_version_tuple()[:2])
    return {"bt_selfsecure": __version__, "numpy": np.__version__, "Python": minor}


def batches(pieces: Iterable[StudyPiece]) -> Iterator[list[StudyPiece]]:
    """Group pieces into tasks of about `BATCH_S`."""
    batch: list[StudyPiece] = []
    seconds = 0.0
    for piece in pieces:
        batch.append(piece)
        seconds += PIECE_S + piece.trials * piece.packets * PACKET_S
        if seconds >= BATCH_S:
            yield batch
            batch, seconds = [], 0.0
    if batch:
        yield batch


def simulated(batch: Iterable[StudyPiece]) -> list[StudyTotals]:
    """Simulate these establishments on one core, each packet drawn."""
    return [_simulated(piece) for piece in batch]


def _simulated(piece: StudyPiece) -> StudyTotals:
    received, missed = draw(piece.trials, piece.packets, piece.bob_only, piece.both, seed=piece.seed, threads=1)
    values, counts = np.unique(missed, return_counts=True)
    return StudyTotals(piece, int(received.sum()), dict(zip(values.tolist(), counts.tolist(), strict=True)))


# --- On a worker ------------------------------------------------------------------------------------------------------

_HERE: Final = f"__import__({__name__!r}, fromlist=['*'])"
ASK_VERSIONS: Final = f"{_HERE}.versions()"


def task(batch: list[StudyPiece]) -> str:
    """Return the expression that a worker evaluates to simulate `batch`.

    Text and the language's own `eval` are all that a scheduler has to unpickle, which needs none of our packages then.
    """
    return f"{_HERE}.answer({json.dumps(batch)!r})"


def answer(batch: str) -> str:
    """Simulate it, and say what made it."""
    pieces = [StudyPiece(*values) for values in json.loads(batch)]
    return json.dumps({"versions": versions(), "outcomes": simulated(pieces)})


def accepted(text: str, batch: list[StudyPiece]) -> list[StudyTotals] | None:
    """Return the outcomes in a worker's answer; None if other versions made them. Raises `UnreadableError` if they are
    not of these pieces, or it is no answer."""
    try:
        told = json.loads(text)
        if told["versions"] != versions():
            return None
        outcomes = [
            StudyTotals(StudyPiece(*piece), received, {int(k): count for k, count in missed.items()})
            for piece, received, missed in told["outcomes"]
        ]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UnreadableError("what it answers is not in our form") from error
    if [outcome.piece for outcome in outcomes] != batch:
        raise UnreadableError("what it answers is of other pieces")
    return outcomes
