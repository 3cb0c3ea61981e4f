"""One burst for several peers who are called by name: each key is as if its peer were alone."""

from __future__ import annotations

from typing import Any

import pytest
from harness import ALICE, LATENCY, Arrival, DeterministicRandom, Transmission, World, bob_address, clear, small

from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.events import AcceptRefused, Established, EstablishFailed, Failure, Refusal
from bt_selfsecure.protocols.haoxiao.frames import Kind, Profile
from bt_selfsecure.protocols.haoxiao.initiator import LAGGARD_S, Initiator
from bt_selfsecure.protocols.haoxiao.initiator_table import InitiatorState
from bt_selfsecure.protocols.haoxiao.responder import Responder
from bt_selfsecure.sansio.context import EndpointContext

H, P = Profile.HARDENED, Profile.PAPER
KEYS = {i: bytes([0x40 + i]) * limits.KEY_BYTES for i in range(limits.MAX_RESPONDERS)}


def called(
    count: int, channel: Any = clear, profile: Profile = H, own: dict[int, dict[str, Any]] | None = None, **common: Any
) -> tuple[World, Initiator, list[Responder]]:
    """Alice calls so many by name; `own` changes what both ends have about one of them."""
    configs = [small(ALICE, profile, peer=bob_address(i), **(common | (own or {}).get(i, {}))) for i in range(count)]
    alice = Initiator(configs[0], EndpointContext(DeterministicRandom(1)), configs[1:])
    bobs = [
        Responder(
            small(bob_address(i), profile, peer=ALICE, **(common | (own or {}).get(i, {}))),
            EndpointContext(DeterministicRandom(2 + i)),
        )
        for i in range(count)
    ]
    names = [f"bob{i}" for i in range(count)]
    world = World({"alice": alice} | dict(zip(names, bobs, strict=True)), channel)
    world.peers = {bob_address(i): name for i, name in enumerate(names)}
    alice.start(0.0)
    return world, alice, bobs


def keys(world: World, name: str) -> dict[bytes, Established]:
    return {event.peer: event for event in world.events(Established, name)}


def deaf(name: str, kind: Kind) -> Any:
    def channel(transmission: Transmission) -> list[Arrival]:
        lost = transmission.frame.kind is kind and name in (transmission.source, transmission.destination)
        return [] if lost else clear(transmission)

    return channel


@pytest.mark.parametrize("profile", [H, P])
def test_one_burst_gives_six_peers_six_keys_and_each_only_its_own(profile: Profile) -> None:
    world, alice, _ = called(6, profile=profile)
    world.run()
    own = keys(world, "alice")
    for i in range(6):
        assert world.established(f"bob{i}").k0 == own[bob_address(i)].k0
        assert world.established(f"bob{i}").sas == own[bob_address(i)].sas
    if profile is H:  # in `paper` nothing but the messages enters: who heard the same has the same key
        assert len({event.k0 for event in own.values()}) == 6
    assert len(world.frames(Kind.RAND, "alice")) == alice.sent == 8
    assert alice.state is InitiatorState.ESTABLISHED


def test_requests_share_the_session_id_and_name_each_peers_own_continuity_keys() -> None:
    own = {i: {"continuity_keys": (KEYS[i],), "requires_continuity": True} for i in range(3)}
    world, _, _ = called(3, own=own)
    world.run()
    requests = {t.destination: t.frame for t in world.frames(Kind.REQUEST)}
    assert len({frame.rand[: limits.SESSION_ID_BYTES] for frame in requests.values()}) == 1
    assert len({frame.rand for frame in requests.values()}) == len({f.message for f in requests.values()}) == 3
    assert all(event.continuity for event in world.events(Established))


def test_each_peer_has_its_own_authentication_key_and_comparison() -> None:
    own = {i: {"authentication_key": KEYS[i]} for i in range(2)} | {2: {"compare": False}}
    world, _, _ = called(3, own=own)
    world.run()
    told = keys(world, "alice")
    assert [told[bob_address(i)].authenticated for i in range(3)] == [True, True, False]
    assert [told[bob_address(i)].sas is not None for i in range(3)] == [True, True, False]


def test_a_responder_with_anothers_authentication_key_gets_no_key_and_the_others_do() -> None:
    own = {i: {"authentication_key": KEYS[i]} for i in range(3)}
    world, _, bobs = called(3, own=own)
    bobs[1].config = small(bob_address(1), peer=ALICE, authentication_key=KEYS[2])
    world.run()
    assert set(keys(world, "alice")) == {bob_address(0), bob_address(2)}
    assert [e.peer for e in world.events(EstablishFailed, "alice")] == [bob_address(1)]


def test_one_who_lacks_continuity_is_refused_and_the_others_are_not() -> None:
    own = {0: {"continuity_keys": (KEYS[0],), "requires_continuity": True}}
    world, _, bobs = called(2, own=own)
    bobs[0].config = small(bob_address(0), peer=ALICE)
    world.run()
    assert AcceptRefused(bob_address(0), Refusal.CONTINUITY) in world.events(AcceptRefused, "alice")
    failed = EstablishFailed(Failure.NO_CONTINUITY, bob_address(0), "the burst began without it")
    assert world.events(EstablishFailed, "alice") == [failed]
    assert set(keys(world, "alice")) == {bob_address(1)}


def test_the_burst_waits_for_the_slow_and_begins_without_the_deaf() -> None:
    world, _, _ = called(3, deaf("bob2", Kind.ACCEPT))
    world.run()
    first = world.times(Kind.RAND)[0]
    assert LAGGARD_S <= first - 2 * LATENCY <= LAGGARD_S + 1.0
    assert set(keys(world, "alice")) == {bob_address(0), bob_address(1)}
    failed = EstablishFailed(Failure.NO_ACCEPT, bob_address(2), "the burst began without it")
    assert world.events(EstablishFailed, "alice") == [failed]


def test_one_who_answers_in_the_name_of_nobody_called_is_refused() -> None:
    world, _, bobs = called(2)
    bobs[1].config = small(bob_address(9), peer=ALICE)
    world.run()
    assert AcceptRefused(bob_address(9), Refusal.IDENTITY) in world.events(AcceptRefused, "alice")
    assert set(keys(world, "alice")) == {bob_address(0)}


@pytest.mark.parametrize("state", ["REQUESTING", "BURSTING", "COLLECTING", "CONFIRMING"])
def test_who_leaves_at_any_moment_takes_no_other_key_along(state: str) -> None:
    world, alice, _ = called(3, deaf("bob1", Kind.ACCEPT if state == "REQUESTING" else Kind.END))
    while alice.state is not InitiatorState[state]:
        assert world.step()
    alice.leave(bob_address(1), world.now)
    world.run()
    assert set(keys(world, "alice")) == {bob_address(0), bob_address(2)}
    assert alice.state is InitiatorState.ESTABLISHED


def test_when_the_last_one_leaves_the_establishment_ends() -> None:
    world, alice, _ = called(2)
    alice.leave(bob_address(0), 0.0)
    alice.leave(bob_address(1), 0.0)
    world.run(1.0)
    assert alice.state is InitiatorState.FAILED
    assert not keys(world, "alice")


def test_both_ends_have_the_same_tokens_of_what_was_heard_and_no_message_in_them() -> None:
    def channel(transmission: Transmission) -> list[Arrival]:
        frame = transmission.frame
        missed = frame.kind is Kind.RAND and frame.seq % 4 == int(transmission.destination[3:])
        return [] if missed else clear(transmission)

    world, _, _ = called(3, channel)
    world.run()
    messages = {frame.frame.message for frame in world.frames(Kind.RAND)}
    for peer, event in keys(world, "alice").items():
        other = world.established(world.peers[peer])
        assert (event.session, event.tokens) == (other.session, other.tokens)
        assert len(event.tokens) == limits.TOKEN_BYTES * len(event.received)
        assert not any(message[:8] in event.tokens for message in messages)
    assert len({event.session for event in world.events(Established)}) == 1
