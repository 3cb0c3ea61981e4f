"""Loss, replay, overtaking, crashes and full disks of any end and wrong clocks: node and network always share a key.

SCHEDULES=100000 pytest tests/protocols/bootstrap/test_bootstrap_schedules.py       a hundred thousand
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from bootstrap_ends import NAMES, Ends
from many_schedules import CHUNK, failures, run_many

from bt_selfsecure.protocols.bootstrap import limits
from bt_selfsecure.protocols.bootstrap.config import Controller
from bt_selfsecure.protocols.bootstrap.messages import Flight, FlightChannel, Kind, channel_of, decode
from bt_selfsecure.protocols.bootstrap.records import Candidate, NodeRecord
from bt_selfsecure.protocols.bootstrap.sbi import SBI_TABLE, Sbi, SbiState
from bt_selfsecure.protocols.bootstrap.sbr import SBR_TABLE, Sbr
from bt_selfsecure.protocols.bootstrap.sbs import SBS_TABLE, Sbs, SbsInput
from bt_selfsecure.protocols.bootstrap.write_ahead import WriteAhead
from bt_selfsecure.sansio.trace import Tracer

STEPS = 70
CONTROLLERS = ("sbr", "sbr2")
MOST_ON_TAPE = 60


class World:
    """Holds the ends, what is under way between them, and all that was ever said."""

    def __init__(self, seed: int, tracer: Tracer | None = None) -> None:
        self.rng = random.Random(seed)
        self.ends = Ends(str(seed), tracer)
        self.now = 0.0
        self.flying: list[tuple[str, bytes]] = []
        self.tape: list[tuple[str, bytes]] = []
        self.said: dict[tuple[str, Kind, bytes], bytes] = {}

    def take(self, name: str, *, to: str = "sbr") -> None:
        """Bring what an end says on its way. What the SBS says goes `to` whom it answers."""
        for data in self.ends.say(name, self.now):
            flight = decode(data)
            if flight.kind not in (Kind.F1, Kind.F5, Kind.F8):  # sealed: each nonce once
                sealer = f"{name} {to}" if name == "sbs" else name
                assert self.said.setdefault((sealer, flight.kind, flight.tid), data) == data, "a nonce for another text"
            if name == "sbi":
                to = self.rng.choice(CONTROLLERS)
            elif name != "sbs":
                to = "sbs" if channel_of(data) is FlightChannel.SERVER else "sbi"
            self.flying.append((f"{name}>{to}", data))
            self.tape.append((f"{name}>{to}", data))
        del self.tape[:-MOST_ON_TAPE]
        self.check()

    def deliver(self, road: str, data: bytes) -> None:
        sender, receiver = road.split(">")
        getattr(self.ends, receiver).receive_frame(data, self.now)
        match self.rng.random():
            case chance if chance < 0.03:
                self.ends.begin(receiver)  # before it has written anything
            case chance if chance < 0.06:
                self.ends.say(receiver, self.now)  # after that, and before it has sent anything
                self.ends.begin(receiver)
            case chance if chance < 0.09:
                self.ends.refuse(receiver)  # the disk is full
        self.take(receiver, to=sender)

    def time(self, seconds: float) -> None:
        self.now += seconds
        for name in NAMES:
            self.ends.clocks[name] += seconds
            getattr(self.ends, name).handle_timer(self.now)
            self.take(name)

    def step(self) -> None:
        rng = self.rng
        match rng.randrange(20):
            case 0 | 1:
                self.ends.sbi.start(self.now, anew=rng.random() < 0.5)
                self.take("sbi")
            case 2 if self.tape:
                self.deliver(*rng.choice(self.tape))
            case 3 if self.tape:
                road, data = rng.choice(self.tape)
                bit = rng.randrange(8 * len(data))
                self.deliver(road, bytes(o ^ (1 << bit % 8 if at == bit // 8 else 0) for at, o in enumerate(data)))
            case 4:
                self.ends.begin(name := rng.choice(NAMES))
                self.take(name)
            case 5:
                self.ends.clocks[rng.choice(NAMES)] += rng.choice((-4000, -200, 200, 4000))
            case 6 | 7:
                self.time(rng.choice((0.5, 3.0, 100.0)))
            case 8 if self.flying:
                del self.flying[rng.randrange(len(self.flying))]
            case _ if self.flying:
                at = 0 if rng.random() < 0.8 else rng.randrange(len(self.flying))
                self.deliver(*self.flying.pop(at))

    def check(self) -> None:
        assert self.ends.network_key in self.ends.node_keys, "node and network share no key"

    def heal(self) -> None:
        """From here on all works. A person lets the node show flight 1, at most twice: it is joined."""
        self.flying = []
        self.rng = random.Random(0)
        self.ends.clocks = dict.fromkeys(NAMES, max(self.ends.clocks.values()))
        for _ in range(2):
            before = len(self.ends.told["sbi"])
            self.ends.sbi.start(self.now, anew=True)
            self.take("sbi")
            for _ in range(40):
                while self.flying:
                    road, data = self.flying.pop(0)
                    sender, receiver = road.split(">")
                    if sender == "sbi":
                        receiver = "sbr"
                    getattr(self.ends, receiver).receive_frame(data, self.now)
                    self.take(receiver, to=sender)
                if self.ends.sbi.state is SbiState.READY:
                    break
                self.time(1.0)
            if self.ends.sbi.state is SbiState.READY and len(self.ends.told["sbi"]) > before:
                break
        assert self.ends.sbi.state is SbiState.READY, "not joined, though all works"
        assert self.ends.node_keys == {self.ends.network_key}


def schedule(seed: int) -> None:
    world = World(seed)
    for _ in range(STEPS):
        world.step()
    world.heal()


@pytest.mark.timeout(7200)
def test_node_and_network_always_share_a_key() -> None:
    which, failed = run_many(schedule, 600)
    assert not failed, f"{which}: {len(failed)} failed:\n" + "\n".join(failed[:10])


def test_schedules_reach_what_they_are_about() -> None:
    """A schedule in which nobody ever joins would show nothing."""
    joined = both = replayed = 0
    for seed in range(60):
        world = World(seed)
        for _ in range(STEPS):
            world.step()
            both += len(world.ends.node_keys) > 1
        joined += world.ends.network_key != Ends().network_key
        replayed += sum(sum(getattr(world.ends, name).rejections.values()) for name in NAMES)
    assert joined > 10
    assert both > 60
    assert replayed > 60


def test_each_row_of_the_tables_is_used() -> None:
    tables = {"sbi": SBI_TABLE, "sbr": SBR_TABLE, "sbs": SBS_TABLE}
    rows = {(name, state.name, given.name) for name, table in tables.items() for state, given in table}
    for seed in range(400):
        world = World(seed, lambda step: rows.discard((step.machine, step.state, step.input)))
        for _ in range(STEPS):
            world.step()
        for _ in range(limits.MOST_RETRIES + 1):
            world.time(limits.LAST_RETRY_S)  # and nobody answers
        if not rows:
            break
    assert not rows


# --- the schedules find faults ----------------------------------------------------------------------------------------


def no_tid_check(patch: pytest.MonkeyPatch) -> None:
    """An SBS that takes an old flight 2 again."""
    change = Sbs._change

    def forgetful(sbs: Sbs, node: NodeRecord, given: SbsInput, now: float, **changes: Any) -> None:
        change(sbs, node, given, now, **changes | {"last": {}})

    patch.setattr(Sbs, "_change", forgetful)


def psk_at_once(patch: pytest.MonkeyPatch) -> None:
    """An SBS that puts the PSK in the place of IK before flight 5, as the paper's."""
    change = Sbs._change

    def hasty(sbs: Sbs, node: NodeRecord, given: SbsInput, now: float, **changes: Any) -> None:
        candidate = changes["candidate"]
        change(sbs, node, given, now, **changes | ({"key": candidate.psk} if candidate else {}))

    patch.setattr(Sbs, "_change", hasty)


def key_forgotten(patch: pytest.MonkeyPatch) -> None:
    """An SBI that forgets the key it had at flight 4."""
    put = Sbi._put
    patch.setattr(Sbi, "_put", lambda sbi, record: put(sbi, replace(record, key=record.next_key or record.key)))


def candidate_kept(patch: pytest.MonkeyPatch) -> None:
    """An SBS that takes flight 5 of a join that another one has followed."""
    change, receive = Sbs._change, Sbs._receive_f6
    older: dict[int, list[Candidate]] = {}

    def keeping(sbs: Sbs, node: NodeRecord, given: SbsInput, now: float, **changes: Any) -> None:
        if node.candidate is not None:
            older.setdefault(id(sbs), []).append(node.candidate)
        change(sbs, node, given, now, **changes)

    def lenient(sbs: Sbs, flight: Flight, controller: Controller, plain: bytes, now: float) -> None:
        node = sbs._store.get(plain[:8])
        for candidate in older.get(id(sbs), []):
            if node is not None and node.candidate and candidate.flight5 == plain[8:]:
                sbs._store.put(replace(node, candidate=candidate))
        receive(sbs, flight, controller, plain, now)

    patch.setattr(Sbs, "_change", keeping)
    patch.setattr(Sbs, "_receive_f6", lenient)


def tid_not_reserved(patch: pytest.MonkeyPatch) -> None:
    """An SBR that counts its TID in memory alone."""
    patch.setattr(Sbr, "_reserved", property(lambda sbr: 1 << 40 if hasattr(sbr, "_next_tid") else 1))


def not_written_first(patch: pytest.MonkeyPatch) -> None:
    """Ends whose flights leave before what they rest on is written."""
    patch.setattr(WriteAhead, "send", lambda store, data: store._ready.append(data))
    patch.setattr("bootstrap_ends.written", lambda end, store: [])


@pytest.mark.parametrize(
    "fault", [no_tid_check, psk_at_once, key_forgotten, candidate_kept, tid_not_reserved, not_written_first]
)
def test_schedules_find_a_fault_in(
    fault: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fault(monkeypatch)
    assert any(failures(schedule, first, CHUNK) for first in range(0, 20 * CHUNK, CHUNK))
