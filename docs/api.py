"""The tables of api.md: run docs/generate.py."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, Final, get_args, get_origin

from tables import table

import bt_selfsecure


def first_sentence(thing: Any) -> str:
    """Return the first sentence of a docstring, fit for a cell."""
    text = " ".join((inspect.getdoc(thing) or "").split())
    return re.split(r"(?<=[.]) (?=[A-Z`])", text)[0].replace("|", r"\|")


def names() -> str:
    return table(
        ("name", ""), *((f"`{name}`", first_sentence(getattr(bt_selfsecure, name))) for name in bt_selfsecure.__all__)
    )


def events() -> str:
    rows = []
    for event in get_args(bt_selfsecure.events.Event):
        kind = get_origin(event) or event
        fields = ", ".join(f"`{name}`" for name in kind.__dataclass_fields__)
        rows.append((f"`{kind.__name__}`", fields, first_sentence(kind)))
    return table(("event", "fields", ""), *rows)


PARTS: Final[dict[str, Callable[[], str]]] = {"names": names, "events": events}
