"""The control link on real nodes with real sessions: three of them in memory, test packets on the virtual air."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from bt_selfsecure.bearers.base import Bearer
from bt_selfsecure.bearers.memory import MemoryAir
from bt_selfsecure.errors import BtSelfSecureError, UsageError
from bt_selfsecure.node.client import NodeClient
from bt_selfsecure.node.config import Config, DiscoveryTable, EstablishTable, NodeTable, PeerTable, SessionTable
from bt_selfsecure.node.messages import Received
from bt_selfsecure.node.service import Node
from bt_selfsecure.sweep.agent import Agent
from bt_selfsecure.sweep.control import RadioCrew, Servant
from bt_selfsecure.sweep.driver import Driver
from bt_selfsecure.sweep.events import End, Placed
from bt_selfsecure.sweep.kernel import KernelEnvironment
from bt_selfsecure.sweep.orders import Describe, encode
from bt_selfsecure.sweep.plan import Place, Plan, RolesTable, SweepTable
from bt_selfsecure.sweep.record import Book
from bt_selfsecure.sweep.rehearsal import RehearsalMedium
from bt_selfsecure.sweep.states import State
from bt_selfsecure.sweep.store import Store

ADDRESSES = {name: f"B8:27:EB:00:00:0{number}" for number, name in enumerate(("alice", "bob", "eve"), 1)}


class Media:
    def __init__(self, air: MemoryAir, address: str) -> None:
        self._air, self._address = air, address

    def open(self, name: str) -> Bearer:
        return self._air.bearer(self._address)


class Three:
    """Alice, who knows both others, with their local APIs, on a loop in a thread of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._air = folder, MemoryAir()
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever)
        self._thread.start()
        self._nodes = [self._wait(self._start(name)) for name in ADDRESSES]
        self.clients = {name: NodeClient(self._socket(name)) for name in ADDRESSES}
        end = time.monotonic() + 60
        while any(peer["state"] != "connected" for peer in self.clients["alice"].peers()):
            assert time.monotonic() < end
            time.sleep(0.02)

    def _wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def _socket(self, name: str) -> Path:
        return self._folder / f"{name}.sock"

    async def _start(self, name: str) -> Node:
        peers = ("bob", "eve") if name == "alice" else ("alice",)
        config = Config(
            node=NodeTable(name=name, state_directory=self._folder / name, socket=self._socket(name)),
            establish=EstablishTable(
                bearer="rfcomm", interval_ms=0.1, burst=200, target_bits=10, exchange_shares=False
            ),
            session=SessionTable(timeout_ms=200),
            discovery=DiscoveryTable(advertise=False, scan=False),
            peer=tuple(PeerTable(peer, ADDRESSES[peer]) for peer in peers),
        )
        node = Node(config, Media(self._air, ADDRESSES[name]), ADDRESSES[name])
        await node.start()
        return node

    def close(self) -> None:
        for node in self._nodes:
            self._wait(node.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Three]:
    three = Three(tmp_path_factory.mktemp("n"))
    yield three
    three.close()


async def facts() -> dict[str, Any]:
    return {"kernel": "6.12", "temperature_c": 41.0}


@contextlib.asynccontextmanager
async def servants(three: Three, air: RehearsalMedium, *names: str) -> Any:
    tasks = [
        asyncio.create_task(Servant(three.clients[name], Agent(air.at(ADDRESSES[name]), facts)).run()) for name in names
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def plan(**changes: Any) -> Plan:
    settings = {"distances_m": (2.0,), "packets": (50,), "repeats": 2, "countdown_s": 0} | changes
    bearers = ("air:bernoulli:bob=0.2,eve=0.5",)
    return Plan(RolesTable("alice", "bob", ("eve",)), SweepTable(bearers=bearers, **settings))


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def test_a_sweep_over_real_sessions_is_driven_from_one_node_and_stored_whole(three: Three, tmp_path: Path) -> None:
    async def main() -> None:
        air = RehearsalMedium(1)
        air.roles = {ADDRESSES["bob"]: "bob", ADDRESSES["eve"]: "eve"}
        client = three.clients["alice"]
        async with servants(three, air, "bob", "eve"):
            crew = RadioCrew(client, plan().nodes, Agent(air.at(ADDRESSES["alice"]), facts))
            driver = Driver(plan(), Book(store, plan()), crew)
            work = asyncio.create_task(driver.run())
            await until(lambda: driver.sweep.state is State.ASKING and len(driver._facts) == 3)
            driver.do(Placed(Place(0, 2.0)))
            await until(lambda: driver.sweep.state is State.DONE)
            driver.do(End())
            await work

    with Store(tmp_path / "sweep.db", create=True) as store:
        asyncio.run(main())
        runs = store.runs()
        assert [(run.info.packets, run.info.repeat, run.listeners) for run in runs] == [
            (50, 0, ("bob", "eve")),
            (50, 1, ("bob", "eve")),
        ]
        assert set(runs[0].info.notes["nodes"]) == {"alice", "bob", "eve"}
        assert runs[0].info.notes["nodes"]["bob"] == {"temperature_c": 41.0}
        (manifest,) = store.manifests().values()
        assert manifest["nodes"]["eve"]["kernel"] == "6.12"


@pytest.mark.parametrize(("obeying", "stale_s", "silent"), [(("bob",), 30, "eve"), (("bob", "eve"), -1, "bob and eve")])
def test_who_does_not_answer_is_named_be_there_no_agent_or_the_order_out_of_date(
    three: Three, tmp_path: Path, monkeypatch: Any, obeying: tuple[str, ...], stale_s: float, silent: str
) -> None:
    monkeypatch.setattr("bt_selfsecure.sweep.machine.ANSWER_S", 1.0)
    monkeypatch.setattr("bt_selfsecure.sweep.control.STALE_S", stale_s)

    async def main() -> None:
        air = RehearsalMedium(1)
        async with servants(three, air, *obeying):
            agent = Agent(air.at(ADDRESSES["alice"]), facts)
            driver = Driver(plan(), Book(store, plan()), RadioCrew(three.clients["alice"], plan().nodes, agent))
            work = asyncio.create_task(driver.run())
            driver.do(Placed(Place(0, 2.0)))
            await until(lambda: driver.sweep.trouble.startswith(f"{silent} did not answer"))
            work.cancel()

    with Store(tmp_path / "sweep.db", create=True) as store:
        asyncio.run(main())


@pytest.mark.parametrize(
    ("age_s", "told"),
    [
        (0.0, ""),
        (29.0, ""),
        (31.0, "an order of 31 s ago is out of date"),
        (-1.0, "an order of -1 s ago is out of date"),
        (None, "an order from before the node's start is out of date"),
    ],
)
@pytest.mark.parametrize("time_s", [0.0, 1.7e9, 1e11])
def test_an_order_counts_by_its_age_whatever_the_clock_says_and_one_of_unknown_age_is_stale(
    three: Three, caplog: pytest.LogCaptureFixture, age_s: float | None, told: str, time_s: float
) -> None:
    """A Pi that was unplugged boots at its last hour: an order from before would be young, or of a time to come."""
    caplog.set_level("INFO")
    given = []

    async def main() -> None:
        servant = Servant(three.clients["bob"], Agent(RehearsalMedium(1).at(ADDRESSES["bob"]), facts))
        servant._hands.give = lambda order, answer: given.append(order)  # type: ignore[method-assign]
        servant._received(Received(1, "alice", 9, time_s, encode(Describe(7)), age_s))

    asyncio.run(main())
    assert given == ([] if told else [Describe(7)])
    assert told in caplog.text


def test_a_plan_with_a_node_that_nobody_knows_is_refused_at_once(three: Three) -> None:
    agent = Agent(RehearsalMedium(1).at(ADDRESSES["alice"]), facts)
    with pytest.raises(UsageError, match="the plan's node carol is neither this one nor a peer"):
        RadioCrew(three.clients["alice"], ("alice", "carol"), agent)


def test_a_node_that_advertises_by_itself_takes_no_part_in_a_measurement_of_advertisements(
    three: Three, monkeypatch: pytest.MonkeyPatch
) -> None:
    media = KernelEnvironment(three.clients["alice"])
    assert media.open("le_advert").name == "le_advert"
    assert media.open("l2cap").name == "l2cap"
    status = three.clients["alice"].status() | {"discovery": {"advertising": True}}
    monkeypatch.setattr(NodeClient, "status", lambda self: status)
    assert media.open("l2cap").name == "l2cap"
    with pytest.raises(BtSelfSecureError, match="set advertise = false and scan = false"):
        media.open("le_advert")
