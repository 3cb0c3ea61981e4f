"""Every order of what may happen to two peer machines, to some depth: frames, links, deadlines, disks, wishes, deaths.

The state of the world is visited once, breadth first. `PeerWorld` checks its invariants at each step, and from each
state a world that works must bring the two ends together, with an outcome for each wish. A state is made anew for each
step from it, by its schedule.
"""

from __future__ import annotations

import enum
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from peer_world import PeerWorld

from bt_selfsecure.node.haoxiao import peer_links
from bt_selfsecure.node.haoxiao.burst import Burst
from bt_selfsecure.node.haoxiao.key_agreement import KeyAgreement
from bt_selfsecure.node.haoxiao.peer_events import Commit, Outputs, Urgency
from bt_selfsecure.node.haoxiao.peer_links import LINK_TABLE, LinkInput, LinkState
from bt_selfsecure.node.haoxiao.peer_machine import PeerMachine
from bt_selfsecure.node.haoxiao.peer_session import PeerSession
from bt_selfsecure.node.metrics import PeerCounters
from bt_selfsecure.protocols.haoxiao.session_config import Durability
from bt_selfsecure.sansio.back_off import BackOff

EVERY_MESSAGE, EVERY_W = Durability.EVERY_MESSAGE, Durability.EVERY_W

Action = tuple[str, int]


class Counted:
    """Random bytes that are a number in disguise: deterministic, and a small part of the state."""

    def __init__(self, seed: str) -> None:
        self.seed, self.count = seed, 0

    def randbytes(self, size: int) -> bytes:
        self.count += 1
        return random.Random(f"{self.seed} {self.count}").randbytes(size)


class SmallWorld(PeerWorld):
    """A world that knows what may happen next, and what it has in common with another."""

    source = staticmethod(Counted)

    def fingerprint(self) -> int:
        """Of everything that can make a difference later."""
        return hash(_frozen(self, set()))

    def actions(self, budget: Mapping[str, int]) -> list[Action]:
        """All that may happen next, of what costs something where the budget allows it."""
        found: list[Action] = []
        for i, end in enumerate(self.ends):
            waits = any(wire.queues[i] for wire in self.wires)
            may = {
                "deliver": waits,
                "lose": waits,
                "while": i == 0,
                "down": end.downs,
                "dialled": end.dials,
                "not dialled": end.dials,
                "burst": end.bursts,
                "gathered": end.gathers,
                "granted": end.radio == "asked",
                "not granted": end.radio == "asked",
                "radio lost": end.radio == "held",
                "timeout": end.machine.get_timer() is not None,
                "write": end.noted and not end.refuses,
                "refuse": not end.refuses,
                "mend": end.refuses,
                "cut": self.wires and i == 0,
                "adapter": True,
                "crash": True,
                "power": True,
                "say": True,
                "say lazily": True,
                "establish": True,
            }
            found += [(verb, i) for verb, possible in may.items() if possible and budget.get(verb, 1) > 0]
        return found

    def perform(self, action: Action) -> None:
        verb, i = action
        match verb:
            case "deliver" | "lose":
                self.deliver(i, lose=verb == "lose")
            case "while":
                self.pass_time(0.2)
            case "down":
                self.down(i)
            case "dialled" | "not dialled":
                self.dial_over(i, good=verb == "dialled")
            case "burst":
                self.burst_sent(i)
            case "gathered":
                self.gathered(i)
            case "granted" | "not granted" | "radio lost":
                self.radio(i, good=verb == "granted")
            case "timeout":
                self.timeout(i)
            case "write":
                self.write(i)
            case "refuse":
                self.refuse(i)
            case "mend":
                self.mend(i)
            case "cut":
                self.cut(i)
            case "adapter" if self.ends[i].adapter:
                self.adapter_gone(i)
            case "adapter":
                self.adapter_up(i)
            case "crash" | "power":
                self.crash(i, power=verb == "power")
            case "say" | "say lazily":
                self.say(i, durable=verb == "say", size=20)
            case "establish":
                self.establish(i)


PLAIN = (str, bytes, int, float, bool, type(None), enum.Enum)


def _frozen(thing: Any, seen: set[int]) -> Any:
    """The values in an object and all that it holds, whatever their identities."""
    if isinstance(thing, PLAIN):
        return thing
    if callable(thing) or isinstance(thing, PeerCounters) or id(thing) in seen:
        return None
    if isinstance(thing, list | tuple | deque):
        return tuple(_frozen(each, seen) for each in thing)
    if isinstance(thing, set | frozenset):
        return frozenset(thing)
    if isinstance(thing, dict):
        if thing and isinstance(next(iter(thing)), tuple):
            return None  # a table
        return tuple((key, _frozen(value, seen)) for key, value in thing.items())
    seen.add(id(thing))
    names = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    values = {name: getattr(thing, name) for name in names} | getattr(thing, "__dict__", {})
    return tuple(_frozen(value, seen) for name, value in values.items() if name not in ("ever", "random"))


@dataclass(frozen=True)
class Explored:
    states: int
    violation: str = ""
    schedule: tuple[Action, ...] = ()
    """The shortest that leads to the violation."""


def explore(begin: Callable[[], SmallWorld], budget: Mapping[str, int], depth: int) -> Explored:
    """All states that the budget allows, to this depth; or the shortest schedule that breaks an invariant. What is not
    in the budget is free."""
    try:
        begin().heal()
    except Exception as error:
        return Explored(0, f"{type(error).__name__}: {error}")
    visited: set[tuple[int, tuple[tuple[str, int], ...]]] = set()
    level: list[tuple[tuple[Action, ...], list[Action], dict[str, int]]] = [((), begin().actions(budget), dict(budget))]
    for _ in range(depth):
        following = []
        for schedule, actions, left in level:
            for action in actions:
                world = begin()
                longer, less = (*schedule, action), dict(left)
                if action[0] in less:
                    less[action[0]] -= 1
                try:
                    for step in longer:
                        world.perform(step)
                    seen = world.fingerprint(), tuple(less.items())
                    if seen in visited:
                        continue
                    visited.add(seen)
                    following.append((longer, world.actions(less), less))
                    world.heal()
                except Exception as error:  # what a machine raises is a fault as well
                    return Explored(len(visited), f"{type(error).__name__}: {error}", longer)
        level = following
    return Explored(len(visited))


def nothing_yet(durability: Durability = EVERY_MESSAGE, *, bearer: str = "rfcomm") -> SmallWorld:
    return SmallWorld(durability, establish_bearer=bearer)


def connected(durability: Durability = EVERY_MESSAGE, *, bearer: str = "rfcomm") -> SmallWorld:
    world = SmallWorld(durability, establish_bearer=bearer)
    world.heal()
    return world


def talked(durability: Durability = EVERY_MESSAGE, *, bearer: str = "rfcomm") -> SmallWorld:
    """Connected, and no round is the first one after a checkpoint."""
    world = connected(durability, bearer=bearer)
    world.say(0)
    world.heal()
    return world


def messages_wait(durability: Durability = EVERY_MESSAGE, *, bearer: str = "rfcomm") -> SmallWorld:
    """Connected, one message of two fragments each way; the first frames are on their way."""
    world = connected(durability, bearer=bearer)
    world.say(0, size=20)
    world.say(1, size=20, durable=False)
    return world


NONE = dict.fromkeys(
    (
        "lose",
        "timeout",
        "refuse",
        "cut",
        "adapter",
        "crash",
        "power",
        "say",
        "say lazily",
        "establish",
        "radio lost",
        "not granted",
        "not dialled",
    ),
    0,
)
"""A budget for nothing that costs anything."""

SETTINGS = [
    pytest.param(messages_wait, EVERY_MESSAGE, "rfcomm", {"crash": 1, "lose": 1, "timeout": 1}, id="crash"),
    pytest.param(messages_wait, EVERY_W, "rfcomm", {"power": 1, "say": 1, "timeout": 1}, id="power-every-W"),
    pytest.param(connected, EVERY_MESSAGE, "rfcomm", {"refuse": 1, "say": 1, "say lazily": 1, "crash": 1}, id="disk"),
    pytest.param(talked, EVERY_W, "rfcomm", {"refuse": 1, "say": 1, "say lazily": 1, "crash": 1}, id="disk-every-W"),
    pytest.param(
        nothing_yet,
        EVERY_MESSAGE,
        "rfcomm",
        {"not dialled": 1, "adapter": 2, "cut": 1, "say": 1, "timeout": 2},
        id="links",
    ),
    pytest.param(connected, EVERY_MESSAGE, "rfcomm", {"establish": 2, "refuse": 1, "timeout": 2, "cut": 1}, id="keys"),
    pytest.param(
        nothing_yet,
        EVERY_MESSAGE,
        "le_advert",
        {"not granted": 1, "radio lost": 1, "adapter": 1, "timeout": 2},
        id="radio",
    ),
]


def check(explored: Explored, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n  {explored.states} states {explored.violation}", *explored.schedule, sep="\n    ")
    assert not explored.violation
    assert explored.states > 20


@pytest.mark.parametrize(("begin", "durability", "bearer", "budget"), SETTINGS)
def test_no_order_of_events_breaks_an_invariant(
    begin: Callable[..., SmallWorld],
    durability: Durability,
    bearer: str,
    budget: Mapping[str, int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    steps = 3 if bearer == "le_advert" else 2  # from where few states are near
    check(explore(lambda: begin(durability, bearer=bearer), NONE | budget, steps), capsys)


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("begin", "durability", "bearer", "budget"), SETTINGS)
def test_no_longer_order_of_events_breaks_an_invariant(
    begin: Callable[..., SmallWorld],
    durability: Durability,
    bearer: str,
    budget: Mapping[str, int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    check(explore(lambda: begin(durability, bearer=bearer), NONE | budget, 6), capsys)


# --- the explorer finds what is wrong ---------------------------------------------------------------------------------

Setting = tuple[Callable[..., SmallWorld], Durability, str, Mapping[str, int]]


def tells_of_keys_at_once(monkeypatch: pytest.MonkeyPatch) -> Setting:
    """A frame that tells of a key does not wait until it is on disk."""
    take = PeerMachine._take_frames

    def at_once(machine: PeerMachine, now: float) -> bool:
        machine._keyed_by = 0
        return take(machine, now)

    monkeypatch.setattr(PeerMachine, "_take_frames", at_once)
    return nothing_yet, EVERY_MESSAGE, "rfcomm", {"refuse": 1}


def sends_before_the_commit(monkeypatch: pytest.MonkeyPatch) -> Setting:
    def at_once(out: Outputs, urgency: Urgency) -> int:
        out.token += 1
        out.put(Commit(out.token, urgency))
        return out.token

    monkeypatch.setattr(Outputs, "commit", at_once)
    return talked, EVERY_W, "rfcomm", {"refuse": 1, "say": 1}


def sends_what_was_refused(monkeypatch: pytest.MonkeyPatch) -> Setting:
    monkeypatch.setattr(PeerSession, "_take_back", lambda session, first, last, now: True)
    return connected, EVERY_MESSAGE, "rfcomm", {"refuse": 1, "say": 1}


def keeps_who_asked_for_a_key_waiting(monkeypatch: pytest.MonkeyPatch) -> Setting:
    monkeypatch.setattr(KeyAgreement, "fail_outcome", lambda agreement, reason: None)
    return connected, EVERY_MESSAGE, "rfcomm", {"establish": 1, "adapter": 1}


def forgets_to_go_on_with_the_burst(monkeypatch: pytest.MonkeyPatch) -> Setting:
    monkeypatch.setattr(Burst, "sent", lambda burst, now: None)
    return nothing_yet, EVERY_MESSAGE, "rfcomm", {}


def dials_once(monkeypatch: pytest.MonkeyPatch) -> Setting:
    """A dial that failed is not tried again."""
    monkeypatch.setattr(BackOff, "failed", lambda back_off, now, jitter: setattr(back_off, "until", now + 1e6))
    return nothing_yet, EVERY_MESSAGE, "rfcomm", {"not dialled": 1}


def has_no_row_for_a_dial_that_outlives_its_adapter(monkeypatch: pytest.MonkeyPatch) -> Setting:
    row = LinkState.STOPPING, LinkInput.DIAL_OVER
    monkeypatch.setattr(peer_links, "LINK_TABLE", {key: to for key, to in LINK_TABLE.items() if key != row})
    return nothing_yet, EVERY_MESSAGE, "rfcomm", {"adapter": 1}


FAULTS = (
    tells_of_keys_at_once,
    sends_before_the_commit,
    sends_what_was_refused,
    keeps_who_asked_for_a_key_waiting,
    forgets_to_go_on_with_the_burst,
    dials_once,
    has_no_row_for_a_dial_that_outlives_its_adapter,
)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_explorer_finds_a_machine_that(
    fault: Callable[[pytest.MonkeyPatch], Setting], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begin, durability, bearer, budget = fault(monkeypatch)
    explored = explore(lambda: begin(durability, bearer=bearer), NONE | budget, 4)
    with capsys.disabled():
        print(f"\n  {explored.violation}", *explored.schedule, sep="\n    ")
    assert explored.violation.startswith(("AssertionError", "LocalError"))
