"""Troubles that others can make again and again, each logged once."""

from __future__ import annotations

import logging
from typing import Final

MOST_TOLD: Final = 64


class ToldOnce:
    """Logs a trouble the first time. It remembers so many, and then begins anew."""

    def __init__(self, log: logging.Logger) -> None:
        self._log: Final = log
        self._told: Final[set[str]] = set()

    def warn(self, trouble: str) -> None:
        if trouble not in self._told:
            if len(self._told) >= MOST_TOLD:
                self._told.clear()
            self._told.add(trouble)
            self._log.warning("%s", trouble)
