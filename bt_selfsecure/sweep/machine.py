"""A sweep as a state machine, without radio, clock, disk or person: plan and events go in; prompts, orders and records
come out.

What was stored is whole; what a crash interrupts was not stored, and is asked for again by the next sweep with the same
plan. `handle` takes what happened, `next_effect` gives what is to be done; `get_timer` and `handle_timer` are those of
every endpoint here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, assert_never

from bt_selfsecure.errors import LocalError
from bt_selfsecure.sansio.back_off import LAST_RETRY_S, doubled
from bt_selfsecure.sweep.events import (
    Answered,
    Effect,
    End,
    Finished,
    Give,
    Input,
    Placed,
    Prompt,
    Record,
    Redo,
    RunStored,
    Skip,
    Stop,
    TakeBack,
    Tell,
    Want,
    Withdraw,
    Withdrawn,
)
from bt_selfsecure.sweep.orders import (
    Answer,
    Described,
    Listen,
    Listening,
    ListenReport,
    NotAnOrderError,
    OrderRefused,
    PacketsSent,
    Report,
    RunReception,
    SendPackets,
)
from bt_selfsecure.sweep.plan import Place, Plan, Roles, Run, metres
from bt_selfsecure.sweep.positions import Whereabouts
from bt_selfsecure.sweep.states import BUSY, TRANSITIONS, WRITING, Cause, State
from bt_selfsecure.sweep.tally import Tally, narrow_enough
from bt_selfsecure.sweep.wishes import DEAD_S, STALE_S, Ground, Phase, Wish
from bt_selfsecure.wording import counted

ANSWER_S: Final = 60.0
"""For a message, its answer, and a radio that is set up anew; the session repeats what is lost meanwhile."""
SLACK: Final = 10.0
"""A burst may take so many times what it should: an emulated Pi is slow."""
RETRIES: Final = 4
"""Before the person is asked for help."""
FIRST_RETRY_S: Final = 2.0


NOBODY: Final = -1
"""No answer has this tag."""


class Sweep:
    """This is one sweep. `done` are the runs that are stored already; `addresses` the nodes' device addresses by name;
    `draw` gives a new tag for each attempt."""

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
        self._deferred: deque[Want] = deque()
        """What the person wants, while something is written down."""
        self.skipped: list[Place] = []
        """The last one last."""
        self.whereabouts = Whereabouts()
        self.changed_at = now
        """When what a screen shows became another thing, or the person was obeyed."""
        self._tag = NOBODY
        self._retries = 0
        self._awaited: set[str] = set()
        self._sent: PacketsSent | None = None
        self._counts = Tally()
        """Of the run that is being written down."""
        self._began = 0.0
        self._heard: dict[str, ListenReport] = {}
        self.place: Place | None = None
        self._go_on(now)

    # --- the five verbs

    def handle(self, event: Input, now: float) -> None:
        """Take something that happened. Raises `LocalError` for something written that was not asked for."""
        before = self.ground
        self._handle(event, now)
        if isinstance(event, Want) or self.ground != before:
            self.changed_at = now

    def get_timer(self) -> float | None:
        """Return when `handle_timer` wants to be called; None: not at all."""
        return self.timer

    def handle_timer(self, now: float) -> None:
        """Take the time for which `get_timer` asked, or another."""
        before = self.ground
        self._on_time(now)
        if self.ground != before:
            self.changed_at = now

    def next_effect(self) -> Effect | None:
        """Return what is to be done next; None: nothing."""
        return self._effects.popleft() if self._effects else None

    # --- what goes in

    def _handle(self, event: Input, now: float) -> None:
        match event:
            case RunStored(run):
                if self.state is not State.STORING or run != self.run:
                    raise LocalError("a run was stored that is not under way")
                self.done[run] = self._counts
                self._go_on(now)
                self._catch_up(now)
            case Withdrawn(place):
                if self.state is not State.WITHDRAWING or place != self.place:
                    raise LocalError("a place was withdrawn that nobody wants again")
                self.done = {run: tally for run, tally in self.done.items() if run.place != place}
                self._unskip(place)
                self._ask(place, "")
                self._catch_up(now)
            case Answered(node, answer):
                self._answered(node, answer, now)
            case _ if self.state is State.OVER:
                pass
            case _ if self.state in WRITING:
                self._deferred.append(event)
            case Placed(place):
                if self.state is State.ASKING and place == self.place:
                    self._retries, self.trouble = 0, ""
                    self.whereabouts.placed(place)
                    self._change(Cause.PLACED, now + self.plan.sweep.countdown_s)
            case Stop(place):
                if place == self.place and self.state is not State.ASKING:
                    self._ask(place, "interrupted by you")
            case Skip(place):
                if place == self.place:
                    self.skipped.append(place)
                    self._go_on(now)
            case TakeBack(place):
                self._take_back(place)
            case Redo(place):
                if place in self.plan.places():
                    self.place, self.run = place, None
                    self._change(Cause.REDO, None)
                    self._effects.append(Withdraw(place))
            case End():
                if self.state is State.DONE:
                    self._change(Cause.ENDED, None)
            case _:
                assert_never(event)

    def _catch_up(self, now: float) -> None:
        while self._deferred and self.state not in WRITING:
            self._handle(self._deferred.popleft(), now)

    def _take_back(self, place: Place) -> None:
        if place not in self.skipped:
            return
        self._unskip(place)
        if self.ground.phase is Phase.UNDER_WAY:
            self._effects.append(Tell(f"{metres(place)} is no longer skipped, and comes after this place"))
        else:
            self._ask(place, "")

    def _unskip(self, place: Place) -> None:
        self.skipped = [skipped for skipped in self.skipped if skipped != place]

    def _on_time(self, now: float) -> None:
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

    # --- what the person wants, and what her screen showed

    @property
    def ground(self) -> Ground:
        """Return what a screen has to show now."""
        phases = {State.ASKING: Phase.ASKING, State.DONE: Phase.DONE, State.OVER: Phase.OVER}
        return Ground(self.place, phases.get(self.state, Phase.UNDER_WAY))

    def why_not(self, wish: Wish, now: float) -> str:
        """Return why this wish is not to be carried out; empty: give what it wants to `handle`."""
        if self.state is State.OVER:
            return "the sweep has ended"
        age = 0.0 if wish.at is None else now - wish.at
        if not -1.0 <= age <= STALE_S:
            return "it was long on its way: there was no connection"
        if wish.ground != self.ground:
            return f"the screen showed that {wish.ground}, and meanwhile {self.ground}"
        if now - self.changed_at < DEAD_S:
            return f"it came at the very moment of a change, and now {self.ground}"
        match wish.want:
            case Placed() if self.ground.phase is not Phase.ASKING:
                return "there is nothing to start"
            case Stop() if self.ground.phase is not Phase.UNDER_WAY:
                return "there is nothing to interrupt"
            case TakeBack(place) if place not in self.skipped:
                return f"{metres(place)} is not skipped"
            case Redo(place):
                return self._why_not_redo(place, wish.runs)
            case End() if self.ground.phase is not Phase.DONE:
                return "there is something left to do"
            case None:
                return "there is no place for it"
        return ""

    # --- what is left to do

    def runs_at(self, place: Place) -> int:
        """Return how many runs of this place are written: a redo withdraws all of them."""
        return sum(run.place == place for run in self.done)

    def _why_not_redo(self, place: Place, asked: int | None) -> str:
        """Return why what the person was `asked` is not what she would get."""
        being_written = self.state is State.STORING and place == self.place  # and withdrawn with the others
        if not (runs := self.runs_at(place) + being_written):
            return f"there is no run at {metres(place)} yet"
        if runs == asked:
            return ""
        return f"{metres(place)} has {counted(runs, 'run')} now, and the question was about {asked or 0}: ask again"

    def missing_at(self, place: Place) -> list[Run]:
        """Return the runs that this place still lacks; of a kind whose intervals are narrow enough, none after
        `min_repeats`."""
        missing = [run for run in self.plan.runs_at(place) if run not in self.done]
        kinds = {(run.bearer, run.packets) for run in missing}
        narrow = {kind for kind in kinds if self._is_narrow(place, *kind)}
        least = self.plan.sweep.min_repeats
        return [run for run in missing if run.repeat < least or (run.bearer, run.packets) not in narrow]

    def places_left(self) -> list[Place]:
        return [place for place in self.plan.places() if place not in self.skipped and self.missing_at(place)]

    def tally(self, place: Place, bearer: str, packets: int | None = None) -> Tally:
        """Return what all runs of a kind, or of all numbers of packets, have shown there."""
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
        missing = self.missing_at(self.place) if self.place and self.place not in self.skipped else []
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
        self.whereabouts.asked(place)
        self._change(Cause.NEXT_PLACE, None)
        self._effects.append(Prompt(place, self.plan.roles_in(place.turn), trouble))

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
            case OrderRefused(_, reason):
                self._fail(f"{node}: {reason}", now)
            case Listening() if self.state is State.PREPARING:
                self._awaited.discard(node)
                if not self._awaited:
                    self._send(now)
            case PacketsSent() if self.state is State.SENDING:
                self._sent = answer
                self._collect(now)
            case ListenReport() if self.state is State.COLLECTING:
                self._heard[node] = answer
                self._awaited.discard(node)
                if not self._awaited:
                    self._record(now)
            case Described() | Listening() | PacketsSent() | ListenReport():
                pass  # not what was asked: time will tell
            case _:
                assert_never(answer)

    def _send(self, now: float) -> None:
        run, roles = self._under_way()
        spacing = self.plan.spacing_ms(run.bearer)
        receivers = {name: self._addresses[name] for name in roles.receivers}
        order = SendPackets(
            self._tag, self.plan.spec(run), receivers, run.packets, self.plan.size_bytes(run.bearer), spacing
        )
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
                node: RunReception.of(self._heard[node], self._sent, node, run.packets) for node in roles.receivers
            }
        except NotAnOrderError as error:
            self._fail(str(error), now)
            return
        self._counts = Tally.of(receptions, roles.bob)
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
        wait = doubled(FIRST_RETRY_S, LAST_RETRY_S, self._retries - 1)
        self._change(Cause.TROUBLE, now + wait)
        self._effects.append(Tell(f"{reason}; trying again in {wait:g} s"))

    def _under_way(self) -> tuple[Run, Roles]:
        if self.run is None:
            raise LocalError("no run is under way")
        return self.run, self.plan.roles_in(self.run.place.turn)

    def status(self) -> dict[str, Any]:
        """Return where the sweep is, for screens."""
        return {
            "state": self.state.name.lower(),
            "doing": self.state.value,
            "trouble": self.trouble,
            "place": self.place,
            "run": self.run,
            "done": len(self.done),
        }
