"""`bt-selfsecure bootstrap join` at a node, and `admit` at its controller."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bt_selfsecure.cli.bootstrap_options import (
    add_code,
    add_state,
    address,
    folder_of,
    given_flight,
    opened,
    sent,
    show,
    until_ctrl_c,
)
from bt_selfsecure.cli.client import progress
from bt_selfsecure.cli.numbers import real
from bt_selfsecure.errors import UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

    from bt_selfsecure.bootstrap.joining import JoiningNode
    from bt_selfsecure.bootstrap.store import BootstrapStore, KnownNetwork

SILENT: Final = "the controller does not answer at its NID, or does not know this node's answer"
CONFIG: Final = "the node's configuration, if not the default one"
JOIN: Final = """\
Show flight 1 as a code, take flight 4, which the controller shows for it, and
prove to the controller over the network that both have the new key. It ends
with the controller as a peer in the node's configuration. Whoever has the
installer's key must not see flight 1; nor flight 4, if he saw that.

What breaks off is gone on with when it is run again: the same code is shown, or
nothing is left but to prove it. Join again when the key's lifetime is over."""
JOIN_EPILOG: Final = """\
exit status: 0 joined; 1 not yet, and why; 2 input that can't be used
examples:
  bootstrap join                     asks for flight 4: a code, or a file's path
  bootstrap join --show > flight1    and later, with what the controller showed:
  bootstrap join --file flight4.jpg
"""
ADMIT: Final = """\
Take the code that a node shows, bring it to the controller that runs here, show
its answer, flight 4, and wait until the node has joined. It ends with the node
as a peer in the configuration of the node on this computer, if its address is
known: bootstrap enrol --address, or --peer-address here."""
ADMIT_EPILOG: Final = """\
exit status: 0 joined; 1 not yet, or refused, and why; 2 bad input
example:
  bootstrap admit --file photo.jpg
"""


def add_join(verbs: _SubParsersAction[ArgumentParser]) -> None:
    """Add `join`."""
    parser = verbs.add_parser(
        "join",
        help="at the node: become one of the network's",
        description=JOIN,
        epilog=JOIN_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_code(parser, "flight 4")
    parser.add_argument("--network", metavar="NAME", help="which, if this node was set up for several")
    parser.add_argument("--show", action="store_true", help="show flight 1, and end")
    parser.add_argument("--anew", action="store_true", help="show another flight 1: the last was refused, or seen")
    parser.add_argument("--write-peer", action="store_true", help="write the peer of the last join again, and end")
    _add_common(parser)
    parser.set_defaults(run=_join)


def add_admit(verbs: _SubParsersAction[ArgumentParser]) -> None:
    """Add `admit`."""
    parser = verbs.add_parser(
        "admit",
        help="at the controller: take the code that a node shows",
        description=ADMIT,
        epilog=ADMIT_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_code(parser, "flight 1")
    parser.add_argument("--no-wait", action="store_true", help="show flight 4, and end")
    parser.add_argument("--peer-address", type=address, metavar="ADDR", help="the node's Bluetooth device address")
    _add_common(parser)
    parser.set_defaults(run=_admit)


def _add_common(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--timeout", type=real(above=0, most=86_400), default=120.0, metavar="S",
        help="for the other end to prove itself (default 120)",
    )  # fmt: skip
    parser.add_argument("--config", type=Path, metavar="FILE", help=CONFIG)
    parser.add_argument("--no-peer", action="store_true", help="write no peer")
    add_state(parser)


# --- join -------------------------------------------------------------------------------------------------------------


def _join(args: Namespace) -> int:
    from bt_selfsecure.bootstrap.joining import FlightRefusedError, JoiningNode
    from bt_selfsecure.bootstrap.store import held
    from bt_selfsecure.protocols.bootstrap.messages import Kind
    from bt_selfsecure.protocols.bootstrap.sbi import SbiState

    store = opened(args)
    with held(folder_of(args), "join"):
        known = _network(args, store)
        if args.write_peer:
            return _write_peer_of(args, known)
        node = JoiningNode(store, known)
        if node.state is SbiState.PROVING and not (args.anew or args.show or args.code or args.file):
            return _prove(args, store, node)
        with ExitStack() as sending:
            if args.code is None and args.file is None:
                flight1 = node.show(anew=args.anew)
                show(flight1, args, f"{known.node} asks to join {known.network}. Let the controller read this (admit):")
                how_far = sending.enter_context(sent(flight1, args))
                if args.show:
                    until_ctrl_c(how_far)
                    return 0
            flight4 = given_flight(args, Kind.F4, "Flight 4, which it shows then (code, or a file's path):")
        try:
            node.take(flight4)
        except FlightRefusedError as error:
            print(f"not joined: {error}", file=sys.stderr)
            return 1
        return _prove(args, store, node)


def _network(args: Namespace, store: BootstrapStore) -> KnownNetwork:
    known = store.networks()
    if args.network:
        known = [one for one in known if one.network == args.network]
    if len(known) > 1:
        raise UsageError(f"this node was set up for {', '.join(one.network for one in known)}: name one by --network")
    if not known:
        raise UsageError("this node was not set up: bt-selfsecure bootstrap enrol --setup FILE, of its installer")
    return known[0]


def _prove(args: Namespace, store: BootstrapStore, node: JoiningNode) -> int:
    with progress(lambda: "proving the new key to the controller"):
        done = asyncio.run(node.prove(args.timeout))
    if not done:
        why = node.trouble or SILENT
        print(
            f"not joined yet: {why}. Run this again, or with --anew if the controller lost its state", file=sys.stderr
        )
        return 1
    print(f"{node.known.node} has joined {node.known.network}: the installer's key is worth nothing any more")
    return _write_peer_of(args, _network(args, store))


def _write_peer_of(args: Namespace, known: KnownNetwork) -> int:
    if not known.record.joined:
        raise UsageError(f"{known.node} has not joined {known.network} yet: bt-selfsecure bootstrap join")
    where = known.place(known.record.joined)
    _peer(args, where.name, where.address, where.udp, known.record.key)
    return 0


def _peer(args: Namespace, name: str, device: str, udp: str, psk: bytes) -> None:
    from bt_selfsecure.bootstrap.peers import write_peer
    from bt_selfsecure.node.where import find_path

    if args.no_peer:
        return
    if not device:
        print(f"no peer is written: the Bluetooth address of {name} is not known here", file=sys.stderr)
        return
    config = find_path(args.config)
    write_peer(config, name, device, udp, psk)
    print(f"{name} is a peer in {config}: sudo systemctl restart bt-selfsecure, and it counts")


# --- admit ------------------------------------------------------------------------------------------------------------


def _admit(args: Namespace) -> int:
    from bt_selfsecure.bootstrap.controller import NotAdmittedError
    from bt_selfsecure.bootstrap.serving import ask_controller
    from bt_selfsecure.protocols.bootstrap.messages import Kind, decode

    store = opened(args)
    flight1 = given_flight(args, Kind.F1, "Flight 1, which the node shows (code, or a file's path):")
    known = store.node(decode(flight1).node_id.hex())
    name = known.name if known else decode(flight1).node_id.hex()

    sending = ExitStack()
    how_far: Callable[[], str] = str

    def answered(flight4: bytes) -> None:
        nonlocal how_far
        show(flight4, args, f"Let {name} read this (join), and nobody who has its installer's key:")
        how_far = sending.enter_context(sent(flight4, args))

    with sending:
        try:
            with progress(lambda: how_far() or f"waiting for {name}"):
                done = asyncio.run(
                    ask_controller(folder_of(args), flight1, answered, 0.0 if args.no_wait else args.timeout)
                )
        except NotAdmittedError as error:
            print(f"{name} is not admitted: {error}", file=sys.stderr)
            return 1
        if args.no_wait:
            until_ctrl_c(how_far)
            return 0
    if not done:
        print(f"{name} has not proved itself yet; the controller goes on waiting for it", file=sys.stderr)
        return 1
    print(f"{name} has joined", file=sys.stderr)
    psk = store.psk_of(flight1)
    device = args.peer_address or (known.address if known else "")
    if psk is not None:
        _peer(args, name, device, known.udp if known else "", psk)
    return 0
