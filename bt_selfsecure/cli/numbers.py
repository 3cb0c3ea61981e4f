"""Numbers on the command line, as argparse's `type`: what is none, or out of range, is refused before any work.

parser.add_argument("--confidence", type=real(least=0.5, below=1))
"""

from __future__ import annotations

import operator
from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import Final, TypeVar

Number = TypeVar("Number", int, float)

LIMITS: Final[dict[str, tuple[str, Callable[[float, float], bool]]]] = {
    "least": ("at least", operator.ge),
    "above": ("above", operator.gt),
    "most": ("at most", operator.le),
    "below": ("below", operator.lt),
}

TOO_LARGE: Final = 2**63
"""What nothing here counts to, and databases and clocks don't take."""


def real(**limits: float) -> Callable[[str], float]:
    """Return a finite number within `limits`, which are named as in LIMITS."""
    return _reader(float, "a number", limits)


def integer(**limits: int) -> Callable[[str], int]:
    """Return a whole number within `limits`, which are named as in LIMITS."""
    return _reader(int, "a whole number", limits)


def _reader(read: Callable[[str], Number], kind: str, limits: dict[str, Number]) -> Callable[[str], Number]:
    words = " and ".join(f"{LIMITS[name][0]} {limit:,}" for name, limit in limits.items())
    expected = f"{kind} {words}" if words else kind

    def number(text: str) -> Number:
        try:
            value = read(text)
        except ValueError:
            raise ArgumentTypeError(f"{text[:40]!r} is not {kind}: give {expected}") from None
        within = all(LIMITS[name][1](value, limit) for name, limit in limits.items())
        if not (within and -TOO_LARGE < value < TOO_LARGE):
            raise ArgumentTypeError(f"{text[:40]} is out of range: give {expected}")
        return value

    return number
