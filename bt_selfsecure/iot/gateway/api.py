"""The gateway's local API: HTTP on a Unix socket, for who may use that, by its group and mode. It shows no secret.

GET  /v1/status                                          how the gateway, its cloud and its devices are
GET  /v1/metrics                                         figures in Prometheus's text format
POST /v1/request?device=NAME[&sensor=NAME]               what its sensors say now
POST /v1/command?device=NAME&name=NAME[&argument=JSON]   what became of it
"""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from bt_selfsecure.errors import LocalError, UsageError
from bt_selfsecure.iot.folder import expires_soon
from bt_selfsecure.iot.gateway.gateway import Gateway
from bt_selfsecure.node.connections import listen
from bt_selfsecure.protocols.iotcrypto.certificate import Certificate
from bt_selfsecure.protocols.iotcrypto.transmission_messages import (
    ActuatorCommand,
    Answer,
    CommandStatus,
    ErrorMessage,
    ForwardedAsk,
    ReadingRequest,
    ReadingResponse,
)

_PREFIX: Final = "bt_selfsecure_gateway"


class GatewayApi:
    """Serves one gateway from `start` to `stop`."""

    def __init__(self, gateway: Gateway, path: Path, group: str) -> None:
        self._gateway, self._path, self._group = gateway, path, group
        self._begun: Final = time.time()
        application = web.Application(middlewares=[_in_one_line])
        application.router.add_get("/v1/status", self._status)
        application.router.add_get("/v1/metrics", self._metrics)
        application.router.add_post("/v1/request", self._request)
        application.router.add_post("/v1/command", self._command)
        self._runner: Final = web.AppRunner(application, access_log=None, handler_cancellation=True)

    async def start(self) -> None:
        """Raises `UsageError` where another gateway listens, or the socket can't be made."""
        listener = listen(self._path, self._group)
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()

    async def stop(self) -> None:
        await self._runner.cleanup()
        self._path.unlink(missing_ok=True)

    # --- handlers -----------------------------------------------------------------------------------------------------

    async def _status(self, request: web.Request) -> web.Response:
        return web.json_response(status(self._gateway))

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(text=metrics(self._gateway, self._begun))

    async def _request(self, request: web.Request) -> web.Response:
        sensors = tuple(request.query.getall("sensor", []))
        return await self._ask(request, ReadingRequest(sensors))

    async def _command(self, request: web.Request) -> web.Response:
        try:
            argument = json.loads(request.query.get("argument", "null"))
        except (ValueError, RecursionError):
            raise UsageError("argument must be JSON, as in true, 21.5 or a text in quotes") from None
        name = request.query.get("name", "")
        return await self._ask(request, ActuatorCommand(secrets.randbits(64), name, argument))

    async def _ask(self, request: web.Request, ask: ReadingRequest | ActuatorCommand) -> web.Response:
        device = self._gateway.found(request.query.get("device", ""))
        try:
            answer = await self._gateway.forward(ForwardedAsk(device.session.id, ask))
        except LocalError as error:
            raise UsageError(str(error)) from None
        return _answered(answer)


def _answered(answer: Answer) -> web.Response:
    match answer:
        case ReadingResponse(readings=readings):
            return web.json_response({"readings": dict(readings)})
        case CommandStatus(done=done, text=text):
            return web.json_response({"done": done, "text": text})
        case ErrorMessage(code=code, text=text):
            return web.json_response({"error": text or code.name.lower()}, status=502)
    return web.json_response({"error": "an answer of another kind"}, status=502)


@web.middleware
async def _in_one_line(request: web.Request, handler: Any) -> web.StreamResponse:
    try:
        answer: web.StreamResponse = await handler(request)
    except UsageError as error:
        return web.json_response({"error": str(error)}, status=400)
    return answer


# --- what is shown ----------------------------------------------------------------------------------------------------


def _certificate(of: Certificate) -> dict[str, Any]:
    return {"id": of.id.hex(), "name": of.name, "expires": of.expires}


def problems(gateway: Gateway) -> list[str]:
    """Return what is wrong, each in one sentence with its remedy."""
    found = []
    own, now = gateway.member.signed.certificate, gateway.member.wall()
    if now < gateway.member.trust.least_time:
        found.append("this computer's clock is behind what the owner has signed: set it, until then nobody is trusted")
    if now >= own.expires:
        found.append("its certificate has expired: iotcrypto certificate renews it, then have it signed again")
    elif soon := expires_soon(own, now):
        found.append(soon)
    if gateway.uplink is not None and gateway.uplink.keeper.session is None:
        found.append(f"the cloud is away: {gateway.writer.waiting:,} records wait for it")
    elif gateway.uplink is not None and gateway.uplink.refusal:
        found.append(f"the cloud does not take records ({gateway.uplink.refusal}): see its log, and docs/cloud.md")
    if gateway.writer.is_full:
        found.append("as many records wait for the cloud as [cloud] most_records allows: nothing more is taken")
    return found


def status(gateway: Gateway) -> dict[str, Any]:
    """Return how the gateway is."""
    uplink = gateway.uplink.keeper.session if gateway.uplink else None
    return {
        "gateway": _certificate(gateway.member.signed.certificate),
        "network": gateway.member.network.name,
        "owner": _certificate(gateway.member.trust.owner),
        "lists": {kind.name.lower(): made.serial for kind, made in gateway.member.trust.lists.items()},
        "cloud": uplink and {**_certificate(uplink.peer.certificate), "where": uplink.where},
        "waiting": gateway.writer.waiting,
        "problems": problems(gateway),
        "devices": [
            {
                **_certificate(device.session.peer.certificate),
                "where": device.session.where,
                "since_ms": device.since_ms,
                "trusted_until": device.session.judgement.until,
                "signer": device.session.judgement.signer.hex(),
                "readings": device.readings,
                "read_ms": device.read_ms,
            }
            for device in gateway.devices.values()
        ],
    }


def metrics(gateway: Gateway, begun: float) -> str:
    """Return the counts in Prometheus's text format."""
    counts = {"readings": 0, "alerts": 0, "joined": 0, "left": 0, "refused": 0, "requests": 0, "commands": 0}
    counts |= gateway.counts
    lines = []
    for name, count in counts.items():
        lines += [f"# TYPE {_PREFIX}_{name}_total counter", f"{_PREFIX}_{name}_total {count}"]
    gauges = {
        "devices": len(gateway.devices),
        "waiting_records": gateway.writer.waiting,
        "cloud_connected": int(gateway.uplink is not None and gateway.uplink.keeper.session is not None),
        "certificate_expires_seconds": gateway.member.signed.certificate.expires,
        "start_time_seconds": int(begun),
    }
    for name, value in gauges.items():
        lines += [f"# TYPE {_PREFIX}_{name} gauge", f"{_PREFIX}_{name} {value}"]
    return "\n".join(lines) + "\n"
