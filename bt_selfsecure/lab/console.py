"""What a kernel said, as a person wants to read it."""

from __future__ import annotations

from typing import Final

PANIC: Final = "Kernel panic"


def last_words(said: str, lines: int) -> str:
    """Return the end of what was said; where the kernel panicked, up to the line that says so, and not the stack that
    comes after."""
    words = said.replace("\r", "").strip().splitlines()
    end = next((number for number, line in enumerate(words, 1) if PANIC in line), len(words))
    return "\n".join(words[max(0, end - lines) : end]) or "(nothing)"
