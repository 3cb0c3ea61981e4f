"""Tables and state diagrams in Markdown, for the programs beside the pages."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar

State = TypeVar("State", bound=Enum)
Input = TypeVar("Input", bound=Enum)


def table(*rows: tuple[object, ...]) -> str:
    """Return a table whose first row is its head."""
    head, *body = [" | ".join(str(cell) for cell in row) for row in rows]
    return "\n".join([f"| {head} |", "|" + "---|" * len(rows[0]), *(f"| {row} |" for row in body)])


def state_diagram(transitions: Mapping[tuple[State, Input], State]) -> str:
    """Return a machine's table as a Mermaid diagram: drawn from what the code looks up, so it cannot drift."""
    rows = [f"    {state.name} --> {following.name}: {given.name}" for (state, given), following in transitions.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", *rows, "```"])
