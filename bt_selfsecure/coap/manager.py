"""The D-OTP manager as a service, and how the two ends of a pair ask it. All of it over DTLS-PSK, a key a device.

POST /grant  {"pair", "end", "n"}   2.04, or 4.03 and why not
POST /done   {"pair", "end", "n"}   2.04, or 4.03
GET  /state                         counts and alarms as JSON; only for the operator; observe: at each alarm
GET  /metrics                       the same in Prometheus's text format; only for the operator
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from aiocoap import Message, error, interfaces
from aiocoap.numbers import CHANGED, FORBIDDEN
from aiocoap.numbers.contentformat import ContentFormat
from aiocoap.resource import ObservableResource, Resource, Site

from bt_selfsecure.coap.client import CoapClient
from bt_selfsecure.errors import PeerError, UsageError
from bt_selfsecure.files import private, write_private
from bt_selfsecure.protocols.dotp.keys import Role
from bt_selfsecure.protocols.dotp.manager import Alarm, GrantAnswer, Manager, ManagerConfig, ManagerRecordError

log = logging.getLogger(__name__)

PORT: Final = 5703
OPERATOR: Final = "operator"
"""The identity that may read state and metrics."""
COUNTERS: Final = ("granted", "done", "refused")


class NotGrantedError(PeerError):
    """The manager does not grant a transmission: the text says why."""


def read_pairs(text: str, where: object) -> dict[str, dict[Role, str]]:
    """Return the pairs of a file with lines `PAIR CLIENT SERVER`. Raises `UsageError` where it is none."""
    pairs: dict[str, dict[Role, str]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        if len(words) != 3 or words[0] in pairs:
            raise UsageError(f"{where}: line {number} is not `PAIR CLIENT SERVER`, or names a pair again: correct it")
        pairs[words[0]] = {Role.CLIENT: words[1], Role.SERVER: words[2]}
    if not pairs:
        raise UsageError(f"{where} names no pair: write `PAIR CLIENT SERVER`, the two devices that are its ends")
    return pairs


class ManagerService:
    """Is a manager with its file, its timer and its resources."""

    def __init__(self, config: ManagerConfig, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Raises `UsageError` for a file that can't be used."""
        self._path: Final = path
        self._clock: Final = clock
        try:
            self.manager: Final = Manager(config, private(path).decode() if path.exists() else None)
        except (ManagerRecordError, UnicodeDecodeError) as failure:
            raise UsageError(f"{path}: {failure}") from None
        self._timer: asyncio.TimerHandle | None = None
        self._state: Final = _State(self)
        self.site: Final = Site()
        self.site.add_resource(["grant"], _Ask(self, self.manager.grant))
        self.site.add_resource(["done"], _Ask(self, self.manager.done))
        self.site.add_resource(["state"], self._state)
        self.site.add_resource(["metrics"], _Metrics(self))
        self._settle()

    def ask(self, what: Callable[..., GrantAnswer], device: str, pair: str, end: Role, number: int) -> GrantAnswer:
        """Return the answer once all of it is on the disk. Raises `UsageError` where it can't be written."""
        answer = what(device, pair, end, number, self._clock())
        self._settle()
        return answer

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _due(self) -> None:
        self.manager.handle_timer(self._clock())
        try:
            self._settle()
        except UsageError as failure:
            log.error("%s", failure)

    def _settle(self) -> None:
        """Tell of alarms, wait for the next, and write."""
        alarms = list(iter(self.manager.next_event, None))
        for one in alarms:
            log.warning("ALARM %s: pair %s, %s, n = %d", one.alarm.value, one.pair, one.end.value, one.number)
        if alarms:
            self._state.updated_state()
        self.close()
        deadline = self.manager.get_timer()
        if deadline is not None:
            wait = max(0.0, deadline - self._clock())
            self._timer = asyncio.get_running_loop().call_later(wait, self._due)
        write_private(self._path, self.manager.record.encode())


def _device(request: Any) -> str:
    """Return who is at the other end of the DTLS session."""
    claims: list[str] = request.remote.authenticated_claims
    return claims[0] if claims else ""


class _Ask(Resource):  # type: ignore[misc]
    """`/grant` or `/done`."""

    def __init__(self, service: ManagerService, what: Callable[..., GrantAnswer]) -> None:
        super().__init__()
        self._service, self._what = service, what

    async def render_post(self, request: Any) -> Any:
        try:
            asked = json.loads(request.payload)
            pair, end, number = asked["pair"], Role(asked["end"]), asked["n"]
            if type(pair) is not str or type(number) is not int:  # true is an int, too
                raise TypeError
        except (ValueError, KeyError, TypeError, RecursionError):
            raise error.BadRequest('{"pair", "end", "n"} is needed') from None
        try:
            answer = self._service.ask(self._what, _device(request), pair, end, number)
        except UsageError as failure:
            log.error("%s", failure)
            raise error.ServiceUnavailable("the manager can't write") from None
        if answer is GrantAnswer.GRANTED:
            return Message(code=CHANGED)
        return Message(code=FORBIDDEN, payload=answer.value.encode())


class _State(ObservableResource):  # type: ignore[misc]
    def __init__(self, service: ManagerService) -> None:
        super().__init__()
        self._service = service

    async def render_get(self, request: Any) -> Any:
        _only_operator(request)
        text = json.dumps(self._service.manager.state()).encode()
        return Message(payload=text, content_format=ContentFormat.JSON)


class _Metrics(Resource):  # type: ignore[misc]
    def __init__(self, service: ManagerService) -> None:
        super().__init__()
        self._service = service

    async def render_get(self, request: Any) -> Any:
        _only_operator(request)
        return Message(payload=metrics(self._service.manager).encode(), content_format=ContentFormat.TEXT)


def _only_operator(request: Any) -> None:
    if _device(request) != OPERATOR:
        raise error.Forbidden(f"only for the identity {OPERATOR!r}")


def metrics(manager: Manager) -> str:
    """Return the counts in Prometheus's text format."""
    lines = []
    for name in COUNTERS:
        lines.append(f"# TYPE bt_selfsecure_dotp_{name}_total counter")
        lines += [
            f"bt_selfsecure_dotp_{name}_total{_labels(*key)} {getattr(e, name)}" for key, e in manager.ends.items()
        ]
    lines.append("# TYPE bt_selfsecure_dotp_alarms_total counter")
    lines += [
        f"bt_selfsecure_dotp_alarms_total{_labels(*key, alarm.name)} {kept.alarms.get(alarm.name, 0)}"
        for key, kept in manager.ends.items()
        for alarm in Alarm
    ]
    lines.append("# TYPE bt_selfsecure_dotp_open gauge")
    lines += [f"bt_selfsecure_dotp_open{_labels(*key)} {len(kept.open)}" for key, kept in manager.ends.items()]
    return "\n".join(lines) + "\n"


def _labels(pair: str, end: Role, alarm: str = "") -> str:
    quoted = pair.replace("\\", r"\\").replace('"', r"\"")
    return f'{{pair="{quoted}",end="{end.value}"' + (f',alarm="{alarm.lower()}"' if alarm else "") + "}"


# --- the ends ---------------------------------------------------------------------------------------------------------


class ManagerClient:
    """Asks for an end, over a client that reaches the manager."""

    def __init__(self, client: CoapClient, uri: str, end: Role) -> None:
        self._client, self._uri, self._end = client, uri.rstrip("/"), end
        self._turn: Final = asyncio.Lock()
        self._granted: Final[dict[str, int]] = {}
        """By pair, what was granted last: it is not asked for again, also once it is done."""
        self._open: Final[dict[str, int]] = {}

    async def begin(self, transmission: tuple[str, int]) -> None:
        """Ask for a transmission, once (steps 1 and 2). Raises `NotGrantedError`, and `NoResponseError` without an
        answer. Cancelled, it is brought to its end all the same: a number that the manager has granted can't be asked
        for again."""
        await asyncio.shield(self._begin(transmission))

    async def _begin(self, transmission: tuple[str, int]) -> None:
        pair, number = transmission
        async with self._turn:
            if self._granted.get(pair) == number:
                return
            await self._finish(pair)
            answer = await self._post("grant", transmission)
            if not answer.code.is_successful():
                why = answer.payload.decode(errors="replace") or str(answer.code)
                raise NotGrantedError(f"the manager refuses {pair!r}, n = {number}: {why}")
            self._granted[pair] = self._open[pair] = number

    async def finish(self, *pairs: str) -> None:
        """Tell that what was granted to these pairs, or to all, is over (steps 7 and 8), each once. What the manager
        has given up is over, too: its answer counts nothing."""
        await asyncio.shield(self._finish_in_turn(*pairs))

    async def _finish_in_turn(self, *pairs: str) -> None:
        async with self._turn:
            await self._finish(*(pairs or self._open))

    async def _finish(self, *pairs: str) -> None:
        for pair in pairs:
            if (number := self._open.pop(pair, None)) is not None:
                await self._post("done", (pair, number))

    async def _post(self, what: str, transmission: tuple[str, int]) -> Any:
        pair, number = transmission
        text = json.dumps({"pair": pair, "end": self._end.value, "n": number}).encode()
        return await self._client.request("post", f"{self._uri}/{what}", text)


class ManagedSite(interfaces.Resource):  # type: ignore[misc]
    """Asks for the server's end before it gives a request to the site within, and tells once that has answered, while
    an observation may go on."""

    def __init__(self, inner: Any, manager: ManagerClient) -> None:
        self._inner: Final = inner
        self._manager: Final = manager
        self._telling: Final[set[asyncio.Task[None]]] = set()

    async def render(self, request: Any) -> None:
        raise error.MethodNotAllowed

    async def needs_blockwise_assembly(self, request: Any) -> bool:
        return False

    async def render_to_pipe(self, pipe: Any) -> None:
        transmission = pipe.request.remote.channel.transmission
        try:
            await self._manager.begin(transmission)
        except asyncio.CancelledError:  # who asked is gone, so it is over
            self._answered(transmission[0])
            raise
        except NotGrantedError as refused:
            log.warning("%s", refused)
            raise error.Forbidden("the manager refuses") from None
        except PeerError as failure:
            log.error("the manager: %s", failure)
            raise error.ServiceUnavailable("the manager does not answer") from None
        pipe.on_event(lambda _first: self._answered(transmission[0]), is_interest=False)
        await self._inner.render_to_pipe(pipe)

    def _answered(self, pair: str) -> None:
        telling = asyncio.create_task(self._tell(pair))
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)

    async def _tell(self, pair: str) -> None:
        try:
            await self._manager.finish(pair)
        except PeerError as failure:
            log.error("the manager: %s", failure)
