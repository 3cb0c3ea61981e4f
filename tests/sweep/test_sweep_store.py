from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sweep_data import BEGAN, info, receptions

from bt_selfsecure.errors import LocalError, UsageError
from bt_selfsecure.sweep.manifest import collect
from bt_selfsecure.sweep.packing import Reception
from bt_selfsecure.sweep.schema import APPLICATION_ID
from bt_selfsecure.sweep.store import Store

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
    assert list(store.packed(run)["eve"].fates()) == [1, 2]
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
    with contextlib.closing(sqlite3.connect(tmp_path / "sweep.db")) as database, database:
        for table in tables:
            (column, *_) = (row[1] for row in database.execute(f"PRAGMA table_info({table})"))
            for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET {column} = {column}"):
                with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                    database.execute(statement)


def test_a_run_that_is_added_while_the_runs_are_read_is_there_whole_or_not_at_all(store: Store) -> None:
    first = store.add(info(3), WHOLE)
    with Store(store.path) as reader:
        added = []

        def meanwhile(statement: str) -> None:
            if "FROM run" in statement and not added:
                added.append(store.add(info(3), WHOLE))

        reader._db.set_trace_callback(meanwhile)
        assert [(run.id, run.listeners) for run in reader.runs()] == [(first, ("bob", "eve"))]
        assert [run.id for run in reader.runs()] == [first, *added]


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


def test_the_reason_why_a_run_can_not_be_withdrawn_is_told(store: Store) -> None:
    run = store.add(info(3), WHOLE)
    store.withdraw([run], "rain")
    for wrong, words in ((run, "withdrawn before .rain."), (99, "no run 99")):
        with pytest.raises(UsageError, match=words):
            store.withdraw([wrong], "again")


@pytest.mark.parametrize("fault", [UsageError("no"), KeyboardInterrupt(), ValueError("no")])
def test_what_is_added_together_is_there_whole_or_not_at_all(store: Store, fault: BaseException) -> None:
    first = store.add(info(3), WHOLE)

    def fails() -> None:
        with store.together():
            store.begin({"another": 1})
            store.add(info(3), WHOLE)
            store.withdraw([first], "rain")
            raise fault

    with pytest.raises(type(fault)):
        fails()
    assert [run.id for run in store.runs()] == [first]
    assert list(store.manifests().values()) == [{"kernel": "6.12"}]
    store.add(info(3), WHOLE)  # under the manifest of before
    assert [run.manifest for run in store.runs()] == [1, 1]


@pytest.mark.parametrize(
    ("other", "twin"),
    [
        (receptions({"eve": [True, True, False], "bob": [True, False, True]}), True),
        ([row._replace(rssi=-60.0 if row.heard else None) for row in reversed(WHOLE)], True),  # the first knew none
        ([row._replace(copies=3 if row.heard else 0) for row in WHOLE], True),
        (receptions({"bob": [True, False, True], "eve": [True, True, True]}), False),
        (receptions({"bob": [True, False, True], "eve2": [True, True, False]}), False),
        (receptions({"bob": [True, False, True]}), False),
        ([*WHOLE, *receptions({"eve2": [True, True, False]})], False),
    ],
)
def test_a_run_that_is_there_already_is_found_whatever_the_order_of_its_rows(
    store: Store, other: list[Reception], twin: bool
) -> None:
    first = store.add(info(3), WHOLE)
    second = store.add(info(3, 5.0), other)
    assert store.twin(second, before=second) == (first if twin else None)
    store.withdraw([first], "rain")
    assert store.twin(second, before=second) is None


def test_runs_of_other_times_or_other_levels_are_others(store: Store) -> None:
    level = [row._replace(rssi=-60.0 if row.heard else None) for row in WHOLE]
    louder = [row._replace(rssi=-50.0 if row.heard else None) for row in WHOLE]
    first = store.add(info(3, started=BEGAN), level)
    assert store.twin(store.add(info(3), louder), before=2) is None
    assert store.twin(store.add(info(3, started=BEGAN + timedelta(seconds=60)), level), before=2) is None
    assert store.twin(store.add(info(3, started=BEGAN), level), before=2) == first


def test_a_file_that_was_made_and_got_no_run_is_taken_away_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "sweep.db"

    def fails(fault: BaseException) -> None:
        with Store(path, create=True) as store:
            store.begin({})
            raise fault

    for fault in (UsageError("no"), KeyboardInterrupt()):
        with pytest.raises(type(fault)):
            fails(fault)
        assert list(tmp_path.iterdir()) == []
    with Store(path, create=True) as store:
        store.begin({})
        store.add(info(3), WHOLE)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), Store(path, create=True):
            raise KeyboardInterrupt
    with Store(path) as store:
        assert len(store.runs()) == 1


def test_nothing_is_written_to_a_file_that_was_removed_while_it_was_open(tmp_path: Path) -> None:
    path = tmp_path / "sweep.db"
    with Store(path, create=True) as store:
        store.begin({})
        path.unlink()
        with pytest.raises(UsageError, match="was removed"):
            store.add(info(3), WHOLE)
        Store(path, create=True).close()
        with pytest.raises(UsageError, match="was removed"):
            store.add(info(3), WHOLE)


def test_an_empty_file_is_no_sweep_and_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    with pytest.raises(UsageError, match="is empty"):
        Store(tmp_path / "empty.db")
    assert (tmp_path / "empty.db").stat().st_size == 0


def test_what_the_database_refuses_is_told_with_a_remedy_and_without_sql(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sweep.db"
    with Store(path, create=True) as store:
        store.begin({})
        store.add(info(3), WHOLE)
    monkeypatch.setattr("bt_selfsecure.sweep.database.LOCKED_S", 0.1)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other, Store(path) as store:
        store.begin({})
        other.execute("BEGIN EXCLUSIVE")
        for write in (lambda: store.add(info(3), WHOLE), store.runs, lambda: store.begin({"a": 1})):
            with pytest.raises(UsageError, match="another program is writing"):
                write()
        other.execute("ROLLBACK")
    with Store(path) as store:
        store.begin({})
        store._db.execute("PRAGMA query_only = ON")  # as a file system that is mounted so does it, for root too
        with pytest.raises(UsageError, match="writable"):
            store.add(info(3), WHOLE)
        store._db.execute("PRAGMA query_only = OFF")
        store._db.execute("PRAGMA max_page_count = 1")
        with pytest.raises(UsageError, match="no space left"):
            store.add(info(100_000), receptions({"bob": [True] * 100_000}))
        assert len(store.runs()) == 1
        for wrong in (replace(info(3), sender="\udcff"), info(3, repeat=2**70)):
            with pytest.raises(UsageError):
                store.add(wrong, WHOLE)
    with pytest.raises(UsageError, match="choose another place"):
        Store(tmp_path / "nowhere" / "sweep.db", create=True)


def test_a_resumed_sweep_has_one_manifest_and_a_changed_one_two(tmp_path: Path) -> None:
    for kernel in ("6.12", "6.12", "6.18"):
        with Store(tmp_path / "sweep.db", create=True) as store:
            store.begin({"kernel": kernel})
            store.add(info(3), WHOLE)
    with Store(tmp_path / "sweep.db") as store:
        assert [run.manifest for run in store.runs()] == [1, 1, 2]


def test_a_run_without_a_manifest_is_a_mistake_of_the_program(tmp_path: Path) -> None:
    with Store(tmp_path / "sweep.db", create=True) as store, pytest.raises(LocalError, match="begin"):
        store.add(info(3), WHOLE)


def test_addresses_are_hashed_alike_in_one_file_and_differently_in_another(tmp_path: Path) -> None:
    with Store(tmp_path / "a.db", create=True) as a, Store(tmp_path / "b.db", create=True) as b:
        assert a.hashed("b8:27:eb:12:34:56") == a.hashed("B8:27:EB:12:34:56") != b.hashed("B8:27:EB:12:34:56")


def test_another_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    text, other, newer = tmp_path / "text.db", tmp_path / "other.db", tmp_path / "newer.db"
    text.write_text("not a database, but long enough to be looked at " * 40)
    for path, pragma in ((other, "user_version = 0"), (newer, f"application_id = {APPLICATION_ID}")):
        with contextlib.closing(sqlite3.connect(path)) as database, database:
            database.execute("CREATE TABLE anything (at_all)")
            database.execute(f"PRAGMA {pragma}")
    with contextlib.closing(sqlite3.connect(newer)) as database, database:
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
