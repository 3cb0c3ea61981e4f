"""The bearers' contract between two ends in one process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import contract
import pytest

from bt_selfsecure.bearers.base import BearerError, Link, LinkClosedError
from bt_selfsecure.bearers.memory import QUEUE, BroadcastAir, MemoryAir
from bt_selfsecure.errors import LocalError

ALICE, BOB = "BA:27:EB:00:00:01", "BA:27:EB:00:00:02"

Scene = Callable[[Link, Link], Awaitable[None]]


async def joined(air: MemoryAir) -> tuple[Link, Link]:
    listener = await air.bearer(BOB).listen()
    alice = await air.bearer(ALICE).connect(BOB)
    return alice, await listener.accept()


def play(scene: Scene, air: MemoryAir | None = None) -> None:
    async def main() -> None:
        async with asyncio.timeout(60):
            await scene(*await joined(air or MemoryAir()))

    asyncio.run(main())


def test_everything_arrives_whole_and_in_order_both_ways_at_once() -> None:
    async def scene(alice: Link, bob: Link) -> None:
        assert (alice.peer, bob.peer) == (BOB, ALICE)
        seen = await asyncio.gather(
            contract.exchange(alice, "alice", "bob", 500), contract.exchange(bob, "bob", "alice", 500)
        )
        for end in seen:
            assert (end.received, end.garbled, end.ordered, end.encrypted) == (500, 0, True, False)

    play(scene)


def test_what_the_air_loses_is_lost_and_nothing_else() -> None:
    async def scene(alice: Link, bob: Link) -> None:
        assert alice.traits.losses_visible
        for number in range(30):
            await alice.send(bytes([number, 0]))
        assert [(await bob.receive())[0] for _ in range(20)] == [number for number in range(30) if number % 3]

    play(scene, MemoryAir(lose=lambda datagram: datagram[0] % 3 == 0))


def test_a_sender_waits_while_the_receiver_does_not_read() -> None:
    async def scene(alice: Link, bob: Link) -> None:
        for _ in range(QUEUE):
            await alice.send(b"x")
        waiting = asyncio.create_task(alice.send(b"last"))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        assert await bob.receive() == b"x"
        await waiting
        assert [await bob.receive() for _ in range(QUEUE)][-1] == b"last"

    play(scene)


def test_a_cancelled_receive_loses_nothing_and_a_cancelled_send_sends_nothing() -> None:
    async def scene(alice: Link, bob: Link) -> None:
        for number in range(20):
            receiving = asyncio.create_task(bob.receive())
            await asyncio.sleep(0)
            await alice.send(bytes([number]))
            receiving.cancel()  # it is there already, but the receiver has not run yet
            with pytest.raises(asyncio.CancelledError):
                await receiving
            assert await bob.receive() == bytes([number])
        for _ in range(QUEUE):
            await alice.send(b"x")
        sending = asyncio.create_task(alice.send(b"never"))
        await asyncio.sleep(0)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await alice.close()
        assert {await bob.receive() for _ in range(QUEUE)} == {b"x"}
        with pytest.raises(LinkClosedError):
            await bob.receive()

    play(scene)


@pytest.mark.parametrize("who_closes", [0, 1])
def test_closing_one_end_ends_both_after_what_was_sent_and_twice_does_no_harm(who_closes: int) -> None:
    async def scene(alice: Link, bob: Link) -> None:
        await alice.send(b"before")
        waiting = asyncio.create_task(alice.receive())
        await asyncio.sleep(0)
        closing = (alice, bob)[who_closes]
        await closing.close()
        await closing.close()
        with pytest.raises(LinkClosedError) as closed:
            await waiting
        assert closed.value.transient
        assert await bob.receive() == b"before"
        for end in (alice, bob):
            with pytest.raises(LinkClosedError):
                await end.receive()
            with pytest.raises(LinkClosedError):
                await end.send(b"x")

    play(scene)


def test_closing_ends_a_sender_that_waits_for_room() -> None:
    async def scene(alice: Link, bob: Link) -> None:
        for _ in range(QUEUE):
            await alice.send(b"x")
        waiting = asyncio.create_task(alice.send(b"x"))
        await asyncio.sleep(0)
        await bob.close()
        with pytest.raises(LinkClosedError):
            await waiting

    play(scene)


@pytest.mark.parametrize("size", [0, 5001])
def test_a_datagram_of_a_wrong_size_is_the_programs_fault(size: int) -> None:
    async def scene(alice: Link, bob: Link) -> None:
        with pytest.raises(LocalError, match=f"of {size} bytes does not fit this link; 1 to 5000 do"):
            await alice.send(bytes(size))

    play(scene)


@pytest.mark.parametrize("who_closes", [ALICE, BOB])
def test_closing_a_bearer_ends_its_links_whoever_dialled_and_its_listener(who_closes: str) -> None:
    async def main() -> None:
        air = MemoryAir()
        bearers = {ALICE: air.bearer(ALICE), BOB: air.bearer(BOB)}
        listener = await bearers[BOB].listen()
        alice = await bearers[ALICE].connect(BOB)
        bob = await listener.accept()
        await bearers[who_closes].close()
        for end in (alice, bob):
            with pytest.raises(LinkClosedError):
                await end.receive()
        await bearers[BOB].close()
        for _ in range(2):
            with pytest.raises(BearerError, match="no longer listens"):
                await listener.accept()
        with pytest.raises(BearerError, match="does not listen") as refused:
            await bearers[ALICE].connect(BOB)
        assert refused.value.transient

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_closed_listener_keeps_the_links_it_gave_and_its_place_is_free_again() -> None:
    async def main() -> None:
        air = MemoryAir()
        bob = air.bearer(BOB)
        listener = await bob.listen()
        with pytest.raises(BearerError, match="listened on already"):
            await bob.listen()
        alice_end = await air.bearer(ALICE).connect(BOB)
        bob_end = await listener.accept()
        await listener.close()
        await listener.close()
        await alice_end.send(b"still")
        assert await bob_end.receive() == b"still"
        await bob.listen()

    asyncio.run(asyncio.wait_for(main(), 60))


# --- a broadcast ------------------------------------------------------------------------------------------------------

EVE = "BA:27:EB:00:00:03"


def test_a_broadcast_reaches_those_who_listen_to_its_sender_and_whom_the_air_lets_hear() -> None:
    async def main() -> None:
        asked: list[list[str]] = []

        def reach(sender: str, listening: Sequence[str]) -> dict[str, int | None]:
            asked.append([sender, *listening])
            return {BOB: -60, ALICE: None}

        air = BroadcastAir(reach)
        alice = await air.bearer(ALICE).connect(BOB)
        bob = await air.bearer(BOB).connect(ALICE)
        eve = await air.bearer(EVE).connect(ALICE)
        await alice.send(b"heard by Bob alone")
        assert asked == [[ALICE, ALICE, BOB, EVE]]
        assert (await bob.receive(), bob.rssi) == (b"heard by Bob alone", -60)
        for link in (alice, bob, eve):
            await link.close()
            await link.close()
            with pytest.raises(LinkClosedError):  # nothing was left for Alice or Eve
                await link.receive()
        await air.bearer(ALICE).close()

    asyncio.run(main())
