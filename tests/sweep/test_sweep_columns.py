"""Tables by column are read as row by row: the same runs, or the same words of the first fault."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from amounts import PEAK_KIB, part_of
from hypothesis import example, given, settings
from hypothesis import strategies as st
from timed_data import Air, heard

from bt_selfsecure.cli.main import main
from bt_selfsecure.errors import UsageError
from bt_selfsecure.sweep import columns, numbered
from bt_selfsecure.sweep.importing import Circumstances, import_csv, import_sources
from bt_selfsecure.sweep.store import Store

HEADER = ["run", "seq", "receiver", "heard", "rssi", "copies", "lost_in_queue", "distance_m", "bearer", "note"]
CELLS = {
    "run": ["", "1", "2", " 1", "a"],
    "seq": ["0", "1", "2", "3", "0x1", "0X1", "+1", "-1", "1.0", " 2 ", "٣", "1e0", "", "007", "99999999999999999999"],
    "receiver": ["bob", "eve", " bob", '"bob"', '"bo""b"', ' "eve"', '"e\nve"', 'b"b', "", "Küche"],
    "heard": ["0", "1", "TRUE", "no", "1.0", "2", "", "0x1", "'1'"],
    "rssi": ["", "-60", "-60.5", "-61.25", "1e3", "nan", "inf", "-1_0", "-60,5", "0x1p3", "-60.123456789"],
    "copies": ["", "0", "1", "2", "300", "-1", "99999999999999999999"],
    "lost_in_queue": ["", "0", "1"],
    "distance_m": ["", "3", "3.0", "4", "far"],
    "bearer": ["", "l2cap", "rfcomm"],
    "note": ["", "x", '"a, b"', '"open', "\r", "0x", "\0"],
    "": ["", " ", "5", '""', "x"],
}


@st.composite
def tables(draw: st.DrawFn) -> str:
    """Mostly a table without a fault, some cells of which were changed."""
    names = [name for name in HEADER if name in ("seq", "receiver", "heard") or draw(st.booleans())]
    names += draw(st.sampled_from([[], [], [""], ["", " "]]))
    delimiter = draw(st.sampled_from(",,,;\t"))
    rows = [
        {"run": run, "seq": str(seq), "receiver": name, "heard": str(draw(st.integers(0, 1)))}
        for run in draw(st.sampled_from([["1"], ["1", "2"]]))
        for seq in range(draw(st.integers(1, 4)))
        for name in ("bob", "eve")
    ]
    if draw(st.booleans()):
        Random(draw(st.integers(0, 9))).shuffle(rows)
        rows.sort(key=lambda row: row["run"])
    for _ in range(draw(st.integers(0, 2))):
        column = draw(st.sampled_from(names)).strip()
        draw(st.sampled_from(rows))[column] = draw(st.sampled_from(CELLS[column]))
    lines = [delimiter.join(names), *(delimiter.join(row.get(name, "") for name in names) for row in rows)]
    return draw(st.sampled_from(["\n", "\r\n"])).join(lines) + draw(st.sampled_from(["", "\n", "\n\n"]))


def told(file: Path, how: Circumstances) -> object:
    """All that is recorded, or the fault."""
    with Store(":memory:", create=True) as store:
        store.begin({})
        try:
            import_csv(store, file, how, lambda done, of: None)
        except UsageError as error:
            assert store.runs() == []
            return str(error)
        return [(run.info, run.listeners, list(store.receptions(run.id))) for run in store.runs()]


@pytest.fixture(scope="module")
def row_by_row() -> Callable[[Path, Circumstances], object]:
    def read(file: Path, how: Circumstances) -> object:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "bt_selfsecure.sweep.columns", None)
            return told(file, how)

    return read


@given(tables(), st.sampled_from([{}, {"packets": 4}, {"first": 0, "last": 5}]), st.sampled_from([1 << 18, 20, 60]))
@example("seq,receiver,heard\n0x0,bob,1\n", {}, 1 << 18)
@example('seq,receiver,heard\n0, "eve",1\n0,"bob",1\n', {}, 1 << 18)
@example('seq,receiver,heard,note\n0,bob,1,"a\n1,bob,1,b"\n1,bob,1,\n', {}, 1 << 18)
@example("seq,receiver\n0,bob\n2,bob\n2,bob\n9,bob\n", {"packets": 10}, 1 << 18)
@example('seq,receiver,heard,note\n0,bob,1,"a\n1,bob,1,b"\n1,bob,1,\n', {}, 20)
@example("seq,receiver,heard,rssi,\n0,bob,1,-60,\n1,bob,1,-60,5\n", {}, 1 << 18)
@example("seq,receiver,heard,,\n0,bob,1,,\n1,bob,1,,junk\n", {}, 1 << 18)
@example("seq,receiver,heard\r0,bob,1\r1,bob,1\r\n2,bob,1", {}, 19)
@settings(max_examples=part_of(150), deadline=None)
def test_by_column_a_table_is_the_same_runs_or_the_same_fault_as_row_by_row(
    tmp_path_factory: pytest.TempPathFactory,
    row_by_row: Callable[..., object],
    text: str,
    how: dict[str, Any],
    block_bytes: int,
) -> None:
    file = tmp_path_factory.getbasetemp() / "table.csv"
    file.write_text(text, newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "BLOCK_BYTES", block_bytes)
        patch.setattr(columns, "QUOTED_BLOCK_BYTES", block_bytes // 2)
        assert told(file, Circumstances(**how)) == row_by_row(file, Circumstances(**how))


def by_column_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("row by row")

    monkeypatch.setattr(numbered, "_Rows", never)


@pytest.mark.parametrize(
    "text",
    [
        "seq,receiver,heard,rssi\n" + "".join(f"{seq},{name},1,-60.5\n" for name in "be" for seq in range(20_000)),
        '\ufeff"seq";"receiver";"heard"\r\n' + "".join(f'{seq};"bob";TRUE\r\n' for seq in range(9)),
        "run,seq,receiver,heard,copies\n" + "".join(f"{n // 99},{n % 99},bob,1,\n" for n in range(9_900)),
        "seq,receiver,heard,,\n" + "".join(f"{seq},bob,1,, \n" for seq in range(9)),
    ],
)
def test_ordinary_tables_are_read_by_column(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_column_alone(monkeypatch)
    (tmp_path / "t.csv").write_text(text, encoding="utf-8", newline="")
    assert isinstance(told(tmp_path / "t.csv", Circumstances()), list)


@pytest.mark.parametrize(
    ("header", "row"), [("seq,receiver,heard,rssi,", "0,bob,1,-60,5"), ("seq,receiver,heard, ,", "0,bob,1,,junk")]
)
def test_a_value_that_no_column_has_a_name_for_is_refused_with_its_line(tmp_path: Path, header: str, row: str) -> None:
    (tmp_path / "t.csv").write_text(f"{header}\n{row}\n")
    assert "t.csv:2: the row has not as many fields" in str(told(tmp_path / "t.csv", Circumstances()))


# --- Parquet, gzip ----------------------------------------------------------------------------------------------------

ROWS = [
    {"run": 1, "seq": seq, "receiver": name, "heard": (seq + shift) % 3 > 0, "rssi": -60.5 if seq % 2 else None}
    for name, shift in (("bob", 0), ("eve", 1))
    for seq in range(10)
]


def as_csv(file: Path) -> Path:
    lines = [",".join("" if value is None else str(value) for value in row.values()) for row in ROWS]
    file.write_text("\n".join([",".join(ROWS[0]), *lines]) + "\n")
    return file


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"seq": pa.int16(), "heard": pa.int8()},
        {"seq": pa.float64(), "heard": pa.string(), "run": pa.string()},
        {"receiver": pa.dictionary(pa.int8(), pa.string()), "rssi": pa.float32()},
    ],
)
def test_parquet_of_any_types_says_what_csv_does(
    columns: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_column_alone(monkeypatch)
    table = pa.Table.from_pylist(ROWS)
    for name, kind in columns.items():
        column = table[name].cast(pa.int8()) if name == "heard" else table[name]
        table = table.set_column(table.column_names.index(name), name, column.cast(kind))
    pq.write_table(table, tmp_path / "t.parquet")
    strip = lambda runs: [(listeners, rows) for _, listeners, rows in runs]  # noqa: E731
    assert strip(told(tmp_path / "t.parquet", Circumstances())) == strip(
        told(as_csv(tmp_path / "t.csv"), Circumstances())
    )


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary(3), pa.dictionary(pa.int8(), pa.binary())])
def test_texts_that_parquet_keeps_as_bytes_are_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: pa.DataType
) -> None:
    with_bytes = [{**row, "receiver": row["receiver"].encode(), "heard": b"yes", "room": b"hal"} for row in ROWS]
    schema = pa.Table.from_pylist(with_bytes).schema
    table = pa.Table.from_pylist(with_bytes, schema.set(schema.get_field_index("receiver"), pa.field("receiver", kind)))
    pq.write_table(table, tmp_path / "t.parquet")
    how = Circumstances(conditions={"room": None})
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "bt_selfsecure.sweep.pieces", None)
        slowly = told(tmp_path / "t.parquet", how)
    by_column_alone(monkeypatch)
    runs: Any = told(tmp_path / "t.parquet", how)
    assert runs == slowly
    assert [(listeners, run.notes["conditions"]) for run, listeners, _ in runs] == [(("bob", "eve"), {"room": "hal"})]


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"receiver": b"b\xf6b"}, "row 21: the name 'b.udcf6b' is not text in UTF-8"),
        ({"run": b"\x80"}, "row 21 on: the name '.udc80' is not text in UTF-8"),
        ({"room": b"\x80"}, "row 21 on: the name '.udc80' is not text in UTF-8"),
        ({"room": b"\0"}, r"row 21 on: the name '.x00' has U\+0000"),
        ({"heard": b"\x80"}, "row 21: not a reception: heard is '.udc80'"),
        ({"receiver": ["bob"]}, "row 1: a cell of the column 'receiver' is a list<.*: it takes one text"),
        ({"seq": {"of": 0}}, "row 1: a cell of the column 'seq' is a struct<.*: it takes one text"),
        ({"rssi": [-60]}, "row 1: a cell of the column 'rssi' is a list<"),
        ({"room": {"name": "hall"}}, "row 1: a cell of the column 'room' is a struct<"),
        ({"started": [b"x"]}, "row 1: a cell of the column 'started' is a list<"),
    ],
)
def test_a_cell_that_is_no_text_and_no_number_is_refused_with_its_row(
    tmp_path: Path, cells: dict[str, Any], words: str
) -> None:
    """Of a column that is asked for."""
    ((name, cell),) = cells.items()
    rows = [{**row, name: str(row.get(name, "1")).encode() if isinstance(cell, bytes) else cell} for row in ROWS]
    rows.append({**rows[-1], "run": 2, "seq": 0, name: cell})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    how = Circumstances(conditions={"room": None} if name == "room" else {})
    with pytest.raises(UsageError, match=f"t.parquet(, |: the run .* from ){words}") as raised:
        raise UsageError(str(told(tmp_path / "t.parquet", how)))
    assert str(raised.value).isprintable()
    beside = pa.Table.from_pylist([row | {"aside": cell} for row in ROWS])
    pq.write_table(beside, tmp_path / "t.parquet")
    assert isinstance(told(tmp_path / "t.parquet", Circumstances()), list)


def test_what_is_said_of_parquet_tells_of_rows_and_columns_alone(tmp_path: Path) -> None:
    for table in (pa.table({}), pa.table({"n": [1]}), pa.table({"seq": [], "receiver": [], "heard": []})):
        pq.write_table(table, tmp_path / "t.parquet")
        said = str(told(tmp_path / "t.parquet", Circumstances()))
        assert "no column 'seq': it takes the columns seq," in said or "has no row" in said
        assert not set(said.replace(",", " ").split()) & {"line", "commas", "tabs"}
    rows = [row | {"bearer": "a" if row["seq"] else "b"} for row in ROWS]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    assert "'a' here and 'b' in row 1 of the same run" in str(told(tmp_path / "t.parquet", Circumstances()))


def test_a_fault_in_parquet_is_named_with_its_row(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([*ROWS, {**ROWS[3], "heard": None}]), tmp_path / "t.parquet")
    assert "t.parquet, row 21: not a reception: heard is ''" in str(told(tmp_path / "t.parquet", Circumstances()))
    pq.write_table(pa.Table.from_pylist([*ROWS, ROWS[3]]), tmp_path / "t.parquet")
    assert "row 21: packet 3 at 'bob' comes a second time" in str(told(tmp_path / "t.parquet", Circumstances()))
    pq.write_table(pa.Table.from_pylist(ROWS[:-1]), tmp_path / "t.parquet")
    assert "the run '1' from row 1 on: there is no row for packet" in str(told(tmp_path / "t.parquet", Circumstances()))
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and then nothing")
    assert "is not a Parquet file" in str(told(tmp_path / "t.parquet", Circumstances()))
    assert "\n" not in str(told(tmp_path / "t.parquet", Circumstances()))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda packed: packed[:-8] + bytes(4) + packed[-4:], "CRC"),
        (lambda packed: packed + b"and more", "gzipped"),
        (lambda packed: packed[:-12], "ended before"),
        (lambda packed: packed[:20] + b"\xff" * 9 + packed[29:], "decompressing"),
        (lambda packed: b"seq,receiver,heard\n0,bob,1\n", "gzipped"),
    ],
)
def test_a_packed_table_that_is_damaged_is_said_to_be(
    tmp_path: Path, spoil: Callable[[bytes], bytes], why: str
) -> None:
    packed = gzip.compress(as_csv(tmp_path / "t.csv").read_bytes())
    (tmp_path / "t.csv.gz").write_bytes(spoil(packed))
    said = str(told(tmp_path / "t.csv.gz", Circumstances()))
    assert "t.csv.gz, it is no gzip file or damaged (" in said
    assert why in said


def damaged_page(whole: bytes) -> bytes:
    return whole[:4] + b"\xff" * 16 + whole[20:]


def other_encoding(whole: bytes) -> bytes:
    """Of a receiver, everywhere."""
    return whole.replace(b"bob", b"b\xf6b")


def other_encoding_of_a_name(whole: bytes) -> bytes:
    return whole.replace(b"receiver", b"r\xe9ceiver")


@pytest.mark.parametrize("damage", [damaged_page, other_encoding, other_encoding_of_a_name])
def test_a_parquet_file_that_is_damaged_is_refused_in_one_line(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "t.parquet", compression="none")
    (tmp_path / "t.parquet").write_bytes(damage((tmp_path / "t.parquet").read_bytes()))
    found = str(told(tmp_path / "t.parquet", Circumstances()))
    assert "is not a Parquet file, or is damaged" in found
    assert "\n" not in found


def test_parquet_without_pyarrow_is_refused_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "t.parquet")
    monkeypatch.delitem(sys.modules, "bt_selfsecure.sweep.columns", raising=False)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "install it with pip install 'bt-selfsecure[sweep]'" in str(told(tmp_path / "t.parquet", Circumstances()))


def test_parquet_without_numbers_is_joined_by_time(tmp_path: Path) -> None:
    truth = heard(Air(packets=300, offset=10.0), 1)
    rows = [
        {"time": datetime.fromtimestamp(1.7e9 + time, UTC), "receiver": name, "rssi": -60}
        for name, times in truth.logs.items()
        for time in times
    ]
    for table in (pa.Table.from_pylist(rows), pa.table({"time": pa.array([1.5]), "receiver": ["bob"]})):
        pq.write_table(table, tmp_path / "t.parquet")
        if table.num_rows > 1:
            assert main(["sweep", "import", "--out", str(tmp_path / "r.db"), str(tmp_path / "t.parquet")]) == 0
        else:
            assert "takes two receivers" in str(told(tmp_path / "t.parquet", Circumstances()))


def test_a_table_of_text_is_read_by_no_thread_of_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that still wants Python while the process ends takes that down with SIGABRT."""
    threads: list[int] = []

    class Watched(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            threads.append(threading.get_ident())
            return super().read(-1 if size is None else size) or b""

    by_column_alone(monkeypatch)
    monkeypatch.setattr(columns, "opened", Watched)
    rows = (f"{seq},bob,{int(seq % 7 > 0)}\n" for seq in range(60_000))
    (file := tmp_path / "t.csv").write_text("seq,receiver,heard\n" + "".join(rows))
    assert isinstance(told(file, Circumstances()), list)
    assert len(threads) > 2
    assert set(threads) == {threading.get_ident()}


def test_a_table_in_gzip_is_the_same_table(tmp_path: Path) -> None:
    whole = as_csv(tmp_path / "t.csv").read_bytes()
    (tmp_path / "u.csv.gz").write_bytes(gzip.compress(whole))
    strip = lambda runs: [rows for *_, rows in runs]  # noqa: E731
    assert strip(told(tmp_path / "u.csv.gz", Circumstances())) == strip(told(tmp_path / "t.csv", Circumstances()))
    for damaged in (gzip.compress(whole)[:-9], b"no gzip", gzip.compress(whole)[:-9] + b"\xff" * 9):
        (tmp_path / "u.csv.gz").write_bytes(damaged)
        assert "can't read" in str(told(tmp_path / "u.csv.gz", Circumstances()))


def test_a_table_a_listener_may_be_of_any_kind(tmp_path: Path) -> None:
    mine = [{"seq": row["seq"], "heard": row["heard"]} for row in ROWS]
    pq.write_table(pa.Table.from_pylist(mine[:10]), tmp_path / "bob.parquet")
    with gzip.open(tmp_path / "eve.csv.gz", "wt") as text:
        text.write("seq,heard\n" + "".join(f"{row['seq']},{row['heard']}\n" for row in mine[10:]))
    with Store(":memory:", create=True) as store:
        store.begin({})
        sources = [f"bob={tmp_path}/bob.parquet", f"eve={tmp_path}/eve.csv.gz"]
        assert import_sources(store, sources, Circumstances(), lambda done, of: None) == 1
        rows = {(row.receiver, row.seq): row.heard for row in store.receptions(1)}
    assert rows == {(row["receiver"], row["seq"]): row["heard"] for row in ROWS}


# --- Memory -----------------------------------------------------------------------------------------------------------

IMPORT = f"""if True:
    import sys
    from bt_selfsecure.cli.main import main
    if sys.argv.pop(1) == "plain":  # a Pi that has neither
        sys.modules["pyarrow"] = sys.modules["numpy"] = None
    assert main(["sweep", "import", "--out", sys.argv[2], sys.argv[1]]) == 0
    print({PEAK_KIB})
"""


@pytest.mark.parametrize("kind", ["arrow", "plain"])
@pytest.mark.parametrize("shape", ["many runs", "one run"])
def test_an_import_of_sixteen_times_the_rows_takes_hardly_more_memory(kind: str, shape: str, tmp_path: Path) -> None:
    least = 20_000
    peaks = []
    for times in (1, 4, 16):
        runs, packets = (times, least) if shape == "many runs" else (1, times * least)
        with (tmp_path / "t.csv").open("w") as text:
            text.write("run,seq,receiver,heard,rssi\n")
            for run in range(runs):
                text.writelines(f"{run},{seq},bob,1,{-60 - seq * seq % 7}\n" for seq in range(packets))
        out = str(tmp_path / f"{times}.db")
        child = [sys.executable, "-c", IMPORT, kind, str(tmp_path / "t.csv"), out]
        peaks.append(int(subprocess.run(child, capture_output=True, text=True, check=True).stdout.split()[-1]))
    assert peaks[2] < 16**0.3 * peaks[0]
    assert peaks[2] < 1.25 * peaks[0]
