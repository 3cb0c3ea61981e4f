"""What people are told of agreeing on keys with one peer when something is the matter. Part of `PeerMachine`."""

from __future__ import annotations

from typing import Final

from bt_selfsecure.node.haoxiao.peer_events import Level, Outputs
from bt_selfsecure.node.haoxiao.trust import PeerTrust
from bt_selfsecure.node.metrics import PeerCounters
from bt_selfsecure.protocols.haoxiao.events import (
    AcceptRefused,
    ActiveAttack,
    EstablishFailed,
    Event,
    Refusal,
    RequestRefused,
)
from bt_selfsecure.sansio.events import FrameRejected

QUIET_S: Final = 600.0
"""A failure that comes again within so many seconds, and no key between, is not written into the log again."""


class KeyTroubles:
    """Tells them to the log, each once in `QUIET_S`: strangers can cause any of them, another one with each frame."""

    def __init__(self, counts: PeerCounters, out: Outputs, trust: PeerTrust) -> None:
        self.trouble = ""
        """Of the last time; empty after a success."""
        self._counts, self._out, self._trust = counts, out, trust
        self._said: dict[str, float] = {}
        """What the log was told, and until when it is not told again."""

    def on_event(self, event: Event, now: float) -> None:
        """Take any event of the endpoints but `Established` and the failure of what this end began."""
        match event:
            case EstablishFailed():
                self._counts.failed_establishments += 1
                self.say(f"its establishment failed: {event.reason.value}", now, "no-key")
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
        self.trouble = ""
        self._said.clear()
