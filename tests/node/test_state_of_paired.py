"""Backup, restore and set-aside hold peers that were paired, with their keys: all of it, or the state as it was."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from lone_nodes import Command, LoneNodes

from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.config import PeerTable, authentication_key
from bt_selfsecure.node.journal import Journal
from bt_selfsecure.node.journal_file import JournalError
from bt_selfsecure.node.paired import keep, paired_peers
from bt_selfsecure.node.set_aside import FILE, NEW, NEW_PAIRED, PAIRED, PAIRED_KEYS
from bt_selfsecure.node.state import backup, restore, set_aside
from bt_selfsecure.node.two_nodes import ADDRESSES

BOB, CAROL = PeerTable("bob", "B8:27:EB:00:00:02"), PeerTable("carol", "B8:27:EB:00:00:03")
KEY = bytes(range(32))


def paired(directory: Path, *peers: PeerTable) -> None:
    """A state, of which each of these has a key of its own, made of its address."""
    Journal(directory, sync_each=False).close()
    for peer in peers:
        keep(directory, peer, key_for(peer))


def key_for(peer: PeerTable) -> bytes:
    return peer.address.encode() + KEY


def assert_paired(directory: Path, *peers: PeerTable) -> None:
    """These and no others, with their keys in the directory itself, for the node alone."""
    found = paired_peers(directory)
    assert [(peer.name, authentication_key(peer)) for peer in found] == [(peer.name, key_for(peer)) for peer in peers]
    assert {Path(peer.authentication_key_file).parent for peer in found} <= {directory / PAIRED_KEYS}
    names = [f"{peer.address.replace(':', '')}.key" for peer in peers]
    keys = directory / PAIRED_KEYS
    assert sorted(path.name for path in keys.iterdir()) == names if peers else not keys.exists()
    for path in (directory / PAIRED, *keys.iterdir()) if peers else ():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not (directory / NEW_PAIRED).exists()


@pytest.mark.parametrize("shape", ["backup", "folder", "file of a folder"])
def test_paired_peers_come_back_with_their_keys_on_another_card_and_what_was_there_is_kept(
    tmp_path: Path, shape: str
) -> None:
    paired(tmp_path / "old", BOB)
    if shape == "backup":
        backup(tmp_path / "old", source := tmp_path / "copy")
    else:
        folder = set_aside(tmp_path / "old")
        assert folder
        assert_paired(tmp_path / "old")
        source = folder if shape == "folder" else folder / FILE
    paired(tmp_path / "state", CAROL)
    old, _, names, _ = restore(source, tmp_path / "state")
    assert names == ("bob",)
    assert_paired(tmp_path / "state", BOB)
    assert old
    assert_paired(old, CAROL)
    assert restore(old, tmp_path / "state").paired == ("carol",)
    assert_paired(tmp_path / "state", CAROL)


def test_a_restored_state_has_no_key_of_paired_peers_in_its_journal(tmp_path: Path) -> None:
    paired(tmp_path / "state", BOB)
    backup(tmp_path / "state", tmp_path / "copy")
    assert key_for(BOB) in (tmp_path / "copy").read_bytes()
    restore(tmp_path / "copy", tmp_path / "new")
    assert key_for(BOB) not in (tmp_path / "new" / FILE).read_bytes()


def test_a_copy_from_before_there_was_pairing_leaves_paired_peers_as_they_are(tmp_path: Path) -> None:
    Journal(tmp_path / "old", sync_each=False).close()
    backup(tmp_path / "old", tmp_path / "copy")
    paired(tmp_path / "state", BOB)
    assert restore(tmp_path / "copy", tmp_path / "state").paired == ()
    assert_paired(tmp_path / "state", BOB)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE paired SET data = x'00' WHERE name LIKE '%.key'",
        "DELETE FROM paired WHERE name LIKE '%.key'",
        "DELETE FROM paired WHERE name = 'paired.toml'",
        "UPDATE paired SET name = 'paired/../../x' WHERE name LIKE '%.key'",
    ],
)
def test_damaged_paired_peers_are_refused_and_the_state_stays_as_it_is(tmp_path: Path, damage: str) -> None:
    paired(tmp_path / "old", BOB)
    backup(tmp_path / "old", tmp_path / "copy")
    with contextlib.closing(sqlite3.connect(tmp_path / "copy")) as database:
        database.execute(damage)
        database.commit()
    paired(tmp_path / "state", CAROL)
    with pytest.raises(UsageError, match=r"the paired peers in .* are damaged: name another backup"):
        restore(tmp_path / "copy", tmp_path / "state")
    assert_paired(tmp_path / "state", CAROL)


@pytest.mark.parametrize("put", [None, os.mkfifo], ids=["nothing", "a pipe"])
def test_a_backup_without_two_of_the_keys_is_refused_with_what_helps(
    put: Callable[[Path], None], tmp_path: Path
) -> None:
    paired(tmp_path / "state", BOB, CAROL)
    for peer in paired_peers(tmp_path / "state"):
        Path(peer.authentication_key_file).unlink()
        if put:
            put(Path(peer.authentication_key_file))
    with pytest.raises(UsageError, match=rf"the key of {BOB.name}, [^']*, is lost or damaged: [^']* pair again$"):
        backup(tmp_path / "state", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("step", range(8))
def test_a_restore_that_is_interrupted_leaves_the_paired_peers_of_the_state_that_is_whole(
    tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    paired(tmp_path / "old", BOB)
    backup(tmp_path / "old", tmp_path / "copy")
    paired(tmp_path / "state", CAROL)
    real, left = Path.replace, step

    def crashing(path: Path, target: Path) -> Path:
        nonlocal left
        left -= 1
        if left < 0:
            raise ZeroDivisionError
        return real(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crashing)
        with contextlib.suppress(ZeroDivisionError):
            restore(tmp_path / "copy", tmp_path / "state")
    expected = CAROL if step < 2 else BOB
    found = [(peer.name, authentication_key(peer)) for peer in paired_peers(tmp_path / "state")]
    assert found == [(expected.name, key_for(expected))], "a start reads them before it opens the journal"
    Journal(tmp_path / "state", sync_each=False).close()
    restore(tmp_path / "copy", tmp_path / "state") if step < 2 else None
    assert_paired(tmp_path / "state", BOB)


@pytest.mark.long
def test_a_backup_of_a_paired_node_is_a_paired_node_on_another_card(tmp_path: Path, loopback_host: str) -> None:
    """Real daemons: Alice loses all she has, and is Bob's peer again by her backup."""
    nodes = LoneNodes(tmp_path, 0.0, loopback_host)
    copy = str(tmp_path / "copy")
    try:
        nodes.start(*ADDRESSES)
        with nodes.pair("bob", "show") as bob:
            code = bob.until("BTSS1:")
            assert nodes.pair("alice", "scan", code, "--udp", nodes.place("bob")).end()[0] == 0
            assert bob.end()[0] == 0
        assert Command(nodes, "alice", "backup", copy).end()[0] == 0
        nodes.kill("alice")
        assert Command(nodes, "alice", "state", "set-aside").end()[0] == 0
        nodes.start("alice")
        assert nodes.names("alice") == []
        nodes.kill("alice")
        status, _, told = Command(nodes, "alice", "restore", copy).end()
        assert (status, "Peers that were paired are those of the file: bob." in told) == (0, True)
        nodes.start("alice")
        nodes.client("alice").send("bob", b"hello", until="acknowledged", timeout=60)
        assert [received.message for received in nodes.client("bob").receive()] == [b"hello"]
    finally:
        nodes.stop()


DAMAGES: dict[str, Callable[[Path], None]] = {
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-4096]),
    "zeros": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "a folder": lambda file: (file.unlink(), file.mkdir())[-1],
    "a pipe": lambda file: (file.unlink(), os.mkfifo(file))[-1],
    "a link to nothing": lambda file: (file.unlink(), file.symlink_to("nowhere"))[-1],
}


def cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a state that has Carol, and a journal ready beside it that has Bob."""
    paired(tmp_path / "old", BOB)
    backup(tmp_path / "old", tmp_path / "copy")
    paired(tmp_path / "state", CAROL)
    with monkeypatch.context() as patch:
        patch.setattr("bt_selfsecure.node.set_aside.put_in_place", lambda directory: None)
        restore(tmp_path / "copy", tmp_path / "state")
    return tmp_path / "state"


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_journal_that_was_ready_to_take_the_place_of_another_takes_it_not(
    tmp_path: Path, damage: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = cut_short(tmp_path, monkeypatch)
    before = (state / FILE).read_bytes()
    damage(state / NEW)
    with pytest.raises(JournalError, match=r"\.new, which was .* is damaged and lies in .*set-aside-.* once more"):
        Journal(state, sync_each=False)
    assert (state / FILE).read_bytes() == before
    (folder,) = state.glob("set-aside-*")
    assert {path.name for path in folder.iterdir()} == {NEW, NEW_PAIRED}
    Journal(state, sync_each=False).close()
    assert_paired(state, CAROL)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_journal_that_was_ready_is_in_the_way_of_neither_restore_nor_set_aside(
    tmp_path: Path, damage: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = cut_short(tmp_path, monkeypatch)
    damage(state / NEW)
    restored = restore(tmp_path / "copy", state)
    assert_paired(state, BOB)
    assert restored.old
    assert_paired(restored.old, CAROL)
    (state / NEW).touch()
    folder = set_aside(state)
    assert folder
    assert_paired(folder, BOB)
    assert not (state / NEW).exists()


def test_after_set_aside_nothing_comes_back_of_a_restore_that_was_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_short(tmp_path, monkeypatch)
    folder = set_aside(tmp_path / "state")
    assert folder
    assert_paired(folder, BOB)
    Journal(tmp_path / "state", sync_each=False).close()
    assert_paired(tmp_path / "state")
