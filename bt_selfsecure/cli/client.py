"""`bt-selfsecure status`, `peers`, `establish`, `scan`: what a person asks a running node."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from bt_selfsecure.cli.numbers import real
from bt_selfsecure.cli.terminal import asks_yes, columns, rows, wrapped
from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.where import DEFAULT_PATH, PATH_VARIABLE, SOCKET, find_path, find_socket

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction
    from threading import Event

    from bt_selfsecure.node.client import NodeClient

WATCH_S: Final = 1.0
PROGRESS_S: Final = 0.5
STILL_S: Final = 10.0
"""After so many seconds of nothing new who waits for a key is told what goes on, also without a terminal."""
MAX_SCAN_S: Final = 60
TO_TOP: Final = "\x1b[H"
"""Cursor to the upper left corner (ECMA-48 CUP)."""
ESTABLISH_TEXT: Final = """\
Agree on a new key now; the session goes over to it by itself. Exit status 1:
there is none, or with one of several there is none.

The key has a short authentication string, for one comparison: with the string
of the same key at the other end, where somebody must ask for it, too. Then
`bt-selfsecure confirm PEER` at each end. Keys that nodes agree on by themselves
have none.

A peer that is confirmed gets no key unless it has the one before. One that has
lost its state, as on a new card, has not: --without-continuity takes a key from
whoever answers while the command waits, and if that one has not the key before,
the peer is to be compared anew. Where no key came it stays confirmed."""
ESTABLISH_EXAMPLES: Final = """\
examples:
  bt-selfsecure establish bob
  bt-selfsecure establish bob carol dave
      Over le_advert one burst gives up to seven peers a key each. --all: all
      that are configured.
  bt-selfsecure establish alice --wait
      At bob, before that: both ends then have the string of one key.
  bt-selfsecure establish bob --without-continuity"""
CLEAR_LINE_END: Final = "\x1b[K"
CLEAR_BELOW: Final = "\x1b[J"


def add_status(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `status`."""
    status = client_parser(
        commands,
        "status",
        "the node, its peers, and on what the secrecy rests",
        "Say how the node and each of its peers are. Exit status 1 if the node has a\n"
        "problem; each comes with its remedy.",
        "example:\n  bt-selfsecure status --watch      until Ctrl-C; fits a phone's terminal",
        _status,
    )
    status.add_argument("--watch", action="store_true", help="show it again every second, until Ctrl-C")
    status.add_argument("--json", action="store_true", help="one JSON object, as GET /v1/status")


def add_peers(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `peers`."""
    peers = client_parser(
        commands,
        "peers",
        "one line a peer",
        "List the peers, one line each.",
        "example:\n  bt-selfsecure peers --json | jq -r '.[] | select(.key == null) | .name'",
        _peers,
    )
    peers.add_argument("--json", action="store_true", help="a JSON array, as GET /v1/peers")


def add_establish(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `establish`."""
    establish = client_parser(
        commands,
        "establish",
        "agree on a new key with a peer now",
        ESTABLISH_TEXT,
        ESTABLISH_EXAMPLES,
        _establish,
    )
    establish.add_argument("peers", metavar="PEER", nargs="*", help="name or address")
    establish.add_argument("--all", action="store_true", help="with each peer that there is")
    establish.add_argument("--wait", action="store_true", help="let the other end begin; until Ctrl-C")
    establish.add_argument(
        "--without-continuity",
        action="store_true",
        help="take a key from whoever answers; with it a peer that was confirmed is not any more",
    )
    establish.add_argument("--yes", action="store_true", help="do not ask, with --without-continuity")
    establish.add_argument("--json", action="store_true", help="the outcome as one JSON object; an array for several")


def add_scan(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `scan`."""
    scan = client_parser(
        commands,
        "scan",
        "which nodes are near",
        "Listen for nodes that advertise. What is heard is not authenticated.",
        "example:\n  bt-selfsecure scan --seconds 10",
        _scan,
    )
    scan.add_argument(
        "--seconds", type=real(least=1, most=MAX_SCAN_S), default=6.0, metavar="N", help="how long, 1..60 (default 6)"
    )
    scan.add_argument("--json", action="store_true", help="a JSON array")


def client_parser(
    commands: _SubParsersAction[ArgumentParser],
    name: str,
    what: str,
    description: str,
    example: str,
    run: Callable[[Namespace], int],
) -> ArgumentParser:
    """Return a command that talks to a running node."""
    parser = commands.add_parser(
        name,
        help=what,
        description=description,
        epilog=example,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="the node's configuration, if it is not the default one",
    )
    parser.set_defaults(run=run)
    return parser


def node_client(args: Namespace, *, lenient: bool = False) -> NodeClient:
    """Return the node that the configuration means; where there is no such file, the default socket. `lenient`: there
    as well where the file is wrong."""
    from bt_selfsecure.node.client import NodeClient

    path = (os.environ.get(PATH_VARIABLE) or DEFAULT_PATH) if args.config is None else args.config
    if path == DEFAULT_PATH and not os.access(DEFAULT_PATH, os.R_OK):
        return NodeClient(SOCKET)
    if (socket := find_socket(path)) and os.path.exists(socket):  # noqa: PTH110
        return NodeClient(socket)
    from bt_selfsecure.node.config_file import read

    try:
        return NodeClient(read(find_path(path)).config.node.socket)
    except UsageError:
        if not lenient:
            raise
        return NodeClient(SOCKET)


# --- the commands -----------------------------------------------------------------------------------------------------


def _status(args: Namespace) -> int:
    from bt_selfsecure.cli.status import status_lines

    client = node_client(args)
    if args.watch and args.json:
        raise UsageError("--watch is for people and --json for programs: give one of them")
    if args.watch:
        return _watch(client)
    status = client.status()
    print(json.dumps(status, indent=2) if args.json else "\n".join(status_lines(status, columns())))
    return 0 if status["healthy"] else 1


def _watch(client: NodeClient) -> int:
    """Each picture over the one before, without flicker. It goes on while the node is away."""
    from bt_selfsecure.cli.status import watch_lines

    try:
        while True:
            try:
                lines = watch_lines(client.status(), columns())
            except UsageError as error:
                lines = wrapped(str(error), columns())
            most = rows() - 1
            if len(lines) > most:
                lines = [*lines[: most - 1], f"... {len(lines) - most + 1} more lines"]
            picture = "".join(line + CLEAR_LINE_END + "\n" for line in lines)
            print(TO_TOP + picture + CLEAR_BELOW, end="", flush=True)
            time.sleep(WATCH_S)
    except KeyboardInterrupt:
        return 0


def _peers(args: Namespace) -> int:
    from bt_selfsecure.cli.status import peer_table

    peers = node_client(args).peers()
    print(json.dumps(peers, indent=2) if args.json else "\n".join(peer_table(peers, columns())))
    return 0


def _establish(args: Namespace) -> int:
    from bt_selfsecure.cli.status import establishment_lines

    client = node_client(args)
    if bool(args.peers) is args.all:
        raise UsageError("give the names of peers, or --all and none")
    names = [peer["name"] for peer in client.peers()] if args.all else list(dict.fromkeys(args.peers))
    if args.without_continuity and not args.yes:
        from bt_selfsecure.cli.status import whom

        for peer in [find(client, name) for name in names]:
            sure = "give --yes, if you are sure"
            if peer["trust"]["confirmed"] and not asks_yes(_doubt(peer["name"], whom(peer)), sure):
                print("Nothing is changed.")
                return 1
    try:
        seen = _Seen(client, names, waits=args.wait)
        with progress(seen.state, seen.trouble):
            outcomes = _establish_all(client, names, wait=args.wait, without_continuity=args.without_continuity)
    except KeyboardInterrupt:
        if args.without_continuity:
            for name in names:
                print(f"{name} stays confirmed, if it was and has no new key yet: see status.", file=sys.stderr)
        raise
    if args.json:
        print(json.dumps(outcomes[0] if len(args.peers) == 1 else outcomes, indent=2))
    else:
        print("\n".join(line for outcome in outcomes for line in establishment_lines(outcome, columns())))
        for name in names if args.without_continuity else ():
            if find(client, name)["trust"]["confirmed"]:
                print(f"{name} stays confirmed.")
    return 0 if all(outcome["established"] for outcome in outcomes) else 1


def _establish_all(client: NodeClient, names: list[str], **how: bool) -> list[dict[str, Any]]:
    """Ask for all keys at once, so that they come from one burst where they can."""
    if len(names) == 1:
        return [client.establish(names[0], **how)]
    from threading import Thread

    for name in names:
        find(client, name)  # none is begun where one is unknown
    outcomes: dict[str, dict[str, Any]] = {}
    errors: list[UsageError] = []

    def ask(name: str) -> None:
        try:
            outcomes[name] = client.establish(name, **how)
        except UsageError as error:
            errors.append(error)

    threads = [Thread(target=ask, args=(name,), daemon=True) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [outcomes[name] for name in names]


def _doubt(name: str, known: str) -> str:
    return (
        f"{name} is {known}.\nWhoever answers under its address, be it {name} or not, gets a new key, and the messages "
        f"that wait.\n{name} is not confirmed then, until you compare the string of that key. Go on?"
    )


class _Seen:
    """Looks at establishments that are waited for: an end may wait for ever for what the other end refuses."""

    def __init__(self, client: NodeClient, names: list[str], *, waits: bool) -> None:
        """`waits`: for the other end to begin, which may take as long as it likes."""
        self._client, self._names, self._told = client, names, dict.fromkeys(names, "")
        self._still_at = float("inf") if waits else time.monotonic() + STILL_S

    def state(self) -> str:
        """Return what goes on."""
        from bt_selfsecure.cli.status import state

        return "; ".join(state(find(self._client, name)) for name in self._names)

    def trouble(self) -> str:
        """Return what has gone wrong since the last look, or nothing."""
        found = []
        for name in self._names:
            peer = find(self._client, name)
            told, self._told[name] = self._told[name], peer["trouble"]
            if peer["trouble"] not in ("", told):
                found.append(f"{peer['name']}: {peer['trouble']}")
        if not found and time.monotonic() > self._still_at:
            self._still_at = float("inf")
            found = [f"{name}: {self._still(find(self._client, name))}" for name in self._names]
        return "; ".join(found)

    def _still(self, peer: dict[str, Any]) -> str:
        """Return what goes on with a peer that has long not come to an end: no frame says that the other refuses."""
        from bt_selfsecure.cli.status import state

        progress = peer["progress"]
        if progress and (progress["sent"] or progress["heard"]):
            return state(peer)
        return f"{state(peer)}; no answer for {STILL_S:.0f} s. If it refuses, its own bt-selfsecure status says why"


def find(client: NodeClient, name: str) -> dict[str, Any]:
    """Return the peer of that name or address. Raises `UsageError`."""
    from bt_selfsecure.addresses import spelled

    for peer in client.peers():
        if peer["name"] == name or peer["address"] == spelled(name):
            return peer
    raise UsageError(f"there is no peer {name[:64]!r}: see `bt-selfsecure peers`")


def _scan(args: Namespace) -> int:
    from bt_selfsecure.cli.status import sighting_table

    client = node_client(args)
    with progress(lambda: f"listening for {args.seconds:g} s"):
        nodes = client.scan(args.seconds)
    print(json.dumps(nodes, indent=2) if args.json else "\n".join(sighting_table(nodes, columns())))
    return 0


# --- the terminal -----------------------------------------------------------------------------------------------------


@contextmanager
def progress(tell: Callable[[], str], news: Callable[[], str] | None = None) -> Iterator[None]:
    """Show on a terminal's standard error what goes on, with the seconds; leave nothing of that behind. What `news`
    returns is a line that stays, also where standard error is no terminal."""
    on_terminal = sys.stderr.isatty()
    if not (on_terminal or news):
        yield
        return
    from threading import Event, Thread

    done = Event()
    thread = Thread(target=_show_progress, args=(tell if on_terminal else None, news, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        if on_terminal:
            print("\r" + CLEAR_LINE_END, end="", file=sys.stderr, flush=True)


def _show_progress(tell: Callable[[], str] | None, news: Callable[[], str] | None, done: Event) -> None:
    start = time.monotonic()
    while not done.wait(PROGRESS_S):
        try:
            new, what = news() if news else "", tell() if tell else ""
        except UsageError:
            continue  # the command itself will say it
        if new:
            print(("\r" + CLEAR_LINE_END) * bool(tell) + "\n".join(wrapped(new, columns(), "  ")), file=sys.stderr)
        if tell:
            line = f"{what}, {time.monotonic() - start:.0f} s"[: columns() - 1]
            print("\r" + line + CLEAR_LINE_END, end="", file=sys.stderr, flush=True)
