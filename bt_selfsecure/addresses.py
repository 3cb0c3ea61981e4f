"""Device addresses, as people write them and as they stand everywhere inside: "B8:27:EB:12:34:56"."""

from __future__ import annotations

import re
from typing import Final

from bt_selfsecure.errors import UsageError

EXAMPLE: Final = "B8:27:EB:12:34:56"
_ADDRESS: Final = re.compile(r"(?!(00:){5}00|(FF:){5}FF)([0-9A-F]{2}:){5}[0-9A-F]{2}")
"""All zeros and all ones are no device's."""


def spelled(text: str) -> str:
    """Return what may be an address in the usual spelling; Windows writes b8-27-eb-12-34-56."""
    return text.upper().replace("-", ":")


def is_address(text: str) -> bool:
    """Tell whether it is a device's address in the usual spelling."""
    return _ADDRESS.fullmatch(text) is not None


def parse_address(text: str) -> str:
    """Return it in the usual spelling. Raises `UsageError`."""
    if is_address(address := spelled(text)):
        return address
    raise UsageError(f"{text!r} is no device address: write it as in {EXAMPLE}")
