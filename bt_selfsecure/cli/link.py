"""`bt-selfsecure link`: an IP interface over Bluetooth, for any program."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bt_selfsecure.addresses import is_address, spelled
from bt_selfsecure.errors import UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

    from bt_selfsecure.bearers.ipsp_link import InterfaceState

DESCRIPTION: Final = """\
Bring up 6LoWPAN over Bluetooth LE (IPSP, RFC 7668), so that any program can
speak IPv6 with the peer: ping, CoAP, ssh. The interface, bt0, lives until
Ctrl-C; what was changed for it is put back. One end names the other and dials,
again whenever the connection is lost; the other runs it without a PEER, and
lets any device connect.

Nothing below IP is encrypted or authenticated here: whoever is near reaches
what this computer serves on all its interfaces, as on an open Wi-Fi.

It takes root or the helper's socket (systemctl enable --now
bt-selfsecure-ipsp.socket), and the kernel's module bluetooth_6lowpan."""
EPILOG: Final = """\
examples:
  bob$   bt-selfsecure link up --ipsp
  alice$ bt-selfsecure link up bob --ipsp
  bt0 is up; B8:27:EB:12:34:56 is connected
  fe80::ba27:ebff:fe12:3456%bt0 answers
  alice$ ping fe80::ba27:ebff:fe12:3456%bt0      in another terminal
"""


def add_parser(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `link` and its one command."""
    what = "an IP interface over Bluetooth (IPSP), for any program"
    link = commands.add_parser("link", help=what, description=f"{what[0].upper()}{what[1:]}: IPv6 by the kernel.")
    verbs = link.add_subparsers(title="commands", metavar="COMMAND", required=True)
    up = verbs.add_parser(
        "up",
        help="bring it up until Ctrl-C",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    up.add_argument(
        "peer", nargs="?", metavar="PEER", help="whom to dial: an address, or the name of a peer of the node's"
    )
    up.add_argument("--ipsp", action="store_true", required=True, help="over IPSP; there is no other kind so far")
    up.add_argument("--adapter", default="hci0", metavar="HCI", help="adapter as in hci0, the default")
    up.add_argument("--json", action="store_true", help="one JSON object for each change")
    up.add_argument(
        "--config", type=Path, metavar="FILE", help="the node's configuration, if it is not the default one"
    )
    up.set_defaults(run=_up)


def _up(args: Namespace) -> int:
    from bt_selfsecure.bearers.base import BearerError

    peer = _address(args) if args.peer else None
    try:
        asyncio.run(_follow(args, peer))
    except BearerError as error:
        raise UsageError(str(error)) from error
    return 0


def _address(args: Namespace) -> str:
    """Return the peer's device address; where it is given by a name, as the node knows it by its
    configuration, or by pairing."""
    if is_address(address := spelled(args.peer)):
        return address
    from bt_selfsecure.node.config_file import read, with_paired
    from bt_selfsecure.node.where import find_path

    known = {peer.name: peer.address for peer in with_paired(read(find_path(args.config))).config.peer}
    if args.peer in known:
        return known[args.peer]
    names = ", ".join(sorted(known)) or "none"
    raise UsageError(
        f"{args.peer!r} is neither a device address nor a peer that is known: those are {names} "
        "(sudo sees those that were paired, too)"
    )


async def _follow(args: Namespace, peer: str | None) -> None:
    from bt_selfsecure.bearers.ipsp_link import keep_up

    task = asyncio.current_task()
    assert task
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    whom = f"dialling {peer}" if peer else "any device may connect"
    async with contextlib.aclosing(keep_up(args.adapter, peer)) as states:
        with contextlib.suppress(asyncio.CancelledError):
            async for state in states:
                print(json.dumps(asdict(state)) if args.json else _told(state, whom), flush=True)
    if not args.json:
        print("the link is down")


def _told(state: InterfaceState, whom: str) -> str:
    if state.interface is None:
        return f"no interface yet: {whom}; Ctrl-C ends it"
    connected = ", ".join(state.connected)
    lines = [f"{state.interface} is up; " + (f"{connected} connected" if connected else f"nobody connected: {whom}")]
    lines += [f"  {address} answers" for address in state.answered]
    return "\n".join(lines)
