"""The air between controllers: pages, lost LE packets, peers that fall silent, buffers, what taps hear."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from bumble import core, hci, l2cap
from bumble.device import ConnectionParametersPreferences, Peer

from bt_selfsecure.air.bluetooth import virtual_device
from bt_selfsecure.air.capture import Tap
from bt_selfsecure.air.controller import PAGE_TIMEOUT_S
from bt_selfsecure.air.link import (
    CONNECTION_ACCEPT_TIMEOUT_S,
    LE_CONNECTION_INTERVAL_S,
    PAGE_SCAN_INTERVAL_S,
    SUPERVISION_TIMEOUT_S,
    LossyLink,
)
from bt_selfsecure.air.virtual_time import run_virtual

PSM = 0x1001


class Fading:
    """Nobody hears anything while it is deaf."""

    def __init__(self) -> None:
        self.deaf = False
        self.asked = 0

    def heard(self, sender: str, listeners: Sequence[str], now: float) -> frozenset[str]:
        self.asked += 1
        return frozenset() if self.deaf else frozenset(listeners)


async def devices(air: LossyLink) -> tuple[Any, Any]:
    pair = virtual_device("alice", 1, air), virtual_device("bob", 2, air)
    for device in pair:
        await device.power_on()
    return pair


def controller_of(link: LossyLink, name: str) -> Any:
    return next(controller for controller in link.controllers if controller.name == name)


def ends(connection: Any) -> list[tuple[float, int]]:
    """Grows by (time, reason) when the connection ends."""
    ended: list[tuple[float, int]] = []
    loop = asyncio.get_running_loop()
    connection.on(connection.EVENT_DISCONNECTION, lambda reason: ended.append((loop.time(), reason)))
    return ended


async def connect_le(alice: Any, bob: Any) -> Any:
    public = hci.OwnAddressType.PUBLIC
    await bob.start_advertising(own_address_type=public)
    return await alice.connect(bob.public_address, core.PhysicalTransport.LE, own_address_type=public)


def test_of_two_that_answer_one_advertisement_one_is_connected_and_the_other_told_so() -> None:
    async def main() -> None:
        link = LossyLink(Fading().heard, {})
        alice, bob = await devices(link)
        carol = virtual_device("carol", 3, link)
        await carol.power_on()
        public, le = hci.OwnAddressType.PUBLIC, core.PhysicalTransport.LE
        calls = [
            asyncio.create_task(device.connect(bob.public_address, le, own_address_type=public))
            for device in (alice, carol)
        ]
        await asyncio.sleep(1)
        await bob.start_advertising(own_address_type=public)
        lost = [ends(connection) for connection in await asyncio.gather(*calls)]
        await asyncio.sleep(1)
        (failed,) = [reason for ended in lost for _, reason in ended]
        assert failed == hci.HCI_ErrorCode.CONNECTION_FAILED_TO_BE_ESTABLISHED_ERROR
        assert len(controller_of(link, "bob").le_connections) == 1

    run_virtual(main())


def test_calling_a_device_that_is_not_there_ends_with_the_page_timeout() -> None:
    async def main() -> float:
        alice, _ = await devices(LossyLink(Fading().heard, {}))
        begun = asyncio.get_running_loop().time()
        with pytest.raises(core.ConnectionError) as refused:
            await alice.connect(hci.Address("02:00:00:00:00:77", 0), core.PhysicalTransport.BR_EDR)
        assert refused.value.error_code == hci.HCI_ErrorCode.PAGE_TIMEOUT_ERROR
        return asyncio.get_running_loop().time() - begun

    assert run_virtual(main()) == pytest.approx(PAGE_TIMEOUT_S, abs=0.01)


def test_a_page_is_repeated_until_it_is_heard() -> None:
    async def main() -> float:
        air = Fading()
        alice, bob = await devices(LossyLink(air.heard, {}))
        air.deaf, loop = True, asyncio.get_running_loop()
        begun = loop.time()
        loop.call_later(2 * PAGE_SCAN_INTERVAL_S - 0.1, setattr, air, "deaf", False)
        await alice.connect(bob.public_address, core.PhysicalTransport.BR_EDR)
        return loop.time() - begun

    assert run_virtual(main()) == pytest.approx(2 * PAGE_SCAN_INTERVAL_S, abs=0.1)


@pytest.mark.parametrize("falls_silent", ["shuts down", "was reset"])
def test_a_host_that_does_not_answer_a_call_is_one_that_refuses_and_later_it_can_be_called_again(
    falls_silent: str,
) -> None:
    async def main() -> float:
        link = LossyLink(Fading().heard, {})
        alice, bob = await devices(link)
        called = controller_of(link, "bob")
        loop, host, called.host = (
            asyncio.get_running_loop(),
            called.host,
            SimpleNamespace(on_packet=lambda packet: None),
        )
        if falls_silent == "was reset":
            loop.call_later(0.1, link.forget_connections, called)
        begun = loop.time()
        with pytest.raises(core.ConnectionError) as refused:
            await alice.connect(bob.public_address, core.PhysicalTransport.BR_EDR)
        assert refused.value.error_code == hci.HCI_ErrorCode.CONNECTION_ACCEPT_TIMEOUT_ERROR
        took, called.host = loop.time() - begun, host
        assert called.classic_connections == {}
        connection = await alice.connect(bob.public_address, core.PhysicalTransport.BR_EDR)
        await asyncio.sleep(2 * CONNECTION_ACCEPT_TIMEOUT_S)
        assert [bob_end.peer_address for bob_end in bob.connections.values()] == [alice.public_address]
        assert connection.handle in alice.connections
        return took

    assert run_virtual(main()) == pytest.approx(CONNECTION_ACCEPT_TIMEOUT_S, abs=0.01)


@pytest.mark.parametrize("connect", ["classic", "le"])
def test_when_a_power_cut_silences_a_device_its_peer_loses_the_connection_by_the_supervision_timeout(
    connect: str,
) -> None:
    async def main() -> tuple[float, int, float]:
        link = LossyLink(Fading().heard, {})
        alice, bob = await devices(link)
        if connect == "classic":
            connection, timeout = (
                await alice.connect(bob.public_address, core.PhysicalTransport.BR_EDR),
                SUPERVISION_TIMEOUT_S,
            )
        else:
            connection = await connect_le(alice, bob)
            timeout = next(iter(controller_of(link, "alice").le_connections.values())).supervision_timeout
        ended, cut = ends(connection), asyncio.get_running_loop().time()
        link.remove_controller(controller_of(link, "bob"))
        await asyncio.sleep(30)
        ((at, reason),) = ended
        return at - cut, reason, timeout

    after, reason, timeout = run_virtual(main())
    assert reason == hci.HCI_ErrorCode.CONNECTION_TIMEOUT_ERROR
    assert after == pytest.approx(timeout, abs=0.01)


def test_a_lost_le_packet_costs_a_connection_interval_and_no_data() -> None:
    async def main(deaf_seconds: float) -> float:
        air = Fading()
        alice, bob = await devices(LossyLink(air.heard, {}))
        peer = Peer(await connect_le(alice, bob))
        await asyncio.sleep(1)
        loop = asyncio.get_running_loop()
        begun, air.deaf = loop.time(), deaf_seconds > 0
        loop.call_later(deaf_seconds, setattr, air, "deaf", False)
        assert [service.uuid.to_hex_str() for service in await peer.discover_services()] == ["1800", "1801"]
        return loop.time() - begun

    clean, lossy = run_virtual(main(0)), run_virtual(main(0.1))
    assert 3 * LE_CONNECTION_INTERVAL_S < lossy - clean < 5 * LE_CONNECTION_INTERVAL_S


def test_le_silence_past_the_supervision_timeout_ends_the_connection_at_both_ends() -> None:
    async def main() -> None:
        air = Fading()
        alice, bob = await devices(LossyLink(air.heard, {}))
        connection = await connect_le(alice, bob)
        both = ends(connection), ends(next(iter(bob.connections.values())))
        air.deaf = True
        discovering = asyncio.ensure_future(Peer(connection).discover_services())
        await asyncio.sleep(60)
        discovering.cancel()
        for ended in both:
            assert [reason for _, reason in ended] == [hci.HCI_ErrorCode.CONNECTION_TIMEOUT_ERROR]

    run_virtual(main())


def test_both_ends_of_an_le_connection_are_told_the_same_interval_and_supervision_timeout() -> None:
    async def main() -> None:
        alice, bob = await devices(LossyLink(Fading().heard, {}))
        connection = await connect_le(alice, bob)
        assert next(iter(bob.connections.values())).parameters == connection.parameters

    run_virtual(main())


@pytest.mark.parametrize("deaf", ["alice", "bob"])
def test_an_updated_connection_lives_by_its_new_supervision_timeout_at_both_ends(deaf: str) -> None:
    async def main() -> list[float]:
        link = LossyLink(Fading().heard, {})
        pair = await devices(link)
        connection = await connect_le(*pair)
        await connection.update_parameters(30, 50, 0, 3210)
        await asyncio.sleep(1)
        other = pair[deaf == "alice"]
        ended = ends(next(iter(other.connections.values())))
        cut = asyncio.get_running_loop().time()
        link.remove_controller(controller_of(link, deaf))
        await asyncio.sleep(30)
        return [at - cut for at, _ in ended]

    assert run_virtual(main()) == [pytest.approx(3.21, abs=0.01)]


def test_a_connection_to_somebody_else_changes_no_timeout_here() -> None:
    async def main() -> None:
        link = LossyLink(Fading().heard, {})
        alice, bob = await devices(link)
        carol = virtual_device("carol", 3, link)
        await carol.power_on()
        await connect_le(alice, bob)
        (at_bob,) = controller_of(link, "bob").le_connections.values()
        before = at_bob.supervision_timeout
        await carol.start_advertising(own_address_type=hci.OwnAddressType.PUBLIC)
        await alice.connect(
            carol.public_address,
            core.PhysicalTransport.LE,
            connection_parameters_preferences={
                hci.Phy.LE_1M: ConnectionParametersPreferences(supervision_timeout=3210)
            },
            own_address_type=hci.OwnAddressType.PUBLIC,
        )
        (at_carol,) = controller_of(link, "carol").le_connections.values()
        assert (at_bob.supervision_timeout, at_carol.supervision_timeout) == (before, pytest.approx(3.21))

    run_virtual(main())


def test_a_controller_takes_no_more_packets_than_it_has_buffers_while_nothing_gets_through() -> None:
    async def main() -> tuple[int, list[bytes]]:
        air = Fading()
        link = LossyLink(air.heard, {})
        alice, bob = await devices(link)
        accepted, spec = asyncio.get_running_loop().create_future(), l2cap.ClassicChannelSpec(psm=PSM)
        bob.create_l2cap_server(spec, accepted.set_result)
        connection = await alice.connect(bob.public_address, core.PhysicalTransport.BR_EDR)
        channel, at_bob = await connection.create_l2cap_channel(spec), await accepted
        await asyncio.sleep(1)
        received: list[bytes] = []
        at_bob.sink, air.deaf = received.append, True
        taken: list[Any] = []
        send = link.send_acl_data

        def count(*arguments: Any) -> None:
            taken.append(arguments)
            send(*arguments)

        link.send_acl_data = count  # type: ignore[method-assign]
        for number in range(50):
            channel.write(bytes([number]))
        await asyncio.sleep(1)
        waiting, air.deaf = len(taken), False
        await asyncio.sleep(5)
        return waiting, received

    waiting, received = run_virtual(main())
    assert waiting == 8
    assert received == [bytes([number]) for number in range(50)]


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_tap_hears_a_connection_only_as_long_as_it_is_not_encrypted(encrypted: bool) -> None:
    heard: list[bytes] = []

    class Ear(Tap):
        def hear(self, time: float, linktype: int, packet: bytes) -> None:
            heard.append(packet)

    async def main() -> None:
        link = LossyLink(Fading().heard, {"eve": Ear()})
        alice, bob = await devices(link)
        connection = await alice.connect(bob.public_address, core.PhysicalTransport.BR_EDR)
        await asyncio.sleep(1)
        for controller in link.controllers:
            for end in controller.classic_connections.values():
                end.encrypted = encrypted
        heard.clear()
        with pytest.raises(core.BaseBumbleError):
            await connection.create_l2cap_channel(l2cap.ClassicChannelSpec(psm=PSM))  # nobody serves it

    run_virtual(main())
    assert bool(heard) is not encrypted
