"""The device at work (Fig. 3): it finds its gateway, agrees on keys, answers what is asked, and tells by itself."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from bt_selfsecure.bearers.places import Place
from bt_selfsecure.iot.advertising import PORT, AdvertisementPort
from bt_selfsecure.iot.database import DiskThread
from bt_selfsecure.iot.device.program import Program, ProgramError, UnknownNameError
from bt_selfsecure.iot.device.store import DeviceStore
from bt_selfsecure.iot.keeping import TICK_S, SessionKeeper
from bt_selfsecure.iot.members import Member
from bt_selfsecure.iot.sessions import IotSession, NotConnectedError, connect, negotiate
from bt_selfsecure.protocols.iotcrypto.certificate import Role
from bt_selfsecure.protocols.iotcrypto.messages import Advertisement
from bt_selfsecure.protocols.iotcrypto.transmission import TransmissionEnd
from bt_selfsecure.protocols.iotcrypto.transmission_messages import (
    Acknowledgement,
    ActuatorCommand,
    Answer,
    Ask,
    CommandStatus,
    ErrorCode,
    ErrorMessage,
    ReadingRequest,
    ReadingResponse,
)

log = logging.getLogger(__name__)

MOST_HEARD: Final = 8
"""Gateways of which an advertisement is kept."""
HEARD_S: Final = 10.0
"""For which an advertisement is followed."""
RETRY_S: Final = 5.0


@dataclass(frozen=True)
class DeviceConfig:
    """Says where the gateway is."""

    gateway: Place | None = None
    """Address and negotiation port; None: whoever advertises, and is trusted."""
    transmission_port: int = 5712
    """Of that gateway; an advertisement says it itself."""
    advertisement_port: int = PORT


class Device:
    """Is a device. `run` never returns; whoever cancels it closes it."""

    def __init__(self, member: Member, program: Program, store: DeviceStore, config: DeviceConfig) -> None:
        self._member: Final = member
        self._program: Final = program
        self._store: Final = store
        self._config: Final = config
        self._disk: Final = DiskThread()
        self._heard: Final[OrderedDict[tuple[bytes, str], tuple[Advertisement, float]]] = OrderedDict()
        self._good: tuple[bytes, str] | None = None
        self._something_heard: Final = asyncio.Event()
        self._alert_made: Final = asyncio.Event()
        self.keeper: Final = SessionKeeper(member, Role.GATEWAY, self._open, self)

    async def run(self) -> None:
        """Work until it is cancelled. Raises `BearerError` where it can't hear advertisements."""
        hearing = AdvertisementPort(self._hear)
        if self._config.gateway is None:
            await hearing.open(self._config.advertisement_port)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.keeper.run())
                group.create_task(self._send_alerts())
                if self._program.has_alerts:
                    group.create_task(self._collect_alerts())
        finally:
            hearing.close()
            self._disk.close()

    # --- the gateway --------------------------------------------------------------------------------------------------

    def _hear(self, advertisement: Advertisement, host: str) -> None:
        at = advertisement.id, host
        if at not in self._heard and len(self._heard) == MOST_HEARD:  # whoever advertises most, the good one stays
            del self._heard[next(heard for heard in self._heard if heard != self._good)]
        self._heard[at] = advertisement, _now()
        self._something_heard.set()

    async def _open(self) -> IotSession:
        """Return a new session with a gateway that is trusted. Raises `NotConnectedError`."""
        failure = NotConnectedError("none advertises")
        for at, place, port in await self._places():
            try:
                established = await negotiate(place, self._member.network, self._member.config(Role.GATEWAY))
                session = await connect((place[0], port), established, TransmissionEnd.DEVICE)
            except NotConnectedError as error:
                failure = error
                if at is not None:
                    self._heard.pop(at, None)
                continue
            self._good = at
            return session
        raise failure

    async def _places(self) -> list[tuple[tuple[bytes, str] | None, Place, int]]:
        """Return where to try: the configured gateway, or whoever advertises, the one that was good before first."""
        if self._config.gateway is not None:
            return [(None, self._config.gateway, self._config.transmission_port)]
        while True:
            heard = [(at, one) for at, (one, since) in self._heard.items() if _now() - since < HEARD_S]
            if heard:
                heard.sort(key=lambda each: each[0] != self._good)
                return [(at, (at[1], one.negotiation_port), one.transmission_port) for at, one in heard]
            self._something_heard.clear()
            self.keeper.tell("no gateway advertises here yet")
            await self._something_heard.wait()

    # --- what is asked ------------------------------------------------------------------------------------------------

    def lists_changed(self) -> None:
        """Do nothing more: the keeper judges the gateway anew."""

    async def answer(self, message: Ask) -> Answer:
        match message:
            case ReadingRequest(sensors=names):
                return await self._read(names)
            case ActuatorCommand():
                return await self._execute(message)
        return ErrorMessage(ErrorCode.UNKNOWN)

    async def _read(self, names: tuple[str, ...]) -> Answer:
        try:
            return ReadingResponse(await self._program.readings(names))
        except UnknownNameError as error:
            return ErrorMessage(ErrorCode.UNKNOWN, str(error))
        except ProgramError as error:
            log.error("%s", error)
            return ErrorMessage(ErrorCode.FAILED, str(error)[:80])

    async def _execute(self, command: ActuatorCommand) -> Answer:
        try:
            before = await self._disk.do(self._store.begin, command.id)
            if before is not None:
                return before
            try:
                status = CommandStatus(True, await self._program.execute(command.name, command.argument))
            except ProgramError as error:
                log.error("the command %r: %s", command.name, error)
                status = CommandStatus(False, str(error)[:80])
            await self._disk.do(self._store.finish, command.id, status)
        except sqlite3.Error as error:
            log.error("the store can't be written: %s", error)
            return ErrorMessage(ErrorCode.FAILED, "the device can't write to its disk")
        return status

    # --- what it tells ------------------------------------------------------------------------------------------------

    async def _collect_alerts(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            try:
                if await self._disk.do(self._store.is_full):
                    self.keeper.tell("as many alerts wait as there is room for: no more are made")
                    continue
                for text, value in await self._program.alerts():
                    await self._disk.do(self._store.add_alert, int(self._member.wall() * 1000), text, value)
                    self._alert_made.set()
            except ProgramError as error:
                self.keeper.tell(str(error))
            except sqlite3.Error as error:
                self.keeper.tell(f"an alert can't be kept: {error}")

    async def _send_alerts(self) -> None:
        """Send alerts one by one, oldest first, each until it is acknowledged."""
        while True:
            await self.keeper.connected.wait()
            self._alert_made.clear()
            try:
                alert = await self._disk.do(self._store.first_alert)
                if alert is None:
                    await self._alert_made.wait()
                elif isinstance(answer := await self.keeper.request(alert), Acknowledgement):
                    await self._disk.do(self._store.drop_alert, alert.id)
                else:
                    self.keeper.tell(f"an alert waits, as the gateway does not take it: {answer}")
                    await asyncio.sleep(RETRY_S)
            except NotConnectedError:
                await asyncio.sleep(0)
            except sqlite3.Error as error:
                self.keeper.tell(f"alerts can't be read: {error}")
                await asyncio.sleep(RETRY_S)


def _now() -> float:
    return asyncio.get_running_loop().time()
