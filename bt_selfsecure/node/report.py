"""One text to attach to a bug report: versions, configuration, status, doctor, unit, log. It reads no key."""

from __future__ import annotations

import json
import platform
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from bt_selfsecure import __version__
from bt_selfsecure.errors import BtSelfSecureError, UsageError
from bt_selfsecure.isolated import FOLDER, python_module
from bt_selfsecure.node.client import NodeClient
from bt_selfsecure.node.config import NodeTable
from bt_selfsecure.node.config_file import read, render
from bt_selfsecure.node.redaction import Redactor

UNIT: Final = "bt-selfsecure.service"
LOG_LINES: Final = 500
COMMAND_S: Final = 90.0
"""The doctor tries to advertise."""
PACKAGES: Final = ("aiohttp", "bleak", "bluezero", "cryptography", "dbus-fast", "pyroute2")
VERSION_COMMANDS: Final[tuple[Sequence[str], ...]] = (("systemctl", "--version"), ("bluetoothctl", "--version"))
NAMED: Final = re.compile(r"""^\s*name\s*=\s*["']([^"']+)["']""", re.MULTILINE)
TABLE_HEAD: Final = re.compile(r"^\s*\[\[?([a-z0-9_]+)\]\]?", re.MULTILINE)

Section = tuple[str, Callable[[], str]]


def sections(config: Path, client: NodeClient) -> Iterator[Section]:
    """Each with its heading, and what makes its text."""
    yield "versions", _versions
    yield "configuration", lambda: _configuration(config)
    yield "status", lambda: json.dumps(client.status(), indent=1)
    yield "doctor", lambda: _doctor(config)
    yield "unit", lambda: _output("systemctl", "status", "--no-pager", "--full", "--lines=0", UNIT)
    yield "log of the node", lambda: _journal("--unit", UNIT, "--lines", str(LOG_LINES))
    yield "log of the kernel", lambda: _journal("--dmesg", "--grep", "bluetooth|hci[0-9]", "--lines", "100")


def text_of(make: Callable[[], str]) -> str:
    """A section's text; what hinders it is the text then."""
    try:
        return make()
    except (BtSelfSecureError, OSError, subprocess.SubprocessError) as error:
        return f"not available: {error}"


def redactor(config: Path) -> Redactor:
    """For what this node's configuration names, whether the file is right or not."""
    try:
        text = config.read_text(errors="replace")
    except OSError:
        text = ""
    names, addresses = {}, {}
    peers = 0
    for table in re.split(r"^(?=\s*\[)", text, flags=re.MULTILINE):
        is_peer = (head := TABLE_HEAD.match(table)) is not None and head[1] == "peer"
        peers += is_peer
        stand_in = f"<peer {peers}>" if is_peer else "<this node>"
        names.update(dict.fromkeys(NAMED.findall(table), stand_in))
        if is_peer:
            found = re.findall(r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}", table)
            addresses.update(dict.fromkeys(found, f"<address of peer {peers}>"))
    return Redactor({socket.gethostname(): "<this computer>"} | names, addresses)


def _versions() -> str:
    lines = [
        f"bt-selfsecure {__version__} in {sys.prefix}",
        f"Python {platform.python_version()} on {platform.system()} {platform.release()} {platform.machine()}",
        _first_line("/proc/device-tree/model", "the board has no device tree"),
        _os_name(),
        *(text_of(partial(_output, *command)).partition("\n")[0] for command in VERSION_COMMANDS),
    ]
    for name in PACKAGES:
        try:
            lines.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            lines.append(f"{name} is not installed")
    return "\n".join(lines)


def _first_line(path: str, otherwise: str) -> str:
    try:
        return Path(path).read_text(errors="replace").partition("\n")[0].strip("\0")
    except OSError:
        return otherwise


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return "the system has no /etc/os-release"


def _configuration(path: Path) -> str:
    """What differs from the defaults, with its line."""
    lines = render(read(path), origin=True).splitlines()
    return "\n".join(line for line in lines if line and not line.startswith("#"))


def _doctor(path: Path) -> str:
    try:
        adapter = read(path).config.node.adapter
    except UsageError:
        adapter = NodeTable().adapter
    return _output(*python_module("bt_selfsecure.cli.main", "doctor", "--adapter", adapter))


def _journal(*words: str) -> str:
    return _output("journalctl", "--quiet", "--no-pager", "--output=short-iso", *words)


def _output(*command: str) -> str:
    done = subprocess.run(
        command,
        cwd=FOLDER,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=COMMAND_S,
        check=False,
    )
    return done.stdout.strip() or f"{command[0]} says nothing (exit status {done.returncode})"
