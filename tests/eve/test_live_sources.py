"""The monitor channel as the kernel sends it, through a real socket; the radio itself is in tests/lab's reach only."""

from __future__ import annotations

import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from carriers import HCI, by_rfcomm, l2cap, report, wires

from bt_selfsecure.cli.eve import Summary, _add
from bt_selfsecure.cli.eve_sources import hear_out
from bt_selfsecure.cli.main import main
from bt_selfsecure.errors import UsageError
from bt_selfsecure.eve.haoxiao.format import HAOXIAO
from bt_selfsecure.eve.haoxiao.verdict import Judge
from bt_selfsecure.eve.reading import Reader
from bt_selfsecure.eve.sources import Capture, CapturedPacket, Direction, HeardTap, open_source
from bt_selfsecure.eve.sources.live import Monitored

EVENT, ACL_SENT, ACL_RECEIVED, CLOSED = 3, 4, 5, 9
SMALL = next(wire for wire in wires() if len(wire) == 24)


@pytest.fixture
def channel() -> Iterator[tuple[socket.socket, Monitored]]:
    """The kernel's end, and what listens on hci1 at ours."""
    kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with kernel, Monitored("hci1", ours) as source:
        yield kernel, source


def monitored(opcode: int, packet: bytes, adapter: int = 1) -> bytes:
    return struct.pack("<HHH", opcode, adapter, len(packet)) + packet


def test_packets_of_the_adapter_come_as_they_are_and_those_of_others_do_not(
    channel: tuple[socket.socket, Monitored],
) -> None:
    kernel, source = channel
    event, acl = report(SMALL, rssi=-47)[1][5:], l2cap(b"\x23sdu")[1][5:]
    kernel.send(monitored(EVENT, event, adapter=0))
    kernel.send(b"short")
    kernel.send(monitored(EVENT, event)[:-1])
    for opcode, packet in ((EVENT, event), (ACL_SENT, acl), (ACL_RECEIVED, acl)):
        kernel.send(monitored(opcode, packet))
    kernel.shutdown(socket.SHUT_WR)
    heard = list(source)
    assert [(h.bytes, h.direction, h.rssi) for h in heard] == [
        (b"\x04" + event, Direction.RECEIVED, -47),
        (b"\x02" + acl, Direction.SENT, None),
        (b"\x02" + acl, Direction.RECEIVED, None),
    ]
    assert all(abs(h.time - time.time()) < 60 for h in heard)
    assert source.packets == 3
    assert [d.data for h in heard for d in Reader(HAOXIAO).read(h)] == [SMALL, b"\x23sdu", b"\x23sdu"]


def test_an_adapter_that_goes_away_is_said(channel: tuple[socket.socket, Monitored]) -> None:
    kernel, source = channel
    kernel.send(monitored(CLOSED, b"", adapter=0))
    kernel.send(monitored(EVENT, report(SMALL)[1][5:]))
    kernel.send(monitored(CLOSED, b""))
    packets = iter(source)
    next(packets)
    next(packets)
    with pytest.raises(UsageError, match="hci1 is gone or was switched off"):
        next(packets)


def test_ctrl_c_ends_a_radio_and_what_it_heard_is_summed_up(channel: tuple[socket.socket, Monitored]) -> None:
    kernel, source = channel
    for _ in range(3):
        kernel.send(monitored(EVENT, report(SMALL)[1][5:]))
    main_thread = threading.main_thread().ident
    assert main_thread is not None
    timer = threading.Timer(0.5, signal.pthread_kill, (main_thread, signal.SIGINT))
    timer.start()
    summary = Summary()
    hear_out(source, partial(_add, summary, Judge(), None))
    timer.join()
    assert (summary.packets, summary.ours, summary.by_linktype) == (3, 3, {"254 BLUETOOTH_LINUX_MONITOR": 3})


def test_an_adapter_that_is_not_there_gives_one_line_and_2(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever else this machine lacks: capabilities, or Bluetooth at all."""
    assert main(["eve", "read", "hci65000"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1


def test_a_file_that_is_called_like_an_adapter_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hci0").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    with open_source("hci0") as source:
        assert isinstance(source, Capture)


def test_the_airs_tap_gives_what_was_sent() -> None:
    heard: list[CapturedPacket] = []
    tap = HeardTap(heard.append)
    for number, (linktype, packet) in enumerate(by_rfcomm(wires())):
        tap.hear(float(number), linktype, packet)
    assert [d.data for d in Reader(HAOXIAO).read_all(heard)] == wires()
    assert {h.linktype for h in heard} == {HCI}
