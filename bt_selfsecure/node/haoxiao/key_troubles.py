"""What people are told of agreeing on keys with one peer when something is the matter. Part of `PeerMachine`.

No frame says why the other end refuses (docs/protocols/haoxiao.md, "Refusals"): so an end tells what it sees of the
other one, and where a person finds the reason.
"""

from __future__ import annotations

from typing import Final

from bt_selfsecure.node.haoxiao.peer_events import Level, Outputs, PeerConfig
from bt_selfsecure.node.haoxiao.trust import PeerTrust
from bt_selfsecure.node.metrics import PeerCounters
from bt_selfsecure.protocols.haoxiao.events import (
    AcceptRefused,
    ActiveAttack,
    EstablishFailed,
    Event,
    Failure,
    Refusal,
    RequestRefused,
)
from bt_selfsecure.protocols.haoxiao.frames import peek_retired_kind
from bt_selfsecure.sansio.events import FrameRejected

QUIET_S: Final = 600.0
"""A failure that comes again within so many seconds, and no key between, is not written into the log again."""
_FOREIGN: Final = frozenset((Refusal.VERSION, Refusal.PROFILE))
_SILENT: Final = frozenset((Failure.NO_ACCEPT, Failure.NO_BURST))
"""So an establishment ends at one end where the other refuses it."""


class KeyTroubles:
    """Tells them to the log, each once in `QUIET_S`: strangers can cause any of them, another one with each frame."""

    def __init__(self, config: PeerConfig, counts: PeerCounters, out: Outputs, trust: PeerTrust) -> None:
        self.trouble = ""
        """Of the last time; empty after a success."""
        self._config, self._counts, self._out, self._trust = config, counts, out, trust
        self._foreign, self._foreign_until = "", 0.0
        """What the other end speaks that this one does not, and until when that is an answer."""
        self._said: dict[str, float] = {}
        """What the log was told, and until when it is not told again."""

    def on_event(self, event: Event, now: float) -> None:
        """Take any event of the endpoints but `Established` and the failure of what this end began."""
        match event:
            case EstablishFailed():
                self._counts.failed_establishments += 1
                self.say(f"its establishment failed: {self.why(event, now)}", now, "no-key")
            case RequestRefused() if event.reason in _FOREIGN:
                self._hear_foreign(event.reason, now)
            case RequestRefused() if event.reason is Refusal.CONTINUITY:
                self.say(self._trust.refused(now), now, "no-continuity")
            case AcceptRefused() if event.reason is Refusal.CONTINUITY:
                pass  # what becomes of it is told
            case RequestRefused():
                self.say(f"its request is refused: {event.reason.value}", now, "refused")
            case AcceptRefused():
                self.say(f"its accept is refused: {event.reason.value}", now, "refused")
            case ActiveAttack():
                self.say("contradicting burst packets: an active attack", now, "attack")
            case FrameRejected():
                self._out.log(Level.DEBUG, f"{event.reason.value} {event.detail}", "rejected")
            case _:
                self._out.log(Level.DEBUG, str(event))

    def say(self, text: str, now: float, event: str = "") -> None:
        """Tell that this is the matter."""
        self._said = {said: until for said, until in self._said.items() if until > now}
        if text not in self._said:
            self._out.log(Level.WARNING, text, event)
        self._said[text] = now + QUIET_S
        self.trouble = text

    def forget(self) -> None:
        """Take note that all is well."""
        self.trouble = self._foreign = ""
        self._said.clear()

    def hear(self, data: bytes, now: float) -> None:
        """Take note of any frame of the other end: it may be of a version which is not spoken any more."""
        if peek_retired_kind(data) is not None:
            self._hear_foreign(Refusal.VERSION, now)

    def _hear_foreign(self, what: Refusal, now: float) -> None:
        self._foreign, self._foreign_until = what.value, now + QUIET_S
        self.say(what.value, now, "refused")

    def why(self, event: EstablishFailed, now: float) -> str:
        """Return what is to be told of an establishment that has failed, at the end that began it or at the other."""
        if event.reason is Failure.NO_CONTINUITY:
            return self._trust.refused(now)
        text = f"{event.reason.value}: {event.detail}" if event.detail else event.reason.value
        if event.reason not in _SILENT:
            return text
        return self._of_silence(text, now) or (
            f"{text}, and {self._config.name} is linked: why, its own bt-selfsecure status says. It may have confirmed "
            "a key that this node has not, or not have this node as a [[peer]]"
        )

    def cut_off(self, why: str, now: float) -> str:
        """Return what is to be told of an establishment whose link has ended, as one does whose other end keeps
        silent."""
        return self._of_silence(why, now) or why

    def _of_silence(self, text: str, now: float) -> str:
        """Return the same with the reason why the other end is silent; nothing where this end knows of none."""
        if self._foreign and now < self._foreign_until:
            return self._foreign
        return f"{text}: {self._trust.how_restored}" if self._trust.kept.restored else ""
