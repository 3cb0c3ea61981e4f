"""Others' data as runs of a sweep: joint reception as CSV, a recorded reception matrix, captures of our own bursts."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TextIO

from bt_selfsecure.air.recording import Recording
from bt_selfsecure.core.frames import FrameError, Kind, decode
from bt_selfsecure.errors import UsageError
from bt_selfsecure.eve.reading import Reader
from bt_selfsecure.eve.sources import Capture
from bt_selfsecure.sweep.manifest import collect
from bt_selfsecure.sweep.store import Reception, RunInfo, Store

REQUIRED: Final = ("seq", "receiver", "heard")
TRUTH: Final = {"1": True, "0": False, "true": True, "false": False, "yes": True, "no": False, "": False}
MOST_PACKETS: Final = 10_000_000
"""In one run: a seq beyond it is a mistake, not a packet."""
PROGRESS_LINES: Final = 10_000
BURST: Final = (Kind.RAND, Kind.RAND_COMPACT)

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the data don't say of themselves: see `RunInfo`."""

    distance_m: float | None = None
    distances_m: Mapping[str, float] = field(default_factory=dict)
    bearer: str = "le_advert"
    size_bytes: int = 64
    spacing_ms: float = 10.0
    sender: str = "alice"
    tx_power_dbm: float | None = None

    def run(self, packets: int, repeat: int, notes: Mapping[str, Any]) -> RunInfo:
        """One run of so many packets."""
        return RunInfo(
            self.distance_m,
            self.bearer,
            self.size_bytes,
            self.spacing_ms,
            packets,
            self.sender,
            repeat,
            self.tx_power_dbm,
            distances_m=self.distances_m,
            notes=notes,
        )


# --- CSV --------------------------------------------------------------------------------------------------------------


def import_csv(store: Store, file: Path, how: Circumstances, progress: Progress) -> int:
    """A row a packet and receiver: `seq,receiver,heard[,rssi]`, in any order; seq counts from 0 or from 1. Runs added.

    The columns of our own export are read too, and tell the circumstances instead of `how`; a column `run` parts the
    file into runs, each in one piece. UsageError, which names file and line; nothing is written of the run there.
    """
    added = 0
    repeats = len(store.runs())
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text, skipinitialspace=True)
            if missing := [name for name in REQUIRED if name not in (reader.fieldnames or ())]:
                raise UsageError(f"{file} has no column {missing[0]!r}: its first line names seq,receiver,heard[,rssi]")
            seen: set[str] = set()
            for label, rows in groupby(_lines(file, text, reader, progress), key=lambda row: row[1].get("run") or ""):
                if label in seen:
                    raise UsageError(f"{file}: the rows of run {label} are not together: sort the file by run")
                seen.add(label)
                _add_run(store, file, list(rows), how, repeats + added)
                added += 1
    except OSError as error:
        raise UsageError(f"can't read {file} ({error.strerror}): name a CSV file") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{file} is not a CSV file of text in UTF-8 ({error})") from None
    if not added:
        raise UsageError(f"{file} has no row: it takes one a packet and receiver, seq,receiver,heard[,rssi]")
    return added


Line = tuple[int, dict[str, str]]


def _lines(file: Path, text: TextIO, reader: csv.DictReader[str], progress: Progress) -> Iterator[Line]:
    size = file.stat().st_size
    for row in reader:
        if reader.line_num % PROGRESS_LINES == 0:
            progress(text.buffer.tell(), size)
        if None in row or None in row.values():
            raise UsageError(
                f"{file}:{reader.line_num}: the row has not as many fields as the first line names columns"
            )
        yield reader.line_num, row


def _add_run(store: Store, file: Path, lines: list[Line], how: Circumstances, repeat: int) -> None:
    receptions = [_reception(file, number, row) for number, row in lines]
    seen: set[tuple[str, int]] = set()
    for (number, _), each in zip(lines, receptions, strict=True):
        if (each.receiver, each.seq) in seen:
            raise UsageError(f"{file}:{number}: packet {each.seq} at {each.receiver!r} comes a second time")
        seen.add((each.receiver, each.seq))
    first = min(each.seq for each in receptions)
    first = first if first == 1 else 0
    packets = max(each.seq for each in receptions) - first + 1
    row = lines[0][1]
    try:
        info = _told(how, lines).run(packets, int(row.get("repeat") or repeat), {"imported_from": file.name})
        if row.get("started"):
            started = datetime.fromisoformat(row["started"])
            info = replace(info, started=started if started.tzinfo else started.replace(tzinfo=UTC))
        store.add(info, [each._replace(seq=each.seq - first) for each in receptions])
    except (ValueError, UsageError) as error:
        raise UsageError(f"{file}: the run from line {lines[0][0]} on: {error}") from None


def _reception(file: Path, number: int, row: dict[str, str]) -> Reception:
    try:
        seq, heard = int(row["seq"]), TRUTH[row["heard"].strip().lower()]
        lost = TRUTH[(row.get("lost_in_queue") or "").strip().lower()]
        rssi, copies = row.get("rssi"), row.get("copies")
        if not 0 <= seq <= MOST_PACKETS or not row["receiver"]:
            raise ValueError
        return Reception(
            seq, row["receiver"], heard, float(rssi) if rssi else None, int(copies) if copies else None, lost
        )
    except (KeyError, ValueError):
        raise UsageError(
            f"{file}:{number}: not a reception: seq counts packets from 0, receiver is a name, heard is 1 or 0, and "
            "rssi a number of dBm or nothing"
        ) from None


def _told(how: Circumstances, lines: list[Line]) -> Circumstances:
    """With what the run's first rows say in columns of our own export."""
    row = lines[0][1]
    metres = {line["receiver"]: float(line["distance_m"]) for _, line in lines if line.get("distance_m")}
    alike = set(metres.values())
    told: dict[str, Any] = {name: row[name] for name in ("bearer", "sender") if row.get(name)}
    told |= {name: float(row[name]) for name in ("spacing_ms", "tx_power_dbm") if row.get(name)}
    if row.get("size_bytes"):
        told["size_bytes"] = int(row["size_bytes"])
    if row.get("run_distance_m"):
        told["distance_m"] = float(row["run_distance_m"])
        told["distances_m"] = {name: metre for name, metre in metres.items() if metre != told["distance_m"]}
    elif metres:
        told["distance_m"] = alike.pop() if len(alike) == 1 else None
        told["distances_m"] = metres if told["distance_m"] is None else {}
    return replace(how, **told)


# --- A recorded reception matrix --------------------------------------------------------------------------------------


def import_recording(store: Store, file: Path, how: Circumstances, progress: Progress) -> int:
    """A reception matrix (see `air.recording`): each position of the transmitter is a run. The runs added.

    The listeners' distances follow from the positions; a run has no distance of its own.
    """
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
        notes = {"imported_from": file.name, "position": number, "position_m": list(position.metres)}
        store.add(place.run(len(events), number, notes), receptions)
    progress(len(recording.positions), len(recording.positions))
    return len(recording.positions)


# --- Captures ---------------------------------------------------------------------------------------------------------


def import_captures(store: Store, captures: Mapping[str, Path], packets: int | None, how: Circumstances) -> int:
    """One capture a listener, all of the same time: each burst that any of them heard is a run. The runs added.

    Bursts are told apart by the session id (or tag) in their packets. `packets` is N; without it the last packet that
    anybody heard is taken for the last that was sent. A listener who heard nothing of a burst missed all of it.
    UsageError if no capture has a burst packet.
    """
    bursts: dict[tuple[Kind, bytes], dict[str, dict[int, list[float | None]]]] = {}
    began: dict[tuple[Kind, bytes], float] = {}
    for listener, file in captures.items():
        for burst, seq, time, rssi in _burst_packets(file):
            began[burst] = min(time, began.get(burst, time))
            heard = bursts.setdefault(burst, {}).setdefault(listener, defaultdict(list))
            heard[seq].append(rssi)
    if not bursts:
        raise UsageError("no capture has a burst packet of ours: look at them with `bt-selfsecure eve read`")
    for repeat, burst in enumerate(sorted(bursts, key=lambda each: began[each]), start=len(store.runs())):
        last = max(max(heard) for heard in bursts[burst].values())
        if packets is not None and last >= packets:
            raise UsageError(f"a capture has packet {last} of a burst: --packets {packets} is too few")
        count = last + 1 if packets is None else packets
        notes = {"imported_from": {name: file.name for name, file in captures.items()}, "burst": burst[1].hex()}
        info = replace(how.run(count, repeat, notes), started=datetime.fromtimestamp(began[burst], UTC))
        store.add(info, _captured(captures, bursts[burst], count))
    return len(bursts)


def _captured(
    listeners: Mapping[str, Path], heard: Mapping[str, Mapping[int, list[float | None]]], count: int
) -> Iterator[Reception]:
    for name in listeners:
        copies = heard.get(name, {})
        for seq in range(count):
            levels = [level for level in copies.get(seq, ()) if level is not None]
            times = len(copies.get(seq, ()))
            yield Reception(seq, name, times > 0, max(levels, default=None), times)


def _burst_packets(file: Path) -> Iterator[tuple[tuple[Kind, bytes], int, float, float | None]]:
    reader = Reader()
    with Capture(str(file)) as source:
        for packet in source:
            for datagram in reader.read(packet):
                try:
                    frame = decode(datagram.data)
                except FrameError:
                    continue
                if frame.kind in BURST:
                    yield (frame.kind, frame.rand), frame.seq, packet.time, packet.rssi


# --- Whichever it is --------------------------------------------------------------------------------------------------


def import_sources(
    store: Store, sources: Sequence[str], packets: int | None, how: Circumstances, progress: Progress
) -> int:
    """FILE.csv, FILE.json (a reception matrix) and LISTENER=CAPTURE, in this order of kinds; the runs added."""
    captures: dict[str, Path] = {}
    added = 0
    for source in sources:
        name, equals, file = source.partition("=")
        if equals and not Path(source).exists():
            if not name or not file or name in captures:
                raise UsageError(f"{source!r} is not a new LISTENER=CAPTURE: write it as in bob=bob.pcapng")
            captures[name] = Path(file)
        elif source.endswith(".csv"):
            added += import_csv(store, Path(source), how, progress)
        elif source.endswith(".json"):
            added += import_recording(store, Path(source), how, progress)
        else:
            raise UsageError(
                f"can't tell what {source!r} is: give FILE.csv, FILE.json of a reception matrix, or LISTENER=CAPTURE"
            )
    return added + (import_captures(store, captures, packets, how) if captures else 0)


@contextmanager
def opened(name: str, progress: Progress) -> Iterator[Store]:
    """A sweep to read: its own file, or a CSV or reception matrix as if it had been imported."""
    if not name.endswith((".csv", ".json")):
        with Store(name) as store:
            yield store
        return
    with (
        TemporaryDirectory(prefix="bt-selfsecure-") as directory,
        Store(Path(directory) / Path(name).name, create=True) as store,
    ):
        store.begin(collect(imported=[name]))
        import_sources(store, [name], None, Circumstances(), progress)
        yield store
