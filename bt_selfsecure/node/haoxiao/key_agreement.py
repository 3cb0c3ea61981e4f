"""Agreeing on keys with one peer: who asks and when, what carries it, and what people are told. Part of `PeerMachine`.

On a link travels everything, told apart by each frame's first octet. Where the establishment has a bearer of its own
its frames go there, on a link that lasts as long as the establishment; on `le_advert` only the burst does, as
advertisements, and the rest goes on the session's link.

The end that dialled the link asks for the first key and for each that follows by policy. Where both ends ask at once
the request of the lower address stands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from bt_selfsecure.node.haoxiao.burst import Burst
from bt_selfsecure.node.haoxiao.key_facts import key_facts
from bt_selfsecure.node.haoxiao.key_table import KEY_TABLE, RESPONDING, KeyInput, KeyState
from bt_selfsecure.node.haoxiao.key_troubles import KeyTroubles
from bt_selfsecure.node.haoxiao.peer_events import Dial, EstablishOutcome, GatherBurst, Level, Outputs, PeerConfig
from bt_selfsecure.node.haoxiao.peer_links import PeerLinks
from bt_selfsecure.node.haoxiao.shared_burst import PACKETS, BurstLeg, SharedBurst
from bt_selfsecure.node.haoxiao.trust import PeerTrust
from bt_selfsecure.node.metrics import PeerCounters
from bt_selfsecure.protocols.haoxiao.establish import MAX_T_1_S, EstablishConfig
from bt_selfsecure.protocols.haoxiao.events import (
    Established,
    EstablishFailed,
    Event,
    Failure,
    Independence,
)
from bt_selfsecure.protocols.haoxiao.frames import Kind, peek_kind
from bt_selfsecure.protocols.haoxiao.initiator_table import ASKING
from bt_selfsecure.protocols.haoxiao.responder import Responder
from bt_selfsecure.protocols.haoxiao.responder_table import ResponderState
from bt_selfsecure.sansio.back_off import BackOff
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.endpoint import Endpoint
from bt_selfsecure.sansio.events import Rejection
from bt_selfsecure.sansio.trace import Machine

FIRST_REQUEST_S: Final = 10.0
"""Seconds that the end which did not dial leaves the first request to the other."""
SLOWEST_S: Final = 0.1
"""Seconds from one burst packet to the next: a peer that does not come along gets twice as many each time, to this."""
_FOR_INITIATOR: Final = frozenset((Kind.ACCEPT, Kind.RESPONSE, Kind.END))
_TOO_LATE: Final = frozenset((Failure.NO_RESPONSE, Failure.NO_END))
_IDLE: Final = frozenset((ResponderState.IDLE, ResponderState.ESTABLISHED))
S, I = KeyState, KeyInput


class KeyAgreement:
    """Decides when to agree on a key with one peer, and drives both endpoints. `PeerMachine` gives it what comes, and
    tells it every event of its endpoints."""

    def __init__(
        self,
        config: PeerConfig,
        links: PeerLinks,
        counts: PeerCounters,
        out: Outputs,
        context: EndpointContext,
        trust: PeerTrust,
    ) -> None:
        self.initiator: BurstLeg | None = None
        self.responder: Responder | None = None
        self.is_wanted = False
        """Somebody waits for the outcome, and for the string to compare."""
        self.is_asked = False
        """And this end is to begin, not to wait for the other to."""
        self.continuity_keys: Callable[[], tuple[bytes, ...]] = tuple
        """Gives what earlier keys with this peer have left."""
        self.retry: Final = BackOff()
        self.burst: Final = Burst(config, links, out, context.tracer)
        self._config, self._links, self._counts, self._out, self._context = config, links, counts, out, context
        self._trust: Final = trust
        self._machine: Final = Machine(config.name, "key agreement", KEY_TABLE, S.IDLE, context.tracer)
        self._establish: EstablishConfig | None = None
        self._others: list[Independence] = []
        """What the other peers of the burst under way missed of this one's key."""
        self._slower = 1
        """Times the configured interval."""
        self._hinted = False
        self._troubles: Final = KeyTroubles(config, counts, out, trust)
        self._rejections: Counter[Rejection] = Counter()
        """Of initiators that are over."""

    # --- whether

    @property
    def state(self) -> KeyState:
        return self._machine.state

    @property
    def is_under_way(self) -> bool:
        return self._machine.state is not S.IDLE

    @property
    def is_lower(self) -> bool:
        """Return whether this end has the lower address of the two."""
        return self.config.identity < self._config.identity

    @property
    def config(self) -> EstablishConfig:
        """Return the configuration of an establishment under the address of the adapter that works, or did last: a node
        is known by its address."""
        assert self._establish is not None, "there is no link before there was an adapter"
        return self._establish

    def hint(self, why: str) -> None:
        """Note that the two seem to need a new key. Strangers can cause this: it is logged once and followed with
        back-off."""
        if not self._hinted:
            self._out.log(Level.WARNING, why, "key-needed")
            self._hinted = self._out.look_due = True

    def forget_hint(self) -> None:
        """Note that the key that there is works: what was the matter with another one is over."""
        self._hinted, self._troubles.trouble = False, ""

    def consider(self, now: float, *, leads: bool, linked_since: float, has_key: bool, due: bool) -> None:
        """Begin, if it is time. `leads`: this end dialled the link; `due`: the policy wants another key."""
        if self.is_under_way or now < self.retry.until:
            return
        lonely = not has_key and (leads or now - linked_since > FIRST_REQUEST_S)
        if not (self.is_asked or self._hinted or lonely or (due and leads)):
            return
        bearer = self._config.establish_bearer
        if bearer in (self._config.session_bearer, "le_advert") or self._links.get(bearer):
            self._begin(now)
        else:
            self._machine.on(I.DIAL, now)
            self._out.put(Dial(bearer))

    def _begin(self, now: float) -> None:
        bearer = self._config.establish_bearer
        self._out.log(Level.INFO, f"establishing a key over {bearer}", "establishing")
        if bearer == "le_advert":  # everybody near hears the burst: it may be for several
            self._machine.on(I.GATHER, now)
            return self._out.put(GatherBurst())
        context = replace(self._context, name=f"{self._config.name} initiator")
        shared = SharedBurst([self._at_its_pace(now)], context)
        self.join_burst(shared.legs[self._config.identity], now)
        return shared.start(now)

    def burst_config(self, now: float) -> EstablishConfig | None:
        """Return with what this peer takes part in a burst for several; None where it is not to, any more."""
        return self._at_its_pace(now) if self._machine.state is S.GATHERING else None

    def join_burst(self, leg: BurstLeg, now: float) -> None:
        """Take this leg of a burst, which is not begun yet."""
        self._machine.on(I.START, now)
        self.initiator, self._others = leg, []
        leg.has_packets = lambda: self.burst.is_busy

    def _at_its_pace(self, now: float) -> EstablishConfig:
        """As configured, but not faster than the two ends were seen to be. T_1 follows, and goes with the request."""
        config = self._of_now(now)
        longest = min(SLOWEST_S, (MAX_T_1_S - config.timers.t_2) / config.burst)
        interval = max(config.interval, min(self._slower * config.interval, longest))
        return replace(config, interval=interval)

    def _of_now(self, now: float) -> EstablishConfig:
        """Return it with what this end has, asks and lets a person compare now; `paper` always has a string."""
        config, peer = self._links.fitted(self.config), self._config.identity
        if not config.hardened:
            return replace(config, peer=peer, compare=True)
        keys, requires = self.continuity_keys(), self._requires_continuity(now)
        return replace(config, peer=peer, compare=self.is_wanted, continuity_keys=keys, requires_continuity=requires)

    def _requires_continuity(self, now: float) -> bool:
        return self._trust.requires_continuity(now, asked=self.is_wanted)

    # --- the adapter and the bearer of its own

    def adapter_up(self, establish: EstablishConfig) -> None:
        self._establish = establish

    def adapter_gone(self, now: float) -> None:
        """Give up what is under way; another adapter may come."""
        self._end_initiator(now)
        if self._machine.state in RESPONDING:
            self._machine.on(I.OVER, now)
        self.responder = None
        self.burst.reset(now)
        self.fail_outcome("the adapter is gone")

    def dial_over(self, now: float, why: str = "") -> None:
        """Take note that the dial for its own bearer is over; `why` says for what reason it failed, if it did."""
        self._machine.on(I.DIAL_OVER, now)
        if not why and self._links.own is None:
            why = "the adapter is gone"
        if why:
            self.failed(why, now)
        elif self._machine.state is S.IDLE:
            self._begin(now)

    # --- what comes

    def receive(self, data: bytes, now: float) -> None:
        """Take a frame of an establishment, or what is none."""
        self._troubles.hear(data, now)
        kind = peek_kind(data)
        if kind == Kind.REQUEST and self._own_request_stands(now):
            return
        if kind in _FOR_INITIATOR or (kind in PACKETS and self._machine.state not in RESPONDING):
            if self.initiator:
                self.initiator.expect_comparison(self._compares)
                if not self._requires_continuity(now):  # a person may have allowed that since it began
                    self.initiator.waive_continuity()
                self.initiator.receive_frame(data, now)
            else:
                self._rejections[Rejection.NOT_FOR_US] += 1
        else:
            self._the_responder(now, begins=kind == Kind.REQUEST).receive_frame(data, now)
            self.follow_responder(now)

    def _own_request_stands(self, now: float) -> bool:
        """Where both ends ask."""
        if self.initiator and self.initiator.state in ASKING and not self.is_lower:
            self._end_initiator(now)
            self.retry.failed(now, self.jitter())
        return self.initiator is not None

    def _the_responder(self, now: float, *, begins: bool) -> Responder:
        if self.responder is None:
            context = replace(self._context, name=f"{self._config.name} responder")
            self.responder = Responder(self._of_now(now), context)
        elif begins:
            self.responder.config = self._of_now(now)
        self.responder.expect_comparison(self._compares)
        return self.responder

    @property
    def _compares(self) -> bool:
        return self.is_wanted or not self.config.hardened

    def follow_responder(self, now: float) -> None:
        """Follow the responder's state after whatever it was given: there it shows whether this end responds."""
        responds = self.responder is not None and self.responder.state not in _IDLE
        if responds is not (self._machine.state in RESPONDING):
            self._machine.on(I.RESPOND if responds else I.OVER, now)

    # --- what becomes of it

    def on_event(self, event: Event, endpoint: Endpoint[Event], now: float) -> None:
        """Take any event of the endpoints but `Established`."""
        match event:
            case EstablishFailed() if endpoint is self.initiator:
                if event.reason in _TOO_LATE:
                    self._slower *= 2
                self.failed(self._troubles.why(event, now), now)
            case Independence():
                self._others.append(event)
            case _:
                self._troubles.on_event(event, now)

    def succeeded(self, event: Established, endpoint: Endpoint[Event], now: float) -> dict[str, Any]:
        """Take a new key, which both ends hold: return the facts about it, as `Key` in api_peer_types.py has them
        beside its age."""
        others = self._others if endpoint is self.initiator else []
        facts = key_facts(event, self._config, self._links.own or "", self._losses_visible, others)
        self._counts.establishments += 1
        why = f": {self._config.no_radio}" if self._config.no_radio else ""
        self._out.log(
            Level.INFO, f"key {event.fingerprint}, {facts['secret_bits']:.0f} secret bits{why}", "established"
        )
        if endpoint is self.initiator:
            self._end_initiator(now)
        self._hinted = False
        self._troubles.forget()
        self.retry.reset()
        self._tell(EstablishOutcome(facts=facts | {"profile": self.config.profile.label}))
        return facts

    def dropped(self, endpoint: Endpoint[Event], now: float) -> None:
        """The peer was confirmed while a key without continuity was agreed on: it is not used."""
        if endpoint is self.responder:
            self.responder.give_up(now)
        self.failed(self._trust.refused(now), now)

    def failed(self, reason: str, now: float) -> None:
        """Note that what this end began is over without a key; it is tried again later where there is still need."""
        self._end_initiator(now)
        self.retry.failed(now, self.jitter())
        self._counts.failed_establishments += 1
        self._troubles.say(f"no key: {reason}", now, "no-key")
        self.fail_outcome(reason)
        self._out.look_due = True

    def link_lost(self, bearer: str, why: str, now: float) -> None:
        """Note that a link that carried it is gone."""
        if bearer == self._config.establish_bearer or self._links.get(self._config.establish_bearer) is None:
            if self.responder:
                self.responder.give_up(now)
                self.follow_responder(now)
            if self.initiator or self._machine.state is S.GATHERING:
                self.failed(self._troubles.cut_off(why, now), now)

    def fail_outcome(self, reason: str) -> None:
        """Tell whoever waits that there is no key from this."""
        self._tell(EstablishOutcome(reason))

    def jitter(self) -> float:
        """Draw a number from 0 to 1."""
        return int.from_bytes(self._context.random(4)) / (1 << 32)

    def _end_initiator(self, now: float) -> None:
        packets, leg = self.burst.clear(), self.initiator
        if leg:
            self._rejections.update(leg.rejections)
            self.initiator = None
            leg.leave(packets, now)
        if leg or self._machine.state is S.GATHERING:
            self._machine.on(I.OVER, now)
        own = self._links.get(self._config.establish_bearer)
        if own and own.dialled and own.bearer != self._config.session_bearer:
            self._links.hang_up(own)

    def _tell(self, outcome: EstablishOutcome) -> None:
        if self.is_wanted:
            self.is_wanted = self.is_asked = self._trust.allows_one = False
            self._out.put(outcome)

    @property
    def _losses_visible(self) -> bool:
        bearer = self._config.establish_bearer
        line = self._links.get(bearer)
        return bearer == "le_advert" or (line is not None and line.losses_visible)

    # --- what goes

    def send(self, data: bytes, now: float) -> None:
        """Put out a frame of an endpoint of ours."""
        kind = peek_kind(data)
        if kind in PACKETS or kind is Kind.RAND_LIST:
            self.burst.send(data, now)
        elif kind == Kind.ACCEPT:
            self.burst.accept(data, now)
        elif line := self._links.control_line:
            self._out.send(line.number, data)

    def burst_sent(self, now: float, trouble: str) -> None:
        """Take note that the driver has sent a packet of a burst, or could not."""
        if trouble:
            self._troubles.say(trouble, now)
        self.burst.sent(now)

    def radio_refused(self, why: str, now: float) -> None:
        """Take note that there is no broadcast link to be had."""
        self.burst.radio_refused(now)
        self._troubles.say(why, now)

    def mind_the_radio(self, now: float) -> None:
        """Give the broadcast link back when no burst is sent or awaited."""
        self.burst.mind_the_radio(now, needed=self.initiator is not None or self._machine.state in RESPONDING)

    # --- what is told about it

    @property
    def trouble(self) -> str:
        """Return why the last one failed, or what was the matter since; empty after a success."""
        return self._troubles.trouble

    @property
    def rejections(self) -> Counter[Rejection]:
        """Return how many frames changed nothing, by reason."""
        total = Counter(self._rejections)
        for endpoint in (self.initiator, self.responder):
            if endpoint:
                total.update(endpoint.rejections)
        return total
