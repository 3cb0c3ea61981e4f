"""`eve capture`: files of bounded size that say the same as what was heard."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from capture_tools import read
from carriers import FIXTURES, by_rfcomm, report, wires, write

from bt_selfsecure.cli.main import main
from bt_selfsecure.eve.recording import Recorder
from bt_selfsecure.eve.sources import CapturedPacket
from bt_selfsecure.eve.sources.linktypes import READ
from bt_selfsecure.eve.sources.live import Monitored


def alike(one: CapturedPacket, other: CapturedPacket) -> bool:
    """All but the link type, which one kind of several stands for, and the way of packets on the air."""
    same = (one.bytes, one.rssi, one.channel) == (other.bytes, other.rssi, other.channel)
    return same and one.crc_ok in (other.crc_ok, None) and abs(one.time - other.time) < 1e-5


@pytest.mark.parametrize("name", ["ubertooth", "nrf52_sniffer"])
def test_what_was_kept_is_what_was_heard(name: str, tmp_path: Path) -> None:
    source = FIXTURES / f"{name}.pcapng"
    assert main(["eve", "capture", str(source), "--output", str(tmp_path / "out")]) == 0
    [kept] = (tmp_path / "out").iterdir()
    before, after = read(source)[1], read(kept)[1]
    assert len(before) == len(after)
    assert all(alike(one, other) for one, other in zip(before, after, strict=True))


def test_hci_keeps_its_directions(tmp_path: Path) -> None:
    source = write(tmp_path / "in.pcapng", [*by_rfcomm(wires()), report(wires()[3])])
    assert main(["eve", "capture", str(source), "--output", str(tmp_path / "out")]) == 0
    [kept] = (tmp_path / "out").iterdir()
    assert read(kept)[1] == read(source)[1]


def test_files_have_a_size_and_the_oldest_go(tmp_path: Path) -> None:
    heard = [h for h in (READ[147](float(n), bytes(400)) for n in range(100)) if h]
    with Recorder(tmp_path, megabytes=0.005, files=3) as recorder:
        for each in heard:
            recorder.write(each)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 3
    assert all(file.stat().st_size < 6000 for file in files)
    assert [h.time for h in read(files[-1])[1]][-1] == 99.0
    assert recorder.packets == 100


def test_what_is_heard_now_is_kept_and_the_order_is_that_of_the_files_wherever_the_clock_jumps(tmp_path: Path) -> None:
    """A Pi boots in 1970 or at its last hour, beside files that are named by a time to come, of ours and older ones."""
    (tmp_path / "eve-20991231T235959.000000Z.pcapng").write_bytes(b"an older version's")
    years = (2026, 2106, 1970, 2000, 9999, 2025, 2038)
    for time_heard, year in enumerate(years, 1):
        [heard] = [READ[147](float(time_heard), bytes(40))]
        assert heard
        with Recorder(tmp_path, 1.0, files=3, now=lambda year=year: datetime(year, 1, 1, tzinfo=UTC)) as recorder:
            recorder.write(heard)
        kept = [read(path)[1][0].time for path in sorted(tmp_path.glob("eve-0*"))]
        assert kept == [float(number) for number in range(max(1, time_heard - 2), time_heard + 1)]
    assert len(list(tmp_path.iterdir())) == 3


def test_a_signal_of_systemds_ends_a_capture_in_good_order(tmp_path: Path) -> None:
    os.mkfifo(fifo := tmp_path / "fifo")
    command = [
        sys.executable,
        "-m",
        "bt_selfsecure.cli.main",
        "eve",
        "capture",
        str(fifo),
        "--output",
        str(tmp_path / "o"),
    ]
    capture = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    source = write(tmp_path / "in.pcapng", by_rfcomm(wires())).read_bytes()
    with fifo.open("wb", buffering=0) as pipe:
        pipe.write(source)
        until = time.monotonic() + 60
        while not list((tmp_path / "o").glob("*")) and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.2)
        capture.send_signal(signal.SIGTERM)
        out, _ = capture.communicate(timeout=60)
    assert capture.returncode == 0
    assert "packets kept in" in out
    [kept] = (tmp_path / "o").iterdir()
    assert len(read(kept)[1]) > len(wires())


@pytest.mark.parametrize("options", [["--megabytes", "0"], ["--files", "0"]])
def test_impossible_sizes_give_one_line_and_2(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eve", "capture", "-", "--output", "x", *options]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_folder_that_can_not_be_made_gives_one_line_and_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    source = write(tmp_path / "in.pcapng", by_rfcomm(wires()))
    assert main(["eve", "capture", str(source), "--output", str(tmp_path / "file/below")]) == 2
    assert "name another with --output" in capsys.readouterr().err


def test_an_adapter_that_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for source in ("hci65000", "monitor:hci65000"):
        if source.startswith("monitor") and hasattr(socket, "AF_BLUETOOTH") and Path("/sys/class/bluetooth").exists():
            continue  # a monitor may listen to an adapter that is yet to come
        assert main(["eve", "capture", source, "--output", str(tmp_path)]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_an_adapter_that_goes_away_ends_a_capture_with_1_and_keeps_what_was_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    monkeypatch.setattr("bt_selfsecure.cli.eve_capture.open_source", lambda name: Monitored(name, ours))
    event = report(wires()[3])[1][5:]
    kernel.send(struct.pack("<HHH", 3, 1, len(event)) + event)
    kernel.send(struct.pack("<HHH", 9, 1, 0))  # index closed
    assert main(["eve", "capture", "hci1", "--output", str(tmp_path)]) == 1
    assert "hci1 is gone or was switched off" in capsys.readouterr().err
    [kept] = tmp_path.iterdir()
    assert len(read(kept)[1]) == 1
    kernel.close()
