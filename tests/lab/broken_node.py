"""`bt-selfsecure` on a device whose random number generator is broken: a burst message of its is one of two.

Run inside a virtual Pi; arguments as for the command.
"""

from __future__ import annotations

import secrets
import sys
from typing import Any

from bt_selfsecure.cli.main import main
from bt_selfsecure.node.haoxiao import shared_burst as establishing


class BrokenInitiator(establishing.Initiator):
    def __init__(self, config: Any, random: Any, **rest: Any) -> None:
        super().__init__(config, random, **rest)
        self._random = lambda size: secrets.randbits(1).to_bytes(size)  # what its burst is drawn with


establishing.Initiator = BrokenInitiator  # type: ignore[misc]
sys.exit(main())
