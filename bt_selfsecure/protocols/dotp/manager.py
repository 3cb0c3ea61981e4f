"""The paper's D-OTP manager (its Fig. 3 and 4): it grants transmissions, counts them, and raises the alarm.

Steps 1 and 2: each end asks before a transmission, naming pair, end and number, and is granted it or not. Steps 7 and
8: each tells when it is done. It holds no SN and no key: who has it can stop pairs, and reads nothing. Its record is
JSON of one line; write it before an answer leaves.
"""

from __future__ import annotations

import enum
import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bt_selfsecure.errors import BtSelfSecureError, UnreadableError
from bt_selfsecure.protocols.dotp.keys import MOST_NUMBERS, Role
from bt_selfsecure.sansio.endpoint import EventQueue
from bt_selfsecure.sansio.value import value

FORMAT: Final = "bt-selfsecure dotp manager"
VERSION: Final = 1
MOST_OPEN: Final = 64
"""Grants of one end that wait to be done; the oldest goes."""
MOST_ALARMS: Final = 256
"""Alarms that are kept to be read; they are counted for ever."""


class Alarm(enum.Enum):
    """Says why somebody should look."""

    RATE = "more transmissions were asked for than the limit"
    NOT_RISING = "a number was asked for that is not above the last one: two devices have one SN, or an old one is back"
    UNFINISHED = "a transmission was granted and never done"


class GrantAnswer(enum.Enum):
    """Says what an end that asks is told."""

    GRANTED = "granted"
    UNKNOWN = "there is no such pair here, or this device is not that end of it"
    REFUSED_RATE = "too many transmissions: ask later"
    REFUSED_NUMBER = "that number is not above the last one"


@value
class Alarmed:
    """Holds an alarm, for log, API and metric."""

    alarm: Alarm
    pair: str
    end: Role
    number: int
    time: float


@dataclass(frozen=True, slots=True)
class ManagerConfig:
    """Says what a manager is configured with."""

    pairs: Mapping[str, Mapping[Role, str]]
    """By the pair's name, which device is which end."""
    most_grants: int = 60
    window_s: float = 60.0
    """So many grants are given to an end in so many seconds."""
    done_s: float = 120.0
    """A grant that is not done after that raises the alarm: CoAP repeats a message for 93 s."""


@dataclass(slots=True)
class PairEnd:
    """Keeps what one end of a pair asked for."""

    last: int = -1
    granted: int = 0
    done: int = 0
    refused: int = 0
    alarms: dict[str, int] = field(default_factory=dict)
    open: dict[int, float] = field(default_factory=dict)
    """Numbers that were granted and are not done, and since when."""
    recent: deque[float] = field(default_factory=deque)


class ManagerRecordError(BtSelfSecureError):
    """Says why the stored state can't be used."""


class Manager:
    """Ask it by `grant` and `done`. It has the timer, the events and the record of an endpoint; `now` is in seconds of
    a clock that goes on while it is off, so that what was open then is not forgotten."""

    def __init__(self, config: ManagerConfig, record: str | None = None) -> None:
        self._config: Final = config
        self._events: Final[EventQueue[Alarmed]] = EventQueue(MOST_ALARMS)
        self.ends: Final[dict[tuple[str, Role], PairEnd]] = {
            (pair, role): PairEnd() for pair in config.pairs for role in Role
        }
        self.alarms: Final[deque[Alarmed]] = deque(maxlen=MOST_ALARMS)
        if record is not None:
            self._read(record)

    def grant(self, device: str, pair: str, end: Role, number: int, now: float) -> GrantAnswer:
        """Answer a device that asks for a transmission (step 1)."""
        kept = self._of(device, pair, end)
        if kept is None or not 0 <= number < MOST_NUMBERS:
            return GrantAnswer.UNKNOWN
        if number <= kept.last:
            kept.refused += 1
            self._alarm(Alarm.NOT_RISING, pair, end, number, now)
            return GrantAnswer.REFUSED_NUMBER
        while kept.recent and kept.recent[0] <= now - self._config.window_s:
            kept.recent.popleft()
        if len(kept.recent) >= self._config.most_grants:
            kept.refused += 1
            self._alarm(Alarm.RATE, pair, end, number, now)
            return GrantAnswer.REFUSED_RATE
        kept.recent.append(now)
        kept.last = number
        kept.granted += 1
        kept.open[number] = now
        if len(kept.open) > MOST_OPEN:
            self._unfinished(pair, end, kept, next(iter(kept.open)), now)
        return GrantAnswer.GRANTED

    def done(self, device: str, pair: str, end: Role, number: int, now: float) -> GrantAnswer:
        """Note that a transmission is over (step 7)."""
        kept = self._of(device, pair, end)
        if kept is None or kept.open.pop(number, None) is None:
            return GrantAnswer.UNKNOWN
        kept.done += 1
        return GrantAnswer.GRANTED

    def get_timer(self) -> float | None:
        """Return when the oldest open grant raises the alarm, or None."""
        oldest = [since for kept in self.ends.values() for since in kept.open.values()]
        return min(oldest) + self._config.done_s if oldest else None

    def handle_timer(self, now: float) -> None:
        """Raise the alarm for what was not done in time."""
        for (pair, end), kept in self.ends.items():
            for number, since in list(kept.open.items()):
                if since + self._config.done_s <= now:
                    self._unfinished(pair, end, kept, number, now)

    def next_event(self) -> Alarmed | None:
        """Return the oldest alarm that was not taken yet, and forget it; None where there is none."""
        event = self._events.take()
        assert event is None or isinstance(event, Alarmed)
        return event

    def state(self) -> dict[str, Any]:
        """Return counts and alarms, for people and programs. It has no secret."""
        ends = [
            {
                "pair": pair,
                "end": end.value,
                "last": kept.last,
                "granted": kept.granted,
                "done": kept.done,
                "refused": kept.refused,
                "open": len(kept.open),
                "alarms": kept.alarms,
            }
            for (pair, end), kept in self.ends.items()
        ]
        alarms = [
            {"alarm": one.alarm.name, "pair": one.pair, "end": one.end.value, "number": one.number, "time": one.time}
            for one in self.alarms
        ]
        return {"ends": ends, "alarms": alarms}

    @property
    def record(self) -> str:
        """Return the state to be written, one line of JSON."""
        ends = [
            [pair, end.value, kept.last, kept.granted, kept.done, kept.refused, kept.alarms, list(kept.open.items())]
            for (pair, end), kept in self.ends.items()
        ]
        alarms = [[one.alarm.name, one.pair, one.end.value, one.number, one.time] for one in self.alarms]
        return json.dumps({"format": FORMAT, "version": VERSION, "ends": ends, "alarms": alarms})

    # --- inside -------------------------------------------------------------------------------------------------------

    def _of(self, device: str, pair: str, end: Role) -> PairEnd | None:
        devices = self._config.pairs.get(pair, {})
        return self.ends[pair, end] if device and devices.get(end) == device else None

    def _unfinished(self, pair: str, end: Role, kept: PairEnd, number: int, now: float) -> None:
        del kept.open[number]
        self._alarm(Alarm.UNFINISHED, pair, end, number, now)

    def _alarm(self, alarm: Alarm, pair: str, end: Role, number: int, now: float) -> None:
        told = Alarmed(alarm, pair, end, number, now)
        counts = self.ends[pair, end].alarms
        counts[alarm.name] = counts.get(alarm.name, 0) + 1
        self.alarms.append(told)
        self._events.put_if_room(told)

    def _read(self, record: str) -> None:
        try:
            data = json.loads(record)
            if not isinstance(data, dict) or (data.get("format"), data.get("version")) != (FORMAT, VERSION):
                raise UnreadableError("another format")
            for pair, end, last, granted, done, refused, alarms, opened in data["ends"]:
                if kept := self.ends.get((pair, Role(end))):
                    kept.last, kept.granted, kept.done, kept.refused = int(last), int(granted), int(done), int(refused)
                    kept.alarms = {Alarm[name].name: int(count) for name, count in alarms.items()}
                    kept.open = {int(number): float(since) for number, since in opened}
            for name, pair, end, number, time in data["alarms"]:
                self.alarms.append(Alarmed(Alarm[name], str(pair), Role(end), int(number), float(time)))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            raise ManagerRecordError("the manager's state is damaged: remove it, and it begins to count anew") from None
