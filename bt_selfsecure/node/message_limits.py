"""What a message may be: for the command line, too, which needs no more of `messages` to send one."""

from __future__ import annotations

from typing import Final

MAX_PORT: Final = 63
MAX_MESSAGE_BYTES: Final = 1 << 20
GROUP_PORT: Final = 12
"""On which a group's owner and members write to each other."""
GROUP_MESSAGE: Final = MAX_PORT + 1
"""In the inbox alone: a message to a group, behind the length of its name and the name. It is for the readers of port
0."""
