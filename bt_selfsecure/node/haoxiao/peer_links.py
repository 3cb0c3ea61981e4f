"""The links to one peer, one a bearer: which is used, when to dial, when one is given up. Part of `PeerMachine`."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from bt_selfsecure.crypto import sha256
from bt_selfsecure.node.haoxiao.peer_events import Dial, HangUp, Level, Outputs, PeerConfig
from bt_selfsecure.protocols.haoxiao.establish import REPEAT_S, EstablishConfig
from bt_selfsecure.sansio.back_off import BackOff
from bt_selfsecure.sansio.trace import Machine, MachineEnum, Tracer
from bt_selfsecure.sansio.value import value

STEADY_S: Final = 30.0
"""A link that lasted so many seconds ends the back-off."""
CROSSING_S: Final = 5.0
"""Two links that the two ends dialled within so many seconds of each other have crossed."""
LINK_DEAD_S: Final = 30.0
"""An unreachable peer that was not heard for so many seconds has a link that is dead: it is dialled anew."""
LAST_DEAF_S: Final = 600.0
"""The same where that does not help: doubled each time up to this, for a peer whose inbox is full."""
ONE_WAY: Final = "one of its two ways is not there: the session goes on, and no key is agreed on until it is"


class LinkState(MachineEnum):
    """Says how the bearer on which the session runs is doing."""

    NO_ADAPTER = enum.auto()
    UNLINKED = enum.auto()
    DIALLING = enum.auto()
    LINKED = enum.auto()
    CROSSING = enum.auto()  # linked by the peer while this end still dials
    STOPPING = enum.auto()  # without an adapter, and a dial is not over yet


class LinkInput(MachineEnum):
    ADAPTER_UP = enum.auto()
    ADAPTER_GONE = enum.auto()
    DIAL = enum.auto()
    DIAL_OVER = enum.auto()
    LINK_UP = enum.auto()
    LINK_DOWN = enum.auto()


S, I = LinkState, LinkInput
LINK_TABLE: Final[Mapping[tuple[LinkState, LinkInput], LinkState]] = {
    (S.NO_ADAPTER, I.ADAPTER_UP): S.UNLINKED,
    (S.STOPPING, I.ADAPTER_UP): S.DIALLING,
    (S.STOPPING, I.DIAL_OVER): S.NO_ADAPTER,
    (S.UNLINKED, I.DIAL): S.DIALLING,
    (S.UNLINKED, I.LINK_UP): S.LINKED,
    (S.UNLINKED, I.ADAPTER_GONE): S.NO_ADAPTER,
    (S.DIALLING, I.DIAL_OVER): S.UNLINKED,
    (S.DIALLING, I.LINK_UP): S.CROSSING,
    (S.DIALLING, I.ADAPTER_GONE): S.STOPPING,
    (S.LINKED, I.LINK_UP): S.LINKED,
    (S.LINKED, I.LINK_DOWN): S.UNLINKED,
    (S.LINKED, I.ADAPTER_GONE): S.NO_ADAPTER,
    (S.CROSSING, I.DIAL_OVER): S.LINKED,
    (S.CROSSING, I.LINK_UP): S.CROSSING,
    (S.CROSSING, I.LINK_DOWN): S.DIALLING,
    (S.CROSSING, I.ADAPTER_GONE): S.STOPPING,
}


@value
class LinkFacts:
    """Says what is known of a link when it is opened."""

    dialled: bool
    """By this end."""
    losses_visible: bool
    key: bytes = field(default=b"", repr=False)
    """Of both ends, made with the link: what is agreed on over it is authenticated by it, too. Most links have none."""
    round_trip: float | None = None
    """Seconds that an answer took; None where that was not measured."""


@dataclass(slots=True, eq=False)
class ActiveLink:
    """Knows one open link: its bearer, its number, and who dialled it."""

    number: int
    """By which the driver knows it."""
    bearer: str
    facts: LinkFacts
    since: float
    given_up: bool = False

    @property
    def dialled(self) -> bool:
        return self.facts.dialled

    @property
    def losses_visible(self) -> bool:
        return self.facts.losses_visible


class PeerLinks:
    """Decides which link to one peer is used, and when to dial. `PeerMachine` tells it of each link that comes or
    goes."""

    def __init__(self, config: PeerConfig, out: Outputs, tracer: Tracer | None) -> None:
        self.trouble = ""
        """With the link; empty after a success."""
        self.redial: Final = BackOff()
        self.heard_at: float | None = None
        """Time of the last datagram; None where there was none."""
        self.own: str | None = None
        """Device address of the adapter; None while there is none that works."""
        self._config, self._out = config, out
        self._machine: Final = Machine(config.name, "link", LINK_TABLE, S.NO_ADAPTER, tracer)
        self._lines: Final[dict[str, ActiveLink]] = {}
        self._by_number: Final[dict[int, ActiveLink]] = {}
        self._patience = LINK_DEAD_S

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def state(self) -> LinkState:
        return self._machine.state

    @property
    def session_line(self) -> ActiveLink | None:
        """Return the link on which the session runs."""
        return self._lines.get(self._config.session_bearer)

    def get(self, bearer: str) -> ActiveLink | None:
        return self._lines.get(bearer)

    @property
    def control_line(self) -> ActiveLink | None:
        """Return the link on which an establishment's frames go."""
        return self._lines.get(self._config.establish_bearer) or self.session_line

    @property
    def lacks_way(self) -> bool:
        """Return whether a key can't be agreed on now: it takes a link of two ways, and there is none."""
        line = self.control_line
        return self._config.two_ways and (line is None or not line.facts.key)

    def fitted(self, config: EstablishConfig) -> EstablishConfig:
        """Return the configuration of an establishment as it is on the link that carries it: authenticated by the
        link's own key, too, and as patient as its round trip asks for."""
        line = self.control_line
        if line is None:
            return config
        key, trip, timers = line.facts.key, line.facts.round_trip, config.timers
        if key:
            config = replace(config, authentication_key=sha256(config.authentication_key + key))
        if trip is None:
            return config
        waits = (("t_h", 2 * trip), ("t_2", 3 * trip), ("t_3", 3 * trip), ("repeat", 2 * trip))
        slower = {name: max(getattr(timers, name) or REPEAT_S, wait) for name, wait in waits}
        return replace(config, timers=replace(timers, **slower))

    def by_number(self, number: int) -> ActiveLink | None:
        """Return the link of this number, if it is in use."""
        return self._by_number.get(number)

    # --- the adapter

    def adapter_up(self, own: str, now: float) -> None:
        self.own = own
        self._machine.on(I.ADAPTER_UP, now)

    def adapter_gone(self, now: float) -> None:
        """Give up all links, which are gone with the adapter."""
        self.own = None
        self._machine.on(I.ADAPTER_GONE, now)
        for line in self._lines.values():
            self.hang_up(line)
        self._lines.clear()
        self._by_number.clear()

    # --- dialling

    def dial(self, now: float) -> None:
        """Begin to dial for the session."""
        self._machine.on(I.DIAL, now)
        self._out.put(Dial(self._config.session_bearer))

    def dial_failed(self, why: str, now: float, jitter: float) -> None:
        """Take note that the dial for the session is over without a link."""
        self._machine.on(I.DIAL_OVER, now)
        self.say(why)
        self.redial.failed(now, jitter)

    # --- links

    def up(self, line: ActiveLink, *, dialler_wins: bool) -> bool:
        """Use this link from now on, and close an older one; return whether it is used.

        The newest is, but of two that crossed the one that the end with the lower address has dialled, so that both
        ends close the same one. `dialler_wins` says whether that is this end.
        """
        bearer, now, of_session = line.bearer, line.since, line.bearer == self._config.session_bearer
        if of_session and line.dialled and self._machine.can(I.DIAL_OVER):  # else it was there before all else
            self._machine.on(I.DIAL_OVER, now)
        if self.own is None:
            self._out.put(HangUp(line.number))
            return False
        old = self._lines.get(bearer)
        crossed = old is not None and old.dialled is not line.dialled and now - old.since < CROSSING_S
        if crossed and line.dialled is not dialler_wins:
            self._out.log(Level.INFO, f"links over {bearer} have crossed, the other one stays", "crossed")
            self._out.put(HangUp(line.number))
            return False
        if old:
            del self._by_number[old.number]
            self._out.put(HangUp(old.number))
        self._lines[bearer] = self._by_number[line.number] = line
        if of_session:
            self._machine.on(I.LINK_UP, now)
            self.heard_at = now
            self.trouble = ""
            self._out.log(Level.INFO, f"linked over {bearer}", "linked")
            if self.lacks_way:
                self.say(ONE_WAY)
        return True

    def down(self, number: int, why: str, now: float, jitter: float) -> ActiveLink | None:
        """Return the link that has ended, if it was in use."""
        line = self._by_number.pop(number, None)
        if line is None:
            return None
        del self._lines[line.bearer]
        if line.bearer == self._config.session_bearer:
            self._machine.on(I.LINK_DOWN, now)
            self.say(why)
            if now - line.since > STEADY_S:
                self.redial.reset()
            self.redial.failed(now, jitter)
        return line

    def hang_up(self, line: ActiveLink) -> None:
        if not line.given_up:
            line.given_up = True
            self._out.put(HangUp(line.number))

    def answered(self) -> None:
        """Take note that the peer has answered on this link."""
        self._patience = LINK_DEAD_S

    def give_up_if_dead(self, line: ActiveLink, now: float) -> None:
        """Hang up where an unreachable peer was not heard for too long."""
        if self.heard_at is not None and now - self.heard_at > self._patience and not line.given_up:
            silence = f"nothing heard for {now - self.heard_at:.0f} s, the link is given up"
            self._out.log(Level.WARNING, silence, "deaf")
            self._patience = min(2 * self._patience, LAST_DEAF_S)
            self.hang_up(line)

    def say(self, text: str) -> None:
        if text != self.trouble:
            self._out.log(Level.INFO, text, "link-trouble")
        self.trouble = text
