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
from bt_selfsecure.protocols.haoxiao.group.record import MemberRecord, Pending
from bt_selfsecure.protocols.haoxiao.group.tables import LISTENER_FRAMES, LISTENER_TABLE, ListenerInput, ListenerState
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.endpoint import EventQueue, earliest
from bt_selfsecure.sansio.events import Persist, Rejection
from bt_selfsecure.sansio.frame_table import dispatch
from bt_selfsecure.sansio.trace import Machine

S, I = ListenerState, ListenerInput
Hears = Callable[[], bool]
"""Tells whether broadcasts are listened to now."""
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
        self,
        record: MemberRecord,
        owner: bytes,
        context: EndpointContext,
        find_heard: FindHeard,
        state: ListenerState,
        hears: Hears,
    ) -> None:
        self._kept = record
        self._owner: Final = owner
        self._find_heard: Final = find_heard
        self._hears: Final = hears
        self._is_deaf = not hears()
        """What the owner was told, or is in the next report."""
        self._hears_since: float | None = None
        self._machine: Final = Machine(context.name, "group listener", LISTENER_TABLE, state, context.tracer)
        self._events: Final = EventQueue[ListenerEvent](limits.MAX_EVENTS)
        self._assemblies: dict[int, Assembly] = {}
        """By the number of the round: of the next one, and of a few that follow it."""
        self._acknowledged = 0
        """The next round, when it reported last."""
        self._reported = 0
        """Rounds of this epoch that it had, or held, when it reported last."""
        self._report_at: float | None = None
        self._lacks_since: float | None = None
        self._acknowledged_at = float("-inf")
        """When it reported last that it had more."""
        self._has_at: float | None = None
        """When it reports what it has."""
        self._token = 0

    @classmethod
    def join(
        cls,
        welcome: bytes,
        owner: bytes,
        context: EndpointContext,
        find_heard: FindHeard,
        now: float,
        hears: Hears = lambda: True,
    ) -> GroupListener | None:
        """Return the group to which this letter invites; None where it is no welcome."""
        try:
            letter = decode(welcome)
        except LetterError:
            return None
        if not isinstance(letter, WelcomeLetter):
            return None
        record = MemberRecord(letter.group, letter.name, 0, bytes(32), 0)
        listener = cls(record, owner, context, find_heard, S.LOST, hears)
        listener.receive_letter(welcome, now)
        return listener

    @classmethod
    def restore(
        cls,
        record: MemberRecord,
        owner: bytes,
        context: EndpointContext,
        find_heard: FindHeard,
        now: float,
        hears: Hears = lambda: True,
    ) -> GroupListener:
        """Return the group as it was stored. It tells the owner how far it is, as what it told last may be lost, and
        that it has not heard what was sent meanwhile."""
        listener = cls(record, owner, context, find_heard, S.LISTENING if record.epoch else S.LOST, hears)
        listener._has_at = listener._report_at = now
        listener._is_deaf = True
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

    def look(self, now: float) -> None:
        """Tell the owner if broadcasts are not listened to any more, or for a while have been again."""
        if not self._hears():
            self._hears_since = None
            if not self._is_deaf:
                self._is_deaf = True
                self._report(now)
        elif self._is_deaf:
            if self._hears_since is None:
                self._hears_since = now
            if now - self._hears_since >= limits.STEADY_S:
                self._is_deaf, self._hears_since = False, None
                self._report(now)

    # --- the verbs ----------------------------------------------------------------------------------------------------

    def next_event(self) -> ListenerEvent | None:
        return self._events.take()

    def frames_to_send(self, now: float) -> list[bytes]:
        """Return nothing: a member answers by letters."""
        return []

    @property
    def has_news(self) -> bool:
        """Return whether there is anything to be taken by `next_event`."""
        return bool(self._events)

    def persisted(self, token: int) -> None:
        """Take note of nothing: what a member tells goes with its record, in one transaction."""

    def get_timer(self) -> float | None:
        return self._report_at

    def handle_timer(self, now: float) -> None:
        if self._report_at is not None and now >= self._report_at:
            self._report(now, self._lack(now))

    def receive_frame(self, data: bytes, now: float) -> None:
        """Take a fragment that came from the owner's address, which anybody can use."""
        try:
            frame = decode_frame(data)
        except FrameError as error:
            return self._events.reject(Rejection.MALFORMED, error.reason.value)
        return dispatch(LISTENER_FRAMES.get(frame.kind), self, frame, now, self._events)

    def _receive_fragment(self, frame: Frame, now: float) -> None:
        ahead = (frame.seq - self._kept.number) & 255
        if ahead >= 256 - limits.AHEAD:
            return None  # of a round that is here already: any one of its fragments was one too many
        if ahead >= limits.AHEAD:
            return self._events.reject(Rejection.REPLAY, "a fragment out of its time")
        self._assemblies.setdefault(self._kept.number + ahead, Assembly()).add(frame, now)
        self._open_whole(now)
        self._report_soon(now)
        return None

    def _open_whole(self, now: float) -> None:
        """Take the next round, and those after it, as far as they are whole."""
        while True:
            number = self._kept.number
            if (repair := self._kept.early.get(number)) is not None:
                self._accept(repair.rand, repair.message, now, repaired=True)
                continue
            assembly = self._assemblies.get(number)
            sealed = assembly.sealed if assembly else None
            if sealed is None:
                return
            found = opened(self._kept.key, number, sealed)
            if found is None:
                del self._assemblies[number]
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
            self._kept = replace(self._kept, epoch=letter.epoch, number=0, early={})
            return self._lose(now)
        key = first_key(common, letter.secret, letter.group, letter.epoch)
        self._machine.on(I.WELCOME, now, "epoch", letter.epoch)
        self._kept = MemberRecord(letter.group, letter.name, letter.epoch, key, 0)
        self._assemblies, self._lacks_since = {}, None
        self._events.put(GroupJoined(letter.group, letter.name, letter.epoch))
        self._report(now)
        return self._persist()

    def _common(self, letter: WelcomeLetter) -> Common | None:
        if letter.session == NO_SESSION:
            return NOTHING
        heard = self._find_heard(letter.session)
        return Common.of(heard, letter.seqs) if heard else None

    def _take_repair(self, letter: RepairLetter, now: float) -> None:
        kept = self._kept
        rounds = [one for one in letter.rounds if letter.epoch > kept.epoch or one.number >= kept.number]
        if letter.epoch < kept.epoch or not rounds:
            return self._events.reject(Rejection.REPLAY, "a repair of what is here")
        beyond = rounds[-1].number >= kept.number + limits.AHEAD
        if self.state is not S.LISTENING or letter.epoch > kept.epoch or beyond:
            return self._lose(now)  # what comes before it is not to be had
        early = {one.number: Pending(one.rand, one.message) for one in rounds}
        self._kept = replace(kept, early={**kept.early, **early})
        self._open_whole(now)
        self._report_soon(now)
        return self._persist()

    # --- rounds -------------------------------------------------------------------------------------------------------

    def _accept(self, rand: bytes, message: bytes, now: float, *, repaired: bool) -> None:
        kept = self._kept
        self._machine.on(I.ACCEPTED, now, "number", kept.number)
        self._assemblies.pop(kept.number, None)
        key = next_key(kept.key, kept.number, rand, message)
        early = {number: one for number, one in kept.early.items() if number > kept.number}
        self._kept = replace(kept, key=key, number=kept.number + 1, early=early)
        self._events.put(GroupMessage(kept.group, kept.name, kept.epoch, kept.number, message, repaired))
        self._persist()

    # --- reports

    @property
    def _held(self) -> int:
        """Which rounds behind the next one this end holds: bit k for the round `number` + 1 + k."""
        first, held = self._kept.number + 1, 0
        for number, assembly in self._assemblies.items():
            if number >= first and assembly.sealed is not None:
                held |= 1 << number - first
        for number in self._kept.early:
            held |= 1 << number - first
        return held

    def _report_soon(self, now: float) -> None:
        """Report at once what is much, soon what is lacking, and else in a while, if there is anything."""
        had = self._kept.number + self._held.bit_count()
        if not (self._assemblies or self._kept.early):
            self._lacks_since = None
        elif self._lacks_since is None:
            self._lacks_since = now
        if had > self._reported or self._kept.number > self._acknowledged:
            is_quiet = now - self._acknowledged_at >= limits.REPORT_S
            self._has_at = earliest(self._has_at, now + (limits.REPORT_SOON_S if is_quiet else limits.REPORT_S))
        seen = self._kept.number + self._held.bit_length() - self._acknowledged
        if had >= self._reported + limits.REPORT_ROUNDS or seen >= limits.REPORT_SPAN:
            return self._report(now, self._lack(now))
        lacks_at = None if self._lacks_since is None else self._lacks_since + limits.LACK_S
        self._report_at = earliest(lacks_at, self._has_at)
        return None

    def _lack(self, now: float) -> Lack:
        """Whether the next round was broadcast, and will not be whole any more: it is not, and a later one has come, or
        nothing more of it for a while."""
        begun = self._assemblies.get(self._kept.number)
        over = begun is not None and now - begun.heard_at >= limits.GAP_S
        return Lack.ROUNDS if over or len(self._assemblies) > (begun is not None) else Lack.NONE

    def _lose(self, now: float) -> None:
        """Ask for another epoch: this end was put back to an older state, or lost one."""
        if self.state is S.LISTENING:
            self._machine.on(I.GAP, now)
            self._events.put(GroupLost(self._kept.group))
        self._report(now, Lack.EPOCH)
        self._persist()

    def _report(self, now: float, wish: Lack = Lack.NONE) -> None:
        held = self._held
        if self._kept.number > self._acknowledged:
            self._acknowledged_at = now
        self._acknowledged, self._reported = self._kept.number, self._kept.number + held.bit_count()
        self._report_at = None
        self._lacks_since = self._has_at = None
        if self._is_deaf and wish is not Lack.EPOCH:
            wish = Lack.AIR
        self._post(ReportLetter(self._kept.group, self._kept.epoch, self._kept.number, wish, held))

    def _end(self, now: float) -> None:
        self._machine.on(I.END, now)
        self._assemblies, self._report_at = {}, None
        self._kept = replace(self._kept, key=bytes(32), early={})
        self._events.put(GroupEnded(self._kept.group))

    def _post(self, letter: ReportLetter | LeaveLetter) -> None:
        self._events.put(Post(self._owner, encode(letter)))

    def _persist(self) -> None:
        self._token += 1
        kept = self._kept
        self._events.put(Persist(self._token, (lambda: kept,), sync=True))
