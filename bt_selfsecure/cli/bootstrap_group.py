"""`bt-selfsecure bootstrap` and the table of its commands."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from bt_selfsecure.cli.commands import Command, add_commands

if TYPE_CHECKING:
    from argparse import ArgumentParser, _SubParsersAction

COMMANDS: Final = {
    "serve": Command("bootstrap_serve", "run a server, a controller, or both"),
    "enrol": Command("bootstrap_enrol", "give a node its installer's key: at the server, at the node", "add_enrol"),
    "revoke": Command("bootstrap_enrol", "let a node join no more", "add_revoke"),
    "join": Command("bootstrap_join", "at the node: become one of the network's", "add_join"),
    "admit": Command("bootstrap_join", "at the controller: take the code that a node shows", "add_admit"),
    "status": Command("bootstrap_status", "nodes, controllers, and what this node has joined"),
}
DESCRIPTION: Final = """\
An installer gives a new node a key, and shall not have the one that it uses
later (Kang, "A First Step Towards Security for Internet of Small Things")."""
EPILOG: Final = """\
example, server and controller on one Pi, and a node:
  hall$ bt-selfsecure bootstrap serve --add-controller hall \\
            --nid udp:192.0.2.1:5702
  hall$ bt-selfsecure bootstrap serve &
  hall$ bt-selfsecure bootstrap enrol lamp         writes lamp.setup: a secret,
  lamp$ bt-selfsecure bootstrap enrol --setup lamp.setup   which goes to lamp
  lamp$ bt-selfsecure bootstrap join               shows a code: to be read by
  hall$ bt-selfsecure bootstrap admit              this, which shows one, too
docs/bootstrap.md says who learns what, and who must not see which code.
"""


def add_parser(subparsers: _SubParsersAction[ArgumentParser], words: Sequence[str] | None) -> None:
    """Add `bootstrap` and its commands, or as many of them as these words need."""
    parser = subparsers.add_parser(
        "bootstrap",
        help="installers' keys become the network's own (Kang)",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_commands(parser.add_subparsers(title="commands", metavar="COMMAND", required=True), COMMANDS, words)
