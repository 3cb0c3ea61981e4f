"""Runs a sweep: hands orders to the nodes, answers to the machine, whole runs to the file, and prompts to a screen."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final, assert_never

from bt_selfsecure.sweep.control import Crew
from bt_selfsecure.sweep.machine import (
    Answered,
    Finished,
    Give,
    Input,
    Placed,
    Prompt,
    Record,
    State,
    Stored,
    Sweep,
    Tell,
    Withdraw,
)
from bt_selfsecure.sweep.orders import Answer, Describe, Described
from bt_selfsecure.sweep.plan import Place, Plan, Run, medium
from bt_selfsecure.sweep.record import Book
from bt_selfsecure.wording import counted

LINES: Final = 50
"""Of what was told, kept for a screen that is opened later."""
CHANGING: Final = frozenset({"temperature_c", "wifi_mhz", "peers_rssi"})
"""Facts that go into each run's notes and not into the manifest."""


class Driver:
    """One sweep from `run` to its end. Screens look at `view` and call `do`; `on_change` is called when there is
    something new to see."""

    def __init__(self, plan: Plan, book: Book, crew: Crew) -> None:
        self.plan = plan
        self.on_change: Callable[[], None] = lambda: None
        self.lines: deque[str] = deque(maxlen=LINES)
        self._told = self._shown = 0
        self._book, self._crew = book, crew
        self._clock = asyncio.get_running_loop().time
        self._facts: dict[str, dict[str, Any]] = {}
        self._standing: dict[str, Any] = {}
        self._wake = asyncio.Event()
        self._over = False
        self.sweep = Sweep(plan, book.done(), crew.addresses, lambda: secrets.randbits(32), self._clock())

    async def run(self) -> None:
        """Returns when all runs are done, or after `quit`. Raises `UsageError` where the file can't be written."""
        self._crew.start(self._on_answer)
        self._describe()
        try:
            while not self._over:
                self._act()
                timer = self.sweep.get_timer()
                wait = None if timer is None else max(0.0, timer - self._clock())
                self._wake.clear()
                try:
                    async with asyncio.timeout(wait):
                        if not self._over:
                            await self._wake.wait()
                except TimeoutError:
                    self.sweep.handle_timer(self._clock())
            self._act()  # a run that ended just before is counted as written
        finally:
            await self._crew.close()

    def do(self, wish: Input) -> None:
        """What the person wants."""
        if isinstance(wish, Placed) and self.sweep.state is State.ASKING:
            self._describe()
        self.sweep.handle(wish, self._clock())
        self._wake.set()

    def quit(self) -> None:
        """`run` returns; the next sweep with this plan and file goes on."""
        self._over = True
        self._wake.set()

    def _on_answer(self, node: str, answer: Answer) -> None:
        if self._over:
            return
        if isinstance(answer, Described):
            self._facts[node] = answer.facts
        else:
            self.do(Answered(node, answer))

    def _describe(self) -> None:
        """Facts are wanted, but not waited for."""
        for node in self.plan.nodes:
            self._crew.give(node, Describe(secrets.randbits(32)))

    def _act(self) -> None:
        told = self._told
        while effect := self.sweep.next_effect():
            match effect:
                case Give(node, order):
                    self._crew.give(node, order)
                case Record():
                    self._write(effect)
                case Withdraw(place):
                    self._book.withdraw(place, "done again")
                    self._standing = {}
                    self._tell(f"the runs at {metres(place)} are withdrawn and done again")
                case Prompt(place, roles, trouble):
                    self._tell(trouble or f"next: {metres(place)}, {roles.alice} to {roles.bob}")
                case Tell(text):
                    self._tell(text)
                case Finished():
                    left = self.standing()["left"]
                    self._tell(f"ended, {counted(left, 'run')} left out" if left else "all runs are done")
                    self._over = self.sweep.state is State.DONE
                case _:
                    assert_never(effect)
        if self._told != told:
            self.on_change()

    def _write(self, record: Record) -> None:
        still = {node: _only(facts, CHANGING, False) for node, facts in self._facts.items()}
        self._book.begin(still, self._crew.addresses)
        started = datetime.now(UTC) - timedelta(seconds=self._clock() - record.began)
        self._book.write(record, started, {node: _only(facts, CHANGING, True) for node, facts in self._facts.items()})
        self._standing = {}
        self._tell(run_line(record.run, self.sweep))
        self.sweep.handle(Stored(record.run), self._clock())

    # --- for screens

    def _tell(self, line: str) -> None:
        self.lines.append(line)
        self._told += 1

    def new_lines(self) -> list[str]:
        """Those that were told since the last call."""
        new, self._shown = self._told - self._shown, self._told
        return list(self.lines)[-new:] if new else []

    def view(self) -> dict[str, Any]:
        """All that a screen shows, as JSON has it."""
        sweep = self.sweep
        status = sweep.status()
        place, run = status.pop("place"), status.pop("run")
        timer = sweep.get_timer()
        done, of = self._crew.progress() if sweep.state is State.SENDING else (0, 0)
        return (
            status
            | self.standing()
            | {
                "place": place and asdict(place) | {"roles": asdict(self.plan.roles_in(place.turn))},
                "run": run and {"bearer": run.bearer, "packets": run.packets, "repeat": run.repeat},
                "repeats": self.plan.sweep.repeats,
                "countdown_s": max(0.0, timer - self._clock()) if timer and sweep.state is State.COUNTING else None,
                "progress": [done, of],
                "lines": list(self.lines)[-8:],
            }
        )

    def standing(self) -> dict[str, Any]:
        """Runs left, places, and losses so far. Counted once a run, while nothing is in the air: it takes a Pi Zero a
        while, and packets would leave late."""
        if not self._standing:
            places = self.plan.places()
            self._standing = {
                "left": sum(len(self.sweep.missing_at(place)) for place in places),
                "places": [self._place(place) for place in places],
                "points": [point for place in places for point in self._points(place)],
            }
        return self._standing

    def _place(self, place: Place) -> dict[str, Any]:
        runs = list(self.plan.runs_at(place))
        done = sum(run in self.sweep.done for run in runs)
        left = len(self.sweep.missing_at(place))
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
                        "bearer": bearer,
                        "losses": tally.losses(),
                        "eve_losses": tally.eve_losses(),
                        "queued": tally.queued,
                    }
                )
        return points


def metres(place: Place) -> str:
    """As a person says it."""
    return f"{place.distance_m:g} m" + (f" (turn {place.turn + 1})" if place.turn else "")


def run_line(run: Run, sweep: Sweep) -> str:
    """One run and what it showed: "3 m  le_advert  400 packets  run 2 of 10  bob 10.2 %  eve 7.5 %"."""
    losses = "  ".join(f"{name} {loss:.1%}" for name, (loss, _, _) in sweep.done[run].losses().items())
    queued = sweep.done[run].queued
    left = f"  ({queued} stayed in the sender's queue)" if queued else ""
    kind = f"{medium(run.bearer)}  {run.packets} packets  run {run.repeat + 1} of {sweep.plan.sweep.repeats}"
    return f"{metres(run.place)}  {kind}  lost: {losses}{left}"


def _only(facts: Mapping[str, Any], names: frozenset[str], inside: bool) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if (name in names) is inside}
