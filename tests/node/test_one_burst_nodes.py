"""Whole nodes on one air: peers that want keys at the same time get them from one burst."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from node_world import ADDRESSES, AdvertAir, World, fingerprint, is_connected, lossy, peer_of, read, until, virtual

from bt_selfsecure.node.service import Node
from bt_selfsecure.protocols.haoxiao.frames import decode

OTHERS = ("bob", "carol", "dave", "erin", "frank", "grace")
MORE = (*OTHERS, "heidi", "ivan")


class Office:
    """Alice and others, who hear her alone; each loses some of what is advertised."""

    def __init__(self, folder: Path, others: tuple[str, ...] = OTHERS, **settings: Any) -> None:
        self.others = others
        settings = {"establish__bearer": "le_advert", "establish__exchange_shares": True} | settings
        self.world = World(folder, **settings)
        self.air = self.world.airs["le_advert"] = AdvertAir(lossy(0.1, 1))
        self.alice: Node

    async def start(self) -> None:
        for name in self.others:
            await self.world.start(name, "alice")
        self.alice = await self.world.start("alice", *self.others)
        await until(lambda: all(self.agree(name) for name in self.others))

    def agree(self, name: str) -> bool:
        own = fingerprint(self.alice, name)
        return is_connected(self.alice, name) and own == fingerprint(self.world.nodes[name], "alice") != None  # noqa: E711

    def bursts(self) -> int:
        """How many establishments have sent packets, by their tag."""
        return len({decode(data).rand for _, data in self.air.sent})

    async def establish(self, names: tuple[str, ...]) -> list[Any]:
        return list(await asyncio.gather(*(self.alice.establish(name) for name in names)))


def office(body: Any, folder: Path, **settings: Any) -> None:
    async def main() -> None:
        scene = Office(folder, **settings)
        try:
            await scene.start()
            await body(scene)
        finally:
            await scene.world.close()

    virtual(main())


def test_six_keys_that_are_asked_for_together_come_from_one_burst(tmp_path: Path) -> None:
    async def body(scene: Office) -> None:
        scene.air.sent.clear()
        told = await scene.establish(OTHERS)
        assert all(one["established"] for one in told), told
        await until(lambda: all(scene.agree(name) for name in OTHERS))
        assert scene.bursts() == 1
        assert len(scene.air.sent) == told[0]["sent"], "and each of its packets was sent once"
        assert len({one["fingerprint"] for one in told}) == 6
        for name, one in zip(OTHERS, told, strict=True):
            assert {other["peer"] for other in one["shared"]} == {ADDRESSES[o] for o in OTHERS if o != name}
            assert min(other["missed"] for other in one["shared"]) > 0, "no S_i is inside another"
            assert peer_of(scene.alice, name)["trust"]["keys_from_nowhere"] == 0, "each mixes in the one before"
        for name in OTHERS:
            await scene.alice.send(name, name.encode())
            assert await read(scene.world.nodes[name], 1) == [name.encode()]

    office(body, tmp_path)


def test_of_eight_seven_share_a_burst_and_the_rest_follows(tmp_path: Path) -> None:
    async def body(scene: Office) -> None:
        scene.air.sent.clear()
        told = await scene.establish(MORE)
        assert all(one["established"] for one in told), told
        assert scene.bursts() == 2
        assert sorted(len(one["shared"]) for one in told) == [0] + [6] * 7

    office(body, tmp_path, others=MORE)


def test_keys_that_are_due_at_the_same_time_share_a_burst(tmp_path: Path) -> None:
    async def body(scene: Office) -> None:
        await scene.establish(OTHERS)
        await until(lambda: all(scene.agree(name) for name in OTHERS))
        old = [fingerprint(scene.alice, name) for name in OTHERS]
        scene.air.sent.clear()
        await until(
            lambda: all(
                scene.agree(name) and fingerprint(scene.alice, name) != former
                for name, former in zip(OTHERS, old, strict=True)
            ),
            3 * 3600,
            5.0,
        )
        assert scene.bursts() == 1

    office(body, tmp_path, establish__renew_after_hours=1.0)


@pytest.mark.parametrize("when", ["asked", "bursting"])
def test_a_peer_that_goes_away_takes_no_other_key_along(tmp_path: Path, when: str) -> None:
    """Bob's leg is the one that has the radio."""

    async def body(scene: Office) -> None:
        scene.air.sent.clear()
        asked = asyncio.create_task(scene.establish(OTHERS))
        if when == "bursting":
            await until(lambda: len(scene.air.sent) > 50)
        else:
            await asyncio.sleep(0.2)
        await scene.world.stop("bob")
        told = await asked
        assert [one["established"] for one in told] == [False] + [True] * 5
        assert scene.bursts() == 1

    office(body, tmp_path)


def test_a_peer_that_asks_at_the_same_time_gets_one_key_as_the_others_do(tmp_path: Path) -> None:
    async def body(scene: Office) -> None:
        own = asyncio.create_task(scene.world.nodes["carol"].establish("alice"))
        told = await scene.establish(OTHERS)
        assert (await own)["established"]
        assert all(one["established"] for one in told), told
        await until(lambda: all(scene.agree(name) for name in OTHERS))

    office(body, tmp_path)


def test_the_other_peers_of_a_burst_are_known_after_a_restart(tmp_path: Path) -> None:
    async def body(scene: Office) -> None:
        await scene.establish(("bob", "carol"))
        await until(lambda: scene.agree("bob") and bool(peer_of(scene.alice, "bob")["key"]["shared"]))
        before = peer_of(scene.alice, "bob")["key"]["shared"]
        await scene.world.stop("alice")
        alice = await scene.world.start("alice", *scene.others)
        assert peer_of(alice, "bob")["key"]["shared"] == before
        assert before[0]["peer"] == ADDRESSES["carol"]

    office(body, tmp_path, others=("bob", "carol"))
