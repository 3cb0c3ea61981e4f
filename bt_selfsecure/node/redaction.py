"""Takes out of a text who the devices are: addresses in every spelling, and the names that people gave."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final

OCTET: Final = "[0-9A-Fa-f]{2}"
ADDRESS: Final = re.compile(rf"(?<![0-9A-Fa-f:_-]){OCTET}(?:([:_-]){OCTET})(?:\1{OCTET}){{4}}(?![0-9A-Fa-f:_-])")
"""As in B8:27:EB:12:34:56, dev_B8_27_EB_12_34_56 and b8-27-eb-12-34-56."""
IN_PATH: Final = re.compile(rf"(?<=dev_){OCTET}(?:_{OCTET}){{5}}(?![0-9A-Fa-f])")
BETWEEN: Final = r"(?:\\x|,?\s?0x|[:_.\s-])?"
"""Between two octets of a known address: nothing, or as in b827.eb12.3456, b8 27 eb, (0xb8, 0x27) and b'\\xb8\\x27'."""
LINK_LOCAL: Final = re.compile(r"\bfe80:(?::?[0-9A-Fa-f]{0,4}){1,8}")
"""IPv6 addresses of Bluetooth links hold the device's address (RFC 4291, appendix A), and so do others made of it."""
INTERFACE: Final = re.compile(
    r"(?<![0-9A-Fa-f:])(?:[0-9A-Fa-f]{0,4}:){1,6}[0-9A-Fa-f]{0,2}ff:fe[0-9A-Fa-f]{2}:[0-9A-Fa-f]{1,4}"
)
LONG: Final = re.compile(r"(?<![0-9A-Za-z])(?:0[xX])?(?=[0-9]*[A-Fa-f])[0-9A-Fa-f]{16,}(?![0-9A-Za-z])")
"""Digits that nobody needs to compare, and that may be anything: a machine's id, a boot's, a key."""
HOME: Final = re.compile(r"/home/[^/\s:'\"<]+")
WORD_OF_A_PATH: Final = re.compile(r"[^\s'\"=,;()]*/[^\s'\"=,;()]*")
SHORTEST_INSIDE: Final = 4
"""Letters of a name that is looked for inside the words of a path, too: "bob" is in many."""
STAND_IN: Final = "<[^<>\n]*>"


class Redactor:
    """Gives the same device the same stand-in throughout. `names` are what people called something, each with its
    stand-in."""

    def __init__(self, names: dict[str, str], addresses: dict[str, str]) -> None:
        """`addresses`, written as B8:27:EB:12:34:56, are those whose stand-in is known."""
        self._stand_ins = {address.upper(): stand_in for address, stand_in in addresses.items()}
        self._names = {
            spelling.lower(): stand_in for name, stand_in in names.items() if name for spelling in _spellings(name)
        }
        longest_first = sorted(map(re.escape, self._names), key=len, reverse=True)
        inside = [name for name in longest_first if len(name) >= SHORTEST_INSIDE]
        self._name = re.compile(rf"{STAND_IN}|(?<![A-Za-z0-9])(?:{'|'.join(longest_first)})(?![A-Za-z0-9])", re.I)
        self._inside = re.compile("|".join([STAND_IN, *inside]), re.I)

    def __call__(self, text: str) -> str:
        text = self._known(text)  # before its reverse is taken for another device's
        text = IN_PATH.sub(lambda found: self._of(found[0]), text)
        text = ADDRESS.sub(lambda found: self._of(found[0]), text)
        text = self._known(text)
        text = LINK_LOCAL.sub("<link-local address>", text)
        text = INTERFACE.sub("<address of a link>", text)
        text = LONG.sub("<digits>", text)
        if self._names:
            text = self._name.sub(self._named, text)
            text = WORD_OF_A_PATH.sub(lambda word: self._inside.sub(self._named, word[0]), text)
        return HOME.sub("/home/<user>", text)

    def _known(self, text: str) -> str:
        """Without the addresses that were seen, in whatever spelling."""
        for address, stand_in in self._stand_ins.items():
            text = _spelled(address).sub(stand_in, text)
        return text

    def _of(self, spelled: str) -> str:
        address = re.sub("[_-]", ":", spelled).upper()
        return self._stand_ins.setdefault(address, f"<device {len(self._stand_ins) + 1}>")

    def _named(self, found: re.Match[str]) -> str:
        """A stand-in stays."""
        return self._names.get(found[0].lower(), found[0])


def _spellings(name: str) -> Iterator[str]:
    """As it is, as JSON has it, and as systemd has it in a unit's name."""
    yield name
    yield json.dumps(name)[1:-1]
    yield re.sub(r"[^A-Za-z0-9:_.]", lambda found: "".join(f"\\x{octet:02x}" for octet in found[0].encode()), name)


def _spelled(address: str) -> re.Pattern[str]:
    """It, forwards and backwards (as HCI has it), without separators or with others."""
    octets = address.split(":")
    orders = (BETWEEN.join(order) for order in (octets, octets[::-1]))
    return re.compile(rf"(?<![0-9A-Za-z])(?:0x|\\x)?(?:{'|'.join(orders)})(?![0-9A-Za-z])", re.I)
