"""Others' data as runs of a sweep: tables of what was heard, a recorded reception matrix, captures of our bursts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bt_selfsecure.air.recording import Recording
from bt_selfsecure.errors import UsageError
from bt_selfsecure.sweep import captured, timed
from bt_selfsecure.sweep.circumstances import Circumstances
from bt_selfsecure.sweep.manifest import collect
from bt_selfsecure.sweep.numbered import WANTED, Logs
from bt_selfsecure.sweep.packing import Reception
from bt_selfsecure.sweep.store import Store
from bt_selfsecure.sweep.tables import PARQUET, SUFFIXES, Progress, Table, reading
from bt_selfsecure.wording import unprintable

CAPTURES: Final = (".pcap", ".pcapng", ".cap", ".btsnoop", ".pklg", ".gz", ".zst")
"""How captures are called mostly; what they are is told by their first bytes."""

# --- Tables -----------------------------------------------------------------------------------------------------------


def import_csv(store: Store, file: Path, how: Circumstances, progress: Progress) -> int:
    """Add the runs of one table with a column `receiver`, and return how many. Raises `UsageError`, which names file
    and line."""
    return import_tables(store, {"": file}, how, progress)


def import_tables(store: Store, files: Mapping[str, Path], how: Circumstances, progress: Progress) -> int:
    """Add a table, or a table a listener: packets by their numbers, else by the time when they came. Return the count
    of the runs added: all of them, or with `UsageError` none."""
    if find_spec("pyarrow") is None and any(file.suffix.lower() == ".parquet" for file in files.values()):
        raise UsageError("Parquet needs pyarrow: install it with pip install 'bt-selfsecure[sweep]'")
    with ExitStack() as stack, store.together():
        tables = {name: stack.enter_context(_table(file, progress)) for name, file in files.items()}
        source = {name: file.name for name, file in files.items()} if "" not in files else files[""].name
        if any("seq" in table.columns for table in tables.values()) or not any(map(timed.column, tables.values())):
            logs = Logs(tables, how, source)
            how.refuse_clocks(_named(files))
            return logs.add_to(store)
        if not how.kept:
            raise UsageError(
                f"{_named(files)} has no numbers: join it by time first, with `sweep import`, which shows how"
            )
        return timed.add_to(store, tables, how, source, progress)


# --- A recorded reception matrix --------------------------------------------------------------------------------------


def import_recording(store: Store, file: Path, how: Circumstances, progress: Progress) -> int:
    """Add a reception matrix (see `air.recording`): each position of the transmitter is a run. Return the count of the
    runs added. The listeners' distances follow from the positions; a run has no distance of its own."""
    _no_tables_options(how, str(file))
    recording = Recording.load(file)
    for number, position in enumerate(recording.positions):
        progress(number, len(recording.positions))
        events = recording.events(number)
        receptions = (
            Reception(seq, receiver.name, bool(word >> receiver.bit & 1))
            for receiver in recording.receivers
            for seq, word in enumerate(events)
        )
        metres = {each.name: math.dist(each.metres, position.metres) for each in recording.receivers}
        place = replace(how, distance_m=None, distances_m=metres, spacing_ms=1000 * position.interval)
        notes = how.notes(file.name, position=number, position_m=list(position.metres))
        store.add(place.run(len(events), number, notes), receptions)
    progress(len(recording.positions), len(recording.positions))
    return len(recording.positions)


# --- Captures ---------------------------------------------------------------------------------------------------------


def import_captures(store: Store, captures: Mapping[str, Path], how: Circumstances, progress: Progress) -> int:
    """Add one capture a listener, all of the same time (see `captured`), and return the count of the runs added."""
    _no_tables_options(how, _named(captures))
    return captured.add_to(store, captures, how, progress)


# --- Whichever it is --------------------------------------------------------------------------------------------------


def import_sources(
    store: Store,
    sources: Sequence[str],
    how: Circumstances,
    progress: Progress,
    *,
    again: bool = False,
) -> int:
    """Add tables, FILE.json (a reception matrix), LISTENER=TABLE and LISTENER=CAPTURE; return the count of the runs
    added, all or none. Raises `UsageError`, unless `again`, for a run that the store has, or an earlier source."""
    captures: dict[str, Path] = {}
    tables: dict[str, Path] = {}
    added = 0
    manifest = store.manifest
    with store.together():
        for source in sources:
            store.begin(manifest)  # how an earlier source was joined is not in this one's
            known = store.next_id()
            _refuse_lines(source)
            name, equals, file = source.partition("=")
            if equals and not Path(source).exists():
                kind = tables if file.lower().endswith(SUFFIXES) else captures
                if not name.strip() or not file or name.strip() in {**tables, **captures}:
                    raise UsageError(
                        f"{source!r} is not a new LISTENER=CAPTURE or LISTENER=TABLE: write it as in bob=bob.pcapng"
                    )
                if why := unprintable(name.strip()):
                    raise UsageError(why)
                kind[name.strip()] = Path(file)
            elif source.lower().endswith(SUFFIXES):
                added += import_csv(store, Path(source), how, progress)
            elif source.lower().endswith(".json"):
                added += import_recording(store, Path(source), how, progress)
            elif Path(source).is_file() or source.lower().endswith(CAPTURES):
                raise UsageError(
                    f"whose capture is {source!r}? Name its listener before it, as in bob={source}; a table is called "
                    ".csv, .tsv or .txt"
                )
            else:
                raise UsageError(
                    f"can't tell what {source!r} is: give FILE.csv, FILE.json of a reception matrix, LISTENER=CAPTURE "
                    "or LISTENER=TABLE"
                )
            _refuse_twins(store, source, known, again)
        for files, several in ((tables, import_tables), (captures, import_captures)):
            if files:
                store.begin(manifest)
                known = store.next_id()
                added += several(store, files, how, progress)
                _refuse_twins(store, " ".join(map(str, files.values())), known, again)
    return added


def _table(file: Path, progress: Progress) -> AbstractContextManager[Table]:
    """Return the table in a file of text or of Parquet, which takes pyarrow. Raises `UsageError` for a pipe: nothing
    comes from it a second time."""
    if file.is_fifo():
        raise UsageError(f"{file} is a pipe, and a table is read more than once: save it to a file first")
    if file.suffix.lower() != PARQUET:
        return reading(file, WANTED, progress)
    from bt_selfsecure.sweep.columns import parquet

    return parquet(file, progress)


def _refuse_lines(source: str) -> None:
    if source.lower().endswith((".jsonl", ".jsonl.gz")):
        raise UsageError(
            f"{source} is JSON Lines, which `sweep export` writes for other programs and none here reads: give the "
            "sweep itself, or the same as CSV or Parquet"
        )


def _named(files: Mapping[str, Path]) -> str:
    return ", ".join(str(file) for file in files.values())


def _no_tables_options(how: Circumstances, source: str) -> None:
    how.refuse_clocks(source)
    for name, value in how.conditions.items():
        if value is None:
            raise UsageError(f"--condition {name} names a column, and only tables have some: say {name}=VALUE")


def _refuse_twins(store: Store, source: str, known: int, again: bool) -> None:
    """Refuse runs that were there before this source: one table may well have a run twice, as where nothing was
    lost."""
    if again or known == 1:
        return
    for run in range(known, store.next_id()):
        if (twin := store.twin(run, known)) is not None:
            raise UsageError(
                f"{source}: its run {run - known + 1} is run {twin} of {store.path}, packet for packet: leave it "
                "out, `sweep withdraw` that one first, or say --again if it is another"
            )


@contextmanager
def opened(name: str, progress: Progress) -> Iterator[Store]:
    """Yield a sweep to read: its own file, or a CSV or reception matrix as if it had been imported."""
    _refuse_lines(name)
    if not name.lower().endswith((*SUFFIXES, ".json")):
        with Store(name) as store:
            yield store
        return
    with (
        TemporaryDirectory(prefix="bt-selfsecure-") as directory,
        Store(Path(directory) / Path(name).name, create=True) as store,
    ):
        store.begin(collect(imported=[name]))
        import_sources(store, [name], Circumstances(kept=False), progress)
        yield store
