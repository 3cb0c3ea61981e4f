"""Names from outside: what drives a terminal, or what no drawing may have, comes neither in nor out of a record."""

from __future__ import annotations

import gzip
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sweep_data import OFFICE, info, receptions, unchecked

from bt_selfsecure.cli.main import main
from bt_selfsecure.errors import UsageError
from bt_selfsecure.sweep.importing import Circumstances, import_sources
from bt_selfsecure.sweep.packing import Reception
from bt_selfsecure.sweep.store import Store

DRIVING = ("b\x1b[31mob", "e\x07ve", "a\u202eb", "a\u2066b", "a\x7fb", "a\x9bb", "a\u2028b", "a\ufffeb")
SHOWN = ("Küche", "pi 4", "リビング\u3000左", "pi\u00a04", "木🌲", "a'b\\")


def added(*sources: str, how: Circumstances | None = None) -> list[tuple[str, ...]]:
    with Store(":memory:", create=True) as store:
        store.begin({})
        import_sources(store, sources, how or Circumstances(), lambda done, of: None)
        return [run.listeners for run in store.runs()]


@pytest.mark.parametrize("name", DRIVING)
@pytest.mark.parametrize("column", ["receiver", "run", "sender", "bearer", "room"])
def test_a_name_that_would_drive_a_terminal_is_refused_with_its_line(tmp_path: Path, name: str, column: str) -> None:
    rows = [{"run": "1", "seq": "0", "receiver": "bob", "heard": "1", "room": "x", "sender": "a", "bearer": "air"}]
    rows.append({**rows[0], "run": "2", column: name})
    text = "\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)])
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(text.encode()))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    for file, place in (("t.csv", "(:| .* line )3"), ("t.csv.gz", "(:| .* line )3"), ("t.parquet", ".* row 2")):
        with pytest.raises(UsageError, match=f"{file}.?{place}.* can't be printed") as raised:
            added(str(tmp_path / file), how=Circumstances(conditions={"room": None}))
        assert f"U+{ord(next(letter for letter in name if letter not in 'abevo')):04X}" in str(raised.value)
        assert str(raised.value).isprintable()


def test_names_of_all_other_sources_can_be_printed_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "seq.csv").write_text("seq,heard\n0,1\n")
    (tmp_path / "time.csv").write_text("time,receiver\n0.5,e\x07ve\n")
    (tmp_path / "matrix.json").write_text(OFFICE.read_text().replace('"name": "', '"name": "\\u001b', 1))
    (tmp_path / json.loads(OFFICE.read_text())["file"]).write_bytes(
        (OFFICE.parent / json.loads(OFFICE.read_text())["file"]).read_bytes()
    )
    out = ["--out", str(tmp_path / "new.db")]
    for words in (
        [f"b\x1bob={tmp_path}/seq.csv"],
        [f"b\x1bob={tmp_path}/none.pcap"],
        [f"{tmp_path}/time.csv"],
        [f"{tmp_path}/matrix.json"],
        [f"bob={tmp_path}/seq.csv", "--condition", "room=\x1b[0m"],
        [f"bob={tmp_path}/seq.csv", "--condition", "ro\x07om=1"],
        [f"bob={tmp_path}/seq.csv", "--sender", "a\x9b"],
        [f"bob={tmp_path}/seq.csv", "--bearer", "a\x9b"],
        [f"{tmp_path}/\x1b[31mnone.csv"],
    ):
        assert main(["sweep", "import", *out, *words]) == 2
        said = capsys.readouterr().err.removesuffix("\n")
        assert said.isprintable()
        assert "can't be printed" in said or "none.csv" in said
    assert not (tmp_path / "new.db").exists()


@pytest.mark.parametrize("name", SHOWN)
def test_a_name_in_any_script_is_taken(tmp_path: Path, name: str) -> None:
    (tmp_path / "t.csv").write_text(f"seq,receiver,heard\n0,{name},1\n", encoding="utf-8")
    assert added(str(tmp_path / "t.csv")) == [(name,)]


def test_a_record_of_before_is_shown_and_drawn_without_what_drives_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with unchecked(tmp_path / "old.db", monkeypatch) as store:
        notes = {"imported_from": "\x1b[2J.csv", "conditions": {"ro\x1bom": "\x1b[0m"}}
        for metres in (1.0, 2.0):
            rows = receptions({"b\x1b[31mob": [True, False, True] * 9, "e\x07v\u202ee": [True, True, False] * 9})
            run = store.add(info(27, metres, notes=notes), [row._replace(rssi=-60.0) for row in rows])
        store.withdraw([store.add(info(1, notes=notes), [Reception(0, "b\x1b[31mob", True)])], "\x1b[5mslip")
    with Store(tmp_path / "old.db") as store:
        assert store.runs()[0].listeners == ("b\\x1b[31mob", "e\\x07v\\u202ee")
        assert {row.receiver for row in store.receptions(run)} == {"b\\x1b[31mob", "e\\x07v\\u202ee"}
    old, figures = str(tmp_path / "old.db"), tmp_path / "figures"
    for words in (["list"], ["analyse"], ["analyse", "--all", "--runs"], ["analyse", "--json"], ["compare", old]):
        assert main(["sweep", words[0], old, *words[1:]]) == 0
        assert capsys.readouterr().out.replace("\n", "").isprintable()
    assert main(["sweep", "plot", old, "--out", str(figures)]) == 0
    drawn = list(figures.glob("*.svg"))
    assert len(drawn) > 1
    for file in drawn:
        assert ET.parse(file).getroot().tag.endswith("svg")
    for end in ("csv", "parquet"):
        assert main(["sweep", "export", old, "--out", str(tmp_path / f"new.{end}")]) == 0
        assert added(str(tmp_path / f"new.{end}")) == [("b\\x1b[31mob", "e\\x07v\\u202ee")] * 2
