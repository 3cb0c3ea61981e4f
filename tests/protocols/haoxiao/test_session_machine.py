"""The five invariants of the session under any schedule of a random adversary, crashes and power loss included.

Hypothesis finds short schedules and makes them shorter; `session_schedules` does many:

    pytest -m long tests/protocols/haoxiao/test_session_machine.py              20 000 schedules from seed 0
    SCHEDULES=100000 SCHEDULE_SEED=7000000 pytest -m long tests/protocols/haoxiao/test_session_machine.py   more, others

A schedule that fails is told by its seed; `run_schedule(seed)` is that schedule again.
"""

from __future__ import annotations

from typing import Any

import pytest
from amounts import part_of
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from many_schedules import failures, run_many
from session_schedules import STRANGERS, run_schedule
from session_world import World

from bt_selfsecure.protocols.haoxiao.frames import Profile
from bt_selfsecure.protocols.haoxiao.session_config import Durability

ENDS = st.integers(0, 1)
WHICH = st.integers(0, 1 << 20)


class SessionPair(RuleBasedStateMachine):
    """Every rule is one thing that an adversary, a disk or an application may do; `World` checks as it goes."""

    @initialize(
        profile=st.sampled_from(Profile),
        durability=st.sampled_from(Durability),
        W=st.sampled_from((1, 2, 3, 8)),
        seed=st.integers(0, 1 << 20),
    )
    def begin(self, profile: Profile, durability: Durability, W: int, seed: int) -> None:
        self.world = World(profile, durability, W, seed=seed)

    @rule(i=ENDS)
    def say(self, i: int) -> None:
        self.world.say(i)

    @rule(i=ENDS)
    def refuse(self, i: int) -> None:
        self.world.refuse(i)

    @rule(messages=st.integers(1, 6))
    def peace(self, messages: int) -> None:
        self.world.peace(messages)

    @precondition(lambda self: self.world.on_the_way)
    @rule(which=WHICH, keep=st.booleans())
    def deliver(self, which: int, keep: bool) -> None:
        self.world.deliver(which, keep=keep)

    @precondition(lambda self: self.world.on_the_way)
    @rule()
    def deliver_oldest(self) -> None:
        self.world.deliver(0)

    @precondition(lambda self: self.world.on_the_way)
    @rule(which=WHICH)
    def drop(self, which: int) -> None:
        self.world.drop(which)

    @precondition(lambda self: self.world.on_the_way)
    @rule(which=WHICH, bit=WHICH)
    def damage(self, which: int, bit: int) -> None:
        self.world.damage(which, bit)

    @precondition(lambda self: self.world.ever)
    @rule(i=ENDS, which=WHICH)
    def replay(self, i: int, which: int) -> None:
        self.world.replay(i, which)

    @rule(i=ENDS, data=st.binary(max_size=120))
    def inject_bytes(self, i: int, data: bytes) -> None:
        self.world.inject(i, data)

    @rule(i=ENDS, which=WHICH)
    def inject_frame_of_strangers(self, i: int, which: int) -> None:
        strangers = STRANGERS[self.world.profile]
        self.world.inject(i, strangers[which % len(strangers)])

    @rule(i=ENDS)
    def timeout(self, i: int) -> None:
        self.world.timeout(i)

    @rule(i=ENDS, slow=st.booleans())
    def set_slow(self, i: int, slow: bool) -> None:
        self.world.set_slow(i, slow)

    @precondition(lambda self: any(end.slow for end in self.world.ends))
    @rule(i=ENDS)
    def write(self, i: int) -> None:
        self.world.write(i)

    @rule(i=ENDS, power=st.booleans(), which=WHICH)
    def crash(self, i: int, power: bool, which: int) -> None:
        self.world.crash(i, power=power, which=which)

    @rule(ends=st.sampled_from(((0, 1), (1, 0), (0,), (1,))))
    def rekey(self, ends: tuple[int, ...]) -> None:
        self.world.rekey(ends)

    @rule()
    def rekey_late(self) -> None:
        self.world.rekey_late()

    @rule(i=ENDS, all_of_it=st.booleans())
    def steal(self, i: int, all_of_it: bool) -> None:
        self.world.steal(i, all_of_it=all_of_it)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.heal()
            if self.world.config.checkpoint_rounds <= 3:
                self.world.check_forward()


SessionPair.TestCase.settings = settings(
    max_examples=part_of(60),
    stateful_step_count=40,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestSessionPair: Any = SessionPair.TestCase


def test_invariants_hold_in_random_schedules() -> None:
    assert failures(run_schedule, 10_000_000, 200) == []


def test_rounds_that_both_ends_have_forgotten_one_after_the_other_do_not_part_them() -> None:
    assert failures(run_schedule, 900_240, 1) == []


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
def test_invariants_hold_in_many_schedules(capsys: pytest.CaptureFixture[str]) -> None:
    which, told = run_many(run_schedule, 20_000)
    with capsys.disabled():
        print(f"\n  {which}: {len(told)} failed", end=" ")
    assert told == []
