"""`bt-selfsecure coap` in processes of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

COAP = [sys.executable, "-m", "bt_selfsecure", "coap"]
LEFT_S = 60


def coap(*words: object, given: bytes = b"") -> tuple[int, bytes, str]:
    """Exit status, output, complaints."""
    done = subprocess.run([*COAP, *map(str, words)], input=given, capture_output=True, timeout=LEFT_S, check=False)
    return done.returncode, done.stdout, done.stderr.decode()


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
