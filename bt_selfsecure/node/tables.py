"""Tables of a TOML file as dataclasses, whose fields `config.key` declares: what is wrong is named with file, line and
key."""

from __future__ import annotations

import codecs
import dataclasses
import difflib
import json
import re
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.config import Rule

MAX_FILE_BYTES: Final = 64 * 1024
"""Room for several hundred peers."""
WIDTH: Final = 80
TYPES: Final[Mapping[str, tuple[tuple[type, ...], str]]] = {
    "str": ((str,), "text in quotes"),
    "Path": ((str,), "text in quotes"),
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "bool": ((bool,), "true or false"),
}
TYPESET: Final[Mapping[str, str]] = {
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033\uff02", '"'),
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032", "'"),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),
    **dict.fromkeys("\u00a0\u2007\u2009\u202f\u200b\u3000\ufeff", "a plain space"),
}
"""What word processors and web pages make of characters that TOML wants as they are on the keyboard."""
LIST: Final = re.compile(r"tuple\[(\w+), \.\.\.\]")
"""A field of this type is a list in the file, of one element at least, unless none is its default."""

Place = tuple[str | int, ...]
"""As in ("session", "omega"), ("peer", 1, "name") or ("sweep", "distances_m", 2)."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Says where the values of a configuration came from."""

    path: Path
    lines: Mapping[Place, int]
    """Line of each table and key in the file, from 1; what has none is a default."""

    def line(self, place: Place) -> int:
        """Return the line of the place itself, or of the nearest that holds it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def fail(self, place: Place, what: str) -> NoReturn:
        """Raise UsageError with file, line and key."""
        raise UsageError(f"{self.path}:{self.line(place)}: {_named(place)} {what}")


def load_toml(
    path: Path, *, missing: str, kind: str, most_bytes: int = MAX_FILE_BYTES
) -> tuple[dict[str, Any], Origin]:
    """Return what tomllib reads from the file, and where it stands. Raises `UsageError`: `missing` says what to do
    where there is no such file, `kind` what the file should be, and more than `most_bytes` it is not."""
    try:
        with path.open("rb") as file:
            data = file.read(most_bytes + 1)
    except FileNotFoundError:
        raise UsageError(f"there is no {path}: {missing}") from None
    except OSError as error:
        raise UsageError(f"can't read {path} ({error.strerror}): check its path and its permissions") from None
    if len(data) > most_bytes:
        raise UsageError(f"{path} has more than {most_bytes // 1024} KiB: that is no {kind}")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data[:2]:
        encoding = "UTF-32" if b"\0\0" in data[:4] else "UTF-16, as editors on Windows write it"
        raise UsageError(f"{path} is in {encoding}: save it as UTF-8")
    try:
        return parse_toml(data.decode("utf-8-sig"), path, kind)
    except UnicodeDecodeError as error:
        line = 1 + data.count(b"\n", 0, error.start)
        raise UsageError(f"{path}:{line}: is not UTF-8: save the file in that encoding") from None


def parse_toml(text: str, path: Path, kind: str) -> tuple[dict[str, Any], Origin]:
    """Return what tomllib reads from this text, and where it stands. `path` is for the words of a `UsageError`."""
    try:
        values = tomllib.loads(text)
    except RecursionError:
        raise UsageError(f"{path} nests more deeply than a {kind} does") from None
    except ValueError as error:  # TOMLDecodeError, and what int() and datetime() say to numbers and dates beyond them
        what, _, at = str(error).partition(" (at ")
        found = re.match(r"line (\d+)", at)
        number = int(found[1]) if found else text.count("\n") + 1
        what += _typeset(text.split("\n")[number - 1])
        raise UsageError(f"{path}:{number}: not TOML: {what}") from None
    return values, Origin(path, places(text))


def _typeset(line: str) -> str:
    """What is probably wrong with a line that TOML does not take; "" where nothing is in sight."""
    for letter in line:
        if letter in TYPESET:
            seen = f"{letter} " if letter.isprintable() else ""
            return f"; {seen}(U+{ord(letter):04X}) must be {TYPESET[letter]}"
    return ""


def places(text: str) -> dict[Place, int]:
    """Return the line where each table and key of this TOML begins.

    tomllib tells no positions, but it can tell where a statement ends: at the first line with which it parses.
    """
    found: dict[Place, int] = {}
    seen: dict[Place, int] = {}
    table: Place = ()
    statement, start = "", 1
    for number, line in enumerate(text.split("\n"), 1):
        goes_on = _goes_on(line, begun=bool(statement))
        statement += line + "\n"
        if goes_on:
            continue
        try:
            values = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        if statement.lstrip().startswith("["):
            table = _header(values, seen)
            found.setdefault(table, start)
        else:
            for place in _paths(values):
                found.setdefault(table + place, start)
        statement, start = "", number + 1
    return found


def _goes_on(line: str, *, begun: bool) -> bool:
    """Say of a line by itself that no statement ends there; so a list of many lines is parsed once, not once a line."""
    code = line if "'" in line or '"' in line else line.partition("#")[0]
    return "#" not in code and (code.rstrip().endswith(",") or (begun and not code.strip()))


def _header(values: Any, seen: dict[Place, int]) -> Place:
    """The place that `[a.b]` or `[[a]]` opens; counts the tables of each array."""
    place: Place = ()
    while values:
        if isinstance(values, list):
            seen[place] = seen.get(place, -1) + 1
            place, values = (*place, seen[place]), values[0]
        else:
            ((name, values),) = values.items()
            place += (name,)
    return place


def _paths(value: Any) -> Iterator[Place]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, below in inner:
        yield (name,)
        yield from ((name, *place) for place in _paths(below))


class TableReader:
    """Makes dataclasses of what tomllib read."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin

    def table(self, table: type, place: Place, values: Any) -> Any:
        """Return an instance of the dataclass `table`, with the values at this place. Raises `UsageError`."""
        if not isinstance(values, dict):
            self._origin.fail(place, f"must be a table: write [{place[0]}] on a line of its own")
        fields = {key_of(field): field for field in dataclasses.fields(table)}
        self.refuse_unknown(place, values, list(fields))
        read = {fields[name].name: self._value(fields[name], (*place, name), value) for name, value in values.items()}
        for name, field in fields.items():
            if field.name not in read and field.default is field.default_factory is dataclasses.MISSING:
                example = "[...]" if LIST.fullmatch(str(field.type)) else '"..."'
                self._origin.fail(place, f"needs {name}: add a line {name} = {example}")
        return table(**read)

    def refuse_unknown(self, place: Place, values: dict[str, Any], known: list[str]) -> None:
        for name in values:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                remedy = f"do you mean {near[0]}?" if near else f"the known ones are {', '.join(known)}"
                what = "key" if place else "table"
                self._origin.fail((*place, name), f"is an unknown {what}: {remedy}")

    def _value(self, field: dataclasses.Field[Any], place: Place, value: Any) -> Any:
        if field.type == "Nested":
            value, rule = _tuples(value), field.metadata["rule"]
            if not rule.accepts(value):
                self._origin.fail(place, f"is {shown(value)} and must be {rule.expected}")
            return value
        listed = LIST.fullmatch(str(field.type))
        if not listed:
            return self._scalar(str(field.type), field, place, value)
        if not isinstance(value, list):
            self._origin.fail(place, f"is {shown(value)} and must be a list, as in [...]")
        if not value and field.default != ():
            self._origin.fail(place, "is empty and must have one element at least")
        return tuple(self._scalar(listed[1], field, (*place, index), element) for index, element in enumerate(value))

    def _scalar(self, kind: str, field: dataclasses.Field[Any], place: Place, value: Any) -> Any:
        types, expected = TYPES[kind]
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            self._origin.fail(place, f"is {shown(value)} and must be {expected}")
        rule: Rule = field.metadata["rule"]
        read = {"Path": Path, "float": float, "str": field.metadata["read"]}.get(kind, type(value))
        try:
            converted = read(value)
        except OverflowError:  # a whole number that no float reaches
            converted = float("inf")
        if not rule.accepts(converted):
            self._origin.fail(place, f"is {shown(value)} and must be {rule.expected}")
        return converted


def table_lines(origin: Origin, header: str, place: Place, table: Any, *, tell: bool = False) -> list[str]:
    """Return the table as a file has it, each key with what it means, defaults behind a `#`; with `tell`, each value
    says where it came from."""
    lines = ["", *wrapped(str(type(table).__doc__)), header]
    for field in dataclasses.fields(table):
        rule: Rule = field.metadata["rule"]
        lines += wrapped(field.metadata["doc"] + (f" ({rule.expected})" if rule.expected != "anything" else ""))
        line = origin.lines.get((*place, key_of(field)))
        setting = f"{key_of(field)} = {toml(getattr(table, field.name))}"
        source = "" if not tell else f"  # {origin.path}:{line}" if line else "  # default"
        lines.append(("" if line else "#") + setting + source)
    return lines


def key_of(field: dataclasses.Field[Any]) -> str:
    """Return the key of a field in the file: a word that Python keeps for itself has an underscore behind it here."""
    return field.name.rstrip("_")


def _tuples(value: Any) -> Any:
    """Lists as tuples, also in lists."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def wrapped(text: str) -> list[str]:
    """Return the text as the lines of a comment."""
    return textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def _named(place: Place) -> str:
    """As in "[session] omega" or "[[peer]] 2, name"."""
    match place:
        case (table,):
            return f"[{clip(str(table))}]"
        case (table, int(number)):
            return f"[[{table}]] number {number + 1}"
        case (table, int(number), name):
            return f"[[{table}]] number {number + 1}: {clip(str(name))}"
        case (table, name, int(number)):
            return f"[{clip(str(table))}] {clip(str(name))}, number {number + 1}"
        case (table, name):
            return f"[{table}] {clip(str(name))}"
        case _:
            return clip(".".join(map(str, place)))


def shown(value: Any) -> str:
    """Return a value in one short line."""
    if isinstance(value, int) and abs(value) >= 1 << 63:
        return "a number beyond 64 bits"
    return clip(toml(value) if isinstance(value, str | int | float | tuple) else f"a {type(value).__name__}")


def clip(text: str) -> str:
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= 60 else text[:57] + "..."


def toml(value: object) -> str:
    """Return a value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml, value))}]"
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
