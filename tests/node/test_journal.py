"""The journal: what is committed lasts, what can't be used is left alone."""

from __future__ import annotations

import contextlib
import errno
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from bt_selfsecure.errors import UsageError
from bt_selfsecure.node import journal_file as module
from bt_selfsecure.node.erasing import MOST_ROOM_BYTES, SPARE
from bt_selfsecure.node.journal import Journal, PeerRow
from bt_selfsecure.node.journal_file import APPLICATION_ID, JournalError
from bt_selfsecure.node.journal_mark import LOCK
from bt_selfsecure.node.journal_schema import MIGRATIONS
from bt_selfsecure.node.set_aside import FILE, LOG
from bt_selfsecure.node.state import backup, has_lost_log, restore, set_aside
from bt_selfsecure.protocols.haoxiao.group.record import record_of
from bt_selfsecure.protocols.haoxiao.record import SessionRecord

BOB = "B8:27:EB:00:00:02"
WAL_FRAME_HEAD = 24
"""Bytes before each page in SQLite's write-ahead log (sqlite.org/fileformat2.html, 4.1)."""
FIXTURE = Path(__file__).parent / "fixtures" / "journal-1.sql"


@contextlib.contextmanager
def opened(directory: Path, *, sync_each: bool = True) -> Iterator[Journal]:
    journal = Journal(directory, sync_each=sync_each)
    try:
        yield journal
    finally:
        journal.close()


def put(journal: Journal, fragment: bytes, peer: str = BOB) -> int:
    return journal.insert(peer, "outbox", peer, fragment)


def fill(journal: Journal) -> None:
    """Let the file grow no further."""
    pages = journal._database.execute("PRAGMA page_count").fetchone()[0]
    journal._database.execute(f"PRAGMA max_page_count = {pages}")


def make_room(journal: Journal) -> None:
    journal._database.execute("PRAGMA max_page_count = 1000000")


def test_what_is_committed_is_there_again_and_what_is_only_noted_is_not(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        put(journal, b"kept")
        journal.keep(BOB, lambda: PeerRow("record", "{}", True))
        journal.commit()
        put(journal, b"lost")
    with opened(tmp_path) as journal:
        assert [fragment for _, fragment in journal.outbox(BOB)] == [b"kept"]
        assert journal.peer(BOB) == PeerRow("record", "{}", True)
        assert journal.addresses() == [BOB]


def test_the_newest_state_of_a_peer_is_asked_for_at_the_commit(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        journal.keep(BOB, lambda: PeerRow("old", "{}", False))
        journal.keep(BOB, lambda: PeerRow("new", "{}", True))
        journal.commit()
        row = journal.peer(BOB)
        assert row
        assert row.record == "new"


def test_no_id_is_given_out_twice_not_even_one_that_a_crash_made_undone(tmp_path: Path) -> None:
    seen: set[int] = set()
    for _ in range(3):
        with opened(tmp_path, sync_each=False) as journal:
            ids = [put(journal, b"x") for _ in range(5)]
            assert ids == sorted(ids)
            assert not seen & set(ids)
            seen.update(ids)


def test_no_id_is_given_out_twice_although_no_row_of_most_was_ever_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bt_selfsecure.node.row_numbers.RESERVED", 10)
    seen: list[int] = []
    for _ in range(3):
        with opened(tmp_path) as journal:
            for _ in range(8):
                given = [put(journal, b"x") for _ in range(4)]
                for number in given:
                    journal.delete(BOB, "outbox", number)
                journal.commit()
                seen += given
            seen.append(put(journal, b"undone by a crash"))
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize(
    "harm", ["seq = 7", "seq = -7", "seq = 'x'", "seq = 1 << 60", "name = 'outcox'", "name = x'00'"]
)
def test_no_id_is_given_out_twice_although_the_row_that_counts_them_was_damaged(tmp_path: Path, harm: str) -> None:
    with opened(tmp_path) as journal:
        for _ in range(30_000):
            number = journal.new_number("outbox")
        put(journal, b"x")
        journal.commit()
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as database, database:
        assert database.execute(f"UPDATE sqlite_sequence SET {harm} WHERE name = 'outbox'").rowcount == 1
    with opened(tmp_path) as journal:
        for table in ("outbox", "inbox", "partial"):
            assert number < journal.new_number(table) < 1 << 53


def test_a_row_that_goes_before_it_was_committed_is_never_written(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        first, second, third = put(journal, b"1"), put(journal, b"2"), put(journal, b"3")
        journal.delete(BOB, "outbox", first)
        journal.commit()
        assert journal.outbox(BOB) == [(second, b"2"), (third, b"3")]
        journal.delete(BOB, "outbox", second)
        journal.commit()
        assert journal.outbox(BOB) == [(third, b"3")]
        written = Counter[str]()
        journal._database.set_trace_callback(lambda statement: written.update([statement.split()[0]]))
        journal.delete(BOB, "outbox", put(journal, b"4"))
        journal.keep(BOB, lambda: PeerRow("record", "{}", True))
        journal.commit()
        journal._database.set_trace_callback(None)
    assert written == {"BEGIN": 1, "INSERT": 1, "COMMIT": 1}


def test_a_peers_newest_state_takes_one_page_however_many_peers_there_are(tmp_path: Path) -> None:
    log = tmp_path / f"{FILE}-wal"
    with opened(tmp_path, sync_each=False) as journal:
        page = journal._database.execute("PRAGMA page_size").fetchone()[0]
        for last in range(20):
            journal.keep(f"B8:27:EB:00:00:{last:02X}", lambda: PeerRow("record of the first time", "{}", False))
        journal.commit()
        before = log.stat().st_size
        journal.keep(BOB, lambda: PeerRow("record of the second time", "{}", True))
        journal.commit()
        assert log.stat().st_size - before == page + WAL_FRAME_HEAD
        assert journal.peer(BOB) == PeerRow("record of the second time", "{}", True)


def test_what_waits_for_a_commit_is_called_once_after_it(tmp_path: Path) -> None:
    calls = []
    with opened(tmp_path) as journal:
        put(journal, b"x")
        journal.after_commit(BOB, lambda: calls.append(len(journal.outbox(BOB))))
        assert calls == []
        journal.commit()
        journal.commit()
    assert calls == [1]


def test_what_is_discarded_is_not_written_and_others_changes_are(tmp_path: Path) -> None:
    calls: list[str] = []
    with opened(tmp_path) as journal:
        put(journal, b"mine")
        journal.after_commit(BOB, lambda: calls.append("mine"))
        put(journal, b"other", "B8:27:EB:00:00:03")
        journal.discard(BOB)
        journal.commit()
        assert journal.outbox(BOB) == []
        assert len(journal.outbox("B8:27:EB:00:00:03")) == 1
    assert calls == []


def test_a_full_disk_takes_all_or_nothing_and_the_next_commit_takes_what_waited(tmp_path: Path) -> None:
    calls = []
    with opened(tmp_path) as journal:
        fill(journal)
        put(journal, b"small")
        put(journal, bytes(100_000))
        journal.after_commit(BOB, lambda: calls.append(1))
        with pytest.raises(JournalError, match="make room on it"):
            journal.commit()
        assert journal.trouble
        assert journal.outbox(BOB) == []
        make_room(journal)
        journal.commit()
        assert not journal.trouble
        assert calls == [1]
        assert [len(fragment) for _, fragment in journal.outbox(BOB)] == [5, 100_000]


def test_every_message_is_synced_and_in_every_w_what_asks_for_it(tmp_path: Path) -> None:
    """strace is not needed: SQLite says how it would commit."""

    def mode(journal: Journal) -> int:
        return int(journal._database.execute("PRAGMA synchronous").fetchone()[0])

    full, normal = 2, 1
    with opened(tmp_path / "each") as journal:
        assert mode(journal) == full
    with opened(tmp_path / "w", sync_each=False) as journal:
        assert mode(journal) == normal
        modes = []
        journal._database.set_trace_callback(lambda statement: modes.append(statement))
        put(journal, b"x")
        journal.commit()
        assert not [statement for statement in modes if "FULL" in statement]
        put(journal, b"x")
        journal.commit(sync=True)
        assert modes.index("PRAGMA synchronous = FULL") < modes.index("COMMIT", modes.index("COMMIT") + 1)
        journal._database.set_trace_callback(None)
        assert mode(journal) == normal


def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "state"
    with opened(directory) as journal:
        put(journal, b"x")
        journal.commit()
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}
    (directory / FILE).chmod(0o644)  # as after a restored copy
    with opened(directory):
        assert stat.S_IMODE((directory / FILE).stat().st_mode) == 0o600


def test_two_daemons_never_share_a_state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bt_selfsecure.node.journal.OPEN_S", 0.2)
    with opened(tmp_path), pytest.raises(JournalError, match="another node uses"):
        Journal(tmp_path, sync_each=True)
    with opened(tmp_path):
        pass


def test_a_killed_daemon_leaves_no_lock_and_all_that_it_committed(tmp_path: Path) -> None:
    program = (
        "import os, sys, signal; from pathlib import Path\n"
        "from bt_selfsecure.node.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]), sync_each=False)\n"
        f"journal.insert('{BOB}', 'outbox', '{BOB}', b'1'); journal.commit()\n"
        f"journal.insert('{BOB}', 'outbox', '{BOB}', b'2')\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, timeout=30)
    with opened(tmp_path) as journal:
        assert [fragment for _, fragment in journal.outbox(BOB)] == [b"1"]


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name not in ("lock", FILE + "-shm")}


def not_a_database(path: Path) -> None:
    path.write_bytes(b"These are not the keys that you are looking for.\n" * 100)


def another_programs(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE bookmark (url TEXT)")


def another_programs_in_use(path: Path) -> None:
    """With changes in its write-ahead log only."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE bookmark (url TEXT)")
        database.commit()
        for name in (FILE, FILE + "-wal"):
            shutil.copy(path.parent / name, path.parent / f"copy-of-{name}")
    for name in (FILE, FILE + "-wal"):
        (path.parent / f"copy-of-{name}").rename(path.parent / name)


def of_the_future(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript(FIXTURE.read_text())
        database.execute("PRAGMA user_version = 99")


def with_a_torn_page(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript(FIXTURE.read_text())
        database.executemany("INSERT INTO outbox VALUES (?, 'x', randomblob(3000))", [(i,) for i in range(1, 20)])
        database.commit()
    with path.open("r+b") as file:
        file.seek(4096 * 2)
        file.write(b"\xff" * 4096 * 3)


def cut_short(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript(FIXTURE.read_text())
    with path.open("r+b") as file:
        file.truncate(5000)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (not_a_database, "damaged or no journal"),
        (another_programs, "another program's"),
        (another_programs_in_use, "another program's"),
        (of_the_future, "newer version of this program"),
        (with_a_torn_page, "damaged"),
        (cut_short, "damaged"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_and_left_untouched(tmp_path: Path, make: object, words: str) -> None:
    path = tmp_path / FILE
    make(path)  # type: ignore[operator]
    path.chmod(0o640)
    before = contents(tmp_path)
    for _ in range(2):
        with pytest.raises(UsageError) as refusal:
            Journal(tmp_path, sync_each=True)
        assert words in str(refusal.value)
        assert str(path) in str(refusal.value)
        assert "\n" not in str(refusal.value)
    assert contents(tmp_path) == before
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def empty(path: Path) -> None:
    path.touch()


def of_20_bytes(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0\x10\0\1\1")


def without_tables(path: Path) -> None:
    """As an older version left it where the plug was pulled at the very start."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")


def with_some_tables(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript(f"CREATE TABLE peer (id); PRAGMA application_id = {APPLICATION_ID};")


@pytest.mark.parametrize("size", [1, 100, 511, 4096])
def test_a_file_of_noise_is_refused(tmp_path: Path, size: int) -> None:
    (tmp_path / FILE).write_bytes(b"\xa5" * size)
    with pytest.raises(UsageError):
        Journal(tmp_path, sync_each=True)
    assert (tmp_path / FILE).read_bytes() == b"\xa5" * size


def test_an_empty_file_beside_a_log_of_changes_is_damaged_and_the_log_stays(tmp_path: Path) -> None:
    with opened(tmp_path / "state", sync_each=True) as journal:
        put(journal, b"kept")
        journal.commit()
        shutil.copytree(tmp_path / "state", tmp_path / "copy")
    (tmp_path / "copy" / FILE).write_bytes(b"")
    before = contents(tmp_path / "copy")
    assert before[FILE + "-wal"]
    with pytest.raises(UsageError, match="is damaged"):
        Journal(tmp_path / "copy", sync_each=True)
    assert contents(tmp_path / "copy") == before


@pytest.mark.parametrize("make", [empty, of_20_bytes, without_tables, with_some_tables])
def test_a_file_without_our_tables_is_refused_and_never_made_new(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    """A beginning has its tables when it has its name, so the card has lost them."""
    make(tmp_path / FILE)
    before = (tmp_path / FILE).read_bytes()
    for _ in range(2):
        with pytest.raises(UsageError, match=r" damaged.*: .* state set-aside"):
            Journal(tmp_path, sync_each=True)
    assert (tmp_path / FILE).read_bytes() == before


def test_a_journal_on_a_disk_that_is_not_there_is_not_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / FILE).symlink_to(tmp_path / "stick" / FILE)
    for _ in range(2):
        with pytest.raises(UsageError, match=r"journal.db is gone: put it back; else .* state set-aside"):
            Journal(tmp_path / "state", sync_each=True)
    folder = set_aside(tmp_path / "state")
    assert folder
    assert (folder / FILE).readlink() == tmp_path / "stick" / FILE
    Journal(tmp_path / "state", sync_each=True).close()


@pytest.mark.parametrize("ended", ["in order", "by a pulled plug"])
@pytest.mark.parametrize("left", [(), (LOG,), (f"{FILE}-shm",), (LOG, f"{FILE}-shm")])
def test_a_state_that_is_gone_is_refused_until_it_is_set_aside(
    tmp_path: Path, ended: str, left: tuple[str, ...]
) -> None:
    """Whatever else of it is left, also where that is empty."""
    with opened(tmp_path / "running", sync_each=True) as journal:
        put(journal, b"kept")
        journal.commit()
        shutil.copytree(tmp_path / "running", tmp_path / "killed")
    directory = tmp_path / ("running" if ended == "in order" else "killed")
    for path in directory.iterdir():
        if path.name != LOCK:
            path.unlink()
    for name in left:
        (directory / name).touch()
    before = contents(directory)
    for _ in range(2):
        with pytest.raises(UsageError, match=r"journal\.db is gone.*: put it back; else .* state set-aside"):
            Journal(directory, sync_each=True)
    assert contents(directory) == before
    assert bool(set_aside(directory)) == bool(left)
    with pytest.raises(UsageError, match="there is no state"):
        set_aside(directory)
    with opened(directory) as journal:
        assert journal.notes == []


def test_a_log_that_a_command_or_the_end_has_taken_away_is_not_lost(tmp_path: Path) -> None:
    with opened(tmp_path / "running", sync_each=True) as journal:
        put(journal, b"kept")
        journal.commit()
        for name in ("killed", "restored", "kept"):
            shutil.copytree(tmp_path / "running", tmp_path / name)
    assert not has_lost_log(tmp_path / "killed")
    backup(tmp_path / "killed", tmp_path / "copy")
    assert not (tmp_path / "killed" / LOG).exists()
    restore(tmp_path / "copy", tmp_path / "restored")
    restore(set_aside(tmp_path / "kept"), tmp_path / "kept")
    for name in ("running", "killed", "restored", "kept"):
        with opened(tmp_path / name) as journal:
            assert journal.notes == []
            shutil.copytree(tmp_path / name, tmp_path / f"{name} again")
        set_aside(tmp_path / f"{name} again")
        with opened(tmp_path / f"{name} again") as journal:
            assert journal.notes == []


def test_whoever_copies_a_state_can_know_that_its_log_was_cut_back(tmp_path: Path) -> None:
    with opened(tmp_path / "state", sync_each=True) as journal:
        for _ in range(5):
            put(journal, b"kept")
            journal.commit()
        shutil.copytree(tmp_path / "state", tmp_path / "killed")
    log = tmp_path / "killed" / LOG
    log.write_bytes(log.read_bytes()[:-1])
    assert has_lost_log(tmp_path / "killed")
    assert not has_lost_log(tmp_path / "state"), "it ended in order"
    assert not has_lost_log(tmp_path / "nothing")


@pytest.mark.parametrize("number", range(3))
def test_an_older_journal_in_the_place_of_the_newest_is_told(tmp_path: Path, number: int) -> None:
    """As a card gives it that has not kept what it had taken, or a person. In a start that has ended in order nothing
    is missed."""
    for count in range(3):
        with opened(tmp_path / "state") as journal:
            assert journal.notes == []
            put(journal, b"kept")
            journal.commit()
            shutil.copytree(tmp_path / "state", tmp_path / f"killed in {count}")
    directory = tmp_path / "killed in 2"
    older = (tmp_path / f"killed in {number}" / FILE).read_bytes()
    for path in directory.glob(f"{FILE}*"):
        path.unlink()
    (directory / FILE).write_bytes(older)
    with opened(directory) as journal:
        assert len(journal.notes) == 1


def test_a_beginning_that_a_crash_interrupts_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(path: Path, target: Path) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crash)
        with pytest.raises(ZeroDivisionError):
            Journal(tmp_path, sync_each=True)
    assert not (tmp_path / FILE).exists()
    with opened(tmp_path) as journal:
        assert journal.addresses() == []


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match=r"can't use the state directory .*name another"):
        Journal(tmp_path / "file" / "state", sync_each=True)


@pytest.mark.parametrize("number", range(1, len(MIGRATIONS) + 1))
def test_a_journal_of_each_format_is_read(tmp_path: Path, number: int) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as database:
        database.executescript(FIXTURE.with_name(f"journal-{number}.sql").read_text())
    with opened(tmp_path) as journal:
        row = journal.peer(BOB)
        assert row
        assert SessionRecord.from_json(row.record).sending.messages == (b"\2in flight",)
        assert row.synchronised
        assert journal.outbox(BOB) == [(10002, b"\3abc"), (10003, b"\0def")]
        assert journal.partial(BOB) == [b"hel"]
        assert journal.inbox() == [(10001, BOB, 1, 1700000100.5, b"world")]
        assert journal.insert(BOB, "inbox", BOB, 1, 0.0, b"") > 10001
        groups = [(owner, record_of(text).name) for _, owner, text in journal.groups()]
        assert groups == ([("B8:27:EB:00:00:01", "lamps"), (BOB, "doors")] if number >= 3 else [])


def test_migrations_run_once_each_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as database:
        database.executescript(FIXTURE.read_text())
    monkeypatch.setattr(
        module,
        "MIGRATIONS",
        (*MIGRATIONS, "CREATE TABLE note (text TEXT);", "INSERT INTO note VALUES ('of format 4');"),
    )
    for _ in range(2):
        with opened(tmp_path) as journal:
            database = journal._database
            assert database.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 2,)
            assert database.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
            assert database.execute("SELECT text FROM note").fetchall() == [(b"of format 4",)]


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as database:
        database.executescript(FIXTURE.read_text())
    monkeypatch.setattr(module, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE news (a); INSERT INTO nowhere VALUES (1);"))
    with pytest.raises(JournalError, match="please report it"):
        Journal(tmp_path, sync_each=True)
    monkeypatch.undo()
    with opened(tmp_path) as journal:
        assert journal.inbox()
        assert journal._database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'news'").fetchone() == (0,)


def log_length(directory: Path) -> int:
    return (directory / LOG).stat().st_size


def commits(journal: Journal, count: int) -> None:
    for _ in range(count):
        journal.delete(BOB, "outbox", put(journal, b"secret " * 100))
        put(journal, b"secret")
        journal.commit()


def test_an_erased_log_with_room_for_more_does_not_grow_and_has_nothing_of_what_was_in_it(tmp_path: Path) -> None:
    with opened(tmp_path, sync_each=True) as journal:
        commits(journal, 20)
        room = round(2 * SPARE * log_length(tmp_path))
        assert journal.erase(room=2.0) == ""
        assert log_length(tmp_path) == room
        assert not any((tmp_path / LOG).read_bytes())
        commits(journal, 20)
        assert log_length(tmp_path) == room
        assert journal.erase(room=1000.0) == ""
        assert log_length(tmp_path) == MOST_ROOM_BYTES
        assert journal.erase() == ""
        assert log_length(tmp_path) == 0


def test_a_disk_that_does_not_tell_what_is_free_keeps_nothing_from_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(place: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with opened(tmp_path) as journal:
        row = put(journal, b"1")
        journal.commit()
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "disk_usage", fails)
            assert "the disk does not work (an I/O error)" in journal.erase()
        assert journal.erase() == ""
        assert [number for number, _ in journal.outbox(BOB)] == [row]


def test_the_log_gets_room_for_what_was_written_since_the_last_time_and_keeps_none_of_a_longer_time(
    tmp_path: Path,
) -> None:
    with opened(tmp_path, sync_each=True) as journal:
        lengths = []
        for count in (20, 60, 20, 20):
            commits(journal, count)
            assert journal.erase(room=1.0) == ""
            lengths.append(log_length(tmp_path))
        first, longest, *after = lengths
        assert longest > 2 * first
        assert all(abs(length - first) < first / 4 for length in after)
        assert journal.erase(room=1.0) == ""  # nothing was written
        assert log_length(tmp_path) == 0


def test_what_another_program_writes_while_the_log_gets_room_is_not_overwritten(tmp_path: Path) -> None:
    with opened(tmp_path, sync_each=True) as journal, contextlib.closing(sqlite3.connect(tmp_path / FILE)) as other:
        put(journal, b"1")
        journal.commit()

        def write(statement: str) -> None:
            if statement == "BEGIN IMMEDIATE":
                with other:
                    other.execute("PRAGMA user_version = 99")

        journal._database.set_trace_callback(write)
        assert journal.erase(room=2.0) == ""
        journal._database.set_trace_callback(None)
        shutil.copytree(tmp_path, tmp_path / "killed")
    with contextlib.closing(sqlite3.connect(tmp_path / "killed" / FILE)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (99,)


@pytest.mark.parametrize("room", [0.0, 2.0])
@pytest.mark.parametrize("step", ["marked", "written anew", "truncated", "committed"])
def test_a_crash_at_any_step_of_erasing_loses_nothing_and_is_not_taken_for_a_lost_log(
    tmp_path: Path, step: str, room: float
) -> None:
    state, killed = tmp_path / "state", tmp_path / "killed"

    def look(word: str, statement: str) -> None:
        if statement.startswith(word) and not killed.exists():
            shutil.copytree(state, killed)

    words = {"marked": "VACUUM", "written anew": "PRAGMA wal_checkpoint"}
    with opened(state, sync_each=True) as journal:
        rows = [put(journal, b"%d " % number * 1000) for number in range(40)]
        journal.commit()
        for row in rows[:30]:
            journal.delete(BOB, "outbox", row)
        journal.commit()
        if word := words.get(step):
            journal._database.set_trace_callback(partial(look, word))
        assert journal.erase(1000, room=room) == ""
        journal._database.set_trace_callback(None)
        if step == "committed":
            rows.append(put(journal, b"after"))
            journal.commit()
        if not killed.exists():
            shutil.copytree(state, killed)
    assert (step == "truncated") is not any((killed / LOG).read_bytes())
    with opened(killed) as journal:
        assert journal.notes == []
        assert [number for number, _ in journal.outbox(BOB)] == rows[30:]
        put(journal, b"more")
        journal.commit()
        shutil.copytree(killed, tmp_path / "again")
    (tmp_path / "again" / LOG).write_bytes(b"")
    with opened(tmp_path / "again") as journal:
        assert len(journal.notes) == 1, "that is a lost log"
