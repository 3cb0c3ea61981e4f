"""Whom a node talks to, and since when: confirmed peers, keys from nowhere, and for whom there is a string."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import secrets
import sqlite3
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from node_world import (
    ADDRESSES,
    World,
    connected,
    fingerprint,
    now,
    peer_of,
    read,
    until,
    virtual,
)

from bt_selfsecure.bearers.base import Link
from bt_selfsecure.errors import UsageError
from bt_selfsecure.node.config import PeerTable, address_bytes
from bt_selfsecure.node.journal_file import digest
from bt_selfsecure.node.service import Node
from bt_selfsecure.node.set_aside import FILE
from bt_selfsecure.node.state import backup, restore, set_aside
from bt_selfsecure.protocols.haoxiao.establish import EstablishConfig
from bt_selfsecure.protocols.haoxiao.events import Established
from bt_selfsecure.protocols.haoxiao.initiator import Initiator
from bt_selfsecure.protocols.haoxiao.initiator_table import OVER
from bt_selfsecure.sansio.context import EndpointContext

HOUR = 3600.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def trust(node: Node, name: str) -> dict[str, Any]:
    found: dict[str, Any] = peer_of(node, name)["trust"]
    return found


def string(node: Node, name: str) -> str:
    key = peer_of(node, name)["key"]
    return str(key["sas"]) if key else ""


async def compared(alice: Node, bob: Node) -> None:
    """A person at each end asks for a key, they read the strings to each other, and both confirm."""
    outcomes = await asyncio.gather(alice.establish("bob"), bob.establish("alice", wait=True))
    assert all(outcome["established"] for outcome in outcomes), outcomes
    await connected(alice, bob)
    for node, name in ((alice, "bob"), (bob, "alice")):
        answer = node.confirm(name, outcomes[0]["sas"][:7], "jane")
        assert answer == {"confirmed": True, "peer": name, "reason": ""}


async def mallory_takes_the_place_of_bob(world: World) -> Node:
    """She has his address and nothing else."""
    await world.stop("bob")
    world.folder = world.folder / "mallory"
    world.folder.mkdir()
    return await world.start("bob", "alice")


async def draw(link: Link, drawn: list[bytes]) -> None:
    """Agree on keys in Alice's name, one after the other, and never use one."""
    own = address_bytes(ADDRESSES["alice"])
    establish = EstablishConfig(own, burst=2000, interval=0.0001, max_requests=5, exchange_shares=True)
    while True:
        initiator = Initiator(establish, EndpointContext(secrets.token_bytes))
        initiator.start(now())
        while initiator.state not in OVER:
            for frame in initiator.frames_to_send(now()):
                await link.send(frame)
            due = initiator.get_timer() or now() + 0.05
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.001, due - now())):
                    initiator.receive_frame(await link.receive(), now())
            initiator.handle_timer(now())
        while (event := initiator.next_event()) is not None:
            if isinstance(event, Established):
                drawn.append(event.k0)


# --- a key from nowhere in the place of one in use --------------------------------------------------------------------


def test_the_key_of_a_confirmed_peer_is_not_replaced_by_one_who_has_only_its_address(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(folder, establish__exchange_shares=True)

    async def main() -> None:
        alice, bob = await world.start("alice", "bob"), await world.start("bob", "alice")
        await connected(alice, bob)
        await compared(alice, bob)
        before = fingerprint(alice, "bob")
        bobs_folder = world.folder
        mallory = await mallory_takes_the_place_of_bob(world)
        await alice.send("bob", b"open the door: 4711")
        await asyncio.sleep(900)
        assert fingerprint(mallory, "alice") is None
        assert fingerprint(alice, "bob") == before
        assert peer_of(mallory, "alice")["queues"]["inbox"] == 0
        assert peer_of(alice, "bob")["queues"]["outbox"] == 1
        told = trust(alice, "bob")
        assert told["confirmed"] == "string"
        assert told["refused"] > 0
        warnings = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
        assert any("establish bob --without-continuity" in warning for warning in warnings)
        # The session in force goes on with the true one.
        await world.stop("bob")
        world.folder = bobs_folder
        bob = await world.start("bob", "alice")
        assert await asyncio.wait_for(read(bob, 1), 600) == [b"open the door: 4711"]
        assert fingerprint(alice, "bob") == before
        assert peer_of(alice, "bob")["trouble"] == "", "what a stranger tried is no reason to give up a confirmation"
        await world.close()

    virtual(main())


def test_an_unconfirmed_peer_heals_by_itself_and_each_key_from_nowhere_is_counted(folder: Path) -> None:
    world = World(folder)

    async def main() -> None:
        alice, bob = await world.start("alice", "bob"), await world.start("bob", "alice")
        await connected(alice, bob)
        assert trust(alice, "bob")["keys_from_nowhere"] == 0
        for lost in range(1, 4):
            bob = await mallory_takes_the_place_of_bob(world)
            await connected(alice, bob, HOUR)
            told = trust(alice, "bob")
            assert (told["confirmed"], told["keys_from_nowhere"]) == (None, lost)
            assert trust(bob, "alice")["keys_from_nowhere"] == 0, "to him it is the first"
            assert string(alice, "bob") == string(bob, "alice") == ""
        await world.close()

    virtual(main())


@pytest.mark.long
def test_keys_from_nowhere_come_once_a_minute_and_then_once_an_hour(folder: Path) -> None:
    world = World(folder)

    async def main() -> None:
        alice, bob = await world.start("alice", "bob"), await world.start("bob", "alice")
        await connected(alice, bob)
        times: list[float] = []
        while len(times) < 9:
            await mallory_takes_the_place_of_bob(world)
            await until(lambda: trust(alice, "bob")["keys_from_nowhere"] > len(times), 3 * HOUR, step=10.0)
            times.append(now() - peer_of(alice, "bob")["key"]["age_s"])
        waits = [later - earlier for earlier, later in pairwise(times)]
        least = [min(60 * 2**number, HOUR) for number in range(len(waits))]
        assert all(at_least <= wait < at_least + 200 for wait, at_least in zip(waits, least, strict=True)), waits
        await world.close()

    virtual(main())


def test_a_confirmed_peer_that_lost_its_state_needs_a_person(folder: Path) -> None:
    world = World(folder)

    async def main() -> None:
        alice, bob = await world.start("alice", "bob"), await world.start("bob", "alice")
        await connected(alice, bob)
        await compared(alice, bob)
        bob = await mallory_takes_the_place_of_bob(world)
        outcome = await asyncio.wait_for(alice.establish("bob"), 900)
        assert not outcome["established"]
        assert "establish bob --without-continuity" in outcome["reason"]
        outcome = await asyncio.wait_for(alice.establish("bob", without_continuity=True), 900)
        assert outcome["established"]
        assert outcome["sas"]
        await connected(alice, bob)
        assert trust(alice, "bob")["confirmed"] is None
        await world.close()

    virtual(main())


def test_what_cannot_reach_the_peer_takes_no_confirmation_and_what_takes_it_is_on_disk(folder: Path) -> None:
    """As the disk has it when the node is killed at once."""
    world = World(folder)

    async def main() -> None:
        alice = await world.start("alice", "bob", dial="never")
        bob = await world.start("bob", "alice", dial="always")
        await connected(alice, bob)
        await compared(alice, bob)
        await world.stop("bob")
        await until(lambda: peer_of(alice, "bob")["state"] != "connected")
        assert not (await alice.establish("bob", without_continuity=True))["established"]
        assert trust(alice, "bob")["confirmed"] == "string"
        world.folder = folder / "mallory"
        world.folder.mkdir()
        bob = await world.start("bob", "alice", dial="always")
        await until(lambda: peer_of(alice, "bob")["link"])
        assert (await asyncio.wait_for(alice.establish("bob", without_continuity=True), 900))["established"]
        assert trust(alice, "bob")["confirmed"] is None
        world.folder = folder
        await world.stop("alice")
        alice = await world.start("alice", "bob", dial="never")
        assert trust(alice, "bob")["confirmed"] is None
        await world.close()

    virtual(main())


@pytest.mark.parametrize("end", ["gone", "silent", "cancelled", "crashed"])
def test_a_wish_for_a_key_without_continuity_that_fails_takes_no_confirmation_and_allows_nobody_one_later(
    folder: Path, end: str
) -> None:
    """The link ends while it waits, or the peer is silent, or the person waits no more, or power fails."""
    world = World(folder)

    async def main() -> None:
        alice, bob = await world.start("alice", "bob"), await world.start("bob", "alice")
        await connected(alice, bob)
        await compared(alice, bob)
        before = fingerprint(alice, "bob")
        bob._peers[ADDRESSES["alice"]]._machine.receive = lambda *args, **kwargs: None  # type: ignore[method-assign]
        waiting = asyncio.create_task(alice.establish("bob", without_continuity=True))
        await asyncio.sleep(1)
        assert trust(alice, "bob")["confirmed"] == "string", "while it waits"
        if end == "cancelled":
            plain = asyncio.create_task(alice.establish("bob"))
            await asyncio.sleep(1)
            waiting.cancel()
            await mallory_takes_the_place_of_bob(world)
            assert not (await plain)["established"], "who has not allowed it gets none"
        elif end == "crashed":
            await world.stop("alice")
            alice = await world.start("alice", "bob")
            await mallory_takes_the_place_of_bob(world)
        else:
            if end == "silent":
                assert not (await asyncio.wait_for(waiting, 900))["established"]
            await mallory_takes_the_place_of_bob(world)
            if end == "gone":
                assert not (await asyncio.wait_for(waiting, 900))["established"]
        await asyncio.sleep(900)
        told = trust(alice, "bob")
        assert (told["confirmed"], told["by"], told["keys_from_nowhere"]) == ("string", "jane", 0)
        assert told["refused"] > 0
        assert fingerprint(alice, "bob") == before
        await world.close()

    virtual(main())


def test_who_allows_a_key_without_continuity_and_gets_one_with_it_has_lost_nothing(folder: Path) -> None:
    world = World(folder)

    async def main() -> None:
        alice, bob = await world.start("alice", "bob"), await world.start("bob", "alice")
        await connected(alice, bob)
        await compared(alice, bob)
        outcome = await asyncio.wait_for(alice.establish("bob", without_continuity=True), 900)
        assert outcome["established"]
        assert outcome["continuity"]
        assert trust(alice, "bob")["confirmed"] == "string"
        await world.close()

    virtual(main())


def test_the_refusals_of_before_are_not_those_of_a_peer_that_is_confirmed_or_no_longer(folder: Path) -> None:
    world = World(folder)

    async def main() -> None:
        alice, bob = await world.start("alice", "bob"), await world.start("bob", "alice")
        await connected(alice, bob)
        assert (trust(alice, "bob")["refused"], trust(alice, "bob")["refused_why"]) == (0, None)
        await compared(alice, bob)
        bob = await mallory_takes_the_place_of_bob(world)
        await asyncio.sleep(900)
        told = trust(alice, "bob")
        assert told["refused"] > 0
        assert told["refused_why"] == "no continuity"
        counted = peer_of(alice, "bob")["counts"]["refused_keys"]
        assert (await asyncio.wait_for(alice.establish("bob", without_continuity=True), 900))["established"]
        told = trust(alice, "bob")
        assert (told["confirmed"], told["refused"], told["refused_why"], told["refused_age_s"]) == (None, 0, None, None)
        bob = await mallory_takes_the_place_of_bob(world)
        await until(lambda: trust(alice, "bob")["refused"] > 0)
        assert trust(alice, "bob")["refused_why"] == "too soon"
        await connected(alice, bob, HOUR)
        await compared(alice, bob)
        assert (trust(alice, "bob")["refused"], trust(alice, "bob")["refused_why"]) == (0, None)
        assert peer_of(alice, "bob")["counts"]["refused_keys"] > counted, "that of the metrics goes on"
        await world.close()

    virtual(main())


@pytest.mark.parametrize("confirmed", [True, False])
def test_strings_that_differed_stay_in_status_over_restarts_until_some_are_equal(folder: Path, confirmed: bool) -> None:
    world = World(folder)

    async def main() -> None:
        alice, bob = await world.start("alice", "bob"), await world.start("bob", "alice")
        await connected(alice, bob)
        assert trust(alice, "bob")["differed_by"] is None
        if confirmed:
            await compared(alice, bob)
        await alice.establish("bob")
        await connected(alice, bob)
        assert not alice.confirm("bob", "", "pi")["confirmed"]
        for _ in range(2):
            told = trust(alice, "bob")
            assert (told["confirmed"], told["differed_by"]) == ("string" if confirmed else None, "pi")
            assert told["differed_since"] is not None
            await world.stop("alice")
            alice = await world.start("alice", "bob")
            await connected(alice, bob)
        await compared(alice, bob)
        assert (trust(alice, "bob")["differed_by"], trust(alice, "bob")["differed_since"]) == (None, None)
        await world.close()

    virtual(main())


def test_what_is_no_string_is_called_so_also_where_there_is_none_to_compare_it_with(folder: Path) -> None:
    world = World(folder)

    async def main() -> None:
        alice = await world.start("alice", "bob")
        for of in ("12345", "apple river stone"):
            with pytest.raises(UsageError, match="six digits, or four words"):
                alice.confirm("bob", of, "jane")
        assert "there is no string" in alice.confirm("bob", "123456", "jane")["reason"]
        await connected(alice, await world.start("bob", "alice"))
        with pytest.raises(UsageError, match="six digits, or four words"):
            alice.confirm("bob", "12345", "jane")
        await world.close()

    virtual(main())


def test_a_moment_that_there_was_not_is_null_on_disk_and_one_of_an_older_version_is_none(folder: Path) -> None:
    world = World(folder)

    def facts() -> dict[str, Any]:
        with contextlib.closing(sqlite3.connect(folder / "alice" / FILE)) as database:
            return dict(json.loads(database.execute("SELECT facts FROM peer").fetchone()[0]))

    async def main() -> None:
        alice, bob = await world.start("alice", "bob"), await world.start("bob", "alice")
        await connected(alice, bob)
        await world.stop("alice")
        assert facts()["trust"]["at"] is None
        old = json.loads(json.dumps(facts()))
        old["trust"]["at"] = {"since": -999998204032558.2, "written": 1795967441.8}
        del old["trust"]["differed"]
        with contextlib.closing(sqlite3.connect(folder / "alice" / FILE)) as database, database:
            database.text_factory = bytes
            row = database.execute("SELECT * FROM peer").fetchone()
            text = json.dumps(old).encode()
            fitting = digest("peer", *row[:2], text, row[3])
            database.execute("UPDATE peer SET facts = CAST(? AS TEXT), digest = ?", (text, fitting))
        alice = await world.start("alice", "bob")
        assert fingerprint(alice, "bob") == old["key"]["fingerprint"]
        told = trust(alice, "bob")
        assert (told["confirmed_since"], told["differed_by"]) == (None, None)
        assert told["first_since"] is not None
        await world.close()

    virtual(main())


def test_a_confirmation_survives_new_keys_and_restarts_and_is_told_with_its_age(folder: Path) -> None:
    world = World(folder)

    async def main() -> None:
        alice, bob = await world.start("alice", "bob"), await world.start("bob", "alice")
        await connected(alice, bob)
        await compared(alice, bob)
        for _ in range(2):
            before = fingerprint(alice, "bob")
            assert (await bob.establish("alice"))["continuity"]
            await until(lambda node=alice, before=before: fingerprint(node, "bob") != before)
            for name, peer in (("alice", "bob"), ("bob", "alice")):
                await world.stop(name)
                await world.start(name, peer)
            alice, bob = world.nodes["alice"], world.nodes["bob"]
            await connected(alice, bob)
        for told in (trust(alice, "bob"), trust(bob, "alice")):
            assert (told["confirmed"], told["by"], told["keys_from_nowhere"]) == ("string", "jane", 0)
            assert told["confirmed_age_s"] is not None
        await world.close()

    virtual(main())


def test_who_owns_the_disk_of_a_confirmed_peer_can_be_it_and_the_true_one_is_refused_then_and_told(
    folder: Path,
) -> None:
    world = World(folder)

    async def main() -> None:
        alice, bob = await world.start("alice", "bob"), await world.start("bob", "alice")
        await connected(alice, bob)
        await compared(alice, bob)
        await asyncio.sleep(5)
        await world.stop("bob")
        backup(folder / "bob", folder / "mallory")
        true_one, world.folder = world.folder, folder / "her"
        world.folder.mkdir()
        restore(folder / "mallory", world.folder / "bob")
        mallory = await world.start("bob", "alice")
        await connected(alice, mallory)
        for _ in range(2):  # with one key since, the true one would still have what was before
            before = fingerprint(alice, "bob")
            assert (await mallory.establish("alice"))["continuity"]
            await until(lambda before=before: fingerprint(alice, "bob") != before)
            await connected(alice, mallory)
        assert trust(alice, "bob")["confirmed"] == "string"
        await world.stop("bob")
        world.folder = true_one
        await world.start("bob", "alice")
        await until(lambda: trust(alice, "bob")["refused"] > 0, 900)
        assert "is refused" in peer_of(alice, "bob")["trouble"]
        await world.close()

    virtual(main())


# --- the string -------------------------------------------------------------------------------------------------------


def test_unattended_keys_have_no_string(folder: Path) -> None:
    world = World(folder, establish__renew_after_hours=1.0)

    async def main() -> None:
        alice, bob = await world.start("alice", "bob"), await world.start("bob", "alice")
        await connected(alice, bob)
        for _ in range(20):
            await asyncio.sleep(600)
            assert string(alice, "bob") == string(bob, "alice") == ""
        assert peer_of(alice, "bob")["counts"]["establishments"] > 2
        await world.close()

    virtual(main())


def test_whoever_has_the_peers_address_draws_few_keys_in_an_hour_and_no_string(folder: Path) -> None:
    """Without a word under any of them. A person who asks afterwards has a string of the one key that he asked for."""
    world = World(folder)
    drawn: list[bytes] = []

    async def main() -> None:
        bob = await world.start("bob", "alice")
        await until(lambda: ADDRESSES["bob"] in world.air.listeners)
        link = await world.air.bearer(ADDRESSES["alice"]).connect(ADDRESSES["bob"])
        drawing = asyncio.create_task(draw(link, drawn))
        for _ in range(60):
            await asyncio.sleep(60)
            assert string(bob, "alice") == ""
        drawing.cancel()
        await link.close()
        assert 2 <= len(drawn) <= 9, len(drawn)
        assert trust(bob, "alice")["keys_from_nowhere"] == len(drawn) - 1
        assert trust(bob, "alice")["refused"] > 0
        alice = await world.start("alice", "bob")
        outcomes = await asyncio.gather(alice.establish("bob"), bob.establish("alice", wait=True))
        assert outcomes[0]["sas"] == outcomes[1]["sas"] != ""
        await world.close()

    virtual(main())


def test_an_end_at_which_nobody_asked_has_no_string_and_one_that_waits_has_the_same(folder: Path) -> None:
    world = World(folder)

    async def main() -> None:
        alice, bob = await world.start("alice", "bob"), await world.start("bob", "alice")
        await connected(alice, bob)
        outcome = await alice.establish("bob")
        await connected(alice, bob)
        assert string(alice, "bob") == outcome["sas"] != ""
        assert string(bob, "alice") == ""
        waiting = asyncio.create_task(bob.establish("alice", wait=True))
        await asyncio.sleep(3 * HOUR)
        assert not waiting.done(), "it does not begin"
        outcome = await alice.establish("bob")
        assert (await waiting)["sas"] == outcome["sas"] != ""
        await connected(alice, bob)
        assert string(alice, "bob") == string(bob, "alice") == outcome["sas"]
        await world.close()

    virtual(main())


def test_who_waits_no_more_gets_no_string(folder: Path) -> None:
    world = World(folder)

    async def main() -> None:
        alice, bob = await world.start("alice", "bob"), await world.start("bob", "alice")
        await connected(alice, bob)
        waiting = asyncio.create_task(bob.establish("alice", wait=True))
        await asyncio.sleep(1)
        waiting.cancel()
        await asyncio.sleep(1)
        await alice.establish("bob")
        await connected(alice, bob)
        assert string(bob, "alice") == ""
        await world.close()

    virtual(main())


def test_a_string_is_for_one_comparison(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = World(folder)

    async def main() -> None:
        alice, bob = await world.start("alice", "bob"), await world.start("bob", "alice")
        await connected(alice, bob)
        await alice.establish("bob")
        await connected(alice, bob)
        own = string(alice, "bob")
        with pytest.raises(UsageError, match="six digits, or four words"):
            alice.confirm("bob", "12345", "jane")
        wrong = f"{(int(own[:3] + own[4:7]) + 1) % 1_000_000:06d}"
        answer = alice.confirm("bob", wrong, "jane")
        assert not answer["confirmed"]
        assert "the strings differ" in answer["reason"]
        answer = alice.confirm("bob", own, "jane")
        assert not answer["confirmed"], "the first comparison was the last"
        assert "there is no string" in answer["reason"]
        assert trust(alice, "bob")["confirmed"] is None
        assert "the strings differ" in caplog.text
        await world.close()

    virtual(main())


def test_no_string_confirms_a_peer_while_a_newer_key_with_it_may_be_somebody_elses(folder: Path) -> None:
    world = World(folder)
    drawn: list[bytes] = []

    async def main() -> None:
        alice, bob = await world.start("alice", "bob"), await world.start("bob", "alice")
        await connected(alice, bob)
        await bob.establish("alice")
        await connected(alice, bob)
        own = string(bob, "alice")
        await world.stop("alice")
        await until(lambda: peer_of(bob, "alice")["link"] is None)
        link = await world.air.bearer(ADDRESSES["alice"]).connect(ADDRESSES["bob"])
        drawing = asyncio.create_task(draw(link, drawn))
        await until(lambda: drawn)
        await asyncio.sleep(1)
        drawing.cancel()
        await link.close()
        assert string(bob, "alice") == own, "that of the key in use"
        answer = bob.confirm("alice", own, "jane")
        assert not answer["confirmed"]
        assert "does not use the newest key yet" in answer["reason"]
        await world.close()

    virtual(main())


# --- whom an authentication key proves --------------------------------------------------------------------------------


def key_file(folder: Path, name: str = "group") -> str:
    (path := folder / f"{name}.key").write_bytes(name.encode().ljust(32, b"k"))
    path.chmod(0o600)
    return str(path)


def table(folder: Path, name: str) -> PeerTable:
    return PeerTable(name, ADDRESSES[name], authentication_key_file=key_file(folder))


def test_an_authentication_key_of_one_peer_confirms_it_and_takes_continuity_from_then_on(folder: Path) -> None:
    world = World(folder)

    async def main() -> None:
        alice = await world.start("alice", peer=(table(folder, "bob"),))
        bob = await world.start("bob", peer=(table(folder, "alice"),))
        await connected(alice, bob)
        assert peer_of(alice, "bob")["key"]["authenticated"]
        assert trust(alice, "bob")["confirmed"] == "authentication key"
        before = fingerprint(alice, "bob")
        await world.stop("bob")
        world.folder = folder / "without"
        world.folder.mkdir()
        bob = await world.start("bob", peer=(table(folder, "alice"),))
        await asyncio.sleep(900)
        assert fingerprint(alice, "bob") == before
        assert (await alice.establish("bob", without_continuity=True))["authenticated"]
        await connected(alice, bob)
        assert trust(alice, "bob")["confirmed"] == "authentication key"
        await world.close()

    virtual(main())


def test_a_key_that_several_peers_have_authenticates_none_of_them(folder: Path) -> None:
    world = World(folder)

    async def main() -> None:
        copy = key_file(folder, "copy")
        Path(copy).write_bytes(Path(key_file(folder)).read_bytes())
        tables = (
            table(folder, "bob"),
            replace(table(folder, "carol"), authentication_key_file=copy),
        )
        alice = await world.start("alice", peer=tables)
        bob = await world.start("bob", peer=(table(folder, "alice"),))
        await connected(alice, bob)
        assert not peer_of(alice, "bob")["key"]["authenticated"]
        told = trust(alice, "bob")
        assert (told["confirmed"], told["shared_key"]) == (None, True)
        assert trust(bob, "alice")["confirmed"] == "authentication key", "he knows nobody else who has it"
        await world.close()

    virtual(main())


def test_a_relay_to_another_who_has_the_same_authentication_key_gets_no_key(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What listens on Bob's address is Carol."""
    world = World(folder)

    async def main() -> None:
        alice = await world.start("alice", peer=(table(folder, "bob"),))
        carol = await world.start("carol", peer=(table(folder, "alice"),))
        await until(lambda: ADDRESSES["carol"] in world.air.listeners)
        world.air.listeners[ADDRESSES["bob"]] = world.air.listeners[ADDRESSES["carol"]]
        await asyncio.sleep(600)
        assert fingerprint(alice, "bob") is None
        assert fingerprint(carol, "alice") is None
        assert "another one answered than who was asked" in caplog.text
        await world.close()

    virtual(main())


# --- `paper` ----------------------------------------------------------------------------------------------------------


def test_paper_has_strings_as_ever_and_confirms_nobody(folder: Path) -> None:
    world = World(folder, establish__profile="paper", establish__exchange_shares=False, establish__target_bits=1.0)

    async def main() -> None:
        alice, bob = await world.start("alice", "bob"), await world.start("bob", "alice")
        await connected(alice, bob)
        assert string(alice, "bob") == string(bob, "alice") != ""
        answer = alice.confirm("bob", string(alice, "bob"), "jane")
        assert not answer["confirmed"]
        assert "has no continuity" in answer["reason"]
        bob = await mallory_takes_the_place_of_bob(world)
        await connected(alice, bob, HOUR)
        assert trust(alice, "bob")["keys_from_nowhere"] == 0
        await world.close()

    virtual(main())


# --- what earlier versions kept ---------------------------------------------------------------------------------------


def of_version_2(folder: Path, name: str) -> None:
    """As its node of version 2 of `hardened` has left it."""
    (folder / name).mkdir()
    text = (Path(__file__).parent / "fixtures" / f"hardened-2-{name}.sql").read_text()
    with contextlib.closing(sqlite3.connect(folder / name / FILE)) as database, database:
        database.executescript(text)


@pytest.mark.parametrize("upgraded", [("alice", "bob"), ("alice",)])
def test_a_state_of_version_2_goes_on_with_its_key_and_confirms_nobody(folder: Path, upgraded: tuple[str, ...]) -> None:
    """Nothing of the key before is left there, so the first key after it is one from nowhere, and no other."""
    world = World(folder)

    async def main() -> None:
        for name in upgraded:
            of_version_2(folder, name)
        alice, bob = await world.start("alice", "bob"), await world.start("bob", "alice")
        assert peer_of(alice, "bob")["key"]["fingerprint"] == "7d31-13e2-0e4b"
        assert string(alice, "bob") == "", "nobody has asked for it"
        assert trust(alice, "bob")["confirmed"] is None
        waiting = [*(b"before %d" % i for i in range(3)), b"sent by version 2"][-4 if len(upgraded) == 2 else -1 :]
        assert await asyncio.wait_for(read(bob, len(waiting)), 600) == waiting
        assert (fingerprint(alice, "bob") == "7d31-13e2-0e4b") is (len(upgraded) == 2)
        await connected(alice, bob)
        assert (await alice.establish("bob"))["established"]
        await connected(alice, bob)
        assert (await alice.establish("bob"))["continuity"]
        assert trust(alice, "bob")["keys_from_nowhere"] == 1
        await connected(alice, bob)
        await compared(alice, bob)
        await world.close()

    virtual(main())


@pytest.mark.parametrize(
    "damage",
    [
        '"confirmed": "string"',
        '"confirmed": "STRING"',
        '"confirmed": 7',
        '"nowhere": "x"',
        '"at": 5',
        '"first": {"x": 1}',
        '"differed": 5',
        '"differed": {"by": "pi"}',
    ],
)
def test_a_damaged_cell_confirms_nobody(folder: Path, damage: str) -> None:
    """The card changes the facts; and the same with a digest that fits, for the reader."""
    world = World(folder)
    name, _, _ = damage.partition(":")

    async def main() -> None:
        for fits in (False, True):
            alice, bob = await world.start("alice", "bob"), await world.start("bob", "alice")
            await connected(alice, bob)
            for each in ("alice", "bob"):
                await world.stop(each)
            with contextlib.closing(sqlite3.connect(folder / "alice" / FILE)) as database, database:
                database.text_factory = bytes
                row = database.execute("SELECT * FROM peer").fetchone()
                facts = row[2].decode()
                assert facts.count(name) == 1
                facts = re.sub(rf"{name}: ({{[^}}]*}}|[^,}}]+)", damage, facts).encode()
                assert facts != row[2]
                fitting = digest("peer", *row[:2], facts, row[3])
                told = fitting if fits else row[4]
                database.execute("UPDATE peer SET facts = CAST(? AS TEXT), digest = ?", (facts, told))
            if fits and damage.endswith('"string"'):
                return  # that is no damage
            alice, bob = await world.start("alice", "bob"), await world.start("bob", "alice")
            assert trust(alice, "bob")["confirmed"] is None
            await connected(alice, bob, HOUR)
            assert trust(alice, "bob")["confirmed"] is None
            await world.close()

    virtual(main())


def test_a_confirmation_is_in_a_backup_and_comes_back_with_it(folder: Path) -> None:
    world = World(folder)

    async def main() -> None:
        alice, bob = await world.start("alice", "bob"), await world.start("bob", "alice")
        await connected(alice, bob)
        await compared(alice, bob)
        await asyncio.sleep(5)
        await world.stop("alice")
        backup(folder / "alice", folder / "copy")
        set_aside(folder / "alice")
        restore(folder / "copy", folder / "alice", drop_messages=False)
        alice = await world.start("alice", "bob")
        await connected(alice, bob)
        assert trust(alice, "bob")["confirmed"] == trust(bob, "alice")["confirmed"] == "string"
        assert (await alice.establish("bob"))["continuity"]
        await world.close()

    virtual(main())
