"""What an adversary who has keys and speaks can do to a session, in random schedules and in every short one.

    pytest -m long tests/protocols/haoxiao/test_session_insiders.py                        100 000 schedules from seed 0
    SCHEDULES=1000 SCHEDULE_SEED=7000000 pytest -m long tests/protocols/haoxiao/test_session_insiders.py   others

A schedule that fails is told by its seed; `run_insider_schedule(seed)` is that schedule again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from many_schedules import failures, run_many
from session_insiders import InsiderWorld, run_insider_schedule
from test_session_explorer import Action, Budget, Explored, SmallWorld

from bt_selfsecure.eve.haoxiao.attacks.speaking import SpeakingThief
from bt_selfsecure.protocols.haoxiao.frames import Kind, Profile, decode
from bt_selfsecure.protocols.haoxiao.session_config import Durability
from bt_selfsecure.protocols.haoxiao.suites import SUITES

HARDENED, PAPER = Profile.HARDENED, Profile.PAPER
EVERY_MESSAGE, EVERY_W = Durability.EVERY_MESSAGE, Durability.EVERY_W


def test_an_adversary_who_has_keys_and_speaks_is_bounded_and_gone_with_the_next_k0() -> None:
    assert failures(run_insider_schedule, 20_000_000, 300) == []


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
def test_an_adversary_who_has_keys_and_speaks_is_bounded_in_many_schedules(capsys: pytest.CaptureFixture[str]) -> None:
    which, told = run_many(run_insider_schedule, 100_000)
    with capsys.disabled():
        print(f"\n  {which}: {len(told)} failed", end=" ")
    assert told == []


# --- every short schedule, with one lie -------------------------------------------------------------------------------


class LyingWorld(InsiderWorld, SmallWorld):
    """The small world of the explorer, in which the peer lies once about a round: r or h, by the key in use."""

    def lies(self, i: int) -> list[Action]:
        record = self.ends[i].session.record
        near = {0, record.sending.chain.seq, record.receiving.chain.seq}
        values = sorted(
            {near_ + more for near_ in near for more in (0, 1, 2)} | {1 << 46, (1 << 46) + 1, (1 << 48) - 1}
        )
        return [(verb, i, value) for verb in ("lie of r", "lie of h") for value in values]

    def perform(self, action: Action) -> None:
        verb, i, value = action
        if not verb.startswith("lie"):
            return super().perform(action)
        end, own = self.ends[i].session, SUITES[self.profile]
        asked = [data for to, data in self.ever if to == 1 - i]
        if verb == "lie of r":
            thief = SpeakingThief(own, end.record.sending.chain.key, self.random.randbytes)
            requests = [data for data in asked if decode(data).kind is Kind.RESYNC_REQUEST]
            if not requests:
                self._receive(i, thief.call())
                requests = [data for to, data in self.ever if to == 1 - i and decode(data).kind is Kind.RESYNC_REQUEST]
            return self._receive(i, thief.response(requests[-1], value)) if requests else None
        thief = SpeakingThief(own, end.record.receiving.chain.key, self.random.randbytes)
        calls = [data for data in asked if decode(data).kind is Kind.RESYNC_CALL]
        return self._receive(i, thief.request(calls[-1] if calls else thief.call(), value, 65_535))


@dataclass(frozen=True)
class LyingBudget(Budget):
    """The same, and how many lies."""

    lies: int = 1

    def after(self, action: Action) -> LyingBudget:
        rest = super().after(action)
        return LyingBudget(rest.timeouts, rest.copies, rest.crashes, self.lies - action[0].startswith("lie"))


def explore_lies(world: LyingWorld, budget: LyingBudget, depth: int) -> Explored:
    """All states to this depth, in each of which the two come together again with a new K_0."""
    visited = {(world.fingerprint(), budget)}
    level: list[tuple[Any, LyingBudget, tuple[str, ...]]] = [(world, budget, ())]
    for steps in range(1, depth + 1):
        following = []
        for world, budget, schedule in level:
            lies = [lie for i in (0, 1) for lie in world.lies(i)] if budget.lies else []
            for action in [*world.actions(budget), *lies]:
                described = world.described(action) if not action[0].startswith("lie") else f"{action}"
                new, left, longer = world.copy(), budget.after(action), (*schedule, described)
                try:
                    new.perform(action)
                    seen = (new.fingerprint(), left)
                    if seen not in visited:
                        visited.add(seen)
                        following.append((new, left, longer))
                        new.copy().heal_with_a_new_k0()
                except Exception as error:
                    return Explored(len(visited), steps, f"{type(error).__name__}: {error}", longer)
        level = following
    return Explored(len(visited), depth)


def lying_world(profile: Profile, durability: Durability, W: int, *, restarted: bool) -> LyingWorld:
    """Two ends that have said something, and perhaps one of them was restarted just now."""
    world = LyingWorld(profile, durability, W, seed=1, omega=1)
    world.say(0)
    world.heal()
    world.say(0)
    if restarted:
        world.crash(1)
    return world


SETTINGS = [
    pytest.param(HARDENED, EVERY_MESSAGE, 2, False, 3, id="every-message"),
    pytest.param(HARDENED, EVERY_MESSAGE, 2, True, 2, id="every-message-restarted"),
    pytest.param(PAPER, EVERY_W, 2, True, 2, id="paper-every-W-restarted"),
]


@pytest.mark.parametrize(("profile", "durability", "W", "restarted", "depth"), SETTINGS)
def test_no_single_lie_breaks_an_invariant(
    profile: Profile, durability: Durability, W: int, restarted: bool, depth: int
) -> None:
    explored = explore_lies(lying_world(profile, durability, W, restarted=restarted), LyingBudget(1, 0, 0), depth)
    assert not explored.violation, explored.schedule
    assert explored.states > 30


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("durability", Durability)
@pytest.mark.parametrize("profile", Profile)
def test_no_single_lie_breaks_an_invariant_in_any_longer_schedule(
    profile: Profile, durability: Durability, restarted: bool
) -> None:
    budget = replace(LyingBudget(1, 0, 1), lies=1)
    explored = explore_lies(lying_world(profile, durability, 2, restarted=restarted), budget, 5)
    assert not explored.violation, explored.schedule
