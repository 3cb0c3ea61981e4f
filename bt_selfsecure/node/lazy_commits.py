"""What may be lazy is on the disk within a second or so; a disk that refuses is asked again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from bt_selfsecure.node.journal import Journal
from bt_selfsecure.node.journal_file import JournalError

COMMIT_S: Final = 1.0
"""What may be lazy is on disk within so long."""


class LazyCommits:
    """Commits what is noted in the journal a while after it is asked to, and tries again for as long as that fails."""

    def __init__(self, journal: Callable[[], Journal]) -> None:
        """`journal` gives it: one that meets a disk that refuses while it is opened asks for a commit before it is
        there."""
        self._opened: Final = journal
        self._timer: asyncio.TimerHandle | None = None

    def later(self) -> None:
        """Bring what is noted to the disk within a second or so."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(COMMIT_S, self._commit)

    def _commit(self) -> None:
        self._timer = None
        self.commit_now(sync=False)
        if self._opened().trouble:
            self.later()

    def commit_now(self, *, sync: bool = True) -> None:
        """Bring it there now, if the disk takes it; with `sync`, safe from a loss of power."""
        with contextlib.suppress(JournalError):
            self._opened().commit(sync=sync)

    def stop(self) -> None:
        """Wait for nothing more."""
        if self._timer:
            self._timer.cancel()

    def look(self) -> None:
        """Look whether the journal is still the node's. Raises `JournalError` where only a new start helps."""
        with contextlib.suppress(JournalError):
            self._opened().look()
        if self._opened().must_restart:
            raise JournalError(f"{self._opened().trouble} (the next start takes over what can be read)".strip())
