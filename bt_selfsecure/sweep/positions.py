"""Who stands where at a place, and who has to move for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bt_selfsecure.sweep.plan import Place, Plan


@dataclass(frozen=True, slots=True)
class Position:
    """Says where a node stands, in words that are the same for the same spot on the ground."""

    does: str
    where: str


def positions(plan: Plan, place: Place) -> dict[str, Position]:
    """Return the positions by node: first the one that sends, then the one that is measured, then those who listen."""
    roles = plan.roles_in(place.turn)
    found = {
        roles.alice: Position("sends", "at the end of the tape"),
        roles.bob: Position("receives", f"{place.distance_m:g} m from there"),
    }
    for number, name in enumerate(roles.eves, 1):
        metres = plan.roles.eve_distances_m
        numbered = f" {number}" if len(roles.eves) > 1 else ""
        away = f"{metres[number - 1]:g} m from there, " if metres else ""
        found[name] = Position("listens", f"{away}at the place of Eve{numbered}")
    return found


class Whereabouts:
    """Knows for which places the nodes may stand."""

    def __init__(self) -> None:
        self._stood: Place | None = None
        self._asked_for: list[Place] = []

    def placed(self, place: Place) -> None:
        """Take that a person says that the nodes stand there."""
        self._stood, self._asked_for = place, []

    def asked(self, place: Place) -> None:
        """Take that a person is asked to move them there, which she may do in part."""
        if self._asked_for[-1:] != [place]:
            self._asked_for.append(place)

    @property
    def may_be(self) -> list[Place]:
        """Return where they stood, and where they may have been moved for what was asked before the last question.
        Empty: nobody knows."""
        return [self._stood, *self._asked_for[:-1]] if self._stood else []


def to_do(plan: Plan, place: Place, may_stand: Sequence[Place]) -> list[dict[str, Any]]:
    """Return what a screen says of each node, where it `may_stand` for these places; `moves` is None where nobody knows
    whether it has to."""
    before = [positions(plan, each) for each in may_stand]
    return [
        {"name": name} | asdict(position) | {"moves": _moves({each[name] == position for each in before})}
        for name, position in positions(plan, place).items()
    ]


def _moves(there: set[bool]) -> bool | None:
    return False in there if len(there) == 1 else None


def moves(row: dict[str, Any]) -> str:
    """Return the last word of such a line."""
    return {True: "moves", False: "stays", None: ""}[row["moves"]]
