"""Stories of the session: what gets lost, what comes late, what is replayed, who crashes, and what the two ends do."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

import pytest
from session_world import flipped

from bt_selfsecure.core import limits
from bt_selfsecure.core.events import (
    Event,
    FrameRejected,
    MessageDelivered,
    MessageReceived,
    Persist,
    ReestablishNeeded,
    Rejection,
    Resynchronised,
    Unreachable,
)
from bt_selfsecure.core.frames import Frame, Kind, Profile, decode, encode
from bt_selfsecure.core.recovery import Durability, Role, SessionConfig, SessionRecord
from bt_selfsecure.core.sending import SenderState
from bt_selfsecure.core.session import Session
from bt_selfsecure.core.trace import Transition
from bt_selfsecure.errors import LocalError, UsageError

EVERY_W = SessionConfig(Durability.EVERY_W, checkpoint_rounds=4)
Told = TypeVar("Told", bound=Event)


class Counter:
    """`random(n)`, the same in each run."""

    def __init__(self, name: str) -> None:
        self.name, self.count = name, 0

    def __call__(self, size: int) -> bytes:
        self.count += 1
        return hashlib.shake_128(f"{self.name} {self.count}".encode()).digest(size)


class End:
    """A session and its driver, whose disk writes at once unless `holds` is set."""

    def __init__(self, profile: Profile, role: Role, config: SessionConfig) -> None:
        self.config, self.random = config, Counter(role.value)
        self.trace: list[Transition] = []
        self.key_lines: list[str] = []
        self.session = Session.start(
            profile, role, bytes(32), config, self.random, tracer=self.trace.append, key_log=self.key_lines.append
        )
        self.events: list[Event] = []
        self.records: list[Persist] = []
        self.holds = False
        self.serve()

    def serve(self) -> None:
        while (event := self.session.next_event()) is not None:
            self.events.append(event)
            if isinstance(event, Persist):
                self.records.append(event)
                if not self.holds:
                    self.session.persisted(event.token)

    def write(self) -> None:
        """The disk has caught up."""
        self.session.persisted(self.records[-1].token)

    def told(self, kind: type[Told]) -> list[Told]:
        """All events of one kind, so far."""
        return [event for event in self.events if isinstance(event, kind)]

    def messages(self) -> list[bytes]:
        return [event.message for event in self.told(MessageReceived)]

    def restart(self, record: SessionRecord | None = None, now: float = 0.0) -> None:
        """The process dies, and starts again from its newest record or an older one."""
        record = self.records[-1].record if record is None else record
        self.session = Session.restore(SessionRecord.from_json(record.to_json()), self.config, self.random, now)
        self.serve()


class Pair:
    """Alice and Bob, and a medium that carries exactly what a story says."""

    def __init__(self, profile: Profile, config: SessionConfig) -> None:
        self.alice, self.bob = (End(profile, role, config) for role in Role)
        self.now = 0.0

    def send(self, message: bytes, end: End | None = None) -> bytes:
        """Begin a round, by default Alice's; its first frame."""
        end = end or self.alice
        end.session.send(message, self.now)
        return self.frame(end)

    def frames(self, end: End) -> list[bytes]:
        end.serve()
        return end.session.frames_to_send(self.now)

    def frame(self, end: End) -> bytes:
        """The one frame that an end has to send."""
        (data,) = self.frames(end)
        return data

    def give(self, end: End, *frames: bytes) -> list[bytes]:
        """Let frames arrive; what the end sends then."""
        for data in frames:
            end.session.receive_frame(data, self.now)
        return self.frames(end)

    def wait(self, end: End) -> list[bytes]:
        """Let the end's timer run out; what it sends then."""
        timer = end.session.get_timer()
        assert timer is not None
        self.now = timer
        end.session.handle_timer(self.now)
        return self.frames(end)

    def round(self, message: bytes, *, back: bool = False) -> None:
        """A whole round without any loss."""
        sender, receiver = (self.bob, self.alice) if back else (self.alice, self.bob)
        assert self.give(sender, *self.give(receiver, self.send(message, sender))) == []

    def settle(self) -> None:
        """Whatever either has to send arrives, until both are silent; timers stand still."""
        moved = True
        while moved:
            moved = False
            for sender, receiver in ((self.alice, self.bob), (self.bob, self.alice)):
                for data in self.frames(sender):
                    moved = True
                    receiver.session.receive_frame(data, self.now)

    def heal(self) -> None:
        """As `settle`, and timers run."""
        for _ in range(50):
            self.settle()
            for end in (self.alice, self.bob):
                if end.session.get_timer() is not None:
                    for data in self.wait(end):
                        (self.bob if end is self.alice else self.alice).session.receive_frame(data, self.now)

    def agree(self) -> bool:
        """Both ends hold the same chains, and neither has anything to do."""
        alice, bob = self.alice.session, self.bob.session
        return (
            alice.record.sending.chain == bob.record.receiving.chain
            and bob.record.sending.chain == alice.record.receiving.chain
            and alice.get_timer() is bob.get_timer() is None
            and alice.can_send
            and bob.can_send
        )


def kinds(frames: list[bytes]) -> list[Kind]:
    return [decode(data).kind for data in frames]


@pytest.fixture(params=Profile, ids=lambda profile: profile.label)
def profile(request: pytest.FixtureRequest) -> Profile:
    return request.param


@pytest.fixture
def pair(profile: Profile) -> Iterator[Pair]:
    pair = Pair(profile, SessionConfig())
    yield pair
    assert not pair.alice.told(ReestablishNeeded)


@pytest.fixture
def pair_w(profile: Profile) -> Pair:
    return Pair(profile, EVERY_W)


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
    assert pair.alice.told(MessageDelivered) == [MessageDelivered(0)]
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
    [{"omega": 0}, {"omega": 16}, {"checkpoint_rounds": 0}, {"timeout": 0.0}, {"timeout": 9.0, "max_timeout": 1.0}],
)
def test_a_configuration_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="must be"):
        SessionConfig(**wrong)  # type: ignore[arg-type]


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


def test_what_a_record_counts_is_told_before_it(pair: Pair) -> None:
    pair.bob.events.clear()
    (acknowledgement,) = pair.give(pair.bob, pair.send(b"hello"))
    assert [type(event) for event in pair.bob.events] == [MessageReceived, Persist]
    pair.alice.events.clear()
    pair.give(pair.alice, acknowledgement)
    assert [type(event) for event in pair.alice.events] == [MessageDelivered, Persist]


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


def test_old_keys_leave_the_record(pair: Pair) -> None:
    config = SessionConfig(checkpoint_rounds=2)
    pair = Pair(pair.alice.session.profile, config)
    old = {*pair.alice.session.record.sending.keys, *pair.bob.session.record.receiving.keys}
    for number in range(5):
        pair.round(b"%d" % number)
    for end in (pair.alice, pair.bob):
        text = end.records[-1].record.to_json()
        assert not [key for key in old if key.hex() in text]


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
    assert pair.alice.told(MessageDelivered) == [MessageDelivered(0)]
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
    pair = Pair(profile, SessionConfig(checkpoint_rounds=2))
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
def test_an_old_backup_at_one_end_heals(profile: Profile, restored: int, age: int) -> None:
    pair = Pair(profile, SessionConfig(checkpoint_rounds=4))
    end, backups = (pair.alice, pair.bob)[restored], []
    for number in range(5):
        backups.append(end.session.record)
        pair.round(b"%d" % number)
    end.restart(backups[-1 - age])
    pair.settle()
    assert pair.agree()
    pair.round(b"after")
    assert pair.bob.messages() == [b"0", b"1", b"2", b"3", b"4", b"after"]


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


# --- the end, and what may be seen of it ------------------------------------------------------------------------------


def test_a_closed_session_sends_nothing_and_its_record_stays_valid(pair: Pair) -> None:
    pair.round(b"hello")
    late = pair.send(b"late", pair.bob)
    pair.alice.session.close()
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
    keys = {key for end in (pair.alice, pair.bob) for key in end.session.record.sending.keys}
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
