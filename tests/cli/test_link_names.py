"""Whom `link up NAME` dials: a peer of the configuration, or one that was paired."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from bt_selfsecure.bearers import ipsp_link
from bt_selfsecure.cli.main import main
from bt_selfsecure.node.config import PeerTable
from bt_selfsecure.node.paired import keep


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (path := tmp_path / "node.toml").write_text(
        f'[node]\nstate_directory = "{tmp_path}"\n[[peer]]\nname = "carol"\naddress = "B8:27:EB:00:00:03"\n'
    )
    keep(tmp_path, PeerTable("bob", "B8:27:EB:00:00:02"), bytes(32))
    return path


@pytest.mark.parametrize(("name", "address"), [("bob", "B8:27:EB:00:00:02"), ("carol", "B8:27:EB:00:00:03")])
def test_a_peer_is_dialled_by_its_name_also_where_it_was_paired(
    config: Path, monkeypatch: pytest.MonkeyPatch, name: str, address: str
) -> None:
    dialled = []

    async def keep_up(adapter: str, peer: str | None) -> AsyncGenerator[ipsp_link.InterfaceState, None]:
        dialled.append(peer)
        yield ipsp_link.InterfaceState(None)

    monkeypatch.setattr(ipsp_link, "keep_up", keep_up)
    assert main(["link", "up", name, "--ipsp", "--config", str(config)]) == 0
    assert dialled == [address]


def test_who_names_nobody_is_told_who_is_known(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["link", "up", "erin", "--ipsp", "--config", str(config)]) == 2
    assert "those are bob, carol" in capsys.readouterr().err
