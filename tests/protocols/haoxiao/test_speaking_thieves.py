"""Those who have a key and speak: a false first peer, a thief of K_i, a thief of an old checkpoint."""

from __future__ import annotations

import pytest
from session_pair import EVERY_W, End, Pair

from bt_selfsecure.eve.haoxiao.attacks.speaking import SpeakingThief
from bt_selfsecure.protocols.haoxiao.events import ReestablishNeeded, Resynchronised, RolledBack
from bt_selfsecure.protocols.haoxiao.frames import Kind, Profile, decode
from bt_selfsecure.protocols.haoxiao.record import Role
from bt_selfsecure.protocols.haoxiao.session_config import Durability, SessionConfig
from bt_selfsecure.protocols.haoxiao.suites import SUITES
from bt_selfsecure.sansio.events import Rejection

LIES = (1, 2, 255, 1 << 32, 1 << 46, (1 << 46) + 1, (1 << 47) - 1, (1 << 47), (1 << 48) - 1)
HIGHEST = 1 << 46
"""Above it no lie leaves a round behind: 2^46 rounds are left before the limit."""


def thief_of(end: End, key: bytes) -> SpeakingThief:
    return SpeakingThief(end.session.record.sending.chain.suite, key, end.random)


def of_kind(frames: list[bytes], kind: Kind) -> bytes:
    return next(data for data in frames if decode(data).kind is kind)


def meets_the_true_peer(pair: Pair) -> None:
    """A new K_0 that both have."""
    for end in (pair.alice, pair.bob):
        end.session.rekey(b"the true one".ljust(32), pair.now)
    pair.heal()
    pair.round(b"hello")
    pair.round(b"back", back=True)
    assert pair.agree()
    assert pair.bob.messages()[-1] == b"hello"
    assert pair.alice.messages()[-1] == b"back"


def bounded(pair: Pair) -> None:
    """No counter is where it could not have come to by rounds, and every record that is written is read again."""
    for end in (pair.alice, pair.bob):
        record = end.session.record
        assert record.sending.chain.seq <= 20
        assert record.receiving.chain.seq <= HIGHEST + 20
        assert type(record).from_json(record.to_json()) == record


@pytest.mark.parametrize("lie", LIES)
def test_no_r_of_a_false_first_peer_outlives_its_key(pair: Pair, lie: int) -> None:
    mallory = thief_of(pair.alice, pair.alice.session.record.sending.chain.key)
    pair.alice.session.rekey(bytes(32), pair.now)
    request = of_kind(pair.frames(pair.alice), Kind.RESYNC_REQUEST)
    pair.give(pair.alice, mallory.response(request, lie))
    assert pair.alice.session.record.sending.chain.seq == 0
    assert pair.alice.session.rejections[Rejection.IMPLAUSIBLE] == 1
    bounded(pair)
    meets_the_true_peer(pair)
    bounded(pair)


@pytest.mark.parametrize("lie", LIES)
def test_no_h_of_a_false_first_peer_outlives_its_key(pair: Pair, lie: int) -> None:
    mallory = thief_of(pair.bob, pair.bob.session.record.receiving.chain.key)
    pair.bob.session.rekey(bytes(32), pair.now)
    call = of_kind(pair.frames(pair.bob), Kind.RESYNC_CALL)
    pair.give(pair.bob, mallory.request(call, lie))
    bounded(pair)
    meets_the_true_peer(pair)
    assert pair.bob.session.record.receiving.chain.seq == 1
    bounded(pair)


@pytest.mark.parametrize("lie", LIES)
def test_a_thief_of_a_key_in_use_moves_no_counter_by_what_she_says(pair: Pair, lie: int) -> None:
    for number in range(5):
        pair.round(b"%d" % number)
    thief = thief_of(pair.alice, pair.alice.session.record.sending.chain.key)
    pair.bob.restart()
    call = of_kind(pair.frames(pair.bob), Kind.RESYNC_CALL)
    pair.give(pair.bob, thief.request(call, 5 + lie if lie < 1 << 46 else lie))
    assert pair.bob.session.record.receiving.chain.seq == 5
    request = of_kind(pair.give(pair.alice, thief.call()), Kind.RESYNC_REQUEST)
    pair.give(pair.alice, thief.response(request, 5 + lie if lie < 1 << 46 else lie))
    assert pair.alice.session.record.sending.chain.seq == 5
    bounded(pair)
    pair.heal()
    assert pair.agree()


@pytest.mark.parametrize("durability", Durability)
def test_what_a_thief_of_a_key_in_use_has_done_ends_with_the_next_k0(profile: Profile, durability: Durability) -> None:
    """She takes either end's place: until then she is the peer."""
    pair = Pair(profile, SessionConfig(durability, checkpoint_rounds=4))
    for number in range(5):
        pair.round(b"%d" % number)
    thief = thief_of(pair.alice, pair.alice.session.record.sending.chain.key)
    request = of_kind(pair.give(pair.alice, thief.call()), Kind.RESYNC_REQUEST)
    pair.give(pair.alice, thief.response(request, 5))
    pair.bob.restart()
    pair.give(pair.bob, thief.request(of_kind(pair.frames(pair.bob), Kind.RESYNC_CALL), 5))
    assert Resynchronised(True, 5) in pair.alice.events
    assert Resynchronised(False, 5) in pair.bob.events
    assert pair.alice.session.record.sending.chain != pair.bob.session.record.receiving.chain
    meets_the_true_peer(pair)
    bounded(pair)


@pytest.mark.parametrize("rounds", [2, 3, 4, 7, 127])
def test_an_old_key_does_not_live_again_where_no_end_forgets(profile: Profile, rounds: int) -> None:
    pair = Pair(profile, SessionConfig(checkpoint_rounds=128))
    old = pair.alice.session.record.sending.chain.key
    for number in range(rounds):
        pair.round(b"%d" % number)
    thief, now = thief_of(pair.alice, old), (pair.alice.session.record, pair.bob.session.record)
    assert pair.give(pair.alice, thief.call()) == []
    assert pair.give(pair.bob, thief.request(thief.call(), rounds)) == []
    assert (pair.alice.session.record, pair.bob.session.record) == now
    for end in (pair.alice, pair.bob):  # nor while either finds together with its peer again
        end.restart()
        frames = pair.frames(end)
        pair.give(end, thief.request(of_kind(frames, Kind.RESYNC_CALL), rounds))
        pair.give(end, thief.response(of_kind(frames, Kind.RESYNC_REQUEST), rounds))
        assert not end.told(RolledBack)
        pair.heal()
        assert pair.agree()


def test_where_ends_may_forget_an_old_key_that_lives_again_is_told_with_its_age(profile: Profile) -> None:
    pair = Pair(profile, EVERY_W)
    old = pair.alice.session.record.sending.chain.key
    for number in range(6):
        pair.round(b"%d" % number)
    thief = thief_of(pair.alice, old)
    request = of_kind(pair.give(pair.alice, thief.call()), Kind.RESYNC_REQUEST)
    pair.give(pair.alice, thief.response(request, 0))
    assert pair.alice.told(RolledBack) == [RolledBack(True, 6)]
    meets_the_true_peer(pair)


def test_a_key_older_than_two_checkpoints_never_lives_again(profile: Profile) -> None:
    pair = Pair(profile, EVERY_W)
    old = pair.alice.session.record.sending.chain.key
    for number in range(8):
        pair.round(b"%d" % number)
    assert pair.give(pair.alice, thief_of(pair.alice, old).call()) == []
    assert pair.alice.told(ReestablishNeeded)
    assert not pair.alice.told(RolledBack)


# --- continuity -------------------------------------------------------------------------------------------------------


def continuity(end: End) -> tuple[bytes, ...]:
    return end.session.record.continuity_keys


def test_each_k0_leaves_a_continuity_key_that_takes_the_place_of_the_last() -> None:
    pair = Pair(Profile.HARDENED, SessionConfig())
    first = SUITES[Profile.HARDENED].continuity_key(bytes(32))
    assert continuity(pair.alice) == continuity(pair.bob) == (first,)
    k0 = b"k" * 32
    pair.alice.session.rekey(k0, pair.now)
    new = SUITES[Profile.HARDENED].continuity_key(k0)
    pair.heal()
    assert continuity(pair.alice) == (new, first)  # Bob was not seen to have it
    assert continuity(pair.bob) == (first,)
    pair.bob.session.rekey(k0, pair.now)
    pair.heal()
    for end in (pair.alice, pair.bob):
        assert continuity(end) == (new,)
        assert first.hex() not in end.records[-1].record.to_json()
        assert k0.hex() not in end.records[-1].record.to_json()
        end.restart()
        assert continuity(end) == (new,)


def test_paper_has_no_continuity() -> None:
    pair = Pair(Profile.PAPER, SessionConfig())
    assert continuity(pair.alice) == ()
    pair.alice.session.rekey(b"k" * 32, pair.now, Role.INITIATOR)
    assert continuity(pair.alice) == ()
