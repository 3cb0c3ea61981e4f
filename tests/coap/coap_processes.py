"""`bt-selfsecure coap`: in processes of its own, where they talk to each other."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from unittest.mock import patch

from bt_selfsecure.cli.main import main

COAP = [sys.executable, "-m", "bt_selfsecure", "coap"]
ON_FILES = {"key", "pair", "identity", "enrol", "devices"}
LEFT_S = 60


def coap(*words: object, given: bytes = b"") -> tuple[int, bytes, str]:
    """Exit status, output, complaints. What only reads and writes files does it in this process."""
    if words[0] in ON_FILES:
        return _here("coap", *map(str, words), given=given)
    done = subprocess.run([*COAP, *map(str, words)], input=given, capture_output=True, timeout=LEFT_S, check=False)
    return done.returncode, done.stdout, done.stderr.decode()


def _here(*words: str, given: bytes) -> tuple[int, bytes, str]:
    out, complaints = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    given_here = io.TextIOWrapper(io.BytesIO(given), "utf-8")
    with redirect_stdout(out), redirect_stderr(complaints), patch.object(sys, "stdin", given_here):
        status = main(words)
        out.flush()
    assert isinstance(out.buffer, io.BytesIO)
    return status, out.buffer.getvalue(), complaints.getvalue()


@contextmanager
def serving(
    host: str, *words: object, command: str = "serve", port: int | None = 0
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The URI at which `coap serve` (or `manager`) says that it serves, and its process. Without a port at the
    default one."""
    at = [] if port is None else ["--port", str(port)]
    line = [*COAP, command, "--bind", host, *at, *map(str, words)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        try:
            assert said.startswith("serving "), process.stderr and process.stderr.read()
            yield said.split()[1], process
        finally:
            process.kill()
