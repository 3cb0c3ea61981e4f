"""The page on the phone: one HTML file without any outside resource, its state once a second, and wishes.

    GET  /TOKEN/         the page
    GET  /TOKEN/state    `Driver.view` as JSON
    POST /TOKEN/do       a wish as `wishes.py` has it; 409 and {"error": why} where it is refused

The token is kept beside the record.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator
from http import HTTPStatus
from pathlib import Path
from typing import Any

from bt_selfsecure.files import whole
from bt_selfsecure.phone.guard import JSON, TOKEN, Guard, address_of, drawn_token, names_here
from bt_selfsecure.phone.http import Answer, HttpRequest, HttpServer, RefusedError
from bt_selfsecure.sweep.driver import Driver
from bt_selfsecure.sweep.plain_json import json_of
from bt_selfsecure.sweep.wishes import NoWishError, read_wish


def token_beside(record: Path, *, new: bool) -> str:
    """Return the secret part of the page's address: as it was for this record, or a `new` one."""
    file = record.with_name(f"{record.name}.page")
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if not new and TOKEN.fullmatch(token := file.read_text().strip()):
            return token
    token = drawn_token()
    with whole(file, 0o600) as part:
        part.write_text(token + "\n")
    return token


@contextlib.asynccontextmanager
async def serve(driver: Driver, listener: socket.socket, token: str) -> AsyncGenerator[str, None]:
    """Serve for the time of the context, which yields the page's address; the sweep goes on where that fails."""
    page = Page(driver, Guard("sweep/page.html", token, await names_here(), listener.getsockname()[0]))
    server = asyncio.create_task(HttpServer(listener, page.answer, page.guard.headers).run(), name="page")

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            driver.tell(f"the page is gone ({error}), and the sweep goes on without it; a new start brings it back")

    server.add_done_callback(ended)
    try:
        yield address_of(listener, token)
    finally:
        server.cancel()
        await asyncio.wait([server])


class Page:
    """This is what the phone sees of one sweep."""

    def __init__(self, driver: Driver, guard: Guard) -> None:
        self._driver, self.guard = driver, guard

    def answer(self, request: HttpRequest) -> Answer:
        """Return what to say to a request. Raises `RefusedError`."""
        match request.method, self.guard.inside(request):
            case "GET", "":
                return self.guard.page
            case "GET", "state":
                return self._state(HTTPStatus.OK)
            case "POST", "do":
                return self._do(request)
            case _, "" | "state" | "do":
                raise RefusedError(HTTPStatus.METHOD_NOT_ALLOWED)
        raise RefusedError(HTTPStatus.NOT_FOUND)

    def _state(self, status: HTTPStatus, **more: Any) -> Answer:
        return Answer(status, json_of(self._driver.view() | more).encode(), JSON)

    def _do(self, request: HttpRequest) -> Answer:
        self.guard.require_own(request, JSON)
        try:
            wish = read_wish(request.body, self._driver.plan)
        except NoWishError as error:
            return self._state(HTTPStatus.BAD_REQUEST, error=str(error))
        if why := self._driver.wish(wish):
            return self._state(HTTPStatus.CONFLICT, error=why)
        return self._state(HTTPStatus.OK)
