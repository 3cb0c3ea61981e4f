"""Whole nodes with a group: one broadcast on the air, or a datagram to each; repairs, restarts, coming and going."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest
from node_world import ADDRESSES, AdvertAir, World, is_connected, lossy, read, until, virtual

from bt_selfsecure.cli.status import group_lines
from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.errors import MessageTooLongError, QueueFullError, UnknownGroupError
from bt_selfsecure.node.haoxiao.groups import LOOK_S
from bt_selfsecure.node.haoxiao.shared_burst import LEGS
from bt_selfsecure.node.journal_file import JournalError
from bt_selfsecure.node.service import Node
from bt_selfsecure.protocols.haoxiao.frames import Kind, peek_kind
from bt_selfsecure.protocols.haoxiao.group import limits

OTHERS = ("bob", "carol", "dave")


class Office:
    """Alice, who owns the group, and others, who know her alone."""

    def __init__(self, folder: Path, bearer: str, others: tuple[str, ...] = OTHERS, **settings: Any) -> None:
        self.others = others
        self.world = World(folder, establish__bearer=bearer, establish__exchange_shares=True, **settings)
        self.air = AdvertAir(lossy(0.1, 3))
        self.world.airs["le_advert"] = self.air
        self.on_radio = bearer == "le_advert"

    @property
    def alice(self) -> Node:
        return self.world.nodes["alice"]

    async def start(self) -> None:
        for name in self.others:
            await self.world.start(name, "alice")
        await self.world.start("alice", *self.others)
        await until(lambda: all(is_connected(self.alice, name) for name in self.others))
        await until(lambda: all(is_connected(self.world.nodes[name], "alice") for name in self.others))

    def states(self) -> dict[str, str]:
        (group,) = self.alice.group_wishes.status()
        return {member["peer"]: member["state"] for member in group["members"]}

    async def create(self, name: str = "lamps", members: tuple[str, ...] = OTHERS) -> dict[str, Any]:
        told = await self.alice.group_wishes.create(name, list(members))
        await until(lambda: set(self.states().values()) == {"current"})
        if self.on_radio:
            await asyncio.sleep(LOOK_S + 1)
        return dict(told)

    async def send(self, message: bytes) -> None:
        while True:
            try:
                self.alice.group_wishes.send("lamps", message)
                return
            except QueueFullError:
                await asyncio.sleep(0.3)

    def fragments(self) -> int:
        return sum(peek_kind(data) is Kind.GROUP_FRAGMENT for _, data in self.air.sent)


def office(body: Any, folder: Path, bearer: str = "le_advert", **settings: Any) -> None:
    async def main() -> None:
        scene = Office(folder, bearer, **settings)
        try:
            await scene.start()
            await body(scene)
        finally:
            await scene.world.close()

    virtual(main())


def test_a_message_is_on_the_air_once_and_each_member_receives_it_once_with_the_groups_name(tmp_path: Path) -> None:
    async def body(scene: Office) -> None:
        told = await scene.create()
        assert told["secret_bits"] > 20, "of one burst that all have heard"
        for number in range(20):
            await scene.send(b"%d" % number)
            await asyncio.sleep(0.3)
        assert scene.fragments() == 20 * 3
        for name in OTHERS:
            node = scene.world.nodes[name]
            assert await read(node, 20) == [b"%d" % number for number in range(20)]
            (group,) = node.group_wishes.status()
            assert (group["name"], group["owner"], group["own"]) == ("lamps", "alice", False)
            assert group["counts"]["repaired"] < 10
        await scene.send(b"last")
        async for received in scene.world.nodes["bob"].inbox(None, 0):
            assert (received.message, received.peer, received.port, received.group) == (b"last", "alice", 0, "lamps")
            break

    office(body, tmp_path)


def test_where_no_radio_is_each_member_gets_the_same_fragments(tmp_path: Path) -> None:
    async def body(scene: Office) -> None:
        told = await scene.create()
        assert told["secret_bits"] == 0.0
        for number in range(10):
            await scene.send(b"%d" % number)
        for name in OTHERS:
            assert await read(scene.world.nodes[name], 10) == [b"%d" % number for number in range(10)]
            assert scene.world.nodes[name].group_wishes.status()[0]["counts"]["repaired"] == 0

    office(body, tmp_path, "rfcomm")


@pytest.mark.parametrize("bearer", ["le_advert", "rfcomm"])
def test_restarts_of_owner_and_member_lose_and_double_nothing(tmp_path: Path, bearer: str) -> None:
    async def body(scene: Office) -> None:
        await scene.create()
        for number in range(30):
            await scene.send(b"%d" % number)
            if number == 8:
                await scene.world.stop("bob")
            if number == 12:
                await scene.world.start("bob", "alice")
            if number == 20:
                await scene.world.stop("alice")
                await scene.world.start("alice", *OTHERS)
            await asyncio.sleep(0.4)
        for name in OTHERS:
            assert await read(scene.world.nodes[name], 30) == [b"%d" % number for number in range(30)]

    office(body, tmp_path, bearer)


def test_who_joins_gets_what_follows_and_who_is_out_what_was(tmp_path: Path) -> None:
    async def body(scene: Office) -> None:
        await scene.create(members=("bob", "carol"))
        await scene.send(b"one")
        assert await read(scene.world.nodes["carol"], 1) == [b"one"]
        told = await scene.alice.group_wishes.change("lamps", ["dave"], ["carol"])
        assert {member["peer"] for member in told["members"]} == {"bob", "dave"}
        await until(lambda: set(scene.states().values()) == {"current"})
        await scene.send(b"two")
        assert await read(scene.world.nodes["dave"], 1) == [b"two"]
        assert await read(scene.world.nodes["bob"], 2) == [b"one", b"two"]
        await until(lambda: scene.world.nodes["carol"].group_wishes.status() == [])
        assert [m async for m in scene.world.nodes["carol"].inbox(None, 0, follow=False)] == []

    office(body, tmp_path)


def test_a_member_leaves_and_a_group_is_deleted(tmp_path: Path) -> None:
    async def body(scene: Office) -> None:
        await scene.create()
        scene.world.nodes["bob"].group_wishes.leave("lamps")
        await until(lambda: set(scene.states()) == {"carol", "dave"})
        with pytest.raises(UnknownGroupError, match="no member of a group 'lamps'"):
            scene.alice.group_wishes.leave("lamps")
        with pytest.raises(UnknownGroupError, match="owns no group 'lamps'"):
            scene.world.nodes["carol"].group_wishes.delete("lamps")
        assert set(scene.states()) == {"carol", "dave"}
        scene.alice.group_wishes.delete("lamps")
        await until(lambda: not any(node.group_wishes.status() for node in scene.world.nodes.values()))
        with pytest.raises(UnknownGroupError):
            await scene.send(b"x")

    office(body, tmp_path, "rfcomm")


async def read_until(node: Node, last: bytes) -> list[bytes]:
    """What comes before this message."""
    got: list[bytes] = []
    while True:
        got += await read(node, 1)
        if got[-1] == last:
            return got[:-1]


def test_a_member_that_is_away_for_longer_than_its_outbox_joins_with_the_next_epoch(tmp_path: Path) -> None:
    async def body(scene: Office) -> None:
        await scene.create()
        await scene.world.stop("dave")
        for number in range(60):
            await scene.send(b"%d" % number)
            for name in ("bob", "carol"):
                assert await read(scene.world.nodes[name], 1) == [b"%d" % number]
            await asyncio.sleep(1)
        await until(lambda: scene.states()["dave"] == "away")
        await scene.world.start("dave", "alice")
        had = asyncio.create_task(read_until(scene.world.nodes["dave"], b"back"))
        await until(lambda: set(scene.states().values()) == {"current"})
        (group,) = scene.alice.group_wishes.status()
        assert group["epoch"] == 2
        await scene.send(b"back")
        assert await read(scene.world.nodes["bob"], 1) == [b"back"]
        got = await had
        assert got == [b"%d" % number for number in range(len(got))]
        assert 5 < len(got) < 60

    office(body, tmp_path, "rfcomm", node__queue_messages=10)


def test_a_member_with_an_empty_disk_joins_anew(tmp_path: Path) -> None:
    async def body(scene: Office) -> None:
        await scene.create()
        await scene.world.stop("bob")
        for file in (tmp_path / "bob").iterdir():
            file.unlink()
        await scene.world.start("bob", "alice")
        await until(lambda: is_connected(scene.alice, "bob") and is_connected(scene.world.nodes["bob"], "alice"))
        await scene.send(b"for those who are there")
        await until(lambda: bool(scene.world.nodes["bob"].group_wishes.status()))
        await until(lambda: set(scene.states().values()) == {"current"})
        await scene.send(b"for all")
        assert (await read(scene.world.nodes["bob"], 1))[-1] == b"for all"

    office(body, tmp_path, "rfcomm")


def test_a_group_of_more_than_one_burst_serves_has_nothing_in_common_says_so_and_works(tmp_path: Path) -> None:
    others = tuple(name for name in ADDRESSES if name != "alice")
    assert len(others) > LEGS

    async def body(scene: Office) -> None:
        told = await scene.create("lamps", others)
        assert told["secret_bits"] == 0.0
        assert "no burst in common, as one serves 7 at most" in " ".join(group_lines(told, 200))
        for number in range(3):
            await scene.send(b"%d" % number)
        for name in others:
            assert await read(scene.world.nodes[name], 3) == [b"0", b"1", b"2"]

    office(body, tmp_path, others=others)


def test_what_can_not_be_is_refused_with_a_sentence(tmp_path: Path) -> None:
    async def body(scene: Office) -> None:
        wishes = scene.alice.group_wishes
        await scene.create()
        for fault, error, work in (
            ("already", UsageError, wishes.create("lamps", ["bob"])),
            ("there is no peer", UsageError, wishes.create("x", ["nobody"])),
            ("printable", UsageError, wishes.create("", ["bob"])),
            ("no group", UnknownGroupError, wishes.change("x", ["bob"], [])),
            ("who is to join", UsageError, wishes.change("lamps", [], [])),
        ):
            with pytest.raises(error, match=fault):
                await work
        with pytest.raises(MessageTooLongError, match="200 bytes"):
            wishes.send("lamps", bytes(201))
        with pytest.raises(UnknownGroupError):
            wishes.delete("x")
        with pytest.raises(UnknownGroupError, match="owns no group"):
            scene.world.nodes["bob"].group_wishes.send("lamps", b"")

    office(body, tmp_path, "rfcomm")


def test_nothing_secret_of_a_group_is_shown_and_a_dead_key_leaves_the_disk(tmp_path: Path) -> None:
    async def body(scene: Office) -> None:
        await scene.create()
        old = json.loads(scene.alice.journal.groups()[0][2])["key"]
        for number in range(5):
            await scene.send(b"%d" % number)
        shown = json.dumps(scene.alice.status())
        now = json.loads(scene.alice.journal.groups()[0][2])["key"]
        assert now != old
        assert old not in shown
        assert now not in shown
        for name in list(scene.world.nodes):
            await scene.world.stop(name)
        files = b"".join(file.read_bytes() for file in (tmp_path / "alice").iterdir())
        assert now.encode() in files
        assert old.encode() not in files

    office(body, tmp_path, "rfcomm")


def disk(node: Node, *, works: bool) -> None:
    """Let it refuse all that is written, or nothing."""
    node.journal._database.execute(f"PRAGMA query_only = {int(not works)}")


DURABILITIES = ("every-W", "every-message")


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("seed", range(4))
def test_disks_that_refuse_at_times_lose_nothing_that_was_accepted_and_send_nothing_that_was_refused(
    tmp_path: Path, durability: str, seed: int
) -> None:
    async def body(scene: Office) -> None:
        await scene.create()
        generator = random.Random(seed)
        accepted, refused = [], []
        for number in range(40):
            message = b"%d" % number
            try:
                await asyncio.wait_for(scene.send(message), 20)
            except JournalError:
                refused.append(message)
            except TimeoutError:
                pass
            else:
                accepted.append(message)
            for name in ("alice", *OTHERS):
                if name not in scene.world.nodes:
                    await scene.world.start(name, "alice")
                elif name != "alice" and generator.random() < 0.2:
                    await scene.world.stop(name)
                elif generator.random() < 0.4:
                    disk(scene.world.nodes[name], works=generator.random() < 0.5)
            await asyncio.sleep(generator.choice((0.0, 0.5, 5.0, 40.0)))
        assert accepted
        assert refused
        for name in OTHERS:
            if name not in scene.world.nodes:
                await scene.world.start(name, "alice")
        for node in scene.world.nodes.values():
            disk(node, works=True)
        await until(lambda: not any(node.journal.trouble for node in scene.world.nodes.values()))
        await asyncio.sleep(60)
        await scene.send(b"last")
        for name in OTHERS:
            assert await asyncio.wait_for(read_until(scene.world.nodes[name], b"last"), 600) == accepted

    office(body, tmp_path, "rfcomm", session__durability=durability)


@pytest.mark.parametrize("durability", DURABILITIES)
def test_what_is_wished_of_a_group_is_on_disk_or_refused_and_undone(tmp_path: Path, durability: str) -> None:
    async def body(scene: Office) -> None:
        alice, bob = scene.alice, scene.world.nodes["bob"]
        disk(alice, works=False)
        with pytest.raises(JournalError):
            await alice.group_wishes.create("lamps", list(OTHERS))
        assert alice.group_wishes.status() == []
        disk(alice, works=True)
        await scene.create()
        await scene.send(b"first")
        disk(alice, works=False)
        before = alice.group_wishes.status()
        with pytest.raises(JournalError):
            await scene.send(b"refused")
        with pytest.raises(JournalError):
            await alice.group_wishes.change("lamps", [], ["bob"])
        with pytest.raises(JournalError):
            alice.group_wishes.delete("lamps")
        (group,), (was,) = alice.group_wishes.status(), before
        assert (group["epoch"], group["number"], group["members"]) == (was["epoch"], was["number"], was["members"])
        disk(bob, works=False)
        with pytest.raises(JournalError):
            bob.group_wishes.leave("lamps")
        disk(bob, works=True)
        await scene.world.stop("alice")
        await scene.world.start("alice", *OTHERS)
        await scene.send(b"second")
        for name in OTHERS:
            assert await read(scene.world.nodes[name], 2) == [b"first", b"second"]
        assert set(scene.states()) == set(OTHERS)

    office(body, tmp_path, "rfcomm", session__durability=durability)


@pytest.mark.parametrize("durability", DURABILITIES)
def test_a_repair_that_the_disk_refuses_waits_for_it_with_the_record_that_counts_on_it(
    tmp_path: Path, durability: str
) -> None:
    async def body(scene: Office) -> None:
        await scene.create()
        await scene.world.stop("bob")
        await scene.send(b"one")
        await asyncio.sleep(limits.REPAIR_SOON_S - 0.5)  # and the others' reports are kept
        assert scene.alice.group_wishes.status()[0]["counts"]["letters"] == len(OTHERS)
        disk(scene.alice, works=False)  # and the first that it refuses is the repair
        await asyncio.sleep(60)
        assert scene.alice.group_wishes.status()[0]["counts"]["letters"] > len(OTHERS)
        assert scene.alice.journal.trouble
        disk(scene.alice, works=True)
        await scene.world.start("bob", "alice")
        await until(lambda: is_connected(scene.alice, "bob"))
        await scene.send(b"two")
        for name in OTHERS:
            assert await asyncio.wait_for(read(scene.world.nodes[name], 2), 600) == [b"one", b"two"]

    office(body, tmp_path, "rfcomm", session__durability=durability)
