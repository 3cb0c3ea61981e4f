"""Tables in Markdown, for the programs beside the pages."""

from __future__ import annotations


def table(*rows: tuple[object, ...]) -> str:
    """Return a table whose first row is its head."""
    head, *body = [" | ".join(str(cell) for cell in row) for row in rows]
    return "\n".join([f"| {head} |", "|" + "---|" * len(rows[0]), *(f"| {row} |" for row in body)])
