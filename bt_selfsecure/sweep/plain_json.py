"""JSON as every program reads it: Python's own writes NaN and Infinity, which are none."""

from __future__ import annotations

import json
from typing import Any

from bt_selfsecure.errors import UsageError


def json_of(value: Any, **how: Any) -> str:
    """Return a value as `json.dumps` writes it, `how` as there. Raises `UsageError` for one with a figure that is no
    number."""
    try:
        return json.dumps(value, allow_nan=False, **how)
    except ValueError:
        raise UsageError(
            "a figure is infinite, or no number, and JSON has no such: look with `sweep list` for a run whose level or "
            "distance can't be, and `sweep withdraw` it"
        ) from None
