"""State that was made under another own address: never a dead end, and told; two devices with one card are named."""

from __future__ import annotations

import asyncio
import logging
import shutil
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from node_world import ADDRESSES, World, connected, fingerprint, is_connected, peer_of, read, until, virtual

from bt_selfsecure.node.discovery import Sighting
from bt_selfsecure.node.nearby import Nearby

NAMES = ("alice", "bob", "carol", "dave")


async def meet(world: World, one: str, other: str) -> None:
    """Two nodes with a key and a message, which stop then."""
    node = await world.start(one, other)
    await world.start(other, one)
    await until(lambda: is_connected(node, other))
    await node.send(other, b"before", until="acknowledged")
    await read(world.nodes[other], 1)
    await world.stop(one)
    await world.stop(other)


@pytest.mark.parametrize("durability", ["every-message", "every-W"])
@pytest.mark.parametrize("knows_both", [False, True])
@pytest.mark.parametrize(("old", "new", "other"), list(permutations(NAMES[:3], 3)))
def test_a_card_that_is_moved_to_a_device_with_another_address_gets_a_new_key(
    tmp_path: Path, old: str, new: str, other: str, knows_both: bool, durability: str, caplog: pytest.LogCaptureFixture
) -> None:
    """In each order of the three addresses, so that the roles stay or change places."""
    world = World(tmp_path, session__durability=durability)

    async def main() -> None:
        await meet(world, old, other)
        (tmp_path / old).rename(tmp_path / new)
        there = await world.start(other, new, *([old] if knows_both else []))
        moved = await world.start(new, other)
        problem = f"made under {ADDRESSES[old]}, and its address is {ADDRESSES[new]}"
        (told,) = (line for line in moved.status()["problems"] if problem in line)
        assert "adapter has" not in told, "a node on udp alone has none"
        assert "[node] adapter (on udp alone: [node] address)" in told
        await until(lambda: is_connected(moved, other) and is_connected(there, new), 900)
        await until(lambda: fingerprint(moved, other) == fingerprint(there, new), 900)
        assert peer_of(moved, other)["counts"]["establishments"] == 1, "a fresh key"
        for node, peer, back in ((moved, other, there), (there, new, moved)):
            await node.send(peer, b"after", until="acknowledged")
            assert await read(back, 1) == [b"after"]
        assert moved.status()["problems"] == []
        assert peer_of(moved, other)["key"]["own_address"] == ADDRESSES[new]
        await world.close()

    with caplog.at_level(logging.INFO):
        virtual(main())
    assert [text for text in caplog.messages if text.startswith("this node's keys were made under")]
    if knows_both:
        assert f"{new}: it has the keys of {old}: its card was moved from there, or copied" in caplog.messages


def test_an_adapter_that_changes_and_comes_back_finds_its_peer_each_time(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def main() -> None:
        await meet(world, "alice", "bob")
        for own in ("dave", "alice", "carol", "alice"):
            for name in NAMES:
                if name != "bob" and (tmp_path / name).exists():
                    (tmp_path / name).rename(tmp_path / own)
            node = await world.start(own, "bob")
            bob = await world.start("bob", "alice", "carol", "dave")
            await until(lambda node=node, bob=bob, own=own: is_connected(node, "bob") and is_connected(bob, own), 900)
            await node.send("bob", own.encode(), until="acknowledged")
            assert await read(bob, 1) == [own.encode()]
            await world.close()

    virtual(main())


def test_an_adapter_that_becomes_another_one_under_the_running_node_is_told_and_nothing_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path)

    async def main() -> None:
        alice, bob = await world.start("alice", "bob"), await world.start("bob", "alice", "carol")
        await connected(alice, bob)
        await alice._end()  # as `AdapterSupervisor` has it where the adapter goes
        await alice.send("bob", b"meanwhile")
        alice._bearers._media._media._address = ADDRESSES["carol"]  # type: ignore[attr-defined]
        await alice._begin(ADDRESSES["carol"])
        assert f"and its address is {ADDRESSES['carol']}" in " ".join(alice.status()["problems"])
        await until(lambda: is_connected(alice, "bob") and is_connected(bob, "carol"), 900)
        assert await read(bob, 1) == [b"meanwhile"]
        assert peer_of(alice, "bob")["key"]["own_address"] == ADDRESSES["carol"]
        assert alice.status()["problems"] == []
        await world.close()

    with caplog.at_level(logging.INFO):
        virtual(main())
    assert len([text for text in caplog.messages if text.startswith("this node's keys were made under")]) == 1


def test_two_cards_that_change_places_are_told_at_both_ends_with_the_remedy(tmp_path: Path) -> None:
    """Then each node's own address is that of its [[peer]]."""
    world = World(tmp_path)

    async def main() -> None:
        await meet(world, "alice", "bob")
        for old, new in (("alice", "aside"), ("bob", "alice"), ("aside", "bob")):
            (tmp_path / old).rename(tmp_path / new)
        for name, other in (("alice", "bob"), ("bob", "alice")):
            node = await world.start(name, name)
            problems = node.status()["problems"]
            assert any(
                f"made under {ADDRESSES[other]}, and its address is {ADDRESSES[name]}" in line for line in problems
            )
            assert any(line.startswith(f"{name}: it has this node's own address") for line in problems)
        await asyncio.sleep(100)
        await world.close()
        for name, other in (("alice", "bob"), ("bob", "alice")):
            await world.start(name, other)
        await connected(world.nodes["alice"], world.nodes["bob"], 900)
        assert [node.status()["problems"] for node in world.nodes.values()] == [[], []]
        await world.close()

    virtual(main())


def test_a_copy_that_hears_the_device_it_was_made_of_says_so_and_so_does_who_hears_its_own_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    near: dict[str, Any] = {}
    monkeypatch.setattr(Nearby, "sightings", property(lambda nearby: near))

    async def main() -> None:
        await meet(world, "alice", "bob")
        shutil.copytree(tmp_path / "alice", tmp_path / "carol")
        near[ADDRESSES["alice"]] = Sighting(ADDRESSES["alice"], "alice", -60, "hardened", 3, 0.0)
        carol = await world.start("carol", "bob")
        (problem,) = carol.status()["problems"]
        assert problem.startswith(f"this node's keys were made under {ADDRESSES['alice']}")
        assert "so two devices run with copies of one card: on one of them, stop the node" in problem
        alice = await world.start("alice", "bob")
        (problem,) = alice.status()["problems"]
        assert problem.startswith(f"another device near says that it has this node's address, {ADDRESSES['alice']}")
        await world.close()

    virtual(main())


def test_two_devices_with_one_card_are_named_by_their_peer_and_both_work(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path)

    async def main() -> None:
        await meet(world, "alice", "bob")
        shutil.copytree(tmp_path / "alice", tmp_path / "carol")
        bob = await world.start("bob", "alice", "carol")
        nodes = [await world.start(name, "bob") for name in ("alice", "carol")]
        await until(lambda: all(is_connected(node, "bob") for node in nodes), 900)
        await until(lambda: all(is_connected(bob, name) for name in ("alice", "carol")), 900)
        for node in nodes:
            await node.send("bob", b"hello", until="acknowledged")
        assert fingerprint(bob, "alice") != fingerprint(bob, "carol")
        (problem,) = bob.status()["problems"]
        assert problem.startswith("carol and alice run with copies of one card: give one of them a state of its own")
        await world.stop("alice")
        await until(lambda: not bob.status()["problems"], 60)
        await world.close()

    with caplog.at_level(logging.INFO):
        virtual(main())
    assert caplog.messages.count("carol: it has the keys of alice: its card was moved from there, or copied") == 1


def test_nobody_is_called_a_copy_for_a_key_of_its_own_that_is_old(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path)

    async def main() -> None:
        alice = await world.start("alice", "bob", "carol")
        bob, carol = await world.start("bob", "alice", "carol"), await world.start("carol", "alice", "bob")
        await until(lambda: all(is_connected(alice, name) for name in ("bob", "carol")) and is_connected(bob, "carol"))
        await world.stop("alice")
        shutil.rmtree(tmp_path / "alice")
        alice = await world.start("alice", "bob", "carol")
        await connected(alice, bob, 900)
        await until(lambda: is_connected(alice, "carol"), 900)
        assert not any(node.status()["problems"] for node in (alice, bob, carol))
        await asyncio.sleep(1)
        await world.close()

    with caplog.at_level(logging.INFO):
        virtual(main())
    assert not [text for text in caplog.messages if "card" in text]
