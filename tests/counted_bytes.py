"""Random bytes for tests and vectors: the same everywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Callable


def counted(name: str) -> Callable[[int], bytes]:
    """A generator for tests: SHA-256 of its name and a counter, so the same everywhere."""
    count = 0

    def random(size: int) -> bytes:
        nonlocal count
        out = b""
        while len(out) < size:
            out += hashlib.sha256(f"{name} {count}".encode()).digest()
            count += 1
        return out[:size]

    return random
