"""A sweep as a state machine, without radio, clock, disk or person: plan and events go in; prompts, orders and records
come out.

What was stored is whole; what a crash interrupts was not stored, and is asked for again by the next sweep with the same
plan. `handle` takes what happened, `next_effect` gives what is to be done; `get_timer` and `handle_timer` are those of
every endpoint here.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, assert_never

from bt_selfsecure.errors import LocalError
from bt_selfsecure.sweep.orders import (
    Answer,
    Described,
    Listen,
    Listening,
    ListenReport,
    NotAnOrderError,
    Reception,
    Refused,
    Report,
    Send,
    Sent,
)
from bt_selfsecure.sweep.plan import Place, Plan, Roles, Run
from bt_selfsecure.sweep.tally import Tally, narrow_enough

ANSWER_S: Final = 60.0
"""For a message, its answer, and a radio that is set up anew; the session repeats what is lost meanwhile."""
SLACK: Final = 10.0
"""A burst may take so many times what it should: an emulated Pi is slow."""
RETRIES: Final = 4
"""Before the person is asked for help."""
FIRST_RETRY_S: Final = 2.0


class State(enum.Enum):
    ASKING = "waiting for the nodes to be put in place"
    COUNTING = "counting down"
    PREPARING = "telling the receivers to listen"
    SENDING = "packets are in the air"
    COLLECTING = "asking what was heard"
    STORING = "writing the run down"
    WAITING = "trying again soon"
    DONE = "all runs are done"


BUSY: Final = (State.PREPARING, State.SENDING, State.COLLECTING)
"""Nodes are at work for us; in every other state whoever still answers is late."""
NOBODY: Final = -1
"""No answer has this tag."""


class Cause(enum.Enum):
    """Why the state changes."""

    PLACED = enum.auto()
    TIME = enum.auto()
    ALL_LISTEN = enum.auto()
    SENT = enum.auto()
    ALL_REPORTED = enum.auto()
    NEXT_RUN = enum.auto()
    NEXT_PLACE = enum.auto()
    TROUBLE = enum.auto()
    HELP_NEEDED = enum.auto()
    FINISHED = enum.auto()


TRANSITIONS: Final[Mapping[tuple[State, Cause], State]] = {
    (State.ASKING, Cause.PLACED): State.COUNTING,
    (State.COUNTING, Cause.TIME): State.PREPARING,
    (State.PREPARING, Cause.ALL_LISTEN): State.SENDING,
    (State.SENDING, Cause.SENT): State.COLLECTING,
    (State.COLLECTING, Cause.ALL_REPORTED): State.STORING,
    (State.STORING, Cause.NEXT_RUN): State.PREPARING,
    (State.WAITING, Cause.TIME): State.PREPARING,
    **{(busy, Cause.TROUBLE): State.WAITING for busy in BUSY},
    **{(busy, Cause.HELP_NEEDED): State.ASKING for busy in BUSY},
    # The person may interrupt whatever goes on, but for a run that is just being written down.
    **{(state, Cause.NEXT_PLACE): State.ASKING for state in State},
    **{(state, Cause.FINISHED): State.DONE for state in State},
}

# --- what goes in -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Placed:
    """The nodes stand where the prompt says."""


@dataclass(frozen=True, slots=True)
class Redo:
    """The runs at this place are no good: withdraw them and do them again."""

    place: Place


@dataclass(frozen=True, slots=True)
class Skip:
    """Leave the rest of this place out for now."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Interrupt: back to the prompt of this place."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A node's answer to an order."""

    node: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class Stored:
    """The record of this run is on disk."""

    run: Run


Input = Placed | Redo | Skip | Stop | Answered | Stored

# --- what comes out ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Prompt:
    """Ask the person to move the nodes, and for `Placed`."""

    place: Place
    roles: Roles
    trouble: str
    """Why the person is asked again; empty where this is the first time."""


@dataclass(frozen=True, slots=True)
class Give:
    """Give a node an order; hand its answer to `handle`."""

    node: str
    order: Listen | Send | Report


@dataclass(frozen=True, slots=True)
class Record:
    """Write a whole run down, in one transaction; then `Stored`."""

    run: Run
    roles: Roles
    began: float
    sent: Sent
    receptions: dict[str, Reception]
    """By receiver."""


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Mark what was stored of this place as withdrawn, at once."""

    place: Place


@dataclass(frozen=True, slots=True)
class Tell:
    """For the person's eyes: something did not work, and what happens next."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """Nothing is left to do."""


Effect = Prompt | Give | Record | Withdraw | Tell | Finished


class Sweep:
    """One sweep. `done` are the runs that are stored already; `addresses` the nodes' device addresses by name; `draw`
    gives a new tag for each attempt."""

    def __init__(
        self, plan: Plan, done: Mapping[Run, Tally], addresses: Mapping[str, str], draw: Callable[[], int], now: float
    ) -> None:
        self.plan = plan
        self.done = dict(done)
        self.state = State.ASKING
        self.run: Run | None = None
        """Under way, or to come next."""
        self.trouble = ""
        self.timer: float | None = None
        self._addresses, self._draw = dict(addresses), draw
        self._effects: deque[Effect] = deque()
        self._deferred: deque[Input] = deque()
        """The person's wishes while a run is written down."""
        self._skipped: set[Place] = set()
        self._tag = NOBODY
        self._retries = 0
        self._awaited: set[str] = set()
        self._sent: Sent | None = None
        self._began = 0.0
        self._heard: dict[str, ListenReport] = {}
        self.place: Place | None = None
        self._go_on(now)

    # --- the five verbs

    def handle(self, event: Input, now: float) -> None:
        """Something happened. Raises `LocalError` for a record that was not asked for."""
        match event:
            case Placed():
                if self.state is State.ASKING:
                    self._retries, self.trouble = 0, ""
                    self._change(Cause.PLACED, now + self.plan.sweep.countdown_s)
            case Redo() | Skip() | Stop() if self.state is State.STORING:
                self._deferred.append(event)
            case Redo(place):
                self._redo(place)
            case Skip():
                if self.place:
                    self._skipped.add(self.place)
                    self._go_on(now)
            case Stop():
                if self.place and self.state is not State.ASKING:
                    self._ask(self.place, "interrupted by you")
            case Answered(node, answer):
                self._answered(node, answer, now)
            case Stored(run):
                if self.state is not State.STORING or run != self.run:
                    raise LocalError("a run was stored that is not under way")
                self._go_on(now)
                while self._deferred:
                    self.handle(self._deferred.popleft(), now)
            case _:
                assert_never(event)

    def get_timer(self) -> float | None:
        """When `handle_timer` wants to be called; None: not at all."""
        return self.timer

    def handle_timer(self, now: float) -> None:
        if self.timer is None or now < self.timer:
            return
        match self.state:
            case State.COUNTING | State.WAITING:
                self._prepare(now)
            case _ if self.state in BUSY:
                silent = " and ".join(sorted(self._awaited))
                self._fail(
                    f"{silent} did not answer: see that it is on and `bt-selfsecure sweep agent` runs there", now
                )
            case _:
                self.timer = None

    def next_effect(self) -> Effect | None:
        return self._effects.popleft() if self._effects else None

    # --- what is left to do

    def missing_at(self, place: Place) -> list[Run]:
        """Runs that this place still lacks; of a kind whose intervals are narrow enough, none after `min_repeats`."""
        missing = [run for run in self.plan.runs_at(place) if run not in self.done]
        kinds = {(run.bearer, run.packets) for run in missing}
        narrow = {kind for kind in kinds if self._is_narrow(place, *kind)}
        least = self.plan.sweep.min_repeats
        return [run for run in missing if run.repeat < least or (run.bearer, run.packets) not in narrow]

    def places_left(self) -> list[Place]:
        return [place for place in self.plan.places() if place not in self._skipped and self.missing_at(place)]

    def tally(self, place: Place, bearer: str, packets: int | None = None) -> Tally:
        """What all runs of a kind, or of all numbers of packets, have shown there."""
        return Tally.sum(
            tally
            for run, tally in self.done.items()
            if run.place == place and run.bearer == bearer and packets in (None, run.packets)
        )

    def _is_narrow(self, place: Place, bearer: str, packets: int) -> bool:
        width = self.plan.sweep.narrow_enough
        return width > 0 and narrow_enough(self.tally(place, bearer, packets), width)

    # --- how it goes on

    def _change(self, cause: Cause, timer: float | None) -> None:
        self.state = TRANSITIONS[self.state, cause]
        self.timer = timer
        if self.state not in BUSY:
            self._tag = NOBODY

    def _go_on(self, now: float) -> None:
        """To the next run here, to the next place, or to the end."""
        missing = self.missing_at(self.place) if self.place and self.place not in self._skipped else []
        if missing and self.state is State.STORING:
            self.run = missing[0]
            self._start_run(Cause.NEXT_RUN, now)
        elif left := self.places_left():
            self._ask(left[0], "")
        else:
            self.run = self.place = None
            self._change(Cause.FINISHED, None)
            self._effects.append(Finished())

    def _ask(self, place: Place, trouble: str) -> None:
        self.place, self.run, self.trouble = place, self.missing_at(place)[0], trouble
        self._change(Cause.NEXT_PLACE, None)
        self._effects.append(Prompt(place, self.plan.roles_in(place.turn), trouble))

    def _redo(self, place: Place) -> None:
        if place not in self.plan.places():
            return
        self._effects.append(Withdraw(place))
        self.done = {run: tally for run, tally in self.done.items() if run.place != place}
        self._skipped.discard(place)
        self._ask(place, "")

    def _prepare(self, now: float) -> None:
        self._start_run(Cause.TIME, now)

    def _start_run(self, cause: Cause, now: float) -> None:
        run, roles = self._under_way()
        self._tag = self._draw()
        self._sent, self._heard = None, {}
        self._awaited = set(roles.receivers)
        self._change(cause, now + ANSWER_S)
        listen = Listen(self._tag, self.plan.spec(run), self._addresses[roles.alice], run.packets)
        self._effects.extend(Give(node, listen) for node in roles.receivers)

    def _answered(self, node: str, answer: Answer, now: float) -> None:
        if answer.tag != self._tag or node not in self._awaited:
            return
        match answer:
            case Refused(_, reason):
                self._fail(f"{node}: {reason}", now)
            case Listening() if self.state is State.PREPARING:
                self._awaited.discard(node)
                if not self._awaited:
                    self._send(now)
            case Sent() if self.state is State.SENDING:
                self._sent = answer
                self._collect(now)
            case ListenReport() if self.state is State.COLLECTING:
                self._heard[node] = answer
                self._awaited.discard(node)
                if not self._awaited:
                    self._record(now)
            case Described() | Listening() | Sent() | ListenReport():
                pass  # not what was asked: time will tell
            case _:
                assert_never(answer)

    def _send(self, now: float) -> None:
        run, roles = self._under_way()
        spacing = self.plan.spacing_ms(run.bearer)
        receivers = {name: self._addresses[name] for name in roles.receivers}
        order = Send(self._tag, self.plan.spec(run), receivers, run.packets, self.plan.size_bytes(run.bearer), spacing)
        self._awaited, self._began = {roles.alice}, now
        self._change(Cause.ALL_LISTEN, now + ANSWER_S + SLACK * run.packets * spacing / 1000)
        self._effects.append(Give(roles.alice, order))

    def _collect(self, now: float) -> None:
        _, roles = self._under_way()
        self._awaited = set(roles.receivers)
        self._change(Cause.SENT, now + ANSWER_S)
        self._effects.extend(Give(node, Report(self._tag)) for node in roles.receivers)

    def _record(self, now: float) -> None:
        run, roles = self._under_way()
        assert self._sent is not None
        try:
            receptions = {
                node: Reception.of(self._heard[node], self._sent, node, run.packets) for node in roles.receivers
            }
        except NotAnOrderError as error:
            self._fail(str(error), now)
            return
        self.done[run] = Tally.of(receptions, roles.bob)
        self._retries, self.trouble = 0, ""
        self._change(Cause.ALL_REPORTED, None)
        self._effects.append(Record(run, roles, self._began, self._sent, receptions))

    def _fail(self, reason: str, now: float) -> None:
        """Try this run again from its beginning, in a while; or ask the person."""
        self.trouble = reason
        self._retries += 1
        if self._retries > RETRIES:
            self._change(Cause.HELP_NEEDED, None)
            assert self.place is not None
            self._effects.append(Prompt(self.place, self.plan.roles_in(self.place.turn), reason))
            return
        wait = FIRST_RETRY_S * 2 ** (self._retries - 1)
        self._change(Cause.TROUBLE, now + wait)
        self._effects.append(Tell(f"{reason}; trying again in {wait:g} s"))

    def _under_way(self) -> tuple[Run, Roles]:
        if self.run is None:
            raise LocalError("no run is under way")
        return self.run, self.plan.roles_in(self.run.place.turn)

    def status(self) -> dict[str, Any]:
        """For screens: where the sweep is."""
        return {
            "state": self.state.name.lower(),
            "doing": self.state.value,
            "trouble": self.trouble,
            "place": self.place,
            "run": self.run,
            "done": len(self.done),
        }
