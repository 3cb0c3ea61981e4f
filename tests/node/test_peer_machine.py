"""Two peer machines under any schedule of what may happen to links, disks, adapters, radios and processes.

Hypothesis finds short schedules and makes them shorter; `run_schedule(seed)` is a longer one, told by its seed:

    pytest -m long tests/node/test_peer_machine.py                                       2000 schedules from seed 0
    SCHEDULES=100000 SCHEDULE_SEED=7000000 pytest -m long tests/node/test_peer_machine.py          more, others
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from amounts import part_of
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from many_schedules import failures, run_many
from peer_world import PeerWorld

from bt_selfsecure.node.haoxiao.burst import RADIO_TABLE
from bt_selfsecure.node.haoxiao.key_table import KEY_TABLE
from bt_selfsecure.node.haoxiao.peer_links import LINK_TABLE
from bt_selfsecure.node.haoxiao.session_table import SESSION_TABLE
from bt_selfsecure.protocols.haoxiao.session_config import Durability
from bt_selfsecure.sansio.trace import Transition

ENDS = st.integers(0, 1)
BEARERS = st.sampled_from(("rfcomm", "le_advert", "l2cap"))


class PeerPair(RuleBasedStateMachine):
    """Every rule is one thing that may happen; `PeerWorld` checks as it goes."""

    @initialize(durability=st.sampled_from(Durability), bearer=BEARERS, seed=st.integers(0, 1 << 20))
    def begin(self, durability: Durability, bearer: str, seed: int) -> None:
        self.world = PeerWorld(durability, seed=seed, establish_bearer=bearer)

    @rule(i=ENDS, how=st.sampled_from(("durable", "stays", "")), size=st.integers(4, 40))
    def say(self, i: int, how: str, size: int) -> None:
        self.world.say(i, durable=how == "durable", stays=how == "stays", size=size)

    @rule(i=ENDS)
    def establish(self, i: int) -> None:
        self.world.establish(i)

    @rule(i=ENDS, rotate=st.booleans())
    def export(self, i: int, rotate: bool) -> None:
        self.world.export(i, rotate=rotate)

    @rule(i=ENDS)
    def give_up(self, i: int) -> None:
        self.world.give_up(i)

    @rule(seconds=st.sampled_from((0.0, 0.2, 2.0, 60.0)))
    def peace(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule(to=ENDS, lose=st.booleans())
    def deliver(self, to: int, lose: bool) -> None:
        self.world.deliver(to, lose=lose)

    @rule(to=ENDS, data=st.binary(max_size=80))
    def inject(self, to: int, data: bytes) -> None:
        self.world.inject(to, data)

    @precondition(lambda self: self.world.ever)
    @rule(to=ENDS, which=st.integers(0, 1 << 20))
    def replay(self, to: int, which: int) -> None:
        self.world.inject(to, self.world.ever[which % len(self.world.ever)])

    @rule(i=ENDS)
    def timeout(self, i: int) -> None:
        self.world.timeout(i)

    @rule(i=ENDS, good=st.booleans())
    def dial_over(self, i: int, good: bool) -> None:
        if self.world.ends[i].dials:
            self.world.dial_over(i, good=good)

    @rule(i=ENDS)
    def down(self, i: int) -> None:
        if self.world.ends[i].downs:
            self.world.down(i)

    @rule(i=ENDS)
    def cut(self, i: int) -> None:
        self.world.cut(i)

    @rule(i=ENDS, lose=st.booleans())
    def burst_sent(self, i: int, lose: bool) -> None:
        if self.world.ends[i].bursts:
            self.world.burst_sent(i, lose=lose)

    @rule(i=ENDS)
    def gathered(self, i: int) -> None:
        self.world.gathered(i)

    @rule(i=ENDS, good=st.booleans())
    def radio(self, i: int, good: bool) -> None:
        self.world.radio(i, good=good)

    @rule(i=ENDS)
    def refuse(self, i: int) -> None:
        self.world.refuse(i)

    @rule(i=ENDS)
    def mend(self, i: int) -> None:
        self.world.mend(i)

    @rule(i=ENDS)
    def write(self, i: int) -> None:
        self.world.write(i)

    @rule(i=ENDS, power=st.booleans())
    def crash(self, i: int, power: bool) -> None:
        self.world.crash(i, power=power)

    @rule(i=ENDS)
    def adapter_gone(self, i: int) -> None:
        self.world.adapter_gone(i)

    @rule(i=ENDS)
    def adapter_up(self, i: int) -> None:
        self.world.adapter_up(i)

    @rule(i=ENDS)
    def sighted(self, i: int) -> None:
        self.world.sighted(i)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.heal()


PeerPair.TestCase.settings = settings(
    max_examples=part_of(60),
    stateful_step_count=40,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestPeerPair: Any = PeerPair.TestCase


# --- longer ones ------------------------------------------------------------------------------------------------------


def run_schedule(seed: int, steps: int = 120, tracer: Callable[[Transition], None] | None = None) -> None:
    draw = random.Random(seed)
    bearer = draw.choice(("rfcomm", "le_advert", "l2cap"))
    world = PeerWorld(draw.choice(list(Durability)), seed=seed, establish_bearer=bearer, tracer=tracer)
    for _ in range(steps):
        i, end = draw.randrange(2), world.ends[draw.randrange(2)]
        which = world.ends.index(end)
        may: list[tuple[float, Callable[[], Any]]] = [
            (30, partial(world.deliver, i, lose=draw.random() < 0.2)),
            (10, partial(world.timeout, i)),
            (5, partial(world.pass_time, draw.choice((0.05, 0.3, 3.0)))),
            (5, partial(world.say, i, durable=draw.random() < 0.5, size=draw.randint(4, 40))),
            (1, partial(world.say, i, durable=False, stays=True, size=draw.randint(4, 40))),
            (2, partial(world.establish, i)),
            (2, partial(world.export, i, rotate=draw.random() < 0.7)),
            (1, partial(world.give_up, i)),
            (1, partial(world.cut, i)),
            (1, partial(world.refuse, i)),
            (2, partial(world.mend, i)),
            (2, partial(world.write, i)),
            (1, partial(world.crash, i, power=draw.random() < 0.5)),
            (1, partial(world.adapter_gone, i)),
            (3, partial(world.adapter_up, i)),
            (1, partial(world.sighted, i)),
            (1, partial(world.inject, i, draw.choice(world.ever) if world.ever else b"")),
            (20 * bool(end.dials), partial(world.dial_over, which, good=draw.random() < 0.7)),
            (20 * bool(end.downs), partial(world.down, which)),
            (20 * end.gathers, partial(world.gathered, which)),
            (30 * bool(end.bursts), partial(world.burst_sent, which, lose=draw.random() < 0.2)),
            (
                20 * (end.radio == "asked") + (end.radio == "held"),
                partial(world.radio, which, good=draw.random() < 0.7),
            ),
        ]
        draw.choices([do for _, do in may], [weight for weight, _ in may])[0]()
    world.heal()


def test_invariants_hold_in_random_schedules() -> None:
    assert failures(run_schedule, 10_000_000, 60) == []


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
def test_invariants_hold_in_many_schedules(capsys: pytest.CaptureFixture[str]) -> None:
    which, told = run_many(run_schedule, 2000)
    with capsys.disabled():
        print(f"\n  {which}: {len(told)} failed", end=" ")
    assert told == []


TABLES: dict[str, Any] = {
    "link": LINK_TABLE,
    "key agreement": KEY_TABLE,
    "radio": RADIO_TABLE,
    "peer's session": SESSION_TABLE,
}


def test_every_row_of_the_tables_is_used() -> None:
    unused = {(name, state.name, given.name) for name, table in TABLES.items() for state, given in table}
    seed = 0
    while unused and seed < 1000:
        run_schedule(seed, tracer=lambda step: unused.discard((step.machine, step.state, step.input)))
        seed += 1
    assert not unused
