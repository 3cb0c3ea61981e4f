"""One peer: drives its session and its establishments over the links to it, and keeps what must last.

All that happens goes through `_pump`: first the events, whose effects are noted and committed, then the frames that the
core lets go. Three things set it going: a datagram, a deadline, a message to send.

On a link travels everything, told apart by each frame's first octet. Where the establishment has a bearer of its own
its frames go there; on `le_advert` only the burst does, as advertisements, and the rest on the session's link.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import json
import logging
import random
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, Protocol

from bt_selfsecure.bearers.base import BearerError, Link, LinkClosedError
from bt_selfsecure.core.endpoint import Endpoint
from bt_selfsecure.core.establish import EstablishConfig
from bt_selfsecure.core.events import (
    ActiveAttack,
    BurstSent,
    Established,
    EstablishFailed,
    Event,
    FrameRejected,
    MessageDelivered,
    MessageReceived,
    Persist,
    ReestablishNeeded,
    RequestRefused,
    Resynchronised,
    Unreachable,
)
from bt_selfsecure.core.frames import Kind
from bt_selfsecure.core.initiator import Initiator
from bt_selfsecure.core.recovery import RecordError, Role, SessionConfig, SessionRecord
from bt_selfsecure.core.responder import Responder, ResponderState
from bt_selfsecure.core.session import Session
from bt_selfsecure.errors import LocalError
from bt_selfsecure.node.config import address_bytes
from bt_selfsecure.node.errors import QueueFullError
from bt_selfsecure.node.journal import Journal, JournalError, PeerRow
from bt_selfsecure.node.messages import Joiner, parse, split

log = logging.getLogger(__name__)

QUEUE_BYTES: Final = 16 << 20
"""Of one peer's outbox, besides the number of messages."""
FIRST_RETRY: Final = 1.0
LAST_RETRY: Final = 60.0
"""Seconds of the back-off between two dials or two establishments; each wait is drawn between half of it and all."""
STEADY: Final = 30.0
"""A link that lasted so many seconds ends the back-off."""
GRACE: Final = 10.0
"""Seconds that the end which does not dial leaves the first request to the other."""
DEAF: Final = 30.0
"""An unreachable peer that was not heard for so many seconds has a link that is dead: it is dialled anew."""
DISK_RETRY: Final = 2.0
HOUR: Final = 3600.0
_BURST_KINDS: Final = frozenset((Kind.RAND, Kind.RAND_COMPACT))
_FOR_INITIATOR: Final = frozenset((Kind.ACCEPT, Kind.RESPONSE, Kind.END))
_SESSION: Final = 8
"""Bit of a kind that belongs to a session: the paper's Phase."""


class PeerState(enum.Enum):
    """In the words of status."""

    NO_LINK = "not connected"
    NO_KEY = "connected, no key"
    ESTABLISHING = "establishing"
    SYNCHRONISING = "synchronising"
    CONNECTED = "connected"
    UNREACHABLE = "unreachable"
    DISK = "waiting for the disk"


class Surroundings(Protocol):
    """What a peer needs of its node."""

    journal: Journal
    session_config: SessionConfig
    fragment_bytes: int
    """Of one round's message."""
    queue_messages: int
    renew_hours: float
    renew_messages: int
    establish_bearer: str
    session_bearer: str

    def establish_config(self, address: str) -> EstablishConfig: ...
    async def connect(self, bearer: str, address: str) -> Link: ...
    async def take_radio(self, address: str) -> Link:
        """The broadcast link for a burst; other advertising and scanning of ours pauses until `free_radio`."""

    async def free_radio(self, link: Link) -> None: ...
    def receive(self, address: str, port: int, message: bytes) -> None:
        """A whole message; noted in the journal, not yet committed."""

    def inbox_has_room(self, address: str) -> bool: ...
    def commit_later(self) -> None:
        """Within a second or so."""

    def rests_on(self, losses_visible: bool) -> str:
        """A sentence: on what a key's secrecy rests."""


class Peer:
    """Runs in `run` from start to cancellation; `attach` gives it the links that the peer has dialled."""

    def __init__(self, node: Surroundings, name: str, address: str, own_address: str, dial: str) -> None:
        """`dial` is "auto", "always" or "never"."""
        self.name, self.address = name, address
        self.dials = dial == "always" or (dial == "auto" and address_bytes(own_address) < address_bytes(address))
        """Whether this end opens the link as soon as there is none, and asks for the first key."""
        self._may_dial = dial != "never"
        self.trouble = ""
        """The last thing that went wrong, for status; empty after a success."""
        self.links: dict[str, Link] = {}
        self.link_since = 0.0
        """Wall clock, for status."""
        self._node = node
        self._role = Role.INITIATOR if address_bytes(own_address) < address_bytes(address) else Role.RESPONDER
        self._clock: Callable[[], float] = asyncio.get_running_loop().time
        self._readers: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._wake = asyncio.Event()
        self._fault: Exception | None = None
        """Of a reader: a bug, which `run` raises."""
        self._pumping = asyncio.Lock()
        self._again = False
        self._alarm: asyncio.TimerHandle | None = None
        self._session: Session | None = None
        self._initiator: Initiator | None = None
        self._responder: Responder | None = None
        self._outcomes: list[asyncio.Future[Established | EstablishFailed]] = []
        self._wanted = False
        """Somebody asked for a new key."""
        self._hinted = False
        """The session asked for one: a hint, followed once for each key."""
        self._next_establishment = 0.0
        self._establish_wait = FIRST_RETRY
        self._dial_wait = FIRST_RETRY
        self._next_dial = 0.0
        self._linked_at = 0.0
        self._heard_at = 0.0
        self._unreachable = False
        self._burst: deque[bytes] = deque()
        self._burst_sent = 0
        self._radio: Link | None = None
        self._unpersisted: list[int] = []
        self._facts: dict[str, Any] = {}
        self._synchronised = False
        self._next_seq = 0
        self._in_session: dict[int, int] = {}
        self._waiting: dict[int, list[asyncio.Future[None]]] = {}
        self._outbox: deque[tuple[int, bytes]] = deque(node.journal.outbox(address))
        self._outbox_bytes = sum(len(fragment) for _, fragment in self._outbox)
        self._joiner = Joiner(node.journal.partial(address))
        self._restore()

    # --- what others ask of it ----------------------------------------------------------------------------------------

    @property
    def identity(self) -> bytes:
        return address_bytes(self.address)

    @property
    def is_idle(self) -> bool:
        """Nothing would be lost if it were forgotten."""
        return self._session is None and not self.links and not self._outbox and self._initiator is None

    async def send(self, message: bytes, port: int) -> tuple[int, asyncio.Future[None]]:
        """Queue a message durably: its number, and a future for its delivery. Raises `MessageTooLongError`,
        `QueueFullError`, `JournalError`."""
        fragments = list(split(message, port, self._node.fragment_bytes))
        waiting = self.outbox_messages
        if waiting >= self._node.queue_messages or self._outbox_bytes + len(message) > QUEUE_BYTES:
            raise QueueFullError(f"{waiting} messages wait for {self.name}: try again when it has some of them")
        number = 0
        for fragment in fragments:
            number = self._node.journal.next_id("outbox")
            self._node.journal.write("INSERT INTO outbox VALUES (?, ?, ?)", number, self.address, fragment)
            self._outbox.append((number, fragment))
            self._outbox_bytes += len(fragment)
        delivered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(number, []).append(delivered)
        self._node.journal.commit()
        self.wake()
        return number, delivered

    async def establish(self) -> Established | EstablishFailed:
        """Agree on a new key now; joins an establishment of ours that is under way."""
        outcome: asyncio.Future[Established | EstablishFailed] = asyncio.get_running_loop().create_future()
        self._outcomes.append(outcome)
        self._wanted = True
        self._next_establishment = self._next_dial = 0.0
        self.wake()
        return await outcome

    def attach(self, slot: str, link: Link) -> None:
        """A link of this bearer is open: the newest is used, an older one closed."""
        old, reader = self.links.pop(slot, None), self._readers.pop(slot, None)
        if reader:
            reader.cancel()
        if old:
            self._start(old.close())
        self.links[slot] = link
        if slot == self._node.session_bearer:
            self._linked_at = self._heard_at = self._clock()
            self.link_since, self._unreachable, self.trouble = time.time(), False, ""
            log.info("%s: linked over %s", self.name, slot)
        self._readers[slot] = asyncio.create_task(self._read(slot, link), name=f"{self.name} {slot}")
        self.wake()

    def sighted(self) -> None:
        """It was heard near: dial now."""
        if self._next_dial and not self.links:
            self._dial_wait, self._next_dial = FIRST_RETRY, 0.0
            self.wake()

    def wake(self) -> None:
        self._wake.set()

    async def drop_links(self) -> None:
        """The adapter is gone, or the node ends."""
        for link in list(self.links.values()):
            await link.close()

    # --- its life -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled; then all is closed."""
        try:
            while True:
                self._wake.clear()
                if self._fault:
                    raise self._fault
                now = self._clock()
                self._hang_up_if_dead(now)
                if self._should_dial(now):
                    await self._dial()
                await self._start_establishment(self._clock())
                for endpoint in self._endpoints():
                    endpoint.handle_timer(self._clock())
                await self._pump()
                await self._wake.wait()
        finally:
            await self._end()

    async def _end(self) -> None:
        if self._alarm:
            self._alarm.cancel()
        for task in (*self._readers.values(), *self._tasks):
            task.cancel()
        await self.drop_links()
        await self._free_radio()
        for outcome in self._outcomes:
            outcome.cancel()

    def _start(self, work: Any) -> None:
        async def quietly() -> None:
            with contextlib.suppress(BearerError):
                await work

        task = asyncio.create_task(quietly(), name=f"{self.name} helper")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- links

    def _should_dial(self, now: float) -> bool:
        wanted = self.dials or (self._may_dial and (self._wanted or bool(self._outbox)))
        return wanted and self._node.session_bearer not in self.links and now >= self._next_dial

    async def _dial(self) -> None:
        bearer = self._node.session_bearer
        try:
            link = await self._node.connect(bearer, self.address)
        except BearerError as error:
            self._note_trouble(str(error))
            self._next_dial = self._clock() + self._dial_wait * random.uniform(0.5, 1.0)
            self._dial_wait = min(2 * self._dial_wait, LAST_RETRY)
            self._fail_outcomes(str(error))
        else:
            self.attach(bearer, link)

    def _hang_up_if_dead(self, now: float) -> None:
        link = self.links.get(self._node.session_bearer)
        if link and self._unreachable and now - self._heard_at > DEAF:
            log.warning("%s: nothing heard for %d s, the link is given up", self.name, DEAF)
            self._start(link.close())

    async def _read(self, slot: str, link: Link) -> None:
        try:
            while True:
                self._deliver(await link.receive())
                await self._pump()
        except LinkClosedError as error:
            if self.links.get(slot) is link:
                del self.links[slot], self._readers[slot]
                self._on_unlinked(slot, str(error))
        except Exception as error:
            self._fault = error
            self.wake()
        finally:
            await link.close()

    def _on_unlinked(self, slot: str, why: str) -> None:
        if slot == self._node.session_bearer:
            log.info("%s: %s", self.name, why)
            self._note_trouble(why)
            if self._clock() - self._linked_at > STEADY:
                self._dial_wait = FIRST_RETRY
            self._next_dial = self._clock() + self._dial_wait * random.uniform(0.5, 1.0)
            self._dial_wait = min(2 * self._dial_wait, LAST_RETRY)
        self.wake()

    def _note_trouble(self, text: str) -> None:
        if text != self.trouble:
            log.info("%s: %s", self.name, text)
        self.trouble = text

    # --- in

    def _deliver(self, data: bytes) -> None:
        """A datagram from the peer, or in a burst from anybody near who has its address."""
        now = self._heard_at = self._clock()
        if self._node.journal.trouble:
            return  # what can't be kept must not be acknowledged; the peer repeats it
        kind = data[0] & 15
        if kind & _SESSION:
            if self._session is None:
                self._wanted = True  # it has a key that we have lost
                self.wake()
            elif kind != Kind.DATA or self._node.inbox_has_room(self.address):
                self._session.receive_frame(data, now)
        elif kind in _FOR_INITIATOR:
            if self._initiator:
                self._initiator.receive_frame(data, now)
        else:
            self._the_responder().receive_frame(data, now)

    def _the_responder(self) -> Responder:
        if self._responder is None:
            config = self._node.establish_config(self.address)
            admit = config.admit
            config = replace(config, admit=lambda identity: identity == self.identity and admit(identity))
            self._responder = Responder(config, secrets.token_bytes, name=f"{self.name} responder")
        return self._responder

    # --- establishing

    async def _start_establishment(self, now: float) -> None:
        if self._initiator or not self._should_establish(now):
            return
        bearer = self._node.establish_bearer
        if bearer not in (self._node.session_bearer, "le_advert") and bearer not in self.links:
            try:
                self.attach(bearer, await self._node.connect(bearer, self.address))
            except BearerError as error:
                self._on_establish_failed(str(error))
                return
        log.info("%s: establishing a key over %s", self.name, bearer)
        self._burst_sent = 0
        self._initiator = Initiator(
            self._node.establish_config(self.address), secrets.token_bytes, name=f"{self.name} initiator"
        )
        self._initiator.start(now)

    def _should_establish(self, now: float) -> bool:
        linked = self._node.session_bearer in self.links
        if not linked or now < self._next_establishment or self._node.journal.trouble or self._responds:
            return False
        if self._wanted or self._hinted:
            return True
        if self._session is None:
            return self.dials or now - self._linked_at > GRACE
        return self.dials and self._is_due()

    @property
    def _responds(self) -> bool:
        idle = (ResponderState.IDLE, ResponderState.ESTABLISHED)
        return self._responder is not None and self._responder.state not in idle

    def _is_due(self) -> bool:
        """Whether the key is as old, or as much used, as the configuration allows. A clock that jumps costs at most one
        renewal: the new key has the new time."""
        if self._session is None or not self._facts:
            return False
        hours, messages = self._node.renew_hours, self._node.renew_messages
        record = self._session.record
        used = record.sending.chain.seq + record.receiving.chain.seq - self._facts.get("begun_at", 0)
        return bool((hours and time.time() - self._facts["since"] > hours * HOUR) or (messages and used > messages))

    def _on_established(self, event: Established, now: float) -> None:
        losses_visible = self._burst_shows_losses
        if self._session is None:
            config = self._node.session_config
            profile = self._node.establish_config(self.address).profile
            self._session = Session.start(profile, self._role, event.k0, config, secrets.token_bytes, name=self.name)
        record = self._session.record
        self._facts = {
            "fingerprint": event.fingerprint,
            "secret_bits": event.secret_bits,
            "target_bits": event.target_bits,
            "sent": event.sent,
            "received": len(event.received),
            "sas": str(event.sas),
            "authenticated": event.authenticated,
            "hybrid": event.hybrid,
            "bearer": self._node.establish_bearer,
            "rests_on": self._node.rests_on(losses_visible),
            "since": time.time(),
            "begun_at": record.sending.chain.seq + record.receiving.chain.seq,
        }
        # Always through a resynchronisation, also of a session that is new here: the peer's may not be.
        self._session.rekey(event.k0, now)
        self._initiator = None
        self._wanted = self._hinted = False
        self._establish_wait, self._next_establishment = FIRST_RETRY, 0.0
        self.trouble = ""
        log.info("%s: key %s, %.0f secret bits", self.name, event.fingerprint, event.secret_bits)
        for outcome in self._outcomes:
            if not outcome.done():
                outcome.set_result(event)
        self._outcomes.clear()
        self.wake()

    @property
    def _burst_shows_losses(self) -> bool:
        bearer = self._node.establish_bearer
        link = self.links.get(bearer) or self.links.get(self._node.session_bearer)
        return bearer == "le_advert" or (link is not None and link.traits.losses_visible)

    def _on_establish_failed(self, reason: str) -> None:
        self._initiator = None
        self._burst.clear()
        self._wanted = self._hinted = False
        self._note_trouble(f"no key: {reason}")
        self._next_establishment = self._clock() + self._establish_wait * random.uniform(0.5, 1.0)
        self._establish_wait = min(2 * self._establish_wait, LAST_RETRY)
        self._fail_outcomes(reason)
        self.wake()

    def _fail_outcomes(self, reason: str) -> None:
        from bt_selfsecure.core.events import Failure

        self._wanted = False
        for outcome in self._outcomes:
            if not outcome.done():
                outcome.set_result(EstablishFailed(Failure.CLOSED, detail=reason))
        self._outcomes.clear()

    # --- the pump

    async def _pump(self) -> None:
        """Events, disk, frames, until there is nothing more to do; one at a time."""
        if self._pumping.locked():
            self._again = True
            return
        async with self._pumping:
            self._again = True
            while self._again:
                self._again = False
                self._commit_again()
                self._feed()
                self._take_events()
                await self._send_frames()
        await self._mind_the_radio()
        self._set_alarm()

    def _endpoints(self) -> list[Endpoint]:
        linked = self._node.session_bearer in self.links
        every = (self._responder, self._initiator, self._session if linked else None)
        return [endpoint for endpoint in every if endpoint is not None]

    def _feed(self) -> None:
        """Give the session the next fragment, if it takes one now."""
        if self._outbox and self._session and self._session.can_send and not self._node.journal.trouble:
            number, fragment = self._outbox.popleft()
            self._outbox_bytes -= len(fragment)
            self._node.journal.write("DELETE FROM outbox WHERE id = ?", number)
            seq = self._session.send(fragment, self._clock())
            self._in_session[seq] = number
            self._next_seq = seq + 1

    def _take_events(self) -> None:
        for endpoint in (self._responder, self._initiator, self._session):
            while endpoint is not None and (event := endpoint.next_event()) is not None:
                self._again = True
                self._on_event(event)

    def _on_event(self, event: Event) -> None:
        match event:
            case MessageReceived():
                self._on_received(event)
            case MessageDelivered():
                self._unreachable = False
                self._on_delivered(self._in_session.pop(event.seq, 0))
            case Persist():
                self._persist(event)
            case Resynchronised():
                self._on_resynchronised(event)
            case Established():
                self._on_established(event, self._clock())
            case EstablishFailed() if self._initiator is not None and not self._responds:
                self._on_establish_failed(f"{event.reason.value}{': ' if event.detail else ''}{event.detail}")
            case EstablishFailed():
                log.info("%s: its establishment failed: %s", self.name, event.reason.value)
            case Unreachable():
                self._unreachable = True
                self._note_trouble("it does not answer; messages wait")
            case ReestablishNeeded():
                log.warning("%s: %s", self.name, event.reason)
                self._hinted = True
            case ActiveAttack():
                log.warning("%s: contradicting burst packets: an active attack", self.name)
                self.trouble = "contradicting burst packets: an active attack"
            case RequestRefused():
                log.info("%s: its request is refused: %s", self.name, event.reason.value)
            case BurstSent():
                self._burst_sent = event.sent
            case FrameRejected():
                log.debug("%s: %s %s", self.name, event.reason.value, event.detail)
            case _:
                log.debug("%s: %s", self.name, event)

    def _on_received(self, event: MessageReceived) -> None:
        fragment = parse(event.message)
        if fragment is None:
            return
        journal, before = self._node.journal, bool(self._joiner.pieces)
        message = self._joiner.add(fragment)
        if before and (message is not None or fragment.first):
            journal.write("DELETE FROM partial WHERE peer = ?", self.address)
        if message is not None:
            self._node.receive(self.address, fragment.port, message)
        elif self._joiner.pieces:
            number = journal.next_id("partial")
            journal.write("INSERT INTO partial VALUES (?, ?, ?)", number, self.address, fragment.piece)

    def _on_delivered(self, number: int) -> None:
        for delivered in self._waiting.pop(number, []):
            if not delivered.done():
                delivered.set_result(None)

    def _on_resynchronised(self, event: Resynchronised) -> None:
        log.info("%s: resynchronised, %s from round %d", self.name, "out" if event.sending else "in", event.seq)
        self._unreachable = False
        if not event.sending:
            return
        # Rounds that the peer has and we do not know of were sent before a crash that their traces did not survive:
        # the oldest of what we took for waiting. Nothing was sent before the two ends had first agreed.
        unknown = event.seq - self._next_seq if self._synchronised else 0
        for _ in range(min(unknown, len(self._outbox))):
            number, fragment = self._outbox.popleft()
            self._outbox_bytes -= len(fragment)
            self._node.journal.write("DELETE FROM outbox WHERE id = ?", number)
            self._on_delivered(number)
        self._synchronised = True
        self._next_seq = max(event.seq, self._next_seq) if unknown < 0 else event.seq

    # --- the disk

    def _restore(self) -> None:
        row = self._node.journal.peer(self.address)
        if row is None:
            return
        try:
            record = SessionRecord.from_json(row.record)
        except RecordError as error:
            log.error("%s: %s", self.name, error)
            return
        self._facts, self._synchronised = json.loads(row.facts), row.synchronised
        self._next_seq = record.sending.chain.seq + len(record.sending.messages)
        config = self._node.session_config
        self._session = Session.restore(record, config, secrets.token_bytes, self._clock(), name=self.name)

    def _persist(self, event: Persist) -> None:
        record, facts, synchronised = event.record, self._facts, self._synchronised
        self._node.journal.keep(self.address, lambda: PeerRow(record.to_json(), json.dumps(facts), synchronised))
        if not event.sync:
            self._node.commit_later()
            return
        self._unpersisted.append(event.token)
        self._commit()

    def _commit_again(self) -> None:
        if self._unpersisted or self._node.journal.trouble:
            self._commit()

    def _commit(self) -> None:
        try:
            self._node.journal.commit(sync=True)
        except JournalError as error:
            self._note_trouble(str(error))
            return
        for token in self._unpersisted:
            if self._session:
                self._session.persisted(token)
        self._unpersisted.clear()

    # --- out

    async def _send_frames(self) -> None:
        now = self._clock()
        for endpoint in self._endpoints():
            for data in endpoint.frames_to_send(now):
                self._again = True
                kind = data[0] & 15
                if kind in _BURST_KINDS:
                    self._queue_burst(data)
                elif kind != Kind.ACCEPT or await self._is_ready_for_burst():
                    await self._send(data, establishing=endpoint is not self._session)

    async def _send(self, data: bytes, *, establishing: bool) -> None:
        own = self._node.establish_bearer
        link = (establishing and self.links.get(own)) or self.links.get(self._node.session_bearer)
        if link:
            try:
                await link.send(data)
            except LinkClosedError:
                pass  # the reader tells of it; what matters is repeated
            except LocalError as error:
                self._note_trouble(f"{error}: choose the bearer again that this message was cut for")

    def _queue_burst(self, data: bytes) -> None:
        """In a task of its own: a burst waits for the radio, and nothing else may wait for it."""
        self._burst.append(data)
        if len(self._burst) == 1:
            self._start(self._send_burst())

    async def _send_burst(self) -> None:
        while self._burst:
            if self._node.establish_bearer == "le_advert":
                if await self._take_radio() and self._radio:
                    await self._radio.send(self._burst[0])
            else:
                await self._send(self._burst[0], establishing=True)
            if self._burst:
                self._burst.popleft()

    # --- the radio, where the burst is advertised

    async def _is_ready_for_burst(self) -> bool:
        """Whoever accepts a burst must be listening when it begins."""
        return self._node.establish_bearer != "le_advert" or await self._take_radio()

    async def _take_radio(self) -> bool:
        if self._radio is None:
            try:
                self._radio = await self._node.take_radio(self.address)
            except BearerError as error:
                self._note_trouble(str(error))
                return False
            self._readers["burst"] = asyncio.create_task(self._read_burst(self._radio), name=f"{self.name} burst")
        return True

    async def _read_burst(self, radio: Link) -> None:
        with contextlib.suppress(LinkClosedError):
            while True:
                self._deliver(await radio.receive())
                await self._pump()
        if self._radio is radio:
            self._radio = None

    async def _mind_the_radio(self) -> None:
        """Give it back when no burst is sent or awaited."""
        if self._radio and self._initiator is None and not self._responds and not self._burst:
            await self._free_radio()

    async def _free_radio(self) -> None:
        radio, self._radio = self._radio, None
        reader = self._readers.pop("burst", None)
        if reader and reader is not asyncio.current_task():
            reader.cancel()
        if radio:
            await self._node.free_radio(radio)

    # --- time

    def _set_alarm(self) -> None:
        """Call `run` at the next deadline; an alarm that is early enough stays."""
        now = self._clock()
        deadlines = [deadline for endpoint in self._endpoints() if (deadline := endpoint.get_timer()) is not None]
        linked = self._node.session_bearer in self.links
        if not linked and (self.dials or (self._may_dial and (self._wanted or self._outbox))):
            deadlines.append(self._next_dial)
        if linked and self._initiator is None:
            deadlines.append(self._next_establishment if self._next_establishment > now else now + GRACE)
        if self._node.journal.trouble:
            deadlines.append(now + DISK_RETRY)
        if not deadlines:
            return
        at = max(min(deadlines), now)
        if self._alarm is None or self._alarm.cancelled() or at < self._alarm.when() or self._alarm.when() <= now:
            if self._alarm:
                self._alarm.cancel()
            self._alarm = asyncio.get_running_loop().call_at(at, self.wake)

    # --- what is told about it ----------------------------------------------------------------------------------------

    @property
    def outbox_messages(self) -> int:
        """Whole messages that wait."""
        return sum(1 for _, fragment in self._outbox if not fragment[0] & 1)

    @property
    def state(self) -> PeerState:
        if self._node.journal.trouble:
            return PeerState.DISK
        if self._initiator or self._responds:
            return PeerState.ESTABLISHING
        if self._node.session_bearer not in self.links:
            return PeerState.NO_LINK
        if self._session is None:
            return PeerState.NO_KEY
        if self._unreachable:
            return PeerState.UNREACHABLE
        return PeerState.CONNECTED if self._is_synchronised else PeerState.SYNCHRONISING

    @property
    def _is_synchronised(self) -> bool:
        return self._session is not None and (self._session.can_send or bool(self._in_session))

    @property
    def last_heard(self) -> float | None:
        """Wall clock of the last datagram, for people."""
        return time.time() - (self._clock() - self._heard_at) if self._heard_at else None

    def status(self) -> dict[str, Any]:
        """As `Peer` in openapi.py, without what only the node knows. No secret."""
        link = self.links.get(self._node.session_bearer)
        rejections: dict[str, int] = {}
        for endpoint in (self._responder, self._initiator, self._session):
            for reason, count in endpoint.rejections.items() if endpoint else ():
                if count:
                    rejections[reason.value] = rejections.get(reason.value, 0) + count
        record = self._session.record if self._session else None
        return {
            "name": self.name,
            "address": self.address,
            "state": self.state.value,
            "trouble": self.trouble,
            "link": None
            if link is None
            else {
                "bearer": self._node.session_bearer,
                "since": self.link_since,
                "losses_visible": link.traits.losses_visible,
                "encrypted": link.traits.link_encrypted,
            },
            "key": {name: value for name, value in self._facts.items() if name != "begun_at"} or None,
            "session": None
            if record is None
            else {
                "profile": record.profile.label,
                "sent": record.sending.chain.seq,
                "received": record.receiving.chain.seq,
                "epoch": record.receiving.epoch,
            },
            "rejections": rejections,
            "progress": self._progress(),
        }

    def _progress(self) -> dict[str, int] | None:
        if self._initiator:
            most = self._initiator.config.max_burst
            return {"sent": self._burst_sent, "of": most}
        if self._responds and self._responder:
            return {"sent": self._responder.received, "of": self._responder.config.max_burst}
        return None
