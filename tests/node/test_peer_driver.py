"""What drives a peer's machine: links that take nothing, and how often the disk is asked."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from node_world import ADDRESSES, World, connected, links_of, now, peer_of, read, until, virtual

from bt_selfsecure.bearers.memory import MemoryLink


def test_a_link_that_takes_nothing_is_given_up_and_dialled_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path)
    send_now = MemoryLink.send_now
    stuck: list[object] = []

    def send_unless_stuck(link: MemoryLink, data: bytes) -> bool:
        return link not in stuck and send_now(link, data)

    monkeypatch.setattr(MemoryLink, "send_now", send_unless_stuck)

    async def main() -> None:
        async with world.pair() as (alice, bob):
            await connected(alice, bob)
            stuck.extend(links_of(alice, "bob"))
            began = now()
            await alice.send("bob", b"at last", until="acknowledged")
            assert 30 < now() - began < 60
            assert not set(links_of(alice, "bob")) & set(stuck)
            assert await read(bob, 1) == [b"at last"]

    virtual(main())
    assert "the link over rfcomm took nothing for 30 s and is given up" in caplog.text


def test_a_message_that_is_waited_for_costs_every_w_no_commit_of_its_own(tmp_path: Path) -> None:
    """Nobody was told yet that it is safe; what is still queued after a second is on disk."""
    world = World(tmp_path, session__durability="every-W")

    async def main() -> None:
        async with world.pair() as (alice, bob):
            await connected(alice, bob)
            commits = [node.journal.latency.commits for node in (alice, bob)]
            for _ in range(256):
                await alice.send("bob", b"valve 3", until="acknowledged")
            for before, node in zip(commits, (alice, bob), strict=True):
                assert node.journal.latency.commits - before <= 2 * 256 // 64
            await world.stop("bob")
            messages = (b"in the session", b"in the outbox")
            waiting = [asyncio.create_task(alice.send("bob", each, until="acknowledged")) for each in messages]
            await asyncio.sleep(2)
            assert [fragment[1:] for _, fragment in alice.journal.outbox(ADDRESSES["bob"])] == [b"in the outbox"]
            row = alice.journal.peer(ADDRESSES["bob"])
            assert row
            assert messages[0].hex() in row.record
            for task in waiting:
                task.cancel()

    virtual(main())


def test_a_message_that_need_only_be_durable_is_on_disk_when_that_is_told(tmp_path: Path) -> None:
    world = World(tmp_path, session__durability="every-W")

    async def main() -> None:
        alice = await world.start("alice", "bob")
        await alice.send("bob", b"now")
        assert [fragment[1:] for _, fragment in alice.journal.outbox(ADDRESSES["bob"])] == [b"now"]
        await world.close()

    virtual(main())


def test_whoever_waits_for_a_key_is_told_when_the_adapter_goes(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def main() -> None:
        async with world.pair() as (alice, bob):
            await connected(alice, bob)
            world.air.lose = lambda datagram: True
            waiting = asyncio.create_task(alice.establish("bob"))
            await until(lambda: peer_of(alice, "bob")["state"] == "establishing")
            await alice._end()
            assert await waiting == {"established": False, "peer": "bob", "reason": "the adapter is gone"}

    virtual(main())
