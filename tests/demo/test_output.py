"""What is left on disk: all or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from bt_selfsecure.demo import output


def _write_half(file: Path, fault: type[BaseException]) -> None:
    file.write_text("half of it")
    raise fault


@pytest.mark.parametrize("fault", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("existing", [False, True])
def test_a_run_that_fails_leaves_a_folder_as_it_was(tmp_path: Path, existing: bool, fault: type[BaseException]) -> None:
    directory = tmp_path / "out"
    if existing:
        directory.mkdir()
        (directory / "report.html").write_text("old")
    with pytest.raises(fault), output.folder(directory) as part:
        _write_half(part / "report.html", fault)
    if existing:
        assert [file.name for file in directory.iterdir()] == ["report.html"]
        assert (directory / "report.html").read_text() == "old"
    else:
        assert list(tmp_path.iterdir()) == []


def test_a_run_that_ends_replaces_the_old_files_at_its_end(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("old")
    with output.folder(tmp_path) as part:
        (part / "report.html").write_text("new")
        assert (tmp_path / "report.html").read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "new"


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
