"""`bt-selfsecure bootstrap serve`: server and controllers, in one process or several."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bt_selfsecure.cli.bootstrap_options import add_state, address, folder_of, opened, place
from bt_selfsecure.cli.numbers import integer
from bt_selfsecure.errors import UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

    from bt_selfsecure.bootstrap.setup import ControllerPlace
    from bt_selfsecure.bootstrap.store import BootstrapStore
    from bt_selfsecure.protocols.bootstrap.config import Controller

DAY_S: Final = 86_400
DESCRIPTION: Final = """\
Run until Ctrl-C or SIGTERM what lets nodes join: the server (SBS), which has
the keys of all nodes, and a controller (SBR), to which nodes come. Each
controller has a key of its own with the server: make it by --add-controller.
With --out a controller's keys are written for another computer, which takes
them by --controller-file; else the controller runs here."""
EPILOG: Final = """\
examples:
  bootstrap serve --add-controller hall --nid udp:192.0.2.1:5702 \\
      --address B8:27:EB:12:34:56     its Bluetooth address, for nodes' peers
  bootstrap serve                     the server, and the controller hall
  bootstrap serve --add-controller attic --nid udp:192.0.2.7:5702 \\
      --out attic.key
  bootstrap serve --as server --bind 192.0.2.1:5701
  bootstrap serve --as controller --controller-file attic.key \\
      --server 192.0.2.1:5701         on the computer in the attic
"""


def add_parser(verbs: _SubParsersAction[ArgumentParser]) -> None:
    """Add `serve`."""
    parser = verbs.add_parser(
        "serve",
        help="run a server, a controller, or both",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument_group("a new controller")
    add.add_argument("--add-controller", metavar="NAME", help="make its keys, and end")
    add.add_argument("--domain", default="home", metavar="NAME", help="whose nodes it may let join (default home)")
    add.add_argument("--nid", metavar="NID", help="where nodes reach it, as in udp:192.0.2.1:5702, or bt:ADDR")
    add.add_argument(
        "--address", type=address, metavar="ADDR", help="its Bluetooth device address (default: its NID's)"
    )
    add.add_argument("--udp", default="", metavar="PLACE", help="where its node listens, if that has no radio")
    add.add_argument("--out", type=Path, metavar="FILE", help="write its keys for another computer; mode 0600")
    run = parser.add_argument_group("to run")
    run.add_argument("--as", dest="role", choices=("both", "server", "controller"), default="both")
    run.add_argument("--controller", metavar="NAME", help="which of the controllers here; may be left out of one")
    run.add_argument("--controller-file", type=Path, metavar="FILE", help="its keys, as --out has written them")
    run.add_argument("--server", type=place, metavar="PLACE", help="where the server is: as in 192.0.2.1:5701")
    run.add_argument(
        "--bind", type=place, default=("127.0.0.1", 5701), metavar="PLACE",
        help="where the server listens (default 127.0.0.1:5701)",
    )  # fmt: skip
    run.add_argument(
        "--nid-bind", type=place, metavar="PLACE", help="on UDP: where the controller listens (default: at its NID)"
    )
    run.add_argument(
        "--lifetime", type=integer(least=1, most=36_500), default=365, metavar="DAYS", help="of a PSK (default 365)"
    )
    run.add_argument("-v", "--verbose", action="store_true", help="log who joins")
    add_state(parser)
    parser.set_defaults(run=_run)


def _run(args: Namespace) -> int:
    store = opened(args, make=True)
    if args.add_controller:
        return _add(args, store)
    if args.nid or args.out:
        raise UsageError("--nid and --out are for --add-controller NAME")
    level = logging.INFO if args.verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(message)s")
    from bt_selfsecure.bootstrap.store import held

    with held(folder_of(args), "serve"):
        return asyncio.run(_until_signal(args, store))


def _add(args: Namespace, store: BootstrapStore) -> int:
    from bt_selfsecure.bearers.places import parse_place
    from bt_selfsecure.bootstrap.nid import BluetoothPlace, parse_nid
    from bt_selfsecure.bootstrap.setup import ControllerPlace, controller_json
    from bt_selfsecure.files import is_there, write_private
    from bt_selfsecure.node.config import NAME
    from bt_selfsecure.protocols.bootstrap import limits
    from bt_selfsecure.protocols.bootstrap.config import Controller

    for name in (args.add_controller, args.domain):
        if not NAME.accepts(name):
            raise UsageError(f"{name!r} can't be a name: it is {NAME.expected}")
    if not args.nid:
        raise UsageError(
            "a controller needs --nid, where nodes reach it: as in udp:192.0.2.1:5702 or bt:B8:27:EB:12:34:56"
        )
    nid = parse_nid(args.nid)
    if args.udp:
        parse_place(args.udp)
    if args.out and is_there(args.out):
        raise UsageError(f"{args.out} is there already: name another file")
    controller = Controller(os.urandom(limits.ID_BYTES), os.urandom(limits.KEY_BYTES), args.domain)
    device = args.address or (nid.address if isinstance(nid, BluetoothPlace) else "")
    where = ControllerPlace(args.add_controller, controller.controller_id, args.nid, device, args.udp)
    store.add_controller(controller, where)
    if args.out:
        write_private(args.out, controller_json(where, controller).encode(), new=True)
    print(f"controller {where.name} of {args.domain}: {controller.controller_id.hex()}, at {where.nid}")
    return 0


def _chosen(args: Namespace, store: BootstrapStore) -> tuple[ControllerPlace, Controller]:
    """Which controller runs here."""
    from bt_selfsecure.bootstrap.setup import controller_from_file

    if args.controller_file:
        return controller_from_file(args.controller_file)
    known = {one.place.name: (one.place, one.controller) for one in store.controllers().values()}
    if args.controller:
        if args.controller not in known:
            raise UsageError(f"there is no controller {args.controller!r}: see bootstrap status")
        return known[args.controller]
    if len(known) != 1:
        what = "several controllers: name one by --controller" if known else "no controller: --add-controller NAME"
        raise UsageError(f"there is {what}" if not known else f"there are {what}")
    return next(iter(known.values()))


async def _until_signal(args: Namespace, store: BootstrapStore) -> int:
    from bt_selfsecure.bearers.places import shown_place
    from bt_selfsecure.bootstrap.nid import parse_nid, shown_nid
    from bt_selfsecure.bootstrap.serving import both_service, controller_service, server_service

    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    lifetime = args.lifetime * DAY_S
    if args.role == "server":
        async with server_service(store, args.bind, lifetime) as at:
            print(f"server at {shown_place(at)}; Ctrl-C ends it", flush=True)
            await stop.wait()
        return 0
    where, controller = _chosen(args, store)
    nid = args.nid_bind or parse_nid(where.nid)
    if args.role == "controller":
        if not args.server:
            raise UsageError("a controller alone needs --server, where the server is: as in 192.0.2.1:5701")
        async with controller_service(store, controller, args.server, nid) as at:
            print(f"controller {where.name} at {shown_nid(at)}; Ctrl-C ends it", flush=True)
            await stop.wait()
        return 0
    async with both_service(store, controller, args.bind, nid, lifetime) as (server, at):
        print(
            f"server at {shown_place(server)}, controller {where.name} at {shown_nid(at)}; Ctrl-C ends it", flush=True
        )
        await stop.wait()
    return 0
