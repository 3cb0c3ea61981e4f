"""Stories of two ends that find together again: after a crash, from an old backup, with a new K_0."""

from __future__ import annotations

from dataclasses import replace

import pytest
from session_pair import EVERY_W, End, Pair, kinds
from session_thief import Eve
from session_world import flipped

from bt_selfsecure.protocols.haoxiao.events import (
    MessageDelivered,
    MessageReceived,
    ReestablishNeeded,
    Resynchronised,
    RolledBack,
    Unreachable,
)
from bt_selfsecure.protocols.haoxiao.frames import Kind, Profile, decode, encode
from bt_selfsecure.protocols.haoxiao.record import Role
from bt_selfsecure.protocols.haoxiao.session_config import SessionConfig
from bt_selfsecure.sansio.events import Rejection, StateChanged

# --- resynchronisation ------------------------------------------------------------------------------------------------


def test_two_idle_ends_are_silent_and_hold_the_same_keys_after_a_restart(pair: Pair) -> None:
    pair.round(b"hello")
    for end in (pair.alice, pair.bob):
        end.restart()
        pair.settle()
        assert pair.agree()
    pair.round(b"after")
    pair.round(b"and back", back=True)
    assert pair.agree()


def test_a_restarted_receiver_accepts_nothing_before_it_has_agreed(pair: Pair) -> None:
    data = pair.send(b"hello")
    pair.bob.restart()
    pair.frames(pair.bob)
    assert pair.give(pair.bob, data) == []
    assert pair.bob.messages() == []


def test_a_message_under_way_survives_the_restart_of_its_sender(pair: Pair) -> None:
    pair.send(b"hello")
    pair.alice.restart()
    pair.settle()
    assert pair.bob.messages() == [b"hello"]
    assert pair.agree()


def test_an_accepted_message_is_not_sent_again_after_a_restart(pair: Pair) -> None:
    pair.give(pair.bob, pair.send(b"hello"))
    pair.alice.restart()
    pair.settle()
    assert pair.bob.messages() == [b"hello"]
    assert [event.seq for event in pair.alice.told(MessageDelivered)] == [0]
    assert Resynchronised(True, 1) in pair.alice.events
    assert pair.agree()


def test_no_record_on_the_way_through_a_resynchronisation_lacks_the_message(pair: Pair) -> None:
    pair.send(b"hello")
    pair.alice.restart()
    pair.alice.records.clear()
    pair.settle()
    until_delivered = pair.alice.records[:-1]
    assert until_delivered
    assert all(persist.record.sending.messages == (b"hello",) for persist in until_delivered)


def test_a_lost_response_is_given_again(pair: Pair) -> None:
    pair.bob.restart()
    frames = pair.give(pair.alice, *(data for data in pair.frames(pair.bob) if decode(data).kind is Kind.RESYNC_CALL))
    pair.give(pair.bob, *frames)  # the response is lost
    (request,) = pair.wait(pair.alice)
    pair.give(pair.alice, *pair.give(pair.bob, request))
    assert pair.alice.session.record.sending.chain == pair.bob.session.record.receiving.chain


def test_replayed_frames_of_a_resynchronisation_change_nothing(pair: Pair) -> None:
    air: list[tuple[End, bytes]] = []
    pair.round(b"hello")
    pair.bob.restart()
    moved = True
    while moved:
        moved = False
        for sender, receiver in ((pair.alice, pair.bob), (pair.bob, pair.alice)):
            for data in pair.frames(sender):
                moved = True
                air.append((receiver, data))
                receiver.session.receive_frame(data, 0.0)
    assert {decode(data).kind for _, data in air} >= {Kind.RESYNC_CALL, Kind.RESYNC_REQUEST, Kind.RESYNC_RESPONSE}
    before = (pair.alice.session.record, pair.bob.session.record)
    for receiver, data in air * 3:
        receiver.session.receive_frame(data, 0.0)
        pair.settle()
    assert (pair.alice.session.record, pair.bob.session.record) == before
    assert pair.agree()


def test_noise_starts_no_resynchronisation(pair: Pair) -> None:
    data = pair.send(b"hello")
    pair.bob.events.clear()
    for bit in range(0, len(data) * 8, 7):
        pair.now += 10.0
        replies = pair.give(pair.bob, flipped(data, bit))
        assert Kind.RESYNC_CALL not in kinds(replies)
    assert not pair.bob.told(Resynchronised)


def test_a_response_to_a_request_from_before_the_peers_crash_does_not_count(pair: Pair) -> None:
    pair.bob.restart()
    (call,) = (data for data in pair.frames(pair.bob) if decode(data).kind is Kind.RESYNC_CALL)
    (request,) = pair.give(pair.alice, call)
    (late_response,) = pair.give(pair.bob, request)
    pair.bob.restart()
    (new_call,) = (data for data in pair.frames(pair.bob) if decode(data).kind is Kind.RESYNC_CALL)
    (new_request,) = pair.give(pair.alice, new_call)
    pair.give(pair.alice, late_response)
    pair.give(pair.alice, *pair.give(pair.bob, new_request))
    assert pair.alice.session.record.sending.chain == pair.bob.session.record.receiving.chain


@pytest.mark.parametrize("kind", [Kind.RESYNC_CALL, Kind.RESYNC_REQUEST])
def test_no_key_can_be_cut_out_of_a_call_or_request(profile: Profile, kind: Kind) -> None:
    pair = Pair(profile, replace(EVERY_W, checkpoint_rounds=2))
    for number in range(5):
        pair.round(b"%d" % number)
    end, peer = (pair.bob, pair.alice) if kind is Kind.RESYNC_CALL else (pair.alice, pair.bob)
    end.restart()
    (frame,) = (frame for data in pair.frames(end) if (frame := decode(data)).kind is kind)
    skip = 0 if kind is Kind.RESYNC_CALL else 24
    fields, keys = frame.message[:skip], frame.message[skip:]
    count = len(keys) // 24
    ids, macs = keys[: 8 * count], keys[8 * count :]
    cut = [
        fields + ids[8:] + macs[16:],
        fields + ids[:-8] + macs[:-16],
        fields + ids + macs[:-1] + bytes([macs[-1] ^ 1]),
    ]
    for message in cut:
        assert pair.give(peer, encode(replace(frame, message=message))) == []
    assert peer.session.rejections[Rejection.UNAUTHENTIC] == 3
    assert pair.give(peer, encode(frame)) != []


@pytest.mark.parametrize("age", range(5))
@pytest.mark.parametrize("restored", [0, 1], ids=["sender", "receiver"])
def test_an_old_backup_at_one_end_heals_in_every_w(profile: Profile, restored: int, age: int) -> None:
    pair = Pair(profile, EVERY_W)
    end, backups = (pair.alice, pair.bob)[restored], []
    for number in range(5):
        backups.append(end.session.record)
        pair.round(b"%d" % number)
    end.restart(backups[-1 - age])
    pair.settle()
    assert pair.agree()
    pair.round(b"after")
    again = [] if restored == 0 else [b"%d" % number for number in range(4 - age, 5)]
    assert pair.bob.messages() == [b"0", b"1", b"2", b"3", b"4", *again, b"after"]


@pytest.mark.parametrize("age", range(5))
@pytest.mark.parametrize("restored", [0, 1], ids=["sender", "receiver"])
def test_an_old_backup_at_one_end_takes_a_new_k0_where_no_end_forgets(
    profile: Profile, restored: int, age: int
) -> None:
    pair = Pair(profile, SessionConfig(checkpoint_rounds=4))
    end, backups = (pair.alice, pair.bob)[restored], []
    for number in range(5):
        backups.append(end.session.record)
        pair.round(b"%d" % number)
    end.restart(backups[-1 - age])
    pair.settle()
    if (restored, age) != (0, 0):  # the key of the round before is at hand: an acknowledgement may have been lost
        assert pair.alice.told(ReestablishNeeded) or pair.bob.told(ReestablishNeeded)
        for each in (pair.alice, pair.bob):
            each.session.rekey(b"k" * 32, pair.now)
        pair.settle()
    assert pair.agree()
    pair.round(b"after")
    assert pair.bob.messages() == [b"0", b"1", b"2", b"3", b"4", b"after"]
    assert not pair.alice.told(RolledBack) + pair.bob.told(RolledBack)


def test_a_backup_from_before_both_checkpoints_is_told_to_be_too_old(profile: Profile) -> None:
    for restored in (0, 1):
        pair = Pair(profile, SessionConfig(checkpoint_rounds=2))
        ends = (pair.alice, pair.bob)
        backup = ends[restored].session.record
        for number in range(6):
            pair.round(b"%d" % number)
        ends[restored].restart(backup)
        pair.settle()
        assert pair.alice.told(ReestablishNeeded) or pair.bob.told(ReestablishNeeded)


def test_a_sender_that_resynchronises_in_vain_tells_it_and_goes_on_trying(profile: Profile) -> None:
    pair = Pair(profile, SessionConfig(omega=3))
    pair.alice.restart()
    for _ in range(12):
        pair.wait(pair.alice)
    assert pair.alice.told(Unreachable) == [Unreachable(0)]
    pair.heal()
    assert pair.agree()


def test_calls_and_requests_back_off(pair: Pair) -> None:
    pair.bob.restart()
    intervals = []
    for _ in range(40):
        before = pair.now
        pair.wait(pair.bob)
        intervals.append(round(pair.now - before, 6))
    assert max(intervals) <= 10.0
    assert pair.now > 100


# --- every-W ----------------------------------------------------------------------------------------------------------


def test_a_receiver_that_lost_power_gets_the_messages_again_under_the_same_seq(pair_w: Pair) -> None:
    for number in range(7):
        pair_w.round(b"%d" % number)
    on_disk = [persist for persist in pair_w.bob.records if persist.sync][-1].record
    pair_w.bob.restart(on_disk)
    pair_w.settle()
    told = [(event.seq, event.message, event.epoch) for event in pair_w.bob.told(MessageReceived)]
    assert told[:7] == [(seq, b"%d" % seq, 0) for seq in range(7)]
    assert told[7:] == [(seq, b"%d" % seq, 1) for seq in range(4, 7)]
    assert pair_w.agree()


def test_a_sender_that_lost_power_takes_up_the_seq_of_the_receiver(pair_w: Pair) -> None:
    for number in range(7):
        pair_w.round(b"%d" % number)
    on_disk = [persist for persist in pair_w.alice.records if persist.sync][-1].record
    pair_w.alice.restart(on_disk)
    pair_w.settle()
    assert Resynchronised(True, 7) in pair_w.alice.events
    pair_w.round(b"7")
    assert [event.seq for event in pair_w.bob.told(MessageReceived)] == list(range(8))
    assert pair_w.agree()


def test_messages_keep_their_seq_after_a_sender_has_forgotten_some(pair_w: Pair) -> None:
    """It must not take later ones for those, when its receiver is restored from an old backup."""
    for number in range(7):
        pair_w.round(b"%d" % number)
    at_round = {persist.record.receiving.chain.seq: persist.record for persist in pair_w.bob.records}
    pair_w.alice.restart([each for each in pair_w.alice.records if each.record.sending.chain.seq == 4][-1].record)
    pair_w.settle()
    pair_w.round(b"7")
    pair_w.bob.restart(at_round[5])
    pair_w.settle()
    told = [(event.seq, event.message) for event in pair_w.bob.told(MessageReceived)]
    assert told == [*((seq, b"%d" % seq) for seq in range(8)), (7, b"7")]
    assert pair_w.agree()


def test_rounds_that_turn_out_to_be_delivered_are_told_with_the_one_record_that_counts_them(pair_w: Pair) -> None:
    """Else a crash between two of them would leave one that is counted and was never told."""
    for number in range(7):
        pair_w.round(b"%d" % number)
    newest = pair_w.bob.records[-1].record
    pair_w.bob.restart([persist for persist in pair_w.bob.records if persist.sync][-1].record)
    pair_w.give(pair_w.alice, *pair_w.give(pair_w.bob, *pair_w.give(pair_w.alice, *pair_w.frames(pair_w.bob))))
    assert Resynchronised(True, 4) in pair_w.alice.events
    pair_w.alice.events.clear()
    pair_w.bob.restart(newest)  # it had all of them, which it had forgotten
    pair_w.settle()
    (delivered,) = pair_w.alice.told(MessageDelivered)
    assert list(delivered.rounds) == [4, 5, 6]
    assert delivered.record.sending.chain.seq == 7
    changes = pair_w.alice.told(StateChanged)
    counted = [each for each in changes if each.record.sending.chain.seq > 4]
    assert counted[0] is delivered
    assert pair_w.alice.events.index(Resynchronised(True, 7)) < pair_w.alice.events.index(delivered)
    assert pair_w.agree()


# --- a thief of keys --------------------------------------------------------------------------------------------------


def heard_round(pair: Pair, thief: Eve, message: bytes) -> None:
    """A round that the thief follows."""
    data = pair.send(message)
    thief.hear(0, data)
    pair.give(pair.alice, *pair.give(pair.bob, data))


def heard_settling(pair: Pair, thief: Eve) -> None:
    """As `settle`, and the thief hears everything."""
    moved = True
    while moved:
        moved = False
        for i, sender, receiver in ((0, pair.alice, pair.bob), (1, pair.bob, pair.alice)):
            for data in pair.frames(sender):
                moved = True
                thief.hear(i, data)
                receiver.session.receive_frame(data, pair.now)


def test_a_thief_of_a_key_is_out_from_the_first_accepted_attempt_that_she_missed(pair: Pair) -> None:
    thief = Eve(pair.alice.session.record.sending.chain, (), direction=0)
    heard_round(pair, thief, b"heard")
    assert pair.alice.session.record.sending.chain.key in thief.known
    pair.round(b"missed")
    for number in range(100):
        heard_round(pair, thief, b"heard %d" % number)
        assert pair.alice.session.record.sending.chain.key not in thief.known


def test_another_attempt_of_the_same_message_does_not_help_a_thief(pair: Pair) -> None:
    thief = Eve(pair.alice.session.record.sending.chain, (), direction=0)
    first = pair.send(b"hello")
    (second,) = pair.wait(pair.alice)
    thief.hear(0, second)
    pair.give(pair.alice, *pair.give(pair.bob, first))
    heard_round(pair, thief, b"more")
    assert pair.alice.session.record.sending.chain.key not in thief.known


def test_a_thief_who_is_out_stays_out_when_an_end_starts_again(pair: Pair) -> None:
    """Even one of the whole record: the two resume from the newest key that they have in common, not a checkpoint."""
    stolen = pair.alice.session.record.sending
    thief = Eve(stolen.chain, stolen.keys, direction=0)
    pair.round(b"missed")
    for end in (pair.alice, pair.bob, pair.alice):
        end.restart()
        heard_settling(pair, thief)
        assert pair.agree()
        assert pair.alice.session.record.sending.chain.key not in thief.known


def test_a_thief_is_in_again_only_by_a_backup_from_before_she_was_out(pair_w: Pair) -> None:
    backup = pair_w.bob.session.record
    thief = Eve(pair_w.alice.session.record.sending.chain, (), direction=0)
    pair_w.round(b"missed")
    pair_w.bob.restart(backup)
    heard_settling(pair_w, thief)
    assert pair_w.alice.session.record.sending.chain.key in thief.known
    assert pair_w.alice.told(RolledBack) == [RolledBack(True, 1)]
    pair_w.round(b"missed again")
    assert pair_w.alice.session.record.sending.chain.key not in thief.known


def test_a_thief_is_not_in_again_by_a_backup_where_no_end_forgets(profile: Profile) -> None:
    pair = Pair(profile, SessionConfig())
    backup = pair.bob.session.record
    thief = Eve(pair.alice.session.record.sending.chain, (), direction=0)
    pair.round(b"missed")
    pair.bob.restart(backup)
    heard_settling(pair, thief)
    assert pair.alice.told(ReestablishNeeded)
    assert pair.alice.session.record.sending.chain.key not in thief.known


# --- a new K_0 --------------------------------------------------------------------------------------------------------


def test_a_new_k0_at_both_ends_is_taken_and_nothing_is_lost(pair: Pair) -> None:
    pair.round(b"before")
    pair.send(b"under way")
    old = {*pair.alice.session.record.sending.keys, *pair.bob.session.record.sending.keys}
    for end in (pair.alice, pair.bob):
        end.session.rekey(b"k" * 32, pair.now)
        end.serve()
    pair.settle()
    assert pair.agree()
    pair.round(b"after")
    pair.round(b"back", back=True)
    assert pair.bob.messages() == [b"before", b"under way", b"after"]
    for end in (pair.alice, pair.bob):
        assert not end.session.record.sending.offer
        assert not end.session.record.receiving.offer
        assert not [key for key in old if key.hex() in end.records[-1].record.to_json()]


@pytest.mark.parametrize("restarted", [False, True])
def test_each_new_k0_may_come_with_other_roles(pair: Pair, restarted: bool) -> None:
    """As where a card is moved to a device with another address."""
    for number in range(1, 4):
        roles = list(Role)[:: 1 if number % 2 == 0 else -1]
        for end, role in zip((pair.alice, pair.bob), roles, strict=True):
            end.session.rekey(b"%d" % number * 32, pair.now, role)
            end.serve()
            if restarted:
                end.restart(now=pair.now)
        pair.settle()
        assert [end.records[-1].record.role for end in (pair.alice, pair.bob)] == roles
        assert not any(end.session.record.sending.offer for end in (pair.alice, pair.bob))
        pair.round(b"%d" % number)
        pair.round(b"back", back=True)
        assert pair.agree()
    assert pair.bob.messages() == [b"1", b"2", b"3"]


def test_a_new_k0_with_one_role_at_both_ends_leaves_both_on_the_old(pair: Pair) -> None:
    for end in (pair.alice, pair.bob):
        end.session.rekey(b"k" * 32, pair.now, Role.INITIATOR)
        end.serve()
    pair.settle()
    pair.round(b"on the old one")
    assert all(end.session.record.sending.offer for end in (pair.alice, pair.bob))


def test_a_new_k0_at_one_end_only_leaves_both_on_the_old(pair: Pair) -> None:
    for number in range(3):
        pair.alice.session.rekey(b"%d" % number * 32, pair.now)
        pair.settle()
        pair.round(b"%d" % number)
        pair.round(b"back", back=True)
    assert pair.bob.messages() == [b"0", b"1", b"2"]
    assert pair.agree()


def test_a_new_k0_that_one_end_learns_of_later_is_taken_then(pair: Pair) -> None:
    pair.alice.session.rekey(b"k" * 32, pair.now)
    pair.settle()
    pair.round(b"between")
    pair.bob.session.rekey(b"k" * 32, pair.now)
    pair.settle()
    for end in (pair.alice, pair.bob):
        assert not end.session.record.sending.offer
        assert not end.session.record.receiving.offer
    assert pair.agree()


def test_a_second_new_k0_does_not_part_the_ends_while_the_first_is_being_taken(pair: Pair) -> None:
    for end in (pair.alice, pair.bob):
        end.session.rekey(b"1" * 32, pair.now)
    for data in pair.frames(pair.bob):
        pair.alice.session.receive_frame(data, pair.now)
    for data in pair.frames(pair.alice):
        pair.bob.session.receive_frame(data, pair.now)
    pair.frames(pair.bob)  # the response, by which Alice would have gone over, is lost
    pair.alice.session.rekey(b"2" * 32, pair.now)
    pair.heal()
    pair.round(b"after")
    assert pair.agree()
