"""Numbers in sentences."""

from __future__ import annotations


def counted(number: int, what: str) -> str:
    """Return number and noun, as in 1 run, 0 runs, 1,730 packets, 2 addresses."""
    ending = "" if number == 1 else "es" if what.endswith("s") else "s"
    return f"{number:,} {what}{ending}"
