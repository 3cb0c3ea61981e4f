"""How the configurations of gateway and cloud are read and printed: a dataclass of tables, each a dataclass of keys."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Final, TypeVar

from bt_selfsecure.bearers.places import parse_place
from bt_selfsecure.node.config import Rule, between, is_good, one_of
from bt_selfsecure.node.tables import Origin, TableReader, load_toml, parse_toml, table_lines, wrapped

Tables = TypeVar("Tables")
PORT: Final = between(0, 65_535)
PROFILE: Final = one_of("hardened", "paper")


def _is_host(text: str) -> bool:
    return is_good(parse_place, f"[{text}]:1" if ":" in text else f"{text}:1")


HOST: Final = Rule('an IP address, as in "0.0.0.0" or "::"', _is_host)


def read_tables(kind: type[Tables], path: Path, whose: str) -> tuple[Tables, Origin]:
    """Return a file's tables; `whose` is the command. Raises `UsageError`, one line with file, line, key and what was
    expected."""
    remedy = f"`bt-selfsecure {whose} config` prints one to begin with"
    return _made(kind, *load_toml(path, missing=remedy, kind=f"configuration of a {whose}"))


def default_tables(kind: type[Tables], path: Path, whose: str) -> tuple[Tables, Origin]:
    """Return what an empty file means."""
    return _made(kind, *parse_toml("", path, f"configuration of a {whose}"))


def _made(kind: Any, values: dict[str, Any], origin: Origin) -> tuple[Any, Origin]:
    reader = TableReader(origin)
    tables = {each.name: type(getattr(kind(), each.name)) for each in dataclasses.fields(kind)}
    reader.refuse_unknown((), values, list(tables))
    return kind(**{name: reader.table(tables[name], (name,), value) for name, value in values.items()}), origin


def render_tables(config: Any, origin: Origin, whose: str) -> str:
    """Return the text of a file that reads back as the same configuration, each key with what it means."""
    lines = wrapped(
        f"Configuration of `bt-selfsecure {whose}`. A line that begins with # and a key shows the default: to change "
        f"it, remove the #. Then: bt-selfsecure {whose} config"
    )
    for each in dataclasses.fields(config):
        lines += table_lines(origin, f"[{each.name}]", (each.name,), getattr(config, each.name))
    return "\n".join(lines) + "\n"
