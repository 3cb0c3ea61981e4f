"""Figures that can't be: refused with their line by both readers, and never in JSON."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sweep_data import OFFICE, info, receptions, unchecked
from test_sweep_columns import told

from bt_selfsecure.cli.main import main
from bt_selfsecure.errors import UsageError
from bt_selfsecure.sweep.circumstances import Circumstances
from bt_selfsecure.sweep.store import Store

ROW = {"run": "1", "seq": "0", "receiver": "bob", "heard": "1"}
METRES = "a number from 0.001 to 1,000,000 m"
BEYOND = [
    ("rssi", "1e308", "a number from -200 to 100 dBm"),
    ("rssi", "127", "a number from -200 to 100 dBm"),
    ("rssi", "-200.5", "a number from -200 to 100 dBm"),
    ("distance_m", "1e300", METRES),
    ("distance_m", "0", METRES),
    ("distance_m", "-3", METRES),
    ("run_distance_m", "1e300", METRES),
    ("run_distance_m", "1000000.1", METRES),
    ("spacing_ms", "0", "a number from 0.001 to 3,600,000 ms"),
    ("spacing_ms", "1e300", "a number from 0.001 to 3,600,000 ms"),
    ("tx_power_dbm", "1e308", "a number from -200 to 100 dBm"),
    ("size_bytes", "0", "a whole number from 1 to 2,147,483,647 bytes"),
    ("size_bytes", "64.5", "a whole number from 1 to 2,147,483,647 bytes"),
    ("size_bytes", "1e400", "a whole number from 1 to 2,147,483,647 bytes"),
    ("repeat", "-5", "a whole number from 0 to 2,147,483,647"),
    ("repeat", "4611686018427387904", "a whole number from 0 to 2,147,483,647"),
    ("repeat", "once", "a whole number from 0 to 2,147,483,647"),
    ("copies", "4611686018427387904", "a whole number from 0 to 2,147,483,647"),
    ("copies", "-1", "a whole number from 0 to 2,147,483,647"),
    ("started", "yesterday", "a date, as 2026-05-01T12:00:00Z"),
    ("started", "0001-01-01T00:00:00+23:59", "a date, as 2026-05-01T12:00:00Z"),
    ("started", "9" * 5000, "a date, as 2026-05-01T12:00:00Z"),
]


@pytest.mark.parametrize(("column", "text", "expected"), BEYOND)
@pytest.mark.parametrize("by_column", [True, False])
def test_a_figure_that_can_not_be_is_refused_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: str, text: str, expected: str, by_column: bool
) -> None:
    rows = [ROW | {column: ""}, ROW | {"run": "2", column: text}]
    (tmp_path / "t.csv").write_text("\n".join(",".join(row) for row in (rows[0], *(row.values() for row in rows))))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    of_packet = column in ("rssi", "copies", "distance_m")
    if not by_column:
        monkeypatch.setitem(sys.modules, "bt_selfsecure.sweep.pieces", None)
    for place, said in (
        (":3: " if of_packet else r": the run '2' from line 3 on: ", told(tmp_path / "t.csv", Circumstances())),
        (", row 2: " if of_packet else r": the run '2' from row 2 on: ", told(tmp_path / "t.parquet", Circumstances())),
    ):
        assert re.search(rf"{re.escape(place)}.*{column} is '{re.escape(text[:50])}", str(said))
        assert str(said).endswith((f"give {expected}", f"give {expected}, or nothing"))
        assert len(str(said)) < 400 + len(str(tmp_path))


@pytest.mark.parametrize("cell", ["9" * 5000, "9" * 4000, "x" * 5000])
@pytest.mark.parametrize(
    "column", ["seq", "heard", "rssi", "copies", "distance_m", "packets", "receiver", "run", "bearer"]
)
def test_a_long_cell_is_not_repeated_whole(tmp_path: Path, column: str, cell: str) -> None:
    """Be it a fault by itself, or named where its row is one."""
    rows = [ROW | {column: ROW.get(column, "")}, ROW | {column: cell, "run": "1" if column != "run" else cell}]
    for again in (0, 1, 2):
        lines = [",".join(row) for row in (rows[0], *(row.values() for row in (*rows, *rows[1:] * again)))]
        (tmp_path / "t.csv").write_text("\n".join(lines))
        said = told(tmp_path / "t.csv", Circumstances())
        assert len(str(said)) < 400 + len(str(tmp_path)) or (column in ("receiver", "run") and isinstance(said, list))


@pytest.mark.parametrize("change", [{"distance_m": 1e300}, {"distances_m": {"bob": 0.0}}, {"tx_power_dbm": 1e308}])
def test_no_run_that_can_not_have_been_is_added(tmp_path: Path, change: dict) -> None:
    with Store(tmp_path / "sweep.db", create=True) as store:
        store.begin({})
        with pytest.raises(UsageError, match=r"its \w+ is .*: give a number from") as raised:
            store.add(info(3, **{"distance_m": 3.0} | change), receptions({"bob": [True] * 3}))
        assert "\n" not in str(raised.value)
        assert store.runs() == []


def test_a_place_a_universe_away_is_none_in_a_matrix_either(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    matrix = json.loads(OFFICE.read_text())
    (tmp_path / matrix["file"]).write_bytes((OFFICE.parent / matrix["file"]).read_bytes())
    for place, why in (
        ([1e300, 0, 0], f"its distance_m is 1e+300: give {METRES}"),
        ([1, 2], "have not all as many coordinates"),
        (["a", 0, 0], "does not describe a recording"),
    ):
        matrix["receivers"][0]["position_m"] = place
        (tmp_path / "matrix.json").write_text(json.dumps(matrix))
        assert main(["sweep", "import", str(tmp_path / "matrix.json"), "--out", str(tmp_path / "new.db")]) == 2
        assert why in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--tx-power", "1e300"], ["--size", "99999999999"], ["--distance-of", "bob=0"]])
def test_an_option_has_the_range_of_its_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    (tmp_path / "t.csv").write_text("seq,receiver,heard\n0,bob,1\n")
    assert main(["sweep", "import", str(tmp_path / "t.csv"), "--out", str(tmp_path / "new.db"), *words]) == 2
    assert "is out of range: give a" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_what_is_called_json_has_no_infinity(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with unchecked(tmp_path / "old.db", monkeypatch) as store:
        rows = receptions({"bob": [True] * 9, "eve": [True, True, False] * 3})
        store.add(info(9), [row._replace(rssi=1e308) for row in rows])
        with pytest.raises(UsageError, match="a figure is infinite, or no number"):
            store.begin({"height_m": float("nan")})
    assert main(["sweep", "analyse", str(tmp_path / "old.db"), "--json"]) == 2
    told = capsys.readouterr()
    assert "Infinity" not in told.out
    assert "a figure is infinite, or no number" in told.err
