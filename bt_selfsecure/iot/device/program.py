"""The part of a device that a person writes: a module with sensors, commands and alerts, each of them optional.

SENSORS = ("temperature",)                what read_sensor knows
def read_sensor(name): ...                a number, text, yes or no, or None
def execute(name, argument): ...          do it; text that is returned is the status, an exception its failure
def alerts(): ...                         called every second: returns or yields texts, or pairs (text, value)
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from bt_selfsecure.errors import BtSelfSecureError, UsageError
from bt_selfsecure.protocols.iotcrypto import limits
from bt_selfsecure.protocols.iotcrypto.transmission_messages import MEASURED, READINGS, WORD, Measured

CALL_S: Final = 10.0
"""For one call of the person's program."""


class ProgramError(BtSelfSecureError):
    """The person's program failed, or is not done yet: the text says how."""


class UnknownNameError(ProgramError):
    """There is no such sensor or command."""


class Program:
    """Calls a person's functions, one at a time and beside the event loop, and checks what comes back."""

    def __init__(
        self,
        sensors: Sequence[str] = (),
        read_sensor: Callable[[str], Measured] | None = None,
        execute: Callable[[str, Measured], str | None] | None = None,
        alerts: Callable[[], Iterable[str | tuple[str, Measured]] | None] | None = None,
    ) -> None:
        """Raises `UsageError` for sensors whose names can't be sent, or that nobody reads."""
        for name in sensors:
            if not WORD(name):
                raise UsageError(f"the sensor {name!r} can't be named so: take 1 to {limits.MOST_WORD_BYTES} bytes")
        if len(sensors) > limits.MOST_READINGS:
            raise UsageError(f"{len(sensors)} sensors are too many: at most {limits.MOST_READINGS}")
        if sensors and read_sensor is None:
            raise UsageError("SENSORS are named and there is no read_sensor(name): write it")
        self.sensors: Final = tuple(sensors)
        self.has_alerts: Final = alerts is not None
        self._read_sensor, self._execute, self._alerts = read_sensor, execute, alerts
        self._running: dict[str, asyncio.Future[Any]] = {}
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @classmethod
    def load(cls, name: str) -> Program:
        """Return the program of a file, or of a module by its dotted name. Raises `UsageError`."""
        try:
            module = _imported(name)
        except Exception as error:
            where = f"{type(error).__name__}: {error}"
            raise UsageError(f"{name} can't be imported ({where}): mend it") from None
        sensors = getattr(module, "SENSORS", ())
        functions = {key: getattr(module, key, None) for key in ("read_sensor", "execute", "alerts")}
        if isinstance(sensors, str) or not isinstance(sensors, Sequence):
            raise UsageError(f'{name}: SENSORS must be a list of names, as in SENSORS = ("temperature",)')
        if not any(functions.values()):
            raise UsageError(f"{name} has none of read_sensor, execute and alerts: see device run --help")
        try:
            return cls(sensors, **functions)
        except UsageError as error:
            raise UsageError(f"{name}: {error}") from None

    async def readings(self, asked: Sequence[str]) -> dict[str, Measured]:
        """Return what these sensors say, or all. One that fails says None. Raises `ProgramError`."""
        unknown = [name for name in asked if name not in self.sensors]
        if unknown:
            raise UnknownNameError(f"there is no sensor {unknown[0]!r}")
        readings = await self._call("read_sensor", self._read_all, tuple(asked) or self.sensors)
        if not READINGS(readings):
            raise ProgramError("what read_sensor returned can't be sent: numbers, texts, yes or no, not too long")
        return dict(readings)

    def _read_all(self, names: Sequence[str]) -> dict[str, Measured]:
        assert self._read_sensor or not names
        return {name: _plain(self._read_sensor(name)) for name in names if self._read_sensor}

    async def execute(self, name: str, argument: Measured) -> str:
        """Do what is commanded, and return its status. Raises `ProgramError`."""
        if self._execute is None:
            raise UnknownNameError("this device takes no commands")
        said = await self._call("execute", self._execute, name, argument)
        return clipped("" if said is None else str(said))

    async def alerts(self) -> list[tuple[str, Measured]]:
        """Return what is to be told now. Raises `ProgramError`."""
        made: list[tuple[str, Measured]] = await self._call("alerts", self._all_alerts)
        return made

    def _all_alerts(self) -> list[tuple[str, Measured]]:
        made = []
        for one in (self._alerts() if self._alerts else None) or ():
            text, value = one if isinstance(one, tuple) else (one, None)
            if not MEASURED(_plain(value)):
                raise ProgramError(f"alerts() gave a value that can't be sent: {value!r}")
            made.append((clipped(str(text)), _plain(value)))
        return made

    async def _call(self, what: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what it returns, once those that were called before have. Raises `ProgramError`."""
        work: asyncio.Future[Any] | None = None
        try:
            async with asyncio.timeout(CALL_S), self._turns[what]:
                if before := self._running.get(what):
                    await asyncio.wait([before])
                work = self._running[what] = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
                return await asyncio.shield(work)
        except TimeoutError:
            if work is None:
                raise ProgramError(f"{what} has not returned yet from its last call") from None
            if not work.done():
                raise ProgramError(f"{what} has not returned in {CALL_S:g} s") from None
            raise ProgramError(f"{what} raised TimeoutError") from None
        except ProgramError:
            raise
        except Exception as error:
            raise ProgramError(f"{what} raised {type(error).__name__}: {error}") from None


def clipped(text: str) -> str:
    """Return the text as it can be sent: printable, and not too long."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return printable.encode()[: limits.MOST_TEXT_BYTES].decode(errors="ignore")


def _plain(value: Any) -> Measured:
    """Return numbers of other libraries as Python's own, and text that fits."""
    if isinstance(value, str):
        return clipped(value)
    if value is None or isinstance(value, (bool, int)):
        return value
    return float(value)


def _imported(name: str) -> ModuleType:
    path = Path(name)
    if path.suffix != ".py":
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
