"""The session with one peer: what it is fed with, what it delivers, and what of it must last."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from bt_selfsecure.errors import BtSelfSecureError
from bt_selfsecure.node import ages
from bt_selfsecure.node.config import address_bytes
from bt_selfsecure.node.errors import QueueFullError
from bt_selfsecure.node.haoxiao.context import NodeContext
from bt_selfsecure.node.haoxiao.messages import Joiner, parse, split
from bt_selfsecure.node.haoxiao.outbox import Outbox
from bt_selfsecure.node.journal import DamagedError, PeerRow
from bt_selfsecure.node.journal_file import JournalError
from bt_selfsecure.node.metrics import Counts
from bt_selfsecure.node.peer_log import PeerLog
from bt_selfsecure.protocols.haoxiao.events import (
    Established,
    Event,
    MessageDelivered,
    MessageReceived,
    ReestablishNeeded,
    Resynchronised,
    Unreachable,
)
from bt_selfsecure.protocols.haoxiao.frames import Kind, peek_kind
from bt_selfsecure.protocols.haoxiao.record import RecordError, Role, SessionRecord
from bt_selfsecure.protocols.haoxiao.session import Session
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.events import FrameRejected, Persist

log = logging.getLogger(__name__)

HOUR: Final = 3600.0


class PeerSession:
    """Owned by `Peer`, which gives its frames and takes them, and tells it of every event of its session."""

    def __init__(
        self,
        node: NodeContext,
        name: str,
        address: str,
        counts: Counts,
        *,
        wake: Callable[[], None],
        hint: Callable[[str], None],
        agreed: Callable[[], None],
    ) -> None:
        """`wake` asks for the pump, `hint` for a new key; `agreed` says that the present one works."""
        self.session: Session | None = None
        self.trouble = ""
        """Of the last time; empty after a success."""
        self.is_unreachable = False
        """The peer does not answer."""
        self.answered_at = 0.0
        """Loop time of the last answer."""
        self._node, self._name, self._address, self._counts = node, name, address, counts
        self._log = PeerLog(log, name)
        self._wake, self._hint, self._tell_agreed = wake, hint, agreed
        self._clock = asyncio.get_running_loop().time
        self._agreed: set[bool] = set()
        """Directions in which both ends have found together since start or new key; True is ours to send in."""
        self._keyed_at = self._clock()
        self._facts: dict[str, Any] = {}
        """About the key in use; "born" is the loop time at which it was agreed on, None where not known."""
        self._offered: dict[str, Any] = {}
        """About a newer one that the peer was not seen to use."""
        self._synchronised = False
        """The two ends have agreed at least once, so that rounds can be counted."""
        self._next_out = self._next_in = 0
        self._in_session: dict[int, int] = {}
        """Numbers of the fragments that the session has, by Seq."""
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self.outbox: Final = Outbox(node.journal, address)
        self._joiner = Joiner(node.journal.partial(address))
        self._restore()
        counts.dropped += self.outbox.dropped + len(node.journal.damaged_of(address, "partial"))

    # --- out

    async def send(self, message: bytes, port: int, *, acknowledged: bool) -> int:
        """As `Peer.send`; the frames are left to the pump."""
        fragments = list(split(message, port, self._node.fragment_bytes))
        if self._node.journal.trouble:
            self._node.journal.commit()  # it may be over
        waiting = self.outbox.messages
        if waiting >= self._node.queue_messages or not self.outbox.has_room(len(message)):
            raise QueueFullError(f"{waiting} messages wait for {self._name}: try again when it has some of them")
        number = self.outbox.put(fragments)
        delivered = asyncio.get_running_loop().create_future()
        if acknowledged:
            self._waiting[number] = delivered
        try:
            self.feed()  # where the session is free its record is in the same transaction
            self._node.journal.commit()
            self._wake()
            if acknowledged:
                await delivered
        except JournalError:
            self._take_back(number - len(fragments) + 1)
            raise
        finally:
            self._waiting.pop(number, None)
        return number

    def _take_back(self, first: int) -> None:
        """The message whose fragments have this number and later ones is refused: then it must not come."""
        for seq, number in self._in_session.items():
            if self.session and number >= first:
                self.session.withdraw(self._clock())
                self._next_out = seq
                del self._in_session[seq]
                break
        self.outbox.take_back(first)
        self.take_events()

    def feed(self) -> None:
        """Give the session the next fragment, if it takes one now."""
        self.take_events()  # which fragment is the next can depend on where the two ends have just agreed to go on
        if self.outbox and self.session and self.session.can_send and not self._node.journal.trouble:
            number, fragment = self.outbox.take()
            seq = self.session.send(fragment, self._clock())
            self._in_session[seq] = number
            self._next_out = seq + 1
            self.take_events()

    def count(self, frame: bytes) -> None:
        """A frame of the session's is sent; its head (kind, Retran, Len) tells a retransmission."""
        if peek_kind(frame) is Kind.DATA:
            self._counts.frames += 1
            self._counts.retransmissions += frame[1] >> 4 > 0

    def stop_waiting(self) -> None:
        """Nobody will learn from this object whether a message arrived."""
        for delivered in self._waiting.values():
            if not delivered.done():
                delivered.set_exception(BtSelfSecureError("the node is stopping; the message stays queued"))

    # --- events

    def take_events(self) -> bool:
        """Note, commit and tell what the session has to tell; whether there was anything."""
        any_event = False
        while self.session and (event := self.session.next_event()) is not None:
            any_event = True
            self._on_event(event)
        return any_event

    def _on_event(self, event: Event) -> None:
        match event:
            case MessageReceived():
                self._counts.rounds_in += 1
                self._log.debug("round accepted", event="accepted", round=event.seq)
                self._on_received(event)
            case MessageDelivered():
                self._counts.rounds_out += 1
                self._log.debug("round acknowledged", event="acknowledged", round=event.seq)
                self._answered()
                self._on_delivered(self._in_session.pop(event.seq, 0))
            case Persist():
                self._persist(event)
            case Resynchronised():
                self._on_resynchronised(event)
            case Unreachable():
                self.is_unreachable = True
                self._say("it does not answer; messages wait", event="unreachable", round=event.seq)
            case ReestablishNeeded():
                self._hint(event.reason)
            case FrameRejected():
                self._log.debug("%s %s", event.reason.value, event.detail, event="rejected")
            case _:
                self._log.debug("%s", event)

    def _on_received(self, event: MessageReceived) -> None:
        fragment, had = parse(event.message), len(self._joiner.pieces)
        if event.seq != self._next_in or (fragment and fragment.first):
            self._joiner.drop()  # rounds are missing, forgotten by both ends in crashes: no message may bridge them
        self._next_in = event.seq + 1
        if fragment is None:
            return
        message = self._joiner.add(fragment)
        if had and len(self._joiner.pieces) <= had:
            self._node.journal.write(self._address, "DELETE FROM partial WHERE peer = ?", self._address)
        if message is not None:
            self._node.receive(self._address, fragment.port, message)
        elif self._joiner.pieces:
            self._node.journal.insert(self._address, "partial", self._address, fragment.piece)

    def _on_delivered(self, number: int) -> None:
        delivered = self._waiting.get(number)
        if delivered and not delivered.done():
            delivered.set_result(None)

    def _on_resynchronised(self, event: Resynchronised) -> None:
        self._counts.resynchronisations += 1
        direction = "out" if event.sending else "in"
        self._log.info(
            "resynchronised, %s from round %d", direction, event.seq, event="resynchronised", round=event.seq
        )
        self._answered()
        self._agreed.add(event.sending)
        if self.is_agreed:
            self._tell_agreed()
        if not event.sending:
            return
        # Rounds that the peer has and we know nothing of were sent before a crash that their traces did not survive:
        # the oldest of what we took for waiting. Nothing was sent before the two ends had first agreed.
        if self._synchronised:
            for number in self.outbox.take_restored(event.seq - self._next_out):
                self._on_delivered(number)
            self._next_out = max(event.seq, self._next_out)
        elif self.session:
            self._next_out, self._synchronised = event.seq, True
            self._keep(self.session.record)
            self._commit()  # before anything is sent

    def _answered(self) -> None:
        self.is_unreachable, self.trouble, self.answered_at = False, "", self._clock()

    def _say(self, text: str, **fields: Any) -> None:
        if text != self.trouble:
            self._log.info("%s", text, **fields)
        self.trouble = text

    # --- keys

    @property
    def is_agreed(self) -> bool:
        """In both directions, since start or new key."""
        return len(self._agreed) == 2

    def take_key(self, event: Established, facts: dict[str, Any]) -> None:
        """Go over to a new K_0."""
        own = self._node.identity
        role = Role.INITIATOR if own < address_bytes(self._address) else Role.RESPONDER
        if self.session is None:
            profile = self._node.establish_config(self._address).profile
            self.session = Session.start(
                profile,
                role,
                event.k0,
                self._node.session_config,
                EndpointContext(secrets.token_bytes, name=self._name),
            )
        self._offered = facts | {"begun_at": self._rounds, "born": self._clock()}
        self._agreed.clear()
        self._keyed_at = self._clock()
        # Always through a resynchronisation, also of a session that is new here: the peer's may not be.
        # The role is that of the address of now: the state may have been made under another one.
        self.session.rekey(event.k0, self._keyed_at, role)

    @property
    def _rounds(self) -> int:
        record = self.session.record if self.session else None
        return record.sending.chain.seq + record.receiving.chain.seq if record else 0

    def is_due(self, now: float) -> bool:
        """Whether the key is as old, or as much used, as the configuration allows, or the peer has not taken a newer.

        One of unknown age is as good as an old one, and for its age no key is replaced before it was used for an hour.
        """
        used = now - self._keyed_at
        if self._offered:
            return used > HOUR
        if not self._facts:
            return False
        hours, messages = self._node.renew_hours, self._node.renew_messages
        age = self._age(self._facts)
        aged = bool(hours) and (age is None or age > hours * HOUR) and used > min(1.0, hours) * HOUR
        return aged or (bool(messages) and self._rounds - int(self._facts["begun_at"]) > messages)

    # --- the disk

    def _restore(self) -> None:
        try:
            row = self._node.journal.peer(self._address)
            if row is None:
                return
            record = SessionRecord.from_json(row.record)
            self._facts, self._offered = (self._restored(facts) for facts in _facts(row.facts))
        except (DamagedError, RecordError) as error:
            self._log.error("%s", error, event="record-damaged")
            self.trouble = str(error)
            self.outbox.drop_begun()  # its first fragments were in the session
            self._counts.dropped += 1 + bool(self._joiner.pieces)  # one that was under way to it, and one from it
            self._joiner.drop()
            return
        self._synchronised = row.synchronised
        self._next_out = record.sending.chain.seq + len(record.sending.messages)
        self._next_in = record.receiving.chain.seq
        config = self._node.session_config
        self.session = Session.restore(
            record, config, EndpointContext(secrets.token_bytes, name=self._name), self._clock()
        )

    def _persist(self, event: Persist[SessionRecord]) -> None:
        record = event.record
        if self._offered and not record.sending.offer:
            self._facts, self._offered = self._offered, {}
        self._keep(record)
        if event.sync:
            self._node.journal.after_commit(self._address, partial(self._persisted, event.token))
            self._commit()
        else:
            self._node.commit_later()

    def _keep(self, record: SessionRecord) -> None:
        key, offered, synchronised = self._facts, self._offered, self._synchronised

        def row() -> PeerRow:
            facts = {"key": self._kept(key), "offered": self._kept(offered)}
            return PeerRow(record.to_json(), json.dumps(facts), synchronised)

        self._node.journal.keep(self._address, row)

    def _age(self, facts: dict[str, Any]) -> float | None:
        return None if facts["born"] is None else self._clock() - facts["born"]

    def _kept(self, facts: dict[str, Any]) -> dict[str, Any]:
        """As they go to the disk, where no loop time means anything."""
        if not facts:
            return {}
        return {name: value for name, value in facts.items() if name != "born"} | ages.kept(self._age(facts))

    def _restored(self, facts: dict[str, Any]) -> dict[str, Any]:
        if not facts:
            return {}
        age = ages.restored(facts.pop("since"), facts.pop("written"))
        return facts | {"born": None if age is None else self._clock() - age}

    def _persisted(self, token: int) -> None:
        if self.session:
            self.session.persisted(token)
        self._wake()

    def _commit(self) -> None:
        """What the disk does not take now is noted; the node tells of it and tries it again."""
        with contextlib.suppress(JournalError):
            self._node.journal.commit(sync=True)

    # --- what is told about it

    @property
    def own_address(self) -> str:
        """Under which this node has agreed on the key in use; empty where there is none, or it is not known."""
        return str(self._facts.get("own_address", ""))

    @property
    def key_status(self) -> dict[str, Any] | None:
        """As `Key` in api_types.py."""
        if not self._facts:
            return None
        facts = {name: value for name, value in self._facts.items() if name not in ("begun_at", "born")}
        return facts | ages.told(self._age(self._facts))

    @property
    def status(self) -> dict[str, Any] | None:
        """As `Session` in api_types.py."""
        if self.session is None:
            return None
        record = self.session.record
        return {
            "profile": record.profile.label,
            "sent": record.sending.chain.seq,
            "received": record.receiving.chain.seq,
            "epoch": record.receiving.epoch,
        }


def _facts(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """About the key in use and about a newer one. Raises `DamagedError`."""
    try:
        facts = json.loads(text)
        known = {"own_address": ""}
        key, offered = ({**known, **facts[name]} if facts[name] else {} for name in ("key", "offered"))
        for of_one in filter(None, (key, offered)):
            of_one.setdefault("written", of_one["since"])  # an older version kept when it was agreed on, and no more
            of_one.update(since=float(of_one["since"]), written=float(of_one["written"]))
            int(of_one["begun_at"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        raise DamagedError("what was kept about this peer's key is damaged: a new one is agreed on by itself") from None
    return key, offered
