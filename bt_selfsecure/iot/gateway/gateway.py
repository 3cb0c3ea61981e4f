"""The gateway at work (Fig. 5, sections 3.3 and 4.5): its devices, what they say, whether they are trusted still."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from bt_selfsecure.bearers.places import Place, parse_place
from bt_selfsecure.errors import UsageError
from bt_selfsecure.iot.advertising import GatewayAdvertiser
from bt_selfsecure.iot.database import DiskThread
from bt_selfsecure.iot.gateway.config import GatewayConfig
from bt_selfsecure.iot.gateway.store import GatewayStore, RecordWriter, StoreFullError
from bt_selfsecure.iot.gateway.uplink import Uplink
from bt_selfsecure.iot.keeping import TICK_S, Tasks
from bt_selfsecure.iot.members import Member
from bt_selfsecure.iot.service import SessionService
from bt_selfsecure.iot.sessions import SILENCE_S, IotSession, NotConnectedError
from bt_selfsecure.iot.telling import ToldOnce
from bt_selfsecure.protocols.iotcrypto.certificate import Role
from bt_selfsecure.protocols.iotcrypto.events import NegotiationFailed
from bt_selfsecure.protocols.iotcrypto.limits import MOST_READINGS
from bt_selfsecure.protocols.iotcrypto.lists import ListKind
from bt_selfsecure.protocols.iotcrypto.messages import Advertisement
from bt_selfsecure.protocols.iotcrypto.records import (
    AlertRecord,
    JoinedRecord,
    KeptRecord,
    LeftRecord,
    ReadingRecord,
    StartedRecord,
)
from bt_selfsecure.protocols.iotcrypto.transmission import TransmissionEnd, pieces_of
from bt_selfsecure.protocols.iotcrypto.transmission_messages import (
    Acknowledgement,
    AlertMessage,
    Answer,
    Ask,
    ErrorCode,
    ErrorMessage,
    ForwardedAsk,
    Measured,
    ReadingRequest,
    ReadingResponse,
    RekeyRequest,
)

log = logging.getLogger(__name__)

REKEYED_S: Final = 60.0
"""For which a device may take to come back under a new key."""
TAKEN_OVER_S: Final = 5.0
"""For which the session before goes on, so that what is under way on it comes to its end."""
KEPT_WITHOUT_CLOUD: Final = 10_000


@dataclass
class ConnectedDevice:
    """Is a device while it is connected."""

    session: IotSession
    since_ms: int
    readings: dict[str, Measured] = field(default_factory=dict)
    """The newest."""
    read_ms: int = 0
    lists: dict[ListKind, int] = field(default_factory=dict)
    """Serials of the owner's lists that it was given."""
    trouble: str = ""


class Gateway:
    """Is a gateway. `run` never returns; whoever cancels it closes it."""

    def __init__(self, config: GatewayConfig, member: Member, store: GatewayStore) -> None:
        self.config: Final = config
        self.member: Final = member
        self.devices: Final[dict[bytes, ConnectedDevice]] = {}
        """By id."""
        self.counts: Final[Counter[str]] = Counter()
        """Since the start: readings, alerts, joined, left, refused, commands and requests."""
        self.running: Final = asyncio.Event()
        """Set once devices can come."""
        cloud = config.cloud.address
        self._store: Final = store
        self._disk: Final = DiskThread()
        most = config.cloud.most_records if cloud else KEPT_WITHOUT_CLOUD
        self.writer: Final = RecordWriter(store, self._disk, most, drops=not cloud)
        self.service: Final = SessionService(
            member.network, member.config(Role.DEVICE), TransmissionEnd.GATEWAY, self._take, self._refused
        )
        self.uplink: Final = self._made_uplink(parse_place(cloud)) if cloud else None
        self._tasks: Final = Tasks()
        self._told: Final = ToldOnce(log)

    def _made_uplink(self, place: Place) -> Uplink:
        port = self.config.cloud.transmission_port
        return Uplink(self.member, place, port, self._store, self._disk, self.writer, self.forward, self._lists_changed)

    async def run(self) -> None:
        """Work until it is cancelled. Raises `BearerError` where it can't listen."""
        devices = self.config.devices
        try:
            await self.service.open(
                [(host, devices.negotiation_port) for host in devices.listen],
                [(host, devices.transmission_port) for host in devices.listen],
            )
            async with asyncio.TaskGroup() as group:
                group.create_task(self.writer.run())
                await self.writer.add(StartedRecord(self.member.id, self._now_ms()), always=True)
                group.create_task(self._watch())
                if devices.advertise:
                    group.create_task(self._advertise())
                if self.uplink is not None:
                    group.create_task(self.uplink.run())
                self.running.set()
        finally:
            for device in [*self.devices.values()]:
                device.session.close("the gateway was ended")
            self._tasks.cancel()
            self.service.close()
            self._disk.close()

    async def _advertise(self) -> None:
        devices = self.config.devices
        negotiation, transmission = self.service.negotiation.places[0][1], self.service.transmission.places[0][1]
        advertisement = Advertisement(self.member.id, negotiation, transmission)
        advertiser = GatewayAdvertiser(advertisement, devices.advertisement_port, devices.interfaces)
        try:
            await advertiser.run()
        finally:
            advertiser.close()

    # --- devices come and go ------------------------------------------------------------------------------------------

    def _take(self, session: IotSession) -> None:
        before = self.devices.get(session.id)
        name = session.peer.certificate.name
        if before is None and len(self.devices) >= self.config.devices.most:
            self._told.warn(f"{len(self.devices)} devices are connected, as many as [devices] most allows")
            session.close("the gateway is full")
            return
        device = ConnectedDevice(session, before.since_ms if before else self._now_ms())
        self.devices[session.id] = device
        if before is not None:
            device.readings, device.read_ms, device.lists = before.readings, before.read_ms, before.lists
            asyncio.get_running_loop().call_later(TAKEN_OVER_S, before.session.close, "it came back")
        else:
            self.counts["joined"] += 1
            log.info("the device %r is connected from %s", name, session.where)
            self._keep(JoinedRecord(session.id, self._now_ms(), session.peer))
        session.attend(self)
        self._tasks.begin(session.ask_when_silent(2 * SILENCE_S))  # a device asks first: no sensor is read for that
        self._tasks.begin(self._fetch(device, soon=before is None))
        self._tasks.begin(self._give_lists(device))

    def _refused(self, failed: NegotiationFailed, where: str) -> None:
        self.counts["refused"] += 1
        who = f"{failed.peer.certificate.name!r} at {where}" if failed.peer else where
        self._told.warn(f"{who} is not taken: {failed.reason.value}; {failed.verdict.words}")

    def ended(self, session: IotSession, reason: str) -> None:
        device = self.devices.get(session.id)
        if device is not None and device.session is session:
            del self.devices[session.id]
            self.counts["left"] += 1
            log.info("the device %r has left: %s", session.peer.certificate.name, reason)
            self._keep(LeftRecord(session.id, self._now_ms(), reason[:80]))

    async def _watch(self) -> None:
        """Look each second at trust, at the age of keys, and at what is on the disk now."""
        while True:
            await asyncio.sleep(TICK_S)
            if self.member.reread():
                self._lists_changed()
            self._judge()
            for device in [*self.devices.values()]:
                age = asyncio.get_running_loop().time() - device.session.begun
                if age > self.config.devices.rekey_s + REKEYED_S:
                    device.session.close("it did not take a new key")
                elif age > self.config.devices.rekey_s and device.trouble != "rekey":
                    device.trouble = "rekey"
                    self._tasks.begin(self._rekey(device))

    def _judge(self) -> None:
        for device in [*self.devices.values()]:
            session = device.session
            session.judgement = self.member.judge(session.peer, Role.DEVICE)
            if not session.judgement.is_trusted:
                session.close(f"it is not trusted any more: {session.judgement.verdict.words}")

    def _lists_changed(self) -> None:
        self.service.config = self.member.config(Role.DEVICE)
        self._judge()
        for device in self.devices.values():
            self._tasks.begin(self._give_lists(device))

    async def _give_lists(self, device: ConnectedDevice) -> None:
        for made in [*self.member.trust.lists.values()]:
            if device.lists.get(made.kind) == made.serial:
                continue
            for piece in pieces_of(made.encode()):
                answer = await device.session.request(piece)
                if not isinstance(answer, Acknowledgement):
                    break  # a partner's device has another owner
            device.lists[made.kind] = made.serial  # not before: where this session ends, the next has to give it

    async def _rekey(self, device: ConnectedDevice) -> None:
        await device.session.request(RekeyRequest())

    # --- what they say ------------------------------------------------------------------------------------------------

    async def _fetch(self, device: ConnectedDevice, *, soon: bool) -> None:
        """Ask for all sensors, again and again; the first time at once, and then each at its own moment."""
        period, clock = self.config.devices.fetch_s, asyncio.get_running_loop().time
        due = clock() + (0.0 if soon else random.random() * period)
        while not device.session.end_reason:
            await asyncio.sleep(due - clock())
            due = max(due + (period if not soon else (0.5 + random.random() / 2) * period), clock())
            soon = False
            if self.writer.is_full:
                self._told.warn("as many records wait for the cloud as may: nothing more is read")
                continue
            answer = await device.session.request(ReadingRequest())
            if isinstance(answer, ReadingResponse) and answer.readings:
                await self._keep_reading(device, answer)
            elif isinstance(answer, ErrorMessage):
                self._told.warn(f"the device {device.session.peer.certificate.name!r}: {answer.text}")

    async def _keep_reading(self, device: ConnectedDevice, answer: ReadingResponse) -> None:
        now = self._now_ms()
        with contextlib.suppress(StoreFullError):
            await self.writer.add(ReadingRecord(device.session.id, now, answer.readings))
            self.counts["readings"] += 1
            kept = device.readings if len(device.readings) <= MOST_READINGS else {}
            device.readings = {**kept, **answer.readings}
            device.read_ms = now

    def asked(self, session: IotSession, n: int, message: Ask) -> None:
        match message:
            case AlertMessage():
                self._tasks.begin(self._keep_alert(session, n, message))
            case ReadingRequest():
                session.answer(n, ReadingResponse({}))
            case _:
                pass

    async def _keep_alert(self, session: IotSession, n: int, alert: AlertMessage) -> None:
        try:
            await self.writer.add(AlertRecord(session.id, alert.time, alert.id, alert.text, alert.value))
        except StoreFullError as error:
            session.answer(n, ErrorMessage(ErrorCode.FULL, str(error)))  # the device keeps it
            return
        self.counts["alerts"] += 1
        log.warning("alert of the device %r: %s", session.peer.certificate.name, alert.text)
        session.answer(n, Acknowledgement())

    # --- what they are asked ------------------------------------------------------------------------------------------

    async def forward(self, message: ForwardedAsk) -> Answer:
        """Return the device's answer, or why there is none."""
        device = self.devices.get(message.device)
        if device is None:
            return ErrorMessage(ErrorCode.ABSENT, "the device is not connected")
        self.counts["requests" if isinstance(message.ask, ReadingRequest) else "commands"] += 1
        try:
            answer = await device.session.request(message.ask)
        except NotConnectedError as error:
            return ErrorMessage(ErrorCode.ABSENT, str(error)[:80])
        if isinstance(answer, ReadingResponse):
            await self._keep_reading(device, answer)
        return answer

    def found(self, name: str) -> ConnectedDevice:
        """Return the connected device of this name or id. Raises `UsageError`."""
        found = [
            device
            for device in self.devices.values()
            if name in (device.session.id.hex(), device.session.peer.certificate.name)
        ]
        if len(found) == 1:
            return found[0]
        if found:
            raise UsageError(f"{len(found)} devices are named {name!r}: give the id, as `gateway status` shows it")
        raise UsageError(f"no device {name!r} is connected: `gateway status` shows who is")

    # --- inside -------------------------------------------------------------------------------------------------------

    def _keep(self, record: KeptRecord) -> None:
        self._tasks.begin(self.writer.add(record, always=True))

    def _now_ms(self) -> int:
        return int(self.member.wall() * 1000)
