"""What is kept of whether a peer is the one that is meant, and the comparison of two short authentication strings."""

from __future__ import annotations

import enum
import re
from typing import Final

from bt_selfsecure.errors import UnreadableError
from bt_selfsecure.sansio.value import value

NO_CONTINUITY: Final = "the profile 'paper' has no continuity, so a comparison holds for this one key: use 'hardened'"
DIFFER: Final = "the strings differ: somebody may stand between the two. Agree on another key, and compare again"
_DIGITS: Final = re.compile(r"\d{3} ?\d{3}")
_WORDS: Final = 4


class Confirmation(enum.Enum):
    """Says how it became known that the peer is the one that is meant; in the words of the local API."""

    STRING = "string"
    """A person here has compared the short authentication string of its key."""
    AUTHENTICATION_KEY = "authentication key"
    """It has the authentication key that was configured for it, and for no other peer."""
    BOOTSTRAPPED = "bootstrapped"
    """The same, of a key that came of bootstrapping."""


@value
class Trust:
    """Holds what is kept of it. Times are of the machine's clock, None where they are not known."""

    confirmed: Confirmation | None = None
    by: str = ""
    """The user's name who has compared."""
    at: float | None = None
    """When it was confirmed."""
    differed_by: str | None = None
    """The user's name who has compared last, and found the strings different; None where nobody did, or some were equal
    since."""
    differed_at: float | None = None
    """When that was."""
    first: float | None = None
    """When the first key was agreed on; of a peer that was confirmed, or no longer is, the first since then."""
    nowhere: int = 0
    """Keys from nowhere since `first`."""
    restored: bool = False
    """A person has put an earlier state back at this end, and the two have not found together since."""


def no_string(name: str) -> str:
    """Return why there is nothing to compare with the peer of this name, and what to do."""
    return (
        "there is no string to compare: nobody has asked for this key here, or it was compared already. For another: "
        f"bt-selfsecure establish --wait there, and then bt-selfsecure establish {name} here"
    )


def parse_string(text: str) -> tuple[str, list[str]]:
    """Return the digits and the words of what a person read at the other end: of one of them there may be none. Raises
    `UnreadableError` where it is no string."""
    text = " ".join(text.replace("(", " ").replace(")", " ").split()).lower()
    found = _DIGITS.match(text)
    digits = found[0].replace(" ", "") if found else ""
    words = text[found.end() if found else 0 :].split()
    if (len(words) != _WORDS and (words or not digits)) or any(letter.isdigit() for word in words for letter in word):
        raise UnreadableError("six digits, or four words")
    return digits, words


def is_same_string(given: str, own: str) -> bool:
    """Return whether what a person read at the other end, digits or words, is of this string. Raises `UnreadableError`
    where it is neither."""
    return all(its in ("", [], ours) for its, ours in zip(parse_string(given), parse_string(own), strict=True))
