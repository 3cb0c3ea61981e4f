"""Sweeps for the tests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from bt_selfsecure.air.models import LossModel
from bt_selfsecure.sweep import store as stores
from bt_selfsecure.sweep.analysis import analyse
from bt_selfsecure.sweep.results import Analysis, Pair
from bt_selfsecure.sweep.store import Reception, RunInfo, Store

OFFICE = Path(__file__).parents[2] / "bt_selfsecure" / "air" / "data" / "ble_office_reception.json"
BEGAN = datetime(2026, 5, 1, 12, tzinfo=UTC)


def receptions(heard: dict[str, Iterable[bool]]) -> list[Reception]:
    """Rows from flags."""
    return [Reception(seq, name, flag) for name, flags in heard.items() for seq, flag in enumerate(flags)]


def info(packets: int, distance_m: float | None = 3.0, **more: object) -> RunInfo:
    """A run of so many packets."""
    return RunInfo(distance_m, "le_advert", 64, 10.0, packets, "alice", **more)  # type: ignore[arg-type]


def simulated(
    model: LossModel, packets: int, seed: int, listeners: tuple[str, ...] = ("bob", "eve")
) -> list[Reception]:
    """A run through the air's own model."""
    random = Random(seed)
    heard = [model.transmit(random, "alice", listeners, 0.0) for _ in range(packets)]
    return [Reception(seq, name, name in who) for name in listeners for seq, who in enumerate(heard)]


def simulated_sweep(
    path: Path, models: dict[float, LossModel], packets: tuple[int, ...], repeats: int, seed: int
) -> Path:
    """A whole sweep: a model a distance."""
    with Store(path, create=True) as store:
        store.begin({"plan": {"sweep": {"distances_m": list(models), "packets": list(packets), "repeats": repeats}}})
        started = BEGAN
        for number, (metres, model) in enumerate(models.items()):
            for count in packets:
                for repeat in range(repeats):
                    roles = {"alice": "alice", "bob": "bob", "eves": ["eve"]}
                    run = info(count, metres, repeat=repeat, started=started, notes={"roles": roles, "turn": 0})
                    store.add(run, simulated(model, count, hash((seed, number, count, repeat))))
                    started += timedelta(seconds=10)
    return path


@contextmanager
def unchecked(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A sweep that takes what one of before took: names that can't be printed, figures that can't be."""
    with monkeypatch.context() as patch, Store(path, create=True) as store:
        patch.setattr(stores, "fault_of", lambda *_: "")
        store.begin({})
        yield store


def recorded(path: Path, *runs: tuple[RunInfo, list[Reception]], plan: object = None) -> str:
    """A sweep of these runs; its path."""
    with Store(path, create=True) as store:
        store.begin({"plan": plan} if plan else {})
        for run, rows in runs:
            store.add(run, rows)
    return str(path)


def analysed(
    path: Path, *runs: tuple[RunInfo, list[Reception]], plan: object = None, listeners: tuple[str, ...] = ()
) -> Analysis:
    """Of these runs."""
    with Store(recorded(path, *runs, plan=plan)) as store:
        return analyse(store, listeners=listeners)


def pair_of(analysis: Analysis, bob: str = "bob", eve: str = "eve") -> Pair:
    """The only one of these two."""
    (pair,) = (pair for pair in analysis.pairs if (pair.bob, pair.eve) == (bob, eve))
    return pair
