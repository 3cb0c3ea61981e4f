"""Whoever is near can reach a node that accepts anyone: what he can cause stays small."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import itertools
import logging
import os
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from amounts import at_length
from node_world import (
    ADDRESSES,
    World,
    connected,
    fingerprint,
    is_connected,
    now,
    peer_of,
    read,
    unread,
    until,
    virtual,
)

from bt_selfsecure.bearers.base import BearerError, Link, LinkClosedError
from bt_selfsecure.node.config import address_bytes
from bt_selfsecure.node.journal_file import JournalError
from bt_selfsecure.node.peers import STRANGER_S, STRANGERS
from bt_selfsecure.node.service import Node
from bt_selfsecure.node.set_aside import FILE
from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.establish import MAX_T_1_S, EstablishConfig, Timers
from bt_selfsecure.protocols.haoxiao.frames import Frame, Kind, Profile, decode, encode, peek_kind
from bt_selfsecure.protocols.haoxiao.initiator import Initiator
from bt_selfsecure.sansio.context import EndpointContext

OWN = address_bytes(ADDRESSES["mallory"])


def request(draw: random.Random) -> bytes:
    """Under his own name or a made-up one, of either profile."""
    identity = draw.choice((OWN, draw.randbytes(6)))
    profile = draw.choice(list(Profile))
    return request_of(identity, draw, profile)


def request_of(identity: bytes, draw: random.Random, profile: Profile = Profile.HARDENED, **settings: Any) -> bytes:
    settings = {"timers": Timers() if profile is Profile.HARDENED else Timers(t_1=4.0)} | settings
    initiator = Initiator(
        EstablishConfig(identity, profile, exchange_shares=profile is Profile.HARDENED, **settings),
        EndpointContext(draw.randbytes),
    )
    initiator.start(0.0)
    return initiator.frames_to_send(0.0)[0]


def test_t_d_holds_and_the_log_stays_short_under_a_flood_of_requests(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path, node__accept="anyone")
    draw = random.Random(1)
    accepted = set()

    async def listen(link: Link) -> None:
        while True:
            data = await link.receive()
            if peek_kind(data) is Kind.ACCEPT:
                accepted.add(data)

    async def main() -> None:
        async with world.pair() as (alice, bob):
            await connected(alice, bob)
            caplog.clear()
            link = await world.air.bearer(ADDRESSES["mallory"]).connect(ADDRESSES["bob"])
            listening = asyncio.create_task(listen(link))
            for _ in range(2000):
                await link.send(request(draw))
                await asyncio.sleep(0.05)
            listening.cancel()
            await link.close()
            await connected(alice, bob)

    with caplog.at_level(logging.INFO):
        virtual(main())
    assert len(accepted) == 10, "in 100 s with T_d = 10 s"
    assert len([line for line in caplog.messages if line.startswith(ADDRESSES["mallory"])]) < 12


# --- all strangers together


OF_PROFILE: dict[str, dict[str, Any]] = {
    "hardened": {"establish__exchange_shares": True},
    "paper": {
        "establish__profile": "paper",
        "establish__exchange_shares": False,
        "establish__target_bits": 1.0,
    },
}
"""How its nodes are configured."""


def made_up(number: int) -> str:
    """An address that nobody has."""
    return "02:" + number.to_bytes(5).hex(":").upper()


async def call(world: World, address: str, called: str = "bob") -> Link:
    return await world.air.bearer(address).connect(ADDRESSES[called])


async def keyed_stranger(world: World, name: str) -> Node:
    """A node that Bob has not configured, and that has a key with him."""
    node = await world.start(name, "bob", node__accept="configured", dial="always")
    await until(lambda: is_connected(node, "bob"), 900)
    await node.send("bob", b"hello", until="acknowledged")
    assert await read(world.nodes["bob"], 1) == [b"hello"]
    return node


def rows(folder: Path) -> dict[str, int]:
    """How many of each table are in a node's journal, as another program sees it."""
    with closing(sqlite3.connect(f"file:{folder / FILE}?mode=ro", uri=True)) as database:
        tables = "peer", "outbox", "partial", "inbox"
        return {table: database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}


@pytest.mark.parametrize("profile", OF_PROFILE)
def test_silent_connections_push_nobody_out_who_has_a_key(tmp_path: Path, profile: str) -> None:
    """As many as a node has links, and some: a peer with a key stays, also while it is away for an hour."""
    world = World(tmp_path, node__accept="anyone", **OF_PROFILE[profile])

    async def main() -> None:
        bob = await world.start("bob")
        await keyed_stranger(world, "carol")
        key = fingerprint(bob, ADDRESSES["carol"])
        await world.stop("carol")
        for number in range(20):
            await asyncio.sleep(180)
            links = [await call(world, made_up(number * 100 + each)) for each in range(20)]
            await asyncio.sleep(1)
            assert len(bob.peers()) <= 1 + STRANGERS
            for link in links[::2]:
                await link.close()
        assert rows(tmp_path / "bob")["peer"] == 1
        carol = await world.start("carol", "bob", node__accept="configured", dial="always")
        await until(lambda: is_connected(carol, "bob"), 60)
        assert fingerprint(bob, ADDRESSES["carol"]) == key == fingerprint(carol, "bob")
        await world.close()

    virtual(main())


def test_a_stranger_who_does_nothing_makes_room_for_one_who_comes_to_a_key(tmp_path: Path) -> None:
    world = World(tmp_path, node__accept="anyone")

    async def main() -> None:
        bob = await world.start("bob")
        await asyncio.sleep(1)
        for each in range(STRANGERS):
            await call(world, made_up(each))
        await asyncio.sleep(1)
        assert len(bob.peers()) == STRANGERS
        began = now()
        await keyed_stranger(world, "carol")
        assert now() - began < 3 * STRANGER_S
        assert sum(peer["link"] is not None for peer in bob.peers()) == STRANGERS, "one link was hung up"
        await world.close()

    virtual(main())


def test_nothing_is_written_for_a_stranger_before_a_key_is_agreed_on(tmp_path: Path) -> None:
    """Whatever he sends, and also when the node stops."""
    world = World(tmp_path, node__accept="anyone")
    draw = random.Random(3)

    async def main() -> None:
        bob = await world.start("bob", "alice")
        await asyncio.sleep(30)
        before = {path.name: path.read_bytes() for path in (tmp_path / "bob").iterdir()}
        commits = bob.journal.latency.commits
        for number in range(30):
            link = await call(world, made_up(number))
            for _ in range(20):
                with suppress(LinkClosedError):
                    await link.send(draw.choice((request(draw), draw.randbytes(50), b"\x26" + draw.randbytes(70))))
                await asyncio.sleep(0.5)
        assert {path.name: path.read_bytes() for path in (tmp_path / "bob").iterdir()} == before
        assert bob.journal.latency.commits == commits
        await world.close()

    virtual(main())
    assert rows(tmp_path / "bob") == {"peer": 0, "outbox": 0, "partial": 0, "inbox": 0}


def test_a_stranger_of_whom_the_disk_gives_nothing_is_refused_and_others_are_still_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, node__accept="anyone")

    def refuse(address: str) -> list[tuple[int, bytes | None]]:
        raise JournalError("the disk does not work")

    async def main() -> None:
        bob = await world.start("bob")
        await asyncio.sleep(1)
        with monkeypatch.context() as patch:
            patch.setattr(bob.journal, "outbox", refuse)
            link = await call(world, made_up(1))
            with pytest.raises(LinkClosedError):
                await asyncio.wait_for(link.receive(), 1.0)
        await call(world, made_up(2))
        await asyncio.sleep(0.1)
        assert [peer["address"] for peer in bob.peers()] == [made_up(2)]
        assert not bob._bearers.troubles
        await world.close()

    virtual(main())


def test_of_all_strangers_one_establishment_is_under_way_and_a_configured_peer_is_not_held_up(tmp_path: Path) -> None:
    world = World(tmp_path, node__accept="anyone")
    draw = random.Random(5)

    async def main() -> None:
        bob = await world.start("bob", "alice")
        await asyncio.sleep(1)
        links, accepted = [], 0
        for number in range(STRANGERS):
            link = await call(world, made_up(number))
            links.append(link)
            await link.send(request_of(address_bytes(made_up(number)), draw))
            with suppress(TimeoutError):
                while peek_kind(await asyncio.wait_for(link.receive(), 1)) is not Kind.ACCEPT:
                    pass
                accepted += 1
        assert accepted == 1
        alice = await world.start("alice", "bob")
        await connected(alice, bob, 60)
        await world.close()

    virtual(main())


def test_strangers_share_one_inbox_and_leave_a_configured_peers_alone(tmp_path: Path) -> None:
    """With keys, too: a made-up name that has agreed on one has proved nothing."""
    world = World(tmp_path, node__accept="anyone", node__queue_messages=10)

    async def main() -> None:
        bob = await world.start("bob", "alice")
        alice = await world.start("alice", "bob")
        await connected(alice, bob)
        strangers = [
            await world.start(name, "bob", node__accept="configured", dial="always") for name in ("carol", "dave")
        ]
        for stranger in strangers:
            await until(lambda stranger=stranger: is_connected(stranger, "bob"), 900)
            for number in range(10):
                await stranger.send("bob", b"%d" % number)
        await asyncio.sleep(60)
        assert len(await unread(bob)) == 10
        for number in range(10):
            await alice.send("bob", b"alice %d" % number, until="acknowledged")
        assert len(await unread(bob)) == 20
        await read(bob, 30)
        await world.close()

    virtual(main())


def resident_bytes() -> int:
    """Without what was freed, by this test or by one before it."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def frames_of_a_stranger(draw: random.Random, address: str, profile: Profile) -> Iterator[bytes]:
    """A request, and as many burst packets as he may send, each in as many forms as are kept; and noise."""
    identity = address_bytes(address)
    longest, most = Timers(t_1=MAX_T_1_S), limits.MAX_BURST
    settings = {"burst": most, "max_burst": most, "interval": (MAX_T_1_S - 1) / most, "timers": longest}
    asked = request_of(identity, draw, profile, **settings)
    session = decode(asked).rand[: limits.SESSION_ID_BYTES]
    yield asked
    for number in itertools.count():
        seq = number // limits.MAX_COPIES % limits.MAX_BURST
        yield encode(Frame(profile, Kind.RAND, 0, seq, session, draw.randbytes(32)))
        if number % 50 == 0:
            yield draw.choice((request(draw), draw.randbytes(40)))


@pytest.mark.parametrize(
    ("profile", "frames"),
    [
        ("hardened", 5000),
        at_length("paper", 5000),
        *(at_length(profile, 100_000) for profile in OF_PROFILE),
    ],
)
@pytest.mark.timeout(900)
def test_frames_of_strangers_move_the_memory_little_and_push_out_nobody_with_a_key(
    tmp_path: Path, profile: str, frames: int
) -> None:
    world = World(tmp_path, node__accept="anyone", **OF_PROFILE[profile])
    draw = random.Random(frames)

    async def main() -> None:
        bob = await world.start("bob", "alice")
        alice = await world.start("alice", "bob")
        await connected(alice, bob)
        await keyed_stranger(world, "carol")
        keys = fingerprint(bob, "alice"), fingerprint(bob, ADDRESSES["carol"])
        before, most, sent, identities = resident_bytes(), 0, 0, 0
        while sent < frames:
            flows = []
            for _ in range(2 * STRANGERS):
                identities += 1
                with suppress(BearerError):
                    link = await call(world, made_up(identities))
                    flows.append((link, frames_of_a_stranger(draw, made_up(identities), Profile[profile.upper()])))
            for _ in range(frames // 100):
                for link, flow in list(flows):
                    try:
                        for data in itertools.islice(flow, 120 if (link, flow) == flows[0] else 5):
                            await link.send(data)
                            sent += 1
                    except LinkClosedError:
                        flows.remove((link, flow))
                await asyncio.sleep(0.02)
            most = max(most, resident_bytes() - before)
            await asyncio.sleep(STRANGER_S)
            assert len(bob.peers()) <= 2 + STRANGERS
        assert (fingerprint(bob, "alice"), fingerprint(bob, ADDRESSES["carol"])) == keys
        assert most < 20 << 20
        assert rows(tmp_path / "bob")["peer"] == 2
        for name in ("alice", "carol"):
            await world.nodes[name].send("bob", b"still there", until="acknowledged")
        print(f"{sent} frames of {identities} identities: memory {most / 1e6:+.1f} MB")
        await world.close()

    virtual(main())


def test_five_frames_a_minute_keep_strangers_out_and_no_configured_peer(tmp_path: Path) -> None:
    """What docs/security.md says of it: whoever keeps the places of strangers keeps out strangers alone."""
    world = World(tmp_path, node__accept="anyone")

    async def main() -> None:
        bob = await world.start("bob", "alice")
        await asyncio.sleep(1)
        links = [await call(world, made_up(each)) for each in range(STRANGERS)]
        carol = await world.start("carol", "bob", node__accept="configured", dial="always")
        frames = 0
        for _ in range(12):
            await asyncio.sleep(50)
            for link in links:
                await link.send(b"\0")
                frames += 1
        assert frames / 10 < 5
        assert peer_of(carol, "bob")["key"] is None
        await connected(await world.start("alice", "bob"), bob, 60)
        for link in links:
            await link.close()
        await until(lambda: is_connected(carol, "bob"), 10 * STRANGER_S)
        await world.close()

    virtual(main())
