"""The REST API of a KME: ETSI GS QKD 014 V1.1.1 over HTTPS, where both ends have certificates. Nothing of a key is
logged."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import ssl
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from bt_selfsecure import __version__
from bt_selfsecure.delivery.etsi014.manager import KeyManager, KmeError
from bt_selfsecure.errors import UsageError

MOST_BODY_BYTES: Final = 1 << 16
MOST_DIGITS: Final = 9
PATH: Final = "/api/v1/keys/{sae}"

log = logging.getLogger(__name__)
http_log = logging.getLogger(f"{__name__}.http")
http_log.setLevel(logging.CRITICAL)  # aiohttp logs a traceback for every request that is not HTTP


def tls(folder: Path, name: str) -> ssl.SSLContext:
    """Return what HTTPS takes: the folder's NAME.crt and NAME.key, and clients that its ca.crt has signed. Raises
    `UsageError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(folder / f"{name}.crt", folder / f"{name}.key")
        context.load_verify_locations(folder / "ca.crt")
    except (OSError, ssl.SSLError) as error:
        why = error.strerror or error
        raise UsageError(
            f"the certificates of {name} in {folder} can't be used ({why}): bt-selfsecure key ca {folder} {name}"
        ) from None
    return context


def application(manager: KeyManager) -> web.Application:
    """Return the API of this KME."""

    async def status(request: web.Request) -> web.Response:
        return _answer(await asyncio.to_thread(manager.status, _caller(request), request.match_info["sae"]))

    async def enc_keys(request: web.Request) -> web.Response:
        wish = await _wish(request)
        keys = await asyncio.to_thread(manager.enc_keys, _caller(request), request.match_info["sae"], wish)
        return _answer({"keys": keys})

    async def dec_keys(request: web.Request) -> web.Response:
        wish = await _wish(request)
        key_ids = [wish["key_ID"]] if "key_ID" in wish else _key_ids(wish)
        keys = await asyncio.to_thread(manager.dec_keys, _caller(request), request.match_info["sae"], key_ids)
        return _answer({"keys": keys})

    async def openapi(_: web.Request) -> web.Response:
        return _answer(_description())

    made = web.Application(client_max_size=MOST_BODY_BYTES, middlewares=[_in_one_message])
    made.router.add_get("/api/v1/openapi.json", openapi)
    made.router.add_get(PATH + "/status", status)
    for method in ("GET", "POST"):
        made.router.add_route(method, PATH + "/enc_keys", enc_keys)
        made.router.add_route(method, PATH + "/dec_keys", dec_keys)
    return made


async def serve(manager: KeyManager, context: ssl.SSLContext, host: str, port: int) -> None:
    """Serve until cancelled. Raises `UsageError` where the port can't be had."""
    runner = web.AppRunner(application(manager), access_log=None, logger=http_log)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, ssl_context=context).start()
    except OSError as error:
        await runner.cleanup()
        raise UsageError(f"can't listen on {host}:{port} ({error.strerror}): choose another --listen") from None
    manager.start()
    try:
        await asyncio.Event().wait()
    finally:
        manager.stop()
        await runner.cleanup()


def _caller(request: web.Request) -> str:
    """The application's id: the common name of its certificate."""
    certificate = request.transport.get_extra_info("peercert") if request.transport else None
    names = [value for part in (certificate or {}).get("subject", ()) for kind, value in part if kind == "commonName"]
    if len(names) != 1:
        raise KmeError(401, "the certificate names no application")
    return str(names[0])


@functools.cache
def _description() -> dict[str, Any]:
    """This API in OpenAPI 3.1, with this version."""
    described: dict[str, Any] = json.loads(
        files("bt_selfsecure.delivery.etsi014").joinpath("openapi.json").read_text("utf-8")
    )
    described["info"]["version"] = __version__
    return described


async def _wish(request: web.Request) -> Mapping[str, Any]:
    if request.method != "POST":
        return _queried(request)
    try:
        body = json.loads(await request.read() or b"{}")
    except (ValueError, RecursionError):
        raise KmeError(400, "the request's body is not JSON") from None
    if not isinstance(body, dict):
        raise KmeError(400, "the request's body is not a JSON object")
    return body


def _queried(request: web.Request) -> Mapping[str, Any]:
    """Parameters of a query, of which numbers are numbers and none stands there twice."""
    wish: dict[str, Any] = {}
    for name, value in request.query.items():
        if name in wish:
            raise KmeError(400, f"{name[:64]} is there twice")
        is_number = name in ("number", "size") and value.isascii() and value.isdecimal()
        wish[name] = int(value) if is_number and len(value) <= MOST_DIGITS else value
    return wish


def _key_ids(wish: Mapping[str, Any]) -> list[str]:
    listed = wish.get("key_IDs")
    if not isinstance(listed, list) or not listed:
        raise KmeError(400, "key_IDs is missing")
    key_ids = [each.get("key_ID") if isinstance(each, dict) else None for each in listed]
    if not all(isinstance(each, str) for each in key_ids):
        raise KmeError(400, "key_ID is missing")
    return [str(each) for each in key_ids]


def _answer(body: Any, status: int = 200) -> web.Response:
    return web.json_response(body, status=status, headers={"Cache-Control": "no-store"})


@web.middleware
async def _in_one_message(request: web.Request, handler: Any) -> web.StreamResponse:
    """Every error is the standard's Error data format, table 11."""
    try:
        answer: web.StreamResponse = await handler(request)
    except KmeError as error:
        details = [{name: value} for name, value in error.details.items()]
        return _answer({"message": str(error)} | ({"details": details} if details else {}), error.status)
    except web.HTTPException as error:
        answer = _answer({"message": error.reason}, error.status)
        answer.headers.update({name: value for name, value in error.headers.items() if name == "Allow"})
        return answer
    except UsageError as error:
        log.error("%s", error)
        return _answer({"message": str(error)}, 503)
    except Exception:
        log.exception("a request of %s failed", request.path)
        return _answer({"message": "the KME failed at this; its log says why"}, 503)
    return answer
