"""The bearers' contract between two devices of virtual Bluetooth."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import contract
import pytest

from bt_selfsecure.air.bluetooth import Bearer, VirtualBluetooth
from bt_selfsecure.air.virtual_time import run_virtual
from bt_selfsecure.bearers.base import Link, LinkClosedError

Scene = Callable[[Link, Link], Awaitable[None]]


def everybody(sender: str, listeners: Sequence[str], now: float) -> frozenset[str]:
    return frozenset(listeners)


def play(bearer: Bearer, scene: Scene) -> None:
    async def main() -> None:
        async with VirtualBluetooth(bearer, everybody, {}) as bluetooth:
            await scene(bluetooth.link("alice"), bluetooth.link("bob"))

    run_virtual(main())


@pytest.mark.parametrize("bearer", ["rfcomm", "l2cap"])
def test_a_virtual_link_carries_every_datagram_whole_and_in_order_both_ways_at_once(bearer: Bearer) -> None:
    async def scene(alice: Link, bob: Link) -> None:
        assert (alice.peer, bob.peer) == ("02:00:00:00:00:02", "02:00:00:00:00:01")
        seen = await asyncio.gather(
            contract.exchange(alice, "alice", "bob", 100), contract.exchange(bob, "bob", "alice", 100)
        )
        for end in seen:
            assert (end.received, end.garbled, end.ordered, end.encrypted) == (100, 0, True, False)

    play(bearer, scene)


@pytest.mark.parametrize("bearer", ["rfcomm", "l2cap", "le_advert"])
def test_a_virtual_link_that_one_end_closes_is_over_at_both(bearer: Bearer) -> None:
    async def scene(alice: Link, bob: Link) -> None:
        await alice.close()
        await alice.close()
        for link in (alice, bob):
            with pytest.raises(LinkClosedError):
                await link.receive()
            with pytest.raises(LinkClosedError):
                await link.send(b"x")

    play(bearer, scene)
