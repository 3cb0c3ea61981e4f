"""A pairing while something else happens: it is given up, or the node makes a key by itself."""

from __future__ import annotations

import asyncio
import os
from typing import Any, cast

import pytest

from bt_selfsecure.addresses import spelled
from bt_selfsecure.air.virtual_time import run_virtual
from bt_selfsecure.bearers.base import BearerError, Link
from bt_selfsecure.bearers.memory import MemoryAir
from bt_selfsecure.node.config import Config, NodeTable, PeerTable
from bt_selfsecure.node.journal_file import JournalError
from bt_selfsecure.node.known import KnownPeers
from bt_selfsecure.node.pairing.driver import PairingContext, PairingDriver
from bt_selfsecure.node.peer import NodePeer
from bt_selfsecure.protocols.pairing.codes import Carried, Way, decode, drawn_secret
from bt_selfsecure.protocols.pairing.end import PairingConfig
from bt_selfsecure.protocols.pairing.initiator import PairingInitiator
from bt_selfsecure.protocols.pairing.responder import PairingResponder
from bt_selfsecure.sansio.context import EndpointContext


class Nobody:
    """A node that reaches nobody."""

    async def dial(self, bearer: str, address: str) -> Link:
        raise BearerError("nobody is there")


@pytest.mark.parametrize("turns", range(5))
def test_a_pairing_that_is_given_up_in_the_moment_in_which_a_frame_comes_ends(turns: int) -> None:
    context = EndpointContext(os.urandom, name="pairing")
    alice, bob = (PairingConfig(bytes(5) + bytes([number]), "pi") for number in (1, 2))
    shown = PairingResponder(bob, Way.CALL, drawn_secret(Way.CALL, os.urandom), context).carried

    async def main() -> None:
        endpoint = PairingInitiator(alice, decode(Way.CALL, shown.encode()), context)
        endpoint.start(asyncio.get_running_loop().time())
        assert endpoint.get_timer() is not None
        node = cast(PairingContext, Nobody())
        driver = PairingDriver(node, "udp", Way.CALL, endpoint, lambda event, **fields: None, call="", name="")
        running = asyncio.create_task(driver.run())
        await asyncio.sleep(0.01)
        driver._wake.set()  # as a frame does
        for _ in range(turns):
            await asyncio.sleep(0)
        driver.give_up()
        done, _ = await asyncio.wait([running], timeout=30.0)
        assert done, "it goes on, and whoever gave it up waits for ever"

    asyncio.run(main())


class Attempts:
    """A peer whose first attempt at a key fails; the node makes the next by itself, when nobody asks for one."""

    def __init__(self) -> None:
        self.asked = 0
        self.is_waited_for = False

    async def establish(self, *, wait: bool = False, without_continuity: bool = False) -> dict[str, Any]:
        self.asked += not wait
        if self.asked == 1 and not wait:
            return {"established": False, "reason": "the link is closed"}
        self.is_waited_for = wait
        await asyncio.sleep(0.01)
        return {"established": True, "authenticated": True, "sas": "the string"}


def test_a_key_that_the_node_makes_after_a_failure_is_the_one_that_is_compared() -> None:
    """Another one would be asked for, and the other end would show a string that is old."""

    async def main() -> None:
        context = EndpointContext(os.urandom, name="pairing")
        code = Carried(Way.CALL, bytes(6), bytes(10))
        endpoint = PairingInitiator(PairingConfig(b"\1" * 6), code, context)
        driver = PairingDriver(
            cast(PairingContext, Nobody()), "udp", Way.CALL, endpoint, lambda event, **fields: None, call="", name=""
        )
        peer = Attempts()
        strings: list[str] = []

        async def is_same(peer: Any, string: str) -> bool:
            strings.append(string)
            return True

        driver._is_same = is_same  # type: ignore[method-assign]
        await driver._agree(cast(NodePeer, peer))
        assert (strings, peer.asked, peer.is_waited_for) == (["the string"], 1, True)

    asyncio.run(main())


class Unplugged:
    """A peer of a node without an adapter: whoever waits for a key is told at once that there is none. It is plugged in
    again after `away` seconds, and `later` the other end has made a key, the last."""

    def __init__(self, away: float, later: float) -> None:
        self.name = "bob"
        self.asked = 0
        now = asyncio.get_running_loop().time()
        self._back, self._made = now + away, now + away + later

    async def establish(self, *, wait: bool = False, without_continuity: bool = False) -> dict[str, Any]:
        self.asked += 1
        assert self.asked < 100, "the computer would do nothing else"
        now = asyncio.get_running_loop().time()
        if now < self._back:
            return {"established": False, "reason": "it is not connected, and not to be dialled"}
        if now > self._made:
            await asyncio.Event().wait()
        await asyncio.sleep(self._made - now)
        return {"established": True, "authenticated": True, "sas": "the new string"}


def showing(told: Any = lambda event, **fields: None) -> PairingDriver:
    """A driver of the end that waits, and whose secret others may have heard."""
    context = EndpointContext(os.urandom, name="pairing")
    endpoint = PairingResponder(PairingConfig(b"\2" * 6), Way.CALL, drawn_secret(Way.CALL, os.urandom), context)
    return PairingDriver(cast(PairingContext, Nobody()), "udp", Way.CALL, endpoint, told, call="", name="")


def test_a_key_that_the_other_end_makes_as_soon_as_the_adapter_is_back_is_missed_by_no_end_that_waits() -> None:
    """It makes no second one, and compares the string of this."""

    async def main() -> None:
        driver, strings = showing(), list[str]()

        async def is_same(peer: Any, string: str) -> bool:
            strings.append(string)
            return True

        driver._is_same = is_same  # type: ignore[method-assign]
        await asyncio.wait_for(driver._agree(cast(NodePeer, Unplugged(0.3, 1.0))), 20.0)
        assert strings == ["the new string"]

    run_virtual(main())


def test_an_adapter_that_goes_while_people_compare_keeps_no_computer_busy() -> None:
    async def main() -> None:
        shown: asyncio.Queue[str] = asyncio.Queue()
        driver = showing(lambda event, **fields: shown.put_nowait(fields["string"]))
        peer = cast(NodePeer, Unplugged(2.0, 1.0))
        comparing = asyncio.create_task(driver._is_same(peer, "the string"))
        assert await shown.get() == "the string"
        assert await asyncio.wait_for(shown.get(), 20.0) == "the new string"
        driver.compared(same=False, string="the new string", by="alice")
        assert not await comparing

    run_virtual(main())


class FullDisk:
    """Takes nothing: neither that a peer is dropped, nor what people have found."""

    name = "bob"

    def __init__(self) -> None:
        self.known = KnownPeers(Config(node=NodeTable(), peer=()))

    async def drop(self, address: str) -> None:
        raise JournalError("the disk is full")

    async def establish(self, *, wait: bool = False, without_continuity: bool = False) -> dict[str, Any]:
        if self._verdict_due:
            await asyncio.Event().wait()
        self._verdict_due = True
        return {"established": True, "authenticated": True, "sas": "the string"}

    _verdict_due = False

    def confirm(self, string: str, by: str) -> str:
        raise JournalError("the disk is full")


def test_a_full_disk_is_told_to_those_who_pair_and_is_no_fault_of_the_program(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """When people have compared, and when nothing is to stay."""

    async def main() -> None:
        told: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        driver = showing(lambda event, **fields: told.put_nowait({"event": event, **fields}))
        disk = FullDisk()
        driver._node, driver._table = cast(PairingContext, disk), PeerTable("bob", "B8:27:EB:00:00:02")
        agreeing = driver._start(driver._agree(cast(NodePeer, disk)))
        assert (await told.get())["event"] == "string"
        driver.compared(same=True, string="the string", by="alice")
        assert await told.get() == {"event": "failed", "peer": "bob", "text": "the disk is full"}
        assert agreeing.done()
        await driver._end()

    run_virtual(main())
    assert caplog.text == ""


class SlowToDrop:
    """A node that agrees on no session's key, and drops a peer when `may_drop` says so."""

    def __init__(self) -> None:
        self.known = KnownPeers(Config(node=NodeTable(), peer=()))
        self.dropping, self.may_drop, self.dropped = asyncio.Event(), asyncio.Event(), False

    def adopt(self, table: PeerTable, key: bytes) -> SlowToDrop:
        self.known.add(table)
        return self

    def begin_with(self, bearer: str, link: Link, *, dialled: bool) -> None: ...

    async def establish(self, **how: Any) -> None:
        await asyncio.Event().wait()

    async def drop(self, address: str) -> None:
        self.dropping.set()
        await self.may_drop.wait()
        self.known.remove(address)
        self.dropped = True


@pytest.mark.parametrize("calls", [True, False])
def test_a_peer_is_dropped_whole_when_both_ends_give_up_at_once(calls: bool) -> None:
    """The other end's word came first, and dropping for that was cut off by giving up here."""
    context = EndpointContext(os.urandom, name="pairing")
    alice, bob = (PairingConfig(bytes(5) + bytes([number]), "pi") for number in (1, 2))
    address = spelled(bob.identity.hex(":"))

    async def main() -> None:
        waiting = PairingResponder(bob, Way.CALL, drawn_secret(Way.CALL, os.urandom), context)
        calling = PairingInitiator(alice, decode(Way.CALL, waiting.carried.encode()), context)
        air, events, drivers, nodes = MemoryAir(), asyncio.Queue[str](), {}, {}
        listener = await air.bearer(address).listen()

        def driven(who: str, endpoint: PairingInitiator | PairingResponder, call: str) -> asyncio.Task[None]:
            nodes[who] = SlowToDrop()
            nodes[who].dial = lambda bearer, peer: air.bearer(spelled(alice.identity.hex(":"))).connect(peer)
            node = cast(PairingContext, nodes[who])
            told = lambda event, **fields: events.put_nowait(f"{who} {event}")  # noqa: E731
            drivers[who] = PairingDriver(node, "memory", Way.CALL, endpoint, told, call=call, name="")
            return asyncio.create_task(drivers[who].run())

        running = {"bob": driven("bob", waiting, ""), "alice": driven("alice", calling, address)}
        drivers["bob"].take("memory", await listener.accept())
        keyed = {await events.get() for _ in running}
        assert keyed == {"alice keyed", "bob keyed"}
        first, second = ("bob", "alice") if calls else ("alice", "bob")
        drivers[first].give_up()
        await nodes[second].dropping.wait()
        drivers[second].give_up()
        for _ in range(10):
            await asyncio.sleep(0)
        for node in nodes.values():
            node.may_drop.set()
        await asyncio.wait_for(asyncio.gather(*running.values()), 30.0)
        assert all(node.dropped for node in nodes.values())

    asyncio.run(main())
