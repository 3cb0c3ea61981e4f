"""Each thing that our controllers, hosts and link cure in Bumble, through its own HCI."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pytest
from bumble import core, hci, l2cap
from bumble.device import Peer

from bt_selfsecure.air.bluetooth import virtual_device
from bt_selfsecure.air.controller import SLOT_S, HCI_Write_Automatic_Flush_Timeout_Command
from bt_selfsecure.air.link import LossyLink
from bt_selfsecure.air.virtual_time import run_virtual

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Kinds = hci.HCI_LE_Set_Advertising_Parameters_Command.AdvertisingType


def everyone(sender: str, listeners: Sequence[str], now: float) -> frozenset[str]:
    return frozenset(listeners)


async def two_devices(heard: Callable[[str, Sequence[str], float], frozenset[str]] = everyone) -> tuple[Any, Any]:
    air = LossyLink(heard, {})
    devices = virtual_device("alice", 1, air), virtual_device("bob", 2, air)
    for device in devices:
        await device.power_on()
    return devices


async def advertise(device: Any, kind: int, interval: int) -> None:
    parameters = hci.HCI_LE_Set_Advertising_Parameters_Command(
        advertising_interval_min=interval,
        advertising_interval_max=interval,
        advertising_type=kind,
        own_address_type=hci.OwnAddressType.PUBLIC,
        peer_address_type=0,
        peer_address=hci.Address.ANY,
        advertising_channel_map=0b111,
        advertising_filter_policy=0,
    )
    await device.send_sync_command(parameters)
    await device.send_sync_command(hci.HCI_LE_Set_Advertising_Data_Command(bytes.fromhex("020106")))
    await device.send_sync_command(hci.HCI_LE_Set_Advertising_Enable_Command(1))


@pytest.mark.parametrize(("kind", "event"), [(Kinds.ADV_NONCONN_IND, 3), (Kinds.ADV_IND, 0)])
def test_advertising_goes_on_at_its_interval_and_is_reported_once_each_as_what_it_is(kind: int, event: int) -> None:
    """100 ms and a random delay of 0 to 10 ms: 100 events in 10.5 s, give or take what the delays sum up to."""

    async def main() -> Counter[int]:
        alice, bob = await two_devices()
        reported: Counter[int] = Counter()
        bob.host.on("advertising_report", lambda report: reported.update([report.event_type]))
        await bob.start_scanning(legacy=True, active=True)
        await advertise(alice, kind, 160)
        await asyncio.sleep(10.5)
        return reported

    reported = run_virtual(main())
    assert set(reported) == {event}
    assert reported[event] == pytest.approx(100, abs=3)


def test_data_that_were_due_are_on_the_air_before_new_ones_however_busy_the_computer_is() -> None:
    async def main() -> list[bytes]:
        alice, bob = await two_devices()
        heard: list[bytes] = []
        bob.host.on("advertising_report", lambda report: heard.append(report.data))
        await bob.start_scanning(legacy=True, active=False)
        await advertise(alice, Kinds.ADV_NONCONN_IND, 32)
        await asyncio.sleep(0.005)
        for number in range(5):
            await alice.send_sync_command(hci.HCI_LE_Set_Advertising_Data_Command(bytes([number])))
            time.sleep(0.035)  # no await: the controller in the same loop can't do anything
        await alice.send_sync_command(hci.HCI_LE_Set_Advertising_Enable_Command(0))
        return heard

    came = [data for data in asyncio.run(main()) if len(data) == 1]
    assert [data for data, _ in groupby(came)] == [bytes([number]) for number in range(5)]  # a slow one's come again


def test_a_scanner_that_is_off_hears_nothing() -> None:
    asked: list[tuple[str, ...]] = []

    def heard(sender: str, listeners: Sequence[str], now: float) -> frozenset[str]:
        asked.append(tuple(listeners))
        return frozenset(listeners)

    async def main() -> None:
        alice, bob = await two_devices(heard)
        await advertise(alice, Kinds.ADV_NONCONN_IND, 160)
        await asyncio.sleep(0.05)
        await bob.start_scanning(legacy=True, active=False)
        await asyncio.sleep(0.1)

    run_virtual(main())
    assert asked == [(), ("bob",)]


def test_an_le_connection_made_with_public_addresses_carries_data() -> None:
    async def main() -> list[str]:
        alice, bob = await two_devices()
        await bob.start_advertising(own_address_type=hci.OwnAddressType.PUBLIC)
        connection = await alice.connect(
            bob.public_address, core.PhysicalTransport.LE, own_address_type=hci.OwnAddressType.PUBLIC
        )
        return [service.uuid.to_hex_str() for service in await Peer(connection).discover_services()]

    assert run_virtual(main()) == ["1800", "1801"]  # Generic Access, Generic Attribute


async def l2cap_channels(alice: Any, bob: Any, *, flushable: bool) -> tuple[Any, Any]:
    spec, accepted = l2cap.ClassicChannelSpec(psm=0x1001), asyncio.get_running_loop().create_future()
    bob.create_l2cap_server(spec, accepted.set_result)
    connection = await alice.connect(bob.public_address, core.PhysicalTransport.BR_EDR)
    channel = await connection.create_l2cap_channel(spec)
    await asyncio.sleep(0.1)
    if flushable:
        alice.host.flushable_channels.add((connection.handle, channel.destination_cid))
    return channel, await accepted


@pytest.mark.parametrize(
    ("flushable", "slots", "deaf_attempts", "arrives"),
    [
        (True, 1, 0, True),
        (True, 1, 1, False),  # a DH1 packet and its answer take two slots: one attempt
        (True, 8, 3, True),  # attempts begin at slot 0, 2, 4 and 6
        (True, 8, 4, False),
        (True, 0, 100, True),  # 0 is no timeout
        (False, 1, 100, True),  # nor is there one for what is not to be flushed
    ],
)
def test_a_pdu_is_repeated_until_its_flush_timeout(
    flushable: bool, slots: int, deaf_attempts: int, arrives: bool
) -> None:
    deaf = 0

    def heard(sender: str, listeners: Sequence[str], now: float) -> frozenset[str]:
        nonlocal deaf
        deaf -= 1
        return frozenset() if deaf >= 0 else frozenset(listeners)

    async def main() -> list[tuple[bytes, float]]:
        nonlocal deaf
        alice, bob = await two_devices(heard)
        at_alice, at_bob = await l2cap_channels(alice, bob, flushable=flushable)
        command = HCI_Write_Automatic_Flush_Timeout_Command(at_alice.connection.handle, slots)
        answer = await alice.send_sync_command(command)
        assert answer.connection_handle == at_alice.connection.handle
        received: list[tuple[bytes, float]] = []
        loop = asyncio.get_running_loop()
        at_bob.sink = lambda sdu: received.append((sdu, loop.time()))
        deaf, begun = deaf_attempts, loop.time()
        at_alice.write(b"sdu")
        await asyncio.sleep(1)
        for sdu, at in received:
            assert sdu == b"sdu"
            assert at - begun == pytest.approx((deaf_attempts + 1) * 2 * SLOT_S)
        return received

    assert bool(run_virtual(main())) is arrives
