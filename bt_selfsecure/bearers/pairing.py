"""Who may pair with this computer, and what of its adapter is changed for that and put back afterwards.

Pairing secures nothing that this project claims: what travels is secured above the link. But a bond gives whoever has
it the services of this computer, so a stranger gets none, and what is set for our peers is not left set.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Protocol

from bt_selfsecure.bearers.base import BearerError

log = logging.getLogger(__name__)

SETTINGS: Final = {
    "Pairable": "b",
    "PairableTimeout": "u",
    "Discoverable": "b",
    "DiscoverableTimeout": "u",
    "Connectable": "b",
}
"""Of org.bluez.Adapter1, with their D-Bus types, in the order in which they are put back: what is discoverable is
connectable, too. bluetoothd keeps them on disk. Older ones have no Connectable."""


class AdapterProperties(Protocol):
    """This is what bluetoothd tells of an adapter, and lets be changed; methods raise `BearerError`."""

    is_lost: bool

    async def get(self, name: str) -> Any:
        """Return one."""

    async def settings(self, names: Iterable[str]) -> dict[str, Any]:
        """Return those of these names that there are."""

    async def set(self, name: str, signature: str, value: Any) -> None:
        """Change one."""


class Pairing:
    """This decides for all bearers of one adapter, and remembers how its settings were before the first of them."""

    def __init__(
        self,
        allows: Callable[[str], bool] = lambda address: True,
        needed: Callable[[], bool] = lambda: True,
        memory: Path | None = None,
        *,
        answers: bool = True,
    ) -> None:
        """`allows` says of a device address whether it may pair, `needed` whether one that may is missing now. Without
        `answers` requests are left to the agents of others, and the adapter is as pairable as it was.

        `memory` is a file that outlives a crash: after it the next process puts back what was set before the first.
        """
        self.allows, self.needed = allows, needed
        self.answers = answers
        self._memory = memory
        self._before: dict[str, Any] = {}
        self._users: set[AdapterProperties] = set()

    async def begin(self, bluez: AdapterProperties) -> None:
        """Remember the adapter's settings, unless they are ours already. Raises `BearerError`."""
        self._users = {user for user in self._users if not user.is_lost}
        if not self._before:
            address = await bluez.get("Address")
            self._before = self._left_behind(address) or {"Address": address, **await bluez.settings(SETTINGS)}
            self._write()
        self._users.add(bluez)

    async def end(self, bluez: AdapterProperties) -> None:
        """Put the settings back if this was the last one. Where bluetoothd is gone the next start does so."""
        self._users.discard(bluez)
        if self._before and not {user for user in self._users if not user.is_lost}:
            with contextlib.suppress(BearerError):
                await self._put_back(bluez)

    async def _put_back(self, bluez: AdapterProperties) -> None:
        for name, signature in SETTINGS.items():
            if name in self._before and await bluez.get(name) != self._before[name]:
                await bluez.set(name, signature, self._before[name])
        self._before = {}
        if self._memory:
            self._memory.unlink(missing_ok=True)

    def _left_behind(self, address: str) -> dict[str, Any]:
        """Return what the file holds, if it is of this adapter and well-formed; else nothing."""
        try:
            found = json.loads(self._memory.read_bytes()) if self._memory else None
        except (OSError, ValueError):
            return {}
        if not isinstance(found, dict) or found.get("Address") != address:
            return {}
        kinds = {"b": bool, "u": int}
        known = {name: value for name, value in found.items() if type(value) is kinds.get(SETTINGS.get(name, ""))}
        return {"Address": address, **known}

    def _write(self) -> None:
        if self._memory is None:
            return
        part = self._memory.with_suffix(".part")
        try:
            part.write_text(json.dumps(self._before), encoding="utf-8")
            part.replace(self._memory)
        except OSError as error:
            log.warning("how the adapter was set before is kept in memory alone (%s)", error.strerror)
