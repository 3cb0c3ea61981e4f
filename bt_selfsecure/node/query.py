"""Reads the parameters of a request as the dataclass that declares them (`api_operations`)."""

from __future__ import annotations

import functools
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any, Literal, TypeVar

from bt_selfsecure.errors import UnreadableError, UsageError
from bt_selfsecure.node.api_types import Pattern, Range

Query = TypeVar("Query")
Read = Callable[[str], Any]
"""Raises `UnreadableError`, which says what the value must be."""


def read_query(given: Mapping[str, str], kind: type[Query]) -> Query:
    """Return the parameters as a `kind`. Raises `UsageError` for one that is unknown, missing, wrong or given twice."""
    readers, values = _readers(kind), dict[str, Any]()  # type: ignore[arg-type]
    for name, text in given.items():
        if name not in readers or name in values:
            known = ", ".join(readers) or "none"
            raise UsageError(f"{name[:64]!r} can't be used here, or not twice: the parameters are {known}")
        values[name] = read_value(name, text, readers[name])
    for each in fields(kind):  # type: ignore[arg-type]
        if each.default is MISSING and each.name not in values:
            must = _refusal(readers[each.name])
            raise UsageError(f"{each.name} is missing: give {must}")
    return kind(**values)


def read_value(name: str, text: str, read: Read) -> Any:
    """Return one value, read. Raises `UsageError`."""
    try:
        return read(text)
    except ValueError as error:
        raise UsageError(f"{name} is {text[:64]!r} and must be {error}") from None


def _refusal(read: Read) -> str:
    try:
        read("")
    except ValueError as error:
        return str(error)
    return "a text"


@functools.cache
def _readers(kind: type) -> Mapping[str, Read]:
    return {name: reader(of) for name, of in typing.get_type_hints(kind, include_extras=True).items()}


def reader(of: Any) -> Read:
    """Return what reads a value of this type, as api_types annotates it."""
    bounds = next((each for each in getattr(of, "__metadata__", ()) if isinstance(each, Range)), None)
    pattern = next((each for each in getattr(of, "__metadata__", ()) if isinstance(each, Pattern)), None)
    if pattern:
        return functools.partial(_matching, pattern)
    plain = typing.get_args(of)[0] if bounds else of
    if typing.get_origin(plain) is Literal:
        return functools.partial(_choice, {choice: choice for choice in typing.get_args(plain)})
    if plain is bool:
        return functools.partial(_choice, {"true": True, "false": False})
    if bounds and plain is int:
        return functools.partial(_whole, bounds)
    if bounds and plain is float:
        return functools.partial(_seconds, bounds)
    assert plain in (str, str | None), of
    return str


def _whole(bounds: Range, text: str) -> int:
    if not re.fullmatch("[0-9]{1,19}", text) or not _within(bounds, int(text)):
        raise UnreadableError(f"a whole number, {bounds.low} to {bounds.high}")
    return int(text)


def _matching(pattern: Pattern, text: str) -> str:
    if not re.fullmatch(pattern.pattern, text):
        raise UnreadableError(pattern.said)
    return text


def _seconds(bounds: Range, text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) or not _within(bounds, float(text)):
        raise UnreadableError(f"seconds, {bounds.low:g} to {bounds.high:g}")
    return float(text)


def _within(bounds: Range, value: float) -> bool:
    return bounds.low <= value and (bounds.high is None or value <= bounds.high)


def _choice(choices: Mapping[str, Any], text: str) -> Any:
    if text not in choices:
        raise UnreadableError("one of " + ", ".join(choices))
    return choices[text]
