"""Sizes and times of pairing."""

from __future__ import annotations

from typing import Final

IDENTITY_BYTES: Final = 6
SHARE_BYTES: Final = 32
RUN_BYTES: Final = 8
TAG_BYTES: Final = 16
COMMITMENT_BYTES: Final = 16
SECRET_BYTES: Final = 16
"""Of R in a code."""
CALL_SECRET_BYTES: Final = 10
"""Of what sound or light carries beside the identity: 16 bytes in all."""
KEY_BYTES: Final = 32
NAME_BYTES: Final = 64
"""The longest name of a device, in UTF-8."""
MOST_GUESSES: Final = 5
"""Runs on three words: whoever guesses is right once in 2^18 / 5."""
MOST_RUNS: Final = 8
"""Runs on a code or call that are open at once; of those the oldest is forgotten."""
REPEAT_S: Final = 0.5
RUN_S: Final = 20.0
"""Within which the initiator proves itself; after it the guess was a wrong one."""
ANSWER_S: Final = 30.0
"""Without an answer an initiator gives up."""
PATIENCE_S: Final = 300.0
"""From the key to the word of both ends: people compare, and a burst takes its time."""
LINGER_S: Final = 60.0
"""For so long an end that is paired still answers one that is not sure of it."""
