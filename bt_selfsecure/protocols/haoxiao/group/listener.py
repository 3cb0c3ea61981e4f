"""Hears a group: what its owner broadcasts, and what the session brings of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from bt_selfsecure.protocols.haoxiao.frames import Frame, FrameError
from bt_selfsecure.protocols.haoxiao.frames import decode as decode_frame
from bt_selfsecure.protocols.haoxiao.group import limits
from bt_selfsecure.protocols.haoxiao.group.events import (
    GroupEnded,
    GroupJoined,
    GroupLost,
    GroupMessage,
    ListenerEvent,
    Post,
)
from bt_selfsecure.protocols.haoxiao.group.fragments import Assembly
from bt_selfsecure.protocols.haoxiao.group.keys import NO_SESSION, NOTHING, Common, Heard, first_key, next_key, opened
from bt_selfsecure.protocols.haoxiao.group.letters import (
    ClosedLetter,
    Lack,
    LeaveLetter,
    LetterError,
    RepairLetter,
    ReportLetter,
    WelcomeLetter,
    decode,
    encode,
)
from bt_selfsecure.protocols.haoxiao.group.record import MemberRecord
from bt_selfsecure.protocols.haoxiao.group.tables import LISTENER_FRAMES, LISTENER_TABLE, ListenerInput, ListenerState
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.endpoint import EventQueue, earliest
from bt_selfsecure.sansio.events import Persist, Rejection
from bt_selfsecure.sansio.frame_table import dispatch
from bt_selfsecure.sansio.trace import Machine

S, I = ListenerState, ListenerInput
FindHeard = Callable[[bytes], Heard | None]
"""Gives what this end has heard of the owner's burst of that session id; None where it does not know it any more."""


def answer_unknown(letter: bytes) -> bytes | None:
    """Return what to write to the owner of a group that is not known here, for a letter of his: this end has lost its
    state, and needs another epoch. None where there is nothing to write."""
    try:
        unknown = decode(letter)
    except LetterError:
        return None
    return (
        encode(ReportLetter(unknown.group, unknown.epoch, 0, Lack.EPOCH)) if isinstance(unknown, RepairLetter) else None
    )


class GroupListener:
    """Is a group at one of its members. Drive it by the verbs of `Endpoint`, with `receive_letter` for what the owner
    writes, and `persisted`.

    A driver that writes message, letters and record of a turn in one transaction gives its application each message
    exactly once.
    """

    def __init__(
        self, record: MemberRecord, owner: bytes, context: EndpointContext, find_heard: FindHeard, state: ListenerState
    ) -> None:
        self._kept = record
        self._owner: Final = owner
        self._find_heard: Final = find_heard
        self._machine: Final = Machine(context.name, "group listener", LISTENER_TABLE, state, context.tracer)
        self._events: Final = EventQueue[ListenerEvent](limits.MAX_EVENTS)
        self._assemblies: dict[int, Assembly] = {}
        """By the number of the round: of the next one, and of a few that follow it."""
        self._unreported = 0
        self._report_at: float | None = None
        self._gap_at: float | None = None
        self._asked = -1
        """The round for which this end has asked last."""
        self._token = 0

    @classmethod
    def join(
        cls, welcome: bytes, owner: bytes, context: EndpointContext, find_heard: FindHeard, now: float
    ) -> GroupListener | None:
        """Return the group to which this letter invites; None where it is no welcome."""
        try:
            letter = decode(welcome)
        except LetterError:
            return None
        if not isinstance(letter, WelcomeLetter):
            return None
        record = MemberRecord(letter.group, letter.name, 0, bytes(32), 0)
        listener = cls(record, owner, context, find_heard, S.LOST)
        listener.receive_letter(welcome, now)
        return listener

    @classmethod
    def restore(
        cls, record: MemberRecord, owner: bytes, context: EndpointContext, find_heard: FindHeard, now: float
    ) -> GroupListener:
        """Return the group as it was stored. It tells the owner how far it is: what it told last may be lost."""
        listener = cls(record, owner, context, find_heard, S.LISTENING if record.epoch else S.LOST)
        listener._report_at = now
        return listener

    @property
    def record(self) -> MemberRecord:
        """Return the state as it is now. It holds a key."""
        return self._kept

    @property
    def state(self) -> ListenerState:
        return self._machine.state

    # --- wishes -------------------------------------------------------------------------------------------------------

    def leave(self, now: float) -> None:
        """Be no member any more, and tell the owner."""
        if self.state is not S.OVER:
            self._post(LeaveLetter(self._kept.group, self._kept.epoch))
            self._end(now)

    # --- the verbs ----------------------------------------------------------------------------------------------------

    def next_event(self) -> ListenerEvent | None:
        return self._events.take()

    def frames_to_send(self, now: float) -> list[bytes]:
        """Return nothing: a member answers by letters."""
        return []

    @property
    def has_news(self) -> bool:
        """Return whether there is anything to be taken by `next_event`."""
        return self._events.is_filled

    def persisted(self, token: int) -> None:
        """Take note of nothing: what a member tells goes with its record, in one transaction."""

    def get_timer(self) -> float | None:
        return earliest(self._report_at, self._gap_at)

    def handle_timer(self, now: float) -> None:
        if self._report_at is not None and now >= self._report_at:
            self._report()
        if self._gap_at is not None and now >= self._gap_at:
            self._gap_at = None
            if self._asked != self._kept.number:
                self._asked = self._kept.number
                self._report(Lack.ROUND)

    def receive_frame(self, data: bytes, now: float) -> None:
        """Take a fragment that came from the owner's address, which anybody can use."""
        try:
            frame = decode_frame(data)
        except FrameError as error:
            return self._events.reject(Rejection.MALFORMED, error.reason.value)
        return dispatch(LISTENER_FRAMES.get(frame.kind), self, frame, now, self._events)

    def _receive_fragment(self, frame: Frame, now: float) -> None:
        ahead = (frame.seq - self._kept.number) & 255
        if ahead >= limits.AHEAD:
            return self._events.reject(Rejection.REPLAY, "a fragment out of its time")
        self._assemblies.setdefault(self._kept.number + ahead, Assembly()).add(frame, now)
        self._open_whole(now)
        self._gap_at = now + limits.GAP_S if self._assemblies else None
        return None

    def _open_whole(self, now: float) -> None:
        """Take the next round, and those after it, as far as they are whole."""
        while (assembly := self._assemblies.get(self._kept.number)) and (sealed := assembly.sealed):
            found = opened(self._kept.key, self._kept.number, sealed)
            if found is None:
                del self._assemblies[self._kept.number]
                self._events.reject(Rejection.UNAUTHENTIC, "a broadcast")
                return
            self._accept(*found, now, repaired=False)

    def receive_letter(self, data: bytes, now: float) -> None:
        """Take what the owner has written in its session. Never raises for what it contains."""
        try:
            letter = decode(data)
        except LetterError:
            return self._events.reject(Rejection.MALFORMED, "a letter of a group")
        if letter.group != self._kept.group or self.state is S.OVER:
            return self._events.reject(Rejection.NOT_FOR_US, "a letter of another group")
        match letter:
            case WelcomeLetter():
                return self._take_welcome(letter, now)
            case RepairLetter():
                return self._take_repair(letter, now)
            case ClosedLetter():
                return self._end(now)
            case _:
                return self._events.reject(Rejection.NOT_FOR_US, "a letter of a member")

    def _take_welcome(self, letter: WelcomeLetter, now: float) -> None:
        if letter.epoch <= self._kept.epoch:
            return self._events.reject(Rejection.REPLAY, "a welcome to an epoch that is over")
        common = self._common(letter)
        if common is None:
            self._kept = replace(self._kept, epoch=letter.epoch, number=0)
            return self._lose(now)
        key = first_key(common, letter.secret, letter.group, letter.epoch)
        self._machine.on(I.WELCOME, now, epoch=letter.epoch)
        self._kept = MemberRecord(letter.group, letter.name, letter.epoch, key, 0)
        self._assemblies, self._asked, self._gap_at = {}, -1, None
        self._events.put(GroupJoined(letter.group, letter.name, letter.epoch))
        self._report()
        return self._persist()

    def _common(self, letter: WelcomeLetter) -> Common | None:
        if letter.session == NO_SESSION:
            return NOTHING
        heard = self._find_heard(letter.session)
        return Common.of(heard, letter.seqs) if heard else None

    def _take_repair(self, letter: RepairLetter, now: float) -> None:
        kept = self._kept
        if letter.epoch < kept.epoch or (letter.epoch == kept.epoch and letter.number < kept.number):
            return self._events.reject(Rejection.REPLAY, "a repair of what is here")
        if self.state is not S.LISTENING or letter.epoch > kept.epoch or letter.number > kept.number:
            return self._lose(now)  # what comes before it is not to be had
        self._accept(letter.rand, letter.message, now, repaired=True)
        self._open_whole(now)
        return None

    # --- rounds -------------------------------------------------------------------------------------------------------

    def _accept(self, rand: bytes, message: bytes, now: float, *, repaired: bool) -> None:
        kept = self._kept
        self._machine.on(I.ACCEPTED, now, number=kept.number)
        self._assemblies.pop(kept.number, None)
        self._gap_at = now + limits.GAP_S if self._assemblies else None
        key = next_key(kept.key, kept.number, rand, message)
        self._kept = replace(kept, key=key, number=kept.number + 1)
        self._events.put(GroupMessage(kept.group, kept.name, kept.epoch, kept.number, message, repaired))
        if not repaired:
            self._unreported += 1
            if self._unreported >= limits.REPORT_ROUNDS:
                self._report()
            elif self._report_at is None:
                self._report_at = now + limits.REPORT_S
        self._persist()

    def _lose(self, now: float) -> None:
        """Ask for another epoch: this end was put back to an older state, or lost one."""
        if self.state is S.LISTENING:
            self._machine.on(I.GAP, now)
            self._events.put(GroupLost(self._kept.group))
        self._report(Lack.EPOCH)
        self._persist()

    def _report(self, wish: Lack = Lack.NONE) -> None:
        self._unreported, self._report_at = 0, None
        self._post(ReportLetter(self._kept.group, self._kept.epoch, self._kept.number, wish))

    def _end(self, now: float) -> None:
        self._machine.on(I.END, now)
        self._assemblies, self._report_at, self._gap_at = {}, None, None
        self._kept = replace(self._kept, key=bytes(32))
        self._events.put(GroupEnded(self._kept.group))

    def _post(self, letter: ReportLetter | LeaveLetter) -> None:
        self._events.put(Post(self._owner, encode(letter)))

    def _persist(self) -> None:
        self._token += 1
        self._events.put(Persist(self._token, self._kept, sync=True))
