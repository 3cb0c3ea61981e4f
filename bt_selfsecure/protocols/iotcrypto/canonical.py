"""CBOR (RFC 8949) in one encoding alone (section 4.2.1): lengths as short as they go, keys in order; and no tags.

So what is signed can be encoded again by whoever verifies, and two files that say the same are the same.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final, Self

import cbor2

from bt_selfsecure.errors import PeerError

MOST_DEPTH: Final = 8
_BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = 2, 3, 4, 5, 6, 7
_SIMPLES: Final = (20, 21, 22, 25, 26, 27)
"""False, true, null, and floats of 2, 4 and 8 bytes."""

Field = Callable[[Any], bool]
"""Returns whether a value is what its place asks for."""


class MalformedError(PeerError):
    """The bytes are not what is read here. The only exception that the readers of this protocol raise."""


def encode(value: Any) -> bytes:
    """Return the one encoding."""
    return bytes(cbor2.dumps(value, canonical=True))


def decode(data: bytes, most_bytes: int) -> Any:
    """Return what these bytes say. Total: raises `MalformedError` for what is not one value in its one encoding."""
    if len(data) > most_bytes:
        raise MalformedError(f"{len(data)} bytes, and at most {most_bytes} are taken")
    _walk(data)
    try:
        value = cbor2.loads(data)
        if encode(value) == data:
            return value
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError):
        pass
    raise MalformedError("not the one encoding of what it says")


def _walk(data: bytes) -> None:
    """Look at heads alone, before anything is built of what they claim. Raises `MalformedError`."""
    missing, at = [1], 0
    while missing:
        if not missing[-1]:
            missing.pop()
            continue
        missing[-1] -= 1
        if at >= len(data) or len(missing) > MOST_DEPTH:
            raise MalformedError("cut off" if at >= len(data) else "too deep")
        kind, short = data[at] >> 5, data[at] & 31
        if kind == _TAG or short > 27 or (kind == _SIMPLE and short not in _SIMPLES):
            raise MalformedError("it has tags, lengths that are not told, or values that are not of JSON")
        size = 1 << short - 24 if short > 23 else 0
        told = int.from_bytes(data[at + 1 : at + 1 + size]) if size else short
        at += 1 + size
        if kind in (_BYTES, _TEXT):
            at += told
        elif kind in (_ARRAY, _MAP):
            missing.append(told if kind == _ARRAY else 2 * told)
    if at != len(data):
        raise MalformedError("cut off" if at > len(data) else "more follows")


class Spoken:
    """Is a message or record as a class: an array of a number that says which, some more, and its fields in order."""

    __slots__ = ()
    KIND: ClassVar[int]
    FORM: ClassVar[tuple[Field, ...]]
    """What each field must be on the wire."""

    def content(self) -> list[Any]:
        """Return the fields as they stand on the wire."""
        this: Any = self
        return [getattr(this, field.name) for field in dataclasses.fields(this)]

    @classmethod
    def of(cls, *content: Any) -> Self:
        """Return it, of fields that are as in `FORM`."""
        make: Any = cls
        made: Self = make(*content)
        return made


# --- what a place asks for --------------------------------------------------------------------------------------------


def fields(value: Any, what: str, *asked: Field) -> list[Any]:
    """Return the array's elements, each as asked. Raises `MalformedError`."""
    if type(value) is not list or len(value) != len(asked):
        raise MalformedError(f"{what} is an array of {len(asked)}")
    for number, (element, is_right) in enumerate(zip(value, asked, strict=True), 1):
        if not is_right(element):
            raise MalformedError(f"{what}: element {number} is wrong")
    return value


def octets(*sizes: int) -> Field:
    """Return the field of a byte string of one of these sizes."""
    return lambda value: type(value) is bytes and len(value) in sizes


def octets_up_to(most: int) -> Field:
    """Return the field of a byte string of 1 to `most` bytes."""
    return lambda value: type(value) is bytes and 0 < len(value) <= most


def text(most: int, least: int = 1) -> Field:
    """Return the field of printable text, by its bytes in UTF-8."""
    return lambda value: type(value) is str and value.isprintable() and least <= len(value.encode()) <= most


def number(most: int, least: int = 0) -> Field:
    """Return the field of an integer."""
    return lambda value: type(value) is int and least <= value <= most


def one_of(values: Sequence[int]) -> Field:
    """Return the field of one of these integers."""
    return lambda value: type(value) is int and value in values


def array_of(is_right: Field, most: int) -> Field:
    """Return the field of an array whose elements are each as asked."""
    return lambda value: type(value) is list and len(value) <= most and all(map(is_right, value))


def map_of(is_key: Field, is_value: Field, most: int) -> Field:
    """Return the field of a map."""
    return lambda value: (
        type(value) is dict and len(value) <= most and all(is_key(key) and is_value(of) for key, of in value.items())
    )


def is_measured(most_text: int) -> Field:
    """Return the field of what a sensor may say: a number, text, yes or no, or nothing (None)."""
    is_text, is_integer = text(most_text, 0), number((1 << 64) - 1, -(1 << 64))
    return lambda value: (
        value is None
        or type(value) is bool
        or is_integer(value)
        or (type(value) is float and math.isfinite(value))
        or is_text(value)
    )
