"""Two virtual Bluetooth devices and the listeners around them, in one process: datagrams over Bumble's real host stack.

    send() -> L2CAP or RFCOMM -> HCI -> controller -> LossyLink -> controller -> HCI -> RFCOMM or L2CAP -> received
                                                         |
                                                        taps

    bearer     losses seen by the receiver   sent to everyone    longest datagram
    rfcomm     none: a loss is a delay       no                  65535 bytes
    l2cap      yes                           no                    335 bytes
    le_advert  yes, of up to 24 bytes        yes, up to 24 bytes 65535 bytes (longer than 24 over rfcomm beside it)

A real chip sends at most 30 to 40 advertising events a second. Nothing here enforces it: whoever wants the figures of a
Pi paces `send` accordingly.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, Self, get_args

from bumble import core, hci, l2cap, rfcomm
from bumble.device import Device, DeviceConfiguration
from bumble.transport.common import AsyncPipeSink

from bt_selfsecure.air.controller import FlushableHost, HCI_Write_Automatic_Flush_Timeout_Command, RadioController
from bt_selfsecure.air.link import LossyLink, start_worker
from bt_selfsecure.bearers.advertising_data import manufacturer_data
from bt_selfsecure.bearers.base import Traits
from bt_selfsecure.bearers.framing import StreamReader, framed
from bt_selfsecure.bearers.limits import (
    ADVERT_BYTES,
    COMPANY_ID,
    FLUSH_TIMEOUT_SLOTS,
    FLUSHABLE_BYTES,
    PSM,
    STREAM_DATAGRAM_BYTES,
)
from bt_selfsecure.bearers.queued import QueuedLink
from bt_selfsecure.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from bt_selfsecure.air.capture import Tap
    from bt_selfsecure.air.reception import ReceptionModel

Bearer = Literal["rfcomm", "l2cap", "le_advert"]

RFCOMM_CHANNEL: Final = 1
CONNECT_S: Final = 60.0
ADVERTISING_INTERVAL_UNITS: Final = 32
"""20 ms in units of 0.625 ms, the shortest. Nothing waits for it: advertising is enabled for one event at a time."""
ADVERTISING_EVENT_S: Final = 2.5e-3
"""Seconds in which an advertising event of one channel surely ends: 0.4 ms of air and the HCI commands around it."""


class VirtualLink(QueuedLink):
    """Carries datagrams between a device and its peer: one device's end. Made by `VirtualBluetooth`."""

    def __init__(self, peer: str, bearer: Bearer, advertises: Callable[[bytes], bool] = lambda datagram: True) -> None:
        super().__init__(queue=sys.maxsize)
        self.peer = peer
        self.mtu = FLUSHABLE_BYTES if bearer == "l2cap" else STREAM_DATAGRAM_BYTES
        self.traits = Traits(
            losses_visible=bearer != "rfcomm", ordered=True, broadcast=bearer == "le_advert", link_encrypted=False
        )
        """Losses show in `le_advert` to a datagram of up to `ADVERT_BYTES`, which goes to whoever listens."""
        self.outbox: asyncio.Queue[bytes] = asyncio.Queue()
        """What `send` queued for the connection."""
        self.adverts: asyncio.Queue[bytes] = asyncio.Queue()
        """What `send` queued for advertising."""
        self.connection: Any = None
        """Bumble's, once it is there: it ends with the link."""
        self._advertises = advertises

    @property
    def is_over(self) -> bool:
        """Return whether it was closed, or lost."""
        return bool(self._ended)

    async def send(self, data: bytes) -> None:
        """Queue one datagram; it leaves when those before it have left. In `le_advert`, one of up to `ADVERT_BYTES` is
        advertised, unless `advertises` says that it goes over the connection beside."""
        self._require_open()
        self._require_size(data)
        advertised = self.traits.broadcast and len(data) <= ADVERT_BYTES and self._advertises(data)
        (self.adverts if advertised else self.outbox).put_nowait(bytes(data))

    async def close(self) -> None:
        if not self._ended:
            self.end(f"the link to {self.peer} is closed")
            await self.connection.disconnect()


class VirtualBluetooth:
    """Connects two devices named `names` over `bearer`, on an air where `heard` decides and `taps` listen. What of
    the short datagrams of `le_advert` is advertised, `advertises` says.

    An asynchronous context manager: inside, `link(name)` is each device's end. Runs in any asyncio event loop, and
    under `run_virtual` in virtual time. Entering raises `UsageError` for a wrong bearer or name, and where the devices
    hear too little of each other to connect within `CONNECT_S`.
    """

    def __init__(
        self,
        bearer: Bearer,
        heard: ReceptionModel,
        taps: Mapping[str, Tap],
        names: Sequence[str] = ("alice", "bob"),
        advertises: Callable[[bytes], bool] = lambda datagram: True,
    ) -> None:
        if bearer not in get_args(Bearer):
            raise UsageError(f"there is no bearer {bearer!r} in virtual Bluetooth; take {', '.join(get_args(Bearer))}")
        if len(names) != 2:
            raise UsageError(f"virtual Bluetooth joins two devices, not {len(names)}; give two names")
        self._bearer: Bearer = bearer
        self._names = tuple(names)
        self._links = {
            name: VirtualLink(address(3 - number), bearer, advertises) for number, name in enumerate(names, 1)
        }
        self._air = LossyLink(heard, taps)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def links(self) -> Mapping[str, VirtualLink]:
        """Return each device's end by its name."""
        return self._links

    def link(self, name: str) -> VirtualLink:
        """Return the end of the device `name`. Raises `UsageError` where there is none."""
        if name not in self._links:
            raise UsageError(f"there is no device {name!r} on the air; there are {' and '.join(self._links)}")
        return self._links[name]

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._connect()
        except (TimeoutError, asyncio.CancelledError, core.BaseBumbleError) as fault:
            self._close()
            if (task := asyncio.current_task()) and task.cancelling():
                raise  # by our caller; Bumble cancels what waits on a connection that broke
            pair = " and ".join(self._names)
            raise UsageError(f"{pair} hear too little of each other to connect; take a model with less loss") from fault
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._air.close()

    async def _connect(self) -> None:
        first, second = [virtual_device(name, number, self._air) for number, name in enumerate(self._names, 1)]
        for device in (first, second):
            await device.power_on()
        channels = _l2cap_channels if self._bearer == "l2cap" else _rfcomm_channels
        for link, channel in zip(self._links.values(), await channels(first, second), strict=True):
            link.connection = (channel if self._bearer == "l2cap" else channel.multiplexer.l2cap_channel).connection
            channel.on(channel.EVENT_CLOSE, partial(link.end, f"the link to {link.peer} ended: they hear nothing more"))
            if self._bearer == "l2cap":
                channel.sink = link.hear
                self._start(_send_sdus(link, channel), link)
            else:
                channel.sink = partial(_read_stream, link, StreamReader())
                self._start(_send_stream(link, channel), link)
        if self._bearer == "le_advert":
            for link, device in zip(self._links.values(), (first, second), strict=True):
                await _listen(link, device)
                await _prepare_advertising(device)
                self._start(_advertise(link, device), link)

    def _start(self, work: Coroutine[Any, Any, None], link: VirtualLink) -> None:
        self._tasks.append(start_worker(work, f"sending to {link.peer}"))


def address(number: int) -> str:
    """Return the public address of the device of this number."""
    return f"02:00:00:00:00:{number:02X}"


def virtual_device(name: str, number: int, air: LossyLink) -> Any:
    """Return a Bumble `Device`, powered off: a host joined by HCI to a controller of its own on the air.

    `name` is its name on the air too; `number`, 1 to 255, makes its addresses.
    """
    controller = RadioController(name, link=air, public_address=hci.Address(address(number), 0))
    host = FlushableHost(controller, AsyncPipeSink(controller))
    random_address = hci.Address(f"C2:00:00:00:00:{number:02X}", hci.Address.RANDOM_DEVICE_ADDRESS)
    return Device(host=host, config=DeviceConfiguration(name=name, address=random_address, classic_enabled=True))


# --- BR/EDR -----------------------------------------------------------------------------------------------------------


async def _rfcomm_channels(first: Any, second: Any) -> tuple[Any, Any]:
    """An RFCOMM channel from the first device to the second: both ends."""
    accepted: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    rfcomm.Server(second).listen(accepted.set_result, RFCOMM_CHANNEL)
    connection = await first.connect(second.public_address, core.PhysicalTransport.BR_EDR)
    multiplexer = await rfcomm.Client(connection).start()
    return await multiplexer.open_dlc(RFCOMM_CHANNEL), await accepted


async def _l2cap_channels(first: Any, second: Any) -> tuple[Any, Any]:
    """A flushable L2CAP channel in basic mode from the first device to the second: both ends."""
    accepted: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    spec = l2cap.ClassicChannelSpec(psm=PSM, mtu=FLUSHABLE_BYTES)
    second.create_l2cap_server(
        spec, lambda channel: channel.on(channel.EVENT_OPEN, lambda: accepted.set_result(channel))
    )
    connection = await first.connect(second.public_address, core.PhysicalTransport.BR_EDR)
    channels = await connection.create_l2cap_channel(spec), await accepted
    for device, channel in zip((first, second), channels, strict=True):
        handle = channel.connection.handle
        await device.send_sync_command(HCI_Write_Automatic_Flush_Timeout_Command(handle, FLUSH_TIMEOUT_SLOTS))
        device.host.flushable_channels.add((handle, channel.destination_cid))
    return channels


async def _send_sdus(link: VirtualLink, channel: Any) -> None:
    while True:
        sdu = await link.outbox.get()
        if not link.is_over:
            channel.write(sdu)


async def _send_stream(link: VirtualLink, channel: Any) -> None:
    """One datagram after the other, so that each begins with an RFCOMM frame of its own."""
    while True:
        datagram = await link.outbox.get()
        if not link.is_over:
            channel.write(framed(datagram))
            await channel.drain()


def _read_stream(link: VirtualLink, stream: StreamReader, data: bytes) -> None:
    """Hand on the datagrams that these bytes of a reliable stream complete."""
    stream.feed(data)
    while (datagram := stream.next()) is not None:
        link.hear(datagram)


# --- LE advertising ---------------------------------------------------------------------------------------------------


async def _listen(link: VirtualLink, device: Any) -> None:
    """Scan passively and without a duplicate filter: each advertising event is a datagram of its own."""

    def on_advertisement(advertisement: Any) -> None:
        for company, payload in advertisement.data.get_all(core.AdvertisingData.MANUFACTURER_SPECIFIC_DATA):
            if company == COMPANY_ID:
                link.hear(payload)

    device.on(device.EVENT_ADVERTISEMENT, on_advertisement)
    await device.start_scanning(legacy=True, active=False, filter_duplicates=False)


async def _prepare_advertising(device: Any) -> None:
    kinds = hci.HCI_LE_Set_Advertising_Parameters_Command.AdvertisingType
    command = hci.HCI_LE_Set_Advertising_Parameters_Command(
        advertising_interval_min=ADVERTISING_INTERVAL_UNITS,
        advertising_interval_max=ADVERTISING_INTERVAL_UNITS,
        advertising_type=kinds.ADV_NONCONN_IND,
        own_address_type=hci.OwnAddressType.PUBLIC,
        peer_address_type=0,
        peer_address=hci.Address.ANY,
        advertising_channel_map=0b001,  # channel 37 alone: one packet an event
        advertising_filter_policy=0,
    )
    await device.send_sync_command(command)


async def _advertise(link: VirtualLink, device: Any) -> None:
    """One advertising event a datagram: on, until the event is over, off."""
    while True:
        data = manufacturer_data(await link.adverts.get())
        await device.send_sync_command(hci.HCI_LE_Set_Advertising_Data_Command(data))
        await device.send_sync_command(hci.HCI_LE_Set_Advertising_Enable_Command(1))
        await asyncio.sleep(ADVERTISING_EVENT_S)
        await device.send_sync_command(hci.HCI_LE_Set_Advertising_Enable_Command(0))
