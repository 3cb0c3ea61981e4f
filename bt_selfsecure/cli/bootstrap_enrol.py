"""`bt-selfsecure bootstrap enrol` and `revoke`: who may join."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bt_selfsecure.cli.bootstrap_options import add_state, address, opened
from bt_selfsecure.errors import UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

    from bt_selfsecure.bootstrap.setup import ControllerPlace
    from bt_selfsecure.bootstrap.store import BootstrapStore

ENROL: Final = """\
At the server: draw an id and an installer's key (IK) for a new node, and write
them for the installer, with where its controllers are, into NODE.setup. That
file is a secret until the node has joined; then it is worth nothing, if nobody
who has it saw the codes that the node and its controller showed.

At the node: --setup FILE takes what the installer has brought."""
ENROL_EPILOG: Final = """\
examples:
  bootstrap enrol lamp --address B8:27:EB:65:43:21
  bootstrap enrol --setup lamp.setup && rm lamp.setup      at the node
  bootstrap enrol lamp --again           the node has lost its keys, or was
                                         revoked: it begins anew
"""


def add_enrol(verbs: _SubParsersAction[ArgumentParser]) -> None:
    """Add `enrol`."""
    parser = verbs.add_parser(
        "enrol",
        help="give a node its installer's key: at the server, then at the node",
        description=ENROL,
        epilog=ENROL_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("node", nargs="?", metavar="NODE", help="at the server: what it is to be called")
    parser.add_argument("--setup", type=Path, metavar="FILE", help="at the node: what the installer has brought")
    parser.add_argument("--again", action="store_true", help="a node that is known: with a new key, and not revoked")
    parser.add_argument("--domain", metavar="NAME", help="whose controllers (default home)")
    parser.add_argument(
        "--controller", action="append", metavar="NAME", help="one that may let it join (default: all of the domain)"
    )
    parser.add_argument("--nid", metavar="NID", help="where it reaches its controller, if not where that says")
    parser.add_argument("--address", type=address, metavar="ADDR", help="its Bluetooth device address, for peers")
    parser.add_argument("--udp", metavar="PLACE", help="where its node listens, if that has no radio")
    parser.add_argument(
        "--ik-file", type=Path, metavar="FILE", help="an IK of 32 hexadecimal digits, which other nodes may have, too"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write (default NODE.setup)")
    add_state(parser)
    parser.set_defaults(run=_enrol)


def add_revoke(verbs: _SubParsersAction[ArgumentParser]) -> None:
    """Add `revoke`."""
    parser = verbs.add_parser(
        "revoke",
        help="let a node join no more",
        description="Let a node join no more, also while a server runs. Controllers have the key of their peer: remove "
        "the peer from their nodes' configuration as well.",
    )
    parser.add_argument("node", metavar="NODE", help="its name or id, as bootstrap status shows it")
    add_state(parser)
    parser.set_defaults(run=_revoke)


def _enrol(args: Namespace) -> int:
    if (args.node is None) == (args.setup is None):
        raise UsageError("name the node (at the server), or give --setup FILE (at the node)")
    return _set_up(args, opened(args, make=True)) if args.setup else _at_server(args, opened(args))


def _set_up(args: Namespace, store: BootstrapStore) -> int:
    from bt_selfsecure.bootstrap.setup import NodeSetup

    setup = NodeSetup.from_file(args.setup)
    known = [one for one in store.networks() if one.network == setup.network]
    if known and known[0].record.joined and not args.again:
        raise UsageError(
            f"this node has joined {setup.network} already: join again by bootstrap join, or give --again if its keys "
            "are worth nothing any more"
        )
    store.put_setup(setup)
    print(f"{setup.node} is set up for {setup.network}: remove {args.setup}, then bt-selfsecure bootstrap join")
    return 0


def _at_server(args: Namespace, store: BootstrapStore) -> int:
    from bt_selfsecure.bearers.places import parse_place
    from bt_selfsecure.bootstrap.setup import NodeSetup
    from bt_selfsecure.bootstrap.store import KnownNode
    from bt_selfsecure.files import is_there, write_private
    from bt_selfsecure.node.config import NAME
    from bt_selfsecure.protocols.bootstrap import limits
    from bt_selfsecure.protocols.bootstrap.records import NodeRecord

    if not NAME.accepts(args.node):
        raise UsageError(f"{args.node!r} can't be a name: it is {NAME.expected}")
    if args.udp:
        parse_place(args.udp)
    known = store.node(args.node)
    if known and not args.again:
        raise UsageError(f"{known.name} is enrolled already: --again gives it a new key, if it has lost its own")
    if not known and args.again:
        raise UsageError(f"{args.node} is not enrolled yet: leave --again out")
    domain = args.domain or (known.record.domain if known else "home")
    places = _places(args, store, domain)
    out = args.out or Path(f"{args.node}.setup")
    if is_there(out):
        raise UsageError(f"{out} is there already: remove it, or name another file by --out")
    ik = _shared_ik(args.ik_file) if args.ik_file else os.urandom(limits.KEY_BYTES)
    record = NodeRecord(os.urandom(limits.ID_BYTES), ik, domain)
    if known:
        last, revision = known.record.last, known.record.revision + 1
        record = NodeRecord(known.record.node_id, ik, domain, last=last, revision=revision)
    address = args.address if args.address is not None else known.address if known else ""
    udp = args.udp if args.udp is not None else known.udp if known else ""
    name = known.name if known else args.node
    write_private(out, NodeSetup(domain, name, record.node_id, ik, places).to_json().encode(), new=True)
    store.put_node(KnownNode(name, address, udp, bool(args.ik_file), record))
    print(f"{name} is enrolled: carry {out} to it, then there: bt-selfsecure bootstrap enrol --setup {out.name}")
    if args.ik_file:
        print(
            "warning: this IK may be that of other nodes, too: whoever has it from one of them can take this node's "
            "PSK, if flight 1 is seen",
            file=sys.stderr,
        )
    return 0


def _places(args: Namespace, store: BootstrapStore, domain: str) -> tuple[ControllerPlace, ...]:
    from bt_selfsecure.bootstrap.nid import parse_nid

    if args.nid:
        parse_nid(args.nid)
    named = {one.place.name: one.place for one in store.controllers().values() if one.controller.domain == domain}
    for name in args.controller or ():
        if name not in named:
            raise UsageError(f"there is no controller {name!r} in {domain}: see bootstrap status")
    chosen = [place for name, place in named.items() if not args.controller or name in args.controller]
    if not chosen:
        raise UsageError(f"{domain} has no controller yet: bt-selfsecure bootstrap serve --add-controller NAME")
    return tuple(replace(place, nid=args.nid) if args.nid else place for place in chosen)


def _shared_ik(path: Path) -> bytes:
    from bt_selfsecure.bootstrap.setup import of_size
    from bt_selfsecure.files import private
    from bt_selfsecure.protocols.bootstrap import limits

    try:
        return of_size(private(path).decode("ascii").strip(), limits.KEY_BYTES)
    except ValueError:
        raise UsageError(f"{path} is no IK: it has 32 hexadecimal digits, as openssl rand -hex 16 gives") from None


def _revoke(args: Namespace) -> int:
    store = opened(args)
    known = store.node(args.node)
    if known is None:
        raise UsageError(f"there is no node {args.node!r}: see bt-selfsecure bootstrap status")
    record = replace(known.record, revoked=True, candidate=None, revision=known.record.revision + 1)
    store.put_node(known._replace(record=record))
    print(f"{known.name} is revoked: remove its [[peer]] from the configuration of its controllers' nodes, too")
    return 0
