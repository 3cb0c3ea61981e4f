"""One node's hands: what is sent, heard, left in the queue and counted; on a bearer in memory, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from bt_selfsecure.air.virtual_time import run_virtual
from bt_selfsecure.bearers.base import Bearer
from bt_selfsecure.bearers.memory import QUEUE, MemoryAir
from bt_selfsecure.sweep.agent import Agent, Counters, no_counters
from bt_selfsecure.sweep.control import Hands
from bt_selfsecure.sweep.kernel import AclCounters
from bt_selfsecure.sweep.orders import (
    Answer,
    Describe,
    Described,
    Listen,
    Listening,
    ListenReport,
    Order,
    OrderRefused,
    PacketsSent,
    Report,
    RunReception,
    SendPackets,
    unpack,
)

ALICE, BOB, EVE = (f"B8:27:EB:00:00:0{number}" for number in (1, 2, 3))
TAG = 77


class MemoryMedia:
    """The air in memory, in the event loop's time."""

    def __init__(self, air: MemoryAir, address: str, counters: Counters | None = None) -> None:
        self._air, self._address, self._counters = air, address, counters

    def open(self, bearer: str) -> Bearer:
        return self._air.bearer(self._address)

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    @contextlib.asynccontextmanager
    async def counting(self, bearer: str, receivers: dict[str, str]) -> AsyncGenerator[Counters, None]:
        if self._counters:
            yield self._counters
        else:
            async with no_counters() as nothing:
                yield nothing


async def nothing_to_tell() -> dict[str, Any]:
    return {"kernel": "6.12"}


def agent_at(air: MemoryAir, address: str, counters: Counters | None = None) -> Agent:
    return Agent(MemoryMedia(air, address, counters), nothing_to_tell)


async def burst(
    air: MemoryAir, packets: int = 20, counters: Counters | None = None
) -> tuple[PacketsSent, dict[str, RunReception]]:
    """Alice sends to Bob and Eve."""
    alice, bob, eve = (agent_at(air, address, counters) for address in (ALICE, BOB, EVE))
    for agent in (bob, eve):
        assert await agent.obey(Listen(TAG, "l2cap", ALICE, packets)) == Listening(TAG)
    sent = await alice.obey(SendPackets(TAG, "l2cap", {"bob": BOB, "eve": EVE}, packets, 64, 10.0))
    assert isinstance(sent, PacketsSent)
    receptions = {}
    for name, agent in (("bob", bob), ("eve", eve)):
        heard = await agent.obey(Report(TAG))
        assert isinstance(heard, ListenReport)
        receptions[name] = RunReception.of(heard, sent, name, packets)
    return sent, receptions


def test_packets_leave_at_their_times_and_each_receiver_tells_which_it_heard() -> None:
    async def main() -> None:
        lost = {("bob", 3), ("eve", 5)}
        turn = iter((name, seq) for seq in range(20) for name in ("bob", "eve"))
        sent, receptions = await burst(MemoryAir(lambda datagram: next(turn) in lost))
        assert sent.seconds == pytest.approx(0.19)
        assert sent.queued == {}
        assert [seq for seq, copies in enumerate(receptions["bob"].copies) if not copies] == [3]
        assert [seq for seq, copies in enumerate(receptions["eve"].copies) if not copies] == [5]

    run_virtual(main())


def test_what_the_senders_queue_does_not_take_is_no_loss_of_the_air() -> None:
    async def main() -> None:
        air = MemoryAir()
        listener = await air.bearer(BOB).listen()  # nobody reads what comes
        sent = await agent_at(air, ALICE).obey(SendPackets(TAG, "l2cap", {"bob": BOB}, QUEUE + 5, 64, 10.0))
        assert isinstance(sent, PacketsSent)
        queued = unpack(sent.queued["bob"], QUEUE + 5)
        assert queued == bytes(QUEUE) + b"\1" * 5
        await listener.close()

    run_virtual(main())


def test_what_the_controller_has_not_done_with_at_the_end_is_counted_as_queued() -> None:
    class Slow:
        async def drained(self, given: dict[str, int]) -> dict[str, int]:
            assert given == {"bob": 20, "eve": 20}
            return {"eve": 2}

        def totals(self) -> dict[str, Any]:
            return {"flushed": {"eve": 2}}

    async def main() -> None:
        turn = iter(range(40))
        air = MemoryAir(lambda datagram: next(turn) in (37, 39))  # Eve's last two
        sent, receptions = await burst(air, counters=Slow())
        assert sent.counters == {"flushed": {"eve": 2}}
        assert receptions["eve"].queued == {18, 19}
        assert receptions["bob"].queued == frozenset()

    run_virtual(main())


def test_packets_of_another_run_or_another_sender_are_not_heard() -> None:
    async def main() -> None:
        air = MemoryAir()
        bob = agent_at(air, BOB)
        await bob.obey(Listen(TAG, "l2cap", ALICE, 10))
        for address, tag in ((ALICE, TAG + 1), (EVE, TAG)):
            answer = await agent_at(air, address).obey(SendPackets(tag, "l2cap", {"bob": BOB}, 10, 64, 10.0))
            assert isinstance(answer, PacketsSent | OrderRefused)
        heard = await bob.obey(Report(TAG))
        assert isinstance(heard, ListenReport)
        assert unpack(heard.copies, 10) == bytes(10)

    run_virtual(main())


@pytest.mark.parametrize(
    ("orders", "said"),
    [
        ([Report(TAG)], "was started anew"),
        ([Listen(TAG, "l2cap", ALICE, 5), Report(TAG + 1)], "was started anew"),
        ([SendPackets(TAG, "l2cap", {"bob": BOB}, 5, 64, 10.0)], f"{BOB} does not listen"),
    ],
)
def test_what_can_not_be_done_is_refused_with_a_reason(orders: list[Order], said: str) -> None:
    async def main() -> Answer:
        agent = agent_at(MemoryAir(), EVE)
        for order in orders:
            answer = await agent.obey(order)
        await agent.close()
        return answer

    answer = run_virtual(main())
    assert isinstance(answer, OrderRefused)
    assert said in answer.reason


def test_a_new_order_to_listen_replaces_the_old_and_the_radio_is_given_back() -> None:
    async def main() -> None:
        air = MemoryAir()
        bob = agent_at(air, BOB)
        for tag in (1, 2):
            assert await bob.obey(Listen(tag, "l2cap", ALICE, 10)) == Listening(tag)
        assert isinstance(await bob.obey(Report(2)), ListenReport)
        assert not air.listeners

    run_virtual(main())


class SlowMedia(MemoryMedia):
    """The same, and an adapter that takes its time to be given back."""

    def open(self, bearer: str) -> Bearer:
        opened = super().open(bearer)
        end = opened.close

        async def close() -> None:
            await asyncio.sleep(1)
            await end()

        opened.close = close  # type: ignore[method-assign]
        return opened


@pytest.mark.parametrize("pause", [0.0, 0.5])
def test_orders_that_follow_each_other_closely_each_find_the_radio_given_back(pause: float) -> None:
    async def main() -> None:
        air, answers = MemoryAir(), list[Answer]()
        hands = Hands(Agent(SlowMedia(air, BOB), nothing_to_tell))
        for tag in range(1, 5):
            hands.give(Listen(tag, "l2cap", ALICE, 10), answers.append)
            await asyncio.sleep(5 if tag == 1 else pause)
        await asyncio.sleep(5)
        assert answers == [Listening(1), Listening(4)]
        await hands.close()
        assert not air.listeners

    run_virtual(main())


def test_an_order_to_send_that_is_replaced_at_its_end_gives_the_radio_back_before_the_next() -> None:
    async def main() -> None:
        air, answers = MemoryAir(), list[Answer]()
        await agent_at(air, EVE).obey(Listen(TAG, "l2cap", BOB, 10))
        hands = Hands(Agent(SlowMedia(air, BOB), nothing_to_tell))
        hands.give(SendPackets(TAG, "l2cap", {"eve": EVE}, 10, 64, 10.0), answers.append)
        for tag in (1, 2):
            await asyncio.sleep(0.2)
            hands.give(Listen(tag, "l2cap", ALICE, 10), answers.append)
        await asyncio.sleep(0.2)
        assert not answers, "the first still gives it back"
        await hands.close()
        assert set(air.listeners) == {EVE}

    run_virtual(main())


def test_an_agent_describes_itself_while_it_listens() -> None:
    async def main() -> None:
        bob = agent_at(MemoryAir(), BOB)
        await bob.obey(Listen(TAG, "l2cap", ALICE, 10))
        assert await bob.obey(Describe(1)) == Described(1, {"kernel": "6.12"})
        assert isinstance(await bob.obey(Report(TAG)), ListenReport)

    run_virtual(main())


def test_the_controllers_events_are_counted_by_connection() -> None:
    counters = AclCounters({0x0B: "bob", 0x0C: "eve"})
    completed = bytes([2]) + bytes.fromhex("0b00 0300 0d00 0900")
    for code, parameters in (
        (0x13, completed),
        (0x13, bytes([1]) + bytes.fromhex("0c20 0100")),
        (0x13, b"\2\0"),
        (0x11, bytes.fromhex("0b00")),
        (0x11, bytes.fromhex("0e00")),
        (0x11, b""),
        (0x0E, completed),
    ):
        counters.on_event(code, parameters)
    assert counters.totals() == {"completed": {"bob": 3, "eve": 1}, "flushed": {"bob": 1, "eve": 0}}
    assert run_virtual(counters.drained({"bob": 3, "eve": 3})) == {"eve": 2}
    assert run_virtual(counters.drained({"bob": 3, "eve": 1})) == {}
