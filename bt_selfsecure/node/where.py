"""Where a node is found: its configuration and its socket. A command that only asks it needs no more of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

DEFAULT_PATH: Final = Path("/etc/bt-selfsecure/node.toml")
SOCKET: Final = Path("/run/bt-selfsecure/node.sock")
PATH_VARIABLE: Final = "BT_SELFSECURE_CONFIG"
"""Environment variable that names another file."""


def find_path(given: Path | None) -> Path:
    """Return the file to read: the one given, or of the environment variable, or the default."""
    return given or Path(os.environ.get(PATH_VARIABLE) or DEFAULT_PATH)
