"""Bearers by name: `NAME[:PEER][#NUMBER][@ADAPTER]`, as in `rfcomm#3` or `l2cap:AA:BB:CC:DD:EE:FF#4097@hci1`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from bt_selfsecure.bearers.base import Bearer
from bt_selfsecure.errors import UsageError

NAMES: Final = ("rfcomm", "l2cap", "le_advert", "ipsp")
_NUMBERED: Final = ("rfcomm", "l2cap", "ipsp")
_SPEC: Final = re.compile(
    r"(?P<name>[a-z0-9_]+)(:(?P<peer>[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}))?(#(?P<number>\d{1,5}))?(@(?P<adapter>hci\d+))?"
)


@dataclass(frozen=True, slots=True)
class BearerSpec:
    """What a spec string says."""

    name: str
    peer: str = ""
    """Device address, upper case; empty if none is named."""
    number: int = 0
    """RFCOMM channel, L2CAP PSM or UDP port; 0 if none is named."""
    adapter: str = "hci0"


def parse_spec(text: str) -> BearerSpec:
    """Raises `UsageError` that says what is wrong."""
    found = _SPEC.fullmatch(text)
    if found is None:
        raise UsageError(f"{text!r} is no bearer: write NAME[:PEER][#NUMBER][@hciN], as in rfcomm or l2cap#4097")
    name, number = found["name"], int(found["number"] or 0)
    if name not in NAMES:
        raise UsageError(f"there is no bearer {name!r}: take {', '.join(NAMES)}")
    if found["number"] and name not in _NUMBERED:
        raise UsageError(f"{name} takes no number: leave #{number} out")
    return BearerSpec(name, (found["peer"] or "").upper(), number, found["adapter"] or "hci0")


def open_bearer(spec: str | BearerSpec, *, pair: bool = True, flush_timeout_slots: int | None = None) -> Bearer:
    """The bearer that a spec names. Raises `UsageError`; `BearerError` for numbers that it can't use.

    `pair` is for `rfcomm`, `flush_timeout_slots` for `l2cap`.
    """
    wanted = parse_spec(spec) if isinstance(spec, str) else spec
    match wanted.name:
        case "rfcomm":
            from bt_selfsecure.bearers.rfcomm import RfcommBearer

            return RfcommBearer(wanted.adapter, wanted.number, pair=pair)
        case "l2cap":
            from bt_selfsecure.bearers.l2cap import FLUSH_TIMEOUT_SLOTS, PSM, L2capBearer

            slots = FLUSH_TIMEOUT_SLOTS if flush_timeout_slots is None else flush_timeout_slots
            return L2capBearer(wanted.adapter, wanted.number or PSM, flush_timeout_slots=slots)
        case "le_advert":
            from bt_selfsecure.bearers.le_advert import LeAdvertBearer

            return LeAdvertBearer(wanted.adapter)
        case _:
            from bt_selfsecure.bearers.ipsp import PORT, IpspBearer

            return IpspBearer(wanted.adapter, wanted.number or PORT)
