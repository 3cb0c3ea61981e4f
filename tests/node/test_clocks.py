"""A Pi has no clock of its own: it begins in 1970 or at its last hour, leaps by decades when it hears of the time, and
may leap back. What a node measures and tells does not."""

from __future__ import annotations

import asyncio
import calendar
import contextlib
import itertools
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from node_world import WallClock, World, connected, fingerprint, peer_of, read, virtual
from test_two_daemons import PORTS
from two_daemons import QuickNodes, start, wait_until

from bt_selfsecure.cli.status import status_lines, watch_lines
from bt_selfsecure.node import ages
from bt_selfsecure.node.haoxiao.confirmation import Trust
from bt_selfsecure.node.haoxiao.kept import StateRows, note
from bt_selfsecure.node.haoxiao.peer_events import KeepState
from bt_selfsecure.node.journal import Journal
from bt_selfsecure.node.metrics import render
from bt_selfsecure.node.service import Node
from bt_selfsecure.node.two_nodes import ADDRESSES, OTHER
from bt_selfsecure.protocols.haoxiao.exported import KeptGenerations
from bt_selfsecure.protocols.haoxiao.frames import Profile
from bt_selfsecure.protocols.haoxiao.record import Role
from bt_selfsecure.protocols.haoxiao.session import Session
from bt_selfsecure.protocols.haoxiao.session_config import SessionConfig
from bt_selfsecure.sansio.context import EndpointContext

HOUR, DAY, YEAR = 3600.0, 86_400.0, 365.25 * 86_400.0
STARTS = {
    "1970": 5.0,
    "2000": calendar.timegm((2000, 1, 1, 0, 0, 0)),
    "2026": calendar.timegm((2026, 3, 1, 0, 0, 0)),
    "2038": calendar.timegm((2038, 1, 20, 0, 0, 0)),
    "2106": calendar.timegm((2106, 2, 8, 0, 0, 0)),
    "9999": calendar.timegm((9999, 12, 30, 0, 0, 0)),
}
JUMPS = (-10 * HOUR, 50 * YEAR, -40 * YEAR)


@pytest.fixture(params=STARTS)
def wall(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> WallClock:
    clock = WallClock(STARTS[request.param])
    for module in ("ages", "inbox"):
        monkeypatch.setattr(f"bt_selfsecure.node.{module}.time", clock)
    return clock


@asynccontextmanager
async def talking(world: World) -> AsyncIterator[tuple[Node, Node]]:
    async with world.pair() as (alice, bob):
        await connected(alice, bob)
        yield alice, bob


def test_ages_and_messages_are_right_wherever_the_clock_starts_and_jumps_in_a_session(
    tmp_path: Path, wall: WallClock
) -> None:
    async def main() -> None:
        async with talking(World(tmp_path)) as (alice, bob):
            key, first = fingerprint(alice, "bob"), peer_of(alice, "bob")
            for number, jump in enumerate((0.0, *JUMPS), 1):
                wall.jump(jump)
                await asyncio.sleep(HOUR)
                await alice.send("bob", b"%d" % number)
                assert await read(bob, 1) == [b"%d" % number]
                told = peer_of(alice, "bob")
                for part in ("key", "link"):
                    assert told[part]["age_s"] == pytest.approx(first[part]["age_s"] + number * HOUR, abs=60)
                    assert told[part]["since"] == pytest.approx(wall.time() - told[part]["age_s"])
                assert told["silent_s"] < 60
                assert told["last_seen"] == pytest.approx(wall.time(), abs=60)
                for lines in (status_lines(alice.status(), 80), watch_lines(alice.status(), 40)):
                    assert not re.search(r"\d d |unknown", "\n".join(lines))
                assert f"rfcomm for {number} h " in "\n".join(status_lines(alice.status(), 80))
                assert not re.search(rb" -\d", render(alice.status()))
            assert fingerprint(alice, "bob") == key
            assert alice.status()["uptime_s"] == pytest.approx(4 * HOUR, abs=60)

    virtual(main())


@pytest.mark.parametrize("jump", JUMPS)
def test_a_message_is_as_old_as_it_is_and_its_time_is_by_the_clock_that_is_right_now(
    tmp_path: Path, wall: WallClock, jump: float
) -> None:
    async def main() -> None:
        async with talking(World(tmp_path)) as (alice, bob):
            await alice.send("bob", b"early", until="acknowledged")
            await asyncio.sleep(20)
            wall.jump(jump)
            (received,) = [message async for message in bob.inbox(None, 0, follow=False)]
            assert received.age_s == pytest.approx(20, abs=1)
            assert received.time == pytest.approx(wall.time() - 20, abs=1)

    virtual(main())


def test_of_a_message_from_before_the_start_nobody_tells_how_old_it_is(tmp_path: Path, wall: WallClock) -> None:
    async def main() -> None:
        world = World(tmp_path)
        async with talking(world) as (alice, bob):
            await alice.send("bob", b"early", until="acknowledged")
            came = wall.time()
            await world.stop("bob")
            wall.jump(-10 * HOUR)
            bob = await world.start("bob", "alice")
            (received,) = [message async for message in bob.inbox(None, 0, follow=False)]
            assert received.age_s is None
            assert received.time == pytest.approx(came, abs=1)

    virtual(main())


@pytest.mark.parametrize(
    ("jump", "age"),
    [(0.0, 2 * HOUR), (10 * HOUR, 12 * HOUR), (-10 * HOUR, 2 * HOUR), (50 * YEAR, None), (-40 * YEAR, None)],
)
def test_a_keys_age_after_a_restart_is_what_the_clock_can_tell_and_no_more(
    tmp_path: Path, wall: WallClock, jump: float, age: float | None
) -> None:
    """A clock that stood still for hours, as without power, makes it less; none makes it twenty thousand days."""

    async def main() -> None:
        world = World(tmp_path)
        async with talking(world) as (alice, bob):
            await asyncio.sleep(HOUR)
            wall.jump(50 * YEAR)  # before this, which is forgotten: what is kept goes by the clock of the last commit
            await asyncio.sleep(HOUR)
            await alice.send("bob", b"x", until="acknowledged")
            await world.stop("alice")
            wall.jump(jump)
            alice = await world.start("alice", "bob")
            await connected(alice, bob)
            key = peer_of(alice, "bob")["key"]
            assert key["age_s"] == (None if age is None else pytest.approx(age, abs=60))
            assert (key["since"] is None) == (age is None)
            assert ("of unknown age" in "\n".join(status_lines(alice.status(), 80))) == (age is None)
            assert (b"key_age_seconds{" in render(alice.status())) == (age is not None)

    virtual(main())


def test_a_key_of_unknown_age_is_renewed_within_an_hour_of_use_and_only_once(tmp_path: Path, wall: WallClock) -> None:
    async def main() -> None:
        world = World(tmp_path, establish__renew_after_hours=10.0)
        async with talking(world) as (alice, bob):
            old = fingerprint(alice, "bob")
            for name, other in (("alice", "bob"), ("bob", "alice")):
                await world.stop(name)
                wall.jump(-40 * YEAR)
                await world.start(name, other)
            alice, bob = world.nodes["alice"], world.nodes["bob"]
            await connected(alice, bob)
            assert fingerprint(alice, "bob") == old
            await asyncio.sleep(1.1 * HOUR)
            new = fingerprint(alice, "bob")
            assert new != old
            await asyncio.sleep(9 * HOUR)
            assert fingerprint(alice, "bob") == new

    virtual(main())


@pytest.mark.parametrize(
    ("since", "written", "now", "age"),
    [
        (1.7e9, 1.7e9 + 100, 1.7e9 + 150, 150.0),
        (1.7e9, 1.7e9 + 100, 1.7e9 + 50, 100.0),  # an hour of fake-hwclock
        (5.0, 100.0, 1.8e9, None),  # written before it was told the time
        (1.8e9, 1.8e9 + 1, 5.0, None),  # the clock's battery
        (1.8e9, 1.7e9, 1.8e9, None),  # made later than written
        (946_684_800.0, 946_684_900.0, 1.8e9, None),  # some begin in 2000
        (float("nan"), 1.7e9, 1.7e9, None),
        (1.7e9, float("inf"), 1.7e9, None),
    ],
)
def test_an_age_across_a_restart_is_told_only_where_both_times_can_be_right(
    monkeypatch: pytest.MonkeyPatch, since: float, written: float, now: float, age: float | None
) -> None:
    monkeypatch.setattr(ages.time, "time", lambda: now)
    assert ages.restored(since, written) == age


@pytest.mark.parametrize("age", [0.0, 12.5, 9 * YEAR])
def test_an_age_that_is_kept_comes_back_and_an_unknown_one_stays_unknown(
    monkeypatch: pytest.MonkeyPatch, age: float
) -> None:
    monkeypatch.setattr(ages.time, "time", lambda: 1.7e9)
    assert ages.restored(**ages.kept(age)) == pytest.approx(age)
    assert ages.restored(**ages.kept(None)) is None


def test_what_is_kept_about_a_key_is_written_anew_within_a_second_and_at_once_where_it_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So a round needs no look at the wall clock, and the age comes back the same."""
    session = Session.start(Profile.HARDENED, Role.INITIATOR, bytes(32), SessionConfig(), EndpointContext(bytes))
    looks = itertools.count(1)
    monkeypatch.setattr(ages.time, "time", lambda: 1.7e9 + next(looks))
    rows = StateRows()

    def told(now: float, **facts: Any) -> float | None:
        row = rows.row(KeepState(session.record, {"born": 5.0, **facts}, {}, True, Trust(), KeptGenerations()), now)
        key = json.loads(row.facts)["key"]
        assert {name: key[name] for name in facts} == facts
        return float(key["written"])

    first = told(10.0)
    assert told(10.9) == first
    assert told(10.9, authenticated=True) != first
    second = told(10.9, authenticated=True)
    assert told(11.8, authenticated=True) == second
    assert told(12.0, authenticated=True) != second
    assert next(looks) == 1 + 3, "three of the five looked, each for a key: its trust has no times"


def test_a_key_has_aged_while_the_disk_took_nothing(tmp_path: Path) -> None:
    session = Session.start(Profile.HARDENED, Role.INITIATOR, bytes(32), SessionConfig(), EndpointContext(bytes))
    state = KeepState(session.record, {"born": 0.0}, {}, True, Trust(), KeptGenerations())
    with contextlib.closing(Journal(tmp_path, sync_each=True)) as journal:
        note(journal, ADDRESSES["bob"], state, StateRows())
        journal.commit(now=5 * HOUR)
        row = journal.peer(ADDRESSES["bob"])
    assert row is not None
    key = json.loads(row.facts)["key"]
    assert ages.restored(key["since"], key["written"]) == pytest.approx(5 * HOUR, abs=60)


# --- real daemons

WITH_A_CLOCK_OF_ITS_OWN = """
import time
real = time.time
time.time = lambda: real() + float(open({ahead!r}).read())
"""


class Daemons(QuickNodes):
    """Whose wall clock is ahead of this computer's by what the file `ahead` says."""

    @property
    def first(self) -> str:
        return WITH_A_CLOCK_OF_ITS_OWN.format(ahead=str(self.folder / "ahead"))

    def set_clock(self, ahead: float) -> None:
        new = self.folder / "new"
        new.write_text(repr(ahead))
        new.replace(self.folder / "ahead")

    def peer(self, name: str) -> dict[str, Any]:
        return self.client(name).peers()[0]


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "started", ["1970", *(pytest.param(year, marks=pytest.mark.long) for year in ("2000", "2038", "2106"))]
)
def test_two_daemons_go_on_and_tell_true_ages_wherever_their_clock_starts_and_jumps(
    tmp_path: Path, loopback_host: str, started: str
) -> None:
    nodes = Daemons(tmp_path, 0.05, loopback_host, PORTS)
    ahead = STARTS[started] - time.time()
    nodes.set_clock(ahead)
    began = time.monotonic()
    try:
        start(nodes)
        keys = {nodes.peer(name)["key"]["fingerprint"] for name in ADDRESSES}
        for number, jump in enumerate((0.0, *JUMPS)):
            ahead += jump
            nodes.set_clock(ahead)
            for name, other in OTHER.items():
                client = nodes.client(name)
                client.send(other, b"%d" % number, until="acknowledged", timeout=60)
                (received,) = nodes.client(other).receive()
                nodes.client(other).acknowledge(received.id)
                assert received.message == b"%d" % number
                assert received.age_s is not None
                assert 0 <= received.age_s < 20
                told, passed = nodes.peer(name), time.monotonic() - began
                ages = told["key"]["age_s"], told["link"]["age_s"], told["silent_s"], client.status()["uptime_s"]
                assert all(0 <= age <= passed for age in ages)
                assert told["last_seen"] == pytest.approx(time.time() + ahead, abs=30)
        nodes.kill("bob")
        wait_until(lambda: nodes.peer("alice")["state"] == "not connected", 20)
        nodes.start("bob")
        wait_until(lambda: all(nodes.peer(name)["state"] == "connected" for name in ADDRESSES), 60)
        assert {nodes.peer(name)["key"]["fingerprint"] for name in ADDRESSES} == keys
    finally:
        nodes.stop()
    for name in ADDRESSES:
        assert "fault of this program" not in nodes.log(name).read_text()
