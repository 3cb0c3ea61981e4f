"""Bearers by name: `NAME[:PEER][#NUMBER][@ADAPTER]`, as in `rfcomm#3` or `l2cap:AA:BB:CC:DD:EE:FF#4097@hci1`.

Before `udp` may stand what this program is to do to each datagram: `faults:loss=0.1,duplicate=0.01;udp`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from importlib import import_module
from typing import Final

from bt_selfsecure.addresses import parse_address
from bt_selfsecure.bearers.base import Bearer
from bt_selfsecure.bearers.drawn import DrawnBearer, Faults
from bt_selfsecure.bearers.pairing import Pairing
from bt_selfsecure.bearers.places import UdpPlaces
from bt_selfsecure.errors import UsageError

NAMES: Final = ("rfcomm", "l2cap", "le_advert", "ipsp", "udp")
_NUMBERED: Final = ("rfcomm", "l2cap", "ipsp")
_FAULTS: Final = re.compile(r"faults:(?P<faults>[^;]*);(?P<spec>.*)", re.DOTALL)
_SPEC: Final = re.compile(
    r"(?P<name>[a-z0-9_]+)(:(?P<peer>[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}))?(#(?P<number>\d{1,5}))?(@(?P<adapter>hci\d+))?"
)


@dataclass(frozen=True, slots=True)
class BearerSpec:
    """Holds what a spec string says."""

    name: str
    peer: str = ""
    """Device address, upper case; empty if none is named."""
    number: int = 0
    """RFCOMM channel, L2CAP PSM or UDP port; 0 if none is named."""
    adapter: str = "hci0"
    faults: Faults | None = None


def parse_spec(text: str) -> BearerSpec:
    """Raises `UsageError` that says what is wrong."""
    if drawn := _FAULTS.fullmatch(text):
        spec = parse_spec(drawn["spec"])
        if spec.name != "udp" or spec.faults:
            raise UsageError(f"faults: goes before udp, and not before {drawn['spec']!r}: a radio loses by itself")
        return replace(spec, faults=_parse_faults(drawn["faults"]))
    found = _SPEC.fullmatch(text)
    if found is None:
        raise UsageError(f"{text!r} is no bearer: write NAME[:PEER][#NUMBER][@hciN], as in rfcomm or l2cap#4097")
    name, number = found["name"], int(found["number"] or 0)
    if name not in NAMES:
        raise UsageError(f"there is no bearer {name!r}: take {', '.join(NAMES)}")
    if found["number"] and name not in _NUMBERED:
        raise UsageError(f"{name} takes no number: leave #{number} out")
    return BearerSpec(name, parse_address(found["peer"]) if found["peer"] else "", number, found["adapter"] or "hci0")


def _parse_faults(text: str) -> Faults:
    names = [field.name for field in fields(Faults)]
    given: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        if name not in names or name in given or not re.fullmatch(r"0?\.[0-9]{1,9}|0", value):
            raise UsageError(
                f"{part!r} is no fault: write {' and '.join(names)}, each with a share from 0 to below 1, "
                "as in faults:loss=0.1;udp"
            )
        given[name] = float(value)
    return Faults(**given)


def import_bearer(spec: BearerSpec) -> None:
    """Import what `open_bearer` takes for it: in a process that runs there may be no file left to open for that."""
    import_module(f"bt_selfsecure.bearers.{spec.name}")


def open_bearer(
    spec: str | BearerSpec,
    *,
    pairing: Pairing | None = None,
    flush_timeout_slots: int | None = None,
    udp: UdpPlaces | None = None,
) -> Bearer:
    """Return the bearer that a spec names. Raises `UsageError`; `BearerError` for numbers that it can't use.

    `pairing`, for `rfcomm` and `l2cap`, is of all bearers of an adapter; without it whoever asks may pair.
    `flush_timeout_slots` for `l2cap`, `udp` for `udp`, which can't do without.
    """
    wanted = parse_spec(spec) if isinstance(spec, str) else spec
    match wanted.name:
        case "rfcomm":
            from bt_selfsecure.bearers.rfcomm import RfcommBearer

            return RfcommBearer(wanted.adapter, wanted.number, pairing=pairing)
        case "l2cap":
            from bt_selfsecure.bearers.l2cap import L2capBearer
            from bt_selfsecure.bearers.limits import FLUSH_TIMEOUT_SLOTS, PSM

            slots = FLUSH_TIMEOUT_SLOTS if flush_timeout_slots is None else flush_timeout_slots
            return L2capBearer(wanted.adapter, wanted.number or PSM, flush_timeout_slots=slots, pairing=pairing)
        case "le_advert":
            from bt_selfsecure.bearers.le_advert import LeAdvertBearer

            return LeAdvertBearer(wanted.adapter)
        case "udp":
            from bt_selfsecure.bearers.udp import UdpBearer

            if udp is None:
                raise UsageError("udp joins nodes alone, which know each other's places: take another bearer here")
            bearer = UdpBearer(udp)
            return DrawnBearer(bearer, wanted.faults) if wanted.faults else bearer
        case _:
            from bt_selfsecure.bearers.ipsp import PORT, IpspBearer

            return IpspBearer(wanted.adapter, wanted.number or PORT)
