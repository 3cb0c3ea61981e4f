"""A lamp that is nowhere but in this program: something to command. It tells each time that it is switched."""

from __future__ import annotations

from collections.abc import Iterator

from bt_selfsecure.errors import UsageError

SENSORS = ("on", "switched")

_on = False
_switched = 0
_told = 0


def read_sensor(name: str) -> bool | int:
    return _on if name == "on" else _switched


def execute(name: str, argument: object) -> str:
    global _on, _switched
    if name != "switch" or type(argument) is not bool:
        raise UsageError("the command is switch, with true or false")
    _switched += argument != _on
    _on = argument
    return "it is on" if _on else "it is off"


def alerts() -> Iterator[tuple[str, int]]:
    global _told
    if _switched > _told:
        _told = _switched
        yield f"the lamp is {'on' if _on else 'off'}", _switched
