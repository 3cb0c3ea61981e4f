"""Runs a sweep: hands orders to the nodes, answers to the machine, whole runs to the file, and prompts to a screen."""

from __future__ import annotations

import asyncio
import secrets
import shlex
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final, assert_never

from bt_selfsecure.sweep.control import Crew
from bt_selfsecure.sweep.events import (
    Answered,
    Finished,
    Give,
    Input,
    Placed,
    Prompt,
    Record,
    RunStored,
    Tell,
    Withdraw,
    Withdrawn,
)
from bt_selfsecure.sweep.machine import Sweep
from bt_selfsecure.sweep.orders import Answer, Describe, Described
from bt_selfsecure.sweep.plan import Place, Plan, Run, medium, metres
from bt_selfsecure.sweep.positions import to_do
from bt_selfsecure.sweep.record import Book
from bt_selfsecure.sweep.states import State
from bt_selfsecure.sweep.wishes import DEAD_S, Wish
from bt_selfsecure.wording import counted

LINES: Final = 50
"""Of what was told, kept for a screen that is opened later."""
CHANGING: Final = frozenset({"temperature_c", "wifi_mhz", "peers_rssi"})
"""Facts that go into each run's notes and not into the manifest."""


class Driver:
    """This is one sweep from `run` to its end. Screens look at `view` and call `wish`; `on_change` is called when there
    is something new to see."""

    def __init__(self, plan: Plan, book: Book, crew: Crew) -> None:
        self.plan = plan
        self.on_change: Callable[[], None] = lambda: None
        self.lines: deque[str] = deque(maxlen=LINES)
        self._told = self._noticed = self._shown = 0
        self._book, self._crew = book, crew
        self._clock = asyncio.get_running_loop().time
        self._facts: dict[str, dict[str, Any]] = {}
        self._standing: dict[str, Any] = {}
        self._wake = asyncio.Event()
        self._quit = False
        self.sweep = Sweep(plan, book.done(), crew.addresses, lambda: secrets.randbits(32), self._clock())

    async def run(self) -> None:
        """Drive the sweep, and return after `End` or `quit`. Raises `UsageError` where the file can't be written."""
        self._crew.start(self._on_answer)
        self._describe()
        try:
            while not self.over:
                self._wake.clear()
                self._act()
                timer = self.sweep.get_timer()
                wait = None if timer is None else max(0.0, timer - self._clock())
                try:
                    async with asyncio.timeout(wait):
                        if not self.over:
                            await self._wake.wait()
                except TimeoutError:
                    self.sweep.handle_timer(self._clock())
            self._act()  # a run that ended just before is counted as written
        finally:
            await self._crew.close()

    def wish(self, wish: Wish) -> str:
        """Do what the person wants; or else why nothing is done."""
        why = "the sweep was ended" if self._quit else self.sweep.why_not(wish, self._clock())
        if not why and wish.want:
            self.do(wish.want)
        return why

    def do(self, event: Input) -> None:
        """Take what happened, or what the program itself wants."""
        if isinstance(event, Placed) and self.sweep.state is State.ASKING:
            self._describe()
        self.sweep.handle(event, self._clock())
        self._wake.set()

    def tell(self, line: str) -> None:
        """Tell the person something that she should know, of what goes on beside the sweep."""
        self._tell(line)
        self._wake.set()

    def quit(self) -> None:
        """Let `run` return; the next sweep with this plan and file goes on."""
        self._quit = True
        self._wake.set()

    @property
    def over(self) -> bool:
        """Return whether nothing can come any more."""
        return self._quit or self.sweep.state is State.OVER

    def _on_answer(self, node: str, answer: Answer) -> None:
        if self.over:
            return
        if isinstance(answer, Described):
            self._facts[node] = answer.facts
        else:
            self.do(Answered(node, answer))

    def _describe(self) -> None:
        """Ask for facts, which are wanted, but not waited for."""
        for node in self.plan.nodes:
            self._crew.give(node, Describe(secrets.randbits(32)))

    def _act(self) -> None:
        while effect := self.sweep.next_effect():
            match effect:
                case Give(node, order):
                    self._crew.give(node, order)
                case Record():
                    self._write(effect)
                case Withdraw(place):
                    self._book.withdraw(place, "done again")
                    self.sweep.handle(Withdrawn(place), self._clock())
                    self._standing = {}
                    self._tell(f"the runs at {metres(place)} are withdrawn and done again")
                case Prompt(place, roles, trouble):
                    self._tell(trouble or f"next: {metres(place)}, {roles.alice} to {roles.bob}")
                case Tell(text):
                    self._tell(text)
                case Finished():
                    left = self.standing()["left"]
                    self._tell(f"ended, {counted(left, 'run')} left out" if left else "all runs are done")
                case _:
                    assert_never(effect)
        if self._told != self._noticed:
            self._noticed = self._told
            self.on_change()

    def _write(self, record: Record) -> None:
        still = {node: _only(facts, CHANGING, False) for node, facts in self._facts.items()}
        self._book.begin(still, self._crew.addresses)
        started = datetime.now(UTC) - timedelta(seconds=self._clock() - record.began)
        self._book.write(record, started, {node: _only(facts, CHANGING, True) for node, facts in self._facts.items()})
        self.sweep.handle(RunStored(record.run), self._clock())
        self._standing = {}
        self._tell(run_line(record.run, self.sweep))

    # --- for screens

    def _tell(self, line: str) -> None:
        self.lines.append(line)
        self._told += 1

    def new_lines(self) -> list[str]:
        """Return the lines that were told since the last call."""
        new, self._shown = self._told - self._shown, self._told
        return list(self.lines)[-new:] if new else []

    def view(self) -> dict[str, Any]:
        """Return all that a screen shows, as JSON has it."""
        sweep, now = self.sweep, self._clock()
        status = sweep.status()
        place, run = status.pop("place"), status.pop("run")
        timer = sweep.get_timer()
        done, of = self._crew.progress() if sweep.state is State.SENDING else (0, 0)
        return (
            status
            | self.standing()
            | {
                "now": now,
                "over": self.over,
                "dead_s": max(0.0, sweep.changed_at + DEAD_S - now),
                "ground": {"place": place and asdict(place), "phase": sweep.ground.phase.value},
                "place": place and asdict(place) | {"nodes": to_do(self.plan, place, sweep.whereabouts.may_be)},
                "then": self._then(),
                "turns": self.plan.turns,
                "skipped": [asdict(skipped) for skipped in sweep.skipped],
                "run": run and {"bearer": medium(run.bearer), "packets": run.packets, "repeat": run.repeat},
                "repeats": self.plan.sweep.repeats,
                "countdown_s": max(0.0, timer - now) if timer and sweep.state is State.COUNTING else None,
                "progress": [done, of],
                "lines": list(self.lines)[-8:],
                "report": self.report,
            }
        )

    @property
    def report(self) -> str:
        """Return the command that makes the report of what was measured."""
        return f"bt-selfsecure sweep report {shlex.quote(str(self._book.path))}"

    def _then(self) -> dict[str, Any] | None:
        """Return the place after this one, reckoned from what `standing` counted."""
        missing = (told for told in self.standing()["places"] if told["done"] < told["of"])
        for told in missing:
            if (
                place := Place(told["turn"], told["distance_m"])
            ) != self.sweep.place and place not in self.sweep.skipped:
                return asdict(place)
        return None

    def standing(self) -> dict[str, Any]:
        """Return runs left, places, and losses so far. They are counted once a run, while nothing is in the air: it
        takes a Pi Zero a while, and packets would leave late."""
        if not self._standing:
            places = self.plan.places()
            self._standing = {
                "left": sum(len(self.sweep.missing_at(place)) for place in places),
                "places": [self._place(place) for place in places],
                "points": [point for place in places for point in self._points(place)],
            }
        return self._standing

    def _place(self, place: Place) -> dict[str, Any]:
        done, left = self.sweep.runs_at(place), len(self.sweep.missing_at(place))
        return asdict(place) | {"done": done, "of": done + left}

    def _points(self, place: Place) -> list[dict[str, Any]]:
        points = []
        for bearer in self.plan.sweep.bearers:
            tally = self.sweep.tally(place, bearer)
            if tally.sent:
                points.append(
                    {
                        "distance_m": place.distance_m,
                        "turn": place.turn,
                        "bearer": medium(bearer),
                        "losses": tally.losses(),
                    }
                )
        return points


def run_line(run: Run, sweep: Sweep) -> str:
    """Return one run and what it showed: "3 m le_advert 400 packets run 2 of 10 bob 10.2 % eve 7.5 %"."""
    losses = "  ".join(f"{name} {loss:.1%}" for name, (loss, _, _) in sweep.done[run].losses().items())
    queued = sweep.done[run].queued
    left = f"  ({queued} stayed in the sender's queue)" if queued else ""
    kind = f"{medium(run.bearer)}  {run.packets} packets  run {run.repeat + 1} of {sweep.plan.sweep.repeats}"
    return f"{metres(run.place)}  {kind}  lost: {losses}{left}"


def _only(facts: Mapping[str, Any], names: frozenset[str], inside: bool) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if (name in names) is inside}
