"""Reads the configuration file, names file, line and key of what is wrong with it, and prints it annotated."""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import re
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from bt_selfsecure.bearers.specs import BearerSpec
from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.config import (
    ANY,
    DEFAULT_PATH,
    NUMBER_KEYS,
    PATH_VARIABLE,
    Config,
    PeerTable,
    Rule,
    bearer_spec,
    establish_config,
    session_config,
)

MAX_FILE_BYTES: Final = 64 * 1024
"""Room for several hundred peers."""
TYPES: Final[Mapping[str, tuple[tuple[type, ...], str]]] = {
    "str": ((str,), "text in quotes"),
    "Path": ((str,), "text in quotes"),
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "bool": ((bool,), "true or false"),
}
WIDTH: Final = 80
NO_ADDRESS: Final = bytes(6)

Place = tuple[str | int, ...]
"""As in ("session", "omega") or ("peer", 1, "name")."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the values of a configuration came from."""

    path: Path
    lines: Mapping[Place, int]
    """Line of each table and key in the file, from 1; what has none is a default."""

    def line(self, place: Place) -> int:
        """Of the place itself, or of the nearest that holds it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def fail(self, place: Place, what: str) -> NoReturn:
        """Raise UsageError with file, line and key."""
        raise UsageError(f"{self.path}:{self.line(place)}: {_named(place)} {what}")


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A configuration, and where it came from."""

    config: Config
    origin: Origin


def find_path(given: Path | None) -> Path:
    """The file to read: the one given, or of the environment variable, or the default."""
    return given or Path(os.environ.get(PATH_VARIABLE) or DEFAULT_PATH)


def load(path: Path) -> ConfigFile:
    """Read it for a node: every value, and what they demand of each other. Raises UsageError, one line with file, line,
    key and what was expected."""
    file = read(path)
    check(file)
    return file


def read(path: Path) -> ConfigFile:
    """Read it, each value by itself: quicker, and enough to find the node's socket. Raises UsageError as `load`."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise UsageError(f"there is no {path}: `bt-selfsecure config show` prints one to begin with") from None
    except OSError as error:
        raise UsageError(f"can't read {path} ({error.strerror}): check its path and its permissions") from None
    if len(data) > MAX_FILE_BYTES:
        raise UsageError(f"{path} has more than {MAX_FILE_BYTES // 1024} KiB: that is no configuration of a node")
    try:
        return parse(data.decode(), path)
    except UnicodeDecodeError as error:
        line = 1 + data.count(b"\n", 0, error.start)
        raise UsageError(f"{path}:{line}: is not UTF-8: save the file in that encoding") from None


def parse(text: str, path: Path) -> ConfigFile:
    """The configuration that `text` writes; `path` is for the words of a UsageError."""
    try:
        values = tomllib.loads(text)
    except RecursionError:
        raise UsageError(
            f"{path} nests more deeply than a configuration does: see `bt-selfsecure config show`"
        ) from None
    except ValueError as error:  # TOMLDecodeError, and what int() and datetime() say to numbers and dates beyond them
        what, _, at = str(error).partition(" (at ")
        line = re.match(r"line (\d+)", at)
        raise UsageError(f"{path}:{line[1] if line else text.count(chr(10)) + 1}: not TOML: {what}") from None
    return _Reader(Origin(path, places(text))).read(values)


def places(text: str) -> dict[Place, int]:
    """The line where each table and key of this TOML begins.

    tomllib tells no positions, but it can tell where a statement ends: at the first line with which it parses.
    """
    found: dict[Place, int] = {}
    seen: dict[Place, int] = {}
    table: Place = ()
    statement, start = "", 1
    for number, line in enumerate(text.split("\n"), 1):
        statement += line + "\n"
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


class _Reader:
    """Makes a `Config` of what tomllib read."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin

    def read(self, values: dict[str, Any]) -> ConfigFile:
        tables = {field.name: field for field in dataclasses.fields(Config)}
        self._refuse_unknown((), values, list(tables))
        read: dict[str, Any] = {}
        for name, value in values.items():
            if name == "peer":
                read[name] = self._peers(value)
            elif isinstance(value, dict):
                read[name] = self._table(type(getattr(Config(), name)), (name,), value)
            else:
                self._origin.fail((name,), f"must be a table: write [{name}] on a line of its own")
        return ConfigFile(Config(**read), self._origin)

    def _peers(self, value: Any) -> tuple[PeerTable, ...]:
        if not isinstance(value, list) or not all(isinstance(peer, dict) for peer in value):
            self._origin.fail(("peer",), "must be written [[peer]], with two brackets, once for each peer")
        peers = [self._table(PeerTable, ("peer", number), peer) for number, peer in enumerate(value)]
        for name in ("name", "address"):
            first: dict[str, int] = {}
            for number, peer in enumerate(peers):
                other = first.setdefault(getattr(peer, name), number)
                if other != number:
                    line = self._origin.line(("peer", other, name))
                    self._origin.fail(("peer", number, name), f"is that of another peer already (line {line})")
        return tuple(peers)

    def _table(self, table: type, place: Place, values: dict[str, Any]) -> Any:
        fields = {field.name: field for field in dataclasses.fields(table)}
        self._refuse_unknown(place, values, list(fields))
        read = {name: self._value(fields[name], (*place, name), value) for name, value in values.items()}
        for name, field in fields.items():
            if name not in read and field.default is field.default_factory is dataclasses.MISSING:
                self._origin.fail(place, f'needs {name}: add a line {name} = "..."')
        return table(**read)

    def _value(self, field: dataclasses.Field[Any], place: Place, value: Any) -> Any:
        types, expected = TYPES[str(field.type)]
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            self._origin.fail(place, f"is {_shown(value)} and must be {expected}")
        rule: Rule = field.metadata["rule"]
        read = {"Path": Path, "float": float, "str": field.metadata["read"]}.get(str(field.type), type(value))
        try:
            converted = read(value)
        except OverflowError:  # a whole number that no float reaches
            converted = float("inf")
        if not rule.accepts(converted):
            self._origin.fail(place, f"is {_shown(value)} and must be {rule.expected}")
        return converted

    def _refuse_unknown(self, place: Place, values: dict[str, Any], known: list[str]) -> None:
        for name in values:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                remedy = f"do you mean {near[0]}?" if near else f"the known ones are {', '.join(known)}"
                what = "key" if place else "table"
                self._origin.fail((*place, name), f"is an unknown {what}: {remedy}")


def check(file: ConfigFile) -> None:
    """What the parts of a configuration demand of each other. Raises UsageError."""
    config, fail = file.config, file.origin.fail
    if config.establish.profile == "paper":
        if config.establish.exchange_shares:
            fail(("establish", "profile"), 'is "paper", which has no X25519: add exchange_shares = false')
        for number, peer in enumerate(config.peer):
            if peer.authentication_key_file:
                place = ("peer", number, "authentication_key_file")
                fail(place, 'can\'t be used with the profile "paper": leave it out, or take profile = "hardened"')
    for name in ("establish", "session"):
        bearer = getattr(config, name).bearer
        rule, number = _number(config, bearer_spec(config, bearer))
        if not rule.accepts(number):
            fail((name, "bearer"), f"is {_shown(bearer)}, whose number must be {rule.expected}")
    if config.session.bearer == "le_advert":
        fail(("session", "bearer"), "is le_advert, whose 24 bytes hold no message: take rfcomm, l2cap or ipsp")
    for name, build in (("session", lambda: session_config(config)), ("establish", lambda: _build_establish(config))):
        try:
            build()
        except UsageError as error:
            fail((name,), f"does not fit together: {error}")


def _number(config: Config, spec: BearerSpec) -> tuple[Rule, int]:
    """What the number in a bearer's spec must be, and what it is."""
    if spec.name not in NUMBER_KEYS:
        return ANY, spec.number
    fields = {field.name: field for field in dataclasses.fields(getattr(config, spec.name))}
    return fields[NUMBER_KEYS[spec.name]].metadata["rule"], spec.number


def _build_establish(config: Config) -> None:
    core = establish_config(config, NO_ADDRESS)
    if core.hardened and core.n_r > core.max_burst:
        raise UsageError(
            f"target_bits = {core.target_bits:g} takes {core.n_r:,} packets where an eavesdropper misses "
            f"{core.eve_loss_bound:g} of them, and max_burst is {core.max_burst:,}: see `bt-selfsecure plan`"
        )


def _named(place: Place) -> str:
    """As in "[session] omega" or "[[peer]] 2, name"."""
    match place:
        case (table,):
            return f"[{_clip(str(table))}]"
        case (table, int(number)):
            return f"[[{table}]] number {number + 1}"
        case (table, int(number), name):
            return f"[[{table}]] number {number + 1}: {_clip(str(name))}"
        case (table, name):
            return f"[{table}] {_clip(str(name))}"
    raise AssertionError(place)


def _shown(value: Any) -> str:
    """A value in one short line."""
    if isinstance(value, int) and abs(value) >= 1 << 63:
        return "a number beyond 64 bits"
    return _clip(_toml(value) if isinstance(value, str | int | float) else f"a {type(value).__name__}")


def _clip(text: str) -> str:
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= 60 else text[:57] + "..."


def _toml(value: object) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


# --- the annotated file -----------------------------------------------------------------------------------------------


def render(file: ConfigFile, *, origin: bool = False) -> str:
    """A file that reads back as the same configuration: each key with what it means; defaults behind a `#`.

    With `origin`, each value says where it came from.
    """
    lines = _wrapped(
        "Configuration of `bt-selfsecure node`. A line that begins with # and a key shows the default: to change it, "
        "remove the #. Then: bt-selfsecure config check"
    )
    for field in dataclasses.fields(Config):
        if field.name != "peer":
            lines += _table_lines(file, f"[{field.name}]", (field.name,), getattr(file.config, field.name), origin)
    for number, peer in enumerate(file.config.peer):
        lines += _table_lines(file, "[[peer]]", ("peer", number), peer, origin)
    if not file.config.peer:
        example = PeerTable("bob", "B8:27:EB:12:34:56")
        lines += _table_lines(
            ConfigFile(file.config, Origin(file.origin.path, {})), "#[[peer]]", ("peer", 0), example, origin=False
        )
    return "\n".join(lines) + "\n"


def _table_lines(file: ConfigFile, header: str, place: Place, table: Any, origin: bool) -> list[str]:
    lines = ["", *_wrapped(str(type(table).__doc__)), header]
    for field in dataclasses.fields(table):
        rule: Rule = field.metadata["rule"]
        lines += _wrapped(field.metadata["doc"] + (f" ({rule.expected})" if rule.expected != "anything" else ""))
        line = file.origin.lines.get((*place, field.name))
        setting = f"{field.name} = {_toml(getattr(table, field.name))}"
        source = "" if not origin else f"  # {file.origin.path}:{line}" if line else "  # default"
        lines.append(("" if line else "#") + setting + source)
    return lines


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
