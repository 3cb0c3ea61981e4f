"""How the cloud's REST answers: in JSON, errors in one line, and each who asks at a rate."""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import cache
from importlib.resources import files
from typing import Any, Final

from aiohttp import web

from bt_selfsecure import __version__
from bt_selfsecure.errors import BtSelfSecureError, PeerError, UsageError
from bt_selfsecure.iot.cloud.page import HEADERS
from bt_selfsecure.iot.cloud.queries import NotThereError
from bt_selfsecure.iot.cloud.sql import SqlError
from bt_selfsecure.iot.cloud.tokens import NoTokenError
from bt_selfsecure.node.errors import ConflictError
from bt_selfsecure.protocols.iotcrypto import limits

log = logging.getLogger(__name__)

MOST_RATES: Final = 4096
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class TooOftenError(BtSelfSecureError):
    """So many requests may not come."""


class DeviceFailedError(BtSelfSecureError):
    """There is an answer of the device, and it is an error."""


class NoAnswerError(BtSelfSecureError):
    """No answer comes from the device now."""


class ForbiddenError(BtSelfSecureError):
    """The token's role is too small."""


class Rates:
    """Counts requests by who makes them, as buckets that fill by the minute."""

    def __init__(self, per_minute: int) -> None:
        self._most: Final = per_minute
        self._left: Final[OrderedDict[str, tuple[float, float]]] = OrderedDict()

    def take(self, who: str, now: float) -> None:
        """Raises `TooOftenError`."""
        left, at = self._left.pop(who, (float(self._most), now))
        left = min(self._most, left + (now - at) * self._most / 60)
        self._left[who] = max(left - 1, 0.0) if left >= 1 else left, now
        if len(self._left) > MOST_RATES:
            self._left.popitem(last=False)
        if left < 1:
            raise TooOftenError(f"more than {self._most} requests a minute: wait a second, or ask for more at once")


STATUS: Final[dict[type[BtSelfSecureError], int]] = {
    NoTokenError: 401,
    ForbiddenError: 403,
    NotThereError: 404,
    ConflictError: 409,
    TooOftenError: 429,
    DeviceFailedError: 502,
    NoAnswerError: 504,
    SqlError: 503,
    UsageError: 400,
    PeerError: 400,
    BtSelfSecureError: 503,
}
"""The first that fits counts."""


@web.middleware
async def in_one_line(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let every error be one line in JSON; what no caller can help is logged, and told as that."""
    try:
        return await handler(request)
    except web.HTTPRequestEntityTooLarge:
        return _error(413, f"a list has at most {limits.MOST_LIST_BYTES} bytes")
    except web.HTTPException as error:
        answer = _error(error.status, f"{error.reason}: {request.method} {request.path[:64]}; see GET /v1/openapi.json")
        if "Allow" in error.headers:
            answer.headers["Allow"] = error.headers["Allow"]
        return answer
    except BtSelfSecureError as error:
        return _error(next(status for kind, status in STATUS.items() if isinstance(error, kind)), str(error))
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return _error(500, "the cloud failed at this; its log says why (journalctl -u bt-selfsecure-cloud)")


def json_answer(body: Any, status: int = 200) -> web.Response:
    """Return an answer that nobody keeps."""
    return web.json_response(body, status=status, headers=HEADERS)


def _error(status: int, text: str) -> web.Response:
    answer = json_answer({"error": text}, status)
    if status == 429:
        answer.headers["Retry-After"] = "1"
    if status == 401:
        answer.headers["WWW-Authenticate"] = "Bearer, DPoP"
    return answer


@cache
def description() -> dict[str, Any]:
    """Return the description in OpenAPI 3.1, as docs/generate.py has made it, and of this version."""
    described: dict[str, Any] = json.loads(files("bt_selfsecure.iot.cloud").joinpath("openapi.json").read_text("utf-8"))
    described["info"]["version"] = __version__
    return described
