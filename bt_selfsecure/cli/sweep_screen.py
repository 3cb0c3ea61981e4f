"""A sweep on the terminal: lines as they come, one that changes, and what the person types."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bt_selfsecure.cli.client import CLEAR_LINE_END
from bt_selfsecure.cli.terminal import columns
from bt_selfsecure.sweep.driver import Driver
from bt_selfsecure.sweep.events import End, Placed, Redo, TakeBack
from bt_selfsecure.sweep.plan import Place, metres, minutes
from bt_selfsecure.sweep.positions import moves, to_do
from bt_selfsecure.sweep.states import State
from bt_selfsecure.sweep.wishes import END, PLACED, SKIP, STOP, Phase, Wish, wish_here
from bt_selfsecure.wording import counted

LOOK_S: Final = 0.5
HELP: Final = "Enter starts; s skips, b takes it back, i interrupts, r METRES redoes, q quits."
HELP_AT_THE_END: Final = "Enter ends the sweep; b takes a skip back, r METRES redoes a place."


class Screen:
    """Shows `driver`'s sweep from `shown` on."""

    def __init__(self, driver: Driver, record: Path, address: str) -> None:
        self._driver, self._record, self._address = driver, record, address
        self._ground = driver.sweep.ground
        """As shown."""
        self._redo: Wish | None = None
        """Asked for, and to be confirmed."""
        self._unattended = False

    @contextmanager
    def shown(self, *, unattended: bool) -> Iterator[None]:
        self._unattended = unattended
        self._head()
        loop = asyncio.get_running_loop()
        listens = sys.stdin.isatty() and not unattended
        if listens:
            loop.add_reader(sys.stdin, self._read)
        task = loop.create_task(self._look(), name="screen")
        self._driver.on_change = self._changed
        try:
            yield
        finally:
            task.cancel()
            if listens:
                loop.remove_reader(sys.stdin)
            self._clear()
            self._tail()

    def _head(self) -> None:
        plan, sweep, left = self._driver.plan, self._driver.sweep, self._driver.standing()["left"]
        done = f", {len(sweep.done)} are done already" if sweep.done else ""
        places = counted(len(plan.places()), "place")
        print(f"{counted(left, 'run')} to do at {places}{done}")
        print(f"in all {minutes(plan)}")
        print(f"written to {self._record}")
        if self._address:
            print(f"on the phone: {self._address}")
        sys.stdout.flush()

    def _tail(self) -> None:
        sweep, driver = self._driver.sweep, self._driver
        if sweep.place:
            left = driver.standing()["left"]
            print(
                f"{counted(len(sweep.done), 'run')} written down, {left} to go; the same command goes on with the next"
            )
        elif sweep.done:
            print(f"the report: {driver.report}")
        sys.stdout.flush()  # before what standard error has to say, where both go to one file

    def _changed(self) -> None:
        self._clear()
        for line in self._driver.new_lines():
            print(line)
        sweep = self._driver.sweep
        self._ground = sweep.ground
        if self._unattended:
            if sweep.state is State.ASKING and sweep.place:
                self._driver.do(Placed(sweep.place))
            elif sweep.state is State.DONE:
                self._driver.do(End())
        elif sweep.state is State.ASKING and sweep.place:
            self._prompt(sweep.place)
        elif sweep.state is State.DONE and sys.stdin.isatty():
            print(HELP_AT_THE_END)
        sys.stdout.flush()

    def _prompt(self, place: Place) -> None:
        rows = to_do(self._driver.plan, place, self._driver.sweep.whereabouts.may_be)
        print()
        for row in rows:
            print(f"  {row['name']:<12} {moves(row):<6}{row['does']}, {row['where']}")
        if sys.stdin.isatty():
            print(HELP)

    def _read(self) -> None:
        line = sys.stdin.readline()
        if not line:  # Ctrl-D, or the terminal is gone
            asyncio.get_running_loop().remove_reader(sys.stdin)
            if not self._address:
                self._driver.quit()
            return
        confirmed, self._redo = self._redo, None
        word, _, rest = line.strip().partition(" ")
        match word:
            case "y" if confirmed:
                self._wish(confirmed)
            case _ if confirmed:
                print("nothing is withdrawn")
            case "":
                self._wish(wish_here(END if self._ground.phase is Phase.DONE else PLACED, self._ground))
            case "s":
                self._wish(wish_here(SKIP, self._ground))
            case "b":
                skipped = self._driver.sweep.skipped
                self._wish(Wish(TakeBack(skipped[-1]) if skipped else None, self._ground))
            case "i":
                self._wish(wish_here(STOP, self._ground))
            case "r":
                self._ask_for_redo(rest)
            case "q":
                self._driver.quit()
            case _:
                print(HELP)

    def _wish(self, wish: Wish) -> None:
        if why := self._driver.wish(wish):
            print(f"nothing is done: {why}")
        self._ground = self._driver.sweep.ground

    def _ask_for_redo(self, wanted: str) -> None:
        sweep = self._driver.sweep
        turn = sweep.place.turn if sweep.place else self._driver.plan.turns - 1
        for place in self._driver.plan.places():
            if place.turn == turn and f"{place.distance_m:g}" == wanted.removesuffix("m").strip():
                if not (runs := sweep.runs_at(place)):
                    print(f"there is no run at {metres(place)} yet: nothing to do again")
                    return
                self._redo = Wish(Redo(place), self._ground, runs=runs)
                print(f"withdraw {counted(runs, 'run')} at {metres(place)} and do them again? y, or anything else")
                return
        known = ", ".join(metres(place) for place in self._driver.plan.places())
        print(f"r takes a place of the plan: {known}")

    # --- the line that changes

    async def _look(self) -> None:
        while True:
            self._ground = self._driver.sweep.ground
            if sys.stderr.isatty():
                print("\r" + self._now()[: columns() - 1] + CLEAR_LINE_END, end="", file=sys.stderr, flush=True)
            await asyncio.sleep(LOOK_S)

    def _now(self) -> str:
        view = self._driver.view()
        if view["state"] in ("asking", "done", "over"):
            return ""
        doing = f"{view['doing']}, {view['countdown_s']:.0f} s" if view["countdown_s"] is not None else view["doing"]
        done, of = view["progress"]
        return (
            f"{doing}{f', {done} of {of}' if of else ''}  ({counted(view['done'], 'run')} done, {view['left']} to go)"
        )

    @staticmethod
    def _clear() -> None:
        if sys.stderr.isatty():
            print("\r" + CLEAR_LINE_END, end="", file=sys.stderr, flush=True)
