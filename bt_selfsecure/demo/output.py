"""What a run leaves on disk: all of it or nothing."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bt_selfsecure.core.trace import Transition
from bt_selfsecure.errors import UsageError

REPORT: Final = "report.html"
CAPTURE: Final = "eve.pcapng"
TRACE: Final = "trace.jsonl"
SUMMARY: Final = "summary.json"


@contextmanager
def folder(directory: Path) -> Iterator[Path]:
    """A temporary folder whose files replace those in `directory` at the end; after an exception nothing is left.

    UsageError, before anything is yielded, where `directory` can't be written.
    """
    fresh = not directory.exists()
    try:
        directory.mkdir(exist_ok=True)
    except OSError as error:
        raise UsageError(f"can't write into {directory} ({error.strerror}): give --out a folder") from None
    try:
        part = Path(tempfile.mkdtemp(prefix=".part-", dir=directory))
    except OSError as error:
        raise UsageError(f"can't write into {directory} ({error.strerror}): give --out a folder of yours") from None
    try:
        yield part
        for file in sorted(part.iterdir()):
            file.replace(directory / file.name)
    except BaseException:
        shutil.rmtree(part)
        if fresh:
            directory.rmdir()
        raise
    part.rmdir()


def write_trace(file: Path, transitions: Sequence[Transition]) -> None:
    """One line of JSON a transition."""
    file.write_text("".join(transition.to_json() + "\n" for transition in transitions), encoding="utf-8")


def to_json(content: object) -> str:
    """As printed by `--json` and written to summary.json, without the line end."""
    return json.dumps(content, indent=2)


@contextmanager
def secret_lines(file: Path) -> Iterator[list[str]]:
    """Lines that are written to `file`, readable by its owner alone, at the end; after an exception nothing is left.

    UsageError, before anything is yielded, where `file` can't be written.
    """
    part, lines = file.with_name(file.name + ".part"), list[str]()
    try:
        if file.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        part.touch(0o600)
        part.chmod(0o600)
    except OSError as error:
        raise UsageError(f"can't write the key log {file} ({error.strerror}): name a file of yours") from None
    try:
        yield lines
        part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        part.replace(file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
