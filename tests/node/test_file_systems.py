"""State and backups on file systems that lack something, are full, read-only, or somebody else's: it works, or what is
said has a remedy and systemd tries again."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from another_user import NOBODY, as_nobody
from node_world import ADDRESSES, World, connected, is_connected, read, until, virtual

from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.journal import Journal
from bt_selfsecure.node.journal_file import JournalError, lock
from bt_selfsecure.node.journal_mark import LOCK
from bt_selfsecure.node.set_aside import FILE, FILES, LOG
from bt_selfsecure.node.state import backup, is_open_to_others, restore, set_aside

BOB = ADDRESSES["bob"]
root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount or to be another user")


def state(directory: Path, *fragments: bytes) -> None:
    journal = Journal(directory, sync_each=True)
    for fragment in fragments:
        journal.insert(BOB, "outbox", BOB, fragment)
    journal.commit()
    journal.close()


def kept(directory: Path) -> list[bytes | None]:
    with contextlib.closing(Journal(directory, sync_each=True)) as journal:
        return [fragment for _, fragment in journal.outbox(BOB)]


# --- without links, permissions, locks


@pytest.fixture(params=[errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP], ids=errno.errorcode.get)
def bare(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system as FAT by the kernel, or by FUSE: each file is open to all, and nothing can be changed about it.
    The folder of the test is made before, and cleared away afterwards."""

    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise OSError(request.param, os.strerror(request.param))

    def opened(path: Any, flags: int, mode: int = 0o777, **kwargs: Any) -> int:
        descriptor = real_open(path, flags, mode, **kwargs)
        if flags & os.O_CREAT:
            real_chmod(path, 0o755)
        return descriptor

    def made(*args: Any, **kwargs: Any) -> tuple[int, str]:
        descriptor, name = real_mkstemp(*args, **kwargs)
        real_chmod(name, 0o755)
        return descriptor, name

    real_open, real_chmod, real_mkstemp = os.open, os.chmod, tempfile.mkstemp
    for name in ("link", "symlink", "chmod", "chown", "lchown", "fchmod", "fchown"):
        monkeypatch.setattr(os, name, refuse)
    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(tempfile, "mkstemp", made)


@pytest.mark.usefixtures("bare")
def test_state_and_backups_work_on_a_usb_stick_and_a_person_is_warned(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state(tmp_path / "state", b"\2one")
    assert "others can read" in caplog.text
    assert backup(tmp_path / "state", tmp_path / "stick") > 0
    assert is_open_to_others(tmp_path / "stick")
    with pytest.raises(UsageError, match="is there already"):
        backup(tmp_path / "state", tmp_path / "stick")
    with contextlib.closing(Journal(tmp_path / "state", sync_each=True)) as journal:
        journal.insert(BOB, "outbox", BOB, b"\2two")
        journal.commit()
    old = restore(tmp_path / "stick", tmp_path / "state").old
    assert kept(tmp_path / "state") == [b"\2one"]
    assert old
    assert restore(old, tmp_path / "state").old
    assert kept(tmp_path / "state") == [b"\2one", b"\2two"]
    folder = set_aside(tmp_path / "state")
    assert kept(tmp_path / "state") == []
    restore(folder, tmp_path / "state")
    assert kept(tmp_path / "state") == [b"\2one", b"\2two"]


def test_where_there_are_permissions_nobody_is_warned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state(tmp_path / "state", b"\2one")
    backup(tmp_path / "state", tmp_path / "copy")
    assert not is_open_to_others(tmp_path / "copy")
    assert caplog.text == ""
    for path in (restore(tmp_path / "copy", tmp_path / "state").old, set_aside(tmp_path / "state")):
        assert path
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_backup_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, target: Path) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    state(tmp_path / "state", b"\2one")
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UsageError, match="No space left"):
        backup(tmp_path / "state", tmp_path / "copy")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO], ids=errno.errorcode.get)
def test_only_a_lock_that_is_held_means_another_node(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    state(tmp_path / "state", b"\2one")
    backup(tmp_path / "state", tmp_path / "copy")

    def refuse(*args: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refuse)
        words = "an I/O error" if number == errno.EIO else "lacks locks .*: name a .*state_directory on a disk"
        with pytest.raises(JournalError, match=words):
            Journal(tmp_path / "state", sync_each=True)
        for change in (lambda: restore(tmp_path / "copy", tmp_path / "state"), lambda: set_aside(tmp_path / "state")):
            with pytest.raises(UsageError, match=words) as told:
                change()
            assert "another node" not in str(told.value)
        assert backup(tmp_path / "state", tmp_path / "second") > 0
    assert kept(tmp_path / "state") == [b"\2one"]


def test_a_start_waits_for_another_that_ends_and_a_command_does_not(tmp_path: Path) -> None:
    state(tmp_path)
    held = lock(tmp_path, 0.0)
    with pytest.raises(UsageError, match="another node uses"):
        set_aside(tmp_path)
    threading.Timer(0.5, os.close, (held,)).start()
    assert kept(tmp_path) == []


# --- what is in the way, or somebody else's


def a_dangling_link(place: Path) -> None:
    place.symlink_to(place.with_name("stick"))


def a_dangling_lock(place: Path) -> None:
    place.mkdir()
    (place / LOCK).symlink_to(place / "stick" / LOCK)


def a_file(place: Path) -> None:
    place.touch()


def a_file_above(place: Path) -> None:
    place.mkdir()
    (place / LOCK).mkdir()


def a_folder_as_the_journal(place: Path) -> None:
    (place / FILE).mkdir(parents=True)


def a_folder_as_the_log(place: Path) -> None:
    state(place)
    (place / LOG).mkdir()


def a_pipe_as_the_journal(place: Path) -> None:
    place.mkdir()
    os.mkfifo(place / FILE)


def a_pipe_as_the_index(place: Path) -> None:
    state(place)
    os.mkfifo(place / f"{FILE}-shm")


def a_dangling_log(place: Path) -> None:
    state(place)
    (place / LOG).symlink_to(place / "stick" / LOG)


def a_journal_of_another_kind_beside_it(place: Path) -> None:
    state(place)
    (place / f"{FILE}-journal").write_bytes(b"?" * 5000)


def a_pipe_as_the_lock(place: Path) -> None:
    place.mkdir()
    os.mkfifo(place / LOCK)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (a_dangling_link, r"it is a link to .*stick, and nothing is there: mount that disk, or remove the link"),
        (
            a_dangling_lock,
            r"/lock is a link to .*stick/lock, and nothing is there: mount that disk, or remove the link",
        ),
        (a_file, "a file is where a folder should be: move it away"),
        (a_file_above, "lock in it is a folder: move it away"),
        (a_folder_as_the_journal, r"journal.db in it is a folder: move it away"),
        (a_folder_as_the_log, r"journal.db-wal in it is a folder: move it away"),
        (a_pipe_as_the_journal, r"journal.db in it is no file: move it away"),
        (a_pipe_as_the_index, r"journal.db-shm in it is no file: move it away"),
        (
            a_dangling_log,
            r"/journal.db-wal is a link to .*stick/.*, and nothing is there: mount that disk, or",
        ),
        (a_journal_of_another_kind_beside_it, r"another program .* \(journal.db-journal\): .* move that file away"),
        (a_pipe_as_the_lock, r"lock in it is no file: move it away"),
    ],
)
def test_what_is_in_the_way_is_named_with_its_remedy(
    tmp_path: Path, make: Callable[[Path], None], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "state")
    with pytest.raises(JournalError, match=words) as told:
        Journal(tmp_path / "state", sync_each=True)
    assert not isinstance(told.value, UsageError), "systemd tries it again"


def test_a_backup_names_the_link_to_nothing_beside_the_journal(tmp_path: Path) -> None:
    a_dangling_log(tmp_path / "state")
    with pytest.raises(UsageError, match=r"/journal.db-wal is a link to .*, and nothing is there: mount that disk, or"):
        backup(tmp_path / "state", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("name", [*FILES, LOCK])
def test_no_command_waits_for_a_pipe_that_has_a_files_name(tmp_path: Path, name: str) -> None:
    state(tmp_path / "state")
    (tmp_path / "state" / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / "state" / name)
    program = f"""if True:
        from pathlib import Path
        from bt_selfsecure.errors import BtSelfSecureError
        from bt_selfsecure.node.state import backup, has_lost_log, restore, set_aside
        here = Path({str(tmp_path)!r})
        assert not has_lost_log(here / "state")
        for todo in (
            lambda: backup(here / "state", here / "copy"),
            lambda: restore(here / "state", here / "restored"),
            lambda: set_aside(here / "state"),
        ):
            try:
                todo()
            except BtSelfSecureError as error:
                print(error)
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{name} in it is no file: move it away" in done.stdout


@root
@pytest.mark.parametrize(
    ("of_root", "mode", "words"),
    [
        (["", FILE, LOCK], 0o700, r"it belongs to root: use sudo, or give it to this user: sudo chown -R nobody"),
        ([FILE, LOCK], 0o700, r"a file in it belongs to somebody else, .*: sudo chown -R nobody"),
        ([FILE], 0o700, r"a file in it belongs to somebody else, .*: sudo chown -R nobody"),
        ([LOCK], 0o700, r"a file in it belongs to somebody else, .*: sudo chown -R nobody"),
        ([""], 0o755, r"it belongs to root: use sudo, or give it to this user: sudo chown -R nobody"),
    ],
)
def test_what_root_has_made_is_given_back_with_one_command(
    tmp_path: Path, of_root: list[str], mode: int, words: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        directory = Path(folder) / "state"
        state(directory, b"\2one")
        directory.chmod(mode)
        for name in ("", FILE, LOCK):
            os.chown(directory / name, *[0 if name in of_root else NOBODY] * 2)
        with as_nobody(), pytest.raises(JournalError, match=words):
            Journal(directory, sync_each=True)
        subprocess.run(["chown", "-R", "nobody", str(directory)], check=True)
        with as_nobody():
            assert kept(directory) == [b"\2one"]


@root
def test_what_root_begins_in_the_nodes_folder_is_the_nodes(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        directory = Path(folder) / "state"
        directory.mkdir(mode=0o700)
        os.chown(directory, NOBODY, NOBODY)
        state(directory, b"\2one")
        with as_nobody():
            assert kept(directory) == [b"\2one"]
        aside = set_aside(directory)
        restore(aside, directory)
        with as_nobody():
            assert kept(directory) == [b"\2one"]
            assert set_aside(directory)


@root
@pytest.mark.parametrize("mode", [0o000, 0o400])
def test_a_file_of_the_nodes_own_that_nobody_may_use_is_made_usable(mode: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, NOBODY, NOBODY)
        with as_nobody():
            state(Path(folder), b"\2one")
            (Path(folder) / FILE).chmod(mode)
            assert kept(Path(folder)) == [b"\2one"]


def test_what_may_not_be_looked_at_is_not_called_absent(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        locked = Path(folder) / "locked"
        state(locked / "state", b"\2one")
        locked.chmod(0)
        with as_nobody():
            for change in (
                lambda: backup(locked / "state", Path(folder) / "copy"),
                lambda: restore(locked / "state", Path(folder) / "new"),
                lambda: set_aside(locked / "state"),
            ):
                with pytest.raises(UsageError, match=r"sudo|Permission denied") as told:
                    change()
                assert "there is no" not in str(told.value)
        locked.chmod(0o700)


# --- read-only and full


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("can't mount here")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def leave(place: Path, free: int) -> None:
    """Fill it up to so many bytes."""
    left = shutil.disk_usage(place).free
    with (place / "filler").open("wb") as file:
        file.write(bytes(left - free))


def open_below(place: Path) -> list[str]:
    """Files that this process has open there."""
    links = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return [name for name in links if name.startswith(f"{place}/")]


@root
@pytest.mark.parametrize("free", [0, 4, 8, 16, 24, 32, 36, 64])
@pytest.mark.parametrize("begun", [True, False])
def test_a_start_with_so_many_kb_free_is_a_full_disk_or_works_and_never_damage(
    small: Path, free: int, begun: bool
) -> None:
    sent = [b"\2one"] * begun
    if begun:
        state(small / "state", *sent)
    leave(small, free * 1024)
    for _ in range(2):
        try:
            journal = Journal(small / "state", sync_each=True)
        except JournalError as error:
            said = str(error)
            assert not open_below(small), "what a start has opened it closes where it fails"
        else:
            said = journal.trouble
            assert [fragment for _, fragment in journal.outbox(BOB)] == sent
            journal.close()
        assert "the disk is full: make room on it" in said or (not said and free >= 32)
    (small / "filler").unlink()
    assert kept(small / "state") == sent


@root
@pytest.mark.parametrize("free", [0, 4, 8, 16])
def test_a_full_disk_stays_told_until_there_is_room_for_what_was_refused(small: Path, free: int) -> None:
    said: list[str] = []
    with contextlib.closing(Journal(small / "state", sync_each=True, told=said.append)) as journal:
        leave(small, free * 1024)
        for _ in range(5):  # each is refused, and taken back by who wanted it
            number = journal.insert(BOB, "outbox", BOB, bytes(64 << 10))
            with pytest.raises(JournalError, match="full"):
                journal.commit()
            journal.delete(BOB, "outbox", number)
            with pytest.raises(JournalError, match="full"):
                journal.commit()
        assert len(said) == 1
        (small / "filler").unlink()
        journal.commit()
        assert said[1:] == [""]


@root
@pytest.mark.parametrize("killed", [False, True])
def test_a_disk_that_is_read_only_is_named_saved_by_a_backup_and_the_next_start_works(
    small: Path, killed: bool
) -> None:
    state(small / "state", b"\2one")
    if killed:
        with contextlib.closing(Journal(small / "state", sync_each=True)) as journal:
            journal.insert(BOB, "outbox", BOB, b"\2two")
            journal.commit()
            shutil.copytree(small / "state", small / "killed")
        shutil.rmtree(small / "state")
        (small / "killed").rename(small / "state")
        (small / "state" / f"{FILE}-shm").unlink()
    whole = [b"\2one", b"\2two"] if killed else [b"\2one"]
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    with pytest.raises(JournalError, match=r"its disk is mounted read-only: see dmesg .*remount,rw"):
        Journal(small / "state", sync_each=True)
    with pytest.raises(UsageError, match="its disk is mounted read-only"):
        set_aside(small / "state")
    assert backup(small / "state", small.with_name("copy")) > 0
    assert {path.name for path in small.parent.iterdir()} == {"small", "copy"}
    subprocess.run(["mount", "-o", "remount,rw", small], check=True)
    assert kept(small / "state") == whole
    restore(small.with_name("copy"), small.with_name("new"))
    assert kept(small.with_name("new")) == whole


@root
@pytest.mark.parametrize("free", [0, 4, 8, 16, 32])
def test_a_running_node_with_so_many_kb_free_takes_what_it_keeps_and_refuses_the_rest(small: Path, free: int) -> None:
    world = World(small)

    async def main() -> None:
        async with world.pair() as (alice, bob):
            await connected(alice, bob)
            await world.stop("bob")
            await until(lambda: not is_connected(alice, "bob"))
            leave(small, free * 1024)
            taken, refused = [], 0
            for number in range(40):
                message = b"%d " % number * 700
                try:
                    await alice.send("bob", message)
                    taken.append(message)
                except JournalError as error:
                    refused += "the disk is full: make room on it" in str(error)
            assert refused + len(taken) == 40
            assert refused
            (small / "filler").unlink()
            await alice.send("bob", b"the last")
            assert alice.status()["problems"] == []
            bob = await world.start("bob", "alice")
            assert await read(bob, len(taken) + 1) == [*taken, b"the last"]

    virtual(main())
