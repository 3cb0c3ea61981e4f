"""The bearers' contract through a third node: the driver and the machine of three nodes, whose sessions are a queue."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import cast

import contract
import pytest

from bt_selfsecure.bearers.base import BearerError, Link, LinkClosedError
from bt_selfsecure.errors import LocalError
from bt_selfsecure.node.config_file import check, parse
from bt_selfsecure.node.haoxiao.relay import NodeRelay
from bt_selfsecure.node.peer import NodePeer

ADDRESSES = {name: f"02:00:00:00:00:0{number}" for number, name in enumerate(("alice", "bob", "carol"), 1)}
NEAR = {"alice": ("bob",), "bob": ("alice", "carol"), "carol": ("bob",)}
FAST = f"[relay]\nfor = {list(ADDRESSES.values())}\nrate_bytes = 16777216\nqueue_bytes = {{queue}}\n".replace("'", '"')
PEER = '[[peer]]\nname = "{name}"\naddress = "{address}"\n'
Scene = Callable[[Link, Link, "Relays"], Awaitable[None]]


class Neighbour:
    """Is the session with one node: what it carries is there soon, and in order."""

    def __init__(self, relays: Relays, here: str, there: str) -> None:
        self._relays, self._here, self._there = relays, here, there

    def carry(self, message: bytes, port: int, done: Callable[[], None]) -> None:
        def arrive() -> None:
            done()
            self._relays[self._there].receive(ADDRESSES[self._here], message)

        asyncio.get_running_loop().call_soon(arrive)

    has_key = False

    def sighted(self) -> None:
        """It dials when it is told to."""


class Relays(dict[str, NodeRelay]):
    """Alice, Bob and Carol in a line, all connected."""

    def __init__(self, queue: int) -> None:
        super().__init__()
        for name, others in NEAR.items():
            text = FAST.format(queue=queue) + "".join(PEER.format(name=of, address=ADDRESSES[of]) for of in others)
            if name != "bob":
                end = "carol" if name == "alice" else "alice"
                text += PEER.format(name=end, address=ADDRESSES[end]) + 'via = ["bob"]\n'
            file = parse(text, Path("node.toml"))
            check(file)
            peers = {ADDRESSES[of]: Neighbour(self, name, of) for of in ADDRESSES if of != name}
            self[name] = NodeRelay(file.config, cast(Mapping[str, NodePeer], peers))
            self[name].begin(ADDRESSES[name])
        for name, others in NEAR.items():
            for other in others:
                self[name].connected(ADDRESSES[other], True)


def play(scene: Scene, queue: int = 1 << 24) -> None:
    async def main() -> None:
        async with asyncio.timeout(60):
            relays = Relays(queue)
            listener = await relays["carol"].bearer.listen()
            alice = await relays["alice"].bearer.connect(ADDRESSES["carol"])
            await scene(alice, await listener.accept(), relays)

    asyncio.run(main())


def test_everything_arrives_whole_and_in_order_both_ways_at_once() -> None:
    async def scene(alice: Link, carol: Link, relays: Relays) -> None:
        assert (alice.peer, carol.peer) == (ADDRESSES["carol"], ADDRESSES["alice"])
        assert alice.path == carol.path == (ADDRESSES["bob"],)
        assert not alice.traits.losses_visible
        seen = await asyncio.gather(
            contract.exchange(alice, "alice", "carol", 500), contract.exchange(carol, "carol", "alice", 500)
        )
        for end in seen:
            assert (end.received, end.garbled, end.ordered, end.encrypted) == (500, 0, True, True)

    play(scene)


def test_a_sender_waits_where_as_much_waits_as_may_and_loses_nothing() -> None:
    async def scene(alice: Link, carol: Link, relays: Relays) -> None:
        assert all(alice.send_now(bytes(1000)) for _ in range(4))
        assert not alice.send_now(bytes(1000))
        await alice.send(bytes(999))
        assert [len(await carol.receive()) for _ in range(5)] == [1000] * 4 + [999]

    play(scene, queue=4096)


@pytest.mark.parametrize("closes", [0, 1])
def test_a_closed_link_is_over_at_both_ends(closes: int) -> None:
    async def scene(alice: Link, carol: Link, relays: Relays) -> None:
        ends = alice, carol
        await ends[closes].send(b"last")
        await ends[closes].close()
        assert await ends[1 - closes].receive() == b"last"
        for end in ends:
            with pytest.raises(LinkClosedError):
                await end.receive()
            with pytest.raises(LinkClosedError):
                await end.send(b"x")

    play(scene)


def test_no_datagram_is_longer_than_the_link_takes_or_empty() -> None:
    async def scene(alice: Link, carol: Link, relays: Relays) -> None:
        for size in (0, alice.mtu + 1):
            with pytest.raises(LocalError, match="does not fit this link"):
                await alice.send(bytes(size))

    play(scene)


def test_a_dial_that_is_given_up_leaves_nothing_and_one_without_a_way_says_why() -> None:
    async def scene(alice: Link, carol: Link, relays: Relays) -> None:
        relays["bob"].connected(ADDRESSES["carol"], False)
        with pytest.raises(BearerError, match="bob has no way to it now"):
            await relays["alice"].bearer.connect(ADDRESSES["carol"])
        dial = asyncio.create_task(relays["alice"].bearer.connect(ADDRESSES["carol"]))
        await asyncio.sleep(0)
        dial.cancel()
        await asyncio.wait((dial,))
        assert dial.cancelled()
        relays["alice"].connected(ADDRESSES["bob"], False)
        with pytest.raises(BearerError, match="no peer that leads to it is connected: see via"):
            await relays["alice"].bearer.connect(ADDRESSES["carol"])

    play(scene)


def test_where_nobody_listens_no_link_is_kept() -> None:
    async def scene(alice: Link, carol: Link, relays: Relays) -> None:
        link = await relays["carol"].bearer.connect(ADDRESSES["alice"])
        with pytest.raises(LinkClosedError, match="alice has closed the link"):
            await link.receive()

    play(scene)
