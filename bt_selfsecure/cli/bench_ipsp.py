"""`bt-selfsecure bench ipsp`: figures 11 and 12 of paper 004, on whatever IP runs over Bluetooth LE here."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bt_selfsecure.cli.client import progress
from bt_selfsecure.cli.numbers import integer, real
from bt_selfsecure.errors import PeerError, UsageError
from bt_selfsecure.files import whole

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

    from bt_selfsecure.bench.iotcrypto.ipsp import IpspRow

DESCRIPTION: Final = """\
Remake figures 11 and 12 of paper 004: what IP over Bluetooth LE carries, by
iperf3, and how long a packet takes there and back, by ping. Each run is one
distance and one way; --results keeps them together, and shows and draws all.

PEER is an IP address over a link that is up: `link up --ipsp` at both ends says
it. There, `iperf3 -s` must run. With --through-gateway a gateway is between,
with a link to each; docs/iot.md has the commands for such a way.

On virtual Pis it runs as well, and says that nothing of it is of a radio."""
EPILOG: Final = """\
examples:
  bob$   iperf3 -s
  alice$ bt-selfsecure bench ipsp fe80::1%bt0 --distance 1 --results ble.json
  alice$ bt-selfsecure bench ipsp fd00::b --distance 1 --through-gateway \\
           --results ble.json --plots .
  alice$ bt-selfsecure bench ipsp --results ble.json      # what there is so far
"""


def add_ipsp(verbs: _SubParsersAction[ArgumentParser]) -> None:
    """Add `ipsp`."""
    ipsp = verbs.add_parser(
        "ipsp",
        help="figures 11 and 12 of IoT-Crypto: IP over Bluetooth LE",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    ipsp.add_argument("peer", nargs="?", metavar="PEER", help="IP address of the other end, as fe80::1%%bt0")
    ipsp.add_argument("--distance", type=real(above=0, most=10_000), metavar="M", help="metres to it, as measured")
    ipsp.add_argument("--through-gateway", action="store_true", help="a gateway is between the two")
    ipsp.add_argument(
        "--repeats", type=integer(least=1, most=1000), default=50, metavar="N", help="runs of iperf3 (default 50)"
    )
    ipsp.add_argument(
        "--seconds", type=integer(least=1, most=3600), default=10, metavar="S", help="each of them (default 10)"
    )
    ipsp.add_argument(
        "--pings", type=integer(least=1, most=10_000), default=200, metavar="N", help="pings (default 200)"
    )
    ipsp.add_argument("--results", type=Path, metavar="FILE", help="add what was measured to this JSON file")
    ipsp.add_argument("--plots", type=Path, metavar="DIR", help="write the figures as SVG")
    ipsp.add_argument("--json", action="store_true", help="one JSON object")
    ipsp.set_defaults(run=_run)


def _run(args: Namespace) -> int:
    from bt_selfsecure.bench.iotcrypto import ipsp, ipsp_report

    if args.peer is None and args.results is None:
        raise UsageError("give PEER to measure, or --results FILE to show what was measured before")
    if args.peer is not None and args.distance is None:
        raise UsageError("--distance M is missing: how many metres is it to the other end?")
    if args.plots and not args.plots.is_dir():
        raise UsageError(f"there is no folder {args.plots}: make it, or name another")
    if args.peer is None and not args.results.exists():
        raise UsageError(f"there is no file {args.results}: give PEER to measure")
    rows = ipsp.load(args.results) if args.results else []
    if args.peer is not None:
        ipsp.require_programs()
        now = ["beginning"]
        try:
            with nullcontext() if args.results is None else whole(args.results) as part, progress(lambda: now[0]):
                rows.append(_measured(args, now))
                if part is not None:
                    part.write_text(json.dumps(ipsp.to_json(rows), indent=1) + "\n", encoding="utf-8")
        except PeerError as error:
            print(f"bt-selfsecure: {error}", file=sys.stderr)
            return 1
    print(json.dumps(ipsp.to_json(rows), indent=2) if args.json else "\n".join(ipsp_report.lines(rows)))
    if args.plots:
        try:
            written = ipsp_report.draw(rows, args.plots)
        except ModuleNotFoundError as error:
            raise UsageError(
                f"--plots needs {error.name}: install it with pip install 'bt-selfsecure[plots]'"
            ) from None
        for path in written:
            print(f"wrote {path}", file=sys.stderr)
    return 0


def _measured(args: Namespace, now: list[str]) -> IpspRow:
    from bt_selfsecure.bench.iotcrypto.ipsp import measure

    return measure(
        args.peer,
        distance_m=args.distance,
        through_gateway=args.through_gateway,
        repeats=args.repeats,
        seconds=args.seconds,
        pings=args.pings,
        tell=lambda what: now.__setitem__(0, what),
    )
