"""Networks of a test's own, by iproute2."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack

import pytest


def add_network(space: str, closing: ExitStack) -> None:
    """Add a network of this name, until `closing` closes; skip the test where none can be entered, as in a chroot."""
    subprocess.run(["ip", "netns", "add", space], check=True, capture_output=True, timeout=30)
    closing.callback(subprocess.run, ["ip", "netns", "del", space], check=False)
    entered = subprocess.run(["ip", "netns", "exec", space, "true"], capture_output=True, text=True, timeout=30)
    if entered.returncode:
        pytest.skip(f"networks of one's own can't be entered here: {entered.stderr.strip()}")
