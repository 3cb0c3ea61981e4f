"""Wishes with their ground: what a screen showed decides whether a tap is carried out, in any state and at any time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest
from sweep_world import SweepWorld, new_store, plan_of

from bt_selfsecure.sweep.events import End, Placed, Redo, Skip, Stop, TakeBack
from bt_selfsecure.sweep.plan import Place
from bt_selfsecure.sweep.positions import to_do
from bt_selfsecure.sweep.states import State
from bt_selfsecure.sweep.store import Store
from bt_selfsecure.sweep.wishes import DEAD_S, STALE_S, Ground, NoWishError, Phase, Wish, read_wish, wish_here

NEAR, FAR = Place(0, 0.5), Place(0, 3.0)
GAPS = [0.05 * n for n in range(1, 11)]


@pytest.fixture
def store() -> Iterator[Store]:
    with new_store() as store:
        yield store


def world_in(state: State, store: Store) -> SweepWorld:
    """Some runs at the near place are done, the far one is skipped once; and long ago."""
    world = SweepWorld(plan_of(distances_m=(0.5, 3.0, 4.5)), store)
    while world.sweep.place != FAR:
        world.step()
    world.sweep.handle(Skip(FAR), world.now)
    if state is State.DONE:
        while world.sweep.state is not State.DONE:
            world.step()
    while world.sweep.state is not state or world.sweep._effects:
        world.step()
    world.now += 10
    return world


def tap(world: SweepWorld, wish: Wish) -> bool:
    """Whether it was carried out; what it leads to happens at once."""
    if world.sweep.why_not(wish, world.now):
        return False
    if wish.want:
        world.sweep.handle(wish.want, world.now)
    while world.sweep._effects:
        world.step()
    return True


def wishes(ground: Ground) -> list[Wish]:
    here = [wish_here(name, ground) for name in ("placed", "stop", "skip", "end")]
    runs = len(list(plan_of().runs_at(NEAR)))
    return [*here, Wish(Redo(NEAR), ground, runs=runs), Wish(Redo(FAR), ground, runs=0), Wish(TakeBack(FAR), ground)]


CARRIED_OUT = {
    State.ASKING: {Placed, Skip, Redo, TakeBack},
    State.COUNTING: {Stop, Skip, Redo, TakeBack},
    State.SENDING: {Stop, Skip, Redo, TakeBack},
    State.DONE: {End, Redo, TakeBack},
}


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("state", CARRIED_OUT)
def test_a_double_tap_has_one_effect_at_most_whichever_of_two_screens_it_is_on(state: State, gap: float) -> None:
    done = set()
    for number in range(7):
        for looks_again in (False, True):  # the second tap is on what came up after the first
            with new_store() as store:
                world = world_in(state, store)
                first = wishes(world.sweep.ground)[number]
                if not tap(world, first):
                    continue
                done.add(type(first.want))
                world.now += gap
                second = wishes(world.sweep.ground if looks_again else first.ground)
                assert not [wish for wish in second if tap(world, wish)]
    assert done == CARRIED_OUT[state]


def test_after_the_dead_time_a_wish_counts_and_one_on_an_old_ground_never(store: Store) -> None:
    world = world_in(State.ASKING, store)
    old = world.sweep.ground
    assert tap(world, wish_here("skip", old))
    world.now += DEAD_S + 0.01
    assert world.sweep.why_not(wish_here("skip", old), world.now) == (
        "the screen showed that 4.5 m is to be started, and meanwhile nothing is left to do"
    )
    assert tap(world, Wish(TakeBack(Place(0, 4.5)), world.sweep.ground))
    assert world.sweep.ground == old


@pytest.mark.parametrize(("age", "late"), [(0, False), (STALE_S - 1, False), (STALE_S + 1, True), (-3, True)])
def test_a_wish_that_was_long_on_its_way_or_is_of_another_clock_is_refused(
    age: float, late: bool, store: Store
) -> None:
    world = world_in(State.ASKING, store)
    wish = Wish(Skip(Place(0, 4.5)), world.sweep.ground, world.now - age)
    assert ("no connection" in world.sweep.why_not(wish, world.now)) == late


def test_a_wish_while_the_last_run_of_a_place_is_written_down_leaves_the_next_place_alone(store: Store) -> None:
    """It was about the place that it names."""
    for want in (Skip, Stop):
        world = SweepWorld(plan_of(packets=(10,), repeats=1), store)
        while world.sweep.state is not State.STORING:
            world.step()
        place = world.sweep.place
        assert place is not None
        world.sweep.handle(want(place), world.now)
        while world.sweep.state is State.STORING:
            world.step()
        assert world.sweep.skipped == []
        if place == NEAR:
            assert (world.sweep.place, world.sweep.trouble) == (FAR, "")


def test_a_skip_is_taken_back_from_the_next_place_from_a_run_and_from_the_end(store: Store) -> None:
    world = SweepWorld(plan_of(), store)
    world.sweep.handle(Skip(NEAR), 0.0)
    world.sweep.handle(TakeBack(NEAR), 0.0)
    assert (world.sweep.place, world.sweep.skipped) == (NEAR, [])
    world.sweep.handle(Skip(NEAR), 0.0)
    world.sweep.handle(Placed(FAR), 0.0)
    world.sweep.handle(TakeBack(NEAR), 0.0)
    assert world.sweep.state is State.COUNTING  # what is under way goes on
    while world.sweep.place != NEAR:
        world.step()
    world.sweep.handle(Skip(NEAR), world.now)
    assert world.sweep.state is State.DONE
    world.sweep.handle(TakeBack(NEAR), world.now)
    world.run()
    assert len(store.runs()) == 8


def test_a_run_counts_as_written_when_it_is_and_as_withdrawn_when_that_is_written(store: Store) -> None:
    world = SweepWorld(plan_of(), store)
    while world.sweep.state is not State.STORING:
        world.step()
    assert (len(world.sweep.done), len(store.runs())) == (0, 0)
    while world.sweep.state is State.STORING:
        world.step()
    assert (len(world.sweep.done), len(store.runs())) == (1, 1)
    world.sweep.handle(Redo(NEAR), world.now)
    assert (len(world.sweep.done), len(store.runs())) == (1, 1)
    while world.sweep.state is State.WITHDRAWING:
        world.step()
    assert (len(world.sweep.done), len(store.runs())) == (0, 0)


def test_at_the_end_a_place_can_be_done_again_and_after_it_nothing_can(store: Store) -> None:
    world = world_in(State.DONE, store)
    assert tap(world, Wish(Redo(NEAR), world.sweep.ground, runs=world.sweep.runs_at(NEAR)))
    assert world.sweep.place == NEAR
    world.run()
    assert world.sweep.state is State.OVER
    for wish in wishes(world.sweep.ground):
        assert world.sweep.why_not(wish, world.now + 10) == "the sweep has ended"
        if wish.want:
            world.sweep.handle(wish.want, world.now + 10)
    assert world.sweep.state is State.OVER
    assert world.sweep.next_effect() is None


def test_a_redo_withdraws_as_many_runs_as_its_question_named_or_none(store: Store) -> None:
    world = SweepWorld(plan_of(), store)
    while len(world.sweep.done) < 2:
        world.step()
    asked = Wish(Redo(NEAR), world.sweep.ground, runs=2)
    world.now += 10
    assert world.sweep.why_not(asked, world.now) == ""
    while world.sweep.state is not State.STORING:
        world.step()
    assert len(world.sweep.done) == 2
    assert world.sweep.why_not(asked, world.now) == "0.5 m has 3 runs now, and the question was about 2: ask again"
    while world.sweep.state is State.STORING:
        world.step()
    assert world.sweep.ground == asked.ground
    assert not tap(world, asked)
    assert tap(world, Wish(Redo(NEAR), world.sweep.ground, runs=3))
    assert world.sweep.done == {}


def told(world: SweepWorld) -> list[bool | None]:
    """Of Alice, Bob and Eve whether they move."""
    assert world.sweep.place
    return [row["moves"] for row in to_do(world.sweep.plan, world.sweep.place, world.sweep.whereabouts.may_be)]


def test_nobody_stays_who_may_have_been_moved_for_what_was_asked_meanwhile(store: Store) -> None:
    world = SweepWorld(plan_of(distances_m=(0.5, 3.0, 4.5)), store)
    assert told(world) == [None, None, None]
    while world.sweep.place != FAR:
        world.step()
    assert told(world) == [False, True, False]
    world.sweep.handle(Redo(NEAR), world.now)
    while world.sweep.state is not State.ASKING:
        world.step()
    assert told(world) == [False, None, False]
    world.sweep.handle(Placed(NEAR), world.now)
    assert told(world) == [False, False, False]
    world.sweep.handle(Stop(NEAR), world.now)
    assert told(world) == [False, False, False]
    world.sweep.handle(Skip(NEAR), world.now)
    assert told(world) == [False, True, False]
    world.sweep.handle(Skip(FAR), world.now)
    assert told(world) == [False, True, False]
    world.sweep.handle(TakeBack(FAR), world.now)
    assert told(world) == [False, None, False]


# --- on the wire ------------------------------------------------------------------------------------------------------

GROUND = {"place": asdict(NEAR), "phase": "asking"}


def wire(**changes: Any) -> bytes:
    return json.dumps({"wish": "placed", "at": 1.5, "ground": GROUND} | changes).encode()


def test_a_wish_is_read_as_the_page_writes_it() -> None:
    ground = Ground(NEAR, Phase.ASKING)
    assert read_wish(wire(), plan_of()) == Wish(Placed(NEAR), ground, 1.5)
    redo = wire(wish="redo", place=asdict(FAR), runs=2)
    assert read_wish(redo, plan_of()) == Wish(Redo(FAR), ground, 1.5, runs=2)
    end = Ground(None, Phase.DONE)
    assert read_wish(wire(wish="end", ground={"place": None, "phase": "done"}), plan_of()) == Wish(End(), end, 1.5)


DIGITS = "9" * 400
NO_WISHES = [
    b"",
    b"[]",
    b"{",
    b"null",
    b"\xff\xfe",
    b"[" * 1000,
    b'{"a":' * 180,
    b'{"wish": "placed"}',
    wire(wish="fly"),
    wire(wish=["placed"]),
    wire(wish="redo"),
    wire(wish="redo", place=None),
    wire(wish="redo", place=asdict(NEAR)),
    *[wire(wish="redo", place=asdict(NEAR), runs=runs) for runs in (None, True, "2", 2.0, [2])],
    wire(wish="redo", place={"turn": [], "distance_m": 0.5}),
    wire(wish="redo", place={"turn": 0, "distance_m": 0.51}),
    wire(wish="redo", place={"turn": 7, "distance_m": 0.5}),
    wire(at=None),
    wire(at="now"),
    wire(ground=None),
    wire(ground={"place": None, "phase": "resting"}),
    *[
        wire(**changes).replace(b"777", number)
        for number in (b"Infinity", b"-Infinity", b"NaN", b"1e999", DIGITS.encode(), b"-" + DIGITS.encode())
        for changes in (
            {"at": 777},
            {"wish": "redo", "runs": 2, "place": {"turn": 777, "distance_m": 0.5}},
            {"wish": "redo", "runs": 2, "place": {"turn": 0, "distance_m": 777}},
        )
    ],
]


@pytest.mark.parametrize("body", NO_WISHES, ids=range(len(NO_WISHES)))
def test_what_is_no_wish_is_refused_in_one_way(body: bytes) -> None:
    with pytest.raises(NoWishError):
        read_wish(body, plan_of())
