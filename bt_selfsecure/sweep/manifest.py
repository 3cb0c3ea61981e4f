"""What a sweep was measured with, as far as this computer can tell: one JSON object for `Store.begin`."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from bt_selfsecure import __version__

LIBRARIES: Final = ("bleak", "bluezero", "bumble", "cryptography", "dbus-fast", "numpy")
MODEL: Final = Path("/proc/device-tree/model")


def collect(**more: Any) -> dict[str, Any]:
    """Return versions, kernel, board and commit, and what the caller adds: plan, nodes, firmware. No address, no host
    name."""
    return {
        "bt_selfsecure": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "libraries": _versions(),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "system": _system().get("PRETTY_NAME", sys.platform),
        "board": MODEL.read_text().rstrip("\0") if MODEL.exists() else None,
        **more,
    }


def _versions() -> dict[str, str]:
    installed = {name: _version(name) for name in LIBRARIES}
    return {name: version for name, version in installed.items() if version}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _system() -> Mapping[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def _commit() -> str | None:
    """Return the commit of the checkout that runs, with "+" if it was changed; None if it is none."""
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return told.stdout.strip() or None
