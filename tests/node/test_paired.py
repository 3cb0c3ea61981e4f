"""What is kept of peers that were paired: all of it or nothing, and named where it does not fit."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from bt_selfsecure.cli.main import main
from bt_selfsecure.errors import UsageError
from bt_selfsecure.node import paired
from bt_selfsecure.node.config import Config, NodeTable, PeerTable, authentication_key
from bt_selfsecure.node.config_file import load, render
from bt_selfsecure.node.haoxiao.settings import Settings
from bt_selfsecure.node.journal import Journal
from bt_selfsecure.node.known import KnownPeers

BOB = PeerTable("bob", "B8:27:EB:12:34:56", udp="127.0.0.1:5701")
CAROL = PeerTable("carol", "B8:27:EB:12:34:57")
KEY = bytes(range(32))


def test_what_is_kept_is_read_back_with_its_key_and_forgotten_whole(tmp_path: Path) -> None:
    for peer in (BOB, CAROL):
        table = paired.keep(tmp_path, peer, KEY)
        assert authentication_key(table) == KEY
    assert [peer.name for peer in paired.paired_peers(tmp_path)] == ["bob", "carol"]
    assert paired.paired_peers(tmp_path)[0].udp == BOB.udp
    assert paired.key_file(tmp_path, BOB.address).stat().st_mode & 0o777 == 0o600
    assert paired.forget(tmp_path, BOB.address)
    assert not paired.forget(tmp_path, BOB.address)
    assert [peer.name for peer in paired.paired_peers(tmp_path)] == ["carol"]
    assert not paired.key_file(tmp_path, BOB.address).exists()


def test_a_peer_that_is_paired_again_is_there_once_with_the_newer_key(tmp_path: Path) -> None:
    paired.keep(tmp_path, BOB, KEY)
    (table,) = (paired.keep(tmp_path, BOB, KEY[::-1]),)
    assert authentication_key(table) == KEY[::-1]
    assert len(paired.paired_peers(tmp_path)) == 1


def test_where_nothing_was_paired_or_may_be_read_there_is_nobody(tmp_path: Path) -> None:
    assert paired.paired_peers(tmp_path) == ()
    assert paired.paired_peers(tmp_path / "nowhere") == ()


@pytest.mark.parametrize(
    "data",
    [
        b"[[peer]]",
        b"[node]",
        b"peer = 1",
        b"not toml",
        b'[[peer]]\nname = "x"\naddress = "y"',
        b"",
        bytes(300),
        b"\xff" * 300,
    ],
    ids=lambda data: repr(data[:8]),
)
def test_a_damaged_list_is_named_with_its_remedy_and_stays_as_it_is(data: bytes, tmp_path: Path) -> None:
    (tmp_path / paired.FILE).write_bytes(data)
    for use in (lambda: paired.paired_peers(tmp_path), lambda: paired.keep(tmp_path, BOB, KEY)):
        with pytest.raises(UsageError, match=r"/paired\.toml is damaged: put a backup .*, or move it away"):
            use()
    assert (tmp_path / paired.FILE).read_bytes() == data
    assert not paired.key_file(tmp_path, BOB.address).exists()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["a folder", "a pipe"])
@pytest.mark.parametrize("what", [paired.FILE, paired.FOLDER], ids=["list", "key"])
def test_nothing_waits_for_what_has_the_name_of_the_list_or_of_a_key(
    what: str, make: Callable[[Path], None], tmp_path: Path
) -> None:
    file = tmp_path / "node.toml"
    file.write_text(f'[node]\nstate_directory = "{tmp_path}"\n')
    Journal(tmp_path, sync_each=False).close()
    paired.keep(tmp_path, BOB, KEY)
    place = tmp_path / what if what == paired.FILE else paired.key_file(tmp_path, BOB.address)
    place.unlink()
    make(place)
    program = f"""if True:
        from pathlib import Path
        from bt_selfsecure.errors import UsageError
        from bt_selfsecure.node.config_file import load
        from bt_selfsecure.node.paired import lost_keys
        from bt_selfsecure.node.report import _paired
        from bt_selfsecure.node.state import backup
        file = Path({str(file)!r})
        _paired(file)
        start = lambda: print(*lost_keys(file.parent, load(file).config.peer).values())
        for todo in (start, lambda: backup(file.parent, file.parent / "copy")):
            try:
                todo()
            except UsageError as error:
                print(error)
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"(?m)damaged: put a backup in its place .* pair again$", done.stdout)) == 2


@pytest.mark.parametrize("key", [b"", bytes(32), b"\xff" * 32, KEY[:15], KEY * 200, None])
def test_a_paired_peer_whose_key_is_lost_is_named_with_its_remedy_and_others_are_not(
    key: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "node.toml"
    file.write_text(f'[node]\nstate_directory = "{tmp_path}"\n')
    for peer in (BOB, CAROL):
        paired.keep(tmp_path, peer, KEY)
    place = paired.key_file(tmp_path, BOB.address)
    place.unlink() if key is None else place.write_bytes(key)
    peers = load(file).config.peer
    assert [peer.name for peer in peers] == ["bob", "carol"]
    (lost,) = paired.lost_keys(tmp_path, peers).items()
    assert lost[0] == BOB.address
    assert re.match(
        r"the key of bob, .*\.key, is lost or damaged: .*, or bt-selfsecure pair forget bob, at both", lost[1]
    )
    assert main(["config", "check", str(file)]) == 2
    assert lost[1] in capsys.readouterr().err
    place.touch(0o600)
    place.write_bytes(KEY)
    assert paired.lost_keys(tmp_path, peers) == {}
    assert main(["config", "check", str(file)]) == 0


def test_a_peer_whose_key_is_lost_is_asked_for_one_that_nobody_has(tmp_path: Path) -> None:
    """Without any, whoever has its address would be taken for it."""
    table = paired.keep(tmp_path, BOB, KEY)
    config = Config(peer=(table,))
    keys = [
        Settings(config, lost).establish(CAROL.address, BOB.address).authentication_key
        for lost in ((), {BOB.address}, {BOB.address})
    ]
    assert keys[0] == KEY
    assert len({*keys}) == len(keys)
    assert all(map(any, keys))


def test_a_disk_that_takes_no_list_keeps_no_key_either(tmp_path: Path) -> None:
    (tmp_path / f"{paired.FILE}.part").mkdir()
    with pytest.raises(UsageError, match="can't write"):
        paired.keep(tmp_path, BOB, KEY)
    assert not paired.key_file(tmp_path, BOB.address).exists()


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full: make room on it"),
        (errno.EROFS, "its disk is mounted read-only: see dmesg"),
        (errno.EIO, "the disk does not work .*: see dmesg"),
    ],
)
@pytest.mark.parametrize("begins", [False, True])
def test_why_a_disk_takes_no_peer_is_told_with_what_helps(
    number: int, words: str, begins: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *args: Any) -> NoReturn:
        raise OSError(number, os.strerror(number), *[str(path)] * begins)

    monkeypatch.setattr(Path, "touch" if begins else "write_bytes", refuse)
    with pytest.raises(UsageError, match=rf"can't keep the key of bob in .*\.key: {words}"):
        paired.keep(tmp_path, BOB, KEY)
    assert not paired.key_file(tmp_path, BOB.address).exists()


def test_a_node_is_started_with_those_that_were_paired_and_a_double_is_named_with_the_remedy(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    head = f'[node]\nstate_directory = "{tmp_path}"\n'
    config.write_text(head)
    paired.keep(tmp_path, CAROL, KEY)
    assert [peer.name for peer in load(config).config.peer] == ["carol"]
    for line in ('name = "carol"\naddress = "B8:27:EB:00:00:01"', f'name = "bob"\naddress = "{CAROL.address}"'):
        config.write_text(f"{head}[[peer]]\n{line}\n")
        with pytest.raises(UsageError, match="that was paired: leave this one out, or bt-selfsecure pair forget carol"):
            load(config)
    config.write_text(head)
    assert "carol" in render(load(config))


def test_whom_a_node_knows_follows_what_is_added_and_removed() -> None:
    known = KnownPeers(Config(node=NodeTable(), peer=(BOB,)))
    places = known.udp_places("B8:27:EB:00:00:01")
    known.call(CAROL.address, "127.0.0.1:5702")
    assert (places.peers[CAROL.address], known.may_bond(CAROL.address), CAROL.address in known) == (
        "127.0.0.1:5702",
        True,
        False,
    )
    known.end_call(CAROL.address)
    assert (CAROL.address in places.peers, known.may_bond(CAROL.address)) == (False, False)
    known.add(CAROL)
    assert known.named("carol") == CAROL
    known.remove(CAROL.address)
    assert known.named("carol") is None
    known.is_pairing = True
    assert places.anyone()
