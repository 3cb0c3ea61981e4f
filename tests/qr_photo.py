"""A QR code that stands in a terminal, as a picture."""

from __future__ import annotations

from pathlib import Path

MODULE_PIXELS = 6
DARK = {" ": (0, 0), "\u2580": (1, 0), "\u2584": (0, 1), "\u2588": (1, 1)}


def photographed(text: str, path: Path) -> Path:
    """Write what stands in the terminal as a picture (PGM), each half of a letter as a square."""
    rows = []
    for line in text.splitlines():
        halves = [DARK[letter] for letter in line]
        for half in (0, 1):
            row = b"".join(bytes([0 if pair[half] else 255]) * MODULE_PIXELS for pair in halves)
            rows += [row] * MODULE_PIXELS
    path.write_bytes(b"P5 %d %d 255\n" % (len(rows[0]), len(rows)) + b"".join(rows))
    return path
