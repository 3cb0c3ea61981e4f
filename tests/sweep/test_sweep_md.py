"""docs/sweep.md names everything that there is."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import sqlite3
from pathlib import Path

import pytest
from sweep_data import info

from bt_selfsecure.sweep.compare import Figure, FigureDifference
from bt_selfsecure.sweep.exporting import COLUMNS
from bt_selfsecure.sweep.packing import Reception
from bt_selfsecure.sweep.results import Analysis, Collusion, InRun, ListenerLosses, Pair, Setting
from bt_selfsecure.sweep.store import Store

TEXT = (Path(__file__).parents[2] / "docs/sweep.md").read_text()
NAMED = set(re.findall(r"`(\w+)`", TEXT))


def test_every_table_and_column_of_the_record_is_explained(tmp_path: Path) -> None:
    Store(tmp_path / "sweep.db", create=True).close()
    section = TEXT.split("## The record")[1].split("\n## ")[0]
    with contextlib.closing(sqlite3.connect(tmp_path / "sweep.db")) as database, database:
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        assert len(tables) == 7
        for table in tables:
            rows = section.split(f"\n| `{table}` |")[1]
            described = re.match(r".*\n(\| \| .*\n)*", rows)
            assert described
            for _, column, *_ in database.execute(f"PRAGMA table_info({table})"):
                assert f"`{column}`" in described[0], (table, column)


def test_every_exported_column_and_every_key_of_the_json_is_explained() -> None:
    exported = TEXT.split("## Exported columns")[1].split("\n## ")[0]
    assert set(COLUMNS) <= set(re.findall(r"`(\w+)`", exported))
    for kind in (Pair, InRun, Setting, Figure, FigureDifference):
        fields = getattr(kind, "_fields", None) or [field.name for field in dataclasses.fields(kind)]
        assert set(fields) - {"setting"} <= NAMED
    told_in_words = {"setting", "eves", "bob_heard", "missed_given_bob", "listener", "distance_m", "runs"}
    for kind in (ListenerLosses, Collusion, Analysis):
        assert {field.name for field in dataclasses.fields(kind)} - told_in_words <= NAMED | {
            "sweep",
            "withdrawn",
            "roles",
        }


def test_the_program_that_shows_how_a_record_is_read_reads_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with Store("sweep.db", create=True) as store:
        store.begin({})
        store.add(info(3), [Reception(seq, "bob", seq != 1, -60.0 if seq else None) for seq in range(3)])
    exec(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)[0], {})
    assert capsys.readouterr().out == f"bob 2 of 3 [0, 2]\n{bytes([127, 196, 196])}\n"
