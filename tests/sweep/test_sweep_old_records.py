"""A record of version 1 (made by the program of then, with what it said of it), read and migrated by today's."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sweep_data import info, receptions

from bt_selfsecure.errors import UsageError
from bt_selfsecure.sweep.analysis import analyse
from bt_selfsecure.sweep.store import Store

RECORDS = Path(__file__).parent / "records"
TOLD: dict[str, Any] = json.loads((RECORDS / "version-1.json").read_text())
WHOLE = receptions({"bob": [True, False, True], "eve": [True, True, False]})


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copy(RECORDS / "version-1.db", tmp_path / "old.db"))


def says_the_same(store: Store, *, withdrawn_since: int = 0) -> None:
    """All that the old program said."""
    manifests = {str(key): manifest for key, manifest in store.manifests().items()}
    assert {key: manifests[key] for key in TOLD["manifests"]} == TOLD["manifests"]
    runs = store.runs(withdrawn=True)
    assert len(runs) == len(TOLD["runs"]) + withdrawn_since
    for run, was in zip(runs, TOLD["runs"], strict=False):
        assert (run.id, run.manifest, run.withdrawn, str(run.info)) == (
            was["id"], was["manifest"], was["withdrawn"], was["info"],
        )  # fmt: skip
        assert [list(row) for row in store.receptions(run.id)] == was["receptions"]
        assert list(run.listeners) == was["listeners"]
    assert store.hashed("b8:27:eb:12:34:56") == TOLD["hashed"]
    analysis = json.loads(json.dumps(analyse(store, damaged="lost").as_json()))
    analysis["withdrawn"] -= withdrawn_since
    assert analysis.pop("damaged") == "lost"  # as the old program counted what came, and was not heard
    for pair in analysis["pairs"]:
        assert (pair.pop("eve_damaged_given_bob") > 0) is (pair.pop("damaged_heard") != pair["damaged_lost"])
        assert pair.pop("damaged_lost").items() <= pair.items()
        del pair["eve_hands_on_damaged"]
    alike(analysis, {**TOLD["analysis"], "sweep": "old.db"})


def alike(one: Any, other: Any) -> None:
    """But for the last digits of a mean."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key, value in one.items():
            alike(value, other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for each, its in zip(one, other, strict=True):
            alike(each, its)
    else:
        assert one == (pytest.approx(other, rel=1e-12) if isinstance(other, float) else other)


def version(file: Path) -> int:
    with contextlib.closing(sqlite3.connect(file)) as database:
        (number,) = database.execute("PRAGMA user_version").fetchone()
    return int(number)


def test_an_old_record_is_read_as_it_is_and_not_changed_by_it(old: Path) -> None:
    before = old.read_bytes()
    old.chmod(0o400)
    with Store(old) as store:
        says_the_same(store)
    assert old.read_bytes() == before


def test_an_old_record_is_migrated_whole_by_what_is_added_to_it_and_says_the_same(old: Path) -> None:
    size, done = old.stat().st_size, []
    with Store(old, migrating=lambda *told: done.append(told)) as store:
        store.begin({"kernel": "6.20"})
        run = store.add(info(3), WHOLE)
        store.withdraw([run], "a test")
    assert version(old) == 2
    assert done[0] == (0, len(TOLD["runs"]))
    assert done[-1] == (len(TOLD["runs"]), len(TOLD["runs"]))
    assert old.stat().st_size <= size  # the space of the rows is given back
    with Store(old) as store, contextlib.closing(sqlite3.connect(old)) as database:
        assert store.runs(withdrawn=True)[-1].withdrawn == "a test"
        says_the_same(store, withdrawn_since=1)
        for table, column in (("run", "id"), ("reception", "run"), ("listener", "run")):
            for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET {column} = 1"):
                with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                    database.execute(statement)


def test_a_migrated_record_knows_its_runs_again(old: Path) -> None:
    with Store(old) as store:
        first = store.runs()[0]
        rows = [row._replace(rssi=None) for row in store.receptions(first.id)]
        store.begin({})
        again = store.add(first.info, rows)
        assert store.twin(again, before=again) == first.id


@pytest.mark.parametrize("fault", [UsageError("no"), KeyboardInterrupt()])
def test_an_old_record_to_which_nothing_is_added_after_all_stays_as_it_was(old: Path, fault: BaseException) -> None:
    before = old.read_bytes()

    def fails() -> None:
        with Store(old) as store, store.together():
            store.begin({})
            store.add(info(3), WHOLE)
            raise fault

    with pytest.raises(type(fault)):
        fails()
    assert old.read_bytes() == before


def test_a_record_that_another_program_migrates_while_it_is_open_is_read_on(old: Path) -> None:
    with Store(old) as reader:
        before = list(reader.receptions(3))
        with Store(old) as writer:
            writer.begin({})
            writer.add(info(3), WHOLE)
        assert list(reader.receptions(3)) == before


def test_an_old_record_that_lacks_rows_is_named_as_damaged(old: Path) -> None:
    with contextlib.closing(sqlite3.connect(old)) as database, database:
        database.execute("DROP TRIGGER reception_no_delete")
        database.execute("DELETE FROM reception WHERE run = 1 AND seq = 3")
    with Store(old) as store, pytest.raises(UsageError, match="rows of run 1 are missing"):
        analyse(store)


def test_a_record_whose_migration_is_killed_is_as_it_was(old: Path) -> None:
    program = """if True:
        import os, signal, sys
        from bt_selfsecure.sweep.store import Store
        def migrating(done, of):
            if done == 3:
                os.kill(os.getpid(), signal.SIGKILL)
        with Store(sys.argv[1], migrating=migrating) as store:
            store._db.execute("PRAGMA cache_size = 1")  # what is written goes to the disk at once
            store.withdraw([1], "a test")
    """
    assert subprocess.run([sys.executable, "-c", program, str(old)], check=False).returncode == -signal.SIGKILL
    assert version(old) == 1
    with Store(old) as store:
        says_the_same(store)
