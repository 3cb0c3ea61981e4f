"""Networks of a test's own, by iproute2."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

PLACE = "/run/netns"
WAS_THERE = f" {PLACE} " in Path("/proc/mounts").read_text()
"""Before any test: `ip` mounts the place of its networks at the first one, and leaves it there."""


def add_network(space: str, closing: ExitStack) -> None:
    """Add a network of this name, until `closing` closes; skip the test where none can be entered, as in a chroot."""
    if not WAS_THERE:  # while another test has a network there it is busy, and stays until that one is over
        closing.callback(subprocess.run, ["umount", PLACE], check=False, capture_output=True)
    subprocess.run(["ip", "netns", "add", space], check=True, capture_output=True, timeout=30)
    closing.callback(subprocess.run, ["ip", "netns", "del", space], check=False)
    entered = subprocess.run(["ip", "netns", "exec", space, "true"], capture_output=True, text=True, timeout=30)
    if entered.returncode:
        pytest.skip(f"networks of one's own can't be entered here: {entered.stderr.strip()}")
