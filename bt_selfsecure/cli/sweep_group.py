"""`bt-selfsecure sweep` and the table of its commands."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from bt_selfsecure.cli.commands import Command, add_commands

if TYPE_CHECKING:
    from argparse import ArgumentParser, _SubParsersAction

DESCRIPTION = """\
Measure who hears which packet at several distances, and find out what a key
made at that place is worth: Bob's loss, Eve's loss among the packets that Bob
hears (e|B, the only one that counts for secrecy), and the packets it takes."""
EPILOG = """\
examples:
  bt-selfsecure sweep analyse --json
  bt-selfsecure sweep import --out office.db ble_office_reception.json
  bt-selfsecure sweep import --distance 3 bob=bob.pcapng eve=eve.pcapng
  bt-selfsecure sweep report --out report.html
docs/sweep.md explains the record, the exported columns and the keys of --json.
"""
COMMANDS: Final = {
    "run": Command("sweep_run", "measure after a plan", "add_run"),
    "agent": Command("sweep_run", "obey the sweeps of this node's peers", "add_agent"),
    "plan": Command("sweep_run", "print a plan to begin with, or check one", "add_plan"),
    "import": Command("sweep_record", "add others' data to a record", "add_import"),
    "export": Command("sweep_record", "write the record for other programs", "add_export"),
    "list": Command("sweep_record", "the record's runs, by number", "add_list"),
    "withdraw": Command("sweep_record", "let runs not count any more", "add_withdraw"),
    "analyse": Command("sweep", "losses, joint losses, secret bits, and whom to believe", "add_analyse"),
    "plot": Command("sweep", "figures, as SVG and PNG", "add_plot"),
    "report": Command("sweep", "one HTML page to send to a colleague", "add_report"),
    "compare": Command("sweep", "two sweeps side by side", "add_compare"),
    "study": Command("sweep_study", "Monte Carlo over a grid of losses, packets and Eves"),
}


def add_parser(subparsers: _SubParsersAction[ArgumentParser], words: Sequence[str] | None) -> None:
    """Add `sweep` and its commands, or as many of them as these words need."""
    sweep = subparsers.add_parser(
        "sweep",
        help="measure losses against distance, and what they are worth",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_commands(sweep.add_subparsers(title="commands", metavar="COMMAND", required=True), COMMANDS, words)
