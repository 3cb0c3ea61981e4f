"""The page of pairing on a phone: one HTML file without any outside resource, its state once a second, and wishes.

GET  /TOKEN/         the page
GET  /TOKEN/state    `Introduction.view` as JSON
POST /TOKEN/photo    a picture of the other device's code; 409 and {"error": why} where it is refused
POST /TOKEN/do       {"wish": "read", "code": C}, {"wish": "same" or "differs", "string": S}, or {"wish": "give up"}
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any, Final

from bt_selfsecure.errors import UnreadableError, UsageError
from bt_selfsecure.phone.guard import JSON, Guard, address_of, drawn_token, names_here
from bt_selfsecure.phone.http import MAX_BODY_BYTES, Answer, HttpRequest, HttpServer, RefusedError
from bt_selfsecure.phone.introduction import Introduction, IntroductionPhase

MOST_PICTURE_BYTES: Final = 12 << 20
"""The page sends smaller ones, where the browser can read them itself."""
PICTURES: Final = ("image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp")
GOODBYE_S: Final = 2.5
"""The page asks for the end within so long."""


class PairingPage:
    """This is what the phone sees of an introduction."""

    def __init__(self, introduction: Introduction, guard: Guard) -> None:
        self._introduction, self.guard = introduction, guard

    def most_body_bytes(self, path: str) -> int:
        """Return how long a body may be: pictures come from who knows the address."""
        is_picture = self.guard.is_inside(path) and path.endswith("/photo")
        return MOST_PICTURE_BYTES if is_picture else MAX_BODY_BYTES

    def answer(self, request: HttpRequest) -> Answer:
        """Return what to say to a request. Raises `RefusedError`."""
        match request.method, self.guard.inside(request):
            case "GET", "":
                return self.guard.page
            case "GET", "state":
                return self._state(HTTPStatus.OK)
            case "POST", "photo":
                self.guard.require_own(request, *PICTURES)
                return self._done(lambda: self._introduction.read_picture(request.body))
            case "POST", "do":
                self.guard.require_own(request, JSON)
                return self._do(request.body)
            case _, "" | "state" | "photo" | "do":
                raise RefusedError(HTTPStatus.METHOD_NOT_ALLOWED)
        raise RefusedError(HTTPStatus.NOT_FOUND)

    def _do(self, body: bytes) -> Answer:
        introduction = self._introduction
        try:
            match json.loads(body):
                case {"wish": "read", "code": str(code)}:
                    return self._done(lambda: introduction.read(code))
                case {"wish": "same" | "differs" as said, "string": str(string)}:
                    return self._done(lambda: introduction.compared(string, same=said == "same"))
                case {"wish": "give up"}:
                    return self._done(introduction.give_up)
        except (ValueError, RecursionError):
            pass
        return self._state(HTTPStatus.BAD_REQUEST, error="this is no wish of the page")

    def _done(self, wish: Any) -> Answer:
        try:
            wish()
        except (UsageError, UnreadableError) as error:
            return self._state(HTTPStatus.CONFLICT, error=str(error))
        return self._state(HTTPStatus.OK)

    def _state(self, status: HTTPStatus, **more: Any) -> Answer:
        return Answer(status, json.dumps(self._introduction.view() | more).encode(), JSON)


@contextlib.asynccontextmanager
async def serve(introduction: Introduction, listener: socket.socket) -> AsyncIterator[tuple[str, asyncio.Task[None]]]:
    """Serve for the time of the context, which yields the page's address and the server's task. The phone is shown how
    it ended."""
    token = drawn_token()
    page = PairingPage(introduction, Guard("phone/pairing.html", token, await names_here(), listener.getsockname()[0]))
    server = HttpServer(listener, page.answer, page.guard.headers, page.most_body_bytes)
    task = asyncio.create_task(server.run(), name="page")
    try:
        yield address_of(listener, token), task
        if introduction.view()["phase"] == IntroductionPhase.PAIRED:
            await asyncio.sleep(GOODBYE_S)
    finally:
        task.cancel()
        await asyncio.wait([task])
