"""Agreeing on keys with one peer: who asks and when, what carries it, and what people are told of it.

On a link travels everything, told apart by each frame's first octet. Where the establishment has a bearer of its own
its frames go there, on a link that lasts as long as the establishment; on `le_advert` only the burst does, as
advertisements, and the rest goes on the session's link.

The end that dialled the link asks for the first key and for each that follows by policy. Where both ends ask at once
the request of the lower address stands.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final

from bt_selfsecure.bearers.base import BearerError
from bt_selfsecure.errors import BtSelfSecureError
from bt_selfsecure.node import ages
from bt_selfsecure.node.config import address_bytes
from bt_selfsecure.node.haoxiao.burst_radio import BurstRadio
from bt_selfsecure.node.haoxiao.context import NodeContext
from bt_selfsecure.node.links import BackOff, PeerLinks, Start
from bt_selfsecure.node.metrics import Counts
from bt_selfsecure.node.peer_log import PeerLog
from bt_selfsecure.protocols.haoxiao.establish import MAX_T_1_S, EstablishConfig
from bt_selfsecure.protocols.haoxiao.events import (
    ActiveAttack,
    Established,
    EstablishFailed,
    Event,
    Failure,
    RequestRefused,
)
from bt_selfsecure.protocols.haoxiao.frames import Kind, peek_kind
from bt_selfsecure.protocols.haoxiao.initiator import Initiator, InitiatorState
from bt_selfsecure.protocols.haoxiao.responder import Responder, ResponderState
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.endpoint import Endpoint
from bt_selfsecure.sansio.events import FrameRejected, Rejection

log = logging.getLogger(__name__)

GRACE_S: Final = 10.0
"""Seconds that the end which did not dial leaves the first request to the other."""
QUIET_S: Final = 600.0
"""A failure that comes again within so many seconds, and no key between, is not written into the log again."""
BURST_KINDS: Final = frozenset((Kind.RAND, Kind.RAND_COMPACT))
SLOWEST_S: Final = 0.1
"""Seconds from one burst packet to the next: a peer that does not come along gets twice as many each time, to this."""
_FOR_INITIATOR: Final = frozenset((Kind.ACCEPT, Kind.RESPONSE, Kind.END))
_ASKING: Final = frozenset((InitiatorState.REQUESTING, InitiatorState.RESTING))
_TOO_LATE: Final = frozenset((Failure.NO_RESPONSE, Failure.NO_END))
_IDLE: Final = frozenset((ResponderState.IDLE, ResponderState.ESTABLISHED))


class KeyAgreement:
    """Owned by `Peer`, which gives it what comes, sends what it has, and tells it of every event of its endpoints."""

    def __init__(
        self,
        node: NodeContext,
        name: str,
        address: str,
        counts: Counts,
        links: PeerLinks,
        start: Start,
        heard: Callable[[bytes], Awaitable[None]],
        wake: Callable[[], None],
    ) -> None:
        self.trouble = ""
        """Why the last one failed; empty after a success."""
        self.initiator: Initiator | None = None
        self.responder: Responder | None = None
        self.retry: Final = BackOff(asyncio.get_running_loop().time)
        self._node, self._name, self._address, self._links, self._start = node, name, address, links, start
        self._counts, self._log = counts, PeerLog(log, name)
        self._wake = wake
        self._clock = asyncio.get_running_loop().time
        self._slower = 1
        """Times the configured interval."""
        self._hinted = False
        self._said: dict[str, float] = {}
        """What the log was told, and until when it is not told again."""
        self._connecting = self._accepting = False
        self._outcomes: list[asyncio.Future[dict[str, Any]]] = []
        self._burst: deque[bytes] = deque()
        self._bursting = False
        self._radio: Final = BurstRadio(node, address, start, heard, self._say)
        self._rejections: Counter[Rejection] = Counter()
        """Of initiators that are over."""

    # --- whether

    @property
    def is_wanted(self) -> bool:
        """Somebody waits for the outcome."""
        return any(not outcome.done() for outcome in self._outcomes)

    @property
    def is_under_way(self) -> bool:
        return self.initiator is not None or self._connecting or self._responds

    @property
    def _responds(self) -> bool:
        return self.responder is not None and self.responder.state not in _IDLE

    def ask(self) -> asyncio.Future[dict[str, Any]]:
        """Agree on a new key now, or join what is under way; the outcome, as `Establishment` in api_types.py."""
        outcome: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._outcomes = [*(other for other in self._outcomes if not other.done()), outcome]
        self.retry.reset()
        self._wake()
        return outcome

    def hint(self, why: str) -> None:
        """The two seem to need a new key. Strangers can cause this: it is logged once and followed with back-off."""
        if not self._hinted:
            self._log.warning("%s", why, event="key-needed")
            self._hinted = True
            self._wake()

    def forget_hint(self) -> None:
        """The key that there is works."""
        self._hinted = False

    def consider(self, now: float, *, leads: bool, linked_since: float, has_key: bool, due: bool) -> None:
        """Begin, if it is time. `leads`: this end dialled the link; `due`: the policy wants another key."""
        if self.is_under_way or now < self.retry.until:
            return
        lonely = not has_key and (leads or now - linked_since > GRACE_S)
        if self.is_wanted or self._hinted or lonely or (due and leads):
            self._connecting = True
            self._start(self._begin(), "establish")

    async def _begin(self) -> None:
        bearer = self._node.establish_bearer
        try:
            if bearer not in (self._node.session_bearer, "le_advert") and not self._links.get(bearer):
                link = await self._node.connect(bearer, self._address)
                self._links.attach(bearer, link, dialled=True, dialler_wins=self._is_lower)
        except BtSelfSecureError as error:
            self.failed(str(error))
            return
        finally:
            self._connecting = False
        if self._node.own is None:
            self.failed("the adapter is gone")
        elif not self._responds:
            self._log.info("establishing a key over %s", bearer, event="establishing")
            self.initiator = Initiator(
                self._at_its_pace(), EndpointContext(secrets.token_bytes, name=f"{self._name} initiator")
            )
            self.initiator.start(self._clock())
        self._wake()

    def _at_its_pace(self) -> EstablishConfig:
        """As configured, but not faster than the two ends were seen to be. T_1 follows, and goes with the request."""
        config = self._node.establish_config(self._address)
        longest = min(SLOWEST_S, (MAX_T_1_S - config.timers.t_2) / config.burst)
        return replace(config, interval=max(config.interval, min(self._slower * config.interval, longest)))

    @property
    def _is_lower(self) -> bool:
        return self._node.identity < address_bytes(self._address)

    # --- what comes

    def receive(self, data: bytes, now: float) -> None:
        """A frame of an establishment."""
        kind = peek_kind(data)
        if kind == Kind.REQUEST and self._own_request_stands():
            return
        if kind in _FOR_INITIATOR or (kind in BURST_KINDS and not self._responds):
            if self.initiator:
                self.initiator.receive_frame(data, now)
            else:
                self._rejections[Rejection.NOT_FOR_US] += 1
        else:
            self._the_responder().receive_frame(data, now)

    def _own_request_stands(self) -> bool:
        """Where both ends ask."""
        if self.initiator and self.initiator.state in _ASKING and not self._is_lower:
            self._end_initiator()
            self.retry.failed()
        return self.initiator is not None

    def _the_responder(self) -> Responder:
        if self.responder is None:
            config = self._node.establish_config(self._address)
            admit, identity = config.admit, address_bytes(self._address)
            config = replace(config, admit=lambda asking: asking == identity and admit(asking))
            self.responder = Responder(config, EndpointContext(secrets.token_bytes, name=f"{self._name} responder"))
        return self.responder

    # --- what becomes of it

    def on_event(self, event: Event, endpoint: Endpoint[Event]) -> None:
        match event:
            case EstablishFailed() if endpoint is self.initiator:
                if event.reason in _TOO_LATE:
                    self._slower *= 2
                self.failed(event.reason.value + (f": {event.detail}" if event.detail else ""))
            case EstablishFailed():
                self._counts.failed_establishments += 1
                self._say(f"its establishment failed: {event.reason.value}", event="no-key")
            case RequestRefused():
                self._say(f"its request is refused: {event.reason.value}", event="refused")
            case ActiveAttack():
                self._say("contradicting burst packets: an active attack", event="attack")
            case FrameRejected():
                self._log.debug("%s %s", event.reason.value, event.detail, event="rejected")
            case _:
                self._log.debug("%s", event)

    def succeeded(self, event: Established, endpoint: Endpoint[Event]) -> dict[str, Any]:
        """Both ends hold a new key: the facts about it, as `Key` in api_types.py has them beside its age."""
        secret_bits = 0.0 if self._node.no_radio else event.secret_bits
        facts = {
            "fingerprint": event.fingerprint,
            "secret_bits": secret_bits,
            "target_bits": event.target_bits,
            "sent": event.sent,
            "received": len(event.received),
            "sas": str(event.sas),
            "authenticated": event.authenticated,
            "hybrid": event.hybrid,
            "bearer": self._node.establish_bearer,
            "own_address": self._node.own or "",
            "rests_on": self._rests_on(event),
        }
        self._counts.establishments += 1
        why = f": {self._node.no_radio}" if self._node.no_radio else ""
        self._log.info("key %s, %.0f secret bits%s", event.fingerprint, secret_bits, why, event="established")
        if endpoint is self.initiator:
            self._end_initiator()
        self._hinted = False
        self.trouble = ""
        self._said.clear()
        self.retry.reset()
        self._tell({"established": True, "peer": self._name, "reason": ""} | ages.told(0.0) | facts)
        return facts

    def failed(self, reason: str) -> None:
        """What this end began is over without a key; it is tried again later where there is still need."""
        self._end_initiator()
        self.retry.failed()
        self._counts.failed_establishments += 1
        self._say(f"no key: {reason}", event="no-key")
        self._tell({"established": False, "peer": self._name, "reason": reason})
        self._wake()

    def link_lost(self, bearer: str, why: str) -> None:
        """A link that carried it is gone."""
        if bearer == self._control_bearer or bearer == self._node.establish_bearer:
            if self.responder:
                self.responder.close(self._clock())
            if self.initiator:
                self.failed(why)

    def fail_outcomes(self, reason: str) -> None:
        """There is no way to the peer now."""
        self._tell({"established": False, "peer": self._name, "reason": reason})

    def reset(self) -> None:
        """The adapter is gone: nothing is under way, and another one may come."""
        if self.initiator:
            self._end_initiator()
        self.responder = None
        self._radio.release()

    def _end_initiator(self) -> None:
        if self.initiator:
            self._rejections.update(self.initiator.rejections)
            self.initiator = None
        self._burst.clear()
        own = self._links.get(self._node.establish_bearer)
        if own and own.dialled and own.bearer != self._node.session_bearer:
            self._links.hang_up(own.bearer)

    def _tell(self, outcome: dict[str, Any]) -> None:
        for waiting in self._outcomes:
            if not waiting.done():
                waiting.set_result(outcome)
        self._outcomes.clear()

    def _say(self, text: str, **fields: Any) -> None:
        """Strangers can cause any of these, and another one with each frame."""
        now = self._clock()
        self._said = {said: until for said, until in self._said.items() if until > now}
        if text not in self._said:
            self._log.warning("%s", text, **fields)
        self._said[text] = now + QUIET_S
        self.trouble = text

    def _rests_on(self, event: Established) -> str:
        bearer = self._node.establish_bearer
        line = self._links.get(bearer)
        visible = bearer == "le_advert" or (line is not None and line.link.traits.losses_visible)
        return self._node.rests_on(visible, hybrid=event.hybrid, authenticated=event.authenticated)

    # --- what goes

    async def send(self, data: bytes) -> None:
        """A frame of an endpoint of ours. Raises `LocalError` if it fits no link."""
        kind = peek_kind(data)
        if kind in BURST_KINDS:
            self._burst.append(data)
            if not self._bursting:
                self._bursting = True
                self._start(self._send_burst(), "burst")
        elif kind == Kind.ACCEPT and self._node.establish_bearer == "le_advert":
            if not self._accepting:  # else the request is repeated, and the accept with it
                self._accepting = True
                self._start(self._accept(data), "accept")
        else:
            await self._links.send(self._control_bearer, data)

    @property
    def _control_bearer(self) -> str:
        own = self._node.establish_bearer
        return own if self._links.get(own) else self._node.session_bearer

    async def _accept(self, data: bytes) -> None:
        """Whoever accepts a burst is listening when it begins."""
        try:
            if await self._radio.hold():
                await self._links.send(self._control_bearer, data)
        finally:
            self._accepting = False

    async def _send_burst(self) -> None:
        """In a task of its own: a burst waits for the radio, and nothing else may wait for it."""
        try:
            while self._burst:
                data = self._burst.popleft()
                if self._node.establish_bearer == "le_advert":
                    await self._advertise(data)
                else:
                    await self._links.send(self._control_bearer, data)
        finally:
            self._bursting = False

    async def _advertise(self, data: bytes) -> None:
        link = await self._radio.hold()
        if link is None:
            self._burst.clear()
            return
        try:
            await link.send(data)
        except BearerError as error:
            self._say(str(error))

    def mind_the_radio(self) -> None:
        """Give it back when no burst is sent or awaited."""
        if not (self.initiator or self._responds or self._bursting or self._accepting):
            self._radio.release()

    # --- what is told about it

    @property
    def rejections(self) -> Counter[Rejection]:
        """Frames that changed nothing, by reason."""
        total = Counter(self._rejections)
        for endpoint in (self.initiator, self.responder):
            if endpoint:
                total.update(endpoint.rejections)
        return total

    @property
    def progress(self) -> dict[str, int | None] | None:
        """Burst packets that were sent, or heard, and how many must be heard for a key."""
        if self.initiator:
            sent = self.initiator.sent - len(self._burst)
            return {"sent": sent, "heard": None, "needed": self.initiator.config.n_r}
        if self._responds and self.responder:
            return {"sent": None, "heard": self.responder.received, "needed": self.responder.config.n_r}
        return None
