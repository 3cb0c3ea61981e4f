"""`pair words W W W` without an address: a person chooses among devices that are heard, and nobody else is asked."""

from __future__ import annotations

import os
import pty
import sys
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest
from lone_nodes import LoneNodes
from loopback_node import LoopbackNode, Server

from bt_selfsecure.cli.main import main
from bt_selfsecure.node.two_nodes import ADDRESSES

WORDS = ("otter", "panda", "radio")


class RefusingDesk:
    """Says whom a pairing was asked for, and does none."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bytes]] = []

    async def pair(self, query: Any, carried: bytes) -> AsyncGenerator[dict[str, Any], None]:
        self.asked.append((query.address, carried))
        yield {"event": "failed", "peer": "", "address": query.address, "code": "", "text": "it was asked for"}


@pytest.fixture
def desk(server: Server, alice: LoopbackNode, bob: LoopbackNode) -> RefusingDesk:
    alice.pairing = desk = RefusingDesk()  # type: ignore[attr-defined]
    server.serve(alice)
    (server.folder / "alice.toml").write_text(f'[node]\nsocket = "{server.socket("alice")}"\n')
    return desk


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Where to type."""
    master, slave = pty.openpty()
    with os.fdopen(slave) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield master
    os.close(master)


def words(folder: Path, *more: str) -> int:
    return main(["pair", "words", *WORDS, *more, "--config", str(folder / "alice.toml")])


def test_a_person_chooses_among_devices_that_are_no_peer_yet_the_loudest_first(
    desk: RefusingDesk,
    terminal: int,
    server: Server,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    os.write(terminal, b"3\nbob\n2\n")
    assert words(server.folder) == 1
    assert [address for address, _ in desk.asked] == ["B8:27:EB:00:00:08"]
    out, err = capsys.readouterr()
    assert "it was asked for" in out
    lines = err.splitlines()
    assert lines[0].split() == ["PEER", "ADDRESS", "SIGNAL", "NAME", "PROFILE"]
    assert [line.split()[0::2][:2] for line in lines[1:3]] == [["1", "B8:27:EB:00:00:09"], ["2", "B8:27:EB:00:00:08"]]
    assert err.count("Which one shows them? 1 to 2:") == 3
    assert "\x1b" not in err, "a name from the air is no command to the terminal"
    assert "bob" not in err
    assert max(map(len, lines[:3])) <= 80


def test_words_that_are_none_are_told_before_anything_is_looked_for(
    desk: RefusingDesk, terminal: int, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pair", "words", "otter", "xyz", "radio", "--config", str(server.folder / "alice.toml")]) == 2
    assert "ADDRESS" not in capsys.readouterr().err
    assert desk.asked == []


def test_who_chooses_nobody_pairs_with_nobody(
    desk: RefusingDesk, terminal: int, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    os.write(terminal, b"\x04")
    assert words(server.folder) == 2
    assert "nothing was chosen, and nothing sent" in capsys.readouterr().err
    assert desk.asked == []


def test_where_nothing_can_be_heard_the_address_is_asked_for(
    desk: RefusingDesk, terminal: int, alice: LoopbackNode, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    alice.problems.append("off")
    assert words(server.folder) == 2
    err = capsys.readouterr().err
    assert "the adapter is off" in err
    assert "give --with and the address" in err


def test_a_script_is_asked_nothing_and_told_what_to_give(tmp_path: Path, loopback_host: str) -> None:
    nodes = LoneNodes(tmp_path, 0.0, loopback_host)
    try:
        nodes.start(*ADDRESSES)
        status, _, errors = nodes.pair("alice", "words", *WORDS).end()
        assert (status, "give --with and the address" in errors) == (2, True)
    finally:
        nodes.stop()
