"""One text to attach to a bug report: versions, configuration, status, doctor, unit, log. It reads no key."""

from __future__ import annotations

import json
import os
import platform
import pwd
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from bt_selfsecure import __version__
from bt_selfsecure.bearers.places import parse_place
from bt_selfsecure.errors import BtSelfSecureError, UsageError
from bt_selfsecure.isolated import FOLDER, python_module
from bt_selfsecure.node.client import NodeClient
from bt_selfsecure.node.config import STATE_DIRECTORY
from bt_selfsecure.node.config_file import read, render
from bt_selfsecure.node.redaction import Redactor
from bt_selfsecure.node.set_aside import PAIRED

UNIT: Final = "bt-selfsecure.service"
LOG_LINES: Final = 500
COMMAND_S: Final = 90.0
"""The doctor tries to advertise."""
PACKAGES: Final = ("aiohttp", "bleak", "bluezero", "cryptography", "dbus-fast", "pyroute2")
VERSION_COMMANDS: Final[tuple[Sequence[str], ...]] = (("systemctl", "--version"), ("bluetoothctl", "--version"))
_TEXT: Final = r"""["']?\s*=\s*["']([^"'\n]+)["']"""
NAMED: Final = re.compile(r"""(?:^|[{,.])\s*["']?name""" + _TEXT, re.MULTILINE)
PLACED: Final = re.compile(r"""(?:^|[{,.])\s*["']?(?:udp|listen)""" + _TEXT, re.MULTILINE)
KEY_FILE: Final = re.compile("authentication_key_file" + _TEXT)
PEER: Final = re.compile(r"^\s*\[\[?\s*peer\b|^\{.*\baddress\s*=", re.MULTILINE)
"""The head of a peer's table, or one in braces."""
DEVICE_ADDRESS: Final = re.compile("[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5}")
PEOPLE: Final = range(1000, 60_000)
"""Debian's user ids of people."""
COMMON_USERS: Final = ("", "root", "pi", "bt-selfsecure")
"""Names that tell nobody."""

Section = tuple[str, Callable[[], str]]


def sections(config: Path, client: NodeClient) -> Iterator[Section]:
    """Return the report's sections: each heading, with the function that makes its text."""
    yield "versions", _versions
    yield "configuration", lambda: _configuration(config)
    yield "status", lambda: json.dumps(client.status(), indent=1)
    yield "doctor", lambda: _doctor(config)
    yield "unit", lambda: _output("systemctl", "status", "--no-pager", "--full", "--lines=0", UNIT)
    yield "log of the node", lambda: _journal("--unit", UNIT, "--lines", str(LOG_LINES))
    yield "log of the kernel", lambda: _journal("--dmesg", "--grep", "bluetooth|hci[0-9]", "--lines", "100")


def text_of(make: Callable[[], str]) -> str:
    """Return a section's text; what hinders it is the text then."""
    try:
        return make()
    except (BtSelfSecureError, OSError, subprocess.SubprocessError) as error:
        return f"not available: {error}"


def redactor(config: Path) -> Redactor:
    """Return a redactor for what this node's configuration names, whether the file is right or not (in UTF-16, say)."""
    host = socket.gethostname()
    names = {host: "<this computer>", host.partition(".")[0]: "<this computer>"} | _people()
    addresses: dict[str, str] = {}
    try:
        text = config.read_bytes().replace(b"\0", b"").lstrip(b"\xff\xfe").decode("utf-8-sig", errors="replace")
    except OSError:
        text = ""
    text += _paired(config)
    peers = 0
    for table in re.split(r"^(?=\s*\[)|(?=\{)", text, flags=re.MULTILINE):
        is_peer = PEER.search(table) is not None
        peers += is_peer
        stand_in = f"<peer {peers}>" if is_peer else "<this node>"
        names.update(dict.fromkeys(NAMED.findall(table), stand_in))
        names.update(dict.fromkeys(_hosts(PLACED.findall(table)), f"<IP address of {stand_in.strip('<>')}>"))
        for path in map(Path, KEY_FILE.findall(table)):
            names = dict.fromkeys((path.name, path.stem), f"<key file of peer {peers}>") | names
        if is_peer:
            found = (address.replace("-", ":") for address in DEVICE_ADDRESS.findall(table))
            addresses.update(dict.fromkeys(found, f"<address of peer {peers}>"))
    return Redactor(names, addresses)


def _paired(config: Path) -> str:
    """The list of peers that were paired, whether it is right or not; empty where there is none to be seen."""
    try:
        listed = read(config).config.node.state_directory / PAIRED if config.exists() else STATE_DIRECTORY / PAIRED
        if not listed.is_file():  # a pipe would be waited for
            return ""
        return "\n" + listed.read_text(encoding="utf-8", errors="replace")
    except (OSError, UsageError):
        return ""


def _people() -> dict[str, str]:
    """Those who use this computer (one of them may have confirmed a peer), their homes, and who asks for the report."""
    people = [user for user in pwd.getpwall() if user.pw_uid in PEOPLE]
    homes = {user.pw_dir: "<home>" for user in people if user.pw_dir.count("/") > 1}
    asks = os.environ.get("SUDO_USER") or os.environ.get("USER") or ""
    return homes | {name: "<user>" for name in [*(user.pw_name for user in people), asks] if name not in COMMON_USERS}


def _hosts(places: list[str]) -> Iterator[str]:
    """IP addresses, as they are written and as we write them, that tell anything about anybody."""
    for place in places:
        with suppress(UsageError):
            host, _ = parse_place(place)
            if not (ip_address(host).is_loopback or ip_address(host).is_unspecified):
                yield from (host, place.rpartition(":")[0].strip("[]"))


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
    words = ("--config", str(path.absolute())) if path.exists() else ()
    return _output(*python_module("bt_selfsecure.cli.main", "doctor", *words))


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
