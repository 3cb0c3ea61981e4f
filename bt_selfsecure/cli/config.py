"""`bt-selfsecure config`: is the node's configuration right, and what does it come to?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.config import Config, authentication_key
from bt_selfsecure.node.config_file import ConfigFile, load, render
from bt_selfsecure.node.paired import require_keys
from bt_selfsecure.node.tables import Origin
from bt_selfsecure.node.where import find_path
from bt_selfsecure.wording import counted

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

FILE_HELP = "the file, if it is not the default one"
DESCRIPTION = """\
The node's configuration is one TOML file, /etc/bt-selfsecure/node.toml or what
$BT_SELFSECURE_CONFIG names. All keys but the peers have defaults, so it may be
as short as

    [[peer]]
    name = "bob"
    address = "B8:27:EB:12:34:56"
"""
EPILOG = """\
examples:
  bt-selfsecure config show > node.toml
      Every key with what it means, to begin with.
  bt-selfsecure config check --config node.toml
      Name the file, line and key of the first fault; exit status 2.
  bt-selfsecure config show --origin
      Say for each value whether it is a default, or in which line it stands.
"""


def add_parser(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add `config` and its commands."""
    parser = subparsers.add_parser(
        "config",
        help="check the node's configuration, or print it with every key explained",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    check = verbs.add_parser("check", help="say whether a node can run with it", description="Check the configuration.")
    check.set_defaults(run=_check)
    show = verbs.add_parser("show", help="print it, annotated", description="Print the configuration, annotated.")
    show.add_argument("--origin", action="store_true", help="add to each value where it came from")
    show.set_defaults(run=_show)
    for verb in (check, show):
        verb.add_argument("--config", type=Path, metavar="FILE", help=FILE_HELP)
        verb.add_argument("file", nargs="?", type=Path, metavar="FILE", help="as --config FILE")


def _given(args: Namespace) -> Path | None:
    """The file that was named, in one of both ways."""
    config: Path | None = args.config
    file: Path | None = args.file
    if config and file:
        raise UsageError("the file is named twice: leave --config or the other one out")
    return config or file


def _check(args: Namespace) -> int:
    """UsageError names the first fault."""
    file = load(find_path(_given(args)))
    config = file.config
    require_keys(config.node.state_directory, config.peer)
    proved = sum(bool(authentication_key(peer)) for peer in config.peer)
    print(f"{file.origin.path} is right: keys over {config.establish.bearer}, sessions over {config.session.bearer},")
    print(f"{counted(len(config.peer), 'peer')}, {proved} with an authentication key.")
    return 0


def _show(args: Namespace) -> int:
    given = _given(args)
    path = find_path(given)
    defaults_only = given is None and not path.exists()
    file = ConfigFile(Config(), Origin(path, {})) if defaults_only else load(path)
    print(render(file, origin=args.origin), end="")
    return 0
