"""A real daemon under whose journal the disk gives I/O errors, as a dying card does: it says so, takes nothing that it
can't keep, and goes on when the disk does."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from two_daemons import QuickNodes, Traffic, start, wait_until

from bt_selfsecure.node.two_nodes import ADDRESSES

PORTS = 5706, 5707
WORDS = "the disk does not work (an I/O error): see dmesg, and save the state elsewhere"
SOURCE = Path(__file__).parent / "fixtures" / "io_error.c"
TAKEN_BACK = """
import sys
from pathlib import Path
from bt_selfsecure.node.journal import Journal
from bt_selfsecure.node.journal_file import JournalError

BOB = "B8:27:EB:00:00:02"
folder, error, operation = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
journal = Journal(folder, sync_each=True)
error.write_text(operation)
number = journal.insert(BOB, "outbox", BOB, b"refused")
for again in range(3):
    try:
        journal.commit()
    except JournalError:
        print(journal.trouble)
    journal.delete(BOB, "outbox", number)
    journal.discard(BOB)
error.unlink()
journal.commit()
print(repr(journal.trouble), journal.outbox(BOB))
journal.close()
"""


class DyingDisks(QuickNodes):
    """Under the daemons, while the file `error` names an operation."""

    @property
    def error(self) -> Path:
        return self.folder / "error"

    def command(self, *words: str) -> list[str]:
        return ["env", f"LD_PRELOAD={self.folder / 'io_error.so'}", f"IO_ERROR={self.error}", *super().command(*words)]


@pytest.fixture
def library(tmp_path: Path) -> Path:
    if not shutil.which("cc"):
        pytest.skip("no C compiler")
    library = tmp_path / "io_error.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    return library


@pytest.fixture
def nodes(tmp_path: Path, library: Path, loopback_host: str) -> Iterator[DyingDisks]:
    nodes = DyingDisks(tmp_path, 0.02, loopback_host, PORTS)
    yield nodes
    nodes.stop()
    for name in ADDRESSES:
        assert "fault of this program" not in nodes.log(name).read_text()


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "operations", [("sync",), pytest.param(("write", "read", "sync", "write"), marks=pytest.mark.long)], ids="-".join
)
def test_a_disk_that_gives_io_errors_is_named_and_loses_and_doubles_no_message(
    nodes: DyingDisks, operations: tuple[str, ...]
) -> None:
    start(nodes)
    traffic = Traffic(nodes, 50 * len(operations), pause=0.02)
    for operation in operations:
        nodes.error.write_text(operation)
        if operation != "read":  # of what is in memory nothing is read
            for name in ADDRESSES:
                wait_until(lambda name=name: WORDS in str(nodes.client(name).status()["problems"]), 20)
        for name in ADDRESSES:
            assert "make room" not in str(nodes.client(name).status()["problems"])
        nodes.error.unlink()
        wait_until(lambda: all(nodes.client(name).status()["healthy"] for name in ADDRESSES), 20)
    traffic.finish(100)


@pytest.mark.parametrize("operation", ["write", "sync"])
def test_a_disk_that_gives_io_errors_is_not_called_well_before_it_has_taken_something(
    tmp_path: Path, library: Path, operation: str
) -> None:
    """Also where what it refused was taken back, so that nothing is left to write."""
    error = tmp_path / "error"
    said = subprocess.run(
        [sys.executable, "-c", TAKEN_BACK, tmp_path / "state", error, operation],
        env={"LD_PRELOAD": str(library), "IO_ERROR": str(error)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert said.stdout.splitlines() == [f"the node's state can't be kept: {WORDS}"] * 3 + ["'' []"]
