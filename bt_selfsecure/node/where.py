"""Where a node is found: its configuration and its socket. A command that only asks it needs no more of it."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_PATH: Final = "/etc/bt-selfsecure/node.toml"
SOCKET: Final = "/run/bt-selfsecure/node.sock"
MOST_BYTES: Final = 65_536
_COMMENT: Final = r"[ \t]*(#.*)?\r?"
_HEADER: Final = r"[ \t]*\[(.*)"
_TEXT: Final = r'[ \t]*(\w+)[ \t]*=[ \t]*"(/?[^"]*)"(.*)'
PATH_VARIABLE: Final = "BT_SELFSECURE_CONFIG"
"""Environment variable that names another file."""


def find_path(given: str | Path | None) -> Path:
    """Return the configuration file to read: the one given, or that of the environment variable, or the default."""
    from pathlib import Path  # takes a fifth of what Python takes to start

    return Path((os.environ.get(PATH_VARIABLE) or DEFAULT_PATH) if given is None else given)


def find_socket(path: str) -> str | None:
    """Return the socket of a node with this configuration, from a file as `config show` prints it, one key a line; None
    where it takes the whole reading, which takes as long as all else that a client does, to tell."""
    try:
        with open(path, encoding="utf-8", newline="") as file:  # noqa: PTH123
            text = file.read(MOST_BYTES)
    except (OSError, ValueError):
        return None
    if len(text) == MOST_BYTES or any(mark in text for mark in ("\\", '"""', "'''")):
        return None
    found, table = SOCKET, ""
    for line in text.split("\n"):
        if header := re.match(_HEADER, line):
            name, _, rest = header[1].partition("]")
            table = name.strip(" \t") if re.fullmatch(_COMMENT, rest) else ""
        elif "socket" in line and not re.fullmatch(_COMMENT, line):
            entry = re.match(_TEXT, line)
            if not entry or table != "node" or not re.fullmatch(_COMMENT, entry[3]):
                return None
            if entry[1] == "socket":
                found = entry[2]
    return found
