"""A gateway's way to its cloud: records up, in order and each once; asks for devices, and lists, down."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from bt_selfsecure.bearers.places import Place
from bt_selfsecure.iot.database import DiskThread
from bt_selfsecure.iot.gateway.store import DISK_RETRY_S, GatewayStore, RecordWriter
from bt_selfsecure.iot.keeping import SessionKeeper
from bt_selfsecure.iot.members import Member
from bt_selfsecure.iot.sessions import IotSession, NotConnectedError, connect, negotiate
from bt_selfsecure.protocols.iotcrypto.certificate import Role
from bt_selfsecure.protocols.iotcrypto.transmission import TransmissionEnd
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
)

log = logging.getLogger(__name__)

MOST_BATCHES: Final = 8
"""Under way at once."""
RETRY_S: Final = 1.0

Forward = Callable[[ForwardedAsk], Awaitable[Answer]]


class Uplink:
    """Keeps a session with the cloud, and sends what waits in the store."""

    def __init__(
        self,
        member: Member,
        place: Place,
        transmission_port: int,
        store: GatewayStore,
        disk: DiskThread,
        writer: RecordWriter,
        forward: Forward,
        lists_changed: Callable[[], None],
    ) -> None:
        self._member, self._place, self._port = member, place, transmission_port
        self._store, self._disk, self._writer = store, disk, writer
        self._forward, self._lists_changed = forward, lists_changed
        self.keeper: Final = SessionKeeper(member, Role.CLOUD, self._open, self)
        self.acknowledged = 0
        """Records, since the start."""
        self.refusal = ""
        """Why the cloud does not take records now."""

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.keeper.run())
            group.create_task(self._upload())

    async def _open(self) -> IotSession:
        established = await negotiate(self._place, self._member.network, self._member.config(Role.CLOUD))
        return await connect((self._place[0], self._port), established, TransmissionEnd.UPLINK)

    # --- down ---------------------------------------------------------------------------------------------------------

    def lists_changed(self) -> None:
        self._lists_changed()

    async def answer(self, message: Ask) -> Answer:
        match message:
            case ForwardedAsk():
                return await self._forward(message)
            case ReadingRequest():
                return ReadingResponse({})
        return ErrorMessage(ErrorCode.UNKNOWN)

    # --- up -----------------------------------------------------------------------------------------------------------

    async def _upload(self) -> None:
        while True:
            await self.keeper.connected.wait()
            try:
                await self._upload_while_connected()
            except NotConnectedError:
                await asyncio.sleep(0)
            except sqlite3.Error as error:
                self.keeper.tell(f"records can't be read: {error}")
                await asyncio.sleep(DISK_RETRY_S)

    async def _upload_while_connected(self) -> None:
        """Send batch after batch; whenever a session ends, all that was not acknowledged is sent again."""
        sent = 0
        under_way: deque[tuple[int, asyncio.Task[Answer]]] = deque()
        try:
            while True:
                self._writer.added.clear()
                first, records = await self._disk.do(self._store.after, sent)
                if records:
                    sent = first + len(records) - 1
                    batch = RecordBatch(self._store.epoch, first, tuple(records))
                    under_way.append((sent, asyncio.create_task(self.keeper.request(batch))))
                elif not under_way:
                    await self._writer.added.wait()
                if under_way and (not records or len(under_way) == MOST_BATCHES):
                    last, oldest = under_way[0]
                    if not isinstance(answer := await oldest, Acknowledgement):
                        self.refusal = (isinstance(answer, ErrorMessage) and answer.text) or "it answers otherwise"
                        self.keeper.tell(f"the cloud does not take records: {self.refusal}")
                        await asyncio.sleep(RETRY_S)
                        return
                    self.refusal = ""
                    under_way.popleft()
                    await self._disk.do(self._store.acknowledge, last)
                    self._writer.waiting = await self._disk.do(self._store.waiting)
                    self.acknowledged = last
        finally:
            for _, task in under_way:
                task.cancel()
            await asyncio.gather(*(task for _, task in under_way), return_exceptions=True)
