"""Can this adapter, as the kernel has it set, carry a bearer?

BR/EDR or LE is switched off by `ControllerMode` in bluetoothd's main.conf or by `btmgmt`; some adapters have but one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from bt_selfsecure.node.management import AdapterSetting

NEEDED: Final[Mapping[str, tuple[AdapterSetting, str]]] = {
    "rfcomm": (AdapterSetting.BREDR, "BR/EDR"),
    "l2cap": (AdapterSetting.BREDR, "BR/EDR"),
    "le_advert": (AdapterSetting.LE, "LE"),
    "ipsp": (AdapterSetting.LE, "LE"),
}
"""By bearer, of those that take a radio: what the adapter must have on, and its name."""


def misfits(bearers: Iterable[str], adapter: str, supported: AdapterSetting, current: AdapterSetting) -> Iterator[str]:
    """Return, for each of the bearers that can't work, a sentence with its remedy."""
    for bearer in sorted(NEEDED.keys() & bearers):
        setting, name = NEEDED[bearer]
        if setting not in supported:
            others = ", ".join(other for other, (needed, _) in NEEDED.items() if needed in supported)
            remedy = "use another adapter" + (f", or bearers that it carries ({others}) at both ends" if others else "")
            yield f"{bearer} can't work, {adapter} has no {name}: {remedy}"
        elif setting not in current:
            remedy = "set ControllerMode = dual in /etc/bluetooth/main.conf, then sudo systemctl restart bluetooth"
            yield f"{bearer} can't work, {name} is switched off on {adapter}: {remedy}"
