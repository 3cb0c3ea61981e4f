"""`bt-selfsecure eve` and the table of its commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from bt_selfsecure.cli.commands import Command, add_commands

if TYPE_CHECKING:
    from argparse import ArgumentParser, _SubParsersAction

COMMANDS: Final = {
    "read": Command("eve", "sum up captures", "add_read"),
    "report": Command("eve_report", "what Eve has and what she lacks, in numbers", "add"),
    "capture": Command("eve_capture", "keep what the radio hears in files", "add"),
    "attack": Command("eve_attack", "carry an attack out: on the virtual air, or live on your own devices", "add"),
    "install-wireshark": Command("eve", "put our dissector and profile where Wireshark finds them", "add_install"),
}


def add_parser(subparsers: _SubParsersAction[ArgumentParser], words: Sequence[str] | None) -> None:
    """Add `eve` and its commands, or as many of them as these words need."""
    what = "what an eavesdropper hears, keeps, computes and tries"
    parser = subparsers.add_parser("eve", help=what, description=f"{what[0].upper()}{what[1:]}.")
    add_commands(parser.add_subparsers(title="commands", metavar="COMMAND", required=True), COMMANDS, words)
