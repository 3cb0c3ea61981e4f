"""One peer: drives its session and its establishments over the links to it.

All that happens goes through `_pump`: first the events, whose effects are noted and committed, then the frames that the
core lets go. Three things set it going: a datagram, a deadline, a message to send. `run` looks at the rest (is there a
link, a key, an answer) whenever it is woken.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Coroutine
from typing import Any, Final

from bt_selfsecure.bearers.base import Link
from bt_selfsecure.errors import BtSelfSecureError, LocalError
from bt_selfsecure.node import ages
from bt_selfsecure.node.config import address_bytes
from bt_selfsecure.node.haoxiao.context import NodeContext
from bt_selfsecure.node.haoxiao.key_agreement import KeyAgreement
from bt_selfsecure.node.haoxiao.peer_session import PeerSession
from bt_selfsecure.node.links import STEADY_S, ActiveLink, BackOff, PeerLinks
from bt_selfsecure.node.metrics import Counts
from bt_selfsecure.node.peer_log import PeerLog
from bt_selfsecure.protocols.haoxiao.events import Established, Event
from bt_selfsecure.protocols.haoxiao.frames import Kind, peek_kind
from bt_selfsecure.sansio.endpoint import Endpoint

log = logging.getLogger(__name__)

LOOK_S: Final = 5.0
"""Seconds between two looks at a peer that is linked, where nothing asks for one sooner."""
LINK_DEAD_S: Final = 30.0
"""An unreachable peer that was not heard for so many seconds has a link that is dead: it is dialled anew."""
LAST_DEAF: Final = 600.0
"""The same where that does not help: doubled each time up to this, for a peer whose inbox is full."""
NO_COMMON_KEY_S: Final = 30.0
"""Two ends that are linked for so many seconds and have not found a common key need a new one."""
COPIES: Final = 8
"""Frames of a peer that are tried with the keys of the others, from one key to the next."""
_NAMES_KEYS: Final = frozenset((Kind.RESYNC_CALL, Kind.RESYNC_REQUEST))


class PeerState(enum.Enum):
    """In the words of status."""

    NO_ADAPTER = "no adapter"
    NO_LINK = "not connected"
    NO_KEY = "connected, no key"
    ESTABLISHING = "establishing"
    SYNCHRONISING = "synchronising"
    CONNECTED = "connected"
    UNREACHABLE = "unreachable"
    DISK = "waiting for the disk"


class Peer:
    """Works in `run`, from start to cancellation; `attach` gives it the links that the peer has dialled.

    What it raises from `run` is a fault of this program: it is then thrown away, `journal.discard` forgets what it had
    noted, and another one begins from the disk, as after a crash.
    """

    def __init__(self, node: NodeContext, name: str, address: str, dial: str) -> None:
        """`dial` is "auto", "always" or "never"."""
        self.name, self.address, self.dial = name, address, dial
        self.counts, self._log = Counts(), PeerLog(log, name)
        self._trouble = ""
        """With the link; empty after a success."""
        self._node = node
        self._clock = asyncio.get_running_loop().time
        self._tasks = asyncio.TaskGroup()
        self._running = False
        self._wake = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None
        self._pumping = asyncio.Lock()
        self._again = False
        self._links = PeerLinks(name, self._start, self._on_data, self._on_unlinked)
        wiring = self._links, self._start, self._on_burst, self.wake
        self._establishing = KeyAgreement(node, name, address, self.counts, *wiring)
        self._session = PeerSession(
            node,
            name,
            address,
            self.counts,
            wake=self.wake,
            hint=self._establishing.hint,
            agreed=self._establishing.forget_hint,
        )
        self._dialling = False
        self._redial = BackOff(self._clock)
        self._heard_at: float | None = None
        self._patience = LINK_DEAD_S
        self._asunder_since = 0.0
        self._copies_left = COPIES

    # --- what others ask of it ----------------------------------------------------------------------------------------

    async def send(self, message: bytes, port: int, *, acknowledged: bool) -> int:
        """Queue a message; its number, when it is on disk, or when the peer has it. Cancelled, it stays queued.

        Raises `MessageTooLongError`, `QueueFullError`, `JournalError`.
        """
        return await self._session.send(message, port, acknowledged=acknowledged)

    async def establish(self) -> dict[str, Any]:
        """Agree on a new key now: the outcome, as `Establishment` in api_types.py."""
        if not self._line and (self._node.own is None or self.dial == "never"):
            return {"established": False, "peer": self.name, "reason": "it is not connected, and not to be dialled"}
        self._redial.reset()
        return await self._establishing.ask()

    def attach(self, bearer: str, link: Link, *, dialled: bool = False) -> bool:
        """A link of this bearer is open; False if nobody is here to use it."""
        if not self._running:
            return False
        lower = self._node.identity < address_bytes(self.address)
        used = self._links.attach(bearer, link, dialled=dialled, dialler_wins=lower)
        if used and bearer == self._node.session_bearer:
            self._heard_at = self._asunder_since = self._clock()
            self._trouble = ""
            self.counts.links += 1
            self._log.info("linked over %s", bearer, event="linked")
        self.wake()
        return True

    def sighted(self) -> None:
        """It was heard near, or may be: dial now."""
        if not self._line:
            self._redial.reset()
            self.wake()

    async def unlink(self) -> None:
        """The adapter is gone."""
        self._establishing.reset()
        await self._links.close()

    def wake(self) -> None:
        self._wake.set()

    def shares_key(self, data: bytes) -> bool:
        """Whether this frame was made with a key that this peer has, by whomever it came."""
        return self._session.session is not None and self._session.session.shares_key(data)

    def is_idle(self, seconds: float) -> bool:
        """No link, nothing to send, nothing under way, and not heard for so long."""
        heard = self._heard_at is not None and self._clock() - self._heard_at < seconds
        return not (self._links or self._session.outbox or self._establishing.is_under_way or heard)

    # --- its life -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled; then all its links are closed."""
        try:
            async with self._tasks:
                self._running = True
                while True:
                    self._wake.clear()
                    now = self._clock()
                    self._look(now)
                    for endpoint in self._endpoints():
                        endpoint.handle_timer(now)
                    await self._pump()
                    await self._wake.wait()
        finally:
            self._running = False
            if self._alarm:
                self._alarm.cancel()
            self._establishing.fail_outcomes("the node is stopping")
            self._session.stop_waiting()

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        return self._tasks.create_task(work, name=f"{self.name}: {name}")

    def _look(self, now: float) -> None:
        """Is there a link, is it alive, is there a key, is it good?"""
        line = self._line
        if line is None:
            if self._wants_to_dial and not self._dialling and now >= self._redial.until:
                self._dialling = True
                self._start(self._call_peer(), "dial")
            return
        if self._session.answered_at > line.since:
            self._patience = LINK_DEAD_S
        if self._session.is_unreachable and self._heard_at is not None and now - self._heard_at > self._patience:
            self._log.warning("nothing heard for %.0f s, the link is given up", now - self._heard_at, event="deaf")
            self._patience = min(2 * self._patience, LAST_DEAF)
            self._links.hang_up(line.bearer)
        if self._session.is_agreed or self._establishing.is_under_way:
            self._asunder_since = now
        elif self._session.session and now - self._asunder_since > NO_COMMON_KEY_S:
            self._asunder_since = now
            self._establishing.hint("the two ends find no common key")
        if not self._node.journal.trouble:
            self._establishing.consider(
                now,
                leads=line.dialled,
                linked_since=line.since,
                has_key=self._session.session is not None,
                due=self._session.is_due(now),
            )

    @property
    def _line(self) -> ActiveLink | None:
        return self._links.get(self._node.session_bearer)

    # --- links

    @property
    def _wants_to_dial(self) -> bool:
        own = self._node.own
        if own is None or self.dial == "never":
            return False
        if self.dial == "always" or address_bytes(own) < address_bytes(self.address):
            return True
        return bool(self._session.outbox) or self._establishing.is_wanted

    async def _call_peer(self) -> None:
        bearer = self._node.session_bearer
        try:
            link = await self._node.connect(bearer, self.address)
        except BtSelfSecureError as error:
            self._say(str(error))
            self._redial.failed()
            if not self._line:
                self._establishing.fail_outcomes(str(error))
        else:
            self.attach(bearer, link, dialled=True)
        finally:
            self._dialling = False
            self.wake()

    def _on_unlinked(self, line: ActiveLink, why: str) -> None:
        if line.bearer == self._node.session_bearer:
            self._say(why)
            if self._clock() - line.since > STEADY_S:
                self._redial.reset()
            self._redial.failed()
        self._establishing.link_lost(line.bearer, why)
        self.wake()

    def _say(self, text: str) -> None:
        if text != self._trouble:
            self._log.info("%s", text, event="link-trouble")
        self._trouble = text

    # --- in

    async def _on_data(self, data: bytes) -> None:
        """A datagram on a link."""
        now = self._heard_at = self._clock()
        if self._node.journal.trouble:
            return  # what can't be kept must not be acknowledged; the peer repeats it
        kind, session = peek_kind(data), self._session.session
        if kind in _NAMES_KEYS and self._copies_left and not self.shares_key(data):
            self._copies_left -= 1
            self._node.look_for_copies(self.address, data)
        if kind is None or not kind.phase:
            self._establishing.receive(data, now)
        elif session is None:
            if not self._establishing.is_under_way:
                self._establishing.hint("it has a key that this node has not")
        elif kind != Kind.DATA or self._node.inbox_has_room(self.address):
            session.receive_frame(data, now)
        await self._pump()

    async def _on_burst(self, data: bytes) -> None:
        """An advertisement under the peer's address, which anybody can use."""
        if peek_kind(data) is Kind.RAND_COMPACT and not self._node.journal.trouble:
            self._establishing.receive(data, self._clock())
            await self._pump()

    # --- the pump

    async def _pump(self) -> None:
        """Events, disk, frames, until there is nothing more to do; one at a time."""
        self._again = True
        if self._pumping.locked():
            return
        async with self._pumping:
            while self._again:
                self._again = False
                self._session.feed()
                self._take_events()
                await self._send_frames()
        self._establishing.mind_the_radio()
        self._set_alarm()

    def _endpoints(self) -> list[Endpoint[Event]]:
        session = self._session.session if self._line else None
        every = (self._establishing.responder, self._establishing.initiator, session)
        return [endpoint for endpoint in every if endpoint is not None]

    def _take_events(self) -> None:
        """Those of the session last: the key that the others tell of is on disk before a frame says so."""
        for endpoint in (self._establishing.responder, self._establishing.initiator):
            while endpoint is not None and (event := endpoint.next_event()) is not None:
                self._again = True
                if isinstance(event, Established):
                    self._session.take_key(event, self._establishing.succeeded(event, endpoint))
                    self._asunder_since = self._clock()
                    self._copies_left = COPIES
                    self.wake()
                else:
                    self._establishing.on_event(event, endpoint)
        self._again |= self._session.take_events()

    async def _send_frames(self) -> None:
        now = self._clock()
        for endpoint in self._endpoints():
            for data in endpoint.frames_to_send(now):
                self._again = True
                try:
                    if endpoint is self._session.session:
                        self._session.count(data)
                        await self._links.send(self._node.session_bearer, data)
                    else:
                        await self._establishing.send(data)
                except LocalError as error:
                    self._say(f"{error}: choose the bearer again for which this message was cut")

    # --- time

    def _set_alarm(self) -> None:
        """Wake `run` at the next deadline; an alarm that is early enough stays."""
        now = self._clock()
        deadlines = [deadline for endpoint in self._endpoints() if (deadline := endpoint.get_timer()) is not None]
        if self._line:
            deadlines.append(now + LOOK_S)
            if self._establishing.retry.until > now:
                deadlines.append(self._establishing.retry.until)
        elif self._wants_to_dial and not self._dialling:
            deadlines.append(self._redial.until)
        if not deadlines:
            return
        at = max(min(deadlines), now)
        if self._alarm is None or at < self._alarm.when():
            if self._alarm:
                self._alarm.cancel()
            self._alarm = asyncio.get_running_loop().call_at(at, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self.wake()

    # --- what is told about it ----------------------------------------------------------------------------------------

    @property
    def link_count(self) -> int:
        return len(self._links)

    @property
    def own_address(self) -> str:
        """Of this node, when it agreed on the key that is in use; empty where that is not known."""
        return self._session.own_address

    @property
    def waiting_messages(self) -> int:
        """In the outbox."""
        return self._session.outbox.messages

    @property
    def state(self) -> PeerState:
        if self._node.own is None:
            return PeerState.NO_ADAPTER
        if self._node.journal.trouble:
            return PeerState.DISK
        if self._establishing.is_under_way:
            return PeerState.ESTABLISHING
        if self._line is None:
            return PeerState.NO_LINK
        if self._session.session is None:
            return PeerState.NO_KEY
        if self._session.is_unreachable:
            return PeerState.UNREACHABLE
        return PeerState.CONNECTED if self._session.is_agreed else PeerState.SYNCHRONISING

    @property
    def silent_s(self) -> float | None:
        """Seconds since the last datagram; None where there was none."""
        return None if self._heard_at is None else self._clock() - self._heard_at

    def status(self) -> dict[str, Any]:
        """As `Peer` in api_types.py, without what only the node knows. No secret."""
        counts, session = self._establishing.rejections, self._session.session
        if session:
            counts.update(session.rejections)
        return {
            "name": self.name,
            "address": self.address,
            "state": self.state.value,
            "trouble": self._trouble or self._session.trouble or self._establishing.trouble,
            "link": self._link_status(),
            "key": self._session.key_status,
            "session": self._session.status,
            "rejections": {reason.value: count for reason, count in counts.items() if count},
            "progress": self._establishing.progress,
        }

    def _link_status(self) -> dict[str, Any] | None:
        if (line := self._line) is None:
            return None
        traits = line.link.traits
        return {
            "bearer": line.bearer,
            "losses_visible": traits.losses_visible,
            "encrypted": traits.link_encrypted,
        } | ages.told(self._clock() - line.since)
