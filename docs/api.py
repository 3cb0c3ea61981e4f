"""The tables of api.md: run docs/generate.py."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from itertools import pairwise
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
    for event in (bt_selfsecure.events.StateChanged, *get_args(bt_selfsecure.events.Event)):
        kind = get_origin(event) or event
        properties = inspect.getmembers(kind, lambda what: isinstance(what, property))
        names = [*kind.__dataclass_fields__, *(name for name, _ in properties)]
        has = ", ".join(f"`{name}`" for name in names if not name.startswith("_"))
        rows.append((f"`{kind.__name__}`", has, first_sentence(kind)))
    return table(("event", "fields", ""), *rows)


def said_of_fields(kind: type) -> dict[str, str]:
    """Return what stands as a string under each field of a dataclass."""
    (body,) = (node.body for node in ast.parse(inspect.getsource(kind)).body if isinstance(node, ast.ClassDef))
    return {
        ast.unparse(field.target): " ".join(said.value.value.split()).replace("|", r"\|")
        for field, said in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(said, ast.Expr)
        and isinstance(said.value, ast.Constant)
        and isinstance(said.value.value, str)
    }


def as_written(default: Any) -> str:
    """Return a default as a caller would write it; nothing where there is none."""
    if default is MISSING:
        return ""
    if is_dataclass(default):
        return f"`{type(default).__name__}()`"
    return f"`{type(default).__name__}.{default.name}`" if isinstance(default, Enum) else f"`{default!r}`"


def settings(kind: type[Any]) -> str:
    said = said_of_fields(kind)
    rows = []
    for field in fields(kind):
        made = field.default if field.default_factory is MISSING else field.default_factory()
        default = "everybody" if callable(made) else as_written(made)
        rows.append((f"`{field.name}`", default, said.get(field.name, "")))
    return table(("field", "default", ""), *rows)


PARTS: Final[dict[str, Callable[[], str]]] = {
    "names": names,
    "establish_config": lambda: settings(bt_selfsecure.EstablishConfig),
    "session_config": lambda: settings(bt_selfsecure.SessionConfig),
    "events": events,
}
