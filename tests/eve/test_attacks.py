"""A stolen K_i lives while its thief hears every accepted packet, 1/e rounds on average, and not a round longer."""

from __future__ import annotations

from random import Random

import pytest

from bt_selfsecure.eve.haoxiao.attacks import BlacklistSteering, StolenKey
from bt_selfsecure.protocols.haoxiao.frames import Frame, Kind, Profile, decode, encode
from bt_selfsecure.protocols.haoxiao.keychain import Chain
from bt_selfsecure.protocols.haoxiao.suites import SUITES


def chain(profile: Profile, seed: int = 0) -> Chain:
    return Chain.start(SUITES[profile], Random(seed).randbytes(32), b"label", 64)


@pytest.mark.parametrize("profile", Profile)
def test_a_thief_who_hears_everything_reads_everything(profile: Profile) -> None:
    random, session = Random(1), chain(profile)
    thief = StolenKey(session)
    for number in range(20):
        message = b"message %d" % number
        frame, attempt = session.seal(message, 0, random.randbytes)
        assert thief.hear(frame)
        session = session.rolled(attempt, message)
        assert thief.may_hold(session.key)
    assert thief.read == {number: b"message %d" % number for number in range(20)}


@pytest.mark.parametrize("profile", Profile)
def test_one_missed_accepted_attempt_locks_the_thief_out_for_ever(profile: Profile) -> None:
    random, session = Random(2), chain(profile)
    thief = StolenKey(session)
    for number in range(10):
        frame, attempt = session.seal(b"m", 0, random.randbytes)
        if number != 4:
            assert thief.hear(frame) is (number < 4)
        session = session.rolled(attempt, b"m")
        assert thief.may_hold(session.key) is (number < 4)
    assert set(thief.read) == {0, 1, 2, 3}


@pytest.mark.parametrize("profile", Profile)
def test_hearing_another_attempt_than_the_accepted_one_gives_the_message_but_not_the_next_key(profile: Profile) -> None:
    random, session = Random(3), chain(profile)
    thief = StolenKey(session)
    _, accepted = session.seal(b"m", 0, random.randbytes)
    retransmission, _ = session.seal(b"m", 1, random.randbytes)
    assert thief.hear(retransmission)
    assert thief.read == {0: b"m"}
    assert not thief.may_hold(session.rolled(accepted, b"m").key)


@pytest.mark.parametrize("profile", Profile)
def test_a_thief_who_heard_both_attempts_follows_whichever_was_accepted(profile: Profile) -> None:
    random = Random(4)
    for pick in (0, 1):
        session = chain(profile)
        thief = StolenKey(session)
        attempts = [session.seal(b"m", retran, random.randbytes) for retran in (0, 1)]
        assert all(thief.hear(frame) for frame, _ in attempts)
        session = session.rolled(attempts[pick][1], b"m")
        frame, _ = session.seal(b"next", 0, random.randbytes)
        assert thief.hear(frame)
        assert thief.read[1] == b"next"


@pytest.mark.parametrize("loss", [pytest.param(0.05, marks=pytest.mark.long), 0.2, 0.5])
def test_rounds_to_heal_are_one_over_the_thiefs_loss(loss: float) -> None:
    """A geometric number of rounds: mean 1/e, standard deviation sqrt(1-e)/e; 400 thefts, four standard errors."""
    random, thefts, total = Random(5), 400, 0
    for _ in range(thefts):
        session = chain(Profile.HARDENED, random.getrandbits(32))
        thief, rounds = StolenKey(session), 0
        while thief.may_hold(session.key):
            frame, attempt = session.seal(b"", 0, random.randbytes)
            if random.random() >= loss:
                thief.hear(frame)
            session = session.rolled(attempt, b"")
            rounds += 1
        total += rounds
    error = (1 - loss) ** 0.5 / loss / thefts**0.5
    assert abs(total / thefts - 1 / loss) < 4 * error


def test_frames_that_are_not_data_and_garbage_leave_the_thief_as_he_was() -> None:
    session = chain(Profile.HARDENED)
    thief = StolenKey(session)
    assert not thief.hear(Frame(Profile.HARDENED, Kind.DATA_ACK, 0, 1, b"", bytes(16)))
    assert not thief.hear(Frame(Profile.HARDENED, Kind.DATA, 0, 0, b"", bytes(40), bytes(16)))
    assert thief.seq == 0
    assert thief.read == {}


def test_steering_forges_exactly_the_packets_that_were_not_heard() -> None:
    steering = BlacklistSteering(Random(6).randbytes, copies=3)
    burst = [encode(Frame(Profile.PAPER, Kind.RAND, 0, seq, bytes(8), bytes([seq]) * 32)) for seq in range(6)]
    assert steering.hear(burst[0]) == []
    forged = [decode(data) for data in steering.hear(burst[3])]
    assert [frame.seq for frame in forged] == [1, 1, 1, 2, 2, 2]
    assert all(frame.rand == bytes(8) and frame.profile is Profile.PAPER for frame in forged)
    assert len({frame.message for frame in forged}) == 6
    assert steering.hear(burst[2]) == []
    assert steering.hear(b"garbage") == []
    assert steering.hear(burst[4]) == []


def test_each_burst_is_steered_by_itself_and_the_last_packet_of_one_that_is_over_begins_none() -> None:
    steering = BlacklistSteering(Random(7).randbytes, copies=1)

    def heard(session: int, seq: int) -> list[int]:
        burst = Frame(Profile.HARDENED, Kind.RAND, 0, seq, bytes([session]) * 8, bytes(32))
        return [decode(forged).seq for forged in steering.hear(encode(burst))]

    assert heard(1, 1199) == []
    assert heard(2, 2) == [0, 1]
    assert heard(1, 1199) == []
    assert heard(2, 4) == [3]
    assert heard(3, 1) == [0]
