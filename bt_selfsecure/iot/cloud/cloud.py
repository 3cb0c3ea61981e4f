"""The cloud as its gateways see it: it takes what they bring, acknowledges what is on the disk, and tells them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

from bt_selfsecure.iot.cloud.config import CloudConfig
from bt_selfsecure.iot.cloud.sql import CloudDatabase, SqlError
from bt_selfsecure.iot.cloud.store import Arrival, CloudStore
from bt_selfsecure.iot.database import DiskThread
from bt_selfsecure.iot.keeping import TICK_S, Tasks
from bt_selfsecure.iot.members import Member
from bt_selfsecure.iot.service import SessionService
from bt_selfsecure.iot.sessions import IotSession, NotConnectedError
from bt_selfsecure.iot.telling import ToldOnce
from bt_selfsecure.protocols.iotcrypto.certificate import Role
from bt_selfsecure.protocols.iotcrypto.events import NegotiationFailed
from bt_selfsecure.protocols.iotcrypto.lists import ListKind
from bt_selfsecure.protocols.iotcrypto.transmission import TransmissionEnd, pieces_of
from bt_selfsecure.protocols.iotcrypto.transmission_messages import (
    Acknowledgement,
    Answer,
    Ask,
    ErrorCode,
    ErrorMessage,
    ForwardedAsk,
    ReadingRequest,
    ReadingResponse,
    RecordBatch,
    RekeyRequest,
)

log = logging.getLogger(__name__)

COMMIT_S: Final = 0.05
"""For which batches are gathered before they are written together."""
GAP_S: Final = 3.0
"""For a batch that is missing before another: it was overtaken, or lost and comes again."""
MOST_TOGETHER: Final = 4096
"""Batches in one transaction."""
RETRY_S: Final = 2.0
PRUNE_S: Final = 3600.0
REKEYED_S: Final = 60.0

T = TypeVar("T")


class AbsentError(NotConnectedError):
    """The gateway of a device is not connected."""


class _Waiting(NamedTuple):
    """Is a batch that is to be written, and under which number it is answered."""

    session: IotSession
    n: int
    batch: RecordBatch
    since: float


class Cloud:
    """Is the one server that gateways talk to. `run` never returns; whoever cancels it closes it."""

    def __init__(self, config: CloudConfig, member: Member, connect: Callable[[], CloudDatabase]) -> None:
        """`connect` opens the database, again after it has failed."""
        self.config: Final = config
        self.member: Final = member
        self.gateways: Final[dict[bytes, IotSession]] = {}
        """By id."""
        self.running: Final = asyncio.Event()
        """Set once gateways can come."""
        self.trouble = ""
        """What keeps records from being written; empty while they are."""
        self.refused = 0
        """Negotiations that came to nothing."""
        self.store: CloudStore | None = None
        self._connect: Final = connect
        self._base: CloudDatabase | None = None
        self._disk: Final = DiskThread()
        self._tasks: Final = Tasks()
        self._queue: list[_Waiting] = []
        self._something: Final = asyncio.Event()
        self._given: Final[dict[bytes, dict[ListKind, int]]] = {}
        self._rekeyed: Final[set[IotSession]] = set()
        self._told: Final = ToldOnce(log)
        self.service: Final = SessionService(
            member.network, member.config(Role.GATEWAY), TransmissionEnd.CLOUD, self._take, self._refuse
        )

    async def run(self) -> None:
        """Work until it is cancelled. Raises `BearerError` where it can't listen, and `SqlError` where the database is
        not there at the start, or another server has it."""
        gateways = self.config.gateways
        await self._disk.do(self._open)
        try:
            await self.service.open(
                [(host, gateways.negotiation_port) for host in gateways.listen],
                [(host, gateways.transmission_port) for host in gateways.listen],
            )
            async with asyncio.TaskGroup() as group:
                group.create_task(self._write())
                group.create_task(self._watch())
                group.create_task(self._prune())
                self.running.set()
        finally:
            for session in [*self.gateways.values()]:
                session.close("the cloud was ended")
            self._tasks.cancel()
            self.service.close()
            await self._disk.do(self._close)
            self._disk.close()

    def lists_changed(self) -> None:
        """Judge by the lists that are here now, and give them to all gateways."""
        self.service.config = self.member.config(Role.GATEWAY)
        self._judge()
        for session in self.gateways.values():
            self._tasks.begin(self._give_lists(session))

    async def forward(self, gateway: bytes, ask: ForwardedAsk) -> Answer:
        """Return what a device answers, or its gateway for it. Raises `NotConnectedError`."""
        session = self.gateways.get(gateway)
        if session is None:
            raise AbsentError("its gateway is not connected to this server")
        return await session.request(ask)

    # --- sessions -----------------------------------------------------------------------------------------------------

    def _take(self, session: IotSession) -> None:
        before = self.gateways.get(session.id)
        self.gateways[session.id] = session
        if before is not None:
            asyncio.get_running_loop().call_later(RETRY_S, before.close, "it came back")
        else:
            log.info("the gateway %r is connected from %s", session.peer.certificate.name, session.where)
            self._tasks.begin(self._note(lambda store: store.gateway_came(session.peer, self._now_ms())))
        session.attend(self)
        self._tasks.begin(session.ask_when_silent())
        self._tasks.begin(self._give_lists(session))

    def _refuse(self, failed: NegotiationFailed, where: str) -> None:
        self.refused += 1
        who = f"{failed.peer.certificate.name!r} at {where}" if failed.peer else where
        self._told.warn(f"{who} is not taken: {failed.reason.value}; {failed.verdict.words}")

    def asked(self, session: IotSession, n: int, message: Ask) -> None:
        match message:
            case RecordBatch():
                self._queue.append(_Waiting(session, n, message, asyncio.get_running_loop().time()))
                self._something.set()
            case ReadingRequest():
                session.answer(n, ReadingResponse({}))
            case _:
                pass

    def ended(self, session: IotSession, reason: str) -> None:
        self._rekeyed.discard(session)
        if self.gateways.get(session.id) is session:
            del self.gateways[session.id]
            self._given.pop(session.id, None)
            log.info("the gateway %r has left: %s", session.peer.certificate.name, reason)
            now = self._now_ms()
            self._tasks.begin(self._note(lambda store: store.gateway_went(session.id, reason[:80], now)))

    async def _watch(self) -> None:
        """Look each second at trust, and at the age of keys."""
        while True:
            await asyncio.sleep(TICK_S)
            if self.member.reread():
                self.lists_changed()
            self._judge()
            now = asyncio.get_running_loop().time()
            for session in [*self.gateways.values()]:
                age = now - session.begun
                if age > self.config.gateways.rekey_s + REKEYED_S:
                    session.close("it did not take a new key")
                elif age > self.config.gateways.rekey_s and session not in self._rekeyed:
                    self._rekeyed.add(session)
                    self._tasks.begin(self._rekey(session))

    def _judge(self) -> None:
        for session in [*self.gateways.values()]:
            session.judgement = self.member.judge(session.peer, Role.GATEWAY)
            if not session.judgement.is_trusted:
                session.close(f"it is not trusted any more: {session.judgement.verdict.words}")

    async def _rekey(self, session: IotSession) -> None:
        await session.request(RekeyRequest())

    async def _give_lists(self, session: IotSession) -> None:
        given = self._given.setdefault(session.id, {})
        for made in [*self.member.trust.lists.values()]:
            if given.get(made.kind) == made.serial:
                continue
            for piece in pieces_of(made.encode()):
                if not isinstance(await session.request(piece), Acknowledgement):
                    break  # a partner's gateway has another owner
            given[made.kind] = made.serial  # not before: where this session ends, the next has to give it

    # --- the disk -----------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        """Have a connection that writes. Raises `SqlError`."""
        self._close()
        base = self._connect()
        try:
            if not base.claim():
                raise SqlError("another server takes from gateways by this database: set [gateways] listen = []")
            self.store = CloudStore(base)
            self.store.started(self._now_ms())
            for session in self.gateways.values():
                self.store.gateway_came(session.peer, self._now_ms())
        except BaseException:
            base.close()
            raise
        self._base = base

    def _close(self) -> None:
        if self._base is not None:
            self._base.close()
            self._base = None

    async def _write(self) -> None:
        while True:
            await self._something.wait()
            await asyncio.sleep(COMMIT_S)
            self._something.clear()
            waiting, self._queue = [one for one in self._queue if not one.session.end_reason], []
            waiting.sort(
                key=lambda one: (one.session.id, one.batch.epoch, one.batch.first)
            )  # some were overtaken on the way
            for at in range(0, len(waiting), MOST_TOGETHER):
                await self._keep(waiting[at : at + MOST_TOGETHER])

    async def _keep(self, group: list[_Waiting]) -> None:
        """Write these. What can't be written yet waits: for the database, or a while for the batch before it."""
        arrivals = [Arrival(one.session.peer, one.batch) for one in group]
        now = self._now_ms()
        taken = await self._on_disk(lambda store: store.take(arrivals, now))
        if taken is None:
            self._queue += group
            self._something.set()
            return
        loop = asyncio.get_running_loop()
        for one, is_there in zip(group, taken, strict=True):
            if is_there:
                one.session.answer(one.n, Acknowledgement())
            elif loop.time() - one.since < GAP_S:
                self._queue.append(one)
                loop.call_at(one.since + GAP_S, self._something.set)
            else:
                one.session.answer(one.n, ErrorMessage(ErrorCode.REFUSED, "records before these are missing"))

    async def _note(self, what: Callable[[CloudStore], None]) -> None:
        await self._on_disk(what)

    async def _on_disk(self, what: Callable[[CloudStore], T]) -> T | None:
        """Return what it returns; None where the database can't do it, which is connected to anew."""
        try:
            result: T = await self._disk.do(self._on_store, what)
        except SqlError as error:
            if not self.trouble:
                log.error("nothing is taken from gateways: %s", error)
            self.trouble = f"nothing is taken from gateways, which keep what they have: {error}"
            await self._disk.do(self._close)
            await asyncio.sleep(RETRY_S)
            return None
        if self.trouble:
            self.trouble = ""
            log.info("the database is there again")
        return result

    def _on_store(self, what: Callable[[CloudStore], T]) -> T:
        if self._base is None:
            self._open()
        assert self.store is not None
        return what(self.store)

    async def _prune(self) -> None:
        keep = self.config.keep
        days = keep.readings_days, keep.alerts_days, keep.structure_days
        while True:
            await self._on_disk(lambda store: store.prune(self._now_ms(), *days))
            await asyncio.sleep(PRUNE_S)

    def _now_ms(self) -> int:
        return int(self.member.wall() * 1000)
