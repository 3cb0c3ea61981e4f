"""What is kept of peers that were paired: all of it or nothing, and named where it does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from bt_selfsecure.errors import UsageError
from bt_selfsecure.node import paired
from bt_selfsecure.node.config import Config, NodeTable, PeerTable, authentication_key
from bt_selfsecure.node.config_file import load, render
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


@pytest.mark.parametrize("text", ["[[peer]]", "[node]", "peer = 1", "not toml", '[[peer]]\nname = "x"\naddress = "y"'])
def test_a_damaged_list_is_named_and_stays_as_it_is(text: str, tmp_path: Path) -> None:
    (tmp_path / paired.FILE).write_text(text)
    for use in (lambda: paired.paired_peers(tmp_path), lambda: paired.keep(tmp_path, BOB, KEY)):
        with pytest.raises(UsageError, match=r"paired\.toml"):
            use()
    assert (tmp_path / paired.FILE).read_text() == text
    assert not paired.key_file(tmp_path, BOB.address).exists()


def test_a_disk_that_takes_no_list_keeps_no_key_either(tmp_path: Path) -> None:
    (tmp_path / f"{paired.FILE}.part").mkdir()
    with pytest.raises(UsageError, match="can't write"):
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
