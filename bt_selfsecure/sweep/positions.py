"""Who stands where at a place, and who has to move for it."""

from __future__ import annotations

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


def to_do(plan: Plan, place: Place, stood: Place | None) -> list[dict[str, Any]]:
    """Return what a screen says of each node; `moves` is None where nobody knows where it `stood`."""
    before = positions(plan, stood) if stood else {}
    return [
        {"name": name} | asdict(position) | {"moves": before[name] != position if before else None}
        for name, position in positions(plan, place).items()
    ]


def moves(row: dict[str, Any]) -> str:
    """Return the last word of such a line."""
    return {True: "moves", False: "stays", None: ""}[row["moves"]]
