"""What a message may be: for the command line, too, which needs no more of `messages` to send one."""

from __future__ import annotations

from typing import Final

MAX_PORT: Final = 63
MAX_MESSAGE_BYTES: Final = 1 << 20
