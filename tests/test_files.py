"""What is left on disk: all or nothing; and what can't be written is found before the work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bt_selfsecure import files
from bt_selfsecure.errors import UsageError


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
    with pytest.raises(fault), files.folder(directory) as part:
        _write_half(part / "report.html", fault)
    if existing:
        assert [file.name for file in directory.iterdir()] == ["report.html"]
        assert (directory / "report.html").read_text() == "old"
    else:
        assert list(tmp_path.iterdir()) == []


def test_a_run_that_ends_replaces_the_old_files_at_its_end(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("old")
    with files.folder(tmp_path) as part:
        (part / "report.html").write_text("new")
        assert (tmp_path / "report.html").read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "new"


def test_a_folder_in_the_place_of_a_file_is_named_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "loss.svg").mkdir()
    with (
        pytest.raises(UsageError, match=r"can't write .*loss.svg \(it is a folder\)"),
        files.folder(tmp_path, ["loss.svg"]),
    ):
        pytest.fail("the work was begun")
    with pytest.raises(UsageError, match=r"can't write .*loss.svg \(Is a directory\)"), files.folder(tmp_path) as part:
        (part / "loss.svg").touch()
    assert [file.name for file in tmp_path.iterdir()] == ["loss.svg"]


@pytest.mark.parametrize("fault", [KeyboardInterrupt, RuntimeError])
def test_a_file_is_the_old_one_until_the_new_one_is_whole(tmp_path: Path, fault: type[BaseException]) -> None:
    file = tmp_path / "table"
    file.write_text("old")
    with pytest.raises(fault), files.whole(file) as part:
        _write_half(part, fault)
    assert [(left.name, left.read_text()) for left in tmp_path.iterdir()] == [("table", "old")]
    with files.whole(file) as part:
        part.write_text("new")
        assert file.read_text() == "old"
    assert [(left.name, left.read_text()) for left in tmp_path.iterdir()] == [("table", "new")]


@pytest.mark.parametrize("place", ["folder", "none/table", "file/table", "x" * 252, "/proc/table"])
def test_a_file_that_can_not_be_written_is_found_before_the_work(place: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with (
        pytest.raises(UsageError, match=r"can't write '.*' \(.+\): choose another place"),
        files.whole(tmp_path / place),
    ):
        pytest.fail("the work was begun")
    assert sorted(left.name for left in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_place_of_others_is_found_before_the_work(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="Permission denied"), files.whole(tmp_path / "table"):
        pytest.fail("the work was begun")


def test_a_fault_of_another_file_is_not_taken_for_the_output_s(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), files.whole(tmp_path / "table"):
        (tmp_path / "input").read_text()


def test_a_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with files.whole(tmp_path / "fifo") as part:
        assert part == tmp_path / "fifo"
    assert (tmp_path / "fifo").is_fifo()


@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_a_file_is_never_readable_by_more_than_was_asked_for(mode: int, tmp_path: Path) -> None:
    (tmp_path / "keys.part").touch(0o666)
    (tmp_path / "keys.part").chmod(0o666)
    with files.whole(tmp_path / "keys", mode) as part:
        assert part.stat().st_mode & 0o777 & ~mode == 0
