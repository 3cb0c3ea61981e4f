"""State, disk, air: records that are asked to be written, and flights that wait for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, Final, Generic, TypeVar

from bt_selfsecure.protocols.bootstrap import limits
from bt_selfsecure.protocols.bootstrap.events import Event, Persist
from bt_selfsecure.protocols.bootstrap.messages import Flight, FlightError, decode
from bt_selfsecure.protocols.bootstrap.records import Gone, Row
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.endpoint import EventQueue
from bt_selfsecure.sansio.events import Rejection

Kept = TypeVar("Kept", bound=Row)


class FlightQueue(EventQueue[Event]):
    """Is the queue of events of an SBI, SBR or SBS."""

    def __init__(self) -> None:
        super().__init__(limits.MOST_EVENTS)

    def decode(self, data: bytes) -> Flight | None:
        """Return the flight, if it is one; else None, and the rejection is told."""
        try:
            return decode(data)
        except FlightError as error:
            self.reject(Rejection.MALFORMED, error.reason.value)
            return None


class WriteAhead(Generic[Kept]):
    """Shows the driver's records with the changes that it has not written yet. A flight waits for all of these; it is
    put out once, whoever asks for it twice before it has left."""

    def __init__(self, kept: Mapping[bytes, Kept], events: FlightQueue) -> None:
        self._kept: Final = kept
        self._events: Final = events
        self._unsaved: Final[dict[bytes, Kept | Gone]] = {}
        self._token = 0
        self._waiting: list[bytes] = []
        self._ready: list[bytes] = []

    def get(self, key: bytes) -> Kept | None:
        """Return the record of this key, as it was last put; None where there is none."""
        found: Kept | Gone | None = self._unsaved.get(key)
        if found is None:
            found = self._kept.get(key)
        return None if isinstance(found, Gone) else found

    def records(self) -> Iterator[Kept]:
        """Yield each record once."""
        for key in [*self._kept, *(key for key in self._unsaved if key not in self._kept)]:
            found = self.get(key)
            if found is not None:
                yield found

    def put(self, record: Kept | Gone) -> None:
        """Ask for a record to be written, or to be erased."""
        self._token += 1
        self._unsaved[record.key_of_row] = record
        self._events.put(Persist(self._token, (lambda: record,), True))

    def send(self, data: bytes) -> None:
        """Put a flight out, behind all that is unsaved."""
        queue = self._waiting if self._unsaved else self._ready
        if data not in queue:
            queue.append(data)
            del queue[: -limits.MOST_FRAMES]

    def persisted(self, token: int) -> None:
        """Note that the record of this token is written, and so each before it."""
        if token >= self._token:
            self._unsaved.clear()
            self._ready += self._waiting
            self._waiting = []

    def refused(self) -> None:
        """Take back all that is unsaved, and the flights that wait for it."""
        self._unsaved.clear()
        self._waiting = []

    def take_frames(self) -> list[bytes]:
        """Return the flights that wait for nothing any more, and forget them."""
        out, self._ready = self._ready, []
        return out


class KeepingEnd(Generic[Kept]):
    """Is what SBI, SBR and SBS of `hardened` have in common: records, events, and the verbs that give them away."""

    def __init__(self, kept: Mapping[bytes, Kept], context: EndpointContext) -> None:
        self._context: Final = context
        self._events: Final = FlightQueue()
        self._store: Final = WriteAhead(kept, self._events)

    @property
    def rejections(self) -> Mapping[Rejection, int]:
        return self._events.rejections

    def next_event(self) -> Event | None:
        return self._events.take()

    def frames_to_send(self, now: float) -> list[bytes]:
        return self._store.take_frames()

    def persisted(self, token: int) -> None:
        """Release the flights that wait for the record with this token."""
        self._store.persisted(token)

    def refused(self) -> None:
        """Take back what could not be written."""
        self._store.refused()


def settle(end: KeepingEnd[Any], write: Callable[[Sequence[Row]], None]) -> list[Event]:
    """Take an end's events: write all that it asks for at once, tell it so, and return the others."""
    rows: list[Row] = []
    told: list[Event] = []
    token = 0
    while (event := end.next_event()) is not None:
        if isinstance(event, Persist):
            rows.append(event.record)
            token = event.token
        else:
            told.append(event)
    if rows:
        write(rows)
        end.persisted(token)
    return told


def write_rows(store: MutableMapping[bytes, Any], rows: Sequence[Row]) -> None:
    """Change a store in memory as these rows say."""
    for row in rows:
        if isinstance(row, Gone):
            store.pop(row.key_of_row, None)
        else:
            store[row.key_of_row] = row
