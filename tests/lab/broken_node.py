"""`bt-selfsecure` on a device whose random number generator is broken: a burst message of its is one of two.

Run inside a virtual Pi; arguments as for the command.
"""

from __future__ import annotations

import secrets
import sys
from typing import Any

from bt_selfsecure.cli.main import main
from bt_selfsecure.protocols.haoxiao import initiator
from bt_selfsecure.protocols.haoxiao.sent_burst import SentBurst


class BrokenBurst(SentBurst):
    def __init__(self, config: Any, random: Any) -> None:
        super().__init__(config, lambda size: secrets.randbits(1).to_bytes(size))


vars(initiator)["SentBurst"] = BrokenBurst
sys.exit(main())
