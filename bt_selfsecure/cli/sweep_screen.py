"""A sweep on the terminal: lines as they come, one that changes, and what the person types."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bt_selfsecure.cli.client import CLEAR_LINE_END, columns
from bt_selfsecure.look import counted
from bt_selfsecure.sweep.driver import Driver, metres
from bt_selfsecure.sweep.machine import Placed, Redo, Skip, State, Stop
from bt_selfsecure.sweep.plan import minutes

LOOK_S: Final = 0.5
HELP: Final = "Enter starts, r METRES redoes a place, s skips it, i interrupts, q quits."


class Screen:
    """Shows `driver`'s sweep from `shown` on."""

    def __init__(self, driver: Driver, record: Path, address: str) -> None:
        self._driver, self._record, self._address = driver, record, address
        self._shown = 0
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
        sweep = self._driver.sweep
        if sweep.state is not State.DONE:
            left = self._driver.standing()["left"]
            print(
                f"{counted(len(sweep.done), 'run')} written down, {left} to go; the same command goes on with the next"
            )

    def _changed(self) -> None:
        self._clear()
        for line in self._driver.new_lines():
            print(line)
        sweep = self._driver.sweep
        if sweep.state is State.ASKING and sweep.place:
            if self._unattended:
                self._driver.do(Placed())
            else:
                self._prompt()
        sys.stdout.flush()

    def _prompt(self) -> None:
        place = self._driver.sweep.place
        assert place is not None
        roles = self._driver.plan.roles_in(place.turn)
        print(f"\n  {roles.alice:<12} at the end of the tape; sends")
        print(f"  {roles.bob:<12} {place.distance_m:g} m from there")
        eves = self._driver.plan.roles.eve_distances_m or ("",) * len(roles.eves)
        for name, away in zip(roles.eves, eves, strict=True):
            print(f"  {name:<12} listens, {f'{away:g} m from there' if away else 'where she always is'}")
        if sys.stdin.isatty():
            print(HELP)

    def _read(self) -> None:
        line = sys.stdin.readline()
        if not line:  # Ctrl-D, or the terminal is gone
            asyncio.get_running_loop().remove_reader(sys.stdin)
            if not self._address:
                self._driver.quit()
            return
        word, _, rest = line.strip().partition(" ")
        match word:
            case "":
                self._driver.do(Placed())
            case "s":
                self._driver.do(Skip())
            case "i":
                self._driver.do(Stop())
            case "r":
                self._redo(rest)
            case "q":
                self._driver.quit()
            case _:
                print(HELP)

    def _redo(self, wanted: str) -> None:
        turn = self._driver.sweep.place.turn if self._driver.sweep.place else 0
        for place in self._driver.plan.places():
            if place.turn == turn and f"{place.distance_m:g}" == wanted.removesuffix("m").strip():
                self._driver.do(Redo(place))
                return
        known = ", ".join(metres(place) for place in self._driver.plan.places())
        print(f"r takes a place of the plan: {known}")

    # --- the line that changes

    async def _look(self) -> None:
        while True:
            if sys.stderr.isatty():
                print("\r" + self._now()[: columns() - 1] + CLEAR_LINE_END, end="", file=sys.stderr, flush=True)
            await asyncio.sleep(LOOK_S)

    def _now(self) -> str:
        view = self._driver.view()
        if view["state"] == "asking":
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
