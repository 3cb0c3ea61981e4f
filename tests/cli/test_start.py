"""A command imports what it uses and no more: on a Pi Zero each module is felt."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"asyncio", "dataclasses", "email", "http.client", "inspect", "numpy", "pathlib", "shutil", "sqlite3", "ssl"}
NODE = {"asyncio", "numpy", "tomllib", "bt_selfsecure.node.config", "bt_selfsecure.protocols", "bt_selfsecure.bearers"}
SERVERS = {"asyncio", "http.client", "ssl", "socket"}
OF_ARGPARSE = "import _colorize" if sys.version_info >= (3, 14) else ""
"""What argparse imports for any argument, coloured or not."""


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
    imported = imports("-m", "bt_selfsecure", *command.split()) - imports("-c", OF_ARGPARSE)
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


def test_a_table_of_text_is_imported_without_what_other_tables_take(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("seq,receiver,heard\n0,bob,1\n1,bob,0\n")
    imported = imports("-m", "bt_selfsecure", "sweep", "import", "--out", f"{tmp_path}/r.db", f"{tmp_path}/t.csv")
    assert "pyarrow.csv" in imported
    assert not imported & {"pyarrow.parquet", "pandas", "asyncio", "http.client", "ssl", "matplotlib"}


EXTRAS = {"aiocoap", "aiohttp", "bleak", "bumble", "cbor2", "dask", "filelock", "jinja2", "matplotlib", "ndef", "nfc"}
EXTRAS |= {"numpy", "psycopg", "pyarrow", "reedsolo", "rich", "scapy", "segno", "vici", "zxingcpp"}
EVERY_HELP = f"""
import argparse, sys


class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {sorted(EXTRAS)}:
            raise ModuleNotFoundError(name)


sys.meta_path.insert(0, Without())
from bt_selfsecure.cli.main import parser


def show(of):
    of.format_help()
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                show(each)


show(parser())
"""


def test_every_help_is_shown_where_no_extra_is_installed_as_shell_completion_asks_on_a_node() -> None:
    done = subprocess.run([sys.executable, "-c", EVERY_HELP], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
