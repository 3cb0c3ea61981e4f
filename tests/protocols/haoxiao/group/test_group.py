"""A group, story by story: broadcast once, repair in private, epochs, theft, memory."""

from __future__ import annotations

import pytest
from fuzzing import weight
from group_world import BURST, LETTERS, OWNER, GroupWorld, identity

from bt_selfsecure.errors import LocalError
from bt_selfsecure.protocols.haoxiao.frames import Kind, decode
from bt_selfsecure.protocols.haoxiao.group import letters, limits
from bt_selfsecure.protocols.haoxiao.group.events import (
    EpochBegun,
    GroupEnded,
    GroupJoined,
    GroupLost,
    GroupMessage,
    Post,
)
from bt_selfsecure.protocols.haoxiao.group.fragments import Assembly, fragments
from bt_selfsecure.protocols.haoxiao.group.keys import NOTHING, Common, Heard, first_key, group_key, opened, seal
from bt_selfsecure.protocols.haoxiao.group.listener import GroupListener
from bt_selfsecure.protocols.haoxiao.group.owner import GroupOwner
from bt_selfsecure.protocols.haoxiao.group.record import MemberRecord, OwnerRecord, record_of
from bt_selfsecure.protocols.haoxiao.group.tables import ListenerState, MemberState
from bt_selfsecure.protocols.haoxiao.record import RecordError

A, B, C = (identity(i) for i in range(3))


def quiet(members: int = 3, seed: int = 1) -> GroupWorld:
    """All members but the last have joined."""
    world = GroupWorld(seed, members)
    world.flow()
    return world


def bare(members: int = 2) -> tuple[GroupOwner, list[GroupListener], GroupWorld]:
    world = quiet(members + 1)
    listeners = [world.members[identity(i)].listener for i in range(members)]
    return world.owner, [one for one in listeners if one], world


def miss(world: GroupWorld, indices: set[int]) -> None:
    """Of what is on its way, nobody hears the fragments of these numbers."""
    world.air = [one for one in world.air if decode(one[1]).rand[0] >> 4 not in indices]


def test_a_message_is_broadcast_once_and_received_once_by_each() -> None:
    world = quiet(4)
    for _ in range(20):
        world.say(64)
        world.flow()
    assert len(world.sent) == 20 * 6, "64 bytes are five fragments and a parity"
    for i in range(3):
        assert len(world.members[identity(i)].inbox) == 20
    assert not any(member.to.letters for member in world.members.values()), "nothing was repaired"


@pytest.mark.parametrize("missed", range(6))
def test_any_one_fragment_may_be_lost(missed: int) -> None:
    world = quiet(2)
    world.say(64)
    miss(world, {missed})
    world.flow()
    assert len(world.members[A].inbox) == 1
    assert not world.members[A].to.letters


def test_two_lost_fragments_are_healed_in_the_session_alone() -> None:
    world = quiet(2)
    world.say(64)
    miss(world, {1, 2})
    world.flow()
    assert world.members[A].inbox == []
    world.pass_time(limits.REPORT_S)
    assert letters.decode(world.members[A].back.letters[0]) == letters.ReportLetter(
        world.owner.record.group, 1, 0, letters.Lack.ROUNDS
    )
    world.flow()
    assert len(world.members[A].inbox) == 1
    assert len(world.sent) == 6, "never again on the air"


def test_who_has_heard_nothing_gets_it_in_time() -> None:
    world = quiet(2)
    for _ in range(3):
        world.say(30)
    world.air = [one for one in world.air if decode(one[1]).seq != 0]
    world.flow()
    world.pass_time(limits.REPAIR_S)
    repaired = [letters.decode(letter) for letter in world.members[A].to.letters]
    (letter,) = [letter for letter in repaired if isinstance(letter, letters.RepairLetter)]
    assert [one.number for one in letter.rounds] == [0, 1, 2]
    world.flow()
    assert len(world.members[A].inbox) == 3


def test_a_report_names_what_is_held_so_only_the_rest_is_repaired() -> None:
    world = quiet(2)
    for _ in range(5):
        world.say(30)
    world.air = [one for one in world.air if decode(one[1]).seq not in (0, 3)]
    while world.fragment(0):
        pass
    world.pass_time(limits.LACK_S)
    report = letters.decode(world.members[A].back.letters[0])
    assert report == letters.ReportLetter(world.owner.record.group, 1, 0, letters.Lack.ROUNDS, 0b1011)
    world.answer(A)
    (repair,) = [letters.decode(letter) for letter in world.members[A].to.letters]
    assert isinstance(repair, letters.RepairLetter)
    assert [one.number for one in repair.rounds] == [0, 3]
    world.flow()
    assert len(world.members[A].inbox) == 5


def test_what_is_held_and_forgotten_in_a_crash_is_repaired_too() -> None:
    world = quiet(2)
    for _ in range(5):
        world.say(30)
    world.air = [one for one in world.air if decode(one[1]).seq not in (0, 3)]
    while world.fragment(0):
        pass
    world.pass_time(limits.REPORT_S)
    world.answer(A)
    world.crash(A)
    world.flow()
    world.pass_time(limits.REPAIR_S)
    world.flow()
    assert len(world.members[A].inbox) == 5


def test_members_acknowledge_many_rounds_at_a_time() -> None:
    world = quiet(2)
    for _ in range(limits.REPORT_ROUNDS):
        world.say()
        while world.fragment(0):
            pass
    assert len(world.members[A].back.letters) == 1
    world.flow()
    assert world.owner.record.pending == ()


def test_a_broadcast_leaves_when_it_is_on_disk_and_not_before() -> None:
    owner, _, world = bare()
    owner.send(b"on", world.now)
    assert owner.frames_to_send(world.now) == []
    tokens = [event.token for event in iter(owner.next_event, None) if hasattr(event, "token")]
    owner.persisted(tokens[-1])
    assert len(owner.frames_to_send(world.now)) == 3
    assert owner.frames_to_send(world.now) == [], "once"


def test_after_a_crash_nothing_is_broadcast_again_and_all_is_repaired() -> None:
    world = quiet(3)
    world.say()
    world.air.clear()
    world.crash_owner()
    sent = len(world.sent)
    world.pass_time(limits.REPAIR_S)
    world.flow()
    assert len(world.sent) == sent
    assert len(world.members[A].inbox) == len(world.members[B].inbox) == 1


def test_messages_now_and_then_are_acknowledged_together() -> None:
    world = quiet(2)
    world.say()
    world.flow()
    world.pass_time(limits.REPORT_SOON_S)
    world.answer(A)
    assert world.owner.record.pending == ()
    for _ in range(3):
        world.say()
        while world.fragment(0):
            pass
        world.pass_time(8.5)
    assert len(world.members[A].back.letters) == 1, "one in `REPORT_S`"
    world.flow()
    assert world.owner.record.pending == ()


def test_a_message_alone_is_repaired_soon_at_who_has_heard_nothing_of_it() -> None:
    world = quiet(3)
    for _ in range(2):
        world.say()
        world.air = [one for one in world.air if one[0] != A]
        world.flow()
        world.pass_time(limits.REPORT_SOON_S)
        world.flow()
        world.pass_time(limits.REPAIR_SOON_S - limits.REPORT_SOON_S)
        world.flow()
        assert world.members[A].inbox == world.members[B].inbox
        for seconds in (limits.REPORT_SOON_S, limits.REPORT_S):
            world.pass_time(seconds)
            world.flow()
        assert {member.state for member in world.owner.record.members} == {MemberState.CURRENT}
    assert not world.owner.record.pending


def test_who_has_just_reported_is_not_taken_for_silent_before_it_reports_again() -> None:
    world = quiet(2)
    world.say()
    world.flow()
    world.pass_time(limits.REPORT_SOON_S)
    world.flow()
    world.say()
    world.flow()
    for _ in range(3):
        world.pass_time(limits.REPORT_S / 3)
        assert not world.members[A].to.letters
    world.flow()
    assert world.owner.record.pending == ()
    assert world.owner.record.members[0].state is MemberState.CURRENT


def test_an_owner_that_was_killed_does_not_take_for_silent_who_reported_before() -> None:
    world = quiet(2)
    world.say()
    world.flow()
    world.pass_time(limits.REPORT_SOON_S)
    world.flow()
    world.crash_owner()
    world.say()
    world.flow()
    world.pass_time(limits.REPAIR_SOON_S)
    assert not world.members[A].to.letters


def test_what_is_lacking_is_wished_soon_and_does_not_wait_for_what_is_acknowledged() -> None:
    world = quiet(2)
    world.say(64)
    world.flow()
    world.pass_time(1.0)
    world.say(64)
    miss(world, {1, 2})
    world.flow()
    world.pass_time(limits.LACK_S)
    world.flow()
    assert len(world.members[A].inbox) == 2


def test_a_member_whose_radio_is_at_work_gets_each_by_its_session_until_it_hears_again() -> None:
    world = quiet(3)
    world.members[A].deaf = True
    world.pass_time(0.1)
    world.flow()
    assert [member.state for member in world.owner.record.members] == [MemberState.DEAF, MemberState.CURRENT]
    sent = len(world.sent)
    for _ in range(3):
        world.say()
        world.flow()
    assert len(world.sent) == sent + 9, "the other one hears them"
    assert len(world.members[A].inbox) == len(world.members[B].inbox) == 3, "at once"
    world.members[A].deaf = False
    world.pass_time(1.0)
    world.flow()
    assert world.owner.record.members[0].state is MemberState.DEAF, "it may change its mind"
    world.pass_time(limits.STEADY_S)
    world.flow()
    assert world.owner.record.members[0].state is MemberState.CURRENT


def test_a_member_that_falls_silent_gets_each_by_its_session_until_it_reports() -> None:
    world = quiet(2)
    world.say()
    world.air.clear()
    world.pass_time(limits.REPAIR_S)
    sent = len(world.sent)
    world.say()
    assert len(world.sent) == sent, "nobody is known to hear"
    world.flow()
    assert len(world.members[A].inbox) == 2
    world.pass_time(limits.REPORT_S)
    world.flow()
    assert world.owner.record.members[0].state is MemberState.CURRENT


def test_a_broadcast_that_could_not_leave_goes_by_the_sessions_at_once() -> None:
    world = quiet(3)
    world.say()
    world.air.clear()
    world.owner.unheard(world.now)
    world.pass_time(0.0)
    world.flow()
    assert len(world.members[A].inbox) == len(world.members[B].inbox) == 1


def test_a_member_that_asks_while_its_session_takes_nothing_is_away() -> None:
    world = quiet(2)
    world.members[A].to.letters.extend([b"of another kind"] * LETTERS)
    world.say(64)
    miss(world, {1, 2})
    while world.fragment(0):
        pass
    world.pass_time(limits.LACK_S)
    world.answer(A)
    assert world.owner.record.members[0].state is MemberState.AWAY


# --- epochs -----------------------------------------------------------------------------------------------------------


def opened_by(key: bytes, number: int, sent: list[bytes]) -> bytes | None:
    """What this key of the next round makes of a broadcast."""
    assembly = Assembly()
    for data in sent:
        assembly.add(decode(data), 0.0)
    found = opened(key, number, assembly.sealed or b"")
    return found[1] if found else None


def test_a_newcomer_can_not_read_the_past() -> None:
    world = quiet(3)
    world.say()
    past, number = list(world.sent), world.owner.record.number - 1
    world.flow()
    world.change([C], [])
    world.flow()
    new = world.members[C].listener
    assert new is not None
    assert world.members[C].inbox == []
    for n in range(number + 1):
        assert opened_by(new.record.key, n, past) is None
    assert new.record.key not in (world.record.encode(),)
    world.say()
    world.flow()
    assert len(world.members[C].inbox) == 1


def test_an_expelled_member_can_not_read_the_future() -> None:
    world = quiet(3)
    world.say()
    world.flow()
    old = world.members[A].listener
    assert old is not None
    key, number = old.record.key, old.record.number
    world.change([], [A])
    world.flow()
    assert world.members[A].listener is None
    before = len(world.sent)
    world.say()
    future = world.sent[before:]
    assert future, "B has joined the epoch and hears it"
    for n in (0, number):
        assert opened_by(key, n, future) is None
    world.flow()
    assert len(world.members[A].inbox) == 1
    assert len(world.members[B].inbox) == 2


def test_who_leaves_is_no_member_and_the_others_go_on() -> None:
    world = quiet(3)
    listener = world.members[A].listener
    assert listener is not None
    world.excuse(A)
    world.turn(A, lambda: listener.leave(world.now))
    world.flow()
    assert [member.identity for member in world.owner.record.members] == [B]
    world.say()
    world.flow()
    assert (len(world.members[A].inbox), len(world.members[B].inbox)) == (0, 1)


def test_what_was_on_its_way_when_an_epoch_ends_comes_before_the_next() -> None:
    world = quiet(3)
    world.say()
    world.air.clear()
    world.change([], [B])
    world.say()
    world.flow()
    assert [message[:2] for message in world.members[A].inbox] == [b"0:", b"1:"]


def test_nobody_but_a_member_can_change_anything() -> None:
    world = quiet(3)
    before = world.owner.record
    group = before.group
    lost = letters.ReportLetter(group, 1, 0, letters.Lack.EPOCH)
    for letter in (letters.LeaveLetter(group, 1), letters.ReportLetter(group, 9, 9), lost):
        world.owner.receive_letter(b"strang", letters.encode(letter), world.now)
        world.owner.receive_letter(A, letters.encode(letters.LeaveLetter(bytes(8), 1)), world.now)
    assert world.owner.record == before
    assert world.owner.get_timer() is None


def test_a_member_that_lies_about_epochs_costs_an_epoch_and_no_more() -> None:
    world = quiet(3)
    lie = letters.encode(letters.ReportLetter(world.owner.record.group, limits.MAX_EPOCHS, 0))
    world.own_turn(lambda: world.owner.receive_letter(A, lie, world.now))
    assert world.owner.record.epoch <= 1 + limits.MAX_LEAP
    world.pass_time(limits.EPOCH_S)
    world.flow()
    world.say()
    world.flow()
    assert len(world.members[B].inbox) == 1


# --- the key ----------------------------------------------------------------------------------------------------------


def test_the_key_takes_both_what_is_common_and_the_secret() -> None:
    common = Common(b"one burs", (0, 1), bytes(32), 2.0)
    secret = bytes(range(32))
    other = Common(b"one burs", (0, 1), b"\1" * 32)
    keys = {group_key(c, s) for c in (common, NOTHING, other) for s in (secret, bytes(32))}
    assert len(keys) == 6
    assert first_key(common, secret, bytes(8), 1) != first_key(common, secret, bytes(8), 2)
    assert first_key(common, secret, bytes(8), 1) != first_key(common, secret, b"\1" * 8, 1)


def test_what_the_members_have_in_common_is_told_and_each_computes_it() -> None:
    world = quiet(3)
    heard = [world.members[one].heard for one in (A, B)]
    common = set.intersection(*(set(one.tokens) for one in heard if one))
    assert world.owner.record.bits == len(common) > 0
    assert world.members[A].listener is not None


def test_a_member_that_has_forgotten_the_burst_gets_an_epoch_without_it() -> None:
    world = GroupWorld(1, 3)
    world.members[A].heard = Heard(BURST, {})
    world.members[A].excused = True
    world.flow()
    world.pass_time(limits.EPOCH_S)
    world.flow()
    assert world.owner.record.bits == 0.0
    world.heal()
    assert world.members[A].inbox


def test_a_stolen_group_key_reads_on_until_the_first_missed_broadcast() -> None:
    world = quiet(3)
    world.steal()
    for _ in range(200):
        world.say(30)
        world.flow()
    assert 0 < len(world.thief_has) < 100, "she misses two of four fragments sooner or later"
    assert world.stolen != world.owner.record.key
    read = len(world.thief_has)
    for _ in range(20):
        world.say(30)
        world.flow()
    assert len(world.thief_has) == read


# --- states that were put back ----------------------------------------------------------------------------------------


def test_a_member_that_was_put_back_to_an_older_state_joins_anew() -> None:
    world = quiet(3)
    old = world.members[A].record
    for _ in range(4):
        world.say()
        world.flow()
    world.pass_time(limits.REPORT_S)
    world.flow()
    world.members[A].record, world.members[A].excused = old, True
    world.crash(A)
    world.say()
    world.flow()
    for _ in range(3):
        world.pass_time(limits.EPOCH_S)
        world.flow()
    assert world.owner.record.epoch == 2
    world.heal()


def test_a_member_that_has_lost_all_it_had_joins_anew() -> None:
    world = quiet(3)
    world.members[A].record, world.members[A].excused = "", True
    world.crash(A)
    world.say()
    world.flow()
    world.pass_time(limits.REPAIR_S)
    world.flow()
    for _ in range(3):
        world.pass_time(limits.EPOCH_S)
        world.flow()
    assert world.members[A].listener is not None
    world.heal()


def test_an_owner_that_was_put_back_to_an_older_state_begins_another_epoch() -> None:
    world = quiet(3)
    old = world.record
    for _ in range(10):
        world.say()
        world.flow()
    world.record = old
    for member in world.members.values():
        member.excused, member.must = True, []
    world.crash_owner()
    report = letters.encode(letters.ReportLetter(world.owner.record.group, 1, 10))
    world.own_turn(lambda: world.owner.receive_letter(A, report, world.now))
    world.pass_time(limits.EPOCH_S)
    world.flow()
    assert world.owner.record.epoch == 2
    world.heal()


def test_a_lost_member_can_be_expelled() -> None:
    record = MemberRecord(bytes(8), "x", 0, bytes(32), 0)
    listener = GroupListener.restore(record, OWNER, quiet().context, lambda session: None, 0.0)
    assert listener.state is ListenerState.LOST
    listener.receive_letter(letters.encode(letters.ClosedLetter(bytes(8), 1)), 0.0)
    assert [type(event) for event in iter(listener.next_event, None)] == [GroupEnded]
    assert listener.state is ListenerState.OVER


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_memory_stays_bounded_with_32_members_of_whom_one_never_answers() -> None:
    world = quiet(limits.MAX_MEMBERS + 1)
    silent = world.members[identity(7)]
    silent.absent = True
    heaviest = 0
    for _ in range(300):
        world.say(64)
        for peer in world.members:
            while world.answer(peer):
                pass
        while world.fragment(0):
            pass
        for peer, member in world.members.items():
            while member is not silent and world.post(peer):
                pass
        world.pass_time(1.0)
        heaviest = max(heaviest, weight(world.owner.record), len(world.owner.record.pending))
        assert len(world.owner.record.pending) <= limits.WINDOW
    assert len(silent.to.letters) <= LETTERS
    state = {member.identity: member.state for member in world.owner.record.members}
    assert state.pop(identity(7)) is MemberState.AWAY
    assert set(state.values()) == {MemberState.CURRENT}
    assert heaviest < 200 * limits.WINDOW + 100 * limits.MAX_MEMBERS, "whatever the time in which it is not repaired"
    assert len(world.members[identity(0)].inbox) == 300
    world.heal()
    assert silent.listener is not None
    assert silent.inbox


def test_a_group_refuses_what_it_does_not_take() -> None:
    owner, _, world = bare()
    with pytest.raises(LocalError):
        owner.send(bytes(limits.MAX_MESSAGE_BYTES + 1), 0.0)
    with pytest.raises(LocalError):
        owner.change([bytes([i]) * 6 for i in range(limits.MAX_MEMBERS + 1)], (), 0.0, "")
    with pytest.raises(LocalError):
        GroupOwner.create("x" * 33, [], world.context, lambda who: NOTHING, 0.0)
    for _ in range(limits.WINDOW):
        owner.send(b"", 0.0)
    assert not owner.can_send
    with pytest.raises(LocalError):
        owner.send(b"", 0.0)


@pytest.mark.parametrize("size", [0, 1, 9, 10, 30, 64, limits.MAX_MESSAGE_BYTES])
def test_every_length_fits_and_comes_back_as_it_was(size: int) -> None:
    context = quiet(2).context
    message = bytes([0x80, 0] * 100)[:size]
    rand, sealed = seal(bytes(32), 5, message, context.random)
    cut = fragments(5, sealed)
    assert {len(data) for data in cut} == {24}
    assert len(cut) <= limits.MAX_FRAGMENTS + 1
    assert opened(bytes(32), 5, sealed) == (rand, message)
    assert all(decode(data).kind is Kind.GROUP_FRAGMENT for data in cut)


# --- records ----------------------------------------------------------------------------------------------------------


def test_records_come_back_as_they_were() -> None:
    world = quiet(3)
    world.say()
    assert record_of(world.record) == world.owner.record
    assert isinstance(record_of(world.record), OwnerRecord)
    listener = world.members[A].listener
    assert listener is not None
    assert record_of(listener.record.to_json()) == listener.record


@pytest.mark.parametrize(
    "change",
    [
        ("1", "2"),
        ('"key":"', '"key":"00'),
        ('"owner"', '"other"'),
        ("CURRENT", "GONE"),
        ("{", "["),
    ],
)
def test_a_damaged_record_is_refused_with_a_sentence(change: tuple[str, str]) -> None:
    world = quiet(3)
    text = world.record.replace(*change, 1)
    assert text != world.record
    with pytest.raises(RecordError, match="group"):
        record_of(text)


def test_a_join_is_told_and_reported() -> None:
    world = quiet(2)
    welcome = letters.encode(letters.WelcomeLetter(bytes(8), 1, bytes(32), "lamps"))
    listener = GroupListener.join(welcome, OWNER, world.context, lambda session: None, 0.0)
    assert listener is not None
    told = list(iter(listener.next_event, None))
    assert [type(event) for event in told[:2]] == [GroupJoined, Post]
    assert GroupListener.join(b"\1", OWNER, world.context, lambda session: None, 0.0) is None
    unknown = letters.WelcomeLetter(bytes(8), 1, bytes(32), "lamps", b"a burst.", (1,))
    listener = GroupListener.join(letters.encode(unknown), OWNER, world.context, lambda session: None, 0.0)
    assert listener is not None
    assert listener.state is ListenerState.LOST


def test_events_say_what_the_machines_do() -> None:
    world = quiet(3)
    world.owner.change((), (B,), world.now, "a test")
    told = list(iter(world.owner.next_event, None))
    (begun,) = [event for event in told if isinstance(event, EpochBegun)]
    assert (begun.epoch, begun.members, begun.why) == (2, 1, "a test")
    assert GroupMessage.__doc__
    assert GroupLost.__doc__
