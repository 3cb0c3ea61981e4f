"""What `coap serve` has: the time, a sensor's readings, and a store.

/time     GET, observe: date and time, as libcoap's example server says them
/sensor   GET, observe: the readings of paper 001, JSON of 315 bytes; also as /index, which is its name there
/store/*  GET, PUT, POST, DELETE, observe: whatever is put there, in memory
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any, Final

from aiocoap import Message, error
from aiocoap.numbers import CHANGED, CREATED, DELETED
from aiocoap.numbers.contentformat import ContentFormat
from aiocoap.resource import ObservableResource, PathCapable, Site, WKCResource
from aiocoap.util.linkformat import Link, LinkFormat

MOST_ENTRIES: Final = 1024
MOST_ENTRY_BYTES: Final = 65_536
READINGS: Final = 6
SENSOR_BYTES: Final = 315
TICK_S: Final = 1.0


def sensor_json(now: float, values: list[int]) -> bytes:
    """Return readings as paper 001 prints them (Fig. 5 to 12), filled up with spaces to `SENSOR_BYTES`."""
    readings = ", ".join(f'{{"timeStamp": {now:.6f}, "value": {value}}}' for value in values)
    return f'{{"Data": [{readings}]}}'.encode().ljust(SENSOR_BYTES)


class _Ticking(ObservableResource):  # type: ignore[misc]
    """Tells its observers each second."""

    def __init__(self) -> None:
        super().__init__()
        self._ticking: asyncio.TimerHandle | None = None

    def update_observation_count(self, newcount: int) -> None:
        if newcount and self._ticking is None:
            self._wait()
        elif not newcount and self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None

    def _wait(self) -> None:
        self._ticking = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self._wait()
        self.updated_state()


class Time(_Ticking):
    """Says the local date and time, and with the query `ticks` the seconds since 1970."""

    rt = "ticks"
    ct = int(ContentFormat.TEXT)

    async def render_get(self, request: Any) -> Any:
        now = time.time()
        text = (
            str(int(now)) if "ticks" in request.opt.uri_query else time.strftime("%b %d %H:%M:%S", time.localtime(now))
        )
        return Message(payload=text.encode(), content_format=ContentFormat.TEXT)


class Sensor(_Ticking):
    """Makes six readings by chance."""

    rt = "sensor"
    ct = int(ContentFormat.JSON)

    async def render_get(self, request: Any) -> Any:
        values = [random.randrange(1000, 65_536) for _ in range(READINGS)]
        return Message(payload=sensor_json(time.time(), values), content_format=ContentFormat.JSON)


class EntryStore(ObservableResource, PathCapable):  # type: ignore[misc]
    """Keeps a tree of entries, each with observers of its own. POST to a name appends, PUT replaces."""

    def __init__(self) -> None:
        super().__init__()
        self._entries: Final[dict[tuple[str, ...], tuple[bytes, int | None]]] = {}
        self._watched: Final[dict[Any, tuple[str, ...]]] = {}

    async def add_observation(self, request: Any, serverobservation: Any) -> None:
        self._watched[serverobservation] = request.opt.uri_path
        serverobservation.accept(lambda: self._watched.pop(serverobservation, None))

    async def render_get(self, request: Any) -> Any:
        if request.opt.uri_path not in self._entries:
            raise error.NotFound
        data, kind = self._entries[request.opt.uri_path]
        return Message(payload=data, content_format=kind)

    async def render_put(self, request: Any) -> Any:
        return self._set(request, request.payload)

    async def render_post(self, request: Any) -> Any:
        before, _ = self._entries.get(request.opt.uri_path, (b"", None))
        return self._set(request, before + request.payload)

    async def render_delete(self, request: Any) -> Any:
        if self._entries.pop(request.opt.uri_path, None) is not None:
            self._tell(request.opt.uri_path, Message(code=error.NotFound.code))
        return Message(code=DELETED)

    def _set(self, request: Any, data: bytes) -> Any:
        path, new = request.opt.uri_path, request.opt.uri_path not in self._entries
        if len(data) > MOST_ENTRY_BYTES or (new and len(self._entries) >= MOST_ENTRIES):
            raise error.RequestEntityTooLarge
        self._entries[path] = data, request.opt.content_format
        self._tell(path, None)
        return Message(code=CREATED if new else CHANGED)

    def _tell(self, path: tuple[str, ...], last: Any) -> None:
        for observation, watched in list(self._watched.items()):
            if watched == path:
                observation.trigger(last)

    def get_resources_as_linkheader(self) -> Any:
        return LinkFormat([Link("/" + "/".join(path)) for path in self._entries])


def site() -> Any:
    """Return all of it, and `/.well-known/core`, which lists it."""
    whole = Site()
    sensor = Sensor()
    whole.add_resource([".well-known", "core"], WKCResource(whole.get_resources_as_linkheader))
    whole.add_resource(["time"], Time())
    whole.add_resource(["sensor"], sensor)
    whole.add_resource(["index"], sensor)
    whole.add_resource(["store"], EntryStore())
    return whole
