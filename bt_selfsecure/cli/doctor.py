"""`bt-selfsecure doctor`: is this machine fit for the node, and if not, what to do?"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from bt_selfsecure.addresses import EXAMPLE, is_address, parse_address, spelled
from bt_selfsecure.bearers.hci import adapter_addresses
from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.client import NodeClient
from bt_selfsecure.node.config import Config, udp_places
from bt_selfsecure.node.config_file import read
from bt_selfsecure.node.doctor.checks import checks_of
from bt_selfsecure.node.doctor.findings import Finding, Verdict
from bt_selfsecure.node.doctor.host_system import HostSystem
from bt_selfsecure.node.doctor.report import Result, examine
from bt_selfsecure.node.via import relayed
from bt_selfsecure.node.where import find_path

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

WIDTH: Final = 80
INDENT: Final = 28
NAME: Final = re.compile(r"hci\d{1,3}")
COLOURS: Final = {Verdict.OK: "32", Verdict.WARNING: "33", Verdict.FAILURE: "31", Verdict.NOT_SEEN: "36"}
"""SGR parameters (ECMA-48)."""

DESCRIPTION = """\
Look at what users' machines really fail on: radio switches, unprogrammed
addresses, kernels that refuse to advertise, missing privileges, a clock or a
disk that is slow. Each line is OK, a warning, a failure or not seen, with its
remedy. It changes nothing; for a moment it advertises. Without root it sees
less, and says what."""

EPILOG = """\
examples:
  bt-selfsecure doctor
  sudo bt-selfsecure doctor --adapter hci1 --peer AA:BB:CC:DD:EE:FF

exit status:
  0  nothing failed
  1  at least one failure: the node can't work here as it is
  2  input that can't be used; one line says what and what to do"""


def add_parser(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add `doctor` and its options."""
    parser = subparsers.add_parser(
        "doctor",
        help="is this machine fit for the node, and if not, what to do",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("--config", type=Path, metavar="FILE", help="the node's, if it is not the default one")
    parser.add_argument(
        "--adapter",
        metavar="hciN",
        help="the adapter to look at, or its address (default: the running node's, else of the configuration)",
    )
    parser.add_argument(
        "--peer", metavar="ADDR", help="the other node's address: is it another than ours, is it paired"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")


def run(args: Namespace) -> int:
    """Make the checks and show them as they come. UsageError for an adapter or address that is none."""
    config = _config(args.config)
    adapter = args.adapter or (_adapter_of_node(config) if config.needs_adapter else "")
    system = HostSystem(
        _adapter(adapter) if adapter else "",
        peer=parse_address(args.peer) if args.peer else None,
        bearers=config.bearers,
        state_directory=config.node.state_directory,
        socket=config.node.socket,
        through=[peer.name for peer in relayed(config)],
        udp=udp_places(config, config.node.address) if "udp" in config.bearers else None,
    )
    results = examine(system, checks_of(system))
    done = list(results) if args.json else _show(results, system, sys.stdout)
    if args.json:
        print(json.dumps(_as_object(system, done), indent=2))
    return int(any(result.finding.verdict is Verdict.FAILURE for result in done))


def _config(path: Path | None) -> Config:
    """The node's, or the defaults: the doctor looks at the machine, whatever is wrong with the file."""
    try:
        return read(find_path(path)).config
    except UsageError:
        if path is not None and not path.exists():
            raise
        return Config()


def _adapter_of_node(config: Config) -> str:
    """Return the adapter that the running node has, which may have got another name since the node's start; as
    configured where none runs, it has none, or may not be asked."""
    with contextlib.suppress(UsageError):
        adapter = str(NodeClient(config.node.socket).status()["adapter"])
        if NAME.fullmatch(adapter):
            return adapter
    return config.node.adapter


def _adapter(text: str) -> str:
    """Return the name that it has now; where no adapter has that address, the address."""
    if is_address(wanted := spelled(text)):
        return next((name for name, address in adapter_addresses().items() if address == wanted), wanted)
    if not NAME.fullmatch(text):
        raise UsageError(f"{text!r} is not an adapter: write it as in hci0 or {EXAMPLE}")
    return text


def _as_object(system: HostSystem, done: list[Result]) -> dict[str, object]:
    return {
        "adapter": system.adapter or None,
        "peer": system.peer,
        "kernel": system.kernel,
        "counts": {verdict.value: _count(done, verdict) for verdict in Verdict},
        "checks": [
            {
                "number": result.check.number,
                "name": result.check.name,
                "verdict": result.finding.verdict.value,
                "finding": result.finding.text,
                "remedy": result.finding.remedy,
            }
            for result in done
        ],
    }


def _count(done: list[Result], verdict: Verdict) -> int:
    return sum(result.finding.verdict is verdict for result in done)


def _show(results: Iterable[Result], system: HostSystem, out: TextIO) -> list[Result]:
    """A line or more for each check as soon as it is made, in 80 columns, and the sum."""
    coloured = out.isatty() and not os.environ.get("NO_COLOR")
    done = []
    print(f"{system.adapter or 'A node without a radio'} on Linux {system.kernel}\n", file=out)
    if not system.adapter:
        print("Its only bearer is udp, so no check of a radio is made; --adapter hci0 makes them.\n", file=out)
    for result in results:
        done.append(result)
        print(lines(result.check.name, result.finding, coloured), file=out, flush=True)
    plural = {Verdict.OK: "OK", Verdict.WARNING: "warnings", Verdict.FAILURE: "failures", Verdict.NOT_SEEN: "not seen"}
    counts = ", ".join(f"{_count(done, verdict)} {name}" for verdict, name in plural.items())
    print(f"\n{len(done)} checks: {counts}", file=out)
    return done


def lines(name: str, finding: Finding, coloured: bool) -> str:
    """Return the lines that tell of one check, wrapped to 80 columns."""
    label = f"{finding.verdict.value.upper():<8}"
    if coloured:
        label = f"\x1b[{COLOURS[finding.verdict]}m{label}\x1b[0m"
    text = _wrapped(finding.text, "")
    remedy = "\n" + " " * INDENT + _wrapped(finding.remedy, "> ") if finding.remedy else ""
    return f"{label}  {name:<{INDENT - 10}}{text}{remedy}"


def _wrapped(text: str, head: str) -> str:
    """In the right column, without the indentation of its first line."""
    lines = textwrap.wrap(head + text, WIDTH - INDENT, subsequent_indent=" " * len(head), break_on_hyphens=False)
    return ("\n" + " " * INDENT).join(lines)
