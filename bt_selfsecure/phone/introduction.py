"""What the page of pairing shows and does: this device's call as a code, the call of another one that was read, and the
string that people compare. One pairing after the other, until there is a peer.

Whatever the page is told goes over the phone's network in the clear. So it carries calls alone, in which nothing is
secret, and every pairing ends with the string. A code that holds a secret is refused.
"""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import Callable
from http import HTTPStatus
from threading import Thread
from typing import Any, Final

from bt_selfsecure.errors import UnreadableError, UsageError
from bt_selfsecure.node.client import ApiError, NodeClient
from bt_selfsecure.node.unix_http import UnixHttpConnection
from bt_selfsecure.oob.qr import CodeKind, as_data_uri, code_of, codes_in_upload, read_code

RETRY_S: Final = 1.0
"""From a pairing that failed, or could not begin, to the next."""
PATIENCE_S: Final = 5.0
"""The node may take so long to let the pairing before this one go."""
BUSY_S: Final = 0.2
OPEN: Final = "bt-selfsecure pair page, or pair show --compare"
Line = dict[str, Any]


class IntroductionPhase(enum.StrEnum):
    """Says what a person is to do."""

    STARTING = "starting"
    SHOWING = "showing"
    CALLING = "calling"
    AGREEING = "agreeing"
    COMPARING = "comparing"
    WAITING = "waiting"
    """For the person at the other end."""
    PAIRED = "paired"


class Introduction:
    """Pairs by way of `client`'s node, which is `called` so, and tells each line of it. All but the stream is in one
    event loop."""

    def __init__(self, client: NodeClient, called: str, tell: Callable[[Line], None], **more: str) -> None:
        self._client, self._called, self._tell, self._more = client, called, tell, more
        self._phase = IntroductionPhase.STARTING
        self._own = self._code = self._qr = self._peer = self._string = self._trouble = ""
        self._next = b""
        """What was read, and is to be called."""
        self._is_given_up = False
        self._over: UnixHttpConnection | None = None

    async def run(self) -> None:
        """Return once there is a peer. Cancelled, the node has given up, and nothing stays."""
        while True:
            carried, self._next = self._next, b""
            last = await self._attempt(carried)
            if last["event"] == "paired":
                return
            if not self._is_given_up:
                self._trouble = f"Not paired: {last['text']}."
                await asyncio.sleep(RETRY_S)

    async def _attempt(self, carried: bytes) -> Line:
        """Return the last line of one pairing."""
        loop, lines = asyncio.get_running_loop(), asyncio.Queue[Line]()
        over = self._over = self._client.connection()
        self._is_given_up = False
        self._phase = IntroductionPhase.CALLING if carried else IntroductionPhase.STARTING
        self._code = self._qr = self._peer = self._string = ""

        def follow() -> None:
            for line in self._lines(carried, over):
                loop.call_soon_threadsafe(lines.put_nowait, line)

        Thread(target=follow, daemon=True).start()
        try:
            while True:
                line = await lines.get()
                is_over = line["event"] in ("paired", "failed")
                if line["event"] == "paired" or not self._is_given_up:
                    self._take(line)
                elif not is_over:
                    over.end()  # it was not begun when it was given up
                if is_over:
                    return line
        finally:
            over.end()

    def _lines(self, carried: bytes, over: UnixHttpConnection) -> Any:
        more = self._more if carried else self._more | {"udp": ""}
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                yield from self._client.pair("call", carried, over=over, **more)
                why = "the node has stopped"
            except ApiError as error:
                if error.status == HTTPStatus.CONFLICT and time.monotonic() < until and not self._is_given_up:
                    time.sleep(BUSY_S)
                    continue
                why = str(error)
            except UsageError as error:
                why = str(error)
            yield {"event": "failed", "peer": "", "address": "", "text": why}  # after a last line nobody reads it
            return

    def _take(self, line: Line) -> None:
        match line["event"]:
            case "shown":
                self._code = code_of(CodeKind.CALL, bytes.fromhex(line["code"]))
                self._qr, self._own = as_data_uri(self._code), line["address"]
                line = line | {"code": self._code}
                self._phase = IntroductionPhase.SHOWING
            case "calling":
                self._peer, self._phase = line["address"], IntroductionPhase.CALLING
            case "keyed":
                self._peer, self._phase = line["peer"], IntroductionPhase.AGREEING
                self._trouble = ""
            case "string":
                self._string, self._phase = line["string"], IntroductionPhase.COMPARING
            case "released":
                self._phase, self._peer, self._string = IntroductionPhase.SHOWING, "", ""
                self._trouble = f"{line['peer']}: {line['text']}."
            case "trouble":
                self._trouble = line["text"]
            case "paired":
                self._peer, self._phase, self._trouble = line["peer"], IntroductionPhase.PAIRED, ""
        self._tell(line)

    # --- what the page asks -------------------------------------------------------------------------------------------

    def view(self) -> dict[str, Any]:
        """Return what there is to see."""
        return {
            "phase": self._phase,
            "name": self._called,
            "own": self._own,
            "code": self._code,
            "qr": self._qr,
            "peer": self._peer,
            "string": self._string,
            "trouble": self._trouble,
        }

    def read_picture(self, picture: bytes) -> None:
        """Call the device whose code is in this picture. Raises `UsageError`."""
        found = codes_in_upload(picture)
        if len(found) != 1:
            many = f"{len(found)} codes are" if found else "no code of ours is"
            raise UsageError(f"{many} to be seen in the picture: take a sharper one, of the one code, or type it")
        self.read(found[0])

    def read(self, code: str) -> None:
        """Call the device whose code this is. Raises `UsageError`."""
        try:
            carried = read_code(code.upper(), CodeKind.CALL)
        except UnreadableError as error:
            raise UsageError(_with_secret(code) or str(error)) from None
        if self._phase not in (IntroductionPhase.SHOWING, IntroductionPhase.STARTING):
            raise UsageError("a pairing is under way: end it first")
        if carried[:6].hex(":").upper() == self._own:
            raise UsageError("this is the code of this very device: read that of the other one")
        self._next, self._trouble = carried, ""
        self.give_up()

    def give_up(self) -> None:
        """End the pairing that is under way; another begins. Raises `UsageError` where there is a peer already."""
        if self._phase is IntroductionPhase.PAIRED:
            raise UsageError("it is paired: bt-selfsecure pair forget, if it should not be")
        self._is_given_up, self._phase = True, IntroductionPhase.STARTING
        if self._over:
            self._over.end()

    def compared(self, string: str, *, same: bool) -> None:
        """Take a person's word on this string. Raises `UsageError`."""
        self._client.compared(same=same, string=string)
        self._phase = IntroductionPhase.WAITING


def _with_secret(code: str) -> str:
    try:
        read_code(code.upper(), CodeKind.PAIRING)
    except UnreadableError:
        return ""
    return (
        f"that code holds a secret, and whoever listens on this network may have it now: end pair show there, and "
        f"show one without: {OPEN}"
    )
