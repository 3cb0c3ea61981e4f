"""Establishment under attack: copies, men in the middle, other keys, low orders, damage, and what never shows.

Row n is a row of the table "Interpretations of the paper" in docs/protocols/haoxiao.md.
"""

from __future__ import annotations

import collections
import copy
import dataclasses
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from amounts import part_of
from harness import (
    ALICE,
    LATENCY,
    Cast,
    DeterministicRandom,
    Transmission,
    World,
    bob_address,
    cast,
    chaos,
    clear,
    losses,
    lost,
    small,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from test_frames import mutated

from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.establish import FLOOD_PAUSE_S, Timers
from bt_selfsecure.protocols.haoxiao.events import ActiveAttack, Established, Failure, Refusal, RequestRefused
from bt_selfsecure.protocols.haoxiao.frames import Frame, Kind, Profile, decode, encode
from bt_selfsecure.protocols.haoxiao.initiator import Initiator
from bt_selfsecure.protocols.haoxiao.initiator_table import InitiatorState
from bt_selfsecure.protocols.haoxiao.material import KeyMaterial, KeyShare, Offer, nonce_commitment, pair_id
from bt_selfsecure.protocols.haoxiao.received_set import decode_received_set, encode_received_set
from bt_selfsecure.protocols.haoxiao.responder import Responder
from bt_selfsecure.protocols.haoxiao.responder_table import ResponderState
from bt_selfsecure.protocols.haoxiao.suites import SUITES
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.events import FrameRejected, Rejection
from bt_selfsecure.sansio.trace import Transition

both_profiles = pytest.mark.parametrize("profile", Profile, ids=lambda profile: profile.label)
P, H = Profile.PAPER, Profile.HARDENED
KEY = b"0123456789abcdef"
END_OF_BURST = 0.058
L = LATENCY
BURST_BEGINS = 2 * L


def heard_in_full(world: World, *, secret: bytes = b"", authentication_key: bytes = b"") -> KeyMaterial:
    """What somebody computes who heard every packet of the last establishment."""
    request, accept, response = (world.frames(k)[-1].frame for k in (Kind.REQUEST, Kind.ACCEPT, Kind.RESPONSE))
    messages = {t.frame.seq: t.frame.message for t in world.frames(Kind.RAND)}
    s = response.message[limits.PAIR_ID_BYTES :]
    kept = [messages[seq] for seq in decode_received_set(s, limits.MAX_BURST)]
    return KeyMaterial.derive(request, accept, s, kept, secret=secret, authentication_key=authentication_key)


def forged_rand(scene: Cast, seq: int, message: bytes = bytes(32)) -> bytes:
    """A burst packet that anybody can make who heard the request."""
    config, rand = scene.alice.config, scene.alice.request.rand
    if config.compact:
        return encode(Frame(config.profile, Kind.RAND_COMPACT, 0, seq, rand[:2], message[:16]))
    return encode(Frame(config.profile, Kind.RAND, 0, seq, rand[:8], message))


# --- row 3: what enters the key ---------------------------------------------------------------------------------------


def test_k_0_of_paper_is_made_of_the_messages_alone_and_k_0_of_hardened_of_the_whole_transcript() -> None:
    """Row 3: request, accept and S are in it, so that both ends agree on who they are and on every parameter."""
    scene = cast(H)
    scene.world.run()
    request, accept, response = (scene.world.frames(k)[0].frame for k in (Kind.REQUEST, Kind.ACCEPT, Kind.RESPONSE))
    s, messages = response.message[8:], [t.frame.message for t in scene.world.frames(Kind.RAND)]
    k0 = KeyMaterial.derive(request, accept, s, messages).k0
    assert k0 == scene.world.established("alice").k0
    other_request = dataclasses.replace(request, message=b"\xff" + request.message[1:])
    other_accept = dataclasses.replace(accept, rand=bytes(16))
    assert KeyMaterial.derive(other_request, accept, s, messages).k0 != k0
    assert KeyMaterial.derive(request, other_accept, s, messages).k0 != k0
    assert KeyMaterial.derive(request, accept, b"\0", messages).k0 != k0
    of_paper = {
        KeyMaterial.derive(dataclasses.replace(frame, profile=P), accept, s, messages).k0
        for frame in (request, other_request)
    }
    assert len(of_paper) == 1


@pytest.mark.parametrize("kind", [Kind.REQUEST, Kind.ACCEPT])
def test_a_changed_request_or_accept_gives_no_key_in_hardened(kind: Kind) -> None:
    """Somebody in the middle changes the identity, and makes the unkeyed hash good again."""

    def channel(transmission: Transmission) -> list[tuple[float, bytes]]:
        frame = transmission.frame
        if frame.kind is not kind:
            return clear(transmission)
        at = 0 if kind is Kind.REQUEST else limits.SESSION_ID_BYTES
        changed = bytearray(frame.message)
        changed[at] ^= 1
        return [(delay, encode(dataclasses.replace(frame, message=bytes(changed)))) for delay, _ in clear(transmission)]

    scene = cast(H, channel=channel)
    scene.world.run()
    assert scene.world.failures("alice") == [Failure.NOT_AUTHENTIC]
    assert scene.world.events(Established) == []


# --- forged responses -------------------------------------------------------------------------------------------------


def forged_response(scene: Cast, draw: random.Random, part: int = 0) -> bytes:
    """As anybody can make one who heard request and accept; of a set that can be, or not."""
    request, accept = (scene.world.frames(kind)[0].frame for kind in (Kind.REQUEST, Kind.ACCEPT))
    sent = (part + 1) * scene.alice.config.burst
    s = encode_received_set(draw.sample(range(sent), draw.randint(1, sent)), sent)
    message = pair_id(request, accept) + draw.choice((s, s + draw.randbytes(1)))
    return encode(Frame(H, Kind.RESPONSE, 0, part, draw.randbytes(16), message, draw.randbytes(16)))


@pytest.mark.parametrize("parts", [1, 3])
def test_of_a_flood_of_forged_responses_a_bounded_number_is_read_in_each_part(
    monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    read: list[int] = []
    monkeypatch.setattr(
        "bt_selfsecure.protocols.haoxiao.initiator.decode_received_set",
        lambda s, sent: read.append(sent) or decode_received_set(s, sent),
    )
    burst, draw = 8, random.Random(1)
    scene = cast(H, burst=burst, max_burst=4 * burst, target_bits=5.0 * parts, channel=losses(0.3, 1))
    for part in range(parts):
        while scene.alice.sent < (part + 1) * burst:
            assert scene.world.step()
        for _ in range(500):
            scene.world.inject(forged_response(scene, draw, part), "alice")
    scene.world.run()
    assert scene.world.established("alice").k0 == scene.world.established("bob").k0
    forged = collections.Counter(read)
    assert sorted(forged) == [(part + 1) * burst for part in range(parts)]
    repeats = 2 + scene.world.now / (0.5 * FLOOD_PAUSE_S)
    assert max(forged.values()) <= limits.MAX_WRONG_RESPONSES + repeats
    assert scene.alice.rejections[Rejection.FLOODED] >= 500 * parts - len(read)


@given(seed=st.integers(0, 1 << 30), pause=st.floats(0.03, 0.2))
@settings(max_examples=part_of(50), deadline=None)
def test_no_steady_flood_of_forged_responses_keeps_the_true_one_out(seed: int, pause: float) -> None:
    """However it is timed: the true one is repeated, and which one is read next is not for the attacker to choose."""
    draw = random.Random(seed)
    scene = cast(H, seed=seed % 1000, timers=Timers(t_1=0.25, settle=0.0625, t_2=4.0))
    while scene.alice.state is not InitiatorState.COLLECTING:
        scene.world.step()
    start = scene.world.now
    for _ in range(2 * limits.MAX_WRONG_RESPONSES):
        scene.world.inject(forged_response(scene, draw), "alice")
    for number in range(round(8 / pause)):
        scene.world.inject(forged_response(scene, draw), "alice", start + number * pause)
    scene.world.run()
    assert scene.world.established("alice").k0 == scene.world.established("bob").k0


# --- row 5: copies ----------------------------------------------------------------------------------------------------


def twice(transmission: Transmission) -> list[tuple[float, bytes]]:
    return clear(transmission) * 2


def test_equal_copies_are_one_packet_in_hardened() -> None:
    """An advertisement is sent on three channels: copies are normal."""
    scene = cast(H, channel=twice)
    scene.world.run()
    assert scene.world.established("alice").received == tuple(range(8))
    assert scene.world.events(ActiveAttack) == []


def test_equal_copies_blacklist_their_seq_in_paper() -> None:
    """ "if there are two packets that have the same sequence number, the two packets will be directly discarded" """

    def channel(transmission: Transmission) -> list[tuple[float, bytes]]:
        copies = {2: 2, 5: 3}.get(transmission.frame.seq, 1) if transmission.frame.kind is Kind.RAND else 1
        return clear(transmission) * copies

    scene = cast(P, channel=channel)
    scene.world.run()
    assert scene.world.established("alice").received == (0, 1, 3, 4, 6, 7)
    assert scene.world.events(ActiveAttack) == []


def test_a_contradicting_copy_changes_nothing_in_hardened_and_is_reported_by_whoever_hears_it() -> None:
    for listener in ("alice", "bob"):
        scene = cast(H)
        scene.world.run(END_OF_BURST)
        scene.world.inject(forged_rand(scene, 3), listener)
        scene.world.run()
        assert scene.world.events(ActiveAttack, listener) == [ActiveAttack(3)]
        assert scene.world.established("alice").k0 == scene.world.established("bob").k0
        assert scene.world.established("alice").received == tuple(range(8))


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("seq", [0, 3, 7, 8, 15, 31_999])
def test_one_forged_burst_packet_at_any_time_and_place_changes_nothing(seq: int, compact: bool) -> None:
    """Not even when the part that it is of has not begun, and two parts are needed."""
    undisturbed = cast(H, compact=compact, target_bits=16.0, max_burst=64)
    undisturbed.world.run()
    moments = sorted({time + later for time in (0.0, *(t.time for t in undisturbed.world.sent)) for later in (0, L)})
    for at in moments:
        scene = cast(H, compact=compact, target_bits=16.0, max_burst=64)
        scene.world.run(at)
        scene.world.inject(forged_rand(scene, seq), "bob")
        scene.world.run()
        assert scene.world.established("alice").k0 == scene.world.established("bob").k0
        assert scene.world.established("bob").received == undisturbed.world.established("bob").received
        assert scene.world.now <= undisturbed.world.now + 1.0


def test_a_forged_burst_packet_does_not_keep_a_lost_accept_from_being_repeated() -> None:
    scene = cast(H, channel=lost(Kind.ACCEPT, times=3))
    scene.world.run(2 * L)
    scene.world.inject(forged_rand(scene, 3), "bob")
    scene.world.run()
    assert scene.world.established("alice").k0 == scene.world.established("bob").k0
    assert scene.world.established("bob").received == tuple(range(8))


def test_forged_lists_change_nothing() -> None:
    scene = cast(H, burst=600, interval=0.0001)
    for at in [scene.world.now, *(BURST_BEGINS + i * 0.05 for i in range(40))]:
        scene.world.run(at)
        for seq in (0, 60, 120, 1, 600):
            for size in (240, 272, 160):
                session = scene.alice.request.rand[:8]
                scene.world.inject(encode(Frame(H, Kind.RAND_LIST, 0, seq, session, bytes(size))), "bob")
    scene.world.run()
    assert scene.world.established("alice").received == tuple(range(600))
    assert scene.world.established("alice").k0 == scene.world.established("bob").k0


def test_more_forged_copies_of_a_seq_than_are_kept_cost_no_more_than_that_seq() -> None:
    scene = cast(H)
    scene.world.run(BURST_BEGINS)
    for number in range(50):
        scene.world.inject(forged_rand(scene, 3, bytes([number]) * 32), "bob")
    scene.world.run()
    assert scene.world.established("alice").received == (0, 1, 2, 4, 5, 6, 7)
    assert scene.world.established("alice").k0 == scene.world.established("bob").k0


def test_a_contradicting_copy_is_told_in_paper_which_goes_on_all_the_same() -> None:
    scene = cast(P)
    scene.world.run(END_OF_BURST)
    for listener in ("alice", "bob"):
        scene.world.inject(forged_rand(scene, 3), listener)
    scene.world.run()
    assert scene.world.events(ActiveAttack, "alice") == scene.world.events(ActiveAttack, "bob") == [ActiveAttack(3)]
    assert scene.world.established("alice").received == (0, 1, 2, 4, 5, 6, 7)


def test_a_forged_packet_does_not_stand_in_for_one_that_was_missed() -> None:
    scene = cast(H, channel=lambda t: [] if t.frame.kind is Kind.RAND and t.frame.seq == 3 else clear(t))
    scene.world.run(END_OF_BURST)
    scene.world.inject(forged_rand(scene, 3), "bob")
    scene.world.run()
    assert scene.world.established("alice").received == (0, 1, 2, 4, 5, 6, 7)
    assert scene.world.established("alice").k0 == scene.world.established("bob").k0


# --- replay -----------------------------------------------------------------------------------------------------------


def replayed(profile: Profile) -> tuple[Cast, World]:
    """A whole establishment, and the same frames to a restarted Bob by Eve, who only names his new accept."""
    scene = cast(profile)
    scene.world.run()
    world = World({"bob": Responder(small(bob_address(0), profile), EndpointContext(DeterministicRandom(99)))})
    for transmission in scene.world.sent:
        if transmission.source != "alice":
            continue
        frame = transmission.frame
        if frame.kind is Kind.ACKNOWLEDGE:
            world.run(world.now + 0.6)
            pair = world.frames(Kind.RESPONSE)[0].frame.message[: limits.PAIR_ID_BYTES]
            world.inject(encode(dataclasses.replace(frame, message=pair)), "bob")
        else:
            world.inject(transmission.data, "bob")
            world.run(world.now + 0.01)
    world.run()
    return scene, world


def test_replayed_frames_of_alice_establish_the_old_key_again_in_paper() -> None:
    """Nothing of Bob's own enters K_0 or HMAC_ack, so he can't tell Alice from a recording. Eve needs no key for it."""
    scene, world = replayed(P)
    assert world.established("bob").k0 == scene.world.established("bob").k0


def test_replayed_frames_of_alice_establish_nothing_in_hardened() -> None:
    _, world = replayed(H)
    assert world.events(Established) == []
    assert Rejection.UNAUTHENTIC in {event.reason for event in world.rejected("bob")}


# --- row 7: the short authentication string, and the man in the middle ------------------------------------------------


def in_the_middle(
    profile: Profile, alice: dict[str, object] | None = None, bob: dict[str, object] | None = None
) -> tuple[World, World]:
    """Mallory has a real responder for Alice, who takes it for Bob, and a real initiator for Bob."""
    to_alice = cast(profile, seed=1, alice=alice).world
    to_bob = cast(profile, seed=2, bob=bob).world
    to_alice.run()
    to_bob.run()
    return to_alice, to_bob


@both_profiles
def test_both_ends_show_the_same_string_and_a_man_in_the_middle_makes_them_differ(profile: Profile) -> None:
    to_alice, to_bob = in_the_middle(profile)
    for world in (to_alice, to_bob):
        assert world.established("alice").sas == world.established("bob").sas
    alice, bob = to_alice.established("alice"), to_bob.established("bob")
    assert alice.peer == bob_address(0)
    assert bob.peer == ALICE
    assert alice.sas != bob.sas
    assert alice.fingerprint != bob.fingerprint
    assert not alice.authenticated
    assert not bob.authenticated


def test_the_string_has_six_digits_and_four_words_of_every_value() -> None:
    strings = [KeyMaterial(seed.to_bytes(32), b"").sas(bytes(16), bytes(16)) for seed in range(300)]
    assert all(len(s.digits) == 6 and s.digits.isdigit() and len(s.words) == 4 for s in strings)
    assert len({s.digits for s in strings}) > 295
    assert len({word for s in strings for word in s.words}) == 64
    assert str(strings[0]).startswith(f"{strings[0].digits[:3]} {strings[0].digits[3:]} (")


def test_an_authentication_key_at_both_ends_is_told_by_both() -> None:
    scene = cast(H, authentication_key=KEY)
    scene.world.run()
    assert scene.world.established("alice").authenticated
    assert scene.world.established("bob").authenticated


def test_different_authentication_keys_give_no_key() -> None:
    scene = cast(H, alice={"authentication_key": KEY}, bob={"authentication_key": KEY[::-1]})
    scene.world.run()
    assert scene.world.failures("alice") == [Failure.NOT_AUTHENTIC]
    assert scene.world.failures("bob") == [Failure.NO_ACKNOWLEDGE]
    assert FrameRejected(Rejection.UNAUTHENTIC, "a response") in scene.world.rejected("alice")


def test_a_man_in_the_middle_without_the_authentication_key_gets_a_key_with_neither_end() -> None:
    to_alice, to_bob = in_the_middle(H, {"authentication_key": KEY}, {"authentication_key": KEY})
    assert to_alice.failures("alice") == [Failure.NO_ACCEPT]
    assert to_bob.events(RequestRefused) == [RequestRefused(ALICE, Refusal.AUTHENTICATION)] * len(
        to_bob.events(RequestRefused)
    )
    assert to_alice.events(Established) == to_bob.events(Established) == []


def test_even_one_who_claims_to_have_the_authentication_key_and_heard_the_burst_gets_nothing() -> None:
    scene = cast(H, alice={"authentication_key": KEY}, bob={"authentication_key": b"guess of Mallory"})
    scene.world.run()
    assert scene.world.events(Established) == []
    assert heard_in_full(scene.world) != heard_in_full(scene.world, authentication_key=KEY)


@pytest.mark.parametrize("protection", [{}, {"authentication_key": KEY}, {"exchange_shares": True}], ids=str)
def test_whoever_answers_first_is_the_peer_unless_more_than_the_burst_is_asked_for(protection: dict[str, Any]) -> None:
    """Eve heard request, accept and six packets, and responds in Bob's name; his own response comes too late."""
    scene = cast(H, channel=lambda t: [] if t.frame.kind is Kind.RESPONSE else clear(t), **protection)
    world = scene.world
    world.run(0.1)
    request, accept = (world.frames(kind)[0].frame for kind in (Kind.REQUEST, Kind.ACCEPT))
    s, nonce, pair = encode_received_set(range(6), 8), bytes(16), pair_id(request, accept)
    hers = KeyMaterial.derive(request, accept, s, [t.frame.message for t in world.frames(Kind.RAND)[:6]])
    response = Frame(H, Kind.RESPONSE, 0, 0, nonce_commitment(nonce), pair + s)
    end = Frame(H, Kind.END, message=pair + nonce)
    for frame in (response, end):
        mac = SUITES[H].establishment_mac(hers.kd, frame)
        world.inject(encode(dataclasses.replace(frame, mac=mac)), "alice")
        world.run(world.now + 0.01)
    world.run()
    assert world.failures("bob") == [Failure.NO_ACKNOWLEDGE]
    assert world.failures("alice") == ([Failure.NOT_AUTHENTIC] if protection else [])
    assert [event.k0 for event in world.events(Established)] == ([] if protection else [hers.k0])


class ChangesItsMind(Initiator):
    """Opens another RandData than the one that its request committed to."""

    def _acknowledge(self, now: float) -> None:
        self._calls.rand_data = bytes(16)
        super()._acknowledge(now)


def test_an_initiator_that_opens_another_rand_data_is_refused() -> None:
    scene = cast(H)
    alice = ChangesItsMind(small(), EndpointContext(DeterministicRandom(3)))
    alice.start(0.0)
    world = World({"alice": alice, "bob": scene.bob})
    world.run()
    assert world.events(Established) == []
    refused = FrameRejected(Rejection.UNAUTHENTIC, "RandData is not what the request committed to")
    assert refused in world.rejected("bob")
    assert world.failures("bob") == [Failure.NO_ACKNOWLEDGE]


class ChangesHisMind(Responder):
    """Shows another nonce at the end than the one that his response committed to."""

    def _establish(self, current: object, now: float) -> None:
        current.nonce = bytes(16)  # type: ignore[attr-defined]
        super()._establish(current, now)  # type: ignore[arg-type]


@both_profiles
def test_a_responder_that_shows_another_nonce_is_refused(profile: Profile) -> None:
    scene = cast(profile)
    bob = ChangesHisMind(small(bob_address(0), profile), EndpointContext(DeterministicRandom(3)))
    world = World({"alice": scene.alice, "bob": bob})
    world.run()
    assert world.events(Established, "alice") == []
    refused = FrameRejected(Rejection.UNAUTHENTIC, "the end's nonce is not what the response committed to")
    assert refused in world.rejected("alice")
    assert world.failures("alice") == [Failure.NO_END]


def test_a_man_in_the_middle_cannot_prolong_the_burst_until_the_string_suits_her() -> None:
    """Mallory is Bob's initiator, and after each part of a long burst he commits to a new nonce. She knows K_0 and her
    own RandData; if she also knew the nonce she would go on until Bob's string is Alice's, a try a part. She learns it
    from the end packet, when nothing can be changed."""
    scene = cast(H, burst=1, target_bits=200.0, max_burst=400)
    scene.world.run()
    world, (end,) = scene.world, scene.world.frames(Kind.END)
    responses = world.frames(Kind.RESPONSE)
    assert len(responses) == 200
    nonce = end.frame.message[limits.PAIR_ID_BYTES :]
    assert nonce_commitment(nonce) == responses[-1].frame.rand
    assert len({t.frame.rand for t in responses}) == 200
    assert not any(nonce in t.data for t in world.sent if t is not end)
    rand_data = world.frames(Kind.ACKNOWLEDGE)[-1].frame.rand
    string = world.established("bob").sas
    assert heard_in_full(world).sas(nonce, rand_data) == string
    assert heard_in_full(world).sas(responses[-1].frame.rand, rand_data) != string


# --- X25519 -----------------------------------------------------------------------------------------------------------


def authentic(world: World, material: KeyMaterial) -> bool:
    response = world.frames(Kind.RESPONSE)[-1].frame
    return SUITES[response.profile].establishment_mac(material.kd, response) == response.mac


def test_an_eve_who_heard_everything_has_the_key_without_x25519_and_not_with_it() -> None:
    without, with_it = cast(H), cast(H, exchange_shares=True)
    for scene in (without, with_it):
        scene.world.run()
        assert scene.world.established("alice").k0 == scene.world.established("bob").k0
    assert heard_in_full(without.world).k0 == without.world.established("bob").k0
    assert not without.world.established("bob").hybrid
    assert heard_in_full(with_it.world).k0 != with_it.world.established("bob").k0
    assert not authentic(with_it.world, heard_in_full(with_it.world))
    assert with_it.world.established("alice").hybrid
    assert with_it.world.established("bob").hybrid


def test_the_key_with_x25519_is_another_one_of_the_same_burst_and_transcript() -> None:
    """K_0' = HKDF(K_0 || shared secret): who has the losses' part and the secret has the key, who lacks one has not."""
    scene = cast(H, exchange_shares=True)
    share = scene.alice._calls.share  # the test's own Alice: her private key is no secret here
    scene.world.run()
    bobs = scene.world.frames(Kind.ACCEPT)[0].frame.message[-limits.SHARE_BYTES :]
    secret = share.exchange(bobs)
    assert secret
    assert heard_in_full(scene.world, secret=secret).k0 == scene.world.established("bob").k0
    assert heard_in_full(scene.world, secret=bytes(32)).k0 != scene.world.established("bob").k0


def test_secret_bits_are_those_of_the_losses_alone() -> None:
    bits = set()
    for exchange_shares in (False, True):
        scene = cast(H, exchange_shares=exchange_shares)
        scene.world.run()
        bits |= {event.secret_bits for event in scene.world.events(Established)}
    assert bits == {8.0}


@pytest.mark.parametrize("share", [bytes(32), b"\1" + bytes(31)], ids=["0", "1"])
def test_a_share_of_low_order_is_refused_by_both_ends(share: bytes) -> None:
    """RFC 7748 section 6.1: the shared secret would be zero, whatever the other's key."""
    scene = cast(H, exchange_shares=True)
    offer = Offer(ALICE, burst=8, t_1=0.25, commitment=bytes(32), part=bytes(32), share=share)
    request = Frame(H, Kind.REQUEST, rand=bytes(16), message=offer.encode(H, accept=False))
    bob = Responder(small(bob_address(0)), EndpointContext(DeterministicRandom(5)))
    bob.receive_frame(encode(request), 0.0)
    assert bob.next_event() == RequestRefused(ALICE, Refusal.PARAMETERS)
    assert bob.frames_to_send(0.0) == []
    message = scene.alice.request.rand[:8] + Offer(bob_address(0), share=share).encode(H, accept=True)
    scene.alice.receive_frame(encode(Frame(H, Kind.ACCEPT, rand=bytes(16), message=message)), 0.0)
    assert isinstance(scene.alice.next_event(), FrameRejected)
    assert scene.alice.state is InitiatorState.REQUESTING


@pytest.mark.parametrize("shares", [True, False])
def test_an_accept_with_another_key_exchange_than_the_requests_is_not_taken(shares: bool) -> None:
    """Nobody can strip the share from the accept, or add one."""
    scene = cast(H, exchange_shares=shares)
    share = b"" if shares else KeyShare(DeterministicRandom(8)).public
    message = scene.alice.request.rand[:8] + Offer(bob_address(0), share=share).encode(H, accept=True)
    scene.alice.receive_frame(encode(Frame(H, Kind.ACCEPT, rand=bytes(16), message=message)), 0.0)
    assert scene.alice.rejections[Rejection.NOT_FOR_US] == 1


# --- what never shows -------------------------------------------------------------------------------------------------


def secrets_of(scene: Cast) -> Iterator[bytes]:
    """All that must not be read by whoever reads logs: keys, what they are made of, and the authentication key."""
    for event in scene.world.events(Established):
        yield event.k0
        yield SUITES[scene.alice.config.profile].derived_key(event.k0)
    yield from (data for data in scene.alice._random.drawn if len(data) == 32)  # type: ignore[attr-defined]
    yield KEY


def everything_secret(profile: Profile) -> dict[str, Any]:
    return {} if profile is P else {"authentication_key": KEY, "exchange_shares": True}


def assert_silent(text: str, scene: Cast) -> None:
    for secret in secrets_of(scene):
        for shown in (secret.hex(), secret[:8].hex(), repr(secret)[2:-1], secret.hex(":")):
            assert shown not in text


@both_profiles
def test_a_trace_tells_every_transition_and_no_secret(profile: Profile) -> None:
    lines: list[Transition] = []
    scene = cast(profile, tracer=lines.append, **everything_secret(profile))
    scene.world.run()
    told = [(line.endpoint, line.state, line.next) for line in lines]
    assert ("alice", "CONFIRMING", "ESTABLISHED") in told
    assert any(end == "bob0" and following == "ESTABLISHED" for end, _, following in told)
    assert [line.time for line in lines] == sorted(line.time for line in lines)
    assert_silent("\n".join(line.to_json() for line in lines), scene)


def test_a_key_log_exists_only_where_it_is_asked_for() -> None:
    lines: list[str] = []
    scene = cast(H, key_log=lines.append)
    scene.world.run()
    pair = scene.world.frames(Kind.END)[0].frame.message[: limits.PAIR_ID_BYTES]
    assert lines == [f"BTSS_K0 {pair.hex()} {scene.world.established('bob').k0.hex()}"] * 2


@both_profiles
def test_no_event_and_no_setting_shows_a_secret(profile: Profile) -> None:
    scene = cast(profile, **everything_secret(profile))
    shown = [repr(scene.alice.config), repr(scene.bob.config)]
    while scene.world.step():
        shown += [repr(scene.alice), repr(scene.bob), repr(scene.bob._current), repr(scene.alice._legs)]
    shown += [repr(event) for _, _, event in scene.world.told]
    shown.append(repr(heard_in_full(scene.world)))
    assert_silent("\n".join(shown), scene)


# --- damage of every sort ---------------------------------------------------------------------------------------------

chances = st.floats(0, 0.5)


@settings(max_examples=part_of(150))
@given(st.sampled_from(Profile), st.integers(0, 2**32), chances, chances, chances, chances, st.integers(1, 3))
def test_whatever_the_air_does_two_established_ends_hold_the_same_key(
    profile: Profile, seed: int, loss: float, double: float, late: float, damage: float, bobs: int
) -> None:
    channel = chaos(random.Random(seed), loss=loss, double=double, late=late, damage=damage)
    scene = cast(profile, channel=channel, bobs=bobs, seed=seed % 1000, max_burst=64)
    scene.world.run()
    at_alice = {event.peer: event for event in scene.world.events(Established, "alice")}
    at_bobs = [event for _, name, event in scene.world.told if name != "alice" and isinstance(event, Established)]
    by_key = {event.k0: event for event in at_bobs}
    for event in at_alice.values():
        assert by_key[event.k0].received == event.received
        assert by_key[event.k0].sas == event.sas or profile is P
    assert scene.alice.get_timer() is None
    assert all(bob.get_timer() is None for bob in scene.bobs)


def test_hardened_gets_through_an_air_that_loses_a_third_of_everything() -> None:
    """Row 4: at least 95 of 100; what is left are responders that gave up."""
    done = 0
    for seed in range(100):
        channel = chaos(random.Random(seed), loss=0.33, double=0.1, late=0.1, damage=0.0)
        scene = cast(H, channel=channel, seed=seed, max_burst=64)
        scene.world.run()
        done += bool(scene.world.events(Established, "alice"))
    assert done >= 95


Snapshot = Callable[[], tuple[Initiator | Responder, float]]


def snapshots(profile: Profile) -> tuple[dict[str, Snapshot], list[bytes]]:
    """Each end in each of its states, and every frame of the run."""
    found: dict[str, Snapshot] = {}
    scene = cast(profile, channel=losses(0.2, seed=4), start=False, target_bits=10.0, max_burst=64)

    def keep() -> None:
        for end in (scene.alice, scene.bob):
            kept, now = copy.deepcopy(end), scene.world.now
            found.setdefault(end.state.name, lambda kept=kept, now=now: (copy.deepcopy(kept), now))  # type: ignore[misc]

    keep()
    scene.alice.start(0.0)
    keep()
    while scene.world.step():
        keep()
    closed = cast(profile, start=True)
    closed.alice.close(0.0)
    found["FAILED"] = lambda: (copy.deepcopy(closed.alice), 0.0)
    closed.bob.close(0.0)
    found["CLOSED"] = lambda: (copy.deepcopy(closed.bob), 0.0)
    return found, [t.data for t in scene.world.sent]


def fuzz(profile: Profile, frames: int, seed: int) -> None:
    """Mutated frames of the very establishment, to each end in each state: no exception, and nothing that grows."""
    rng, (states, pool) = random.Random(seed), snapshots(profile)
    expected = {state.name for state in (*InitiatorState, *ResponderState)} - {"RESTING"}
    assert states.keys() == expected - ({"AWAITING_ACKNOWLEDGE"} if profile is H else set())
    batch = 40
    for number in range(-(-frames // batch)):
        end, now = states[list(states)[number % len(states)]]()
        before = sum(end.rejections.values())
        for _ in range(batch):
            data = rng.choice(pool) if rng.random() < 0.1 else mutated(rng, pool)
            end.receive_frame(data, now)
            if rng.random() < 0.1:
                now += rng.expovariate(2)
                end.handle_timer(now)
            sent = end.frames_to_send(now)
            assert len(sent) <= 8 + 64 * 8
            assert all(decode(frame) for frame in sent)
            while end.next_event() is not None:
                pass
        assert sum(end.rejections.values()) <= before + batch


@both_profiles
def test_mutated_frames_in_every_state_raise_nothing(profile: Profile) -> None:
    fuzz(profile, 4000, seed=16)


@pytest.mark.long
@both_profiles
def test_half_a_million_mutated_frames_in_every_state_raise_nothing(profile: Profile) -> None:
    fuzz(profile, 500_000, seed=17)
