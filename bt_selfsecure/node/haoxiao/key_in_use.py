"""The key of a session: what is known about it, whether it is due, and the string of it that people compare. Part of
`PeerMachine`."""

from __future__ import annotations

from typing import Any, Final

from bt_selfsecure.node.haoxiao.confirmation import DIFFER, NO_CONTINUITY, is_same_string, no_string, parse_string
from bt_selfsecure.node.haoxiao.peer_events import PeerConfig, Stored

HOUR_S: Final = 3600.0


class KeyInUse:
    """Holds the facts about the key in use, and about a newer one until the peer is seen to use it."""

    def __init__(self, config: PeerConfig, stored: Stored, now: float) -> None:
        self.facts: dict[str, Any] = dict(stored.key)
        """About the key in use; "born" is the time at which it was agreed on, None where not known."""
        self.offered: dict[str, Any] = dict(stored.offered)
        """About a newer one that the peer was not seen to use."""
        self._config: Final = config
        self._keyed_at = now

    def offer(self, facts: dict[str, Any], rounds: int, now: float) -> None:
        """Take a new key, at so many rounds."""
        self.offered = facts | {"begun_at": rounds, "born": now}
        self._keyed_at = now

    def use(self) -> None:
        """Go over to the newer one, if there is one."""
        if self.offered:
            self.facts, self.offered = self.offered, {}

    def compare(self, string: str, *, continues: bool) -> str:
        """Take what a person says that the other end shows, as `PeerSession.compare` does. `continues`: the key has
        left something for the next one."""
        if string:
            parse_string(string)
        if self.offered:
            return f"{self._config.name} does not use the newest key yet: try again when it is connected"
        own = str(self.facts.get("sas", ""))
        if own and not continues:
            return NO_CONTINUITY
        if not own:
            return no_string(self._config.name)
        same = bool(string) and is_same_string(string, own)
        self.facts = self.facts | {"sas": ""}
        return "" if same else DIFFER

    def is_due(self, rounds: int, now: float) -> bool:
        """Return whether the key is as old, or after so many rounds as much used, as the configuration allows, or the
        peer has not taken a newer.

        One of unknown age is as good as an old one, and for its age no key is replaced before it was used for an hour.
        """
        used = now - self._keyed_at
        if self.offered:
            return used > HOUR_S
        if not self.facts:
            return False
        hours, messages = self._config.renew_hours, self._config.renew_messages
        age = age_of(self.facts, now)
        aged = bool(hours) and (age is None or age > hours * HOUR_S) and used > min(1.0, hours) * HOUR_S
        return aged or (bool(messages) and rounds - int(self.facts["begun_at"]) > messages)

    @property
    def own_address(self) -> str:
        """Return the address under which this node has agreed on the key in use; empty where there is none, or it is
        not known."""
        return str(self.facts.get("own_address", ""))


def age_of(facts: dict[str, Any], now: float) -> float | None:
    """Return the age of the key that these facts are about; None where it is not known."""
    return None if facts["born"] is None else now - facts["born"]
