"""A journal of which the disk has lost a page: what can be read is in use, the rest is told and kept aside, and no
message comes in another form."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from amounts import at_length
from test_damage import BOB, CAROL, DAVE, messages_of

from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.haoxiao.kept import stored_messages
from bt_selfsecure.node.journal import DamagedError, Journal, PeerRow
from bt_selfsecure.node.journal_file import address_number
from bt_selfsecure.node.journal_log import NO_SALTS, Logged, logged
from bt_selfsecure.node.journal_schema import MIGRATIONS
from bt_selfsecure.node.messages import split
from bt_selfsecure.node.salvage import LOST, salvage
from bt_selfsecure.node.set_aside import FILE, LOG
from bt_selfsecure.node.state import backup, restore

PAGE = 4096
INNER, LEAF = 5, 13
"""First octet of such a page (sqlite.org/fileformat2.html, 1.6)."""
RECORDS = {BOB: f"record {'of bob ' * 1500}", CAROL: f"record {'of carol ' * 100}"}
"""The first one's goes on in pages of its own."""
GROUPS = {2: (BOB, "group of bob"), 4: (CAROL, "group of carol")}
LONG = [b"%d " % number * 2000 for number in range(6)]
"""Of many fragments each: several leaves, and not all in one."""
KINDS: dict[str, Callable[[bytes], bytes]] = {
    "zeros": lambda page: bytes(len(page)),
    "ones": lambda page: b"\xff" * len(page),
    "a sector of zeros": lambda page: page[:1024] + bytes(512) + page[1536:],
    "the first sector of zeros": lambda page: bytes(512) + page[512:],
    "the last sector of ones": lambda page: page[:-512] + b"\xff" * 512,
    "a flipped bit": lambda page: bytes([page[0] ^ 1]) + page[1:],
    "its neighbour": lambda page: page[PAGE // 2 :] + page[: PAGE // 2],
}


def filled(directory: Path) -> None:
    """One file, without a WAL."""
    journal = Journal(directory, sync_each=True)
    for address, record in RECORDS.items():
        journal.keep(address, lambda record=record: PeerRow(record, '{"key": {}}', True))
    for message in LONG:
        for address in (BOB, CAROL):
            for fragment in split(message, 0, 900):
                journal.insert(address, "outbox", address, fragment)
            journal.insert(address, "inbox", address, 1, 1.5, message)
    for piece in LONG[:3]:
        journal.insert(BOB, "partial", BOB, piece)
    for number, (owner, record) in GROUPS.items():
        journal.replace("group_state", number, owner, record)
    journal.commit()
    journal.close()
    assert sorted(path.name for path in directory.iterdir()) == [FILE, "lock"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "state"
    filled(folder)
    return folder


def pages(directory: Path) -> int:
    return (directory / FILE).stat().st_size // PAGE


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def last_leaf(directory: Path) -> int:
    """The number of the last page with rows of a table, from 0."""
    data = (directory / FILE).read_bytes()
    return max(number for number in range(1, pages(directory)) if data[number * PAGE] == LEAF)


def damage_page(directory: Path, number: int, kind: str) -> bytes:
    """Of the page with this number, from 0; the file as it is then."""
    data = bytearray((directory / FILE).read_bytes())
    at = slice(number * PAGE, (number + 1) * PAGE)
    data[at] = KINDS[kind](bytes(data[at]))
    (directory / FILE).write_bytes(data)
    return bytes(data)


def judge(directory: Path, damaged: bytes) -> bool:
    """What a node makes of the state; whether it could begin. Fails where it says nothing, or something is made up."""
    try:
        journal = Journal(directory, sync_each=True)
    except UsageError as error:
        said = str(error)
    else:
        said = ""
    if said:
        assert "damaged" in said
        assert "state set-aside" in said
        assert (directory / FILE).read_bytes() == damaged
        return False
    with contextlib.closing(journal):
        notes = list(journal.notes)
        lost, told = 0, bool(notes or journal.damaged)
        for address, record in RECORDS.items():
            try:
                row = journal.peer(address)
            except DamagedError:
                row, told = None, True
            assert row in (None, PeerRow(record, '{"key": {}}', True))
            lost += row is None
            to_send = messages_of(stored_messages(journal, address)[0])
            came = [message for _, peer, _, _, message in journal.inbox() if peer == address]
            for found in (to_send, came):
                assert found == [message for message in LONG if message in found]
                lost += len(LONG) - len(found)
        pieces = journal.partial(BOB)
        assert pieces in ([], LONG[:3])
        lost += not pieces
        assert set(journal.groups()) <= {(number, *group) for number, group in GROUPS.items()}
        assert told or not lost
        for note in notes:
            (folder,) = directory.glob("set-aside-*")
            assert str(folder) in note
            assert (folder / FILE).read_bytes() == damaged
        newest = max(journal.insert(BOB, "outbox", BOB, b"\2"), journal.insert(BOB, "inbox", BOB, 1, 1.5, b""))
        assert newest < 1 << 53
        assert journal.insert(BOB, "outbox", BOB, b"\2") > 20000
        journal.commit()
    with contextlib.closing(Journal(directory, sync_each=True)) as journal:
        assert journal.notes == []
        assert journal.damaged == []
    return True


@pytest.mark.parametrize(
    "kind",
    [kind if kind in {"zeros", "a flipped bit"} else at_length(kind) for kind in KINDS],
)
def test_of_a_damaged_page_every_other_row_is_in_use_and_nothing_is_made_up(
    whole: Path, tmp_path: Path, kind: str
) -> None:
    begun = 0
    for number in range(pages(whole)):
        directory = tmp_path / str(number)
        shutil.copytree(whole, directory)
        begun += judge(directory, damage_page(directory, number, kind))
    assert begun >= pages(whole) - 2, "only the first page, which tells what is where, is more than its rows' trouble"


@pytest.mark.parametrize("step", [101, at_length(3)])
def test_a_bit_of_what_is_where_may_cost_all_and_makes_nothing_up(whole: Path, tmp_path: Path, step: int) -> None:
    """Of the first page: the file's header, and how each table is declared and where it begins."""
    data = (whole / FILE).read_bytes()
    words = (b"outbox", b"group_state (", b"REATE TABLE peer", b"ragment", b"x'') STRICT")
    told = [18, 19, 47, *map(data.index, words)]
    bits = {8 * place + bit for place in told for bit in range(8)}
    bits |= set([bit for bit in range(8 * PAGE) if bit < 800 or data[bit // 8]][::step])
    for bit in sorted(bits - set(range(8 * 60, 8 * 64))):  # there stands the format, of which there may be newer ones
        directory = tmp_path / str(bit)
        shutil.copytree(whole, directory)
        damaged = flipped(data, bit)
        (directory / FILE).write_bytes(damaged)
        with contextlib.suppress(UsageError):
            backup(directory, tmp_path / f"copy {bit}")
        judge(directory, damaged)
        shutil.rmtree(directory)


def heads_of_rows(data: bytes) -> list[int]:
    """Where the first and the last row of each leaf begin, up to its values: lengths, number, types."""
    places = []
    for page in range(PAGE, len(data), PAGE):
        rows, begins = int.from_bytes(data[page + 3 : page + 5]), page + 8
        if data[page] == LEAF and rows:
            for row in {0, rows - 1}:
                at = page + int.from_bytes(data[begins + 2 * row :][:2])
                places += range(at, at + 14)
    return places


@pytest.mark.parametrize("step", [67, at_length(1)])
def test_a_bit_in_the_head_of_a_row_makes_nothing_up_and_gives_no_number_twice(
    whole: Path, tmp_path: Path, step: int
) -> None:
    data = (whole / FILE).read_bytes()
    for bit in [8 * place + bit for place in heads_of_rows(data) for bit in range(8)][::step]:
        directory = tmp_path / str(bit)
        shutil.copytree(whole, directory)
        damaged = flipped(data, bit)
        (directory / FILE).write_bytes(damaged)
        with contextlib.suppress(UsageError):
            restore(directory, tmp_path / f"restored {bit}")
        judge(directory, damaged)
        shutil.rmtree(directory)


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("peer", "record"),
        ("peer", "facts"),
        *((table, "peer") for table in LOST if table != "peer"),
        ("outbox", "fragment"),
    ],
)
def test_text_that_reads_as_bytes_or_bytes_as_text_is_as_it_was(
    whole: Path, tmp_path: Path, table: str, column: str
) -> None:
    """One bit of a row's head tells them apart; here of all rows."""
    shutil.copytree(whole, tmp_path / "state")
    with contextlib.closing(sqlite3.connect(tmp_path / "state" / FILE)) as database, database:
        database.execute("PRAGMA writable_schema = ON")
        declared = "UPDATE sqlite_master SET sql = replace(sql, ') STRICT', ')') WHERE name = ?"
        database.execute(declared, (table,))
        version = database.execute("PRAGMA schema_version").fetchone()[0]
        database.execute(f"PRAGMA schema_version = {version + 1}")
    kind = "TEXT" if column == "message" else "BLOB"
    with contextlib.closing(sqlite3.connect(tmp_path / "state" / FILE)) as database, database:
        database.text_factory = bytes
        assert database.execute(f"UPDATE {table} SET {column} = CAST({column} AS {kind})").rowcount > 1
    with contextlib.closing(sqlite3.connect(tmp_path / "state" / FILE)) as database, database:
        database.execute("PRAGMA writable_schema = ON")
        database.execute("UPDATE sqlite_master SET sql = sql || ' STRICT' WHERE name = ?", (table,))
    restore(tmp_path / "state", tmp_path / "restored")
    for directory in (tmp_path / "restored", tmp_path / "state"):
        with contextlib.closing(Journal(directory, sync_each=True)) as journal:
            assert (journal.notes, journal.damaged) == ([], [])
            assert set(journal.groups()) == {(number, *group) for number, group in GROUPS.items()}
            assert journal.partial(BOB) == LONG[:3]
            for address in RECORDS:
                assert journal.peer(address) is not None
                assert messages_of(stored_messages(journal, address)[0]) == LONG


@pytest.mark.parametrize("taken", LOST)
@pytest.mark.parametrize("taker", LOST)
def test_a_table_that_begins_where_another_does_takes_over_none_of_its_rows(
    whole: Path, tmp_path: Path, taker: str, taken: str
) -> None:
    if taker == taken:
        return
    directory = tmp_path / "state"
    shutil.copytree(whole, directory)
    with contextlib.closing(sqlite3.connect(directory / FILE)) as database, database:
        database.execute("PRAGMA writable_schema = ON")
        begins = "(SELECT rootpage FROM sqlite_master WHERE name = ?)"
        database.execute(f"UPDATE sqlite_master SET rootpage = {begins} WHERE name = ?", (taken, taker))
    assert judge(directory, (directory / FILE).read_bytes())


def half_received(whole: Path, directory: Path, count: int) -> tuple[list[bytes], bytes]:
    """A state with a message of Bob's of so many pieces, and its file."""
    pieces = [b"%d" % number * 700 for number in range(count)]
    shutil.copytree(whole, directory)
    with contextlib.closing(Journal(directory, sync_each=True)) as journal:
        journal.write(BOB, "DELETE FROM partial")
        for piece in pieces:
            journal.insert(BOB, "partial", BOB, piece)
        journal.commit()
    return pieces, (directory / FILE).read_bytes()


def test_a_bit_of_where_a_table_goes_on_makes_no_message_of_the_parts_that_are_left(
    whole: Path, tmp_path: Path
) -> None:
    """Of the inner pages of tables: a leaf is then left out, or another one is there twice, and its rows fit."""
    pieces, data = half_received(whole, tmp_path / "parts", 30)
    places = [
        at + place
        for at in range(PAGE, len(data), PAGE)
        if data[at] == INNER
        for place in (11, *(int.from_bytes(data[at + cell : at + cell + 2]) + 3 for cell in range(12, 60, 2)))
        if place < PAGE
    ]
    assert len(places) > 20
    for place in sorted(set(places)):
        for bit in range(6):
            directory = tmp_path / f"{place}.{bit}"
            shutil.copytree(tmp_path / "parts", directory)
            (directory / FILE).write_bytes(flipped(data, 8 * place + bit))
            with contextlib.closing(Journal(directory, sync_each=True)) as journal:
                for address in RECORDS:
                    assert set(messages_of(stored_messages(journal, address)[0])) <= set(LONG)
                assert journal.partial(BOB) in ([], pieces)
            shutil.rmtree(directory)


@pytest.mark.parametrize("step", [5, at_length(1)])
def test_a_bit_of_which_rows_a_page_has_makes_no_message_of_the_parts_that_are_left(
    whole: Path, tmp_path: Path, step: int
) -> None:
    """How many there are, and where each of them begins: a row is then left out without a gap, or is there twice."""
    pieces, data = half_received(whole, tmp_path / "parts", 8)
    places = {3, 4} | {8 + place for place in range(10)}
    leaves = {data.index(piece) // PAGE * PAGE for piece in pieces}
    bits = [8 * (at + place) + bit for at in sorted(leaves) for place in sorted(places) for bit in range(8)]
    assert all(data[at] == LEAF for at in leaves)
    for number in bits[::step]:
        directory = tmp_path / str(number)
        shutil.copytree(tmp_path / "parts", directory)
        damaged = flipped(data, number)
        (directory / FILE).write_bytes(damaged)
        with contextlib.closing(Journal(directory, sync_each=True)) as journal:
            assert journal.partial(BOB) == pieces or (journal.notes and not journal.partial(BOB))
        shutil.rmtree(directory)


@pytest.mark.parametrize("number", range(2, len(MIGRATIONS) + 1))
def test_a_damaged_journal_of_each_format_with_digests_gives_what_it_has(tmp_path: Path, number: int) -> None:
    fixture = Path(__file__).parent / "fixtures" / f"journal-{number}.sql"
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as database:
        database.executescript(fixture.read_text())
        database.execute("PRAGMA application_id = 1")
    with contextlib.closing(Journal(tmp_path, sync_each=True)) as journal:
        assert len(journal.notes) == 1
        assert journal.damaged == []
        assert journal.peer(BOB)
        assert journal.outbox(BOB) == [(10002, b"\3abc"), (10003, b"\0def")]
        assert journal.partial(BOB) == [b"hel"]
        assert [message for *_, message in journal.inbox()] == [b"world"]
        assert len(journal.groups()) == (2 if number >= 3 else 0)


@pytest.mark.parametrize("damaged", RECORDS, ids=["the first row", "the last row"])
@pytest.mark.parametrize("fault", ["a bit", "ones", "zeros"])
def test_a_damaged_address_in_the_page_is_told_of_the_peer_whose_it_was_and_of_nobody_else(
    whole: Path, tmp_path: Path, damaged: str, fault: str
) -> None:
    """Each bit of the number, and each byte: the row is then another's, stands in the wrong order, or begins where it
    does not."""
    place, length = varint_of(whole, damaged)
    (other,) = RECORDS.keys() - {damaged}
    for at in range(length * (8 if fault == "a bit" else 1)):
        directory = tmp_path / str(at)
        shutil.copytree(whole, directory)
        data = bytearray((directory / FILE).read_bytes())
        if fault == "a bit":
            data[place + at // 8] ^= 1 << at % 8
        else:
            data[place + at] = 0xFF if fault == "ones" else 0
        (directory / FILE).write_bytes(data)
        with contextlib.closing(Journal(directory, sync_each=True, peers=(*RECORDS, DAVE))) as journal:
            assert journal.peer(other) == PeerRow(RECORDS[other], '{"key": {}}', True), at
            assert {row.peer for row in journal.damaged if row.table == "peer"} <= {damaged, ""}, at
            with pytest.raises(DamagedError):
                journal.peer(damaged)
            if fault == "a bit" and at % 8 < 7:  # the eighth bit says how many bytes the number has
                assert journal.peer(DAVE) is None, at


def varint_of(directory: Path, address: str) -> tuple[int, int]:
    """Where the number of this peer's row stands in the file, and of how many bytes it is
    (sqlite.org/fileformat2.html, 2.1)."""
    number, data = address_number(address), (directory / FILE).read_bytes()
    assert number
    groups = [number >> 7 * place & 127 for place in reversed(range((number.bit_length() + 6) // 7))]
    coded = bytes([*(group | 128 for group in groups[:-1]), groups[-1]])
    assert data.count(coded) == 1
    return data.index(coded), len(coded)


@pytest.mark.parametrize("bytes_off", [1, PAGE, 5 * PAGE])
def test_a_file_that_was_cut_short_gives_what_it_has(whole: Path, tmp_path: Path, bytes_off: int) -> None:
    directory = tmp_path / "state"
    shutil.copytree(whole, directory)
    damaged = (directory / FILE).read_bytes()[:-bytes_off]
    (directory / FILE).write_bytes(damaged)
    assert judge(directory, damaged)


def test_most_of_it_is_served_where_one_leaf_of_a_queue_is_gone(whole: Path, tmp_path: Path) -> None:
    """A hole in the middle costs the messages that reach into it, on both sides, and no other."""
    directory = tmp_path / "state"
    shutil.copytree(whole, directory)
    data = (directory / FILE).read_bytes()
    fragment = list(split(LONG[3], 0, 900))[2]
    damage_page(directory, data.index(fragment) // PAGE, "zeros")
    with contextlib.closing(Journal(directory, sync_each=True)) as journal:
        assert all(journal.peer(address) for address in RECORDS)
        found = {address: messages_of(stored_messages(journal, address)[0]) for address in RECORDS}
        assert sum(map(len, found.values())) >= 2 * len(LONG) - 3
        assert LONG[3] not in found[BOB]
        assert LONG[0] in found[BOB]
        assert LONG[5] in found[CAROL]
        assert len(journal.inbox()) == 2 * len(LONG)


def test_where_no_number_is_known_the_next_are_beyond_all_that_were_given_out(whole: Path, tmp_path: Path) -> None:
    directory = tmp_path / "state"
    shutil.copytree(whole, directory)
    with contextlib.closing(sqlite3.connect(directory / FILE)) as database, database:
        root = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_sequence'").fetchone()[0]
        (given,) = database.execute("SELECT max(seq) FROM sqlite_sequence").fetchone()
    damage_page(directory, root - 1, "zeros")
    with contextlib.closing(Journal(directory, sync_each=True)) as journal:
        assert journal.insert(BOB, "inbox", BOB, 1, 1.5, b"") > given
        assert len(journal.inbox()) == 2 * len(LONG)


@pytest.mark.parametrize("last", ["part", "new", "moved", "all"])
def test_a_crash_at_any_step_of_it_loses_nothing(
    whole: Path, tmp_path: Path, last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "state"
    shutil.copytree(whole, directory)
    damaged = damage_page(directory, last_leaf(whole), "zeros")
    steps = {"part": 0, "new": 1, "moved": 2, "all": 99}[last]
    real = Path.replace

    def crashing(path: Path, target: Path) -> Path:
        nonlocal steps
        if not steps:
            raise ZeroDivisionError
        steps -= 1
        return real(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crashing)
        if last == "all":
            salvage(directory)
        else:
            with pytest.raises(ZeroDivisionError):
                salvage(directory)
    with contextlib.closing(Journal(directory, sync_each=True)) as journal:
        assert journal.peer(CAROL)
    (folder,) = [path for path in directory.glob("set-aside-*") if (path / FILE).exists()]
    assert (folder / FILE).read_bytes() == damaged


# --- the newest of the state, which stands in the log alone


def emptied(log: Path) -> None:
    log.write_bytes(b"")


def cut_short(log: Path) -> None:
    log.write_bytes(log.read_bytes()[: log.stat().st_size // 2 + 5])


def taken_away(log: Path) -> None:
    log.unlink()
    log.with_name(f"{FILE}-shm").unlink()


def anothers(log: Path) -> None:
    place = log.with_name("other.db")
    with contextlib.closing(sqlite3.connect(place, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("CREATE TABLE bookmark (url TEXT)")
        for _ in range(50):
            other.execute("INSERT INTO bookmark VALUES (?)", ("y" * 3000,))
        log.write_bytes(place.with_name("other.db-wal").read_bytes())


def with_a_bad_byte(log: Path) -> None:
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 1
    log.write_bytes(data)


@pytest.mark.parametrize("harm", [emptied, cut_short, taken_away, with_a_bad_byte])
def test_a_log_that_a_pulled_plug_has_spoilt_costs_the_newest_changes_and_nothing_else(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    """A session whose record is older than it was resynchronises, as after the restoration of a backup."""
    sent = [b"\2%d" % number for number in range(20)]
    with contextlib.closing(Journal(tmp_path / "running", sync_each=True)) as journal:
        for fragment in sent:
            journal.insert(BOB, "outbox", BOB, fragment)
            journal.commit()
        shutil.copytree(tmp_path / "running", tmp_path / "spoilt")
    harm(tmp_path / "spoilt" / LOG)
    for is_told in (True, False):
        with contextlib.closing(Journal(tmp_path / "spoilt", sync_each=True)) as journal:
            found = [fragment for _, fragment in journal.outbox(BOB)]
            assert (journal.damaged, journal.trouble) == ([], "")
            assert ["what the node kept last is gone" in note for note in journal.notes] == [True] * is_told
        assert found == sent[: len(found)]
        assert len(found) < len(sent)


FRAME_BYTES = 24 + 4096
HEAD_OF_LOG = 32


@pytest.mark.parametrize("how", ["cut back", "a bit", "zeros", "0xFF"])
@pytest.mark.parametrize("copied", ["nothing", "a part", "all"])
def test_wherever_a_log_is_damaged_what_is_lost_with_it_is_told_and_nothing_is_made_up(
    tmp_path: Path, copied: str, how: str
) -> None:
    """In its head, and in each frame: in the frame's own head, and in the page. In part or as a whole the log may stand
    in the journal already."""
    running, harmed = tmp_path / "running", tmp_path / "harmed"
    with (
        contextlib.closing(Journal(running, sync_each=True)) as journal,
        contextlib.closing(sqlite3.connect(running / FILE, isolation_level=None)) as reader,
    ):
        for number in range(10):
            journal.insert(BOB, "outbox", BOB, b"\2%d" % number + random.Random(number).randbytes(1500))
            journal.commit()
            if number == 5:
                reader.execute("BEGIN")
                reader.execute("SELECT count(*) FROM outbox").fetchone()
        if copied == "all":
            reader.execute("COMMIT")
        if copied != "nothing":
            with contextlib.closing(sqlite3.connect(running / FILE)) as other:
                other.execute("PRAGMA wal_checkpoint(PASSIVE)")
        sent = [fragment for _, fragment in journal.outbox(BOB)]
        shutil.copytree(running, tmp_path / "killed")
    log = (tmp_path / "killed" / LOG).read_bytes()
    frames, _, in_journal = logged(tmp_path / "killed" / FILE)
    assert copied == ("nothing" if not in_journal else "all" if in_journal == frames else "a part")
    places = [0, 5, 17, 22, 30]
    for frame in range(frames):
        places += [HEAD_OF_LOG + frame * FRAME_BYTES + offset for offset in (2, 9, 18, 24, 1500, 4110)]
    assert len(sent) == 10
    assert frames > 15
    untold = 0
    for place in places:
        if how == "cut back":
            data = log[:place]
        elif how == "a bit":
            data = flipped(log, 8 * place + 2)
        else:
            data = log[:place] + (b"\0" if how == "zeros" else b"\xff") * 600 + log[place + 600 :]
        if data == log:
            continue
        shutil.copytree(tmp_path / "killed", harmed)
        (harmed / LOG).write_bytes(data)
        with contextlib.closing(Journal(harmed, sync_each=True)) as journal:
            found = [fragment for _, fragment in journal.outbox(BOB)]
            is_told = bool(journal.notes or journal.damaged)
        whole = [fragment for fragment in found if fragment is not None]
        assert whole == [fragment for fragment in sent if fragment in whole], place
        assert is_told or found == sent, place
        untold += not is_told
        shutil.rmtree(harmed)
    assert not untold or copied == "all"


@pytest.mark.parametrize(
    ("now", "has_lost"),
    [
        (Logged(9, (b"1111", b"aaaa"), 0), False),
        (Logged(8, (b"1111", b"aaaa"), 0), True),
        (Logged(0, (b"1111", b"aaaa"), 0), True),
        (Logged(0, (b"1111", b"aaba"), 0), True),
        (Logged(0, (b"1011", b"aaaa"), 0), True),
        (Logged(0, NO_SALTS, 0), True),
        (Logged(0, (b"1112", b"bbbb"), 0), False),
        (Logged(3, (b"1112", b"bbbb"), 0), False),
    ],
)
def test_a_log_has_lost_frames_unless_it_began_anew_or_all_of_them_stand_in_the_journal(
    now: Logged, has_lost: bool
) -> None:
    assert Logged(9, (b"1111", b"aaaa"), 8).has_lost(now) is has_lost
    assert Logged(9, (b"1111", b"aaaa"), 9).has_lost(now) is (has_lost and now.frames > 0)


def test_an_index_older_than_its_log_as_after_a_loss_of_power_tells_of_no_loss(tmp_path: Path) -> None:
    """The log grows, begins anew, is taken away, and gets room; nothing syncs the index."""
    indexes: list[bytes] = []
    with contextlib.closing(Journal(tmp_path / "running", sync_each=True)) as journal:
        for number in range(24):
            journal.insert(BOB, "outbox", BOB, b"\2%d" % number + bytes(1500))
            journal.commit()
            if number % 5 == 2:
                with contextlib.closing(sqlite3.connect(tmp_path / "running" / FILE)) as other:
                    other.execute("PRAGMA wal_checkpoint(PASSIVE)")
            if number % 7 == 4:
                assert journal.erase(1, room=2.0 * (number > 7)) == ""
            shutil.copytree(tmp_path / "running", tmp_path / str(number))
            indexes.append((tmp_path / str(number) / f"{FILE}-shm").read_bytes())
    for number, _ in enumerate(indexes):
        for index in indexes[: number + 1]:
            shutil.copytree(tmp_path / str(number), tmp_path / "killed")
            (tmp_path / "killed" / f"{FILE}-shm").write_bytes(index)
            with contextlib.closing(Journal(tmp_path / "killed", sync_each=True)) as journal:
                assert (journal.notes, len(journal.outbox(BOB))) == ([], number + 1)
            shutil.rmtree(tmp_path / "killed")


def test_where_not_each_commit_is_synced_a_log_without_its_end_is_as_it_was_agreed_on(tmp_path: Path) -> None:
    with contextlib.closing(Journal(tmp_path / "running", sync_each=False)) as journal:
        for number in range(20):
            journal.insert(BOB, "outbox", BOB, b"\2%d" % number)
            journal.commit()
        shutil.copytree(tmp_path / "running", tmp_path / "cut")
        shutil.copytree(tmp_path / "running", tmp_path / "emptied")
    cut_short(tmp_path / "cut" / LOG)
    emptied(tmp_path / "emptied" / LOG)
    for how, notes in (("cut", 0), ("emptied", 1)):
        with contextlib.closing(Journal(tmp_path / how, sync_each=False)) as journal:
            assert len(journal.notes) == notes
            assert len(journal.outbox(BOB)) < 20


def test_a_log_of_another_program_beside_the_journal_is_refused_and_both_stay(tmp_path: Path) -> None:
    state = tmp_path / "state"
    filled(state)
    anothers(state / LOG)
    before = [(state / name).read_bytes() for name in (FILE, LOG)]
    with pytest.raises(UsageError, match="is another program's database"):
        Journal(state, sync_each=True)
    assert [(state / name).read_bytes() for name in (FILE, LOG)] == before
