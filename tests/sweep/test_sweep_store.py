from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sweep_data import BEGAN, info, receptions

from bt_selfsecure.errors import UsageError
from bt_selfsecure.sweep.manifest import collect
from bt_selfsecure.sweep.store import APPLICATION_ID, Reception, Store

WHOLE = receptions({"bob": [True, False, True], "eve": [True, True, False]})


@pytest.fixture
def store(tmp_path: Path):
    with Store(tmp_path / "sweep.db", create=True) as store:
        store.begin({"kernel": "6.12"})
        yield store


def test_a_run_comes_back_as_it_was_written(store: Store) -> None:
    rows = [
        Reception(0, "eve", True, -61.5, 3),
        Reception(1, "eve", False, lost_in_queue=True),
        Reception(0, "bob", True, None, 1),
        Reception(1, "bob", False, None, 0),
    ]
    written = info(2, 4.5, repeat=7, tx_power_dbm=-4.0, started=BEGAN, distances_m={"eve": 1.5}, notes={"walls": 2})
    run = store.add(written, rows)
    (stored,) = store.runs()
    assert (stored.id, stored.info, set(stored.listeners)) == (run, written, {"bob", "eve"})
    assert set(store.receptions(run)) == {row._replace(copies=row.copies or 0) for row in rows}
    assert list(store.fates(run, "eve")) == [1, 2]
    assert store.manifests()[stored.manifest] == {"kernel": "6.12"}


@given(
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["bob", "eve"]), st.booleans(), st.booleans()), max_size=12)
)
@settings(max_examples=30)
def test_a_run_is_taken_whole_or_not_at_all(tmp_path_factory: pytest.TempPathFactory, rows: list) -> None:
    with Store(tmp_path_factory.mktemp("store") / "sweep.db", create=True) as store:
        store.begin({})
        names = {name for _, name, _, _ in rows}
        whole = (
            rows
            and sorted((seq, name) for seq, name, _, _ in rows) == sorted((s, n) for s in range(3) for n in names)
            and not any(heard and lost for _, _, heard, lost in rows)
        )
        try:
            run = store.add(info(3), [Reception(s, n, heard, lost_in_queue=lost) for s, n, heard, lost in rows])
        except UsageError:
            assert not whole
            assert store.runs() == []
            assert list(store.receptions(1)) == []
        else:
            assert whole
            assert len(list(store.receptions(run))) == len(rows)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"packets": 4}, "half a run"),
        ({"packets": 2}, "is not one of the 2"),
        ({"distance_m": -1.0}, "distance_m"),
        ({"distances_m": {"mallory": 2.0}}, "mallory"),
    ],
)
def test_a_run_that_does_not_fit_is_refused_in_one_line(store: Store, change: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words) as raised:
        store.add(replace(info(3), **change), WHOLE)
    assert "\n" not in str(raised.value)
    assert store.runs() == []


def test_nothing_is_ever_changed_or_taken_away(store: Store, tmp_path: Path) -> None:
    run = store.add(info(3), WHOLE)
    store.withdraw([run], "somebody stood in the way")
    tables = ("salt", "manifest", "run", "receiver", "listener", "reception", "withdrawn")
    with sqlite3.connect(tmp_path / "sweep.db") as database:
        for table in tables:
            (column, *_) = (row[1] for row in database.execute(f"PRAGMA table_info({table})"))
            for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET {column} = {column}"):
                with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                    database.execute(statement)


def test_withdrawn_runs_stay_but_do_not_count(store: Store) -> None:
    first, second = store.add(info(3), WHOLE), store.add(info(3), WHOLE)
    store.withdraw([first], "rain")
    assert [run.id for run in store.runs()] == [second]
    assert [(run.id, run.withdrawn) for run in store.runs(withdrawn=True)] == [(first, "rain"), (second, None)]
    with pytest.raises(UsageError):
        store.withdraw([second, first], "again")
    assert [run.id for run in store.runs()] == [second]  # all or none
    with pytest.raises(UsageError):
        store.withdraw([99], "no such run")


def test_a_resumed_sweep_has_one_manifest_and_a_changed_one_two(tmp_path: Path) -> None:
    for kernel in ("6.12", "6.12", "6.18"):
        with Store(tmp_path / "sweep.db", create=True) as store:
            store.begin({"kernel": kernel})
            store.add(info(3), WHOLE)
    with Store(tmp_path / "sweep.db") as store:
        assert [run.manifest for run in store.runs()] == [1, 1, 2]


def test_a_run_without_a_manifest_is_a_mistake_of_the_program(tmp_path: Path) -> None:
    with Store(tmp_path / "sweep.db", create=True) as store, pytest.raises(ValueError, match="begin"):
        store.add(info(3), WHOLE)


def test_addresses_are_hashed_alike_in_one_file_and_differently_in_another(tmp_path: Path) -> None:
    with Store(tmp_path / "a.db", create=True) as a, Store(tmp_path / "b.db", create=True) as b:
        assert a.hashed("b8:27:eb:12:34:56") == a.hashed("B8:27:EB:12:34:56") != b.hashed("B8:27:EB:12:34:56")


def test_another_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    text, other, newer = tmp_path / "text.db", tmp_path / "other.db", tmp_path / "newer.db"
    text.write_text("not a database, but long enough to be looked at " * 40)
    for path, pragma in ((other, "user_version = 0"), (newer, f"application_id = {APPLICATION_ID}")):
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE anything (at_all)")
            database.execute(f"PRAGMA {pragma}")
    with sqlite3.connect(newer) as database:
        database.execute("PRAGMA user_version = 99")
    for path, words in ((text, "can't be used"), (other, "not of a sweep"), (newer, "update"), (tmp_path, "no sweep")):
        before = path.read_bytes() if path.is_file() else b""
        with pytest.raises(UsageError, match=words):
            Store(path)
        assert (path.read_bytes() if path.is_file() else b"") == before


def test_a_killed_process_leaves_whole_runs_only(tmp_path: Path) -> None:
    path = tmp_path / "sweep.db"
    program = """if True:
        import sys
        sys.path.insert(0, sys.argv[2])
        from sweep_data import info
        from bt_selfsecure.sweep.store import Reception, Store
        store = Store(sys.argv[1], create=True)
        store.begin({})
        while True:
            store.add(info(500), (Reception(seq, name, True) for name in ("bob", "eve") for seq in range(500)))
            print("run", flush=True)
    """
    arguments = [sys.executable, "-c", program, str(path), str(Path(__file__).parent)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        told = [writer.stdout.readline() for _ in range(3)]
        os.kill(writer.pid, signal.SIGKILL)
        told += writer.stdout.readlines()
    with Store(path) as store:
        runs = store.runs()
        assert len(runs) >= told.count("run\n") >= 3
        assert all(len(list(store.receptions(run.id))) == 1000 for run in runs)


def test_the_manifest_names_versions_and_kernel_but_no_host(tmp_path: Path) -> None:
    manifest = collect(plan={"repeats": 10})
    assert manifest["kernel"].startswith("Linux")
    assert manifest["plan"] == {"repeats": 10}
    assert manifest["bt_selfsecure"]
    assert os.uname().nodename not in str(manifest).replace(os.uname().release, "")
