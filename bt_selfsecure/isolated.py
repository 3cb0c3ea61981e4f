"""How a module of ours is started in a Python of its own, without code from the folder in which it happens to be.

Root runs our commands in folders of others, as in `sudo bt-selfsecure report`. `python -m` puts the current folder
before everything else, so that a `bt_selfsecure/` or a `json.py` which lies there would run as root.
"""

from __future__ import annotations

import sys
from typing import Final

FOLDER: Final = "/"
"""Where a child runs: nobody but root puts anything there, not for a relative entry of PATH or PYTHONPATH either."""


def python_module(module: str, *words: str) -> list[str]:
    """Return the command line; to be run in `FOLDER`. Not `-I`: what was found by PYTHONPATH or in the user's own
    site-packages must be found again, in the same place."""
    return [sys.executable, "-P", "-m", module, *words]
