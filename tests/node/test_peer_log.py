"""The log as journald gets it, by its own protocol, from real nodes."""

from __future__ import annotations

import logging
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from node_world import World, connected, virtual

from bt_selfsecure.node.peer_log import JournalHandler, PeerLog, encoded


def fields_of(datagram: bytes) -> dict[str, str]:
    """As systemd reads them (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""
    fields = {}
    while datagram:
        head, _, rest = datagram.partition(b"\n")
        name, equals, value = head.partition(b"=")
        if not equals:
            (size,) = struct.unpack_from("<Q", rest)
            value, rest = rest[8 : 8 + size], rest[8 + size + 1 :]
        fields[name.decode()] = value.decode()
        datagram = rest
    return fields


class Journald:
    """What listens in its place, and reads at once, as the kernel keeps few datagrams."""

    def __init__(self, path: Path) -> None:
        self.entries: list[dict[str, str]] = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while datagram := self.socket.recv(1 << 18):
            self.entries.append(fields_of(datagram))

    def close(self) -> None:
        """What was sent before is in `entries` then."""
        if self._thread.is_alive():
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
                last.sendto(b"", self.socket.getsockname())
            self._thread.join()
        self.socket.close()


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[Journald]:
    """The package's log goes there."""
    journald = Journald(tmp_path / "journal")
    handler = JournalHandler(tmp_path / "journal")
    ours = logging.getLogger("bt_selfsecure")
    level = ours.level
    ours.setLevel("DEBUG")
    ours.addHandler(handler)
    yield journald
    ours.removeHandler(handler)
    ours.setLevel(level)
    handler.close()
    journald.close()


def test_peer_event_and_round_are_fields_of_their_own(journald: Journald, tmp_path: Path) -> None:
    async def main() -> None:
        async with World(tmp_path).pair() as (alice, bob):
            await connected(alice, bob)
            await alice.send("bob", b"secret-words", until="acknowledged")

    virtual(main())
    journald.close()
    at_alice = [entry for entry in journald.entries if entry.get("BTSS_PEER") == "bob"]
    events = [entry.get("BTSS_EVENT") for entry in at_alice]
    assert {"linked", "establishing", "established", "resynchronised", "acknowledged"} <= set(events)
    (acknowledged,) = [entry for entry in at_alice if entry.get("BTSS_EVENT") == "acknowledged"]
    assert acknowledged["BTSS_ROUND"] == "0"
    assert acknowledged["PRIORITY"] == "7"
    assert acknowledged["MESSAGE"] == "bob: round acknowledged"
    (key,) = [entry for entry in at_alice if entry.get("BTSS_EVENT") == "established"]
    assert (key["PRIORITY"], key["SYSLOG_IDENTIFIER"]) == ("6", "bt-selfsecure")
    assert key["LOGGER"] == "bt_selfsecure.node.haoxiao.peer"
    assert not any("secret-words" in value for entry in journald.entries for value in entry.values())


def test_lines_and_signs_of_all_kinds_arrive_as_they_were(journald: Journald) -> None:
    log = logging.getLogger("bt_selfsecure.test")
    PeerLog(log, "100%s").warning("two\nlines and %s", "Ω", event="x=y\n")
    try:
        raise RuntimeError("inside")
    except RuntimeError:
        PeerLog(log, "bob").exception("it broke")
    journald.close()
    first, second = journald.entries
    assert first["MESSAGE"] == "100%s: two\nlines and Ω"
    assert first["BTSS_EVENT"] == "x=y\n"
    assert "RuntimeError: inside" in second["MESSAGE"]
    assert second["PRIORITY"] == "3"
    assert encoded({"A": "b\udcff"}) == b"A=b\\udcff\n"


def test_what_journald_does_not_take_goes_to_standard_error(
    journald: Journald, capfd: pytest.CaptureFixture[str]
) -> None:
    journald.close()
    logging.getLogger("bt_selfsecure.test").warning("nobody listens")
    assert capfd.readouterr().err == "nobody listens\n"


def test_only_standard_error_that_is_the_journal_is_left_for_it(tmp_path: Path) -> None:
    """JOURNAL_STREAM is inherited by children whose standard error is something else."""
    program = "from bt_selfsecure.node.peer_log import stderr_is_the_journal; print(stderr_is_the_journal())"
    with (tmp_path / "stream").open("w") as stream:
        status = Path(stream.name).stat()
        for inode, expected in ((status.st_ino, "True"), (status.st_ino + 1, "False"), ("x", "False")):
            variables = {"JOURNAL_STREAM": f"{status.st_dev}:{inode}", "PYTHONPATH": ":".join(sys.path)}
            done = subprocess.run(
                [sys.executable, "-c", program], env=variables, stderr=stream, stdout=subprocess.PIPE, text=True
            )
            assert done.stdout.strip() == expected
