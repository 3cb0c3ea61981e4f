"""Numbers and others' words in sentences."""

from __future__ import annotations

from typing import Final

LONGEST: Final = 60
"""Letters of others' words that a sentence has."""


def counted(number: int, what: str) -> str:
    """Return number and noun, as in 1 run, 0 runs, 1,730 packets, 2 addresses."""
    ending = "" if number == 1 else "es" if what.endswith("s") else "s"
    return f"{number:,} {what}{ending}"


def quoted(text: str) -> str:
    """Return something from outside in quotes, in one short line."""
    return repr(shortened(text))


def shortened(text: str) -> str:
    """Return as much of something from outside as a sentence has room for."""
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def printable(text: str) -> str:
    """Return something from outside, without what would drive a terminal."""
    return text if text.isprintable() else "".join(map(_shown, text))


def unprintable(name: str) -> str:
    """Return what is wrong with a name that would drive a terminal, or that no drawing may have; "" with any other."""
    letter = "" if name.isprintable() else next((letter for letter in name if _shown(letter) != letter), "")
    if "\ud800" <= letter <= "\udfff":  # as Python writes a byte that is none of a text
        return f"the name {quoted(name)} is not text in UTF-8: write it anew"
    return letter and f"the name {quoted(name)} has U+{ord(letter):04X}, which can't be printed: write it without"


def _shown(letter: str) -> str:
    """Return a letter, or how Python writes it where it can't be printed. A space of any width can."""
    if letter.isprintable():
        return letter
    from unicodedata import category

    return letter if category(letter) == "Zs" else ascii(letter)[1:-1]
