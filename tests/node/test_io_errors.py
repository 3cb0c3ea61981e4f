"""A real daemon under whose journal the disk gives I/O errors, as a dying card does: it says so, takes nothing that it
can't keep, and goes on when the disk does."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from two_daemons import QuickNodes, Traffic, start, wait_until

from bt_selfsecure.node.two_nodes import ADDRESSES

PORTS = 5706, 5707
WORDS = "the disk does not work (an I/O error): see dmesg, and save the state elsewhere"
SOURCE = Path(__file__).parent / "fixtures" / "io_error.c"


class DyingDisks(QuickNodes):
    """Under the daemons, while the file `error` names an operation."""

    @property
    def error(self) -> Path:
        return self.folder / "error"

    def command(self, *words: str) -> list[str]:
        library = self.folder / "io_error.so"
        return ["env", f"LD_PRELOAD={library}", f"IO_ERROR={self.error}", *super().command(*words)]


@pytest.fixture
def nodes(tmp_path: Path, loopback_host: str) -> Iterator[DyingDisks]:
    if not shutil.which("cc"):
        pytest.skip("no C compiler")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "io_error.so", SOURCE, "-ldl"], check=True)
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
