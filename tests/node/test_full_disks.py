"""Real daemons whose disk is full, at the start and while they run: nothing is lost or comes twice, the sentence is the
right one, and it goes on when there is room again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from own_mounts import USER, run_on
from two_daemons import QuickNodes, Traffic, start, wait_until

from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.client import ApiError
from bt_selfsecure.node.two_nodes import ADDRESSES

PORTS = 5704, 5705
LOSS = 0.02
MEGABYTES = 8
WORDS = "the disk is full: make room on it"
EXT4 = f"truncate -s {MEGABYTES}M NAME.img && /sbin/mkfs.ext4 -q -m 0 -O ^has_journal -b BLOCK NAME.img && "
EXT4 += "mount -o loop NAME.img NAME"
MOUNT = {
    "tmpfs": f"mount -t tmpfs -o size={MEGABYTES}m,mode=700 none NAME",
    "ext4": EXT4.replace("BLOCK", "4096"),
    "ext4 of small blocks": EXT4.replace("BLOCK", "1024"),  # as mkfs makes it where there is less than 512 MB
}
"""In a namespace of the test's own."""
BLOCK = 4096
FREE_KB = (0, 4, 8, 16, 32)


class SmallDisks(QuickNodes):
    """The state of each is on a small file system of its own, which nobody else sees, and which is gone with it."""

    def __init__(self, folder: Path, loss: float, host: str, ports: tuple[int, int], file_system: str) -> None:
        """Raises `OSError` where this user, or this computer, can't mount it."""
        super().__init__(folder, loss, host, ports)
        mounts = " && ".join(MOUNT[file_system].replace("NAME", str(self.folder / name)) for name in ADDRESSES)
        self._holder = subprocess.Popen(
            ["unshare", *USER, "--mount", "sh", "-c", f"{mounts} && echo mounted && exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout
        if self._holder.stdout.readline() != "mounted\n":
            raise OSError(self._holder.communicate()[1].strip())

    def command(self, *words: str) -> list[str]:
        spaces = f"/proc/{self._holder.pid}/ns"
        user = [f"--user={spaces}/user", "--preserve-credentials"] if USER else []
        return ["nsenter", *user, f"--mount={spaces}/mnt", *super().command(*words)]

    def fill(self, name: str, free_kb: int) -> None:
        """Leave so much room."""
        with self._filler(name).open("ab", buffering=0) as filler:
            while (left := self.free_kb(name) - free_kb) > 0:
                try:
                    filler.write(bytes(min(left << 10, BLOCK if left <= 64 else left // 2 << 10)))
                    os.fsync(filler.fileno())
                except OSError:  # the daemon was quicker
                    break

    def free_kb(self, name: str) -> int:
        told = os.statvfs(self._filler(name).parent)
        return told.f_bavail * told.f_bsize >> 10

    def make_room(self, name: str) -> None:
        self._filler(name).unlink(missing_ok=True)

    def _filler(self, name: str) -> Path:
        return Path(f"/proc/{self._holder.pid}/root{self.folder / name}/filler")

    def stop(self) -> None:
        super().stop()
        self._holder.communicate()


@pytest.fixture(params=["tmpfs", *(pytest.param(name, marks=pytest.mark.long) for name in list(MOUNT)[1:])])
def nodes(tmp_path: Path, loopback_host: str, request: pytest.FixtureRequest) -> Iterator[SmallDisks]:
    try:
        nodes = SmallDisks(tmp_path, LOSS, loopback_host, PORTS, request.param)
    except OSError as error:
        pytest.skip(f"no {request.param} can be mounted here: {error}")
    yield nodes
    nodes.stop()
    assert not any("fault of this program" in log.read_text() for log in tmp_path.glob("*.log"))


def are_full(nodes: SmallDisks, free_kb: int) -> bool:
    """The logs, which took some of the room, can give it back meanwhile."""
    full = [WORDS in str(nodes.client(name).status()["problems"]) for name in ADDRESSES]
    for name, is_full in zip(ADDRESSES, full, strict=True):
        if not is_full:
            nodes.fill(name, free_kb)
    return all(full)


def is_healthy(nodes: SmallDisks) -> bool:
    return all(nodes.client(name).status()["healthy"] for name in ADDRESSES)


rooms = pytest.mark.parametrize("rooms", [(0,), pytest.param(FREE_KB, marks=pytest.mark.long)], ids=len)


@rooms
@pytest.mark.timeout(300)
def test_a_disk_that_is_full_under_running_daemons_holds_messages_up_and_loses_and_doubles_none(
    nodes: SmallDisks, rooms: tuple[int, ...]
) -> None:
    start(nodes)
    traffic = Traffic(nodes, 60 * len(rooms), pause=0.02)
    for free_kb in rooms:
        for name in ADDRESSES:
            nodes.fill(name, free_kb)
        if free_kb < 8:
            wait_until(lambda free_kb=free_kb: are_full(nodes, free_kb), 20)
        time.sleep(1)
        for name in ADDRESSES:
            problems = nodes.client(name).status()["problems"]
            assert all(WORDS in problem for problem in problems), problems
            nodes.make_room(name)
        wait_until(lambda: is_healthy(nodes), 20)
        time.sleep(0.5)
    traffic.finish(120)


@rooms
@pytest.mark.timeout(300)
def test_a_daemon_that_starts_on_a_full_disk_says_so_and_has_all_that_it_took_when_there_is_room(
    nodes: SmallDisks, rooms: tuple[int, ...]
) -> None:
    """A start that is refused is tried again by systemd, by its exit status; from an empty folder and from a state."""
    taken: list[bytes] = []
    refused: list[str] = []

    def send(word: str) -> None:
        for number in range(3):
            message = f"{word} {number}".encode().ljust((20, 20, 3000)[number])
            try:
                nodes.client("alice").send("bob", message)
                taken.append(message)
            except ApiError as error:
                refused.append(str(error))

    for state in ("no state", "a state"):
        for free_kb in rooms:
            nodes.fill("alice", free_kb)
            try:
                nodes.start("alice")
                send(f"{state}, {free_kb} kB")
                problems = nodes.client("alice").status()["problems"]
                assert all(WORDS in problem for problem in problems), problems
                nodes.kill("alice")
            except UsageError as error:
                refused.append(f"{error}, exit status {nodes.processes['alice'].wait()}")
            nodes.make_room("alice")
        if state == "no state":
            nodes.start("alice")
            send("with room")
            assert len(taken) >= 3
            nodes.kill("alice")
    assert refused
    assert [text for text in refused if WORDS not in text or "exit status" in text.replace("exit status 1", "")] == []
    start(nodes)
    nodes.client("alice").send("bob", b"the last", until="acknowledged", timeout=60)
    assert [received.message for received in nodes.client("bob").receive()] == [*taken, b"the last"]


SMALL = """if True:
    import sys
    from pathlib import Path
    from bt_selfsecure.node.journal import Journal
    from bt_selfsecure.node.journal_file import JournalError
    BOB = "B8:27:EB:00:00:02"
    journal = Journal(Path(sys.argv[1]), sync_each=True)

    def takes(size):
        row = journal.insert(BOB, "outbox", BOB, bytes(size))
        try:
            journal.commit()
        except JournalError as error:
            assert "make room on it" in str(error)
            journal.delete(BOB, "outbox", row)
            return 0
        return row

    for _ in range(60):
        journal.delete(BOB, "outbox", takes(20))
    assert journal.erase(room=float(sys.argv[2])) == ""
    row = takes(250_000)
    assert row and not takes(700_000)
    assert takes(20)
    journal.delete(BOB, "outbox", row)
    journal.commit()
    assert journal.erase() == ""
    journal.commit()
    assert not journal.trouble
    assert takes(250_000)
    journal.close()
    assert len(Journal(Path(sys.argv[1]), sync_each=True).outbox(BOB)) == 2
"""


@pytest.mark.parametrize("room", [0.0, 2.0, 1000.0])
def test_what_the_log_took_of_a_small_disk_is_given_back_where_that_is_full(tmp_path: Path, room: float) -> None:
    done = run_on(tmp_path, "1000k", "true", sys.executable, "-c", SMALL, str(tmp_path), str(room))
    assert done.returncode == 0, done.stderr
