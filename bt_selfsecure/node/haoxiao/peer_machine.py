"""Machine of one peer: its links, the keys that are agreed on with it, the session with it. Sans-IO; `peer.py` drives
it.

What is given to it (a datagram, a deadline, a wish, what became of a dial or of a commit) is a turn: it takes the
events of its endpoints, notes what must last, and puts out what is to be done; frames last, and where something of the
turn must be on disk first, in the turn that `persisted` begins. What is due, a link, a key, it looks at whenever
something has changed that decides on it.

    link           NO_ADAPTER, UNLINKED, DIALLING, LINKED, ...           peer_links.py
    key agreement  IDLE, DIALLING, INITIATING, RESPONDING                key_agreement.py, its radio in burst.py
    session        NO_KEY, SYNCHRONISING, CONNECTED, UNREACHABLE         peer_session.py

Each is a table of transitions; what people are shown, `PeerState`, follows from the three and the disk. What is lacking
peer_upkeep.py finds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from bt_selfsecure.node.haoxiao.confirmation import DIFFER, Confirmation
from bt_selfsecure.node.haoxiao.key_agreement import KeyAgreement
from bt_selfsecure.node.haoxiao.peer_events import (
    ForeignKeys,
    GroupFragment,
    Output,
    Outputs,
    PeerConfig,
    Stored,
    Urgency,
)
from bt_selfsecure.node.haoxiao.peer_links import ONE_WAY, ActiveLink, LinkFacts, PeerLinks
from bt_selfsecure.node.haoxiao.peer_session import PeerSession
from bt_selfsecure.node.haoxiao.peer_upkeep import PeerUpkeep
from bt_selfsecure.node.haoxiao.shared_burst import BurstLeg
from bt_selfsecure.node.haoxiao.trust import PeerTrust
from bt_selfsecure.node.metrics import PeerCounters
from bt_selfsecure.protocols.haoxiao.establish import EstablishConfig
from bt_selfsecure.protocols.haoxiao.events import Established, Event, ReestablishNeeded, Resynchronised
from bt_selfsecure.protocols.haoxiao.frames import Kind, peek_kind
from bt_selfsecure.protocols.haoxiao.group.keys import Heard
from bt_selfsecure.protocols.haoxiao.record import Role
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.endpoint import Endpoint

COPIES: Final = 8
"""Frames of a peer that are tried with the keys of the others, from one key to the next."""
_NAMES_KEYS: Final = frozenset((Kind.RESYNC_CALL, Kind.RESYNC_REQUEST))


class PeerMachine:
    """Takes an input at a time. After each take its outputs by `next_event`, and do them in the order in which it gives
    them. `now` is seconds of a clock that does not go back. Raises `LocalError` for misuse by the driver only."""

    def __init__(
        self,
        config: PeerConfig,
        stored: Stored,
        context: EndpointContext,
        new_number: Callable[[], int],
        now: float,
    ) -> None:
        """`new_number` gives out each number of a fragment once, ever growing."""
        self.config: Final = config
        self.counts: Final = PeerCounters(dropped=stored.dropped)
        self._out: Final = Outputs()
        self.links: Final = PeerLinks(config, self._out, context.tracer)
        self.trust: Final = PeerTrust(config, stored.trust, self.counts, self._out)
        self.agreement: Final = KeyAgreement(config, self.links, self.counts, self._out, context, self.trust)
        self.session: Final = PeerSession(config, stored, self.counts, self._out, context, new_number, self.trust, now)
        self.agreement.continuity_keys = self.session.continuity_keys
        self._upkeep: Final = PeerUpkeep(config, self.links, self.agreement, self.session, now)
        self.heard: Heard | None = None
        """What both ends have heard of the newest key's burst, as long as this program runs: for a group's key."""
        self._disk_works = True
        self._keyed_by = 0
        """Token of the commit before which no frame tells of a key that was agreed on."""
        self._persisted = 0
        self._copies_left = COPIES

    # --- the verbs ----------------------------------------------------------------------------------------------------

    def next_event(self) -> Output | None:
        """Return the oldest output that was not taken yet, but what is to be sent before all else."""
        return self._out.take()

    def get_timer(self) -> float | None:
        """Return when `handle_timer` is to be called, or None."""
        deadlines = [deadline for endpoint in self._endpoints() if (deadline := endpoint.get_timer()) is not None]
        if self._upkeep.look_at is not None:
            deadlines.append(self._upkeep.look_at)
        return min(deadlines, default=None)

    def handle_timer(self, now: float) -> None:
        """Do what is due: call it at the deadline or later; before it, it does no harm."""
        for endpoint in self._endpoints():
            endpoint.handle_timer(now)
        self.agreement.follow_responder(now)
        self._out.look_due = True
        self._settle(now)

    def receive(self, link: int, data: bytes, now: float, *, inbox_has_room: bool = True) -> None:
        """Take a datagram that came on this link. Never raises for what it contains."""
        if self.links.by_number(link) is None:
            return  # another one has replaced it
        self.links.heard_at = now
        if not self._disk_works:
            return  # what can't be kept must not be acknowledged; the peer repeats it
        kind, session = peek_kind(data), self.session.session
        if kind in _NAMES_KEYS and self._copies_left and not self.shares_key(data):
            self._copies_left -= 1
            self._out.put(ForeignKeys(data))
        if kind is None or not kind.phase:
            if not self.links.lacks_way:
                self.agreement.receive(data, now)
        elif kind is Kind.GROUP_FRAGMENT:
            self._out.put(GroupFragment(data))
        elif session is None:
            if not self.agreement.is_under_way:
                self.agreement.hint("it has a key that this node has not")
        elif kind != Kind.DATA or inbox_has_room:
            session.receive_frame(data, now)
        self._settle(now)

    def overhear(self, data: bytes, now: float) -> None:
        """Take an advertisement under the peer's address, which anybody can use."""
        if peek_kind(data) is Kind.RAND_COMPACT and self._disk_works and self.links.own is not None:
            self.agreement.receive(data, now)
            self._settle(now)

    def broadcast(self, data: bytes) -> None:
        """Send this fragment of a broadcast, where no radio does, to this peer as to all others; it may get lost."""
        if line := self.links.session_line:
            self._out.send(line.number, data)

    # --- wishes

    def send(self, message: bytes, port: int, now: float, *, durable: bool, stays: bool = False) -> int:
        """Queue a message and return its number. If `durable` it is told by `Kept` when it is on disk; else only by
        `Delivered`, when the peer has it, as every message is. `Refused` where the disk did not take it; but one that
        `stays` waits until the disk takes it, with what else was noted in the same turn and counts on it.

        Raises `MessageTooLongError`, `QueueFullError`.
        """
        number = self.session.send(message, port, durable=durable, stays=stays)
        self._out.look_due |= self.links.session_line is None
        self._settle(now)
        return number

    def establish(self, now: float, *, wait: bool = False, without_continuity: bool = False) -> None:
        """Agree on a new key now, or join what is under way; `EstablishOutcome` tells what became of it. With `wait`
        only the other end begins, and this one is in no haste to dial. `without_continuity`: it need not be the peer
        that was confirmed; one such key may be taken until the outcome, and takes the confirmation with it.
        """
        self.agreement.is_wanted = True
        self.agreement.is_asked |= not wait
        if not self.links.session_line and not self._upkeep.may_dial:
            return self.agreement.fail_outcome("it is not connected, and not to be dialled")
        if self.links.session_line and self.links.lacks_way:
            return self.agreement.fail_outcome(ONE_WAY)
        self.trust.allows_one |= without_continuity
        if not wait:
            self.links.redial.reset()
            self.agreement.retry.reset()
        self._out.look_due = True
        return self._settle(now)

    def abandon_establish(self, *, but_others_wait: bool = False) -> None:
        """Take note that nobody waits for the outcome any more; or that others do, none of whom allows a key without
        continuity."""
        self.trust.allows_one = False
        if not but_others_wait:
            self.agreement.is_wanted = self.agreement.is_asked = False

    def confirm(self, string: str, by: str, now: float) -> str:
        """Take it from a person, `by` name, that the other end shows this string; the empty one, that it shows another.
        Return why the peer is not confirmed by that, or nothing. Raises `UnreadableError` where it is no string."""
        why = self.session.compare(string)
        if not why:
            self.trust.confirm(Confirmation.STRING, by, now)
        elif why is DIFFER:
            self.trust.differ(by, now)
        self.session.keep_now()
        self._settle(now)
        return why

    def export(self, now: float, *, rotate: bool = False) -> None:
        """Hold a generation of the keys for other programs in common with the peer, or with `rotate` the next one;
        `GenerationAgreed` tells of each."""
        generations = self.session.generations
        before = generations.kept
        generations.want()
        if rotate:
            generations.rotate()
        self.session.say_generation(changed=generations.kept is not before)
        self._out.look_due |= self.links.session_line is None
        self._settle(now)

    # --- the adapter and the links

    def adapter_up(self, own: str, establish: EstablishConfig, now: float, *, link_follows: bool = False) -> None:
        """Take note that the adapter works, under this device address. `link_follows`: `link_up` is the next input, and
        nothing is dialled before it."""
        self.links.adapter_up(own, now)
        self.agreement.adapter_up(establish)
        self.links.redial.reset()
        if not link_follows:
            self._look_soon(now)

    def adapter_gone(self, now: float) -> None:
        """Hang up all links: there is no adapter."""
        self.agreement.adapter_gone(now)
        self.links.adapter_gone(now)
        self._look_soon(now)

    def sighted(self, now: float) -> None:
        """Dial now: the peer was heard near, or may be."""
        if not self.links.session_line:
            self.links.redial.reset()
            self._look_soon(now)

    def link_up(self, number: int, bearer: str, facts: LinkFacts, now: float) -> None:
        """Take a link that is open, to be named by this number; one that was dialled answers a `Dial`."""
        line, dialled = ActiveLink(number, bearer, facts, now), facts.dialled
        used = self.links.up(line, dialler_wins=self.links.own is not None and self.agreement.is_lower)
        if used and bearer == self.config.session_bearer:
            self._upkeep.begin_together(now)
            self.counts.links += 1
        if dialled and bearer != self.config.session_bearer:
            self.agreement.dial_over(now)
        self._look_soon(now)

    def dial_failed(self, bearer: str, why: str, now: float) -> None:
        """Take note that what `Dial` asked for can't be had."""
        if bearer != self.config.session_bearer:
            self.agreement.dial_over(now, why)
        else:
            self.links.dial_failed(why, now, self.agreement.jitter())
            if not self.links.session_line:
                self.agreement.fail_outcome(why)
        self._look_soon(now)

    def link_down(self, number: int, why: str, now: float) -> None:
        """Take note that a link has ended."""
        line = self.links.down(number, why, now, self.agreement.jitter())
        if line is None:
            return
        self.agreement.link_lost(line.bearer, why, now)
        if not self.links.session_line and not self._upkeep.may_dial:
            self.agreement.fail_outcome(why)
        self._look_soon(now)

    def send_failed(self, why: str) -> None:
        """Take note that a datagram did not fit the link."""
        self.links.say(f"{why}: choose the bearer again for which this message was cut")

    def burst_sent(self, now: float, trouble: str = "") -> None:
        """Take note that the packet of the last `SendBurst` is sent, or could not be."""
        self.agreement.burst_sent(now, trouble)
        self._settle(now)

    def join_burst(self, leg: BurstLeg, now: float) -> None:
        """Take a leg of the burst that `GatherBurst` asked for; it is not begun yet."""
        self.agreement.join_burst(leg, now)
        self._settle(now)

    # --- the radio

    def radio_granted(self, now: float) -> None:
        """Use the broadcast link, until `ReleaseRadio`."""
        self.agreement.burst.radio_granted(now)
        self._settle(now)

    def radio_refused(self, why: str, now: float) -> None:
        """Take note that there is no broadcast link to be had."""
        self.agreement.radio_refused(why, now)
        self._settle(now)

    def radio_lost(self, now: float) -> None:
        """Take note that the broadcast link has ended by itself."""
        self.agreement.burst.radio_lost(now)
        self._settle(now)

    # --- the disk

    def persisted(self, token: int, now: float) -> None:
        """Take note that what was noted up to the `Commit` with this token is on disk."""
        self._persisted = max(self._persisted, token)
        self.session.persisted(token)
        self._settle(now)

    def refused(self, now: float) -> None:
        """Take note that the disk takes nothing, from now until `disk_works`."""
        self._disk_works = False
        self.session.refused(now)
        self._settle(now)

    def disk_works(self, now: float) -> None:
        """Take note that the disk takes what is given to it, again."""
        self._disk_works = True
        self.session.generations.say_again()  # it may be among what the disk has refused
        self.session.say_generation()
        self._look_soon(now)

    # --- a turn -------------------------------------------------------------------------------------------------------

    def _look_soon(self, now: float) -> None:
        self._out.look_due = True
        self._settle(now)

    def _settle(self, now: float) -> None:
        """Take events, feed the session, look, until nothing moves; then send, unless the disk is first."""
        out = self._out
        while True:
            if self._take_events(now) or (self._disk_works and self.session.feed(now)):
                continue
            if out.look_due:
                out.look_due = False
                self._upkeep.look(now, disk_works=self._disk_works)
            elif (out.urgency or Urgency.LATER) > Urgency.LATER or not self._take_frames(now):
                break
        self.agreement.mind_the_radio(now)
        out.end_turn()

    def _endpoints(self) -> list[Endpoint[Event]]:
        session = self.session.session if self.links.session_line else None
        every = (self.agreement.responder, self.agreement.initiator, session)
        return [endpoint for endpoint in every if endpoint is not None]

    def _take_events(self, now: float) -> bool:
        """Those of the session last: the key that the others tell of is noted before; whether there was any."""
        any_event = False
        for endpoint in (self.agreement.responder, self.agreement.initiator):
            while endpoint is not None and (event := endpoint.next_event()) is not None:
                any_event = True
                if isinstance(event, Established):
                    self._take_key(event, endpoint, now)
                else:
                    self.agreement.on_event(event, endpoint, now)
        while self.session.session and (event := self.session.session.next_event()) is not None:
            any_event = True
            if isinstance(event, ReestablishNeeded):
                self.agreement.hint(event.reason)
                continue
            self.session.on_event(event, now)
            if isinstance(event, Resynchronised) and self.session.is_agreed:
                self.agreement.forget_hint()  # the key that there is works
                if self.trust.in_step():
                    self.session.keep_now()
        return any_event

    def _take_key(self, event: Established, endpoint: Endpoint[Event], now: float) -> None:
        hardened = self.agreement.config.hardened
        if hardened and not self.trust.admits(event):
            return self.agreement.dropped(endpoint, now)
        if hardened:
            self.trust.took(event, now, replaces=self.session.session is not None)
        role = Role.INITIATOR if self.agreement.is_lower else Role.RESPONDER
        facts = self.agreement.succeeded(event, endpoint, now)
        self.session.take_key(event, facts, role, self.agreement.config.profile, now)
        self.heard = Heard.of(event.session, event.received, event.tokens)
        self._keyed_by = self._out.commit(Urgency.SYNC)
        self._upkeep.begin_together(now)
        self._copies_left = COPIES
        self._out.look_due = True
        return None

    def _take_frames(self, now: float) -> bool:
        """Whether there was any."""
        any_frame = False
        for endpoint in (self.agreement.responder, self.agreement.initiator):
            if endpoint is not None and self._keyed_by <= self._persisted:
                for data in endpoint.frames_to_send(now):
                    any_frame = True
                    self.agreement.send(data, now)
        line, session = self.links.session_line, self.session.session
        if line and session:
            for data in session.frames_to_send(now):
                any_frame = True
                self.session.count(data)
                self._out.send(line.number, data)
        return any_frame

    # --- what is told about it ----------------------------------------------------------------------------------------

    @property
    def disk_is_well(self) -> bool:
        """Return whether what is noted can be kept."""
        return self._disk_works

    @property
    def is_busy(self) -> bool:
        """Return whether something waits, or is under way."""
        return bool(self.session.waiting or self.agreement.is_under_way)

    def shares_key(self, data: bytes) -> bool:
        """Return whether this frame was made with a key that this peer has, by whomever it came."""
        return self.session.session is not None and self.session.session.shares_key(data)
