"""Every transition with its time, as JSON lines without secrets; and the key log, only where it is asked for.

A `Machine` is the one place where a state changes: its transitions are one table of data, a miss is a bug of ours or of
the driver and named with machine, state and input.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Generic, TypeVar

from bt_selfsecure.errors import LocalError


class MachineEnum(enum.Enum):
    """Is the base of a machine's states and inputs."""

    __hash__ = object.__hash__  # enum's own hashes the name, in Python: a table is looked up at every frame


State = TypeVar("State", bound=MachineEnum)
Input = TypeVar("Input", bound=MachineEnum)


@dataclass(frozen=True, slots=True)
class Transition:
    """Is one step of one machine."""

    time: float
    """Seconds, by the clock of whoever drives the endpoint."""
    endpoint: str
    machine: str
    state: str
    input: str
    next: str
    detail: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    """Public figures only: counts, sequence numbers, reasons, hex of identities."""

    def to_json(self) -> str:
        """Return one line of JSON, without the line end."""
        return json.dumps(asdict(self), separators=(",", ":"))


Tracer = Callable[[Transition], None]
KeyLog = Callable[[str], None]
"""Takes one line: label, public name, hex of the key. Whoever holds the lines reads everything, as with NSS keys."""


def key_log_line(label: str, name: bytes, key: bytes) -> str:
    """Return a line of the key log, e.g. `BTSS_K0 0011223344556677 <64 hex digits>`."""
    return f"BTSS_{label} {name.hex()} {key.hex()}"


class Machine(Generic[State, Input]):
    """Holds the state, and the only function that changes it."""

    def __init__(
        self, endpoint: str, name: str, table: Mapping[tuple[State, Input], State], start: State, tracer: Tracer | None
    ) -> None:
        self.state: State = start
        self._endpoint: Final = endpoint
        self._name: Final = name
        self._table: Final = table
        self._tracer: Final = tracer

    def on(self, given: Input, now: float, *detail: Any) -> None:
        """Take the transition that the table names; `detail`, for the trace alone, is name and value by turns. Raises
        `LocalError` where the table names none."""
        try:
            following = self._table[self.state, given]
        except KeyError:
            where = f"{self._endpoint} {self._name}"
            raise LocalError(f"{where}: {given.name} is impossible in {self.state.name}") from None
        if self._tracer is not None:
            named = dict(zip(detail[::2], detail[1::2], strict=True))
            self._tracer(
                Transition(now, self._endpoint, self._name, self.state.name, given.name, following.name, named)
            )
        self.state = following

    def can(self, given: Input) -> bool:
        return (self.state, given) in self._table
