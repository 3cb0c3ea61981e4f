"""`close(now)` is the same for all three endpoints: give up, send nothing more, forget what is secret."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from enum import Enum

import pytest
from harness import ALICE, Cast, DeterministicRandom, bob_address, cast, small
from session_pair import Pair
from test_establish import BURST_BEGINS, H, both_profiles, request_of

from bt_selfsecure.errors import LocalError
from bt_selfsecure.protocols.haoxiao.events import EstablishFailed, Failure
from bt_selfsecure.protocols.haoxiao.frames import Kind, Profile
from bt_selfsecure.protocols.haoxiao.initiator import Initiator
from bt_selfsecure.protocols.haoxiao.initiator_table import InitiatorState
from bt_selfsecure.protocols.haoxiao.responder import Responder
from bt_selfsecure.protocols.haoxiao.responder_table import ResponderState
from bt_selfsecure.protocols.haoxiao.session import Session
from bt_selfsecure.protocols.haoxiao.session_config import SessionConfig
from bt_selfsecure.sansio.context import EndpointContext

Phase = dict[str, float]
PHASES: Phase = {"before it begins": -1.0, "requesting": 0.0, "bursting": BURST_BEGINS + 0.02, "over": 60.0}


def reachable(thing: object, seen: set[int]) -> Iterator[bytes]:
    """Every string of bytes that an endpoint still holds, but for its configuration and its events."""
    if id(thing) in seen or isinstance(thing, (Enum, type)) or callable(thing):
        return
    seen.add(id(thing))
    if isinstance(thing, bytes):
        yield thing
    elif isinstance(thing, dict):
        for pair in thing.items():
            yield from reachable(pair, seen)
    elif isinstance(thing, (list, tuple, set)):
        for part in thing:
            yield from reachable(part, seen)
    elif is_dataclass(thing):
        for field in fields(thing):
            yield from reachable(getattr(thing, field.name), seen)
    elif hasattr(thing, "__dict__"):
        for name, part in vars(thing).items():
            if name not in ("config", "_events"):
                yield from reachable(part, seen)


def at_phase(profile: Profile, phase: str) -> Cast:
    scene = cast(profile, exchange_shares=profile is H, start=phase != "before it begins")
    scene.world.run(PHASES[phase])
    return scene


@both_profiles
@pytest.mark.parametrize("phase", PHASES)
def test_whoever_is_closed_sends_nothing_more_and_waits_for_nothing(profile: Profile, phase: str) -> None:
    scene = at_phase(profile, phase)
    now = scene.world.now
    for end in (scene.alice, scene.bob):
        end.close(now)
        end.close(now)
        assert end.get_timer() is None
        assert end.frames_to_send(now + 100.0) == []
    assert scene.alice.state in (InitiatorState.FAILED, InitiatorState.ESTABLISHED)


@both_profiles
@pytest.mark.parametrize("phase", PHASES)
def test_whoever_is_closed_holds_no_secret_of_an_establishment(profile: Profile, phase: str) -> None:
    scene = at_phase(profile, phase)
    secrets = {t.frame.message for t in scene.world.frames(Kind.RAND)} | {scene.alice._calls.rand_data} - {b""}
    if phase == "over":
        secrets.add(scene.world.established("bob").k0)
    for end in (scene.alice, scene.bob):
        end.close(scene.world.now)
        assert secrets.isdisjoint(reachable(end, set()))
    assert scene.alice._calls.share.public == b""


@both_profiles
def test_an_initiator_closed_before_it_begins_says_so_and_never_begins(profile: Profile) -> None:
    alice = Initiator(small(ALICE, profile), EndpointContext(DeterministicRandom(1)))
    alice.close(1.0)
    assert alice.next_event() == EstablishFailed(Failure.CLOSED)
    with pytest.raises(LocalError):
        alice.start(2.0)


@both_profiles
def test_a_responder_that_has_given_up_takes_the_next_request(profile: Profile) -> None:
    bob = Responder(small(bob_address(0), profile), EndpointContext(DeterministicRandom(1)))
    bob.receive_frame(request_of(ALICE, 1, profile), 0.0)
    bob.give_up(0.0)
    assert bob.frames_to_send(0.0) == []
    assert bob.state is ResponderState.IDLE
    bob.receive_frame(request_of(bob_address(7), 2, profile), 0.0)
    assert len(bob.frames_to_send(0.0)) == 1


@both_profiles
@pytest.mark.parametrize("phase", PHASES)
def test_a_closed_responder_answers_nothing_more(profile: Profile, phase: str) -> None:
    """Neither a new request, nor any frame that the establishment before it has brought."""
    scene = at_phase(profile, phase)
    now = scene.world.now
    scene.bob.close(now)
    state = scene.bob.state
    for data in [request_of(bob_address(7), 2, profile), *(t.data for t in scene.world.sent)]:
        scene.bob.receive_frame(data, now + 100.0)
        scene.bob.handle_timer(now + 100.0)
        assert scene.bob.frames_to_send(now + 100.0) == []
        assert scene.bob.get_timer() is None
    assert scene.bob.state is state


@both_profiles
def test_a_closed_session_does_not_send_what_waited_for_its_disk(profile: Profile) -> None:
    pair = Pair(profile, SessionConfig())
    pair.alice.holds = True
    pair.alice.session.send(b"not yet", 3.0)
    pair.alice.serve()
    pair.alice.session.close(4.0)
    pair.alice.write()
    assert pair.alice.session.frames_to_send(5.0) == []
    assert [step.time for step in pair.alice.trace if step.input == "CLOSE"] == [4.0, 4.0]
    with pytest.raises(LocalError, match="closed"):
        pair.alice.session.send(b"more", 5.0)


def test_every_endpoint_is_closed_in_the_same_way() -> None:
    signatures = {tuple(kind.close.__annotations__.items()) for kind in (Initiator, Responder, Session)}
    assert len(signatures) == 1
