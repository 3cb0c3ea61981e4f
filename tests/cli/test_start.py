"""A command imports what it uses and no more: on a Pi Zero each module is felt."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

HEAVY = {"asyncio", "dataclasses", "email", "http.client", "inspect", "numpy", "pathlib", "shutil", "sqlite3", "ssl"}
NODE = {"asyncio", "numpy", "tomllib", "bt_selfsecure.node.config", "bt_selfsecure.protocols", "bt_selfsecure.bearers"}
SERVERS = {"asyncio", "http.client", "ssl", "socket"}


@pytest.mark.parametrize(
    ("command", "spared"),
    [
        ("--version", HEAVY | NODE | SERVERS | {"json"}),
        ("--help", HEAVY - {"shutil"} | NODE | SERVERS | {"json", "bt_selfsecure.cli.client", "bt_selfsecure.sweep"}),
        ("status --config /nowhere/node.toml --help", HEAVY - {"pathlib", "shutil"} | NODE | SERVERS),
        ("status", HEAVY | NODE | {"threading", "textwrap", "bt_selfsecure.node.pipe"}),
        ("send bob", HEAVY | NODE | {"threading", "textwrap", "bt_selfsecure.node.pipe"}),
        ("plan --eve-loss 0.05", HEAVY | SERVERS | NODE | {"json", "importlib.resources", "bt_selfsecure.air"}),
        ("sweep analyse --help", SERVERS | {"numpy", "pyarrow", "bt_selfsecure.node.config"}),
        ("sweep study --help", SERVERS | {"numpy", "pyarrow", "distributed", "bt_selfsecure.node.config"}),
        ("sweep run --help", SERVERS | {"numpy", "pyarrow", "bt_selfsecure.node.config"}),
        ("eve read --help", SERVERS | {"numpy", "scapy"}),
    ],
)
def test_a_command_imports_no_more_than_it_uses(command: str, spared: set[str]) -> None:
    imported = imports("-m", "bt_selfsecure", *command.split()) - imports("-c", "")
    assert "argparse" in imported
    assert not imported & spared


def imports(*words: str) -> set[str]:
    """What is imported, with what Python imports at any start here: packages and systems can have it do so."""
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={"PATH": ""},
        check=False,
    )
    return set(re.findall(r"^import time: .*\| +(\S+)$", ran.stderr, re.MULTILINE))
