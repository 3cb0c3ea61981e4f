"""The lock file tells what the state beside it has lost: a log, or all that is newer than an older file there."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from amounts import at_length

from bt_selfsecure.errors import UsageError
from bt_selfsecure.node import journal_file
from bt_selfsecure.node.journal import Journal
from bt_selfsecure.node.journal_file import JournalError
from bt_selfsecure.node.journal_mark import CLOSED, IN_USE, LOCK, LOST, SETTLED, Mark, mark, mark_beside, marked
from bt_selfsecure.node.row_numbers import reserved_in_file
from bt_selfsecure.node.set_aside import FILE, LOG
from bt_selfsecure.node.state import backup, has_lost_log, restore, set_aside

BOB = "B8:27:EB:00:00:02"
INDEX = f"{FILE}-shm"


@contextlib.contextmanager
def opened(directory: Path, *, sync_each: bool = True) -> Iterator[Journal]:
    with contextlib.closing(Journal(directory, sync_each=sync_each)) as journal:
        yield journal


def put(journal: Journal, *, sync: bool = False) -> None:
    journal.insert(BOB, "outbox", BOB, bytes(900))
    journal.commit(sync=sync)


def killed_after_it_was_settled(directory: Path, *, sync_each: bool = True) -> Path:
    """Half of the messages stand in the log alone, and no number of a row was reserved with them."""
    with opened(directory / "running", sync_each=sync_each) as journal:
        for _ in range(5):
            put(journal)
        assert journal.erase(10) == ""
        for number in range(5):
            put(journal, sync=number == 2)
        shutil.copytree(directory / "running", directory / "killed")
    return directory / "killed"


def notes_of(directory: Path, *, sync_each: bool = True) -> list[str]:
    with opened(directory, sync_each=sync_each) as journal:
        return list(journal.notes)


@pytest.mark.parametrize("sync_each", [True, False])
def test_a_log_that_is_gone_with_its_index_is_told_also_where_it_had_begun_anew(
    tmp_path: Path, sync_each: bool
) -> None:
    directory = killed_after_it_was_settled(tmp_path, sync_each=sync_each)
    (directory / LOG).unlink()
    (directory / INDEX).unlink()
    assert len(notes_of(directory, sync_each=sync_each)) == 1
    assert notes_of(directory, sync_each=sync_each) == []


@pytest.mark.parametrize("place", [16, 17])
def test_a_log_with_both_salts_damaged_is_not_taken_for_a_new_one(tmp_path: Path, place: int) -> None:
    directory = killed_after_it_was_settled(tmp_path)
    log = (directory / LOG).read_bytes()
    (directory / LOG).write_bytes(log[:place] + b"\xff" * 300 + log[place + 300 :])
    assert len(notes_of(directory)) == 1


@pytest.mark.parametrize("ended", ["killed", "settled", "closed"])
def test_an_older_log_in_the_place_of_the_newest_is_told(tmp_path: Path, ended: str) -> None:
    """Each part of it fits, and SQLite takes it for the newest state."""
    with opened(tmp_path / "running") as journal:
        for _ in range(3):
            put(journal)
        assert journal.erase(10) == ""
        for _ in range(9):
            put(journal)
        older = (tmp_path / "running" / LOG).read_bytes()
        assert journal.erase(10) == ""
        for _ in range(3):
            put(journal)
        if ended == "settled":
            assert journal.erase(10) == ""
        shutil.copytree(tmp_path / "running", tmp_path / "killed")
    directory = tmp_path / ("running" if ended == "closed" else "killed")
    (directory / LOG).write_bytes(older)
    assert any("what the node kept last is gone" in note for note in notes_of(directory))


def test_an_older_journal_beside_the_newest_log_is_told(tmp_path: Path) -> None:
    """Where the log does not cover them its pages are of another time."""
    with opened(tmp_path / "running") as journal:
        for number in range(3):
            put(journal)
            assert journal.erase(10) == ""
            if number == 1:
                older = (tmp_path / "running" / FILE).read_bytes()
        put(journal)
        shutil.copytree(tmp_path / "running", tmp_path / "killed")
    (tmp_path / "killed" / FILE).write_bytes(older)
    for name in ("looked at", "put back"):
        shutil.copytree(tmp_path / "killed", tmp_path / name)
    assert has_lost_log(tmp_path / "looked at")
    folder = set_aside(tmp_path / "put back")
    assert folder
    assert restore(folder, tmp_path / "new").has_lost_log
    assert len(notes_of(tmp_path / "killed")) == 1
    assert notes_of(tmp_path / "killed") == []


@pytest.mark.parametrize("pages_to_write", [0, 1000])
def test_a_crash_while_the_log_is_copied_to_the_journal_is_told_as_no_loss(tmp_path: Path, pages_to_write: int) -> None:
    """Also where what the log has is the journal written anew, with each table in another place."""
    running, killed = tmp_path / "running", tmp_path / "killed"

    def look(statement: str) -> None:
        if statement.startswith("PRAGMA wal_checkpoint"):
            shutil.copytree(running, killed)

    with opened(running) as journal:
        put(journal)
        assert journal.erase(10) == ""
        journal.write(BOB, "CREATE TABLE later (id INTEGER PRIMARY KEY, text TEXT)")
        journal.write(BOB, "DROP TABLE group_state")
        for _ in range(20):
            put(journal)
        journal._database.set_trace_callback(look)
        assert journal.erase(pages_to_write) == ""
        journal._database.set_trace_callback(None)
        newer = (running / FILE).read_bytes()
    older = (killed / FILE).read_bytes()
    for at in range(0, len(newer) + 1, 4096):
        for data in (newer[:at] + older[at:], older[:at] + newer[at:]):
            (killed / FILE).write_bytes(data)
            shutil.copytree(killed, tmp_path / "begun")
            before = mark_beside(tmp_path / "begun" / FILE)
            assert before.in_file > 0
            assert (reserved_in_file(tmp_path / "begun" / FILE) or before.in_file) >= before.in_file
            shutil.rmtree(tmp_path / "begun")


def test_a_schema_that_is_no_text_any_more_is_damage_and_nothing_else(tmp_path: Path) -> None:
    """Python's sqlite3 raises another error than SQLite's where it can't decode what SQLite says of it."""
    directory = killed_after_it_was_settled(tmp_path)
    data = (directory / FILE).read_bytes()
    place = data.index(b"CREATE TABLE sqlite_sequence")
    for at in range(place - 40, place + 40):
        (directory / FILE).write_bytes(data[:at] + b"\xff" * 9 + data[at + 9 :])
        assert reserved_in_file(directory / FILE) in (None, 20_000)


def test_an_older_journal_in_the_place_of_one_of_a_node_that_ended_in_order_is_told(tmp_path: Path) -> None:
    with opened(tmp_path / "state") as journal:
        put(journal)
    older = (tmp_path / "state" / FILE).read_bytes()
    with opened(tmp_path / "state") as journal:
        put(journal)
        numbers = [journal.new_number("inbox") for _ in range(3)]
    (tmp_path / "state" / FILE).write_bytes(older)
    with opened(tmp_path / "state") as journal:
        assert len(journal.notes) == 1
        assert len(journal.outbox(BOB)) == 1
        assert journal.new_number("inbox") > max(numbers)
    assert notes_of(tmp_path / "state") == []


def test_a_restored_state_gives_out_no_number_of_a_row_again(tmp_path: Path) -> None:
    with opened(tmp_path / "state") as journal:
        put(journal)
        backup(tmp_path / "state", tmp_path / "copy")
    for _ in range(2):
        with opened(tmp_path / "state") as journal:
            numbers = [journal.new_number("inbox") for _ in range(3)]
    restore(tmp_path / "copy", tmp_path / "state")
    with opened(tmp_path / "state") as journal:
        assert journal.notes == []
        assert journal.new_number("inbox") > max(numbers)


def test_what_a_restore_that_was_cut_short_puts_there_is_not_called_older(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        with opened(tmp_path / "state") as journal:
            put(journal)
            if not (tmp_path / "copy").exists():
                backup(tmp_path / "state", tmp_path / "copy")

    def crash(directory: Path) -> None:
        if (directory / f"{FILE}.new").exists():
            raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr("bt_selfsecure.node.set_aside.put_in_place", crash)
        with pytest.raises(ZeroDivisionError):
            restore(tmp_path / "copy", tmp_path / "state")
    with opened(tmp_path / "state") as journal:
        assert (journal.notes, len(journal.outbox(BOB))) == ([], 1)


def test_a_commit_that_a_loss_of_power_may_undo_as_agreed_on_is_not_called_lost(tmp_path: Path) -> None:
    """With an index of before, which nothing brings to the disk at once."""
    indexes: list[bytes] = []
    running, killed = tmp_path / "running", tmp_path / "killed"
    with opened(running, sync_each=False) as journal:
        synced = b""
        for number in range(24):
            put(journal, sync=number % 8 == 6)
            indexes.append((running / INDEX).read_bytes())
            if number % 8 == 6:
                synced = (running / LOG).read_bytes()
            if number % 8 == 3:
                assert journal.erase(10, room=2.0 * (number > 8)) == ""
                synced = (running / LOG).read_bytes()
                assert not any(synced)
            for index in indexes:
                shutil.copytree(running, killed)
                (killed / LOG).write_bytes(synced)
                (killed / INDEX).write_bytes(index)
                assert number < 3 or notes_of(killed, sync_each=False) == []
                shutil.rmtree(killed)


def test_of_a_log_that_stands_in_the_journal_in_part_what_was_synced_is_missed(tmp_path: Path) -> None:
    """Else older pages would cover newer ones."""
    with opened(tmp_path / "running", sync_each=False) as journal:
        for _ in range(10):
            put(journal)
        with contextlib.closing(sqlite3.connect(tmp_path / "running" / FILE)) as other:
            other.execute("PRAGMA wal_checkpoint(PASSIVE)")
        shutil.copytree(tmp_path / "running", tmp_path / "killed")
    log = (tmp_path / "killed" / LOG).read_bytes()
    for length in range(32, len(log) - 100, 24 + 4096):
        shutil.copytree(tmp_path / "killed", tmp_path / "cut")
        (tmp_path / "cut" / LOG).write_bytes(log[:length])
        assert bool(notes_of(tmp_path / "cut", sync_each=False)) is (length > 32), length
        shutil.rmtree(tmp_path / "cut")


def test_a_loss_is_told_by_the_first_start_that_comes_to_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever looks at the log after that of which the index knew makes a new index."""
    directory = killed_after_it_was_settled(tmp_path)
    log = (directory / LOG).read_bytes()
    (directory / LOG).write_bytes(log[: len(log) - 100])

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(journal_file, "_allocate_index", full)
        for _ in range(2):
            with pytest.raises(JournalError, match="disk is full"):
                Journal(directory, sync_each=True)
    assert len(notes_of(directory)) == 1
    assert notes_of(directory) == []


def test_a_folder_that_was_set_aside_still_tells_that_its_log_was_cut_back(tmp_path: Path) -> None:
    directory = killed_after_it_was_settled(tmp_path)
    shutil.copytree(directory, tmp_path / "whole")
    log = (directory / LOG).read_bytes()
    (directory / LOG).write_bytes(log[: len(log) - 100])
    for state, has_lost in ((directory, True), (tmp_path / "whole", False)):
        folder = set_aside(state)
        assert folder
        for _ in range(2):
            assert restore(folder, state).has_lost_log is has_lost
            assert notes_of(state) == []


@pytest.mark.parametrize("step", [7, at_length(1)])
def test_a_damaged_bit_of_the_mark_is_not_told_as_a_loss(tmp_path: Path, step: int) -> None:
    directory = killed_after_it_was_settled(tmp_path)
    content = (directory / LOCK).read_bytes()
    for bit in range(8 * len(content))[::step]:
        shutil.copytree(directory, tmp_path / "harmed")
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        (tmp_path / "harmed" / LOCK).write_bytes(damaged)
        assert mark_beside(tmp_path / "harmed" / FILE) == Mark()
        assert notes_of(tmp_path / "harmed") == []
        shutil.rmtree(tmp_path / "harmed")


@pytest.mark.parametrize("word", ["in use", "settled"])
def test_the_mark_of_an_older_version_is_read(tmp_path: Path, word: str) -> None:
    directory = killed_after_it_was_settled(tmp_path)
    (directory / LOCK).write_bytes(b"%s 20000" % word.encode())
    assert mark_beside(directory / FILE) == Mark(word, 20_000)
    assert notes_of(directory) == []


def test_a_crash_while_the_mark_is_written_leaves_one_of_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    monkeypatch.setattr("os.ftruncate", lambda descriptor, length: lengths.append(length))
    with journal_file.locked(tmp_path) as lock:
        for word, numbers in ((SETTLED, 20_001), (IN_USE, 7), (CLOSED, 0), (LOST, 40_000)):
            mark(lock, word, numbers)
            assert marked(lock) == Mark(word, numbers)
    assert len(set(lengths)) == 1


@pytest.mark.parametrize(
    "content", [b"\xff" * 4096, b"in use", b"in use 99\n", b"closed -1", b"\0" * 12, "in use ٣".encode()]
)
def test_a_damaged_mark_is_no_reason_not_to_begin(tmp_path: Path, content: bytes) -> None:
    directory = killed_after_it_was_settled(tmp_path)
    (directory / LOCK).write_bytes(content)
    assert not has_lost_log(directory)
    assert notes_of(directory) == []
    for name in (FILE, LOG, INDEX):
        (directory / name).unlink(missing_ok=True)
    (directory / LOCK).write_bytes(content)
    with pytest.raises(UsageError, match="is gone"):
        Journal(directory, sync_each=True)
