"""Establishment as stories: what is lost, who waits how long, who stays silent, and what the two ends then say of it.

Times follow from harness.py: T_H = T_W = 0.5, T_1 = 0.25, T_2 = T_3 = 1, a burst of 8 packets in 7/128 s.
L is the latency from any end to any other.
"""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from harness import (
    ALICE,
    INTERVAL,
    Arrival,
    Cast,
    DeterministicRandom,
    Transmission,
    World,
    bob_address,
    cast,
    clear,
    losses,
    lost,
    small,
)
from harness import LATENCY as L

from bt_selfsecure.errors import UsageError
from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.establish import EstablishConfig, Timers
from bt_selfsecure.protocols.haoxiao.events import (
    BurstSent,
    Established,
    EstablishFailed,
    Failure,
    Independence,
    PeerAccepted,
    Refusal,
    RequestRefused,
    ResponseVerified,
)
from bt_selfsecure.protocols.haoxiao.frames import Frame, Kind, Profile, encode
from bt_selfsecure.protocols.haoxiao.initiator import Initiator
from bt_selfsecure.protocols.haoxiao.initiator_table import InitiatorState
from bt_selfsecure.protocols.haoxiao.material import Offer
from bt_selfsecure.protocols.haoxiao.responder import Responder
from bt_selfsecure.protocols.haoxiao.responder_table import ResponderState
from bt_selfsecure.protocols.haoxiao.suites import PAPER
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.events import FrameRejected, Rejection

both_profiles = pytest.mark.parametrize("profile", Profile, ids=lambda profile: profile.label)
P, H = Profile.PAPER, Profile.HARDENED
BURST_BEGINS = 2 * L
BURST_ENDS = BURST_BEGINS + 7 * INTERVAL
ANSWERS_ARE_IN = BURST_ENDS + 0.25 + 2.0  # T_1 and 2 T_2 after the burst
EARLY_RESPONSE = BURST_ENDS + L + 0.0625  # hardened: `settle` after the last packet
FULL_RESPONSE = BURST_BEGINS + L + 0.5  # 2 T_1 after the first packet


def assert_equal_keys(scene: Cast) -> Established:
    alice, bob = scene.world.established("alice"), scene.world.established("bob")
    assert alice.k0 == bob.k0
    assert (alice.fingerprint, alice.sas, alice.received) == (bob.fingerprint, bob.sas, bob.received)
    return alice


# --- the happy path, and the timers that it shows ---------------------------------------------------------------------


def test_hardened_goes_on_as_soon_as_it_can() -> None:
    scene = cast(H)
    scene.world.run()
    world = scene.world
    assert world.times(Kind.REQUEST) == [0.0]
    assert world.times(Kind.ACCEPT) == [L]
    assert world.times(Kind.RAND) == [BURST_BEGINS + i * INTERVAL for i in range(8)]
    assert world.times(Kind.RESPONSE) == [EARLY_RESPONSE]
    assert world.times(Kind.ACKNOWLEDGE) == [EARLY_RESPONSE + L]
    assert world.times(Kind.END) == [EARLY_RESPONSE + 2 * L]
    assert assert_equal_keys(scene).received == tuple(range(8))
    assert scene.alice.state is InitiatorState.ESTABLISHED
    assert scene.bob.state is ResponderState.ESTABLISHED


def test_paper_waits_for_every_timer_to_the_letter() -> None:
    """Bob responds when 2 T_1 is over, Alice acknowledges when T_1 and 2 T_2 are, Bob ends when 2 T_2 and 2 T_3 are."""
    scene = cast(P)
    scene.world.run()
    world = scene.world
    assert world.times(Kind.RESPONSE) == [FULL_RESPONSE]
    assert world.times(Kind.ACKNOWLEDGE) == [ANSWERS_ARE_IN]
    assert world.times(Kind.END) == [FULL_RESPONSE + 2.0 + 2.0]
    assert world.when(Established, "bob") == [FULL_RESPONSE + 4.0]
    assert world.when(Established, "alice") == [FULL_RESPONSE + 4.0 + L]
    assert_equal_keys(scene)


@both_profiles
def test_nothing_happens_before_a_deadline(profile: Profile) -> None:
    """`handle_timer` may be called at any time; before the deadline it does nothing."""
    scene = cast(profile, channel=lost(Kind.RESPONSE))
    while scene.world.step():
        for end in (scene.alice, scene.bob):
            before, timer = end.state, end.get_timer()
            if timer is not None and timer > scene.world.now:
                end.handle_timer(scene.world.now)
                end.handle_timer(math.nextafter(timer, 0))
                assert end.state is before
                assert end.frames_to_send(scene.world.now) == []
                assert end.get_timer() == timer


@both_profiles
def test_a_burst_has_exactly_n_packets_numbered_from_0(profile: Profile) -> None:
    """Row 2: the paper counts 0 to N_S, which is one more."""
    scene = cast(profile)
    scene.world.run()
    assert [t.frame.seq for t in scene.world.frames(Kind.RAND)] == list(range(8))
    assert scene.world.events(BurstSent) == [BurstSent(8)]


@both_profiles
def test_a_burst_packet_carries_at_least_128_fresh_random_bits(profile: Profile) -> None:
    """Row 6."""
    for compact in (False, True):
        scene = cast(profile, compact=compact)
        scene.world.run()
        messages = [t.frame.message for t in scene.world.frames(Kind.RAND_COMPACT if compact else Kind.RAND)]
        assert len(set(messages)) == 8
        assert {8 * len(message) for message in messages} == {128 if compact else 256}
        assert_equal_keys(scene)


def test_a_message_of_few_bits_would_be_guessed_with_the_response_as_oracle() -> None:
    """Row 6: HMAC_rsp [9] tells an Eve who lacks one message of 8 bits which of 256 it was."""
    messages = [bytes([i]) * 32 for i in range(7)]
    response = Frame(P, Kind.RESPONSE, message=b"pair id.\x01\xff")
    kd = PAPER.derived_key(PAPER.initial_key([*messages, b"\x2a"], b"", b""))
    mac = PAPER.establishment_mac(kd, response)

    def guessed(last: bytes) -> bool:
        kd = PAPER.derived_key(PAPER.initial_key([*messages, last], b"", b""))
        return PAPER.establishment_mac(kd, response) == mac

    assert [guess for guess in range(256) if guessed(bytes([guess]))] == [0x2A]


# --- one lost packet of each kind -------------------------------------------------------------------------------------


@both_profiles
def test_a_lost_request_is_sent_again_after_t_h_and_t_w(profile: Profile) -> None:
    scene = cast(profile, channel=lost(Kind.REQUEST))
    scene.world.run()
    first, second = scene.world.frames(Kind.REQUEST)
    assert (first.time, second.time) == (0.0, 1.0)
    assert first.data == second.data
    assert_equal_keys(scene)


@both_profiles
def test_a_lost_accept_is_said_again_when_the_request_comes_again(profile: Profile) -> None:
    scene = cast(profile, channel=lost(Kind.ACCEPT))
    scene.world.run()
    first, second = scene.world.frames(Kind.ACCEPT)
    assert (first.time, second.time) == (L, 1.0 + L)
    assert first.data == second.data
    assert_equal_keys(scene)


def test_the_lost_first_packet_of_a_burst_is_not_in_s_and_2_t_1_begins_with_the_second() -> None:
    for profile, response in ((P, FULL_RESPONSE + INTERVAL), (H, EARLY_RESPONSE)):
        scene = cast(profile, channel=lost(Kind.RAND, seqs={0}))
        scene.world.run()
        assert scene.world.times(Kind.RESPONSE) == [response]
        assert assert_equal_keys(scene).received == tuple(range(1, 8))


def test_with_the_last_packet_of_a_burst_lost_the_responder_of_paper_waits_for_2_t_1() -> None:
    scene = cast(P, channel=lost(Kind.RAND, seqs={7}))
    scene.world.run()
    assert scene.world.times(Kind.RESPONSE) == [FULL_RESPONSE]
    assert assert_equal_keys(scene).received == tuple(range(7))


def test_in_hardened_the_list_tells_that_the_burst_is_over_whatever_was_lost_of_it() -> None:
    scene = cast(H, channel=lost(Kind.RAND, seqs={0, 7}, times=2))
    scene.world.run()
    assert scene.world.times(Kind.RESPONSE) == [EARLY_RESPONSE]
    assert assert_equal_keys(scene).received == tuple(range(1, 7))


def test_a_lost_list_is_repeated_until_the_response() -> None:
    scene = cast(H, channel=lost(Kind.RAND_LIST, times=2))
    scene.world.run()
    lists = scene.world.times(Kind.RAND_LIST)
    assert lists == [BURST_ENDS + 0.125 * i for i in range(3)]
    assert scene.world.times(Kind.RESPONSE) == [lists[-1] + L + 0.0625]
    assert_equal_keys(scene)


def test_without_its_list_a_burst_is_no_key() -> None:
    scene = cast(H, channel=lost(Kind.RAND_LIST, times=100))
    scene.world.run()
    assert scene.world.failures("alice") == [Failure.NO_RESPONSE]
    assert scene.world.failures("bob") == [Failure.NO_LIST]


def test_a_packet_that_the_list_has_overtaken_is_waited_for() -> None:
    def channel(transmission: Transmission) -> list[Arrival]:
        late = transmission.frame.kind is Kind.RAND and transmission.frame.seq == 7
        return [(L + 0.05, transmission.data)] if late else clear(transmission)

    scene = cast(H, channel=channel)
    scene.world.run()
    assert assert_equal_keys(scene).received == tuple(range(8))
    assert scene.world.times(Kind.RESPONSE) == [BURST_ENDS + L + 0.05 + 0.0625]


@both_profiles
def test_a_burst_of_which_nothing_arrives_ends_in_no_burst_and_no_response(profile: Profile) -> None:
    scene = cast(profile, channel=lost(Kind.RAND, times=8))
    scene.world.run()
    assert scene.world.failures("alice") == [Failure.NO_RESPONSE]
    assert scene.world.when(EstablishFailed, "alice") == [ANSWERS_ARE_IN]
    assert scene.world.failures("bob") == [Failure.NO_BURST]
    assert scene.world.when(EstablishFailed, "bob") == [L + 10 * (0.5 + 0.5)]
    assert scene.bob.state is ResponderState.IDLE


def test_a_lost_response_is_repeated_in_hardened() -> None:
    """Row 4."""
    scene = cast(H, channel=lost(Kind.RESPONSE))
    scene.world.run()
    assert scene.world.times(Kind.RESPONSE) == [EARLY_RESPONSE, EARLY_RESPONSE + 0.125]
    assert_equal_keys(scene)


def test_a_lost_acknowledge_is_repeated_in_hardened() -> None:
    """Row 4."""
    scene = cast(H, channel=lost(Kind.ACKNOWLEDGE))
    scene.world.run()
    assert scene.world.times(Kind.ACKNOWLEDGE) == [EARLY_RESPONSE + L, EARLY_RESPONSE + L + 0.125]
    assert_equal_keys(scene)


def test_a_lost_end_is_said_again_in_hardened_when_the_acknowledge_comes_again() -> None:
    """Row 4: the responder is established already, and its handler idempotent."""
    scene = cast(H, channel=lost(Kind.END))
    scene.world.run()
    first, second = scene.world.frames(Kind.END)
    assert first.data == second.data
    assert second.time == EARLY_RESPONSE + 2 * L + 0.125
    assert len(scene.world.events(Established, "bob")) == 1
    assert_equal_keys(scene)


def test_a_lost_response_of_paper_is_the_end_of_it() -> None:
    """Row 4: the paper sends response, acknowledge and end once each."""
    scene = cast(P, channel=lost(Kind.RESPONSE))
    scene.world.run()
    assert scene.world.failures("alice") == [Failure.NO_RESPONSE]
    assert scene.world.when(EstablishFailed, "alice") == [ANSWERS_ARE_IN]
    assert scene.world.failures("bob") == [Failure.NO_ACKNOWLEDGE]
    assert scene.world.when(EstablishFailed, "bob") == [FULL_RESPONSE + 2.0 + 2.0]
    assert len(scene.world.frames(Kind.RESPONSE)) == 1


def test_a_lost_acknowledge_of_paper_is_the_end_of_it() -> None:
    """Row 4: the responder gives up when 2 T_3 is over, the initiator after T_3 and the waiting phase."""
    scene = cast(P, channel=lost(Kind.ACKNOWLEDGE))
    scene.world.run()
    assert scene.world.failures("bob") == [Failure.NO_ACKNOWLEDGE]
    assert scene.world.when(EstablishFailed, "bob") == [FULL_RESPONSE + 2.0 + 2.0]
    assert scene.world.failures("alice") == [Failure.NO_END]
    assert scene.world.when(EstablishFailed, "alice") == [ANSWERS_ARE_IN + 1.0 + 5.0]


def test_a_lost_end_of_paper_leaves_one_side_believing() -> None:
    """Row 4: "even if both parties have established the initial password, the negotiation still fails" (3.2)."""
    scene = cast(P, channel=lost(Kind.END))
    scene.world.run()
    assert scene.world.established("bob")
    assert scene.world.failures("alice") == [Failure.NO_END]


def test_a_half_open_key_of_the_responder_is_replaced_by_the_next_good_establishment() -> None:
    """Row 4: every end packet is lost, Alice gives up and asks anew; Bob takes her again when T_d is over."""
    scene = cast(H, channel=lost(Kind.END, times=1000))
    scene.world.run()
    assert scene.world.failures("alice") == [Failure.NO_END]
    assert scene.bob.state is ResponderState.ESTABLISHED
    again = Initiator(small(), EndpointContext(DeterministicRandom(77)))
    again.start(scene.world.now)
    world = World({"alice": again, "bob": scene.bob}, now=scene.world.now)
    world.run()
    assert world.established("alice").k0 == world.established("bob").k0 != scene.world.established("bob").k0
    assert world.when(Established, "bob")[0] > L + 10.0


def test_everything_is_lost_once_and_hardened_gets_there_all_the_same() -> None:
    losers = [lost(kind) for kind in (Kind.REQUEST, Kind.ACCEPT, Kind.RESPONSE, Kind.ACKNOWLEDGE, Kind.END)]

    def channel(transmission: Transmission) -> list[Arrival]:
        kept = [loser(transmission) for loser in losers]
        return clear(transmission) if all(kept) else []

    scene = cast(H, channel=channel)
    scene.world.run()
    assert_equal_keys(scene)


# --- T_H, T_W, N, N_r -------------------------------------------------------------------------------------------------


def test_an_initiator_whom_nobody_answers_asks_every_t_h_and_t_w_and_then_says_so() -> None:
    alice = Initiator(small(), EndpointContext(DeterministicRandom(1)))
    alice.start(0.0)
    world = World({"alice": alice})
    world.run()
    assert world.times(Kind.REQUEST) == [float(i) for i in range(10)]
    assert world.when(EstablishFailed, "alice") == [9.5]
    assert world.events(EstablishFailed) == [EstablishFailed(Failure.NO_ACCEPT, None, "10 requests were sent")]


def test_an_accept_that_comes_in_t_w_starts_the_burst_at_once() -> None:
    def slow_accept(transmission: Transmission) -> list[Arrival]:
        return [(0.75 if transmission.frame.kind is Kind.ACCEPT else L, transmission.data)]

    scene = cast(H, channel=slow_accept)
    scene.world.run()
    assert scene.world.times(Kind.REQUEST) == [0.0]
    assert scene.world.times(Kind.RAND)[0] == L + 0.75
    assert_equal_keys(scene)


def test_t_h_ends_the_wait_for_more_responders_than_have_accepted() -> None:
    scene = cast(H, alice={"responders": 2})
    scene.world.run()
    assert scene.world.times(Kind.RAND)[0] == 0.5
    assert_equal_keys(scene)


def test_an_accept_after_the_burst_has_begun_is_too_late() -> None:
    scene = cast(H, bobs=2, alice={"responders": 1})
    scene.world.run()
    (late,) = scene.world.rejected("alice")[:1]
    assert late == FrameRejected(Rejection.REPLAY, "an accept after its time")
    assert len(scene.world.events(Established, "alice")) == 1


def test_fewer_than_n_r_packets_make_no_key_in_paper_and_the_responder_is_silent() -> None:
    scene = cast(P, channel=lost(Kind.RAND, times=5))
    scene.world.run()
    assert scene.world.events(EstablishFailed, "bob") == [
        EstablishFailed(Failure.TOO_FEW_PACKETS, ALICE, "|S| = 3, N_r = 4")
    ]
    assert scene.world.when(EstablishFailed, "bob") == [FULL_RESPONSE + 5 * INTERVAL]
    assert scene.world.frames(Kind.RESPONSE) == []
    assert scene.world.failures("alice") == [Failure.NO_RESPONSE]


@both_profiles
def test_the_initiator_holds_the_responder_to_its_own_n_r(profile: Profile) -> None:
    scene = cast(profile, channel=lost(Kind.RAND), alice={"threshold": 8, "max_burst": 8})
    scene.world.run()
    (failed,) = scene.world.events(EstablishFailed, "alice")
    assert (failed.reason, failed.detail) == (Failure.TOO_FEW_PACKETS, "|S| = 7, N_r = 8")
    assert scene.world.failures("bob") == [Failure.NO_ACKNOWLEDGE]


def test_the_responder_of_hardened_has_an_n_r_of_its_own_too() -> None:
    scene = cast(H, bob={"threshold": 9})
    scene.world.run()
    (failed,) = scene.world.events(EstablishFailed, "bob")
    assert (failed.reason, failed.detail) == (Failure.TOO_FEW_PACKETS, "|S| = 8, own N_r = 9")
    assert scene.world.failures("alice") == [Failure.NO_END]


# --- bursts that adapt ------------------------------------------------------------------------------------------------


def test_the_initiator_goes_on_bursting_until_the_target_is_reached() -> None:
    """Hardened: 20 secret bits for an Eve who loses half are 20 received packets, which takes four bursts of 8."""
    scene = cast(H, channel=losses(0.25, seed=3), target_bits=20.0, max_burst=64)
    scene.world.run()
    key = assert_equal_keys(scene)
    verified = scene.world.events(ResponseVerified)
    assert [event.sent for event in scene.world.events(BurstSent)] == [8 * (i + 1) for i in range(len(verified))]
    assert [t.frame.seq for t in scene.world.frames(Kind.RESPONSE)] == list(range(len(verified)))
    assert verified[-1].secret_bits >= 20 > verified[-2].secret_bits
    assert key.secret_bits == len(key.received) == verified[-1].received >= 20
    assert key.sent == 8 * len(verified)


def test_a_target_that_the_largest_burst_does_not_reach_is_named_with_its_figures() -> None:
    scene = cast(H, target_bits=20.0, max_burst=16)
    scene.world.run()
    assert scene.world.events(EstablishFailed, "alice") == [
        EstablishFailed(
            Failure.TARGET_MISSED,
            bob_address(0),
            "|S| = 16 of 16 sent gives 16.0 of 20 secret bits for an Eve who loses 50.00%; max_burst is 16",
        )
    ]
    assert {t.frame.seq for t in scene.world.frames(Kind.ACKNOWLEDGE)} == {1}  # they opened the second part


def test_a_lost_response_of_one_part_does_not_stop_the_burst_from_going_on() -> None:
    scene = cast(H, channel=lost(Kind.RESPONSE, seqs={1}, times=3), target_bits=20.0, max_burst=64)
    scene.world.run()
    assert assert_equal_keys(scene).received == tuple(range(24))


def test_a_late_packet_of_the_part_before_is_kept_and_does_not_cut_the_new_part_short() -> None:
    """The last packet of part 0 arrives in the middle of part 1: no sign that part 1 is over."""

    def channel(transmission: Transmission) -> list[Arrival]:
        late = transmission.frame.kind is Kind.RAND and transmission.frame.seq == 7
        return [(4 * INTERVAL, transmission.data)] if late else clear(transmission)

    timers = Timers(t_1=0.25, repeat=0.125, settle=INTERVAL / 2)
    scene = cast(H, channel=channel, target_bits=16.0, max_burst=64, timers=timers)
    scene.world.run()
    assert assert_equal_keys(scene).received == tuple(range(16))
    assert scene.world.times(Kind.RESPONSE)[0] < scene.world.times(Kind.RAND)[8]


def test_a_lost_opening_of_a_part_is_repeated_ever_more_slowly() -> None:
    timers = Timers(t_1=0.5, repeat=0.125, settle=0.0625)
    lossy = lost(Kind.ACKNOWLEDGE, times=2)
    scene = cast(H, channel=lossy, burst=64, target_bits=70.0, max_burst=128, timers=timers)
    scene.world.run()
    openings = [t.time for t in scene.world.frames(Kind.ACKNOWLEDGE) if t.frame.seq == 1]
    assert [round((b - a) / 0.125) for a, b in pairwise(openings[:3])] == [1, 2]
    received = assert_equal_keys(scene).received
    assert received[:64] == tuple(range(64))
    assert 70 <= len(received) < 128  # the first packets of the part came before it was open


def test_a_burst_packet_of_a_part_that_cannot_have_begun_is_not_kept() -> None:
    """The next part begins after this one's response; a stranger's packet from afar must not close the present one."""
    scene = cast(H)
    scene.world.run(BURST_BEGINS + 3 * INTERVAL)
    rand = scene.alice.request.rand[: limits.SESSION_ID_BYTES]
    for seq in (8, 31_999):
        scene.world.inject(encode(Frame(H, Kind.RAND, 0, seq, rand, bytes(32))), "bob")
    scene.world.run()
    assert assert_equal_keys(scene).received == tuple(range(8))
    assert FrameRejected(Rejection.REPLAY, "a burst packet out of its time") in scene.world.rejected("bob")
    assert scene.bob.received == 0  # the packets themselves are forgotten


def test_after_a_response_only_the_very_next_part_can_begin() -> None:
    scene = cast(H, channel=lost(Kind.RESPONSE))
    scene.world.run(EARLY_RESPONSE)
    assert scene.bob.state is ResponderState.RESPONDED
    rand = scene.alice.request.rand[: limits.SESSION_ID_BYTES]
    scene.world.inject(encode(Frame(H, Kind.RAND, 0, 16, rand, bytes(32))), "bob")
    scene.world.run()
    assert assert_equal_keys(scene).received == tuple(range(8))


def test_a_response_of_the_part_before_does_not_count_for_this_one() -> None:
    """bob0 had enough in part 0, bob1 had not; an echo of bob0's first response comes when part 1 has been sent."""

    def channel(transmission: Transmission) -> list[Arrival]:
        frame = transmission.frame
        if frame.kind is Kind.RAND and frame.seq in range(6) and transmission.destination == "bob1":
            return []
        echo = frame.kind is Kind.RESPONSE and frame.seq == 0 and transmission.source == "bob0"
        return [*clear(transmission), *([(8.5 * INTERVAL, transmission.data)] if echo else [])]

    scene = cast(H, channel=channel, bobs=2)
    scene.world.run()
    assert FrameRejected(Rejection.REPLAY, "a response that is not waited for") in scene.world.rejected("alice")
    assert scene.world.established("bob0").received == tuple(range(16))
    assert len(scene.world.events(Established, "alice")) == 2


# --- several responders -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bobs", [3, 10])
@both_profiles
def test_one_burst_gives_each_of_several_responders_a_key_of_its_own(profile: Profile, bobs: int) -> None:
    scene = cast(profile, channel=losses(0.25, seed=bobs), bobs=bobs, burst=32, target_bits=8.0)
    world = scene.world
    world.run()
    assert [t.frame.seq for t in world.frames(Kind.RAND)] == list(range(32))
    at_alice = {event.peer: event for event in world.events(Established, "alice")}
    at_bobs = {bob_address(i): world.established(f"bob{i}") for i in range(bobs)}
    assert at_alice.keys() == at_bobs.keys()
    assert all(at_alice[bob].k0 == at_bobs[bob].k0 for bob in at_bobs)
    assert len({event.k0 for event in at_bobs.values()}) == bobs
    reported = {(event.i, event.j): (event.received, event.missed_by_j) for event in world.events(Independence)}
    sets = {bob: set(event.received) for bob, event in at_bobs.items()}
    assert reported == {(i, j): (len(sets[i]), len(sets[i] - sets[j])) for i in sets for j in sets if i != j}


def test_a_responder_that_heard_all_of_another_ones_set_can_compute_its_key_and_is_reported() -> None:
    """Section 6 of the reading: a second responder is an Eve to the first."""

    def channel(transmission: Transmission) -> list[Arrival]:
        frame = transmission.frame
        missed = frame.kind is Kind.RAND and frame.seq in (2, 5) and transmission.destination == "bob0"
        return [] if missed else clear(transmission)

    scene = cast(P, channel=channel, bobs=2)
    scene.world.run()
    assert Independence(bob_address(0), bob_address(1), 6, 0) in scene.world.events(Independence)
    assert Independence(bob_address(1), bob_address(0), 8, 2) in scene.world.events(Independence)
    heard_by_1 = {t.frame.seq: t.frame.message for t in scene.world.frames(Kind.RAND)}
    stolen = PAPER.initial_key([heard_by_1[seq] for seq in (0, 1, 3, 4, 6, 7)], b"", b"")
    assert stolen == scene.world.established("bob0").k0


@both_profiles
def test_a_responder_that_vanishes_does_not_cost_the_others_their_keys(profile: Profile) -> None:
    def channel(transmission: Transmission) -> list[Arrival]:
        gone = transmission.source == "bob1" and transmission.frame.kind is not Kind.ACCEPT
        return [] if gone else clear(transmission)

    scene = cast(profile, channel=channel, bobs=2)
    scene.world.run()
    assert scene.world.established("alice").k0 == scene.world.established("bob0").k0
    assert scene.world.events(EstablishFailed, "alice") == [EstablishFailed(Failure.NO_RESPONSE, bob_address(1))]


def test_with_default_timers_the_slowest_responder_does_not_cost_the_fastest_its_key() -> None:
    """Hardened: bob1 misses the last packet of a part and waits for 2 T_1; bob0, long ready, must still be there."""

    def channel(transmission: Transmission) -> list[Arrival]:
        frame = transmission.frame
        missed = frame.kind is Kind.RAND and frame.seq == 399 and transmission.destination == "bob1"
        return [] if missed else clear(transmission)

    settings = EstablishConfig(ALICE)
    scene = cast(
        H,
        channel=channel,
        bobs=2,
        timers=settings.timers,
        burst=settings.burst,
        interval=settings.interval,
        target_bits=100.0,
    )
    scene.world.run()
    assert len(scene.world.events(Established, "alice")) == 2
    assert len(scene.world.established("bob0").received) == len(scene.world.established("bob1").received) + 1


def test_when_one_responder_needs_more_the_burst_goes_on_for_all() -> None:
    def channel(transmission: Transmission) -> list[Arrival]:
        frame = transmission.frame
        missed = frame.kind is Kind.RAND and frame.seq in range(6) and transmission.destination == "bob1"
        return [] if missed else clear(transmission)

    scene = cast(H, channel=channel, bobs=2)
    scene.world.run()
    assert scene.world.established("bob0").received == tuple(range(16))
    assert scene.world.established("bob1").received == tuple(range(6, 16))


def test_the_initiator_takes_no_more_responders_than_the_limit() -> None:
    """Row 16: bounded state; each accept that is taken holds a received set later."""
    alice = Initiator(small(responders=limits.MAX_RESPONDERS), EndpointContext(DeterministicRandom(1)))
    alice.start(0.0)
    session = alice.request.rand[: limits.SESSION_ID_BYTES]
    for i in range(100):
        message = session + Offer(i.to_bytes(6)).encode(H, accept=True)
        alice.receive_frame(encode(Frame(H, Kind.ACCEPT, rand=i.to_bytes(16), message=message)), 0.1)
    taken = []
    while (event := alice.next_event()) is not None:
        taken.append(isinstance(event, PeerAccepted))
    assert sum(taken) == limits.MAX_RESPONDERS


def test_an_accept_with_the_rand_of_another_one_does_not_take_its_place() -> None:
    """Eve answers with the Rand of Bob and a name of her own: else, in `paper`, Bob's key would go by her name."""
    scene = cast(P, alice={"responders": 2})
    scene.world.run(2 * L)
    accept = scene.world.frames(Kind.ACCEPT)[0].frame
    stolen = Frame(P, Kind.ACCEPT, rand=accept.rand, message=accept.message[:-1] + b"E")
    scene.world.inject(encode(stolen, seed=bytes(32)), "alice")
    scene.world.run()
    assert assert_equal_keys(scene).peer == bob_address(0)


# --- refusal, T_d, bounds ---------------------------------------------------------------------------------------------

KEY = b"0123456789abcdef"


@pytest.mark.parametrize(
    ("reason", "alice", "bob"),
    [
        (Refusal.UNWILLING, {}, {"admit": lambda identity: identity != ALICE}),
        (Refusal.AUTHENTICATION, {"authentication_key": KEY}, {}),
        (Refusal.AUTHENTICATION, {}, {"authentication_key": KEY}),
        (Refusal.PARAMETERS, {}, {"exchange_shares": True}),
        (Refusal.PROFILE, {"profile": P, "timers": Timers(t_1=0.25)}, {}),
        (Refusal.PROFILE, {}, {"profile": P, "timers": Timers(t_1=0.25)}),
    ],
    ids=lambda value: value.name if isinstance(value, Refusal) else "",
)
def test_a_refused_request_is_answered_by_silence_and_told_by_name(
    reason: Refusal, alice: dict[str, object], bob: dict[str, object]
) -> None:
    initiator = Initiator(small(**({"identity": ALICE} | alice)), EndpointContext(DeterministicRandom(1)))  # type: ignore[arg-type]
    responder = Responder(small(**({"identity": bob_address(0)} | bob)), EndpointContext(DeterministicRandom(2)))  # type: ignore[arg-type]
    initiator.start(0.0)
    world = World({"alice": initiator, "bob": responder})
    world.run()
    assert world.events(RequestRefused)[0] == RequestRefused(ALICE, reason)
    assert {t.source for t in world.sent} == {"alice"}
    assert world.failures("alice") == [Failure.NO_ACCEPT]
    assert responder.state is ResponderState.IDLE


def test_a_second_request_is_refused_while_an_establishment_is_under_way() -> None:
    scene = cast(H)
    scene.world.run(BURST_BEGINS + 2 * INTERVAL)
    other = Initiator(small(bob_address(9)), EndpointContext(DeterministicRandom(5)))
    other.start(0.0)
    (request,) = other.frames_to_send(0.0)
    scene.world.inject(request, "bob")
    scene.world.run()
    assert scene.world.events(RequestRefused) == [RequestRefused(bob_address(9), Refusal.BUSY)]
    assert_equal_keys(scene)
    scene.bob.receive_frame(request, scene.world.now)  # it was not considered, so T_d does not run
    assert scene.bob.state is ResponderState.ACCEPTED


def request_of(identity: bytes, number: int, profile: Profile) -> bytes:
    """A request as Alice would send it; each number is another one."""
    initiator = Initiator(small(identity, profile), EndpointContext(DeterministicRandom(number)))
    initiator.start(0.0)
    return initiator.frames_to_send(0.0)[0]


@both_profiles
def test_no_second_request_of_one_identity_is_considered_within_t_d(profile: Profile) -> None:
    """Row 16: "he will reject each packet within T_d time"; also where the first came to nothing."""
    bob = Responder(small(bob_address(0), profile), EndpointContext(DeterministicRandom(1)))
    accepts: list[bytes] = []
    for tenths in range(201):
        bob.receive_frame(request_of(ALICE, tenths, profile), tenths / 10)
        accepts += bob.frames_to_send(tenths / 10)
        bob.give_up(tenths / 10)
    assert len(accepts) == 3, "at 0, 10 and 20 s"
    assert bob.rejections[Rejection.THROTTLED] == 198


def test_t_d_is_remembered_of_a_bounded_number_of_identities() -> None:
    """Row 16: after 64 other identities the first is forgotten, and may ask again."""
    bob = Responder(small(bob_address(0)), EndpointContext(DeterministicRandom(1)))

    def is_considered(number: int) -> bool:
        bob.receive_frame(request_of(number.to_bytes(6), number, H), 0.0)
        return bool(bob.frames_to_send(0.0))

    assert all(is_considered(number) for number in range(limits.MAX_THROTTLED))
    assert not is_considered(0)
    assert is_considered(1_000_000)
    assert is_considered(0)


@both_profiles
def test_made_up_names_do_not_make_bob_forget_t_d_of_one_that_he_admits(profile: Profile) -> None:
    """Row 16: a stranger who floods under one admitted name and many others."""
    bob = Responder(
        small(bob_address(0), profile, admit=lambda identity: identity == ALICE),
        EndpointContext(DeterministicRandom(1)),
    )
    for number in range(3 * limits.MAX_THROTTLED):
        bob.receive_frame(request_of(ALICE, number, profile), number / 100)
        bob.receive_frame(request_of((number + 1).to_bytes(6), number, profile), number / 100)
    assert len(bob.frames_to_send(2.0)) == 1


@both_profiles
def test_garbage_costs_a_bounded_number_of_events(profile: Profile) -> None:
    scene = cast(profile, start=False)
    for number in range(3 * limits.MAX_EVENTS):
        scene.bob.receive_frame(number.to_bytes(8), 0.0)
    assert scene.bob.rejections[Rejection.MALFORMED] == 3 * limits.MAX_EVENTS
    told = 0
    while scene.bob.next_event() is not None:
        told += 1
    assert told == limits.MAX_EVENTS


@both_profiles
def test_closing_ends_an_establishment_and_says_so(profile: Profile) -> None:
    scene = cast(profile)
    scene.world.run(BURST_BEGINS + 2 * INTERVAL)
    scene.alice.close(scene.world.now)
    scene.bob.close(scene.world.now)
    scene.world.run()
    assert scene.world.failures("alice") == scene.world.failures("bob") == [Failure.CLOSED]
    assert scene.alice.get_timer() is None
    assert scene.bob.get_timer() is None


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"identity": b"short"}, "identity"),
        ({"identity": "abcdef"}, "identity must be bytes"),
        ({"identity": bytearray(6)}, "identity must be bytes"),
        ({"peer": "abcdef"}, "peer must be bytes"),
        ({"authentication_key": "k" * 32}, "authentication_key must be bytes"),
        ({"peer": bytes(6), "continuity_keys": ("k" * 32,)}, "continuity_keys must be bytes"),
        ({"burst": 1.5}, "burst must be a whole number"),
        ({"burst": True}, "burst must be a whole number"),
        ({"max_burst": 400.0}, "max_burst must be a whole number"),
        ({"threshold": 1.5}, "threshold must be a whole number"),
        ({"responders": 1.5}, "responders must be a whole number"),
        ({"max_requests": math.inf}, "max_requests must be a whole number"),
        ({"interval": -0.1}, "interval"),
        ({"interval": math.nan}, "interval"),
        ({"interval": "0.01"}, "interval must be a number"),
        ({"target_bits": "128"}, "target_bits must be a number"),
        ({"eve_loss_bound": None}, "eve_loss_bound must be a number"),
        ({"interval": -0.1, "timers": Timers(t_1=1.0)}, "interval"),
        ({"burst": 0}, "burst"),
        ({"burst": 10, "max_burst": 5}, "max_burst"),
        ({"max_burst": limits.MAX_BURST + 1}, "max_burst"),
        ({"eve_loss_bound": 0.0}, "eve_loss_bound"),
        ({"target_bits": 257.0}, "target_bits"),
        ({"responders": 0}, "responders"),
        ({"timers": Timers(t_h=0.0)}, "T_H"),
        ({"timers": Timers(repeat=0.0)}, "repeat"),
        ({"timers": Timers(t_h=math.nan)}, "T_H"),
        ({"timers": Timers(t_3=math.nan)}, "T_3"),
        ({"timers": Timers(repeat=math.nan)}, "repeat"),
        ({"timers": Timers(t_d=-1.0)}, "T_D"),
        ({"timers": Timers(waiting=math.inf)}, "waiting"),
        ({"timers": Timers(settle=math.nan)}, "settle"),
        ({"threshold": 0}, "threshold"),
        ({"burst": 10, "max_burst": 10, "threshold": 11}, "threshold"),
        ({"max_requests": 0}, "max_requests"),
        ({"profile": 2}, "Profile.HARDENED"),
        ({"burst": 20_000, "interval": 0.1}, "T_1"),
        ({"timers": Timers(t_1=1.0)}, "T_1"),
        ({"timers": Timers(t_1=6.0)}, "T_1"),
        ({"profile": P, "exchange_shares": True}, "hardened"),
        ({"profile": P, "authentication_key": KEY}, "hardened"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_setting_out_of_range_is_refused_in_one_line(changes: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named) as error:
        EstablishConfig(**({"identity": ALICE} | changes))  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
