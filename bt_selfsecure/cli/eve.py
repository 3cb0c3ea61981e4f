"""`bt-selfsecure eve read`, `install-wireshark`: what an eavesdropper makes of what she hears."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from bt_selfsecure.cli.eve_sources import hear_each, with_progress
from bt_selfsecure.cli.numbers import integer
from bt_selfsecure.eve.haoxiao.format import HAOXIAO
from bt_selfsecure.eve.reading import Reader
from bt_selfsecure.eve.sources import Source
from bt_selfsecure.eve.sources.linktypes import NAMES, NETWORKS

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction
    from collections.abc import Iterator

    from bt_selfsecure.eve.haoxiao.verdict import Judge
    from bt_selfsecure.eve.iotcrypto.traffic import Traffic
    from bt_selfsecure.eve.sources import CapturedPacket

READ = """\
Sum up captures: pcap, pcapng, btsnoop (btmon -w, Android) and PacketLogger
(.pklg), also in .gz or .zst, of link types 147 (ours), 187, 192 (PPI with LE),
201, 251, 254, 256 and 272, and of networks 1, 101, 113 and 276. A FIFO or -
(standard input) is read as it comes, until whoever writes it ends:

  dumpcap -i bluetooth0 -w - | bt-selfsecure eve read -

hci0 is this computer's own radio: it scans until Ctrl-C, and hears
advertisements and what goes to or from this computer, but no connection between
others; monitor:hci0 only listens to what its host says and hears.

`ours` counts the frames of this protocol, whatever carried them. Packets with a
wrong CRC, or cut by a snap length, are counted, and not looked into. A damaged
file counts up to where the damage is, and that is said; so is a file that is no
capture, and the others still count.

Messages that Eve can read are listed by direction, with the round of the last
one. What she has of each key, and what she lacks, tells `eve report`, also as a
page.

Of IoT-Crypto, in captures of networks and in IPSP, what shows to whoever has no
key: gateways by their advertisements, and each negotiation and transmission:
who, when, sizes of messages, and what ids tell. Its ports are 5711 to 5714, and
those that are advertised."""
EPILOG = """\
exit status: 0  every FILE is a capture, be it damaged
             2  one is none, or could not be read: the others are summed up
"""


@dataclass(slots=True)
class Summary:
    """Holds the answer; its fields are the keys of `--json`."""

    packets: int = 0
    by_linktype: dict[str, int] = field(default_factory=dict)
    crc_bad: int = 0
    ours: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    read: list[dict[str, Any]] = field(default_factory=list)
    """Of each key that she has and each direction: the messages in hexadecimal, by round."""
    iotcrypto: dict[str, Any] | None = None
    """What shows of IoT-Crypto; None where it could not be looked for."""


def add_read(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `read`."""
    read = commands.add_parser(
        "read", help="sum up captures", description=READ, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    read.add_argument(
        "files", nargs="+", metavar="FILE", help="capture file, FIFO, - for standard input, or an adapter (hci0)"
    )
    read.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    read.add_argument(
        "--messages", type=integer(least=0), metavar="N", help="show so many of a direction (default all)"
    )
    read.set_defaults(run=run_read)


def add_install(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `install-wireshark`."""
    install = commands.add_parser(
        "install-wireshark",
        help="put our dissector and profile where Wireshark finds them",
        description="Copy the dissector bt_selfsecure.lua and the profile 'bt-selfsecure' (columns, colours) to where "
        "Wireshark of this user looks for them. Run it again after an update. Filters are named btss.*",
    )
    install.set_defaults(run=run_install_wireshark)


def run_read(args: Namespace) -> int:
    """Print the summary; 2 if something in it is missing."""
    from bt_selfsecure.cli.eve_report import in_hex, read_lines
    from bt_selfsecure.eve.haoxiao.verdict import Judge

    summary, judge, traffic = Summary(), Judge(), _traffic()
    unread = hear_each(args.files, partial(_add, summary, judge, traffic))
    if unread < len(args.files) or summary.packets:
        read = [each for verdict in judge.report().verdicts for each in verdict.read]
        summary.read = in_hex(read)
        if traffic is not None:
            from bt_selfsecure.eve.iotcrypto.traffic import to_json

            summary.iotcrypto = to_json(traffic)
        print(json.dumps(asdict(summary), indent=2) if args.json else _table(summary))
        if read and not args.json:
            print("\n".join(["messages that Eve can read", *read_lines(read, args.messages)]))
        if not args.json:
            _print_iotcrypto(summary, traffic)
    return 2 if unread else 0


def run_install_wireshark(args: Namespace) -> int:
    """Copy, and say where to."""
    from bt_selfsecure.eve.wireshark import install

    for path in install():
        print(path)
    print("Restart Wireshark, and choose the profile with Edit, Configuration Profiles.")
    if os.geteuid() == 0:
        print("Wireshark 4.4 runs no dissector like this for root: run this again as the user who looks at captures.")
    return 0


def _traffic() -> Traffic | None:
    """Return who notes what shows of IoT-Crypto, where its encoding can be read here."""
    try:
        from bt_selfsecure.eve.iotcrypto.traffic import Traffic
    except ModuleNotFoundError:
        return None
    return Traffic()


def _print_iotcrypto(summary: Summary, traffic: Traffic | None) -> None:
    if traffic is not None:
        from bt_selfsecure.eve.iotcrypto.traffic import lines

        for line in lines(traffic):
            print(line)
    elif not {f"{number} {NAMES[number]}" for number in NETWORKS}.isdisjoint(summary.by_linktype):
        print("IoT-Crypto was not looked for: that needs pip install 'bt-selfsecure[iot]'")


def _add(summary: Summary, judge: Judge, traffic: Traffic | None, source: Source) -> None:
    try:
        judge.hear_all(_counted(summary, traffic, source))
    finally:  # what was heard before a fault, or before Ctrl-C, counts
        _count(summary, source)


def _counted(summary: Summary, traffic: Traffic | None, source: Source) -> Iterator[CapturedPacket]:
    reader = Reader(HAOXIAO, traffic.hear if traffic else None)
    for heard in with_progress(source):
        summary.crc_bad += heard.crc_ok is False
        for datagram in reader.read(heard):
            summary.ours += HAOXIAO.is_frame(datagram.data)
        yield heard


def _count(summary: Summary, source: Source) -> None:
    summary.packets += source.packets
    for linktype, count in sorted(source.linktypes.items()):
        name = f"{linktype} {NAMES.get(linktype, '')}".rstrip()
        summary.by_linktype[name] = summary.by_linktype.get(name, 0) + count
    for why, count in source.skipped.items():
        summary.skipped[why] = summary.skipped.get(why, 0) + count


def _table(summary: Summary) -> str:
    rows: list[tuple[str, Any]] = [("packets", summary.packets)]
    rows += [(f"  {name}", count) for name, count in summary.by_linktype.items()]
    rows += [("with a wrong CRC", summary.crc_bad), ("frames of ours", summary.ours)]
    lines = [f"{name:<34}{count:>14,}" for name, count in rows]
    return "\n".join(lines + [f"skipped: {why} ({count:,})" for why, count in summary.skipped.items()])
