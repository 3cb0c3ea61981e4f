"""The table of a command group, by which only the module of the command that is called is imported: on a Pi Zero all
take seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from argparse import ArgumentParser, _SubParsersAction


class Command(NamedTuple):
    """Holds one command, and where it is made."""

    module: str
    """In this package."""
    what: str
    """One line, for the list of commands."""
    maker: str = "add_parser"
    """The module's function that makes the command's parser."""
    is_group: bool = False
    """Whether it has commands of its own, so that `maker` takes the words that follow, too."""


def add_commands(
    parsers: _SubParsersAction[ArgumentParser], table: Mapping[str, Command], words: Sequence[str] | None
) -> None:
    """Add the command that `words` begin with, or, where they begin with none of `table`, all by name and line alone;
    where there are no words to go by (None), all of them whole."""
    if words is None:
        for command in table.values():
            _add(parsers, command, None)
        return
    words = words[1:] if words[:1] == ["--"] else words
    if words and words[0] in table:
        _add(parsers, table[words[0]], words[1:])
    else:
        for name, command in table.items():
            parsers.add_parser(name, help=command.what)


def _add(parsers: _SubParsersAction[ArgumentParser], command: Command, words: Sequence[str] | None) -> None:
    make = getattr(import_module(f"bt_selfsecure.cli.{command.module}"), command.maker)
    if command.is_group:
        make(parsers, words)
    else:
        make(parsers)
