"""Nodes that agree on keys, exchange messages and find together again by themselves."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from node_world import (
    ADDRESSES,
    Media,
    WallClock,
    World,
    connected,
    fingerprint,
    peer_of,
    read,
    send_all,
    unread,
    until,
    virtual,
)

from bt_selfsecure.bearers.memory import MemoryLink
from bt_selfsecure.cli.status import state
from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.config import PeerTable
from bt_selfsecure.node.errors import MessageTooLongError, QueueFullError, UnknownPeerError
from bt_selfsecure.node.service import Node
from bt_selfsecure.stats.losses import packets_needed

SHM = Path("/dev/shm")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is such a place: what is tested here is not how fast the disk is."""
    if not os.access(SHM, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=SHM) as directory:
        yield Path(directory)


def digest(messages: list[bytes]) -> str:
    return hashlib.sha256(b"".join(messages)).hexdigest()


@pytest.mark.parametrize(
    ("loss", "durability"),
    [
        (0.1, "every-W"),
        pytest.param(0.0, "every-message", marks=pytest.mark.long),
        pytest.param(0.3, "every-message", marks=pytest.mark.long),
    ],
)
def test_a_thousand_messages_go_each_way(folder: Path, loss: float, durability: str) -> None:
    world = World(folder, loss=loss, session__durability=durability)
    messages = [f"{number} ".encode() * (1 + number % 50) for number in range(1000)]

    async def main() -> None:
        async with world.pair() as (alice, bob):
            senders = asyncio.gather(send_all(alice, "bob", messages), send_all(bob, "alice", messages))
            at_bob, at_alice = await asyncio.gather(read(bob, 1000), read(alice, 1000))
            await senders
            assert digest(at_bob) == digest(at_alice) == digest(messages)
            await connected(alice, bob)
            assert await unread(alice) == await unread(bob) == []

    virtual(main())


def test_progress_is_told_against_what_a_key_takes_at_both_ends(folder: Path) -> None:
    """Not against the most that a burst may have, which tells nobody how long it lasts."""
    world = World(folder, loss=0.1)
    told: dict[str, list[str]] = {"alice": [], "bob": []}
    needed = packets_needed(40.0, 0.2)  # as the world's nodes are configured

    async def main() -> None:
        async with world.pair() as pair:
            while not all(node.peers()[0]["key"] for node in pair):
                for name, node in zip(told, pair, strict=True):
                    told[name].append(state(node.peers()[0]))
                await asyncio.sleep(0.05)
            sent, heard = ([text for text in texts if f"{needed} must arrive" in text] for texts in told.values())
            if "heard" in sent[0]:
                sent, heard = heard, sent
            for texts, verb in ((sent, "sent"), (heard, "heard")):
                found = [re.search(rf", (\d+) packets {verb}, {needed} must arrive$", text) for text in texts]
                counts = [int(match[1]) for match in found if match]
                assert len(counts) == len(texts)
                assert counts == sorted(counts)
                assert 0 < counts[-1] <= 200

    virtual(main())


def test_a_peer_that_can_not_keep_up_with_the_burst_is_sent_a_slower_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """40 ms for a packet that comes every 10 ms: a small Pi that has other work, too."""
    receive = MemoryLink.receive

    async def receive_slowly(link: MemoryLink) -> bytes:
        data = await receive(link)
        if link.peer == ADDRESSES["alice"]:
            await asyncio.sleep(0.04)
        return data

    monkeypatch.setattr(MemoryLink, "receive", receive_slowly)
    world = World(folder)

    async def main() -> None:
        async with world.pair() as (alice, bob):
            await connected(alice, bob, 300)
            assert 1 <= peer_of(alice, "bob")["counts"]["failed_establishments"] <= 3

    virtual(main())


def test_one_node_talks_with_three_peers_at_once(folder: Path) -> None:
    world = World(folder, loss=0.1)
    names = ("bob", "carol", "dave")

    async def main() -> None:
        alice = await world.start("alice", *names)
        others = [await world.start(name, "alice") for name in names]
        messages = {name: [f"{name} {number}".encode() for number in range(100)] for name in names}
        senders = asyncio.gather(
            *(send_all(alice, name, messages[name]) for name in names),
            *(send_all(other, "alice", messages[name]) for name, other in zip(names, others, strict=True)),
        )
        at_others = await asyncio.gather(*(read(other, 100) for other in others))
        at_alice = await asyncio.gather(*(read(alice, 100, peer=name) for name in names))
        await senders
        assert at_others == at_alice == [messages[name] for name in names]
        assert len({fingerprint(alice, name) for name in names}) == 3
        await world.close()

    virtual(main())


def test_messages_of_every_size_and_port_arrive_whole(folder: Path) -> None:
    world = World(folder, loss=0.1)
    sizes = (0, 1, 3798, 3799, 3800, 100_000, 1 << 20)

    async def main() -> None:
        async with world.pair() as (alice, bob):
            for port in (0, 63):
                messages = [os.urandom(size) for size in sizes]
                await send_all(alice, "bob", messages, port)
                assert await read(bob, len(sizes), port=port) == messages

    virtual(main())


def test_send_returns_when_the_message_is_on_disk_or_when_the_peer_has_it(folder: Path) -> None:
    world = World(folder)

    async def main() -> None:
        async with world.pair() as (alice, bob):
            first = await alice.send("bob", b"durable")
            assert await unread(bob) == []
            second = await alice.send("bob", bytes(10_000), until="acknowledged")
            assert second > first
            assert await unread(bob) == [b"durable", bytes(10_000)]

    virtual(main())


def test_a_sender_that_gives_up_waiting_leaves_its_message_queued(folder: Path) -> None:
    world = World(folder)

    async def main() -> None:
        alice = await world.start("alice", "bob")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(alice.send("bob", b"patience", until="acknowledged"), 5)
        assert peer_of(alice, "bob")["queues"]["outbox"] == 1
        bob = await world.start("bob", "alice")
        assert await read(bob, 1) == [b"patience"]
        await world.close()

    virtual(main())


def test_every_message_that_the_peer_does_not_have_is_told_as_waiting_also_the_one_under_way(folder: Path) -> None:
    world = World(folder, node__queue_messages=3)

    async def main() -> None:
        async with world.pair() as (alice, bob):
            await connected(alice, bob)
            for number in range(3):
                await alice.send("bob", str(number).encode())
                assert peer_of(alice, "bob")["queues"]["outbox"] == number + 1
            with pytest.raises(QueueFullError, match="3 messages wait for bob"):
                await alice.send("bob", b"3")
            await asyncio.sleep(60)
            assert await read(bob, 3) == [b"0", b"1", b"2"]
            assert peer_of(alice, "bob")["queues"]["outbox"] == 0

    virtual(main())


def test_the_outbox_refuses_what_it_has_no_room_for(folder: Path) -> None:
    world = World(folder, node__queue_messages=3)

    async def main() -> None:
        alice = await world.start("alice", "bob")
        for number in range(3):
            await alice.send("bob", str(number).encode())
        with pytest.raises(QueueFullError, match="3 messages wait for bob"):
            await alice.send("bob", b"3")
        with pytest.raises(UnknownPeerError, match="'eve'"):
            await alice.send("eve", b"")
        with pytest.raises(MessageTooLongError):
            await alice.send("bob", bytes((1 << 20) + 1))
        bob = await world.start("bob", "alice")
        assert await read(bob, 3) == [b"0", b"1", b"2"]
        await alice.send("bob", b"3")
        await world.close()

    virtual(main())


def test_the_outbox_is_bounded_in_bytes_too(folder: Path) -> None:
    world = World(folder)

    async def main() -> None:
        alice = await world.start("alice", "bob")
        sends = [alice.send("bob", bytes(1 << 20)) for _ in range(20)]
        with pytest.raises(QueueFullError):
            await asyncio.gather(*sends)
        assert 1 <= peer_of(alice, "bob")["queues"]["outbox"] < 20
        await world.close()

    virtual(main())


def test_a_full_inbox_holds_the_sender_back_and_loses_nothing(folder: Path) -> None:
    world = World(folder, node__queue_messages=5)
    messages = [str(number).encode() for number in range(10)]

    async def main() -> None:
        async with world.pair() as (alice, bob):
            sender = asyncio.create_task(send_all(alice, "bob", messages))
            await asyncio.sleep(3000)
            assert await unread(bob) == messages[:5]
            assert peer_of(bob, "alice")["queues"]["inbox"] == 5
            assert await read(bob, 10) == messages
            await sender

    virtual(main())


def test_what_nobody_acknowledged_is_there_again_after_a_restart(folder: Path) -> None:
    world = World(folder)

    async def main() -> None:
        async with world.pair() as (alice, bob):
            for text in (b"one", b"two", b"three"):
                await alice.send("bob", text, until="acknowledged")
            assert await read(bob, 1) == [b"one"]
            await world.stop("bob")
            bob = await world.start("bob", "alice")
            assert await read(bob, 2) == [b"two", b"three"]
            await connected(alice, bob)

    virtual(main())


@pytest.mark.parametrize("durability", ["every-message", "every-W"])
def test_restarts_of_either_end_lose_and_repeat_nothing(folder: Path, durability: str) -> None:
    world = World(folder, loss=0.1, session__durability=durability)
    messages = [str(number).encode() for number in range(300)]

    async def main() -> None:
        async with world.pair() as (alice, bob):
            got: list[bytes] = []
            key = None
            for part in range(6):
                sender = asyncio.create_task(send_all(alice, "bob", messages[part * 50 : part * 50 + 50]))
                got += await read(bob, 30)
                await sender
                key = key or fingerprint(bob, "alice")
                name = ("alice", "bob")[part % 2]
                await world.stop(name)
                await world.start(name, {"alice": "bob", "bob": "alice"}[name])
                alice, bob = world.nodes["alice"], world.nodes["bob"]
                got += await read(bob, 20)
            assert got == messages
            assert fingerprint(alice, "bob") == fingerprint(bob, "alice") == key

    virtual(main())


@pytest.mark.parametrize("forgetful", ["alice", "bob"])
def test_an_end_that_lost_its_state_gets_a_new_key_by_itself(folder: Path, forgetful: str) -> None:
    world = World(folder, loss=0.1)

    async def main() -> None:
        async with world.pair() as (alice, bob):
            await connected(alice, bob)
            before = fingerprint(alice, "bob")
            for number in range(5):
                await alice.send("bob", b"a%d" % number, until="acknowledged")
                await bob.send("alice", b"b%d" % number, until="acknowledged")
            await world.stop(forgetful)
            shutil.rmtree(folder / forgetful)
            await world.start(forgetful, {"alice": "bob", "bob": "alice"}[forgetful])
            alice, bob = world.nodes["alice"], world.nodes["bob"]
            await asyncio.gather(alice.send("bob", b"new"), bob.send("alice", b"new"))
            await until(lambda: fingerprint(alice, "bob") not in (None, before))
            await connected(alice, bob)
            for node in (alice, bob):
                count = 1 if node is world.nodes[forgetful] else 6
                assert (await read(node, count))[-1] == b"new"
                assert await unread(node) == []

    virtual(main())


def test_two_ends_with_keys_that_never_met_get_a_new_one_by_themselves(folder: Path) -> None:
    """Both were restored from copies of different times."""
    world = World(folder)

    async def main() -> None:
        async with world.pair() as (alice, bob):
            await connected(alice, bob)
        shutil.copytree(folder / "alice", folder / "copy")
        async with world.pair() as (alice, bob):
            await connected(alice, bob)
            for _ in range(2):  # the old key is gone from both ends
                outcome = await alice.establish("bob")
                assert outcome["established"], outcome
                await connected(alice, bob)
                for _ in range(300):
                    await alice.send("bob", b"", until="acknowledged")
                    await bob.send("alice", b"", until="acknowledged")
                await asyncio.gather(read(alice, 300), read(bob, 300))
        shutil.rmtree(folder / "alice")
        shutil.move(folder / "copy", folder / "alice")
        async with world.pair() as (alice, bob):
            await alice.send("bob", b"from the past")
            assert await read(bob, 1) == [b"from the past"]
            await connected(alice, bob, 10)

    virtual(main())


def test_a_renewal_by_messages_replaces_the_key_at_both_ends_and_loses_nothing(folder: Path) -> None:
    world = World(folder, loss=0.1, establish__renew_after_messages=100)
    messages = [str(number).encode() for number in range(350)]

    async def main() -> None:
        async with world.pair() as (alice, bob):
            keys = set()
            got = []
            for message in messages[:-1]:
                await alice.send("bob", message)
                got += await read(bob, 1)
                keys.add(fingerprint(bob, "alice"))
                await asyncio.sleep(1)  # T_d does not allow a key every second
            await until(lambda: fingerprint(alice, "bob") == fingerprint(bob, "alice"))
            await alice.send("bob", messages[-1])
            assert got + await read(bob, 1) == messages
            assert 3 <= len(keys) <= 4

    virtual(main())


def test_a_renewal_by_age_comes_at_its_age_wherever_the_clock_jumps(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(folder, establish__renew_after_hours=10.0)
    wall = WallClock()
    monkeypatch.setattr("bt_selfsecure.node.ages.time", wall)

    async def main() -> None:
        async with world.pair() as (alice, bob):
            keys = []

            async def pass_hours(hours: float) -> int:
                """Keys by now."""
                for _ in range(round(hours * 60)):
                    await asyncio.sleep(60)
                    if fingerprint(bob, "alice") not in keys:
                        keys.append(fingerprint(bob, "alice"))
                return len(keys)

            assert await pass_hours(9.9) == 1
            assert await pass_hours(0.2) == 2
            for keys_before, years in enumerate((1, -1, 50, -40), 2):
                wall.jump(years * 365 * 86_400)
                assert await pass_hours(9.7) == keys_before
                assert await pass_hours(0.3) == keys_before + 1
            await connected(alice, bob)

    virtual(main())


def test_a_key_can_be_asked_for_at_either_end_at_both_and_while_another_is_agreed_on(folder: Path) -> None:
    world = World(folder, loss=0.1)

    async def main() -> None:
        async with world.pair() as (alice, bob):
            await connected(alice, bob)
            for asking in ([alice], [bob], [alice, bob], [alice, alice, bob, bob]):
                peers = ["bob" if node is alice else "alice" for node in asking]
                outcomes = await asyncio.gather(*(n.establish(p) for n, p in zip(asking, peers, strict=True)))
                assert all(outcome["established"] for outcome in outcomes), outcomes
                assert len({outcome["fingerprint"] for outcome in outcomes}) == 1
                assert len({outcome["sas"] for outcome in outcomes}) == 1
                await connected(alice, bob)
                assert outcomes[0]["fingerprint"] == fingerprint(alice, "bob")

    virtual(main())


def test_an_establishment_that_can_not_be_says_why(folder: Path) -> None:
    world = World(folder)

    async def main() -> None:
        alice = await world.start("alice", "bob")
        outcome = await alice.establish("bob")
        assert not outcome["established"]
        assert "does not listen" in outcome["reason"]
        bob = await world.start("bob", "alice", establish__profile="paper", establish__exchange_shares=False)
        await until(lambda: peer_of(alice, "bob")["state"] == "establishing")
        outcome = await alice.establish("bob")
        assert (outcome["established"], outcome["peer"]) == (False, "bob")
        assert outcome["reason"].startswith("nobody accepted the request: 20 requests were sent, and bob is linked")
        assert "no key: nobody accepted" in peer_of(alice, "bob")["trouble"]
        assert "another profile" in peer_of(bob, "alice")["trouble"]
        never = await world.start("carol", "dave", dial="never")
        assert "not connected" in (await never.establish("dave"))["reason"]
        await world.close()

    virtual(main())


def test_an_authentication_key_proves_the_peer_and_a_wrong_one_gives_no_key(folder: Path, tmp_path: Path) -> None:
    world = World(folder)

    def key_file(content: bytes) -> str:
        path = tmp_path / content.decode()
        path.write_bytes(content * 4)
        path.chmod(0o600)
        return str(path)

    async def main() -> None:
        for at_bob, good in ((b"right", True), (b"wrong", False)):
            files = {"alice": key_file(b"right"), "bob": key_file(at_bob)}
            for name, peer in (("alice", "bob"), ("bob", "alice")):
                table = PeerTable(peer, ADDRESSES[peer], authentication_key_file=files[name])
                await world.start(name, peer=(table,))
            await until(lambda: peer_of(world.nodes["alice"], "bob")["state"] != "not connected")
            outcome = await world.nodes["alice"].establish("bob")
            assert outcome["established"] is good
            assert outcome.get("authenticated", False) is good
            await world.close()
            for name in ("alice", "bob"):
                shutil.rmtree(folder / name)

    virtual(main())


def test_a_node_whose_socket_another_serves_says_so_and_stops_cleanly(folder: Path) -> None:
    world = World(folder)

    async def main() -> None:
        await world.start("alice", "bob")
        config = world.config("bob", ("alice",), node__socket=folder / "alice.sock")
        second = Node(config, Media(world.airs, ADDRESSES["bob"]), ADDRESSES["bob"])
        with pytest.raises(UsageError, match=r"a node runs already on .*alice.sock: stop it first"):
            await second.start()
        await second.stop()
        assert (folder / "alice.sock").exists()
        await world.close()

    virtual(main())
