"""Ctrl-C while other programs make what machines boot from: it is we who were interrupted, and nothing has failed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bt_selfsecure.lab import runner
from bt_selfsecure.lab.runner import Runner

pytestmark = pytest.mark.lab

APT = """#!/bin/sh
[ "${0##*/}" != apt-cache ] || { echo " Depends: linux-image-6.1.0-1-amd64 | 6.1.1 | x"; exit; }
trap 'echo E: interrupted >&2; exit 100' INT TERM
touch "$STARTED"
sleep 30 & wait
"""
"""Of apt only how it meets signals."""


@pytest.mark.parametrize(
    ("number", "to_all", "status"),
    [(signal.SIGINT, True, 130), (signal.SIGINT, False, 130), (signal.SIGTERM, False, 143)],
    ids=["Ctrl-C in a terminal", "kill -INT", "kill"],
)
@pytest.mark.parametrize("words", [("up", "alice", "--runner", "tcg"), ("kernel",)], ids=["up", "kernel"])
def test_whoever_ends_the_lab_while_it_fetches_reads_no_fault_of_apts_and_nothing_is_left(
    words: tuple[str, ...], number: signal.Signals, to_all: bool, status: int, tmp_path: Path
) -> None:
    if "kernel" in words and (not shutil.which("gcc") or not runner.obstacle(Runner.KVM, print)):
        pytest.skip("nothing would be compiled here")
    for name in ("apt-get", "apt-cache"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(APT)
        (tmp_path / "bin" / name).chmod(0o755)
    started, cache = tmp_path / "started", tmp_path / "cache"
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "STARTED": str(started), "XDG_CACHE_HOME": str(cache)}
    folder = ("--lab", str(tmp_path / "lab")) if "up" in words else ()
    command = [sys.executable, "-m", "bt_selfsecure.cli.main", "lab", *words, *folder]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True) as lab:
        until = time.monotonic() + 30
        while not started.exists() and lab.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        began = time.monotonic()
        (os.killpg if to_all else os.kill)(lab.pid, number)
        _, said = lab.communicate(timeout=20)
    assert lab.returncode == status, said
    assert time.monotonic() - began < 10
    assert "apt" not in said
    assert "can't be downloaded" not in said
    assert list((cache / "bt-selfsecure/lab").iterdir()) == []
    assert not (tmp_path / "lab").exists()
    assert subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True).stdout == b""
