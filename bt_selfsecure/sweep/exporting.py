"""A sweep for other programs: CSV, JSON Lines or Parquet, a row a packet and receiver, and the manifest beside it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Protocol, TextIO

from bt_selfsecure.errors import UsageError
from bt_selfsecure.files import whole
from bt_selfsecure.sweep.runs import StoredRun
from bt_selfsecure.sweep.store import Store

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
"""Name and Parquet type; docs/sweep.md explains them."""
FORMATS: Final = (".csv", ".jsonl", ".parquet")

Row = tuple[Any, ...]
Columns = Mapping[str, str]
Progress = Callable[[int, int], None]


class Writer(Protocol):
    """Takes the rows of one run after another."""

    def __call__(self, rows: list[Row]) -> None: ...


def export(store: Store, file: Path, progress: Progress) -> Path:
    """Write the runs that count to `file`, in the format of its suffix, and `file`.manifest.json; the latter's path.

    Both appear whole or not at all. UsageError for another suffix, or a place that can't be written.
    """
    with places(file) as parts:
        return write(store, file, parts, progress)


@contextmanager
def places(file: Path) -> Iterator[tuple[Path, Path]]:
    """What to write the table and its manifest to, before there is anything to write. UsageError for another suffix, a
    library that lacks, or a place that can't be written."""
    if file.suffix not in FORMATS:
        raise UsageError(f"can't export to {str(file)!r}: give a name that ends in {', '.join(FORMATS)}")
    if file.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise UsageError("Parquet needs pyarrow: install it with pip install 'bt-selfsecure[sweep]'")
    with whole(_beside(file)) as told, whole(file) as part:
        yield part, told


def write(store: Store, file: Path, parts: tuple[Path, Path], progress: Progress) -> Path:
    """As `export`, to the `places` of that file."""
    part, told = parts
    runs = store.runs()
    if not runs:
        raise UsageError(
            f"there is no run to export in {str(store.path)!r}: add some with `sweep run` or `sweep import`"
        )
    conditions = list(dict.fromkeys(name for run in runs for name in run.info.notes.get("conditions", {})))
    columns = COLUMNS | dict.fromkeys(conditions, "string")
    described = json.dumps(description(store, columns), indent=1, ensure_ascii=False)
    told.write_text(described + "\n", encoding="utf-8")
    with _WRITERS[file.suffix](part, columns, described) as add:
        for number, run in enumerate(runs):
            progress(number, len(runs))
            add(list(_rows(store, run, conditions)))
        progress(len(runs), len(runs))
    return _beside(file)


def _beside(file: Path) -> Path:
    return file.with_name(file.name + ".manifest.json")


def description(store: Store, columns: Mapping[str, str] = COLUMNS) -> dict[str, Any]:
    """Manifests, and each run with its notes, withdrawn ones too: what the table of packets does not hold."""
    runs = [
        {"run": run.id, "manifest": run.manifest, "withdrawn": run.withdrawn, "notes": dict(run.info.notes)}
        for run in store.runs(withdrawn=True)
    ]
    return {"columns": dict(columns), "manifests": store.manifests(), "runs": runs}


def _rows(store: Store, run: StoredRun, conditions: list[str]) -> Iterator[Row]:
    info = run.info
    after = tuple(info.notes.get("conditions", {}).get(name) for name in conditions)
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
            *after,
        )


@contextmanager
def _csv(part: Path, columns: Columns, described: str) -> Iterator[Writer]:
    with _text(part) as text:
        writer = csv.writer(text)
        writer.writerow(columns)
        yield lambda rows: writer.writerows(
            [int(value) if isinstance(value, bool) else value for value in row] for row in rows
        )


@contextmanager
def _jsonl(part: Path, columns: Columns, described: str) -> Iterator[Writer]:
    with _text(part) as text:
        yield lambda rows: text.writelines(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows)


@contextmanager
def _parquet(part: Path, columns: Columns, described: str) -> Iterator[Writer]:
    import pyarrow as pa
    from pyarrow import parquet

    types = {"bool": pa.bool_(), "int32": pa.int32(), "float64": pa.float64(), "string": pa.string()}
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()], {"bt_selfsecure": described})
    with parquet.ParquetWriter(part, schema, compression="zstd") as writer:

        def write(rows: list[Row]) -> None:
            cells = map(list, zip(*rows, strict=True))
            writer.write_table(pa.table(dict(zip(columns, cells, strict=True)), schema))

        yield write


_WRITERS: Final = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}


def _text(part: Path) -> TextIO:
    return part.open("w", encoding="utf-8", newline="")
