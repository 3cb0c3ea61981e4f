"""What the commands of `eve` share: sources heard one after the other, with a line of progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress

from bt_selfsecure.errors import UsageError
from bt_selfsecure.eve.sources import Capture, CapturedPacket, Source, open_source
from bt_selfsecure.wording import counted

PROGRESS_S = 1.0
PROGRESS_PACKETS = 1 << 14


def hear_each(names: Sequence[str], hear: Callable[[Source], None]) -> int:
    """Let `hear` have one source after the other. One that can't be read, or no further, is told, and the others go on;
    how many those are."""
    unread = 0
    for name in names:
        try:
            with open_source(name) as source:
                hear_out(source, hear)
        except UsageError as fault:
            print(f"bt-selfsecure: {fault}", file=sys.stderr)
            unread += 1
    return unread


def hear_out(source: Source, hear: Callable[[Source], None]) -> None:
    """Let `hear` have it to its end; a radio, which has none, until Ctrl-C."""
    with nullcontext() if isinstance(source, Capture) else suppress(KeyboardInterrupt):
        hear(source)


def with_progress(source: Source) -> Iterator[CapturedPacket]:
    """Yield the packets, with a line on a terminal that says how far we are once that takes longer."""
    told = started = time.monotonic()
    between = PROGRESS_PACKETS if isinstance(source, Capture) else 1
    try:
        for number, heard in enumerate(source):
            yield heard
            if number % between == 0 and sys.stderr.isatty() and time.monotonic() - told > PROGRESS_S:
                told = time.monotonic()
                so_far = counted(source.packets, "packet")
                print(f"\r{so_far}, {told - started:.0f} s", end="", file=sys.stderr, flush=True)
    finally:
        if told != started:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
