"""Our dissectors for Wireshark, a folder a protocol, the profile, and where Wireshark looks for them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

from bt_selfsecure.errors import UsageError

HERE: Final = Path(__file__).parent
PROFILE: Final = "bt-selfsecure"
TSHARK_S: Final = 60
"""Enough for `tshark -G folders` on a Pi Zero."""


def install() -> list[Path]:
    """Copy all for this user, and say where they are.

    Dissectors are replaced; files of the profile that are there already are kept, since Wireshark writes what its
    user changes (the key log's path, say) into them. Raises `UsageError` where a folder can't be written.
    """
    plugins, configuration = folders()
    profile = configuration / "profiles" / PROFILE
    copies = [(file, plugins / file.name) for file in sorted(HERE.glob("*/*.lua"))]
    copies += [(file, profile / file.name) for file in sorted((HERE / "profile").iterdir())]
    for source, target in copies:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.suffix == ".lua" or not target.exists():
                shutil.copyfile(source, target)
        except OSError as fault:
            raise UsageError(f"can't write {str(target)!r} ({fault.strerror}): make its folder writable") from fault
    return [target for _, target in copies]


def folders() -> tuple[Path, Path]:
    """Return where this user's Lua plugins and configuration are: as tshark says, else where they are on Linux and
    macOS.

    Raises `UsageError` where tshark does not answer.
    """
    told: dict[str, str] = {}
    if tshark := shutil.which("tshark"):
        try:
            asked = subprocess.run(
                [tshark, "-G", "folders"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=TSHARK_S,
            )
        except (OSError, subprocess.TimeoutExpired) as fault:
            raise UsageError(f"tshark does not say where its plugins are ({fault}): see if it runs") from fault
        told = {name: path.strip() for name, _, path in (line.partition(":") for line in asked.stdout.splitlines())}
    home = Path.home()
    return (
        Path(told.get("Personal Lua Plugins") or home / ".local/lib/wireshark/plugins"),
        Path(told.get("Personal configuration") or home / ".config/wireshark"),
    )
