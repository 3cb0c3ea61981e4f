"""What all ways of `bt-selfsecure pair` have in common: how a pairing is followed to its end; and what comes after."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from bt_selfsecure.cli.client import client_parser, node_client, progress
from bt_selfsecure.cli.terminal import asks_yes, columns, wrapped
from bt_selfsecure.errors import UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction
    from threading import Event

    from bt_selfsecure.cli.channels import Emit
    from bt_selfsecure.node.client import NodeClient

OTHERWISE: Final = "with --json, say it by bt-selfsecure pair compared"
COMPARED_TEXT: Final = """\
For scripts, in another process than the pairing that runs with --json and has
told a string: say whether the other end has told the same."""
FORGET_TEXT: Final = """\
Let a peer go that was paired: its keys, and messages that wait, are erased, and
it is no peer any more. At the other end this is to be done, too."""


def pair_parser(
    commands: _SubParsersAction[ArgumentParser],
    name: str,
    what: str,
    description: str,
    example: str,
    run: Callable[[Namespace], int],
) -> ArgumentParser:
    """Return a command that pairs, with the options that all of them have."""
    parser = client_parser(commands, name, what, f"{description}\nExit status 1: not paired.", example, run)
    parser.add_argument("--name", default="", metavar="NAME", help="what the peer is to be called here")
    parser.add_argument("--json", action="store_true", help="a JSON object a line, as POST /v1/pair")
    return parser


def add_place(parser: ArgumentParser) -> None:
    """Add the option of who is to find the other device on udp."""
    parser.add_argument(
        "--udp", default="", metavar="PLACE", help='on udp: where the other device listens, as in "127.0.0.1:5701"'
    )


class PairingTalk:
    """Follows one pairing. `show` prints what is shown, of `code` and a line of the API; `emit` sends it."""

    def __init__(
        self,
        args: Namespace,
        way: str,
        *,
        show: Callable[[dict[str, Any]], None] = lambda line: None,
        emit: Emit | None = None,
        text_of: Callable[[str], str] = str,
    ) -> None:
        self._args, self._way, self._show, self._emit, self._text_of = args, way, show, emit, text_of
        self._client: NodeClient = node_client(args)
        self._doing = "waiting for the other device"
        self._over: Event | None = None

    def run(self, carried: bytes = b"", *, udp: str = "", address: str = "") -> int:
        """Pair, with what was read of the other device, if anything was; return the exit status."""
        lines = self._client.pair(self._way, carried, name=self._args.name, udp=udp, address=address)
        with closing(lines):
            try:
                while True:
                    with progress(lambda: self._doing):
                        line = next(lines, None)
                    if line is None:
                        raise UsageError("the node has stopped: nothing is paired; see systemctl status bt-selfsecure")
                    if (status := self._take(line)) is not None:
                        return status
            finally:
                self._stop_emitting()

    def _take(self, line: dict[str, Any]) -> int | None:
        event = line["event"]
        data = line["code"]
        if event == "shown":
            line = line | {"code": self._text_of(line["code"])}
        if self._args.json:
            print(json.dumps(line), flush=True)
        else:
            self._tell(event, line)
        match event:
            case "shown" if self._emit:
                self._begin_emitting(self._emit, bytes.fromhex(data))
            case "keyed":
                self._stop_emitting()
                self._doing = f"agreeing on a key with {line['peer']}"
            case "released":
                self._doing = "waiting for another device"
            case "string" if not self._args.json:
                self._ask(line)
            case "paired" | "failed":
                return 0 if event == "paired" else 1
        return None

    def _tell(self, event: str, line: dict[str, Any]) -> None:
        match event:
            case "shown":
                return self._show(line)
            case "calling":
                self._doing = f"calling {line['address']}"
                return None
            case "string":
                return print(f"\n    {line['string']}\n", flush=True)
        where = sys.stderr if event == "trouble" else sys.stdout
        return print("\n".join(wrapped(told(line), columns(), "  ")), file=where, flush=True)

    def _ask(self, line: dict[str, Any]) -> None:
        """People at both ends look at both. Meanwhile the stream waits."""
        same = asks_yes(f"Others may have heard or seen it. Does {line['peer']} show the same?", OTHERWISE)
        try:
            self._client.compared(same=same, string=line["string"])
        except UsageError as error:
            print(f"{error}.", file=sys.stderr, flush=True)  # it comes next
            return
        self._doing = f"waiting for the word of {line['peer']}"

    def _begin_emitting(self, emit: Emit, data: bytes) -> None:
        from threading import Event, Thread

        self._over = Event()
        Thread(target=emitted, args=(emit, data, self._over), daemon=True).start()

    def _stop_emitting(self) -> None:
        if self._over:
            self._over.set()


def told(line: dict[str, Any]) -> str:
    """Return what a line of the API says to a person."""
    who, text = line["peer"], line["text"]
    match line["event"]:
        case "trouble":
            return str(text)
        case "wrong":
            return f"Somebody has typed other words: {line['left']} of five guesses are left."
        case "keyed":
            return f"{who} ({line['address']}) is there."
        case "released":
            return f"{who}: {text}. Waiting for it, or another one."
        case "paired":
            return f"Paired with {who} ({line['address']}): bt-selfsecure send {who}"
        case _:
            return f"Not paired: {text}."


def emitted(emit: Emit, data: bytes, over: Event) -> None:
    """Send until it is over; say what goes wrong with it."""
    try:
        emit(data, over)
    except UsageError as error:
        print(f"bt-selfsecure: {error}", file=sys.stderr, flush=True)


def add_compared(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `pair compared`."""
    compared = client_parser(
        commands,
        "compared",
        "for scripts: whether both ends show the same string",
        COMPARED_TEXT,
        "example:\n  bt-selfsecure pair compared --same",
        _compared,
    )
    which = compared.add_mutually_exclusive_group(required=True)
    which.add_argument("--same", action="store_true", help="both ends show the same string")
    which.add_argument("--differs", action="store_true", help="they do not: nothing is paired")


def _compared(args: Namespace) -> int:
    node_client(args).compared(same=args.same)
    return 0


def add_forget(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `pair forget`."""
    forget = client_parser(
        commands,
        "forget",
        "let a peer go that was paired",
        FORGET_TEXT,
        "example:\n  bt-selfsecure pair forget bob",
        _forget,
    )
    forget.add_argument("peer", metavar="PEER", help="name or address")
    forget.add_argument("--yes", action="store_true", help="do not ask")


def _forget(args: Namespace) -> int:
    if not args.yes and not asks_yes(
        f"The keys of {args.peer} are erased, and messages that wait. Go on?", "give --yes, if you are sure"
    ):
        print("Nothing is changed.")
        return 1
    node_client(args).forget(args.peer)
    print(f"{args.peer} is no peer any more.")
    return 0
