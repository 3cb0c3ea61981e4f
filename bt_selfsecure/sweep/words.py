"""How a sweep's figures are written for people: the same on the terminal, in the report and in the drawings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import product
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from bt_selfsecure.sweep.results import Setting

NONE: Final = "-"
CUT: Final = "~"
"""Where letters of a name are left out."""
SMALLEST: Final = 1e-5
"""Shares below it are not told apart."""
UNITS: Final = {"_mhz": "MHz", "_c": "\N{DEGREE SIGN}C", "_dbm": "dBm", "_ms": "ms", "_m": "m"}
"""How the name of a note ends, and the unit that it says."""
MILLION: Final = 1_000_000
"""From here on packets are counted in millions, rounded up."""


def percent(share: float | None) -> str:
    """Return a share with three digits, as in 13.6 %; nothing is called 0 or 100 % that is not."""
    return NONE if share is None else f"{hundredths(share)} %"


def hundredths(share: float | None) -> str:
    """Return the same without its sign, for a column that has it."""
    if share is None:
        return NONE
    if 0 < share < SMALLEST:
        return f"<{100 * SMALLEST:g}"
    return ">99.9" if share < 1 and round(100 * share, 1) == 100 else _digits(100 * share)


def interval(low: float, high: float) -> str:
    """Return an interval as in 13.4-13.7 %."""
    return f"{_digits(100 * low)}-{_digits(100 * high)} %"


def bits(value: float | None) -> str:
    """Return bits rounded down: 127.9 bits are not 128."""
    if value is None:
        return NONE
    return f"{math.floor(value)}" if value >= 10 else f"{math.floor(100 * value) / 100:g}"


def count(value: int | None) -> str:
    """Return a count as in 1,730, 1.73 M or 18 M; "-" for None, where no number is enough."""
    if value is None:
        return NONE
    if value < MILLION:
        return f"{value:,}"
    return f"{math.ceil(100 * value / MILLION) / 100:g} M" if value < 10 * MILLION else f"{-(-value // MILLION):,} M"


def metres(nearest: float | None, farthest: float | None = None) -> str:
    """Return metres as in 4.5, or 1.3-22.9 for a listener whose distance was not always the same."""
    if nearest is None:
        return NONE
    told = [f"{each:.0f}" if each >= 100 else f"{each:.3g}" for each in (nearest, farthest) if each is not None]
    return "-".join(dict.fromkeys(told))


def bearer(name: str) -> str:
    """Return a bearer in short: a virtual air's loss model is told in the plan."""
    return name.partition(":")[0] if name.startswith("air:") else name


def names(listeners: Iterable[str], width: int) -> dict[str, str]:
    """Return names of at most `width` letters that stay told apart: pi-kitchen-left and pi-kitchen-right become
    pi-k~ft, ~ht.

    Letters are left out at the end if that does, else before the end; if nothing does, they are numbered.
    """
    whole = sorted(set(listeners))
    for kept in range(width - 1):
        short = {name: name if len(name) <= width else _cut(name, width, name[len(name) - kept :]) for name in whole}
        if len(set(short.values())) == len(whole):
            return short
    return {
        name: name if len(name) <= width else _cut(name, width, str(number)) for number, name in enumerate(whole, 1)
    }


def what_differs(settings: Sequence[Setting]) -> dict[Setting, list[str]]:
    """Return words for each setting, only of what is not the same in all of them; the distance in any case."""

    def differ(name: str) -> bool:
        return len({getattr(setting, name) for setting in settings}) > 1

    told = {name: differ(name) for name in ("packets", "bearer", "size_bytes", "tx_power_dbm", "sender", "conditions")}
    short = {}
    for setting in settings:
        words = [NONE if setting.distance_m is None else f"{setting.distance_m:g} m"]
        words += [f"{setting.packets} packets" if setting.packets else "any N"] * told["packets"]
        words += [bearer(setting.bearer)] * told["bearer"]
        words += [f"{setting.size_bytes} B"] * told["size_bytes"]
        if told["tx_power_dbm"] and setting.tx_power_dbm is not None:
            words.append(f"{setting.tx_power_dbm:g} dBm")
        words += [conditions(setting.conditions)] * (told["conditions"] and bool(setting.conditions))
        short[setting] = words + [f"from {setting.sender}"] * told["sender"]
    return short


def conditions(told: Iterable[tuple[str, str]]) -> str:
    """Return conditions as in "room office, noise microwave"."""
    return ", ".join(f"{name} {value}" for name, value in told)


def note(path: Sequence[str], value: str = "") -> str:
    """Return a note as in "wifi wlan0: 2437 MHz": names without underscores, and the unit where it belongs."""
    said = [*path]
    for number, (name, (end, unit)) in enumerate(product(path, UNITS.items())):
        if name.endswith(end):
            said[number // len(UNITS)], value = name.removesuffix(end), f"{value} {unit}" if value else ""
    text = " ".join(said).replace("_", " ")
    return f"{text}: {value}" if value else text


def _cut(name: str, width: int, end: str) -> str:
    return f"{name[: width - len(CUT) - len(end)]}{CUT}{end}"


def _digits(value: float) -> str:
    """Return three digits that count, and no exponent."""
    if not value or value >= 100:
        return f"{value:.0f}"
    text = f"{value:#.3g}"
    return f"{value:.6f}" if "e-" in text else text.rstrip(".")
