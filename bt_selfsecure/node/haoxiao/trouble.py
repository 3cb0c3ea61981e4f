"""What stands between this end and a key, in a sentence with the remedy; the log is told once. Part of `PeerMachine`.

No frame says why the other end refuses (docs/protocols/haoxiao.md, "Refusals"): so an end tells what it sees of the
other one, and where a person finds the reason.
"""

from __future__ import annotations

from typing import Final

from bt_selfsecure.node.haoxiao.peer_events import Level, Outputs, PeerConfig
from bt_selfsecure.node.haoxiao.trust import PeerTrust
from bt_selfsecure.protocols.haoxiao.events import Failure, Refusal
from bt_selfsecure.protocols.haoxiao.frames import peek_retired_kind

QUIET_S: Final = 600.0
"""What is said again within so many seconds, and no key between, is not written into the log again."""
_SILENT: Final = frozenset((Failure.NO_ACCEPT, Failure.NO_BURST))
"""So an establishment ends at one end where the other refuses it."""


class PeerTrouble:
    """Holds the newest of it. Strangers can cause any of these, and another one with each frame."""

    def __init__(self, config: PeerConfig, out: Outputs, trust: PeerTrust) -> None:
        self.text = ""
        """Empty after a success."""
        self._config, self._out, self._trust = config, out, trust
        self._said: dict[str, float] = {}
        """What the log was told, and until when it is not told again."""
        self._foreign, self._foreign_until = "", 0.0
        """What the other end speaks that this one does not, and until when that is an answer."""

    def say(self, text: str, now: float, event: str = "") -> None:
        """Tell it in status and, unless it was told lately, in the log."""
        self._said = {said: until for said, until in self._said.items() if until > now}
        if text not in self._said:
            self._out.log(Level.WARNING, text, event)
        self._said[text] = now + QUIET_S
        self.text = text

    def over(self) -> None:
        """Take note that there is a new key."""
        self.text = ""
        self._said.clear()
        self._foreign = ""

    def hear(self, data: bytes, now: float) -> None:
        """Take note of any frame of the other end: it may be of a version which is not spoken any more."""
        if peek_retired_kind(data) is not None:
            self.hear_foreign(Refusal.VERSION, now)

    def hear_foreign(self, what: Refusal, now: float) -> None:
        """Take note that it speaks another version or profile."""
        self._foreign, self._foreign_until = what.value, now + QUIET_S
        self.say(what.value, now, "refused")

    def why(self, reason: Failure, detail: str, now: float) -> str:
        """Return what is to be told of an establishment that has ended so, at the end that began it or the other."""
        if reason is Failure.NO_CONTINUITY:
            return self._trust.refused(now)
        text = f"{reason.value}: {detail}" if detail else reason.value
        if reason not in _SILENT:
            return text
        if self._foreign and now < self._foreign_until:
            return self._foreign
        if self._trust.kept.restored:
            return f"{text}: {self._trust.how_restored}"
        return (
            f"{text}, and {self._config.name} is linked: why, its own bt-selfsecure status says. It may have confirmed "
            "a key that this node has not, or not have this node as a [[peer]]"
        )
