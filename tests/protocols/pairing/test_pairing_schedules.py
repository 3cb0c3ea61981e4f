"""Any schedule of loss, repetition, reordering and giving up: both ends are paired, or neither is."""

from __future__ import annotations

import random

import pytest
from amounts import part_of
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from pairing_ends import events, initiator, read, responder

from bt_selfsecure.protocols.pairing import limits
from bt_selfsecure.protocols.pairing.codes import Way
from bt_selfsecure.protocols.pairing.end import PairingEnd, PairingState
from bt_selfsecure.protocols.pairing.events import Event, Keyed, Paired, PairingFailed, Released

SEEDS = range(300)


def stands(told: list[Event]) -> bytes | None:
    """The key that an end's driver keeps after these events."""
    key, kept = b"", False
    for event in told:
        match event:
            case Keyed():
                key, kept = event.key, False
            case Paired():
                kept = True
            case PairingFailed() | Released():
                key, kept = b"", False
    return key if kept else None


class Pairings(RuleBasedStateMachine):
    """Frames wait in a pool, from which they are taken in any order, more than once or never."""

    def __init__(self) -> None:
        super().__init__()
        self.way = Way.CODE
        self.bob = responder(self.way)
        self.alice = initiator(read(self.bob))
        self.now = 0.0
        self.told: dict[PairingEnd, list[Event]] = {self.alice: [], self.bob: []}
        self.pool: list[tuple[PairingEnd, bytes]] = []
        self.alice.start(0.0)
        self._turn()

    def _turn(self) -> None:
        for source, target in ((self.alice, self.bob), (self.bob, self.alice)):
            self.pool += [(target, data) for data in source.frames_to_send(self.now)]
            self.told[source] += events(source)
        del self.pool[:-40]

    @precondition(lambda self: self.pool)
    @rule(place=st.integers(0, 39), keep=st.booleans())
    def deliver(self, place: int, keep: bool) -> None:
        place %= len(self.pool)
        target, data = self.pool[place]
        if not keep:
            del self.pool[place]
        target.receive_frame(data, self.now)
        self._turn()

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        for end in self.told:
            end.handle_timer(self.now)
        self._turn()

    @rule(which=st.booleans())
    def confirm(self, which: bool) -> None:
        end = self.alice if which else self.bob
        if end.state is PairingState.KEYED:
            end.confirm(self.now)
            self._turn()

    @rule(which=st.booleans())
    def give_up(self, which: bool) -> None:
        end = self.alice if which else self.bob
        if end.state in (PairingState.KEYED, PairingState.CONFIRMED):
            end.close(self.now)
            self._turn()

    @invariant()
    def one_key(self) -> None:
        keys = {event.key for told in self.told.values() for event in told if isinstance(event, Keyed)}
        assert len(keys) <= 1

    def teardown(self) -> None:
        """From any state on, once the channel works: both stand or neither, and with one key."""
        for _ in range(int(3 * (limits.PATIENCE_S + limits.LINGER_S))):
            for target, data in self.pool:
                target.receive_frame(data, self.now)
            self.pool.clear()
            self.now += 1.0
            for end in self.told:
                end.handle_timer(self.now)
            self._turn()
        alice, bob = stands(self.told[self.alice]), stands(self.told[self.bob])
        assert alice == bob


TestPairings = Pairings.TestCase
TestPairings.settings = settings(max_examples=part_of(60), stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("way", Way)
def test_half_of_all_frames_lost_leaves_both_paired_or_neither(way: Way) -> None:
    paired = 0
    for seed in SEEDS:
        rng = random.Random(seed)
        bob = responder(way)
        alice = initiator(read(bob))
        alice.start(0.0)
        told: dict[PairingEnd, list[Event]] = {alice: [], bob: []}
        say_no = rng.random() < 0.2
        for number in range(4 * 400):
            now = number / 4
            for source, target in ((alice, bob), (bob, alice)):
                source.handle_timer(now)
                for data in source.frames_to_send(now):
                    for _ in range(rng.choice((0, 1, 1, 2))) if rng.random() < 0.7 else ():
                        target.receive_frame(data, now)
                new = events(source)
                told[source] += new
                if source.state is PairingState.KEYED and any(isinstance(event, Keyed) for event in new):
                    source.close(now) if say_no and source is bob else source.confirm(now)
        assert stands(told[alice]) == stands(told[bob])
        paired += stands(told[alice]) is not None
    assert paired > len(SEEDS) // 2
