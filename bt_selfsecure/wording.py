"""Numbers in sentences."""

from __future__ import annotations


def counted(number: int, what: str) -> str:
    """As in 1 run, 0 runs, 1,730 packets."""
    return f"{number:,} {what}{'s' * (number != 1)}"
