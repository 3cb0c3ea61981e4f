"""`bt-selfsecure eve report`: what Eve has and what she lacks."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bt_selfsecure.cli.numbers import integer, real
from bt_selfsecure.errors import BtSelfSecureError, UsageError
from bt_selfsecure.files import whole
from bt_selfsecure.wording import counted

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

    from bt_selfsecure.eve.haoxiao.report import CaptureReport, EstablishmentVerdict, Read

WIDTH = 80
DESCRIPTION = """\
The verdict over captures, as `eve read` takes them: for each establishment what
was sent, what Bob heard (from his own response), what Eve heard and what she
lacks of his; secret bits left; K_0, if it can be computed; messages read.

Several captures are several Eves who put together what they heard, by session
and Seq: their clocks need not agree. hci0 listens until Ctrl-C.

Each claim is proved: a key by the HMAC of Bob's response. Where responses to
one establishment contradict each other, all are tried, and without a key the
one counts that leaves the two ends least. A capture made to take for ever is
looked at in part, and that is said.

  bt-selfsecure eve report captures/steering-paper.pcapng
  bt-selfsecure eve report one.pcapng other.pcapng --html verdict.html
"""
EPILOG = """\
exit status: 0  Eve has no key      1  she has one
             2  input that can't be used, or not all of it: she may have one
"""


def add(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `report`."""
    report = commands.add_parser(
        "report", help="what Eve has and what she lacks, in numbers", description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    report.add_argument("files", nargs="+", metavar="FILE", help="capture, FIFO, -, hci0 or monitor:hci0")
    report.add_argument("--json", action="store_true", help="one JSON object instead of the text")
    report.add_argument("--html", type=Path, metavar="FILE", help="also write a page with figures (one file)")
    report.add_argument("--messages", type=integer(least=0), metavar="N",
                        help="show so many of a direction, of those that she read (default all)")  # fmt: skip
    report.add_argument("--repair", type=integer(least=0), default=0, metavar="TRIES",
                        help="make packets with a wrong CRC good, with so many tries in all (a million takes some "
                        "seconds); default 0")  # fmt: skip
    report.add_argument("--damaged", choices=("heard", "lost"), default="heard",
                        help="packets of which she has damaged copies count as heard, since more tries make them good "
                        "(default), or, to compare, as lost")  # fmt: skip
    report.add_argument(
        "--confidence",
        type=real(least=0.5, below=1),
        default=0.95,
        metavar="C",
        help="of the secret bits (default 0.95)",
    )
    report.add_argument("--target-bits", type=real(above=0, most=256), default=128.0, metavar="BITS",
                        help="marked in the page's figure")  # fmt: skip
    report.add_argument("--stolen", type=Path, metavar="FILE",
                        help="a node's journal.db, or one record of it: what its keys open")  # fmt: skip
    report.set_defaults(run=run)


class _NothingHeardError(BtSelfSecureError):
    """No capture could be read: there is no verdict, and no page."""


def run(args: Namespace) -> int:
    """Print the verdict; 1 if Eve has a key, 2 if she may have one that was not found."""
    try:
        with _page(args.html, args.target_bits, args.messages) as write:
            report = _judge(args)
            write(report)
    except _NothingHeardError:
        return 2
    if args.json:  # as it is made: all its pieces at once take far more room than the report
        json.dump(as_object(report), sys.stdout, indent=2)
        print()
    else:
        print("\n".join(lines(report, args.messages)))
    if report.broken:
        return 1
    return 0 if report.decided else 2


def _judge(args: Namespace) -> CaptureReport:
    from bt_selfsecure.cli.eve_sources import hear_each, with_progress
    from bt_selfsecure.eve.haoxiao.attacks.theft import StolenRecord
    from bt_selfsecure.eve.haoxiao.verdict import Judge

    stolen = StolenRecord.read(args.stolen) if args.stolen else []
    judge = Judge(args.repair, args.confidence, stolen, damaged_heard=args.damaged == "heard")
    unread = hear_each(args.files, lambda source: judge.hear_all(with_progress(source), source.skipped))
    report = replace(judge.report(), unread=unread)
    if unread == len(args.files) and not report.packets:
        raise _NothingHeardError
    return report


def as_object(report: CaptureReport) -> dict[str, Any]:
    """Return the report for programs; messages are in hexadecimal."""
    found = asdict(report)
    for verdict, told in zip(found["verdicts"], report.verdicts, strict=True):
        del verdict["kept"], verdict["has"]
        verdict["read"] = in_hex(told.read)
        verdict["sentence"] = told.sentence
    found["stolen"] = in_hex(report.stolen)
    return {
        **found,
        "limits": report.limits,
        "conclusion": report.conclusion,
        "decided": report.decided,
        "open_ends": report.open_ends,
    }


def in_hex(read: Iterable[Read]) -> list[dict[str, Any]]:
    """Return the messages read for programs."""
    return [
        {"direction": each.direction, "messages": {number: text.hex() for number, text in each.messages.items()}}
        for each in read
    ]


def lines(report: CaptureReport, messages: int | None = None) -> list[str]:
    """Return the report for a terminal of 80 columns, with so many messages of a direction."""
    by = ", ".join(f"{count} by {name}" for name, count in report.bearers.items()) or "none"
    heard = f"{counted(report.captures, 'capture')}, {counted(report.packets, 'packet')}"
    out = [f"{heard}, {report.crc_bad:,} with a wrong CRC; frames of ours: {by}"]
    out += [f"skipped: {why} ({count:,})" for why, count in report.skipped.items()]
    if report.contradictions:
        out.append(f"burst packets that contradict an earlier one: {report.contradictions:,}; somebody forges")
    if report.refused:
        out.append(f"burst packets of a Seq that no burst reaches: {report.refused:,}; somebody forges")
    for number, verdict in enumerate(report.verdicts, 1):
        out += ["", *_establishment(number, verdict, messages)]
    if not report.verdicts:
        out += ["", "No establishment was heard."]
    if report.stolen_read:
        read = counted(len(report.stolen_read), "message")
        out += ["", f"with what was stolen: {read} read", *read_lines(report.stolen, messages)]
    if report.unopened:
        out += ["", f"data frames that no key of hers opens: {report.unopened}"]
    if report.group_fragments:
        whole, fragments = counted(report.group_broadcasts, "broadcast"), f"{report.group_fragments:,} fragments"
        out += ["", f"{whole} to groups, whole, of {fragments}: only a member has the key, or who robbed one"]
    if report.unread:
        out += ["", f"captures that could not be read, or not to their end: {report.unread}"]
    if report.not_kept:
        out += ["", f"frames heard when there was no room for more: {report.not_kept:,}"]
    if report.left_out:
        out += ["", f"left out, too much to look at: {report.left_out:,}"]
    if report.repair_used_up:
        out += ["", "the tries of --repair were used up: more might make more packets good"]
    if report.limits:
        out += ["", "what this can't tell:", *(f"- {sentence}" for sentence in report.limits)]
    if not report.broken and report.open_ends:
        out += ["", "what was not looked at, or not decided:", *(f"- {end}" for end in report.open_ends)]
    out += ["", report.conclusion]
    return [line for block in out for line in _wrapped(block)]


def _wrapped(block: str) -> list[str]:
    indent = "  " if block.startswith("- ") else " " * (len(block) - len(block.lstrip()))
    return textwrap.wrap(block, WIDTH, subsequent_indent=indent) or [""]


def _establishment(number: int, verdict: EstablishmentVerdict, messages: int | None) -> list[str]:
    rows = [("packets sent", str(verdict.sent)), ("heard by Eve", str(verdict.heard_by_eve))]
    if verdict.rivals > 1:
        rows.append(("responses", f"{verdict.rivals:,} that contradict each other: somebody forges"))
    if verdict.repaired:
        rows.append(("  repaired", str(verdict.repaired)))
    if verdict.heard_by_bob is not None and verdict.e_given_bob_low is not None:
        low = f"e|B at least {100 * verdict.e_given_bob_low:.2f} %, confidence {100 * verdict.confidence:g} %"
        rows += [
            ("kept by Bob, |S|", str(verdict.heard_by_bob)),
            ("  of those Eve lacks", f"{verdict.missed_given_bob}   {low}"),
            *_damaged_rows(verdict),
            ("secret bits left", "not known" if verdict.secret_bits is None else f"{verdict.secret_bits:.1f}"),
        ]
    ends = f"{verdict.initiator or '?'} -> {verdict.responder or '?'}"
    table = [f"  {name:<22}{value}" for name, value in rows]
    return [
        f"establishment {number}, {verdict.profile}, {ends}",
        *table,
        f"  {verdict.sentence}",
        *read_lines(verdict.read, messages),
    ]


def _damaged_rows(verdict: EstablishmentVerdict) -> Iterator[tuple[str, str]]:
    if verdict.damaged_given_bob and verdict.damaged_heard and verdict.damaged_lost:
        heard, lost = verdict.damaged_heard.secret_bits, verdict.damaged_lost.secret_bits
        yield "  damaged copies of", f"{verdict.damaged_given_bob}   {heard:.1f} bits if heard, {lost:.1f} if lost"
    if not verdict.hands_on_damaged:
        yield "  damaged copies", "dropped by her radio: no bound against a sniffer"


def read_lines(read: Iterable[Read], most: int | None) -> list[str]:
    """Return the messages read for a terminal, so many of a direction."""
    return [f"    {line}" for each in read for line in each.told(most)]


@contextmanager
def _page(file: Path | None, target_bits: float, messages: int | None) -> Iterator[Callable[[CaptureReport], object]]:
    """What writes the page, if there is to be one. A place or a library that is no good is told before the work."""
    if file is None:
        yield lambda report: None
        return
    try:
        from bt_selfsecure.demo.verdict_page import pieces

        if find_spec("matplotlib") is None:  # it is loaded where there is something to draw
            raise ModuleNotFoundError(name="matplotlib")
    except ModuleNotFoundError as fault:
        raise UsageError(f"--html needs {fault.name}: pip install 'bt-selfsecure[plots]'") from None

    def write(report: CaptureReport) -> None:
        with part.open("w", encoding="utf-8") as page:  # not before the work: a FIFO waits for its reader
            page.writelines(pieces(report, target_bits, messages))

    with whole(file) as part:
        yield write
