"""What is left on disk: all or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from bt_selfsecure.demo import output


def test_secret_lines_are_their_owners_alone_and_whole(tmp_path: Path) -> None:
    log = tmp_path / "keys"
    with output.secret_lines(log) as lines:
        assert [file.stat().st_mode & 0o777 for file in tmp_path.iterdir()] == [0o600]
        lines += ["BTSS_K0 00 11", "BTSS_K1 00 22"]
        assert not log.exists()
    assert log.read_text() == "BTSS_K0 00 11\nBTSS_K1 00 22\n"
    assert log.stat().st_mode & 0o777 == 0o600


def test_secret_lines_of_a_run_that_fails_leave_the_old_log(tmp_path: Path) -> None:
    log = tmp_path / "keys"
    log.write_text("old")
    with pytest.raises(KeyboardInterrupt), output.secret_lines(log):
        raise KeyboardInterrupt
    assert log.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["keys"]
