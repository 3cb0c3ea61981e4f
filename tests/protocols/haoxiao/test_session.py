"""Stories of the session: what gets lost, comes late, is replayed or too long, and what the two ends do."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from session_pair import Pair, kinds
from session_world import flipped

from bt_selfsecure.errors import LocalError, UsageError
from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.events import MessageDelivered, MessageReceived, ReestablishNeeded, Unreachable
from bt_selfsecure.protocols.haoxiao.frames import Frame, Kind, Profile, decode, encode
from bt_selfsecure.protocols.haoxiao.record import SessionRecord
from bt_selfsecure.protocols.haoxiao.sending import SenderState
from bt_selfsecure.protocols.haoxiao.session import Session
from bt_selfsecure.protocols.haoxiao.session_config import Durability, SessionConfig
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.events import FrameRejected, Rejection

# --- losses of rounds -------------------------------------------------------------------------------------------------


def test_messages_cross_in_both_directions_at_once(pair: Pair) -> None:
    for number in range(5):
        from_alice = pair.send(b"to Bob %d" % number)
        from_bob = pair.send(b"to Alice %d" % number, pair.bob)
        to_alice, to_bob = pair.give(pair.bob, from_alice), pair.give(pair.alice, from_bob)
        assert kinds(to_alice) == kinds(to_bob) == [Kind.DATA_ACK]
        pair.give(pair.alice, *to_alice)
        pair.give(pair.bob, *to_bob)
    assert pair.bob.messages() == [b"to Bob %d" % number for number in range(5)]
    assert pair.alice.messages() == [b"to Alice %d" % number for number in range(5)]
    assert pair.agree()


def test_an_empty_message_and_one_of_the_greatest_size_arrive(pair: Pair) -> None:
    pair.round(b"")
    pair.round(bytes(limits.MAX_MESSAGE_BYTES))
    assert pair.bob.messages() == [b"", bytes(limits.MAX_MESSAGE_BYTES)]


def test_lost_data_is_sent_again_with_fresh_random_numbers(pair: Pair) -> None:
    first = pair.send(b"hello")
    (second,) = pair.wait(pair.alice)
    assert (decode(first).retran, decode(second).retran) == (0, 1)
    assert decode(first).message != decode(second).message
    pair.give(pair.alice, *pair.give(pair.bob, second))
    assert pair.bob.messages() == [b"hello"]
    assert pair.agree()


def test_lost_acknowledgement_keeps_both_ends_on_one_key(pair: Pair) -> None:
    (lost,) = pair.give(pair.bob, pair.send(b"hello"))
    (again,) = pair.wait(pair.alice)
    (repeated,) = pair.give(pair.bob, again)
    assert repeated == lost  # of the attempt that was accepted, not of the one that came just now
    pair.give(pair.alice, repeated)
    assert pair.bob.messages() == [b"hello"]
    assert pair.agree()


def test_late_acknowledgement_of_an_earlier_attempt_ends_the_round(pair: Pair) -> None:
    (late,) = pair.give(pair.bob, pair.send(b"hello"))
    for _ in range(3):
        pair.wait(pair.alice)
    pair.give(pair.alice, late)
    assert [event.seq for event in pair.alice.told(MessageDelivered)] == [0]
    assert pair.agree()


def test_a_second_attempt_may_be_the_accepted_one_while_the_first_is_late(pair: Pair) -> None:
    first = pair.send(b"hello")
    (second,) = pair.wait(pair.alice)
    (acknowledgement,) = pair.give(pair.bob, second)
    assert pair.give(pair.bob, first) == [acknowledgement]
    pair.give(pair.alice, acknowledgement)
    assert pair.agree()


def test_a_copy_of_the_data_is_acknowledged_again_and_not_handed_over_again(pair: Pair) -> None:
    data = pair.send(b"hello")
    acknowledgements = [pair.give(pair.bob, data) for _ in range(5)]
    assert acknowledgements == acknowledgements[:1] * 5
    assert pair.bob.messages() == [b"hello"]


def test_a_copy_of_the_acknowledgement_changes_nothing(pair: Pair) -> None:
    (acknowledgement,) = pair.give(pair.bob, pair.send(b"hello"))
    pair.give(pair.alice, acknowledgement)
    pair.send(b"next")
    before = pair.alice.session.record
    pair.give(pair.alice, acknowledgement)
    assert pair.alice.session.record == before
    assert pair.alice.session.rejections[Rejection.REPLAY] == 1


def test_frames_of_earlier_rounds_change_nothing(pair: Pair) -> None:
    old = []
    for number in range(300):  # once around the 8 bits of Seq on the wire
        old.append(pair.send(b"%d" % number))
        pair.give(pair.alice, *pair.give(pair.bob, old[-1]))
    before = pair.bob.session.record
    for data in old[:-1]:
        assert pair.give(pair.bob, data) == []
    assert pair.bob.session.record == before
    assert pair.bob.session.rejections[Rejection.UNAUTHENTIC] == 299


def test_a_reflected_frame_is_refused(pair: Pair) -> None:
    data = pair.send(b"hello")
    before = pair.alice.session.record
    assert pair.give(pair.alice, data) == []
    (acknowledgement,) = pair.give(pair.bob, data)
    assert pair.give(pair.bob, acknowledgement) == []
    assert pair.alice.session.record == before
    assert pair.alice.messages() == []


def test_every_flipped_bit_of_data_is_refused_in_hardened() -> None:
    pair = Pair(Profile.HARDENED, SessionConfig())
    data = pair.send(b"hello")
    for bit in range(len(data) * 8):
        assert pair.give(pair.bob, flipped(data, bit)) == []
    assert pair.bob.messages() == []
    assert pair.give(pair.bob, data)


def test_a_frame_of_the_other_profile_or_of_an_establishment_is_not_for_a_session(pair: Pair, profile: Profile) -> None:
    other = Pair(next(each for each in Profile if each is not profile), SessionConfig())
    burst = encode(Frame(profile, Kind.RAND, rand=bytes(8), message=bytes(32)))
    assert pair.give(pair.bob, other.send(b"hello"), burst) == []
    assert pair.bob.session.rejections[Rejection.NOT_FOR_US] == 2


# --- time -------------------------------------------------------------------------------------------------------------


def test_retransmissions_back_off_by_doubling_up_to_the_greatest_interval(profile: Profile) -> None:
    pair = Pair(profile, SessionConfig(timeout=0.25, max_timeout=3.0, omega=6))
    pair.send(b"hello")
    deadlines = [pair.alice.session.get_timer()]
    for _ in range(8):
        pair.wait(pair.alice)
        deadlines.append(pair.alice.session.get_timer())
    intervals = [0.25, 0.5, 1.0, 2.0, 3.0, 3.0, 3.0, 3.0, 3.0]
    assert deadlines == [sum(intervals[: n + 1]) for n in range(len(intervals))]


def test_before_the_deadline_nothing_happens(pair: Pair) -> None:
    pair.send(b"hello")
    pair.alice.session.handle_timer(0.19)
    assert pair.frames(pair.alice) == []


def test_after_omega_retransmissions_the_peer_is_unreachable_and_the_last_is_repeated(profile: Profile) -> None:
    pair = Pair(profile, SessionConfig(omega=3))
    attempts = [pair.send(b"hello"), *(pair.wait(pair.alice)[0] for _ in range(3))]
    assert [decode(data).retran for data in attempts] == ([0, 1, 2, 3] if profile is Profile.HARDENED else [0, 1, 1, 1])
    assert not pair.alice.told(Unreachable)
    for _ in range(20):
        assert pair.wait(pair.alice) == attempts[-1:]
    assert pair.alice.told(Unreachable) == [Unreachable(0)]
    assert pair.alice.session._sender.state is SenderState.UNREACHABLE
    assert len(pair.alice.session._sender._attempts) == 4


@pytest.mark.parametrize("accepted", [0, 2, 3])
def test_an_unreachable_peer_that_comes_back_gets_the_message_once(profile: Profile, accepted: int) -> None:
    pair = Pair(profile, SessionConfig(omega=3))
    attempts = [pair.send(b"hello"), *(pair.wait(pair.alice)[0] for _ in range(3))]
    for _ in range(9):
        pair.wait(pair.alice)
    pair.give(pair.alice, *pair.give(pair.bob, attempts[accepted]))
    pair.round(b"more")
    assert pair.bob.messages() == [b"hello", b"more"]
    assert pair.agree()


# --- limits -----------------------------------------------------------------------------------------------------------


def test_a_message_that_is_too_long_is_refused_and_nothing_has_happened(pair: Pair) -> None:
    before = pair.alice.session.record
    with pytest.raises(LocalError, match="3800 bytes"):
        pair.alice.session.send(bytes(limits.MAX_MESSAGE_BYTES + 1), 0.0)
    assert pair.alice.session.record == before
    pair.round(b"short")


def test_one_message_at_a_time(pair: Pair) -> None:
    pair.send(b"one")
    assert not pair.alice.session.can_send
    with pytest.raises(LocalError, match="under way"):
        pair.alice.session.send(b"two", 0.0)


def test_at_the_limit_of_seq_a_new_establishment_is_asked_for(profile: Profile) -> None:
    pair = Pair(profile, SessionConfig())
    for end, states in ((pair.alice, ("sending", "receiving")), (pair.bob, ("receiving", "sending"))):
        record = end.session.record
        state = getattr(record, states[0])
        late = replace(state, chain=replace(state.chain, seq=limits.MAX_ROUNDS - 1))
        end.restart(replace(record, **{states[0]: late}))
    pair.settle()
    pair.round(b"the last")
    with pytest.raises(LocalError, match="used up"):
        pair.alice.session.send(b"one more", 0.0)
    pair.alice.serve()
    assert pair.alice.told(ReestablishNeeded)
    assert pair.bob.messages() == [b"the last"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"omega": 0},
        {"omega": 16},
        {"checkpoint_rounds": 0},
        {"timeout": 0.0},
        {"timeout": 9.0, "max_timeout": 1.0},
        {"durability": "every-message"},
    ],
)
def test_a_configuration_out_of_range_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="must be"):
        SessionConfig(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("k0", [b"", b"k" * 31, b"k" * 33], ids=len)
def test_what_is_no_k0_makes_no_session_and_leaves_a_running_one_as_it_was(pair: Pair, k0: bytes) -> None:
    session = pair.alice.session
    with pytest.raises(UsageError, match=f"32 bytes, this has {len(k0)}"):
        Session.start(session.profile, session.role, k0, SessionConfig(), EndpointContext(bytes))
    before = (session.record, session.role)
    with pytest.raises(UsageError, match=f"32 bytes, this has {len(k0)}"):
        session.rekey(k0, pair.now, session.role.peer)
    assert (session.record, session.role) == before


@pytest.mark.parametrize("durability", Durability)
def test_a_message_that_is_taken_back_leaves_the_session_as_it_was_and_never_comes(
    profile: Profile, durability: Durability
) -> None:
    pair = Pair(profile, SessionConfig(durability, checkpoint_rounds=4))
    for number in range(6):  # also at a checkpoint
        before = pair.alice.session.record
        pair.alice.holds = True
        pair.alice.session.send(b"refused", pair.now)
        pair.alice.session.withdraw(pair.now)
        assert pair.alice.session.record == before
        assert pair.frames(pair.alice) == []
        assert pair.alice.session.get_timer() is None
        pair.alice.write()
        assert pair.frames(pair.alice) == []
        assert pair.alice.records[-1].record == before
        pair.alice.holds = False
        pair.round(b"%d" % number)
    assert pair.bob.messages() == [b"%d" % number for number in range(6)]


@pytest.mark.parametrize("durability", Durability)
def test_nothing_waits_for_a_record_that_the_disk_refused(profile: Profile, durability: Durability) -> None:
    pair = Pair(profile, SessionConfig(durability, checkpoint_rounds=4))
    data = pair.send(b"hello")
    (lost,) = pair.give(pair.bob, data)
    pair.bob.holds = True
    pair.bob.session.send(b"refused", pair.now)
    pair.bob.serve()
    pair.bob.holds = False
    pair.bob.session.withdraw(pair.now)
    assert pair.frames(pair.bob) == []
    assert pair.give(pair.bob, data) == [lost]  # what was accepted before is acknowledged again
    pair.give(pair.alice, lost)
    pair.round(b"the next")
    pair.round(b"back", back=True)
    assert pair.agree()


def test_a_message_that_has_left_is_not_taken_back(pair: Pair) -> None:
    with pytest.raises(LocalError, match="no message waits"):
        pair.alice.session.withdraw(pair.now)
    data = pair.send(b"hello")
    with pytest.raises(LocalError, match="no message waits"):
        pair.alice.session.withdraw(pair.now)
    pair.give(pair.bob, data)
    assert pair.bob.messages() == [b"hello"]


# --- disk and air -----------------------------------------------------------------------------------------------------


def test_nothing_leaves_before_it_is_on_disk(pair: Pair) -> None:
    pair.round(b"the first")
    pair.alice.holds = pair.bob.holds = True
    pair.alice.session.send(b"hello", 0.0)
    assert pair.frames(pair.alice) == []
    pair.alice.write()
    data = pair.frame(pair.alice)
    assert pair.give(pair.bob, data) == []
    pair.bob.write()
    assert kinds(pair.frames(pair.bob)) == [Kind.DATA_ACK]


def test_no_step_of_a_resynchronisation_leaves_before_it_is_on_disk(pair: Pair) -> None:
    pair.alice.holds = pair.bob.holds = True
    pair.alice.session.rekey(b"k" * 32, pair.now)
    assert pair.frames(pair.alice) == []
    pair.alice.write()
    (request,) = (data for data in pair.frames(pair.alice) if decode(data).kind is Kind.RESYNC_REQUEST)
    (challenge,) = pair.give(pair.bob, request)
    (fresh_request,) = pair.give(pair.alice, challenge)
    assert pair.give(pair.bob, fresh_request) == []
    pair.bob.write()
    assert kinds(pair.frames(pair.bob)) == [Kind.RESYNC_RESPONSE]


def test_a_message_comes_with_the_record_that_counts_it(pair: Pair) -> None:
    data = pair.send(b"hello")
    pair.bob.events.clear()
    (acknowledgement,) = pair.give(pair.bob, data)
    (received,) = pair.bob.events
    assert isinstance(received, MessageReceived)
    assert received.record.receiving.chain.seq == received.seq + 1 == 1
    pair.alice.events.clear()
    pair.give(pair.alice, acknowledgement)
    (delivered,) = pair.alice.events
    assert isinstance(delivered, MessageDelivered)
    assert delivered.record.sending.chain.seq == delivered.seq + 1 == 1


def test_every_w_waits_for_the_disk_at_checkpoints_only(pair_w: Pair) -> None:
    pair_w.alice.records.clear()
    pair_w.bob.records.clear()
    for number in range(9):
        pair_w.round(b"%d" % number)
    assert [persist.sync for persist in pair_w.bob.records] == [seq % 4 == 3 for seq in range(9)]
    begins = [persist.sync for persist in pair_w.alice.records if persist.record.sending.messages]
    assert begins == [seq % 4 == 0 for seq in range(9)]


def test_behind_a_slow_disk_one_frame_of_a_kind_waits_at_most(pair: Pair) -> None:
    pair.bob.holds = True
    data = pair.send(b"hello")
    for _ in range(1000):
        assert pair.give(pair.bob, data) == []
    pair.bob.write()
    assert kinds(pair.frames(pair.bob)) == [Kind.DATA_ACK]


def test_a_record_is_the_json_that_any_writer_makes_of_it(pair: Pair) -> None:
    for number in range(5):
        pair.round(b"%d" % number)
    pair.send(b"under way", pair.alice)
    for end in (pair.alice, pair.bob):
        end.session.rekey(bytes(range(32)), 0.0)
        end.serve()
    for record in (persist.record for end in (pair.alice, pair.bob) for persist in end.records):
        text = record.to_json()
        assert json.dumps(json.loads(text), separators=(",", ":")) == text
        assert SessionRecord.from_json(text) == record


def test_old_keys_leave_the_record(pair: Pair) -> None:
    config = SessionConfig(checkpoint_rounds=2)
    pair = Pair(pair.alice.session.profile, config)
    old = {*pair.alice.session.record.sending.keys, *pair.bob.session.record.receiving.keys}
    for number in range(5):
        pair.round(b"%d" % number)
    for end in (pair.alice, pair.bob):
        text = end.records[-1].record.to_json()
        assert not [key for key in old if key.hex() in text]


# --- the end, and what may be seen of it ------------------------------------------------------------------------------


def test_a_closed_session_sends_nothing_and_its_record_stays_valid(pair: Pair) -> None:
    pair.round(b"hello")
    late = pair.send(b"late", pair.bob)
    pair.alice.session.close(0.0)
    assert pair.alice.session.get_timer() is None
    assert pair.give(pair.alice, late) == []
    assert not pair.alice.session.can_send
    with pytest.raises(LocalError):
        pair.alice.session.send(b"more", 0.0)
    pair.alice.restart()
    pair.settle()
    assert pair.alice.messages() == [b"late"]


def test_every_transition_is_traced_and_no_trace_or_repr_shows_a_secret(pair: Pair) -> None:
    pair.round(b"a secret message")
    pair.alice.restart()
    pair.settle()
    shown = " ".join(transition.to_json() for transition in pair.alice.trace + pair.bob.trace)
    shown += repr(pair.alice.events) + repr(pair.bob.events) + repr(pair.alice.session.record)
    assert {"SEND", "ACKNOWLEDGED", "ACCEPTED", "AGREED"} <= {
        transition.input for transition in pair.bob.trace + pair.alice.trace
    }
    records = [end.session.record for end in (pair.alice, pair.bob)]
    keys = {key for record in records for key in (*record.sending.keys, *record.continuity_keys)}
    for secret in (b"a secret message", *keys):
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown


def test_the_key_log_names_each_key_of_both_directions(pair: Pair) -> None:
    pair.round(b"hello")
    pair.round(b"back", back=True)
    labels = [line.split() for line in pair.alice.key_lines]
    assert [label for label, _, _ in labels] == ["BTSS_KI"] * 2
    assert [name for _, name, _ in labels] == ["00" + "00" * 7 + "01", "01" + "00" * 7 + "01"]
    assert labels[0][2] == pair.alice.session.record.sending.chain.key.hex()
    assert sorted(pair.alice.key_lines) == sorted(pair.bob.key_lines)


def test_rejections_are_told_and_counted(pair: Pair) -> None:
    pair.give(pair.bob, b"", b"\x00", b"\xff" * 6000, bytes(100))
    assert pair.bob.session.rejections[Rejection.MALFORMED] == 4
    assert len(pair.bob.told(FrameRejected)) == 4
