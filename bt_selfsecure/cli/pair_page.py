"""`bt-selfsecure pair page`: a page on the phone, which introduces this device to another one."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from bt_selfsecure.cli.client import node_client
from bt_selfsecure.cli.pair import add_place, pair_parser, told
from bt_selfsecure.cli.terminal import columns, rows, wrapped
from bt_selfsecure.errors import UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction
    from socket import socket

    from bt_selfsecure.node.client import NodeClient

WEB_PORT: Final = 8701
TEXT: Final = """\
Serve a page for a phone, by which a device without keyboard and display gets to
know another one. It shows this device's code; and it reads the other's, from a
photo or as text. The other one runs `pair page`, too, or pair show --compare,
or reads this one's code by pair scan. Both show a string at last, and a person
compares: on the page, or by pair compared.
"""
EXAMPLES: Final = f"""\
example:
  both$   bt-selfsecure pair page
      One phone may have both pages open, and carry the code as text from the
      one to the other; or a person at each photographs the other's page.

What goes over the page is no secret, and the page has no encryption: whoever
knows its address can steer it, and whoever can change what the phone is shown
can lie about the string. Use your own hotspot, or ssh -L and
--listen 127.0.0.1:{WEB_PORT}."""


def add_parser(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `pair page`."""
    page = pair_parser(commands, "page", "a page on the phone: codes, photos, and the string", TEXT, EXAMPLES, _page)
    page.add_argument(
        "--listen",
        default=f"0.0.0.0:{WEB_PORT}",
        metavar="ADDRESS:PORT",
        help=f"where the page is served (default 0.0.0.0:{WEB_PORT})",
    )
    add_place(page)


def _page(args: Namespace) -> int:
    from bt_selfsecure.oob.qr import drawn
    from bt_selfsecure.phone.guard import listening

    client = node_client(args)
    called = client.status()["name"]
    drawn("", colours=False)  # before anything is begun
    with suppress(asyncio.CancelledError), listening(args.listen, "--listen") as listener:  # SIGTERM
        asyncio.run(_served(args, client, called, listener))
        return 0
    return 1


async def _served(args: Namespace, client: NodeClient, called: str, listener: socket) -> None:
    from bt_selfsecure.phone.introduction import Introduction
    from bt_selfsecure.phone.pairing_page import serve

    last = ""

    def tell(line: dict[str, Any]) -> None:
        nonlocal last
        if args.json:
            print(json.dumps(line), flush=True)
        elif line["event"] == "page":
            print(line["text"], flush=True)  # lines of a QR code
        elif (said := _said(line)) and said != last:  # it tries again and again
            last = said
            where = sys.stderr if line["event"] == "trouble" else sys.stdout
            print("\n".join(wrapped(said, columns(), "  ")), file=where, flush=True)

    introduction = Introduction(client, called, tell, name=args.name, udp=args.udp)
    work = asyncio.create_task(introduction.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    async with serve(introduction, listener) as (address, server):
        tell({"event": "page", "address": address} if args.json else {"event": "page", "text": _opened(address)})
        await asyncio.wait((work, server), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
            raise UsageError(f"the page is gone ({server.exception()}), and nothing is paired: start it again")
        await work


def _opened(address: str) -> str:
    """Return what is shown of the page's address: on a terminal that has the room, as a QR code too, for a phone that
    can come."""
    from bt_selfsecure.oob.qr import drawn

    if _is_loopback(urlsplit(address).hostname or ""):
        return f"On this computer, or where ssh -L leads to it: {address}"
    said = f"On the phone, in the same network: {address}"
    lines = drawn(address, colours=True).splitlines()
    fits = sys.stdout.isatty() and len(lines) + 3 <= rows()
    return "\n".join([*(lines if fits else []), said])


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


def _said(line: dict[str, Any]) -> str:
    match line["event"]:
        case "shown" | "calling":
            return ""
        case "string":
            return f"Does {line['peer']} show the same? Say it on the page:  {line['string']}"
        case _:
            return told(line)
