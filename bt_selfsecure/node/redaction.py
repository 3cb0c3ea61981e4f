"""Takes out of a text who the devices are: addresses in every spelling, and the names that people gave."""

from __future__ import annotations

import re
from typing import Final

OCTET: Final = "[0-9A-Fa-f]{2}"
ADDRESS: Final = re.compile(rf"(?<![0-9A-Fa-f:_-]){OCTET}(?:([:_-]){OCTET})(?:\1{OCTET}){{4}}(?![0-9A-Fa-f:_-])")
"""As in B8:27:EB:12:34:56, dev_B8_27_EB_12_34_56 and b8-27-eb-12-34-56."""
IN_PATH: Final = re.compile(rf"(?<=dev_){OCTET}(?:_{OCTET}){{5}}(?![0-9A-Fa-f])")
LINK_LOCAL: Final = re.compile(r"\bfe80:(?::?[0-9A-Fa-f]{0,4}){1,8}")
"""IPv6 addresses of Bluetooth links hold the device's address."""
BARE: Final = re.compile(r"(?<![0-9A-Za-z])[0-9A-Fa-f]{12}(?![0-9A-Za-z])")
HOME: Final = re.compile(r"/home/[^/\s:'\"]+")


class Redactor:
    """The same device has the same stand-in throughout. `names`: what people called something, and its stand-in."""

    def __init__(self, names: dict[str, str], addresses: dict[str, str]) -> None:
        """`addresses`, written as B8:27:EB:12:34:56, are those whose stand-in is known."""
        self._stand_ins = {address.upper(): stand_in for address, stand_in in addresses.items()}
        self._names = {name: stand_in for name, stand_in in names.items() if name}
        longest_first = sorted(map(re.escape, self._names), key=len, reverse=True)
        self._name = re.compile(rf"(?<![\w.-])(?:{'|'.join(longest_first)})(?![\w-])") if longest_first else None

    def __call__(self, text: str) -> str:
        text = IN_PATH.sub(lambda found: self._of(found[0]), text)
        text = ADDRESS.sub(lambda found: self._of(found[0]), text)
        text = LINK_LOCAL.sub("<link-local address>", text)
        text = BARE.sub(lambda found: self._of_bare(found[0]), text)
        if self._name:
            text = self._name.sub(lambda found: self._names[found[0]], text)
        return HOME.sub("/home/<user>", text)

    def _of(self, spelled: str) -> str:
        address = re.sub("[_-]", ":", spelled).upper()
        return self._stand_ins.setdefault(address, f"<device {len(self._stand_ins) + 1}>")

    def _of_bare(self, digits: str) -> str:
        """Twelve hexadecimal digits are an address only where it was seen as one: hashes look the same."""
        address = ":".join(digits[i : i + 2] for i in range(0, 12, 2)).upper()
        return self._stand_ins.get(address, digits)
