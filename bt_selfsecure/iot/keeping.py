"""One session with whoever is above (a device's gateway, a gateway's cloud), kept up, renewed, and closed in time."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Protocol

from bt_selfsecure.iot.members import Member
from bt_selfsecure.iot.sessions import IotSession, NotConnectedError
from bt_selfsecure.protocols.iotcrypto.certificate import Role
from bt_selfsecure.protocols.iotcrypto.transmission_messages import (
    Acknowledgement,
    Answer,
    Ask,
    ListPiece,
    RekeyRequest,
)
from bt_selfsecure.sansio.back_off import BackOff

log = logging.getLogger(__name__)

TICK_S: Final = 1.0
LAST_RETRY_S: Final = 15.0


class Tasks:
    """Holds tasks that nobody awaits, so that they are not lost, and can be ended."""

    def __init__(self) -> None:
        self._tasks: Final[set[asyncio.Task[None]]] = set()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, NotConnectedError):
            log.error("a fault of this program", exc_info=error)


class Above(Protocol):
    """Is what its two users do with the session."""

    async def answer(self, message: Ask) -> Answer:
        """Return the answer to what is asked, once all of it is done."""
        ...

    def lists_changed(self) -> None:
        """Take note that a list of the owner's has come."""
        ...


class SessionKeeper:
    """Keeps a session up until `run` is cancelled."""

    def __init__(
        self, member: Member, role: Role, open_session: Callable[[], Awaitable[IotSession]], above: Above
    ) -> None:
        """`role` is the peer's. `open_session` raises `NotConnectedError`."""
        self._member, self._role, self._open, self._above = member, role, open_session, above
        self._what: Final = role.name.lower()
        self._tasks: Final = Tasks()
        self._over: Final = asyncio.Event()
        self._told = ""
        self.session: IotSession | None = None
        """None while there is none."""
        self.connected: Final = asyncio.Event()

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._stay_connected())
                group.create_task(self._watch())
        finally:
            self._tasks.cancel()
            if self.session is not None:
                self.session.close("it was ended")

    async def request(self, message: Ask) -> Answer:
        """Return the other end's answer. Raises `NotConnectedError`, also where there is no session."""
        if self.session is None:
            raise NotConnectedError(f"no {self._what} is connected")
        return await self.session.request(message)

    def tell(self, trouble: str) -> None:
        """Log a trouble, once until something else is told or the session is up."""
        if trouble != self._told:
            self._told = trouble
            log.warning("%s", trouble)

    # --- as a handler of the session's --------------------------------------------------------------------------------

    def asked(self, session: IotSession, n: int, message: Ask) -> None:
        self._tasks.begin(self._answer(session, n, message))

    def ended(self, session: IotSession, reason: str) -> None:
        if session is self.session:
            log.warning("the connection to the %s is over: %s", self._what, reason)
            self.session = None
            self.connected.clear()
            self._over.set()

    async def _answer(self, session: IotSession, n: int, message: Ask) -> None:
        match message:
            case RekeyRequest():
                session.answer(n, Acknowledgement())
                await self._renew(session)
            case ListPiece():
                answer, is_new = self._member.take_piece(message)
                session.answer(n, answer)
                if is_new:
                    log.info("a new list of the owner's is here")
                    self._above.lists_changed()
                    self._judge()
            case _:
                session.answer(n, await self._above.answer(message))

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _stay_connected(self) -> None:
        waits = BackOff(last=LAST_RETRY_S)
        while True:
            try:
                session = await self._open()
            except NotConnectedError as error:
                self.tell(f"no {self._what}: {error}")
                waits.failed(_now(), random.random())
                await asyncio.sleep(waits.until - _now())
                continue
            waits.reset()
            self._use(session)
            await self._over.wait()

    def _use(self, session: IotSession) -> None:
        before, self.session = self.session, session
        self._told = ""
        self._over.clear()
        log.info("connected to the %s %r at %s", self._what, session.peer.certificate.name, session.where)
        session.attend(self)
        self._tasks.begin(session.ask_when_silent())
        if before is not None:
            before.close("there is a new key")
        if not session.end_reason:
            self.connected.set()

    async def _watch(self) -> None:
        """Look each second whether the other end is still trusted."""
        while True:
            await asyncio.sleep(TICK_S)
            if self._member.reread():
                self._above.lists_changed()
            self._judge()

    def _judge(self) -> None:
        if self.session is not None:
            judgement = self.session.judgement = self._member.judge(self.session.peer, self._role)
            if not judgement.is_trusted:
                self.session.close(f"it is not trusted any more: {judgement.verdict.words}")

    async def _renew(self, old: IotSession) -> None:
        try:
            session = await self._open()
        except NotConnectedError as error:
            self.tell(f"no new key: {error}")
            return
        if self.session in (old, None):
            self._use(session)
        else:
            session.close("there is another one already")


def _now() -> float:
    return asyncio.get_running_loop().time()
