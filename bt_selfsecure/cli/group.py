"""`bt-selfsecure group`: one to many. A group's owner speaks to all its members by one broadcast."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from bt_selfsecure.cli.client import client_parser, node_client, progress
from bt_selfsecure.cli.commands import Command, add_commands
from bt_selfsecure.cli.terminal import columns

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction
    from collections.abc import Sequence

TEXT: Final = """\
One to many. The owner of a group sends a message to all members by one
broadcast, which each receives exactly once; who misses it gets it by the
session with the owner. Members answer in their sessions. At a member the
messages come with `bt-selfsecure receive`, with the group's name in --json."""
EXAMPLES: Final = """\
examples:
  bt-selfsecure group create lamps bob carol dave
  echo on | bt-selfsecure group send lamps
  bt-selfsecure group status
  bt-selfsecure group remove lamps carol     she can't read what follows"""
CREATE_TEXT: Final = """\
Begin a group of peers with whom there is a key. Over le_advert one burst comes
first, which gives each a new key, and all of them something in common that an
eavesdropper misses a part of: status tells how many bits of that are secret.
It is mixed with 32 random bytes that each member gets in its session."""
SEND_TEXT: Final = """\
Send a message of up to 200 bytes to all members of a group that this node owns.
When this returns it is on this node's disk, and each member gets it once, in
order; one that is away for longer than its queue lasts joins anew with the next
epoch, and has missed what was sent meanwhile."""
CHANGE_TEXT: Final = """\
Begin another epoch of the group, with a new key: who joins can't read what was
sent before, and who is out can't read what follows."""
GROUP_COMMANDS: Final = {
    "create": Command("group", "begin a group", "add_create"),
    "send": Command("group", "send a message to all members", "add_send"),
    "add": Command("group", "let peers join a group", "add_add"),
    "remove": Command("group", "put members out of a group", "add_remove"),
    "status": Command("group", "the groups of this node, and how far their members are", "add_status"),
    "leave": Command("group", "be no member of a group any more", "add_leave"),
    "delete": Command("group", "end a group of this node's", "add_delete"),
}


def add_parser(commands: _SubParsersAction[ArgumentParser], words: Sequence[str] | None) -> None:
    """Add `group`, with those of its commands that these words need."""
    import argparse

    group = commands.add_parser(
        "group",
        help="one to many: a broadcast that each member receives once",
        description=TEXT,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parsers = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_commands(parsers, GROUP_COMMANDS, words)


def add_create(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `group create`."""
    example = "example:\n  bt-selfsecure group create lamps bob carol dave"
    create = client_parser(commands, "create", "begin a group", CREATE_TEXT, example, _create)
    _named(create)
    create.add_argument("peers", metavar="PEER", nargs="+", help="name or address")


def add_send(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `group send`."""
    example = "examples:\n  echo on | bt-selfsecure group send lamps\n  bt-selfsecure group send lamps order.bin"
    send = client_parser(commands, "send", "send a message to all members", SEND_TEXT, example, _send)
    _named(send)
    send.add_argument("file", metavar="FILE", nargs="?", default="-", help="the message (default: standard input)")


def add_add(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `group add`."""
    example = "example:\n  bt-selfsecure group add lamps erin"
    add = client_parser(commands, "add", "let peers join a group", CHANGE_TEXT, example, _add)
    _named(add)
    add.add_argument("peers", metavar="PEER", nargs="+", help="name or address")


def add_remove(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `group remove`."""
    example = "example:\n  bt-selfsecure group remove lamps carol"
    remove = client_parser(commands, "remove", "put members out of a group", CHANGE_TEXT, example, _remove)
    _named(remove)
    remove.add_argument("peers", metavar="PEER", nargs="+", help="name or address")


def add_status(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `group status`."""
    text = "Say of each group whose it is, and at its owner how far each member is."
    status = client_parser(commands, "status", "the groups of this node", text, EXAMPLES, _status)
    status.add_argument("name", metavar="NAME", nargs="?", help="of this group only")
    status.add_argument("--json", action="store_true", help="a JSON array, as GET /v1/groups")


def add_leave(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `group leave`."""
    text = "Be no member of this group any more; its owner is told, and begins another\nepoch."
    _named(client_parser(commands, "leave", "be no member any more", text, "", _leave))


def add_delete(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `group delete`."""
    text = "End a group of this node's: its members are told, and its key is forgotten."
    _named(client_parser(commands, "delete", "end a group of this node's", text, "", _delete))


def _named(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", type=_name, help="of the group")


def _name(text: str) -> str:
    """Return what was given, if it is anything: the node checks the rest."""
    if not text:
        from argparse import ArgumentTypeError

        raise ArgumentTypeError("a group's name has 1 to 32 bytes of printable text")
    return text


# --- the commands -----------------------------------------------------------------------------------------------------


def _create(args: Namespace) -> int:
    from bt_selfsecure.cli.status import group_lines

    client = node_client(args)
    with progress(lambda: "one burst for all members"):
        group = client.create_group(args.name, args.peers)
    print("\n".join(group_lines(group, columns())))
    return 0


def _send(args: Namespace) -> int:
    from bt_selfsecure.cli.messages import read_message

    node_client(args).send_to_group(args.name, read_message(args.file))
    return 0


def _add(args: Namespace) -> int:
    from bt_selfsecure.cli.status import group_lines

    client = node_client(args)
    with progress(lambda: "one burst for all members"):
        group = client.change_group(args.name, add=args.peers)
    print("\n".join(group_lines(group, columns())))
    return 0


def _remove(args: Namespace) -> int:
    from bt_selfsecure.cli.status import group_lines

    print("\n".join(group_lines(node_client(args).change_group(args.name, remove=args.peers), columns())))
    return 0


def _leave(args: Namespace) -> int:
    node_client(args).end_group(args.name, leave=True)
    return 0


def _delete(args: Namespace) -> int:
    node_client(args).end_group(args.name)
    return 0


def _status(args: Namespace) -> int:
    from bt_selfsecure.cli.status import group_lines
    from bt_selfsecure.errors import UsageError

    groups = [group for group in node_client(args).groups() if args.name in (None, group["name"])]
    if args.name is not None and not groups:
        raise UsageError(f"there is no group {args.name[:64]!r} here: see bt-selfsecure group status")
    if args.json:
        print(json.dumps(groups, indent=2))
    else:
        lines = [line for group in groups for line in ["", *group_lines(group, columns())]]
        print("\n".join(lines[1:] or ["No groups: bt-selfsecure group create NAME PEER ..."]))
    return 0
