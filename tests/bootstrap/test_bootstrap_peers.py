"""A join ends in a peer of the node's configuration, and a node says of it that it is bootstrapped."""

from __future__ import annotations

import subprocess
import time
import tomllib
from pathlib import Path

import pytest

from bt_selfsecure.bootstrap.peers import write_peer
from bt_selfsecure.errors import UsageError
from bt_selfsecure.node import where
from bt_selfsecure.node.config_file import load
from bt_selfsecure.node.two_nodes import ADDRESSES, OTHER, TwoNodes
from bt_selfsecure.protocols.bootstrap.keys import authentication_key

PSK = bytes(range(16))
BOB = "B8:27:EB:12:34:56"


def test_a_peer_is_written_with_a_key_that_only_the_owner_reads(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    key = write_peer(config, "hall", BOB, "", PSK)
    (peer,) = load(config).config.peer
    assert (peer.name, peer.address, peer.bootstrapped, peer.authentication_key_file) == ("hall", BOB, True, str(key))
    assert key.read_bytes() == authentication_key(PSK)
    assert key.stat().st_mode & 0o777 == 0o600
    assert PSK not in key.read_bytes()


@pytest.mark.parametrize("more", ["", 'dial = "always"\n', 'authentication_key_file = "/old"\nbootstrapped = false\n'])
def test_a_peer_that_is_there_keeps_all_else_and_gets_the_key(tmp_path: Path, more: str) -> None:
    config = tmp_path / "node.toml"
    text = f'# mine\n[node]\nname = "lamp"\n\n[[peer]]\nname = "bob"\naddress = "{BOB.lower()}"  # his\n{more}\n'
    config.write_text(text + '[[peer]]\nname = "carol"\naddress = "B8:27:EB:65:43:21"\n')
    config.chmod(0o640)
    for _ in range(2):  # the second time there is nothing to change
        key = write_peer(config, "hall", BOB, "", PSK)
        bob, carol = load(config).config.peer
        assert (bob.name, bob.bootstrapped, bob.authentication_key_file) == ("bob", True, str(key))
        assert key.name == "bob"
        assert (carol.name, carol.authentication_key_file) == ("carol", "")
        assert load(config).config.node.name == "lamp"
    assert config.read_text().startswith("# mine\n")
    assert "# his" in config.read_text()
    assert config.stat().st_mode & 0o777 == 0o640


def test_the_service_finds_the_key_where_its_unit_puts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "node.toml"
    monkeypatch.setattr("bt_selfsecure.bootstrap.peers.DEFAULT_PATH", str(config))
    key = write_peer(config, "hall", BOB, "", PSK)
    told = tomllib.loads(config.read_text())["peer"][0]["authentication_key_file"]
    assert (told, key) == ("/run/credentials/bt-selfsecure.service/keys_hall", tmp_path / "keys/hall")
    assert where.DEFAULT_PATH == "/etc/bt-selfsecure/node.toml"


def test_a_configuration_that_would_not_do_stays_as_it_is_and_no_key_is_written(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    for text, why in (
        ('[establish]\nprofile = "paper"\nexchange_shares = false\n', 'profile "paper"'),
        ('[[peer]]\nname = "hall"\naddress = "B8:27:EB:65:43:21"\n', "another peer already"),
        ("[node\n", "node.toml"),
    ):
        config.write_text(text)
        with pytest.raises(UsageError, match=why):
            write_peer(config, "hall", BOB, "", PSK)
        assert config.read_text() == text
    assert not (tmp_path / "keys").exists()
    with pytest.raises(UsageError, match="can't be a peer's name"):
        write_peer(config, "../hall", BOB, "", PSK)


def test_two_nodes_of_a_join_agree_on_a_key_and_each_says_that_the_other_is_bootstrapped(tmp_path: Path) -> None:
    """Real daemons over UDP; the same without the words is another confirmation."""
    nodes = TwoNodes(tmp_path)
    for name in ADDRESSES:
        write_peer(nodes.config(name), "hall", ADDRESSES[OTHER[name]], "", PSK)
    try:
        nodes.start(*ADDRESSES)
        deadline = time.monotonic() + 60
        for name in ADDRESSES:
            while nodes.client(name).peers()[0]["trust"]["confirmed"] != "bootstrapped":
                assert time.monotonic() < deadline, nodes.client(name).peers()
                time.sleep(0.2)
            shown = subprocess.run(nodes.command("status", "--config", str(nodes.config(name))), capture_output=True)
            assert b"confirmed: bootstrapped" in shown.stdout
    finally:
        nodes.stop()
