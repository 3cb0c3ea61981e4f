"""`bt-selfsecure pair words`: three words, shown at one device and typed at the other."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any, Final

from bt_selfsecure.cli.client import node_client, progress
from bt_selfsecure.cli.pair import PairingTalk, add_place, pair_parser
from bt_selfsecure.cli.pair_show import others_words
from bt_selfsecure.cli.terminal import columns, typed
from bt_selfsecure.errors import UnreadableError, UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

    from bt_selfsecure.node.client import NodeClient

TEXT: Final = """\
Show three words, or type those that the other device shows: the first three
letters of each are enough, and a typo is found before anything is sent. Whoever
stands between the two, or guesses, is right once in 262 144; after five wrong
guesses the words are worth nothing any more.
"""
EXAMPLES: Final = """\
examples:
  bob$    bt-selfsecure pair words
  alice$  bt-selfsecure pair words --with B8:27:EB:12:34:56 otter panda radio
  alice$  bt-selfsecure pair words otter panda radio
      Which device shows them is asked, of those that are near.
  alice$  bt-selfsecure pair words --with B8:27:EB:12:34:56
      They are asked for, and the Tab key completes each."""
SCAN_S: Final = 6.0
MOST_NEAR: Final = 15
"""With what is around them they fit 24 lines."""
WHOSE: Final = "give --with and the address that the other device shows with them"


def add_parser(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `pair words`."""
    what = "show three words, or type those of the other device"
    words = pair_parser(commands, "words", what, TEXT, EXAMPLES, _words)
    words.add_argument("words", nargs="*", metavar="WORD", help="the three words that the other device shows")
    words.add_argument(
        "--with",
        dest="address",
        default="",
        metavar="ADDRESS",
        help="the device that shows them, as it says itself; else it is asked",
    )
    add_place(words)


def _words(args: Namespace) -> int:
    if not (args.address or args.words):

        def show(line: dict[str, Any]) -> None:
            print(f"\n    {line['code']}\n")
            print(others_words(line, f"words --with {line['address']} {line['code']}"), flush=True)

        return PairingTalk(args, "words", show=show).run()
    from bt_selfsecure.oob.words import read_words

    try:
        carried = read_words(" ".join(args.words) if args.words else _asked())
    except UnreadableError as error:
        raise UsageError(str(error)) from None
    address = args.address or _chosen(node_client(args))
    return PairingTalk(args, "words").run(carried.encode(), address=address, udp=args.udp)


def _chosen(client: NodeClient) -> str:
    """The address of one of the devices that are near, as a person says. What is heard of them proves nothing: the
    words do."""
    from bt_selfsecure.cli.status import nearest, sighting_table
    from bt_selfsecure.node.client import ApiError

    if not sys.stdin.isatty():
        raise UsageError(f"whose words are they? {WHOSE}")
    try:
        with progress(lambda: f"whose words are they? listening for {SCAN_S:g} s"):
            heard = client.scan(SCAN_S)
    except ApiError as error:
        raise UsageError(f"no device can be looked for ({error}): {WHOSE}") from None
    near = nearest([node for node in heard if not node["peer"]])[:MOST_NEAR]
    if not near:
        raise UsageError(f"no device is heard that is no peer yet: {WHOSE}")
    head, *rows = sighting_table(near, columns() - len("15 "))
    print(f"   {head}", *(f"{number:2} {row}" for number, row in enumerate(rows, 1)), sep="\n", file=sys.stderr)
    while True:
        if not (answer := typed(f"Which one shows them? 1 to {len(near)}:")):
            raise UsageError("nothing was chosen, and nothing sent")
        if answer.strip() in map(str, range(1, len(near) + 1)):
            return str(near[int(answer) - 1]["address"])


def _asked() -> str:
    """Typed by a person, each word completed by Tab."""
    from bt_selfsecure.oob.words import completions

    if not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask for the words on: give them behind --with ADDRESS")
    with contextlib.suppress(ImportError):
        import readline

        readline.set_completer(lambda text, number: [*completions(text), None][number])
        readline.parse_and_bind("tab: complete")
    try:
        return input("The three words that it shows: ")
    except EOFError:
        raise UsageError("nothing was typed, and nothing sent") from None
    except KeyboardInterrupt:
        print(file=sys.stderr)
        raise
