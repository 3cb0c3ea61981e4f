"""How much of what is drawn is tried: all of it where the long tests run, too, and a part in the fast run; and how much
memory a process took."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import settings

at_length = partial(pytest.param, marks=pytest.mark.long)
"""A case that the fast run leaves to the whole one; another of its kind is in both."""


PEAK_KIB = 'int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])'
"""What a child evaluates to tell the most memory that it had. `ru_maxrss` begins with what its parent has: pytest has a
lot after many tests, beside which nothing seems to grow."""


def part_of(most: int) -> int:
    """Return `most` in a whole run, and a quarter in the fast one: in step with hypothesis's own number of examples."""
    return max(1, most * settings.default.max_examples // settings.get_profile("whole").max_examples)
