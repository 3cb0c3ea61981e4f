"""`bt-selfsecure confirm`: a person has compared two strings, and says so; and other questions with yes or no."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final

from bt_selfsecure.cli.client import client_parser, find, node_client
from bt_selfsecure.cli.terminal import asks_yes, columns, wrapped
from bt_selfsecure.errors import UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

TEXT: Final = """\
Say that PEER is the one that you mean: the short authentication string of its
key, shown here, is the same at the other end. From then on it stays that peer:
no key is taken from one who has not the key before, until a person says
otherwise (bt-selfsecure establish PEER --without-continuity). Of two people who
compare, each confirms at the own end.

A string is there for a key that was asked for at this end, for one comparison.
So that both ends have one, first bob's person, then alice's:

  bob$    bt-selfsecure establish alice --wait
  alice$  bt-selfsecure establish bob

Read the digits to each other where you know whom you hear, or hold the screens
side by side. Whoever stands between the two is right by chance once in a
million; if the strings differ, answer no.

Exit status 1: nothing was confirmed by it."""
EXAMPLES: Final = """\
examples:
  bt-selfsecure confirm bob
  bt-selfsecure confirm bob --string 123456
      For scripts: what bob shows, by a way that nobody can change. It is
      compared here, and one that differs confirms nothing."""


def add_parser(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `confirm`."""
    confirm = client_parser(commands, "confirm", "say that a peer is the one that you mean", TEXT, EXAMPLES, _confirm)
    confirm.add_argument("peer", metavar="PEER", help="name or address")
    confirm.add_argument("--string", metavar="TEXT", help="what the other end shows: six digits, or four words")
    confirm.add_argument("--json", action="store_true", help="the outcome as one JSON object")


def _confirm(args: Namespace) -> int:
    client = node_client(args)
    peer = find(client, args.peer)
    own = str(peer["key"]["sas"]) if peer["key"] else ""
    if args.string is not None:
        if not args.string.strip():
            raise UsageError("--string is empty: give what the other end shows, six digits or four words")
        outcome = client.confirm(peer["name"], args.string)
    elif own:
        shown = f"{peer['name']}  {peer['address']}  key {peer['key']['fingerprint']}\n\n    {own}\n"
        print(shown, file=sys.stderr if args.json else sys.stdout, flush=True)
        same = asks_yes(f"Does {peer['name']} show the same?", "give --string with what the other end shows")
        outcome = client.confirm(peer["name"], own if same else "")
    else:
        outcome = _without_string(peer)
    if args.json:
        print(json.dumps(outcome, indent=2))
    else:
        print("\n".join(_lines(outcome, peer)))
    return 0 if outcome["confirmed"] else 1


def _without_string(peer: dict[str, Any]) -> dict[str, Any]:
    name, trust = peer["name"], peer["trust"]
    if trust["confirmed"] == "string":
        return {"confirmed": True, "peer": name, "reason": ""}
    if peer["key"] is None:
        return {"confirmed": False, "peer": name, "reason": "there is no key with it yet: see bt-selfsecure status"}
    from bt_selfsecure.node.haoxiao.confirmation import no_string

    return {"confirmed": False, "peer": name, "reason": no_string(name)}


def _lines(outcome: dict[str, Any], peer: dict[str, Any]) -> list[str]:
    name = outcome["peer"]
    if outcome["confirmed"]:
        return wrapped(f"{name} is confirmed.", columns())
    so = "stays confirmed, not by this" if peer["trust"]["confirmed"] else "is not confirmed"
    return wrapped(f"{name} {so}: {outcome['reason']}", columns(), "  ")
