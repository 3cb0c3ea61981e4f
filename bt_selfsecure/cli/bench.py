"""`bt-selfsecure bench`: what the protocols cost beside others, measured on this computer."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bt_selfsecure.cli.bench_ipsp import add_ipsp
from bt_selfsecure.cli.client import progress
from bt_selfsecure.cli.coap_options import NEEDED
from bt_selfsecure.cli.numbers import integer
from bt_selfsecure.errors import PeerError, UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction
    from collections.abc import Callable

    from bt_selfsecure.bench.coap.report import CoapBench

DESCRIPTION: Final = """\
Remake figures 13 to 16 of paper 000 (what D-OTP's policies cost more than one
static key) and Table 1 of paper 001 (a GET over each scheme, and over libcoap
where libcoap3-bin is installed), on loopback and over a slow link, in one run.

With 1100 sessions it takes a minute; with 9100, as the papers have it, a
quarter of an hour, most of it for the paper's list of used numbers."""
EPILOG: Final = """\
example:
  bt-selfsecure bench coap --sessions 9100 --plots . --json > coap.json
the table between two computers, as over `link up --ipsp`, with this version at
both:
  bob$   bt-selfsecure bench coap --serve fe80::1%bt0 --keys keys
  bob$   scp -r keys alice:
  alice$ bt-selfsecure bench coap --at fe80::1%bt0 --keys keys
"""
IOT_DESCRIPTION: Final = """\
Remake figures of paper 004, side by side with its own:
  8   sizes of transmission packets, plain and encrypted; bytes of a connection,
      with X.509 as a peer
  9   what a connection's cryptography computes, and the CPU's share of it
  10  sizes of structures in CBOR, CBOR as hexadecimal, JSON, and C"""
UPDATE_DESCRIPTION: Final = """\
Remake Table 2 of paper 002: what it costs to be rid of a thief, in bytes on the
air, CPU of the owner, and what he must keep, for 2 to 32 nodes. Beside the next
message, as in the paper, and a group's next epoch: a key tree (LKH, RFC 2627),
and new establishments with all by one burst. Half a minute."""
MOST_SESSIONS: Final = 9100
MOST_OBJECT_SESSIONS: Final = 1100
"""In layer object the paper's list grows seven times as fast."""


def add_parser(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `bench` and its commands."""
    bench = commands.add_parser(
        "bench",
        help="what the protocols cost beside others, measured here",
        description="Measure on this computer what the protocols cost, beside others and what their papers print.",
    )
    verbs = bench.add_subparsers(title="commands", metavar="COMMAND", required=True)
    coap = verbs.add_parser(
        "coap",
        help="CoAP over D-OTP, Sabour's handshake, DTLS and libcoap",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    coap.add_argument(
        "--sessions",
        type=integer(least=100, most=MOST_SESSIONS),
        default=1100,
        metavar="N",
        help="figures for 100, 1100, ... up to so many, and for so many (default 1100)",
    )
    coap.add_argument("--gets", type=integer(least=1, most=1000), default=20, metavar="N", help="of a row (default 20)")
    coap.add_argument("--plots", type=Path, metavar="DIR", help="write the figures as SVG")
    coap.add_argument("--json", action="store_true", help="all of it as one JSON object")
    where = coap.add_mutually_exclusive_group()
    where.add_argument("--serve", metavar="ADDRESS", help="serve what is measured, at an address of this computer's")
    where.add_argument("--at", metavar="ADDRESS", help="Table 1 alone, with the servers of --serve there")
    coap.add_argument("--keys", type=Path, metavar="DIR", help="the same folder for both; --serve makes it")
    coap.set_defaults(run=_coap)
    update = verbs.add_parser(
        "update",
        help="Table 2 of paper 002: a key update after a compromise",
        description=UPDATE_DESCRIPTION,
        epilog="example:\n  bt-selfsecure bench update --nodes 8",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    update.add_argument(
        "--nodes", type=integer(least=2, most=32), metavar="N", help="for so many alone (default: 2, 4, 8, 16 and 32)"
    )
    update.add_argument("--json", action="store_true", help="a JSON array")
    update.set_defaults(run=_update)
    iot = verbs.add_parser(
        "iotcrypto",
        help="figures 8 to 10 of IoT-Crypto",
        description=IOT_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    iot.add_argument("--figure", choices=("8", "9", "10"), metavar="N", help="this one alone: 8, 9 or 10")
    iot.add_argument("--json", action="store_true", help="one JSON object")
    iot.set_defaults(run=_iotcrypto)
    add_ipsp(verbs)


def _update(args: Namespace) -> int:
    from bt_selfsecure.bench.haoxiao import key_update

    counts, found = [args.nodes] if args.nodes else key_update.NODES, []
    for count in counts:
        with progress(lambda count=count: f"{count} nodes"):  # type: ignore[misc]
            found += key_update.updates(count)
    print(json.dumps(key_update.to_json(found), indent=2) if args.json else "\n".join(key_update.lines(found)))
    return 0


def _coap(args: Namespace) -> int:
    if args.plots and not args.plots.is_dir():
        raise UsageError(f"there is no folder {args.plots}: make it, or name another")
    if bool(args.keys) != bool(args.serve or args.at):
        raise UsageError("--keys DIR is for --serve and --at, and both need it")
    if args.at and not args.keys.is_dir():
        raise UsageError(f"there is no folder {args.keys}: --serve makes it at the other computer; copy it from there")
    now = ["beginning"]
    try:
        if args.serve:
            return _serve(args)
        with progress(lambda: now[0]):
            measured = _measure(args, now)
            written = _draw(args, measured)
    except ImportError as error:
        raise UsageError(NEEDED.format(error.name)) from None
    except PeerError as error:
        print(f"bt-selfsecure: {error}", file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps(measured.to_json(), indent=2))
    else:
        from bt_selfsecure.bench.coap.report import lines

        print("\n".join(lines(measured)))
    for path in written:
        print(f"wrote {path}", file=sys.stderr)
    return 0


def _serve(args: Namespace) -> int:
    from bt_selfsecure.bench.coap.table import serve_table
    from bt_selfsecure.bench.coap.ways import make_keys

    if not args.keys.is_dir():
        try:
            args.keys.mkdir(mode=0o700)
        except OSError as error:
            raise UsageError(f"can't make {args.keys} ({error.strerror}): name another folder") from None
        make_keys(args.keys)

    def ready(count: int) -> None:
        print(f"serving {count} ways at {args.serve}; Ctrl-C ends it", flush=True)

    asyncio.run(serve_table(args.serve, args.keys, ready))
    return 0


def _measure(args: Namespace, now: list[str]) -> CoapBench:
    from bt_selfsecure.bench.coap.figures import figures
    from bt_selfsecure.bench.coap.report import CoapBench
    from bt_selfsecure.bench.coap.table import LOOPBACK, SLOW, table, table_at

    def said(where: str) -> Callable[[str], None]:
        return lambda what: now.__setitem__(0, f"Table 1 {where}: {what}")

    if args.at:
        rows = asyncio.run(table_at(args.at, args.keys, args.gets, said(f"at {args.at}")))
        return CoapBench([], {f"servers at {args.at}": rows})
    points = []
    for layer, most in (("dtls", args.sessions), ("object", min(args.sessions, MOST_OBJECT_SESSIONS))):

        def tell(done: int, layer: str = layer, most: int = most) -> None:
            now[0] = f"layer {layer}: {done} of {most} sessions"

        points += figures(most, layer, tell)
    tables = {link.name: asyncio.run(table(args.gets, link, said(link.name))) for link in (LOOPBACK, SLOW)}
    return CoapBench(points, tables)


def _draw(args: Namespace, measured: CoapBench) -> list[Path]:
    if not args.plots:
        return []
    from bt_selfsecure.bench.coap.report import draw

    try:
        return draw(measured, args.plots)
    except ModuleNotFoundError as error:
        raise UsageError(f"--plots needs {error.name}: install it with pip install 'bt-selfsecure[plots]'") from None


def _iotcrypto(args: Namespace) -> int:
    from bt_selfsecure.cli.iot_options import needing_extra

    with needing_extra():
        from bt_selfsecure.bench.iotcrypto.report import figures, lines
    with progress(lambda: "measuring"):
        measured = figures([args.figure] if args.figure else ["8", "9", "10"])
    print(json.dumps(measured, indent=2) if args.json else "\n".join(lines(measured)))
    return 0
