"""The terminal's size, and text that fits it: what `shutil` and `textwrap` know, without what importing them costs."""

from __future__ import annotations

import os
import sys
from typing import Final

from bt_selfsecure.errors import UsageError

USUAL: Final = (80, 24)
MOST_COLUMNS: Final = 80
"""Longer lines are hard to read."""
ANSWER: Final = len(" yes")
"""Columns that are left for one behind a question."""


def columns() -> int:
    """Return how wide a line may be."""
    return min(_size("COLUMNS", 0), MOST_COLUMNS)


def rows() -> int:
    """Return how many lines the terminal has."""
    return _size("LINES", 1)


def _size(variable: str, which: int) -> int:
    """What the environment says comes first, as in `shutil.get_terminal_size`."""
    said = os.environ.get(variable, "")
    if said.isdecimal() and int(said):
        return int(said)
    try:
        return os.get_terminal_size(sys.__stdout__.fileno())[which] or USUAL[which]  # type: ignore[union-attr]
    except (AttributeError, ValueError, OSError):  # closed, or no terminal
        return USUAL[which]


def wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """Return lines of at most `width`, all but the first indented. A word that is too long stays whole: it is an
    address or the like, to be copied."""
    lines = []
    while len(text) > width:
        start = len(text) - len(text.lstrip(" "))
        cut = text.rfind(" ", start, width + 1)
        if cut < 0 and (cut := text.find(" ", start)) < 0:
            break
        lines.append(text[:cut].rstrip(" "))
        if not (rest := text[cut:].lstrip(" ")):
            return lines
        text = indent + rest
    return [*lines, text.rstrip(" ")] if text.strip(" ") else lines


def typed(prompt: str, most: int = -1) -> str:
    """Return the line that a person types behind the prompt, `most` letters of it; empty where the input ends. A Ctrl-C
    ends the line: from the prompt on, for whoever sees it may be faster than `print`."""
    try:
        print(prompt, end=" ", file=sys.stderr, flush=True)
        return sys.stdin.readline(most)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        raise


def asks_yes(question: str, otherwise: str) -> bool:
    """Ask until a person says yes or no, in lines that fit. Raises `UsageError` where there is none: what to do
    `otherwise`; a Ctrl-C stands on the question's line, and what is said of it on the next one."""
    if not sys.stdin.isatty():
        raise UsageError(f"there is no terminal to ask on: {otherwise}")
    prompt = f"{question} Type yes or no:"
    shown = "\n".join(line for part in prompt.split("\n") for line in wrapped(part, columns() - ANSWER))
    while True:
        if not (answer := typed(shown)):
            raise UsageError("nothing was answered, and nothing is changed")
        if answer.strip().lower() in ("yes", "no"):
            return answer.strip().lower() == "yes"
