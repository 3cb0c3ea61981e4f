"""A sweep for other programs: CSV, JSON Lines or Parquet, a row a packet and receiver, and the manifest beside it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol, TextIO

from bt_selfsecure.errors import UsageError
from bt_selfsecure.files import whole
from bt_selfsecure.sweep.store import Store, StoredRun

COLUMNS: Final = {
    "run": "int32",
    "run_distance_m": "float64",
    "distance_m": "float64",
    "bearer": "string",
    "size_bytes": "int32",
    "spacing_ms": "float64",
    "packets": "int32",
    "sender": "string",
    "repeat": "int32",
    "tx_power_dbm": "float64",
    "started": "string",
    "seq": "int32",
    "receiver": "string",
    "heard": "bool",
    "rssi": "float64",
    "copies": "int32",
    "lost_in_queue": "bool",
}
"""Name and Parquet type; SWEEP.md explains them."""
FORMATS: Final = (".csv", ".jsonl", ".parquet")

Row = tuple[Any, ...]
Progress = Callable[[int, int], None]


class Writer(Protocol):
    """Takes the rows of one run after another."""

    def __call__(self, rows: list[Row]) -> None: ...


def export(store: Store, file: Path, progress: Progress) -> Path:
    """Write the runs that count to `file`, in the format of its suffix, and `file`.manifest.json; the latter's path.

    Both appear whole or not at all. UsageError for another suffix, or a place that can't be written.
    """
    if file.suffix not in FORMATS:
        raise UsageError(f"can't export to {str(file)!r}: give a name that ends in {', '.join(FORMATS)}")
    runs = store.runs()
    described = json.dumps(description(store), indent=1, ensure_ascii=False)
    beside = file.with_name(file.name + ".manifest.json")
    with whole(file) as part, _WRITERS[file.suffix](part, described) as write:
        for number, run in enumerate(runs):
            progress(number, len(runs))
            write(list(_rows(store, run)))
        progress(len(runs), len(runs))
    with whole(beside) as part:
        part.write_text(described + "\n", encoding="utf-8")
    return beside


def description(store: Store) -> dict[str, Any]:
    """Manifests, and each run with its notes, withdrawn ones too: what the table of packets does not hold."""
    runs = [
        {"run": run.id, "manifest": run.manifest, "withdrawn": run.withdrawn, "notes": dict(run.info.notes)}
        for run in store.runs(withdrawn=True)
    ]
    return {"columns": COLUMNS, "manifests": store.manifests(), "runs": runs}


def _rows(store: Store, run: StoredRun) -> Iterator[Row]:
    info = run.info
    started = info.started.isoformat() if info.started else None
    before = (info.bearer, info.size_bytes, info.spacing_ms, info.packets, info.sender, info.repeat)
    for seq, name, heard, rssi, copies, lost in store.receptions(run.id):
        metres = info.distances_m.get(name, info.distance_m)
        yield (
            run.id,
            info.distance_m,
            metres,
            *before,
            info.tx_power_dbm,
            started,
            seq,
            name,
            heard,
            rssi,
            copies,
            lost,
        )


@contextmanager
def _csv(part: Path, described: str) -> Iterator[Writer]:
    with _text(part) as text:
        writer = csv.writer(text)
        writer.writerow(COLUMNS)
        yield lambda rows: writer.writerows(
            [int(value) if isinstance(value, bool) else value for value in row] for row in rows
        )


@contextmanager
def _jsonl(part: Path, described: str) -> Iterator[Writer]:
    with _text(part) as text:
        yield lambda rows: text.writelines(json.dumps(dict(zip(COLUMNS, row, strict=True))) + "\n" for row in rows)


@contextmanager
def _parquet(part: Path, described: str) -> Iterator[Writer]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError("Parquet needs pyarrow: install it with pip install 'bt-selfsecure[sweep]'") from error
    types = {"bool": pa.bool_(), "int32": pa.int32(), "float64": pa.float64(), "string": pa.string()}
    schema = pa.schema([(name, types[kind]) for name, kind in COLUMNS.items()], {"bt_selfsecure": described})
    with parquet.ParquetWriter(part, schema, compression="zstd") as writer:

        def write(rows: list[Row]) -> None:
            columns = zip(*rows, strict=True)
            writer.write_table(pa.table(dict(zip(COLUMNS, map(list, columns), strict=True)), schema))

        yield write


_WRITERS: Final = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}


def _text(part: Path) -> TextIO:
    return part.open("w", encoding="utf-8", newline="")
