"""The sweep's state machine: what the person and the nodes do, and what comes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sweep_world import CrashedError, SweepWorld, new_store, plan_of

from bt_selfsecure.errors import LocalError
from bt_selfsecure.sweep.events import Answered, End, Input, Placed, Redo, RunStored, Skip, Stop, TakeBack, Withdrawn
from bt_selfsecure.sweep.orders import (
    Listen,
    Listening,
    ListenReport,
    OrderRefused,
    PacketsSent,
    Report,
    SendPackets,
    pack,
)
from bt_selfsecure.sweep.plan import Place, Plan, Run
from bt_selfsecure.sweep.states import TRANSITIONS, Cause, State
from bt_selfsecure.sweep.store import Store


@pytest.fixture
def store() -> Iterator[Store]:
    with new_store() as store:
        yield store


def all_runs(plan: Plan) -> list[Run]:
    return [run for place in plan.places() for run in plan.runs_at(place)]


def assert_each_run_stored_once_and_whole(plan: Plan, store: Store) -> None:
    stored = Counter(
        Run(
            Place(run.info.notes["turn"], run.info.distance_m or 0.0),
            run.info.bearer,
            run.info.packets,
            run.info.repeat,
        )
        for run in store.runs()
    )
    assert stored == Counter(all_runs(plan))
    for run in store.runs(withdrawn=True):
        rows = list(store.receptions(run.id))
        assert len(rows) == run.info.packets * len(run.listeners)
        assert len(run.listeners) == len(plan.nodes) - 1


def test_a_sweep_asks_once_a_place_and_stores_every_run(store: Store) -> None:
    plan = plan_of()
    world = SweepWorld(plan, store)
    world.run()
    assert [prompt.place.distance_m for prompt in world.prompts] == [0.5, 3.0]
    assert_each_run_stored_once_and_whole(plan, store)


def test_receivers_listen_before_the_sender_sends_and_report_after(store: Store) -> None:
    world = SweepWorld(plan_of(distances_m=(1.0,), packets=(10,), repeats=1), store)
    world.run()
    assert [(give.node, type(give.order)) for give in world.orders] == [
        ("bob", Listen),
        ("eve", Listen),
        ("alice", SendPackets),
        ("bob", Report),
        ("eve", Report),
    ]
    assert len({give.order.tag for give in world.orders}) == 1


def test_roles_rotate_so_that_each_node_plays_each_part(store: Store) -> None:
    plan = plan_of(rotate=True)
    world = SweepWorld(plan, store)
    world.run()
    played = [(prompt.roles.alice, prompt.roles.bob, prompt.roles.eves) for prompt in world.prompts[::2]]
    assert played == [("alice", "bob", ("eve",)), ("bob", "eve", ("alice",)), ("eve", "alice", ("bob",))]
    assert_each_run_stored_once_and_whole(plan, store)


def test_a_node_that_refuses_is_asked_again_and_then_the_person_is(store: Store) -> None:
    world = SweepWorld(plan_of(), store, faults=1.0)
    while len(world.prompts) < 2:
        world.step()
    assert len(world.told) == 4
    assert "trying again in 2 s" in world.told[0]
    assert "trying again in 16 s" in world.told[-1]
    assert "no time" in world.prompts[1].trouble or "did not answer" in world.prompts[1].trouble
    world.faults = 0.0
    world.run()
    assert_each_run_stored_once_and_whole(world.plan, store)


def test_a_silent_node_is_named(store: Store) -> None:
    world = SweepWorld(plan_of(), store)
    world.answer = lambda node, order: Listening(order.tag) if node != "eve" else None  # type: ignore[method-assign]
    while not world.told:
        world.step()
    assert world.told[0].startswith("eve did not answer")


def test_an_answer_from_before_a_crash_changes_nothing(store: Store) -> None:
    world = SweepWorld(plan_of(), store)
    while world.sweep.state is not State.PREPARING:
        world.step()
    for answer in (Listening(1), PacketsSent(1, 1.0, {}, {}), ListenReport(1, "", ""), OrderRefused(1, "old")):
        world.sweep.handle(Answered("bob", answer), world.now)
    assert world.sweep.state is State.PREPARING


def test_a_report_that_does_not_fit_the_run_is_trouble_and_nothing_is_stored(store: Store) -> None:
    world = SweepWorld(plan_of(), store)
    honest = world.answer

    def lying(node, order):  # type: ignore[no-untyped-def]
        return ListenReport(order.tag, pack(b"\1"), pack(b"\1")) if isinstance(order, Report) else honest(node, order)

    world.answer = lying  # type: ignore[method-assign]
    while not world.told:
        world.step()
    assert "has not 10 packets" in world.told[0]
    assert not store.runs()


def test_narrow_intervals_end_a_kind_early_but_not_before_the_least_repeats(store: Store) -> None:
    plan = plan_of(distances_m=(1.0,), packets=(800,), repeats=10, narrow_enough=0.05, min_repeats=2)
    SweepWorld(plan, store, losses={"bob": 0.02, "eve": 0.02}).run()
    assert 2 <= len(store.runs()) < 10
    wide = plan_of(distances_m=(2.0,), packets=(800,), repeats=4, narrow_enough=0.01, min_repeats=2)
    before = len(store.runs())
    SweepWorld(wide, store, losses={"bob": 0.5, "eve": 0.5}).run()
    assert len(store.runs()) == before + 4


def test_a_redo_withdraws_a_place_and_does_it_again_then_goes_on(store: Store) -> None:
    plan = plan_of()
    world = SweepWorld(plan, store)
    while len(world.prompts) < 2:
        world.step()
    world.sweep.handle(Redo(Place(0, 0.5)), world.now)
    world.run()
    assert [prompt.place.distance_m for prompt in world.prompts] == [0.5, 3.0, 0.5, 3.0]
    assert len(store.runs(withdrawn=True)) == 4 + 8
    assert_each_run_stored_once_and_whole(plan, store)


def test_a_crash_in_the_middle_of_a_redo_keeps_no_run_of_before(store: Store) -> None:
    plan = plan_of()
    world = SweepWorld(plan, store)
    world.run()
    world = SweepWorld(plan, store)
    world.sweep.handle(Redo(Place(0, 3.0)), world.now)
    while not world.orders:
        world.step()
    later = SweepWorld(plan, store)
    later.run()
    assert [prompt.place.distance_m for prompt in later.prompts] == [3.0]
    assert_each_run_stored_once_and_whole(plan, store)


def test_a_place_that_is_skipped_is_left_for_the_next_time(store: Store) -> None:
    plan = plan_of()
    world = SweepWorld(plan, store)
    world.sweep.handle(Skip(Place(0, 0.5)), world.now)
    world.run()
    assert {run.info.distance_m for run in store.runs()} == {3.0}
    SweepWorld(plan, store).run()
    assert_each_run_stored_once_and_whole(plan, store)


def test_an_interruption_asks_for_the_same_place_again(store: Store) -> None:
    world = SweepWorld(plan_of(), store)
    while world.sweep.state is not State.SENDING:
        world.step()
    world.sweep.handle(Stop(Place(0, 0.5)), world.now)
    world.run()
    assert [prompt.place.distance_m for prompt in world.prompts] == [0.5, 0.5, 3.0]
    assert_each_run_stored_once_and_whole(world.plan, store)


def test_a_run_that_nobody_asked_to_store_is_the_drivers_fault(store: Store) -> None:
    world = SweepWorld(plan_of(), store)
    with pytest.raises(LocalError):
        world.sweep.handle(RunStored(all_runs(world.plan)[0]), 0.0)
    with pytest.raises(LocalError):
        world.sweep.handle(Withdrawn(Place(0, 0.5)), 0.0)


def test_every_state_is_entered_and_every_transition_goes_somewhere_else_than_nowhere() -> None:
    assert set(TRANSITIONS.values()) == set(State)
    assert {cause for _, cause in TRANSITIONS} == set(Cause)


@settings(max_examples=25)
@given(
    crashes=st.lists(st.integers(0, 120), max_size=6),
    seed=st.integers(0, 2**32),
    faults=st.sampled_from((0.0, 0.1)),
    rotate=st.booleans(),
)
def test_crashed_at_any_moments_a_sweep_ends_with_every_run_once_and_whole(
    crashes: list[int], seed: int, faults: float, rotate: bool
) -> None:
    plan = plan_of(rotate=rotate, packets=(10,))
    with new_store() as store:
        for number, crash_at in enumerate([*crashes, None]):
            world = SweepWorld(plan, store, seed + number, faults=faults, crash_at=crash_at)
            try:
                world.run()
            except CrashedError:
                assert len(store.runs()) <= len(all_runs(plan))
        assert_each_run_stored_once_and_whole(plan, store)


PLACES = [Place(0, 0.5), Place(0, 3.0), Place(7, 1.0)]
WANTS: list[Input] = [End(), *(want(place) for want in (Placed, Skip, TakeBack, Stop, Redo) for place in PLACES)]


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from(WANTS)), max_size=12), st.integers(0, 2**32))
def test_whatever_the_person_presses_when_the_sweep_goes_on(wishes: list[tuple[int, Input]], seed: int) -> None:
    plan = plan_of(packets=(10,))
    with new_store() as store:
        world = SweepWorld(plan, store, seed, faults=0.05)
        for steps, wish in wishes:
            for _ in range(steps):
                world.step()
            world.sweep.handle(wish, world.now)
        world.run()
        assert world.sweep.state is State.OVER
        SweepWorld(plan, store).run()
        assert_each_run_stored_once_and_whole(plan, store)
