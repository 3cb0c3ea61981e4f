"""Each end of two that get no key says why, as far as it can see, and what a person can do about it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from pathlib import Path

import pytest
from node_world import ADDRESSES, World, connected, fingerprint, peer_of, send_all, until, virtual
from test_continuity import compared, mallory_takes_the_place_of_bob, of_version_2, trust
from test_strangers import request_of

from bt_selfsecure.bearers.base import Link, LinkClosedError
from bt_selfsecure.node.config import address_bytes
from bt_selfsecure.node.haoxiao.key_table import KeyState
from bt_selfsecure.node.lazy_commits import COMMIT_S
from bt_selfsecure.node.service import Node
from bt_selfsecure.node.state import backup, restore, set_aside
from bt_selfsecure.protocols.haoxiao.frames import Kind

WITHOUT = "--without-continuity"


def trouble(node: Node, name: str) -> str:
    return str(peer_of(node, name)["trouble"])


async def outcome(node: Node, name: str, *, without_continuity: bool = False) -> str:
    """What a person who asks for a key is told; empty where there is one."""
    told = await asyncio.wait_for(node.establish(name, without_continuity=without_continuity), 900)
    return str(told["reason"])


# --- another version --------------------------------------------------------------------------------------------------


def of_an_older_version(data: bytes) -> bytes:
    """The first octet is all that a reader of another version takes of it."""
    return bytes([2 << 4 | data[0] & 15]) + data[1:]


async def speak_version_2(link: Link) -> None:
    """As its node does that still has its session: it calls for a resynchronisation, and for a new key now and then."""
    draw = random.Random(2)
    call = bytes([Kind.RESYNC_CALL]) + bytes(43)
    with contextlib.suppress(LinkClosedError):
        for number in range(10_000):
            data = call if number % 10 else request_of(address_bytes(ADDRESSES["bob"]), draw)
            await link.send(of_an_older_version(data))
            await asyncio.sleep(3)


def test_a_peer_of_version_2_is_named_in_status_and_to_whoever_waits_for_a_key_with_it(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def main() -> None:
        of_version_2(tmp_path, "alice")
        alice = await world.start("alice", "bob")
        await until(lambda: ADDRESSES["alice"] in world.air.listeners)
        link = await world.air.bearer(ADDRESSES["bob"]).connect(ADDRESSES["alice"])
        old_node = asyncio.create_task(speak_version_2(link))
        reading = asyncio.create_task(read_all(link))
        waiting = asyncio.create_task(alice.establish("bob", wait=True))
        seen = []
        for _ in range(120):
            await asyncio.sleep(5)
            seen.append(trouble(alice, "bob"))
        assert all("version 2 of hardened" in each and "upgrade it" in each for each in seen[6:]), set(seen)
        assert "version 2 of hardened" in (await waiting)["reason"], "this end has begun meanwhile, too"
        assert "version 2 of hardened" in await outcome(alice, "bob")
        for task in (old_node, reading):
            task.cancel()
        await link.close()
        await connected(alice, await world.start("bob", "alice"), 900)
        assert trouble(alice, "bob") == ""
        await world.close()

    virtual(main())


async def read_all(link: Link) -> None:
    with contextlib.suppress(LinkClosedError):
        while True:
            await link.receive()


# --- an end that was restored -----------------------------------------------------------------------------------------


async def put_an_older_state_back(world: World, *, confirmed: tuple[str, ...]) -> tuple[Node, Node]:
    """Alice's, of before a new key and some messages; `confirmed` are the ends at which the other one was compared."""
    alice, bob = await world.start("alice", "bob"), await world.start("bob", "alice")
    await connected(alice, bob)
    told, _ = await asyncio.gather(alice.establish("bob"), bob.establish("alice", wait=True))
    await connected(alice, bob)
    for name in confirmed:
        other = "bob" if name == "alice" else "alice"
        assert world.nodes[name].confirm(other, told["sas"][:7], "jane")["confirmed"]
    await asyncio.sleep(2 * COMMIT_S)
    await world.stop("alice")
    backup(world.folder / "alice", world.folder / "copy")
    alice = await world.start("alice", "bob")
    await connected(alice, bob)
    for _ in range(2):  # of one new key alone the peer would still have the one before
        before = fingerprint(bob, "alice")
        assert await outcome(alice, "bob") == ""
        await until(lambda before=before: fingerprint(bob, "alice") != before)  # type: ignore[misc]
        await connected(alice, bob)
    await send_all(alice, "bob", [b"meanwhile"])
    await world.stop("alice")
    set_aside(world.folder / "alice")
    restore(world.folder / "copy", world.folder / "alice")
    return await world.start("alice", "bob"), bob


def test_it_says_so_also_where_the_link_ends_before_its_requests_do(tmp_path: Path) -> None:
    """The other end refuses in silence, and of a silent peer a link is given up."""
    world = World(tmp_path)

    async def main() -> None:
        alice, _ = await put_an_older_state_back(world, confirmed=("alice", "bob"))
        await asyncio.sleep(300)
        told = asyncio.create_task(outcome(alice, "bob"))
        await until(lambda: (peer_of(alice, "bob")["progress"] or {}).get("sent") is not None)
        await world.stop("bob")
        reason = await told
        assert reason.startswith("the link to "), reason
        assert "this node's state was restored" in reason
        assert WITHOUT in reason
        await world.close()

    virtual(main())


def test_an_end_that_got_its_older_state_back_says_so_and_does_not_blame_the_peer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path)

    async def main() -> None:
        alice, bob = await put_an_older_state_back(world, confirmed=("alice", "bob"))
        caplog.clear()
        await asyncio.sleep(300)
        assert "this node's state was restored" in trouble(alice, "bob")
        reason = await outcome(alice, "bob")
        assert "this node's state was restored" in reason
        assert WITHOUT in reason
        for name in ("alice", "bob"):  # that it was put back is on the disk until the two are in step
            await world.stop(name)
        alice, bob = await world.start("alice", "bob"), await world.start("bob", "alice")
        await asyncio.sleep(300)
        assert "this node's state was restored" in trouble(alice, "bob")
        assert "is not the peer" not in "".join(
            each.getMessage() for each in caplog.records if each.getMessage().startswith("bob: ")
        )
        assert await outcome(alice, "bob", without_continuity=True)  # he refuses it, until somebody allows it there
        assert await outcome(bob, "alice", without_continuity=True), "nobody allows it at alice any more"
        both = (outcome(node, name, without_continuity=True) for node, name in ((alice, "bob"), (bob, "alice")))
        assert await asyncio.gather(*both) == ["", ""]
        await connected(alice, bob)
        assert trouble(alice, "bob") == ""
        bob = await mallory_takes_the_place_of_bob(world)
        await until(lambda: "from nowhere" in caplog.text, 900)
        assert "the peer has lost its state" in caplog.text
        await world.close()

    virtual(main())


def test_an_end_that_was_restored_and_has_confirmed_the_peer_refuses_its_newer_key_with_the_right_reason(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)

    async def main() -> None:
        alice, bob = await put_an_older_state_back(world, confirmed=("alice",))
        await until(lambda: trust(alice, "bob")["refused"] > 0, 900)
        reason = await outcome(alice, "bob")
        assert "this node's state was restored" in reason
        assert f"establish bob {WITHOUT}" in reason
        assert "is not the peer" not in trouble(alice, "bob")
        assert await outcome(alice, "bob", without_continuity=True) == ""
        await connected(alice, bob)
        await world.close()

    virtual(main())


def test_two_ends_that_confirmed_nobody_heal_after_a_restoration_and_each_says_whose_it_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path)

    async def main() -> None:
        alice, bob = await put_an_older_state_back(world, confirmed=())
        await connected(alice, bob, 3600)
        nowhere = [each.getMessage() for each in caplog.records if "a key from nowhere" in each.getMessage()]
        assert {line.partition(": ")[0] for line in nowhere} == {"alice", "bob"}
        assert all(("this node's state was restored" in line) is line.startswith("bob: ") for line in nowhere), nowhere
        await world.close()

    virtual(main())


def test_a_copy_that_is_as_new_as_what_it_replaces_is_forgotten_as_one_once_the_two_are_in_step(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def main() -> None:
        alice, bob = await world.start("alice", "bob"), await world.start("bob", "alice")
        await connected(alice, bob)
        await compared(alice, bob)
        await world.stop("alice")
        backup(tmp_path / "alice", tmp_path / "copy")
        restore(tmp_path / "copy", tmp_path / "alice")
        alice = await world.start("alice", "bob")
        await connected(alice, bob)
        for _ in range(2):
            assert not alice._peers[ADDRESSES["bob"]]._machine.trust.kept.restored
            await world.stop("alice")
            alice = await world.start("alice", "bob")
        await world.close()

    virtual(main())


def test_a_copy_of_an_older_version_is_marked_too_and_has_no_string(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def main() -> None:
        of_version_2(tmp_path, "alice")
        backup(tmp_path / "alice", tmp_path / "copy")
        restore(tmp_path / "copy", tmp_path / "alice")
        alice = await world.start("alice", "bob")
        assert alice._peers[ADDRESSES["bob"]]._machine.trust.kept.restored
        assert peer_of(alice, "bob")["key"]["sas"] == ""
        assert peer_of(alice, "bob")["key"]["fingerprint"] == "7d31-13e2-0e4b"
        await world.close()

    virtual(main())


# --- the end that is refused ------------------------------------------------------------------------------------------


def test_the_end_that_a_confirmed_peer_refuses_says_where_the_reason_is(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def main() -> None:
        alice, bob = await world.start("alice", "bob"), await world.start("bob", "alice")
        await connected(alice, bob)
        await compared(alice, bob)
        bob = await mallory_takes_the_place_of_bob(world)
        reason = await outcome(bob, "alice")
        assert "alice is linked" in reason
        assert "its own bt-selfsecure status says" in reason
        assert "confirmed a key that this node has not" in reason
        await world.close()

    virtual(main())


def test_who_allows_a_key_without_continuity_while_one_with_it_is_asked_for_gets_his(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def main() -> None:
        alice, bob = await world.start("alice", "bob"), await world.start("bob", "alice")
        await connected(alice, bob)
        await compared(alice, bob)
        bob = await mallory_takes_the_place_of_bob(world)
        asked = asyncio.create_task(alice.establish("bob"))
        await until(lambda: alice._peers[ADDRESSES["bob"]]._machine.agreement.state is KeyState.INITIATING)
        await asyncio.sleep(2)
        assert await outcome(alice, "bob", without_continuity=True) == ""
        assert (await asked)["established"]
        await connected(alice, bob)
        await world.close()

    virtual(main())


def test_an_end_that_waits_learns_in_a_minute_that_the_other_ones_establishment_has_failed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The other end, which begins, refuses what this one answers: no frame says so."""
    world = World(tmp_path)
    caplog.set_level(logging.WARNING)

    async def main() -> None:
        alice, bob = await world.start("alice", "bob"), await world.start("bob", "alice")
        await connected(alice, bob)
        await compared(alice, bob)
        bob = await mallory_takes_the_place_of_bob(world)
        await asyncio.sleep(200)
        waiting = asyncio.create_task(bob.establish("alice", wait=True))
        await asyncio.sleep(1)
        assert WITHOUT in await outcome(alice, "bob")
        await asyncio.sleep(60)
        for told in (trouble(bob, "alice"), (await waiting)["reason"]):
            assert "alice is linked" in told
            assert "confirmed a key that this node has not" in told
        await world.close()

    virtual(main())
