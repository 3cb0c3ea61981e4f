"""What a person wants, with the ground on which she wants it: the place and the phase that her screen showed.

A wish whose ground is gone is refused and not guessed at: so a second tap, a second phone, a tap that waited in a dead
network and one that met the end of a run do nothing. `Sweep.why_not` says why. On the wire of the page:

    {"wish": "redo", "place": {"turn": 0, "distance_m": 3.0}, "at": 8123.5,
     "runs": 2, "ground": {"place": {"turn": 0, "distance_m": 4.5}, "phase": "asking"}}

`place` is of redo and back only; the others are about the place of their ground. `runs` is of redo only: how many its
question named. `at` is by the clock in `Driver.view`.
"""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from bt_selfsecure.errors import BtSelfSecureError, UnreadableError
from bt_selfsecure.sweep.events import End, Placed, Redo, Skip, Stop, TakeBack, Want
from bt_selfsecure.sweep.plan import Place, Plan, metres

DEAD_S: Final = 0.7
"""After a change nobody has read what it changed to: a wish of that time is a second tap."""
STALE_S: Final = 3.0
"""A wish that took longer to come was made while there was no connection. The phone waits longer for its answer
(page.js, PATIENCE_MS): what it has given up is never done."""


class Phase(enum.Enum):
    """This is what a screen asks of the person."""

    ASKING = "asking"
    UNDER_WAY = "under way"
    DONE = "done"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Ground:
    """This is what a screen showed."""

    place: Place | None
    phase: Phase

    def __str__(self) -> str:
        match self.phase:
            case Phase.ASKING:
                return f"{self._where} is to be started"
            case Phase.UNDER_WAY:
                return f"{self._where} is under way"
            case Phase.DONE:
                return "nothing is left to do"
            case Phase.OVER:
                return "the sweep has ended"

    @property
    def _where(self) -> str:
        return metres(self.place) if self.place else "no place"


@dataclass(frozen=True, slots=True)
class Wish:
    """`want` is None where the ground had no place for it, as with an interruption when all is done."""

    want: Want | None
    ground: Ground
    at: float | None = None
    """When it was made; None: just now."""
    runs: int | None = None
    """Of a redo: how many the screen said that it withdraws."""


class NoWishError(BtSelfSecureError):
    """This came from a screen and is no wish."""


PLACED, STOP, SKIP, BACK, REDO, END = "placed", "stop", "skip", "back", "redo", "end"
_HERE: Final[Mapping[str, Callable[[Place], Want]]] = {PLACED: Placed, STOP: Stop, SKIP: Skip}
_ELSEWHERE: Final[Mapping[str, Callable[[Place], Want]]] = {BACK: TakeBack, REDO: Redo}


def wish_here(name: str, ground: Ground) -> Wish:
    """Return a wish about the place that the screen shows, or to end."""
    if name == END:
        return Wish(End(), ground)
    here = _HERE[name]
    return Wish(here(ground.place) if ground.place else None, ground)


def read_wish(body: bytes, plan: Plan) -> Wish:
    """Return what a page sent. Raises `NoWishError` for anything else than what it sends."""
    try:
        values = json.loads(body, parse_constant=_refuse)
        places = {(place.turn, place.distance_m): place for place in plan.places()}
        told = values["ground"]
        ground = Ground(_place(told["place"], places) if told["place"] is not None else None, Phase(told["phase"]))
        name, at = values["wish"], values["at"]
        if not math.isfinite(at):
            raise ValueError
        if name in _ELSEWHERE:
            runs = values["runs"] if name == REDO else None
            if name == REDO and type(runs) is not int:
                raise ValueError
            return Wish(_ELSEWHERE[name](_place(values["place"], places)), ground, at, runs)
        here = wish_here(name, ground)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise NoWishError("this is no wish of the page") from error
    return Wish(here.want, ground, at)


def _place(values: Any, places: Mapping[tuple[Any, Any], Place]) -> Place:
    return places[values["turn"], values["distance_m"]]


def _refuse(constant: str) -> NoReturn:
    raise UnreadableError(constant)
