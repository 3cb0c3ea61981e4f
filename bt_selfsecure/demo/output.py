"""What a run leaves on disk: all of it or nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bt_selfsecure.files import whole
from bt_selfsecure.sansio.trace import Transition

REPORT: Final = "report.html"
CAPTURE: Final = "eve.pcapng"
TRACE: Final = "trace.jsonl"
SUMMARY: Final = "summary.json"
FILES: Final = (REPORT, CAPTURE, TRACE, SUMMARY)


def write_trace(file: Path, transitions: Sequence[Transition]) -> None:
    """Write one line of JSON a transition."""
    file.write_text("".join(transition.to_json() + "\n" for transition in transitions), encoding="utf-8")


def to_json(content: object) -> str:
    """Return JSON as `--json` prints it and summary.json has it, without the line end."""
    return json.dumps(content, indent=2)


@contextmanager
def secret_lines(file: Path) -> Iterator[list[str]]:
    """Yield a list whose lines are written to `file`, readable by its owner alone, at the end; after an exception
    nothing is left.

    Raises `UsageError`, before anything is yielded, where `file` can't be written.
    """
    lines = list[str]()
    with whole(file, 0o600) as part:
        yield lines
        part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
