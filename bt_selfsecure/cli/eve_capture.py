"""`bt-selfsecure eve capture`: keep what the radio hears."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from bt_selfsecure.cli.numbers import integer, real
from bt_selfsecure.errors import UsageError
from bt_selfsecure.eve.sources import open_source
from bt_selfsecure.wording import counted

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

DESCRIPTION = """\
Keep what a source hears in pcapng files of bounded size, until Ctrl-C (or
SIGTERM, as systemd sends). The source is this computer's radio:

  hci0            scans passively all the time: advertisements of everybody
                  near, and what goes to or from this computer
  monitor:hci0    the same without scanning: leaves the radio to other programs
  - or a FIFO     what a sniffer writes, as in
                  dumpcap -i ... -w - | bt-selfsecure eve capture - --output DIR

Advertisements tell who is near: keep such captures to yourself. A radio needs
CAP_NET_RAW and CAP_NET_ADMIN (root, or the unit bt-selfsecure-eve)."""
EPILOG = """\
exit status: 0  ended by somebody, or by its source     1  the adapter went away
             2  nothing can be heard, or kept
"""


def add(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `capture`."""
    capture = commands.add_parser(
        "capture", help="keep what the radio hears in files", description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    capture.add_argument("source", nargs="?", default="hci0", metavar="SOURCE", help="default hci0")
    capture.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the files")
    capture.add_argument("--megabytes", type=real(above=0), default=16.0, metavar="MB", help="of a file (default 16)")
    capture.add_argument(
        "--files", type=integer(least=1), default=32, metavar="N", help="kept at most; the oldest go (default 32)"
    )
    capture.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Capture until somebody ends it, or the source does."""
    from bt_selfsecure.cli.eve_sources import with_progress
    from bt_selfsecure.eve.recording import Recorder

    status = 0
    before = signal.signal(signal.SIGTERM, _end)
    try:
        with open_source(args.source) as source, Recorder(args.output, args.megabytes, args.files) as recorder:
            try:
                for heard in with_progress(source):
                    recorder.write(heard)
            except KeyboardInterrupt:
                pass
            except UsageError as gone:  # the adapter, perhaps: what was heard before is kept, and systemd tries again
                if not recorder.packets:
                    raise
                print(f"bt-selfsecure: {gone}", file=sys.stderr)
                status = 1
    finally:
        signal.signal(signal.SIGTERM, before)
    print(f"{counted(recorder.packets, 'packet')} kept in {args.output}")
    return status


def _end(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt
