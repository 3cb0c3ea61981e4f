"""REST and the page, over HTTPS. Each request has a token, a rate, and one line where it is refused."""

from __future__ import annotations

import json
import logging
import re
import secrets
import ssl
import time
from functools import partial
from typing import Any, Final

from aiohttp import web

from bt_selfsecure.errors import LocalError, UsageError
from bt_selfsecure.iot.cloud import queries
from bt_selfsecure.iot.cloud.answers import (
    DeviceFailedError,
    ForbiddenError,
    Handler,
    NoAnswerError,
    Rates,
    description,
    in_one_line,
    json_answer,
)
from bt_selfsecure.iot.cloud.api_operations import (
    OPERATIONS,
    AlertsQuery,
    AskQuery,
    CommandQuery,
    ConnectionsQuery,
    DevicesQuery,
    ReadingsQuery,
    TokenQuery,
)
from bt_selfsecure.iot.cloud.cloud import Cloud
from bt_selfsecure.iot.cloud.page import HEADERS, the_page
from bt_selfsecure.iot.cloud.queries import NotThereError, Scope
from bt_selfsecure.iot.cloud.readers import Readers
from bt_selfsecure.iot.cloud.sql import SqlError
from bt_selfsecure.iot.cloud.tokens import (
    NoTokenError,
    ProofReader,
    Token,
    TokenRole,
    find_token,
    list_tokens,
    make_token,
    revoke_token,
)
from bt_selfsecure.iot.cloud.trusting import TrustJudge
from bt_selfsecure.iot.folder import expires_soon
from bt_selfsecure.iot.sessions import NotConnectedError
from bt_selfsecure.node.api_operations import NoQuery
from bt_selfsecure.node.errors import ConflictError
from bt_selfsecure.node.query import read_query
from bt_selfsecure.protocols.iotcrypto import limits
from bt_selfsecure.protocols.iotcrypto.transmission_messages import (
    MEASURED,
    WORD,
    ActuatorCommand,
    Answer,
    CommandStatus,
    ErrorCode,
    ErrorMessage,
    ForwardedAsk,
    ReadingRequest,
    ReadingResponse,
)
from bt_selfsecure.protocols.iotcrypto.trust import NotTakenError

log = logging.getLogger(__name__)
http_log = logging.getLogger(f"{__name__}.http")
http_log.setLevel(logging.CRITICAL)  # aiohttp logs a traceback for every request that is not HTTP

STRANGERS_PER_MINUTE: Final = 60
"""Requests without a token that counts, of one address."""
STOP_S: Final = 1.0
NO_DATABASE: Final = "the database can't be used now: the cloud's log says why (journalctl -u bt-selfsecure-cloud)"
"""For whoever has shown no token: the cause names paths and servers."""
TOKEN, SCOPE = web.RequestKey("token", Token), web.RequestKey("scope", object)


class CloudApi:
    """Serves one cloud from `start` to `stop`."""

    def __init__(self, cloud: Cloud, readers: Readers, context: ssl.SSLContext | None) -> None:
        """Without `context` it is HTTP, for a proxy on the same computer."""
        self._cloud, self._readers, self._context = cloud, readers, context
        self._begun: Final = time.time()
        self._unread = ""
        self._judge: Final = TrustJudge(cloud.member)
        self._proofs: Final = ProofReader()
        self._rates: Final = Rates(cloud.config.api.requests_per_minute)
        self._strangers: Final = Rates(STRANGERS_PER_MINUTE)
        application = web.Application(client_max_size=limits.MOST_LIST_BYTES, middlewares=[in_one_line])
        for name, each in OPERATIONS.items():
            handler = partial(self._checked, each.role, getattr(self, f"_{name}"))
            application.router.add_route(each.operation.method, each.operation.path, handler)
        application.router.add_get("/", _page)
        self._runner: Final = web.AppRunner(
            application, access_log=None, logger=http_log, handler_cancellation=True, shutdown_timeout=STOP_S
        )

    async def start(self) -> list[int]:
        """Listen; return the ports. Raises `UsageError` where one can't be had."""
        await self._runner.setup()
        api = self._cloud.config.api
        port = api.port
        for host in api.listen:
            try:
                await web.TCPSite(self._runner, host, port, ssl_context=self._context).start()
            except OSError as error:
                raise UsageError(
                    f"can't listen on {host}, TCP {port} ({error.strerror}): set [api] listen or port to others"
                ) from None
            port = self._runner.addresses[0][1]  # the same of all, where any free one was asked for
        return [address[1] for address in self._runner.addresses]

    async def stop(self) -> None:
        await self._runner.cleanup()

    # --- who may ------------------------------------------------------------------------------------------------------

    async def _checked(self, role: TokenRole | None, handler: Handler, request: web.Request) -> web.StreamResponse:
        if role is not None:
            try:
                token = await self._token(request)
            except NoTokenError:
                self._strangers.take(request.remote or "", time.monotonic())
                raise
            except SqlError as error:
                self._log_unread(str(error))
                raise SqlError(NO_DATABASE) from None
            self._rates.take(token.name, time.monotonic())
            if token.role < role:
                raise ForbiddenError(
                    f"this takes a token of the role {role.name.lower()}, not {token.role.name.lower()}"
                )
            request[TOKEN] = token
            request[SCOPE] = await self._readers.do(self._judge.scope, token.partner) if token.partner else None
        else:
            self._rates.take(request.remote or "", time.monotonic())
        return await handler(request)

    async def _token(self, request: web.Request) -> Token:
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() not in ("bearer", "dpop") or not text:
            raise NoTokenError("a token is missing: send the header Authorization: Bearer TOKEN")
        token = await self._readers.do(find_token, text, self._now_ms())
        if token.partner is not None:
            if not self._judge.is_party_trusted(token.partner):
                raise NoTokenError("the company of this token is not trusted any more")
            proof, url = request.headers.get("DPoP", ""), str(request.url.with_query(None).with_fragment(None))
            self._proofs.check(proof, token.partner, request.method, url, text, self._cloud.member.wall())
        return token

    # --- what is there ------------------------------------------------------------------------------------------------

    async def _health(self, request: web.Request) -> web.Response:
        read_query(request.query, NoQuery)
        faults = await self._faults()
        return json_answer({"healthy": not faults, "problems": faults + self._soon()}, 503 if faults else 200)

    async def _faults(self) -> list[str]:
        """What keeps it from its work, for whoever asks."""
        unread = await self._readers.trouble()
        self._log_unread(unread)
        return ([NO_DATABASE] if unread or self._cloud.trouble else []) + self._faults_of_trust()

    def _log_unread(self, trouble: str) -> None:
        """Once, until it is another."""
        if trouble and trouble != self._unread:
            log.error("nothing can be read from the database: %s", trouble)
        self._unread = trouble

    async def _openapi(self, request: web.Request) -> web.Response:
        read_query(request.query, NoQuery)
        return json_answer(description())

    async def _network(self, request: web.Request) -> web.Response:
        read_query(request.query, NoQuery)
        gateways, devices, alerts = await self._readers.do(queries.counts, _scope(request))
        member = self._cloud.member
        return json_answer(
            {
                "name": member.network.name,
                "cloud": member.signed.certificate.name,
                "owner": member.trust.owner.name,
                "now_ms": self._now_ms(),
                "gateways": gateways,
                "devices": devices,
                "unseen_alerts": alerts,
                "problems": self.problems(),
                "role": request[TOKEN].role.name.lower(),
            }
        )

    async def _gateways(self, request: web.Request) -> web.Response:
        read_query(request.query, NoQuery)
        found = await self._readers.do(queries.gateways, _scope(request), self._judge)
        return json_answer({"gateways": found})

    async def _devices(self, request: web.Request) -> web.Response:
        query = read_query(request.query, DevicesQuery)
        return json_answer(await self._readers.do(queries.devices, _scope(request), query, self._judge))

    async def _device(self, request: web.Request) -> web.Response:
        read_query(request.query, NoQuery)
        device = request.match_info["device"]
        return json_answer(await self._readers.do(queries.device, _scope(request), device, self._judge))

    async def _readings(self, request: web.Request) -> web.Response:
        query = read_query(request.query, ReadingsQuery)
        return json_answer(
            await self._readers.do(queries.readings, _scope(request), request.match_info["device"], query)
        )

    async def _connections(self, request: web.Request) -> web.Response:
        query = read_query(request.query, ConnectionsQuery)
        return json_answer(await self._readers.do(queries.connections, _scope(request), query))

    async def _alerts(self, request: web.Request) -> web.Response:
        query = read_query(request.query, AlertsQuery)
        return json_answer(await self._readers.do(queries.alerts, _scope(request), query))

    async def _seen(self, request: web.Request) -> web.Response:
        read_query(request.query, NoQuery)
        text = request.match_info["number"]
        if not re.fullmatch("[0-9]{1,16}", text):
            raise NotThereError("an alert has a whole number: GET /v1/alerts lists them")
        await self._readers.do(queries.see, int(text), request[TOKEN].name, self._now_ms())
        return web.Response(status=204)

    async def _metrics(self, request: web.Request) -> web.Response:
        read_query(request.query, NoQuery)
        gateways, devices, alerts = await self._readers.do(queries.counts, None)
        counts = self._cloud.store.counts if self._cloud.store else {}
        lines = []
        for name in ("readings", "alerts", "damaged"):
            lines += [f"# TYPE bt_selfsecure_cloud_{name}_total counter"]
            lines += [f"bt_selfsecure_cloud_{name}_total {counts.get(name, 0)}"]
        gauges = {
            "gateways": gateways,
            "devices": devices,
            "unseen_alerts": alerts,
            "healthy": int(not await self._faults()),
            "refused_negotiations": self._cloud.refused,
            "certificate_expires_seconds": self._cloud.member.signed.certificate.expires,
            "start_time_seconds": int(self._begun),
        }
        for name, figure in gauges.items():
            lines += [f"# TYPE bt_selfsecure_cloud_{name} gauge", f"bt_selfsecure_cloud_{name} {figure}"]
        return web.Response(text="\n".join(lines) + "\n", headers=HEADERS)

    # --- devices ------------------------------------------------------------------------------------------------------

    async def _ask(self, request: web.Request) -> web.Response:
        query = read_query(request.query, AskQuery)
        if query.sensor and not WORD(query.sensor):
            raise NotThereError("no device can have a sensor of this name: it has 1 to 32 printable bytes")
        answer = await self._forward(request, ReadingRequest((query.sensor,) if query.sensor else ()))
        if not isinstance(answer, ReadingResponse):
            raise DeviceFailedError("the device answers otherwise than it was asked")
        return json_answer({"readings": dict(answer.readings)})

    async def _command(self, request: web.Request) -> web.Response:
        query = read_query(request.query, CommandQuery)
        identity, argument = query.id or secrets.token_hex(8), _argument(query.argument)
        forwarded = ActuatorCommand(int(identity, 16), query.name, argument)
        if not WORD(query.name):
            raise NotThereError("no device can have a command of this name: it has 1 to 32 printable bytes")
        if not MEASURED(argument):
            return json_answer({"id": identity, "done": False, "text": "no device can be told this value"})
        device = request.match_info["device"]
        no = await self._readers.do(queries.device_number, _scope(request), device)
        text = json.dumps(argument)
        row = identity, no, request[TOKEN].name, query.name, text, self._now_ms()
        known = await self._readers.do(queries.begin_command, row)
        if known is not None and known[:3] != (no, query.name, text):
            raise ConflictError("another command has this id already: choose one by chance")
        if known is not None and known[3] is not None:
            return json_answer({"id": identity, "done": bool(known[3]), "text": known[4]})
        answer = await self._forward(request, forwarded)
        if not isinstance(answer, CommandStatus):
            raise DeviceFailedError("the device answers otherwise than it was asked")
        await self._readers.do(queries.end_command, identity, answer.done, answer.text)
        log.info("%s had %s do %r: %s", request[TOKEN].name, device, query.name, "done" if answer.done else "not done")
        return json_answer({"id": identity, "done": answer.done, "text": answer.text})

    async def _commands(self, request: web.Request) -> web.Response:
        read_query(request.query, NoQuery)
        return json_answer(await self._readers.do(queries.commands, request.match_info["device"]))

    async def _forward(self, request: web.Request, ask: ReadingRequest | ActuatorCommand) -> Answer:
        device = await self._readers.do(queries.device, _scope(request), request.match_info["device"], self._judge)
        if not device["connected"]:
            raise NoAnswerError("the device is not connected: GET /v1/connections says since when")
        if not device["trust"]["trusted"]:
            raise NoAnswerError(f"the device is not trusted: {device['trust']['why']}")
        forwarded = ForwardedAsk(bytes.fromhex(device["id"]), ask)
        try:
            answer = await self._cloud.forward(bytes.fromhex(device["gateway"]), forwarded)
        except (NotConnectedError, LocalError) as error:
            raise NoAnswerError(str(error)) from None
        if isinstance(answer, ErrorMessage):
            kind = NoAnswerError if answer.code is ErrorCode.ABSENT else DeviceFailedError
            raise kind(answer.text or answer.code.name.lower())
        return answer

    # --- trust and tokens ---------------------------------------------------------------------------------------------

    async def _trust(self, request: web.Request) -> web.Response:
        read_query(request.query, NoQuery)
        return json_answer(self._judge.state())

    async def _take_list(self, request: web.Request) -> web.Response:
        read_query(request.query, NoQuery)
        try:
            is_new = self._cloud.member.take_list(await request.read())
        except NotTakenError as error:
            raise ConflictError(f"the list is not taken: {error}") from None
        if is_new:
            log.info("%s brought a new list of the owner's", request[TOKEN].name)
            self._cloud.lists_changed()
        return json_answer({"new": is_new})

    async def _tokens(self, request: web.Request) -> web.Response:
        read_query(request.query, NoQuery)
        rows = await self._readers.do(list_tokens)
        return json_answer({"tokens": [{"name": name, "role": role, "expires_ms": end} for name, role, end in rows]})

    async def _add_token(self, request: web.Request) -> web.Response:
        query = read_query(request.query, TokenQuery)
        role = TokenRole[query.role.upper()]
        made = await self._readers.do(make_token, query.name, role, query.days, self._now_ms())
        return json_answer({"secret": made})

    async def _revoke_token(self, request: web.Request) -> web.Response:
        read_query(request.query, NoQuery)
        if not await self._readers.do(revoke_token, request.match_info["name"]):
            raise NotThereError("there is no token of this name: GET /v1/tokens lists them")
        return web.Response(status=204)

    def _faults_of_trust(self) -> list[str]:
        """What keeps gateways from being trusted, each in one sentence with its remedy."""
        member = self._cloud.member
        found: list[str] = []
        if member.wall() < member.trust.least_time:
            found.append(
                "this computer's clock is behind what the owner has signed: set it; nobody is trusted until then"
            )
        if member.wall() >= member.signed.certificate.expires:
            found.append("its certificate has expired: iotcrypto certificate renews it, then have it signed")
        return found

    def _soon(self) -> list[str]:
        """What will be one."""
        soon = expires_soon(self._cloud.member.signed.certificate, self._cloud.member.wall())
        return [soon] if soon else []

    def problems(self) -> list[str]:
        """Return what keeps it from its work, and what will, each in one sentence with its remedy."""
        database = [self._cloud.trouble] if self._cloud.trouble else []
        return database + self._faults_of_trust() + self._soon()

    def _now_ms(self) -> int:
        return int(self._cloud.member.wall() * 1000)


# --- requests and answers ---------------------------------------------------------------------------------------------


def _scope(request: web.Request) -> Scope:
    scope: Any = request[SCOPE]
    return scope  # type: ignore[no-any-return]


def _argument(text: str) -> Any:
    """Return a number, true, false, null or text, as JSON says them; what is none of these is the text."""
    try:
        found = json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(found, (dict, list)) else found


async def _page(request: web.Request) -> web.Response:
    text, headers = the_page()
    return web.Response(text=text, content_type="text/html", headers=headers)
