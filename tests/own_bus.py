"""A D-Bus of one's own in the system bus's place."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def own_bus(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A real one, at a socket in `folder`."""
    if shutil.which("dbus-daemon") is None:
        pytest.skip("there is no dbus-daemon: sudo apt install dbus")
    address = f"unix:path={folder}/bus"
    for kind in ("SYSTEM", "SESSION"):
        monkeypatch.setenv(f"DBUS_{kind}_BUS_ADDRESS", address)
    command = ["dbus-daemon", "--session", f"--address={address}", "--nofork", "--print-address"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline()
        try:
            yield
        finally:
            daemon.terminate()
