"""Drives the `PeerMachine` of one peer; owns its links (peer_lines.py), the tasks and what waits for an outcome.

Each input is followed by `act`, which does what the machine puts out: first it sends, as far as the links take it at
once; then it notes, and writes to the disk, in the event loop. What a link had no room for waits in its queue: a link's
reader sends what answers its datagram, a task of its own all else.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any, Final

from bt_selfsecure.bearers.base import Link
from bt_selfsecure.errors import BtSelfSecureError
from bt_selfsecure.node import ages
from bt_selfsecure.node.haoxiao import peer_events as events
from bt_selfsecure.node.haoxiao.context import NodeContext
from bt_selfsecure.node.haoxiao.kept import StateRows, note, stored
from bt_selfsecure.node.haoxiao.peer_events import Commit, Level, Output, Urgency
from bt_selfsecure.node.haoxiao.peer_lines import PeerLines
from bt_selfsecure.node.haoxiao.peer_machine import PeerMachine
from bt_selfsecure.node.haoxiao.peer_status import PeerState, state_of, status_of, told_link
from bt_selfsecure.node.haoxiao.waiting import Waiters
from bt_selfsecure.node.journal_file import JournalError
from bt_selfsecure.node.links import OpenLink
from bt_selfsecure.node.metrics import PeerCounters
from bt_selfsecure.node.peer_log import PeerLog
from bt_selfsecure.protocols.haoxiao.exported import checked
from bt_selfsecure.sansio.context import EndpointContext

log = logging.getLogger(__name__)


class HaoXiaoPeer:
    """Speaks Hao and Xiao's protocol with one peer; `node.peer.NodePeer` says what each method does.

    What it raises from `run` is a fault of this program: it is then thrown away, `journal.discard` forgets what it had
    noted, and another one begins from the disk, as after a crash.
    """

    def __init__(self, node: NodeContext, name: str, address: str, dial: str) -> None:
        """`dial` is "auto", "always" or "never"."""
        self.name, self.address, self.dial = name, address, dial
        self._node, self._journal, self._log = node, node.journal, PeerLog(log, name)
        self._loop = asyncio.get_running_loop()
        self._clock = self._loop.time
        now = self._since = self._now = self._clock()
        """The last: loop time at the newest input. A look at the clock can be a system call."""
        self._rows: Final = StateRows()
        kept, new_number = stored(node.journal, address, now), partial(node.journal.new_number, "outbox")
        self._machine: Final = PeerMachine(
            node.settings.peer(name, address, dial),
            kept,
            EndpointContext(secrets.token_bytes, name=name),
            new_number,
            now,
        )
        self._tasks = asyncio.TaskGroup()
        self._begun = asyncio.Event()
        self._running = False
        self._first: Callable[[], None] | None = None
        """Uses the link with which it begins."""
        self._wake = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None
        self._acting = self._asked = False
        """`act` is at work; the journal is to tell of the next commit."""
        self._token = 0
        """Of the newest commit."""
        self._lines: Final = PeerLines(self, self._machine, node, self._log)
        self._waiting: Final = Waiters(self._loop)
        self._is_connected = False

    # --- what others ask of it ----------------------------------------------------------------------------------------

    async def send(self, message: bytes, port: int, *, acknowledged: bool) -> int:
        if self._journal.trouble:
            self._journal.commit()  # it may be over
        number = self._machine.send(message, port, self.look(), durable=not acknowledged)
        with self._waiting.for_message(number) as outcome:
            self.act()
            await outcome
        return number

    def carry(self, message: bytes, port: int, done: Callable[[], None]) -> None:
        try:
            number = self._machine.send(message, port, self.look(), durable=False)
        except BtSelfSecureError:
            return done()  # as many wait as may
        self._waiting.when_over(number, done)
        return self.act()

    async def establish(self, *, wait: bool = False, without_continuity: bool = False) -> dict[str, Any]:
        """Agree on a new key, and return the outcome, as `Established` and `NotEstablished` in api_types.py."""
        await self._begun.wait()
        if not self._running:
            return {"established": False, "peer": self.name, "reason": "the node begins anew with it: try again"}
        try:
            with self._waiting.for_key(without_continuity=without_continuity) as outcome:
                self._machine.establish(self.look(), wait=wait, without_continuity=without_continuity)
                self.act()
                return await outcome
        finally:
            if not self._waiting.is_any_key_allowed:
                self._machine.abandon_establish(but_others_wait=self._waiting.is_key_awaited)

    def confirm(self, string: str, by: str) -> str:
        """Do as `PeerMachine.confirm` does, and return when the disk has it. Raises `JournalError`, too."""
        self._journal.commit()
        why = self._machine.confirm(string, by, self.look())
        self.act()
        self._journal.commit(sync=True)
        return why

    async def export(self, label: str, length: int, *, after: str, rotate: bool) -> tuple[str, bytes]:
        checked(label)
        generations = self._machine.session.generations
        if rotate and not after and generations.agreed:
            after = generations.agreed.id
        self._machine.export(self.look(), rotate=rotate)
        self.act()
        while (agreed := generations.agreed) is None or agreed.id == after:
            with self._waiting.for_generation() as outcome:
                await outcome
            generations = self._machine.session.generations
        return agreed.id, agreed.key(label, length)

    def begin_with(self, bearer: str, link: Link, *, dialled: bool) -> None:
        self._first = partial(self._lines.use, bearer, link, dialled=dialled)

    def attach(self, bearer: str, link: Link) -> bool:
        if self._running:
            self._lines.use(bearer, link, dialled=False)
        return self._running

    def adapter_up(self) -> None:
        own = self._node.own
        if self._running and own is not None and self._machine.links.own is None:
            establish = self._node.settings.establish(own, self.address)
            establish = replace(establish, admit=lambda identity: self._node.may_agree(self.address))
            first, self._first = self._first, None
            self._machine.adapter_up(own, establish, self.look(), link_follows=first is not None)
            if first:
                first()
            self.act()

    async def adapter_gone(self) -> None:
        if self._running and self._machine.links.own is not None:
            self._machine.adapter_gone(self.look())
            self.act()
            await self._lines.close()

    def sighted(self) -> None:
        if self._running:
            self._machine.sighted(self.look())
            self.act()

    def disk(self, *, works: bool) -> None:
        if works:
            self._machine.disk_works(self.look())
        else:
            self._machine.refused(self.look())
        self._wake.set()

    def shares_key(self, data: bytes) -> bool:
        return self._machine.shares_key(data)

    @property
    def has_key(self) -> bool:
        return self._machine.session.session is not None

    @property
    def is_agreeing(self) -> bool:
        return self._machine.agreement.is_under_way

    @property
    def idle_s(self) -> float:
        return 0.0 if self._machine.is_busy else min(self._clock() - self._since, self.silent_s or math.inf)

    @property
    def half_received_bytes(self) -> int:
        return self._machine.session.half_received_bytes

    # --- its life -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        try:
            async with self._tasks:
                self._running = True
                self._node.bursts.add(self._machine, self._wake.set)
                self._node.groups.add(self._machine, self.act)
                self._begun.set()
                if self._journal.trouble:
                    self._machine.refused(self.look())
                self.adapter_up()
                self.act()
                while True:
                    await self._wake.wait()
                    self._wake.clear()
                    now = self.look()
                    self._machine.handle_timer(now)
                    self._lines.close_stuck(now)
                    self.act()
        finally:
            self._running = False
            self._tell_connected()
            self._node.bursts.forget(self._machine)
            self._node.groups.forget(self._machine)
            if self._alarm:
                self._alarm.cancel()
            self._waiting.end_keys({"established": False, "peer": self.name, "reason": "the node is stopping"})
            self._waiting.end_messages(BtSelfSecureError("the node is stopping; the message stays queued"))
            self._waiting.end_generations(BtSelfSecureError("the node is stopping: ask it again when it is back"))

    def begin(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        return self._tasks.create_task(work, name=f"{self.name}: {name}")

    def look(self) -> float:
        self._now = self._clock()
        return self._now

    def _set_alarm(self) -> None:
        """Wake `run` at the next deadline; an alarm that is early enough stays."""
        at = self._machine.get_timer()
        if at is not None and (self._alarm is None or at < self._alarm.when()):
            if self._alarm:
                self._alarm.cancel()
            self._alarm = self._loop.call_at(at, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._wake.set()

    # --- what the machine puts out ------------------------------------------------------------------------------------

    def act(self, reader: OpenLink | None = None) -> None:
        """Do it all; what is to be sent on the link of `reader` is left to it."""
        if self._acting:
            return
        self._acting = True
        try:
            while (output := self._machine.next_event()) is not None:
                self._do(output)
        finally:
            self._acting = False
        for line in self._lines:
            if line is not reader and line.must_flush:
                self.begin(line.flush(), "send")
        self._set_alarm()
        self._tell_connected()

    def _tell_connected(self) -> None:
        now = self._running and state_of(self._machine) is PeerState.CONNECTED
        if now is not self._is_connected:
            self._is_connected = now
            self._node.connected(self.address, now)

    def _do(self, output: Output) -> None:
        match output:
            case events.Send():
                if line := self._lines.get(output.link):
                    line.put(output.data)
            case events.Log():
                self._log.line(self._level(output.level), output.text, output.event, output.of_round)
            case events.Note():
                note(self._journal, self.address, output, self._rows)
            case events.Commit():
                self._commit(output)
            case events.Deliver():
                self._node.receive(self.address, output.port, output.message, self._now)
            case events.Kept() | events.Delivered():
                self._waiting.end_message(output.number)
            case events.Refused():
                self._waiting.end_message(output.number, JournalError(self._journal.trouble))
            case events.SendBurst():
                self.begin(self._lines.send_burst(output), "burst")
            case events.Dial():
                self.begin(self._lines.dial(output.bearer), f"dial on {output.bearer}")
            case events.HangUp():
                if line := self._lines.get(output.link):
                    self._lines.hang_up(line)
            case events.GroupFragment():
                self._node.groups.hear(self._machine.config.identity, output.data)
            case events.GatherBurst():
                self._node.bursts.gather(self._machine)
            case events.TakeRadio():
                self._lines.take_radio()
            case events.ReleaseRadio():
                self._lines.release_radio()
            case events.EstablishOutcome(facts=None):
                self._waiting.end_keys({"established": False, "peer": self.name, "reason": output.reason})
            case events.EstablishOutcome():
                head = {"established": True, "peer": self.name, "reason": ""}
                self._waiting.end_keys(head | ages.told(0.0) | (output.facts or {}))
            case events.GenerationAgreed():
                self._waiting.end_generations()
            case events.ForeignKeys():
                self._node.look_for_copies(self.address, output.frame)

    def _level(self, level: Level) -> int:
        """What strangers without a key cause is in the status; the log would be theirs to fill, a name each."""
        is_anybody = not (self._machine.config.asks or self.has_key)
        return logging.DEBUG if is_anybody and level < Level.ERROR else level

    def _commit(self, commit: Commit) -> None:
        self._token = commit.token
        if not self._asked:
            self._asked = True
            self._journal.after_commit(self.address, self._on_kept)
        if commit.urgency is Urgency.LATER:
            self._node.commit_later()
            return
        try:
            self._journal.commit(sync=commit.urgency is Urgency.SYNC, now=self._now)
        except JournalError:
            self._machine.refused(self.look())

    def _on_kept(self) -> None:
        """All that was noted is on disk, by whomever it was committed."""
        self._asked = False
        self._now = max(self._now, self._journal.commit_at)
        self._machine.persisted(self._token, self._now)
        if not self._acting:
            self._wake.set()

    # --- what is told about it ----------------------------------------------------------------------------------------

    @property
    def counts(self) -> PeerCounters:
        return self._machine.counts

    @property
    def link_count(self) -> int:
        return len(self._machine.links)

    @property
    def own_address(self) -> str:
        return self._machine.session.key.own_address

    @property
    def waiting_messages(self) -> int:
        return self._machine.session.waiting

    @property
    def silent_s(self) -> float | None:
        heard_at = self._machine.links.heard_at
        return None if heard_at is None else self._clock() - heard_at

    def status(self) -> dict[str, Any]:
        """Return it as `Peer` in api_peer_types.py, without what only the node knows. No secret."""
        used = self._machine.links.session_line
        line, now = self._lines.get(used.number) if used else None, self._clock()
        told = {"name": self.name, "address": self.address, "link": told_link(line, now) if line else None}
        return told | status_of(self._machine, now)
