"""`bt-selfsecure sweep`: measure loss over distance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bt_selfsecure.cli import sweep_run

if TYPE_CHECKING:
    from argparse import ArgumentParser, _SubParsersAction


def add_parser(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `sweep` and its commands."""
    sweep = commands.add_parser("sweep", help="measure loss over distance, at Bob and at Eve")
    sweep_run.add_parser(sweep.add_subparsers(title="commands", metavar="COMMAND", required=True))
