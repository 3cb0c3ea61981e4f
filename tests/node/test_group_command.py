"""`bt-selfsecure group`: what each command says and does, on nodes that really serve the local API."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from loopback_node import Server

from bt_selfsecure.cli.main import main
from bt_selfsecure.node.client import NodeClient

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def config(server: Server) -> Path:
    (path := server.folder / "alice.toml").write_text(f'[node]\nsocket = "{server.socket("alice")}"\n')
    return path


@pytest.fixture
def group(at_alice: NodeClient, config: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str) -> tuple[int, str, str]:
        status = main(["group", words[0], "--config", str(config), *words[1:]])
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


def test_a_group_is_made_spoken_to_changed_and_deleted(group: Run, tmp_path: Path) -> None:
    status, out, _ = group("create", "lamps", "bob")
    assert status == 0
    assert out.splitlines() == [
        "lamps  epoch 1, 0 messages, 0 under way; 131 secret bits of a burst in common",
        "  bob: current, has 0 of 0 for sure",
    ]
    message = tmp_path / "order"
    message.write_bytes(b"on")
    assert group("send", "lamps", str(message))[0] == 0
    assert "1 message," in group("status")[1]
    assert json.loads(group("status", "lamps", "--json")[1])[0]["members"][0]["peer"] == "bob"
    assert group("remove", "lamps", "bob")[1].endswith("no members\n")
    assert group("leave", "lamps")[::2] == (
        2,
        "bt-selfsecure: this node is no member of a group 'lamps': see bt-selfsecure group status\n",
    )
    assert group("delete", "lamps")[0] == 0
    assert group("status")[1] == "No groups: bt-selfsecure group create NAME PEER ...\n"


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("send", "nothing", "/dev/null"), "owns no group 'nothing'"),
        (("create", "lamps", "nobody"), "there is no peer 'nobody'"),
        (("status", "nothing"), "there is no group 'nothing' here"),
        (("delete", "nothing"), "owns no group"),
        (("add", "nothing", "bob"), "owns no group"),
        (("create", "", "bob"), "has 1 to 32 bytes"),
        (("delete", ""), "has 1 to 32 bytes"),
    ],
)
def test_what_can_not_be_is_one_line(group: Run, words: tuple[str, ...], fault: str) -> None:
    status, _, err = group(*words)
    assert status == 2
    assert fault in err
    assert err.count("\n") == 1


def test_too_long_a_message_is_refused(group: Run, tmp_path: Path) -> None:
    group("create", "lamps", "bob")
    message = tmp_path / "long"
    message.write_bytes(bytes(201))
    status, _, err = group("send", "lamps", str(message))
    assert (status, "at most 200 bytes" in err) == (2, True)


def test_status_of_the_node_shows_its_groups(group: Run, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    group("create", "lamps", "bob")
    main(["status", "--config", str(config)])
    assert "groups\n  lamps  epoch 1" in capsys.readouterr().out
