"""Whole systems for machines: what is said where they can't be made. `test_install.py` runs on them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bt_selfsecure.errors import UsageError
from bt_selfsecure.lab import system
from bt_selfsecure.lab.lab import Lab


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_a_release_that_is_none_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="'buster' for machines: take one of bookworm, trixie"):
        system.system("buster", print)


def test_each_machine_gets_its_own_release_or_all_the_same(tmp_path: Path) -> None:
    Lab(["alice", "bob"], tmp_path, systems=["trixie"])
    Lab(["alice", "bob"], tmp_path, systems=["bookworm", "trixie"])
    with pytest.raises(UsageError, match="3 systems for 2 machines: name one for all, or one for each"):
        Lab(["alice", "bob"], tmp_path, systems=["bookworm", "trixie", "trixie"])


def test_a_missing_mmdebstrap_is_named_with_the_apt_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError, match="sudo apt-get install -y mmdebstrap"):
        system.system("trixie", print)


def test_who_is_not_root_is_told_that_it_takes_root_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system.shutil, "which", lambda tool: tool)
    monkeypatch.setattr(system.os, "geteuid", lambda: 1000)
    with pytest.raises(UsageError, match="takes root, once"):
        system.system("trixie", print)


def test_a_system_that_cannot_be_made_leaves_nothing_and_gives_the_tools_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    tool = tmp_path / "bin/mmdebstrap"
    tool.write_text("#!/bin/sh\necho E: no such mirror >&2\nexit 1\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=":")
    monkeypatch.setattr(system.os, "geteuid", lambda: 0)
    with pytest.raises(UsageError, match="no such mirror"):
        system.system("trixie", lambda text: None)
    assert list((tmp_path / "bt-selfsecure/lab").iterdir()) == []
