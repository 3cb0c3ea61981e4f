"""A sweep for other programs: CSV, JSON Lines or Parquet, a row a packet and receiver, and the manifest beside it."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib.util import find_spec
from io import BufferedWriter, StringIO, TextIOWrapper
from pathlib import Path
from typing import Any, Final, Protocol

from bt_selfsecure.errors import UsageError
from bt_selfsecure.files import whole
from bt_selfsecure.sweep.packing import Packed
from bt_selfsecure.sweep.plain_json import json_of
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
FORMATS: Final = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".parquet")
ROWS: Final = 1 << 17
"""Of a row group in Parquet, at least; but for the last one."""

Columns = Mapping[str, str]
Progress = Callable[[int, int], None]


class Writer(Protocol):
    """This takes what is kept of one listener in a run after another; what is the same in all rows stands before and
    after what is of each packet."""

    def __call__(self, name: str, packed: Packed, before: list[Any], after: list[Any]) -> None: ...


def export(store: Store, file: Path, progress: Progress) -> Path:
    """Write the runs that count to `file`, in the format of its suffix, and `file`.manifest.json; the latter's path.

    Both appear whole or not at all. Raises `UsageError` for another suffix, or a place that can't be written.
    """
    with places(file) as parts:
        return write(store, file, parts, progress)


@contextmanager
def places(file: Path) -> Iterator[tuple[Path, Path]]:
    """Yield what to write the table and its manifest to, before there is anything to write. Raises `UsageError` for
    another suffix, a library that lacks, or a place that can't be written."""
    if not file.name.endswith(FORMATS):
        raise UsageError(f"can't export to {str(file)!r}: give a name that ends in {', '.join(FORMATS)}")
    if file.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise UsageError("Parquet needs pyarrow: install it with pip install 'bt-selfsecure[sweep]'")
    with whole(_beside(file)) as told, whole(file) as part:
        yield part, told


def write(store: Store, file: Path, parts: tuple[Path, Path], progress: Progress) -> Path:
    """Write as `export` does, to the `places` of that file."""
    part, told = parts
    runs = store.runs()
    if not runs:
        raise UsageError(
            f"there is no run to export in {str(store.path)!r}: add some with `sweep run` or `sweep import`"
        )
    conditions = list(dict.fromkeys(name for run in runs for name in run.info.notes.get("conditions", {})))
    columns = COLUMNS | dict.fromkeys(conditions, "string")
    described = json_of(description(store, columns), indent=1, ensure_ascii=False)
    told.write_text(described + "\n", encoding="utf-8")
    with _writer(file, part, columns, described) as add:
        for number, run in enumerate(runs):
            progress(number, len(runs))
            before, after = _of_a_run(run, conditions)
            for name, packed in store.packed(run.id).items():
                before["distance_m"] = run.info.distances_m.get(name, run.info.distance_m)
                add(name, packed, list(before.values()), after)
        progress(len(runs), len(runs))
    return _beside(file)


def _beside(file: Path) -> Path:
    return file.with_name(file.name + ".manifest.json")


def description(store: Store, columns: Mapping[str, str] = COLUMNS) -> dict[str, Any]:
    """Return the manifests, and each run with its notes, withdrawn ones too: what the table of packets does not
    hold."""
    runs = [
        {"run": run.id, "manifest": run.manifest, "withdrawn": run.withdrawn, "notes": dict(run.info.notes)}
        for run in store.runs(withdrawn=True)
    ]
    return {"columns": dict(columns), "manifests": store.manifests(), "runs": runs}


def _of_a_run(run: StoredRun, conditions: list[str]) -> tuple[dict[str, Any], list[Any]]:
    """Return what is the same in all rows of a run and listener: before what is of a packet, and after it."""
    info = run.info
    told: dict[str, Any] = {"run": run.id, "run_distance_m": info.distance_m, "distance_m": None}
    for name in ("bearer", "size_bytes", "spacing_ms", "packets", "sender", "repeat", "tx_power_dbm"):
        told[name] = getattr(info, name)
    told["started"] = info.started.isoformat() if info.started else None
    return told, [info.notes.get("conditions", {}).get(name) for name in conditions]


def _writer(file: Path, part: Path, columns: Columns, described: str) -> AbstractContextManager[Writer]:
    """Return the writer for the name's end."""
    if file.suffix == ".parquet":
        return _parquet(part, columns, described)
    return _lines(part, columns, _Csv if ".csv" in file.suffixes else _Json, gzipped=file.suffix == ".gz")


class _Csv:
    """This writes rows as csv does."""

    def __init__(self, columns: Columns) -> None:
        self.head = self._line(list(columns)) + "\r\n"

    def around(self, name: str, before: list[Any], after: list[Any]) -> tuple[str, Callable[[Any], str]]:
        """Return what stands before seq; and after it, by the other values of a packet."""
        return f"{self._line(before)},", lambda told: f",{self._line([name, *told, *after])}\r\n"

    @staticmethod
    def _line(cells: list[Any]) -> str:
        text = StringIO()
        csv.writer(text, lineterminator="").writerow(
            [int(value) if isinstance(value, bool) else value for value in cells]
        )
        return text.getvalue()


class _Json:
    """This writes rows as JSON Lines."""

    head = ""

    def __init__(self, columns: Columns) -> None:
        names = list(columns)
        self._before = names[: names.index("seq")]
        self._after = names[names.index("receiver") :]

    def around(self, name: str, before: list[Any], after: list[Any]) -> tuple[str, Callable[[Any], str]]:
        """Return the same of JSON Lines."""
        head = json_of(dict(zip(self._before, before, strict=True)))[:-1] + ', "seq": '
        return (
            head,
            lambda told: ", " + json_of(dict(zip(self._after, (name, *told, *after), strict=True)))[1:] + "\n",
        )


@contextmanager
def _lines(part: Path, columns: Columns, form: type[_Csv | _Json], *, gzipped: bool) -> Iterator[Writer]:
    """Yield the lines of a run, of which most packets differ in seq alone: what stands around it is written once, and
    then only put together."""
    writer = form(columns)
    with ExitStack() as stack:
        binary: Any = stack.enter_context(part.open("wb"))
        if gzipped:  # without name and time: equal sweeps are equal files
            binary = stack.enter_context(gzip.GzipFile("", "wb", 6, binary, mtime=0))
            binary = stack.enter_context(BufferedWriter(binary, 1 << 16))
        text = stack.enter_context(TextIOWrapper(binary, "utf-8", newline=""))
        text.write(writer.head)

        def write(name: str, packed: Packed, before: list[Any], after: list[Any]) -> None:
            head, tail = writer.around(name, before, after)
            tails: dict[tuple[int, float | None, int], str] = {}
            for seq, told in enumerate(zip(packed.fates(), packed.levels(), packed.copies_of_each(), strict=True)):
                if told not in tails:
                    fate, rssi, copies = told
                    tails[told] = tail((fate == 1, rssi, copies, fate == 2))
                text.write(f"{head}{seq}{tails[told]}")

        yield write


@contextmanager
def _parquet(part: Path, columns: Columns, described: str) -> Iterator[Writer]:
    import pyarrow as pa
    from pyarrow import parquet

    types = {"bool": pa.bool_(), "int32": pa.int32(), "float64": pa.float64(), "string": pa.string()}
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()], {"bt_selfsecure": described})
    with parquet.ParquetWriter(part, schema, compression="zstd") as writer:
        tables: list[Any] = []

        def flush() -> None:
            if tables:
                writer.write_table(pa.concat_tables(tables).combine_chunks())
                tables.clear()

        def write(name: str, packed: Packed, before: list[Any], after: list[Any]) -> None:
            fates = packed.fates()
            cells = {
                "seq": range(packed.packets),
                "heard": [fate == 1 for fate in fates],
                "rssi": packed.levels(),
                "copies": packed.copies_of_each(),
                "lost_in_queue": [fate == 2 for fate in fates],
            }
            same = dict(zip((each for each in columns if each not in cells), [*before, name, *after], strict=True))
            arrays = [
                pa.array(cells[field.name], field.type)
                if field.name in cells
                else pa.repeat(pa.scalar(same[field.name], field.type), packed.packets)
                for field in schema
            ]
            tables.append(pa.Table.from_arrays(arrays, schema=schema))
            if sum(table.num_rows for table in tables) >= ROWS:
                flush()

        yield write
        flush()
