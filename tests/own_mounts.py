"""A small file system of one's own, in a namespace that nobody else sees and that is gone with its program."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

import pytest

USER: Final = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
"""What `unshare` and `nsenter` need, too, where this user may not mount."""


def run_on(place: Path, size: str, then: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in this folder, on a tmpfs of this size, after `then` was done there; its standard error ends with
    the names of all files. Skips the test where this user, or this computer, can't mount it."""
    script = f"mount -t tmpfs -o size={size} none {place} && cd {place} && {then} || exit 77"
    done = subprocess.run(
        ["unshare", *USER, "--mount", "sh", "-c", f'{script}; "$@"; s=$?; ls >&2; exit $s', "sh", *command],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if done.returncode == 77 or done.stderr.startswith("unshare: "):  # as in a chroot, where / is no mount
        pytest.skip(f"can't mount here: {done.stderr}")
    return done
