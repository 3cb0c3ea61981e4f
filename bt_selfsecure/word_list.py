"""The 64 words that people read to each other: no two begin with the same three letters, so each says 6 bits."""

from __future__ import annotations

from typing import Final

# fmt: off
WORDS: Final = (
    "acid", "amber", "apple", "arrow", "bacon", "badge", "banjo", "basil", "bison", "bread", "cabin", "camel",
    "candy", "cedar", "cider", "cobra", "daisy", "delta", "diver", "eagle", "ember", "fable", "fairy", "field",
    "flute", "forest", "garlic", "ginger", "globe", "grape", "hazel", "honey", "igloo", "ivory", "jelly", "koala",
    "ladder", "lemon", "lilac", "lunar", "mango", "maple", "medal", "melon", "ninja", "ocean", "olive", "onion",
    "opera", "otter", "panda", "pearl", "piano", "quartz", "radio", "raven", "robin", "salad", "tango", "tiger",
    "tulip", "velvet", "walnut", "zebra",
)
# fmt: on
