"""Three words of ours, 18 bits, that a person types at the other end; a typo is found before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Final

from bt_selfsecure.errors import UnreadableError
from bt_selfsecure.word_list import WORDS

COUNT: Final = 3
ENOUGH_LETTERS: Final = 3
"""No two words begin with the same."""


def drawn_words(random: Callable[[int], bytes]) -> str:
    """Return three words, each drawn by itself, with a space between them."""
    return " ".join(WORDS[octet % len(WORDS)] for octet in random(COUNT))  # 256 is a multiple of their number


def read_words(text: str) -> str:
    """Return the three words that a person has typed, whole and in small letters: the first three letters of a word
    are enough. Raises `UnreadableError`, which names the word that is none and the nearest one that is."""
    typed = text.lower().replace("-", " ").replace(",", " ").split()
    if len(typed) != COUNT:
        raise UnreadableError(f"three words are needed, as in '{' '.join(WORDS[:COUNT])}', and there are {len(typed)}")
    return " ".join(map(_word, typed))


def completions(beginning: str) -> list[str]:
    """Return the words that begin so, for who types one."""
    return [word for word in WORDS if word.startswith(beginning.lower())]


def _word(typed: str) -> str:
    matches = completions(typed) if len(typed) >= ENOUGH_LETTERS else []
    if matches:
        return matches[0]
    near = get_close_matches(typed, WORDS, n=2, cutoff=0.5) or completions(typed[:2])[:3]
    hint = f"did you mean {' or '.join(near)}?" if near else "look again at the other end"
    raise UnreadableError(f"{typed!r} is none of our words, so nothing was sent: {hint}")
