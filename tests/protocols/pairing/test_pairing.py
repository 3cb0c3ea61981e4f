"""Pairing: who has read what is shown is paired, at both ends or at none, and nobody else."""

from __future__ import annotations

import pytest
from pairing_ends import ALICE, BOB, MALLORY, SECRETS, WORDS, Channel, events, guess, initiator, read, responder

from bt_selfsecure.errors import LocalError, UnreadableError
from bt_selfsecure.protocols.pairing import limits
from bt_selfsecure.protocols.pairing.codes import Carried, Way, decode, words
from bt_selfsecure.protocols.pairing.end import PairingEnd, PairingState
from bt_selfsecure.protocols.pairing.events import Failure, Keyed, Paired, PairingFailed, Released, WrongGuess
from bt_selfsecure.protocols.pairing.frames import Frame, Kind, PairingPhase, Why, encode
from bt_selfsecure.protocols.pairing.frames import decode as decode_frame
from bt_selfsecure.sansio.events import Rejection

ways = pytest.mark.parametrize("way", Way)


def pair(way: Way) -> Channel:
    """The two, once they are keyed."""
    bob = responder(way)
    alice = initiator(read(bob))
    alice.start(0.0)
    channel = Channel(alice, bob)
    channel.step()
    return channel


def confirmed(channel: Channel) -> Channel:
    channel.one.confirm(channel.now)
    channel.other.confirm(channel.now)
    channel.run(2)
    return channel


@ways
def test_both_ends_are_paired_with_one_key_and_know_each_other(way: Way) -> None:
    channel = confirmed(pair(way))
    (alice,), (bob,) = (list(channel.events(end, Keyed)) for end in (channel.one, channel.other))
    assert isinstance(alice, Keyed)
    assert isinstance(bob, Keyed)
    assert (alice.peer, alice.name, bob.peer, bob.name) == (BOB.identity, "bob", ALICE.identity, "alice")
    assert alice.key == bob.key
    assert len(alice.key) == limits.KEY_BYTES
    assert alice.key.hex() not in repr(alice)
    assert [len(list(channel.events(end, Paired))) for end in (channel.one, channel.other)] == [1, 1]


@ways
def test_each_pairing_has_a_key_of_its_own(way: Way) -> None:
    keys = set()
    for name in ("once", "again"):
        bob = responder(way)
        alice = initiator(read(bob), name=name)
        alice.start(0.0)
        channel = Channel(alice, bob)
        channel.step()
        keys |= {event.key for event in channel.events(alice, Keyed) if isinstance(event, Keyed)}
    assert len(keys) == 2


@ways
def test_neither_is_paired_before_both_have_said_so(way: Way) -> None:
    for silent in (0, 1):
        channel = pair(way)
        (channel.one, channel.other)[silent].confirm(channel.now)
        channel.run(limits.PATIENCE_S - 10)
        assert not [*channel.events(channel.one, Paired), *channel.events(channel.other, Paired)]
        channel.run(20)
        assert channel.one.state is PairingState.OVER
        assert [event for event in channel.told[channel.other] if isinstance(event, Released)]
        assert channel.other.state is PairingState.WAITING


@ways
def test_who_gives_up_takes_the_other_end_along(way: Way) -> None:
    for quitter in (0, 1):
        channel = pair(way)
        ends = (channel.one, channel.other)
        ends[1 - quitter].confirm(channel.now)
        channel.step()
        ends[quitter].close(channel.now)
        channel.run(2)
        assert PairingFailed(Failure.CLOSED) in channel.told[ends[quitter]]
        gone = channel.told[ends[1 - quitter]]
        assert (Released() in gone) if quitter == 0 else (PairingFailed(Failure.WITHDRAWN) in gone)
        assert not [event for told in channel.told.values() for event in told if isinstance(event, Paired)]


def test_an_end_that_is_paired_is_undone_by_one_that_never_heard_of_it() -> None:
    """Bob's last words are all lost, so that Alice gives up; she says so, and he is not left half-paired."""
    channel = pair(Way.CODE)
    alice, bob = channel.one, channel.other
    channel.change = lambda data, to: data if to is bob else None
    alice.confirm(channel.now)
    bob.confirm(channel.now)
    channel.run(10)
    assert (alice.state, bob.state) == (PairingState.CONFIRMED, PairingState.PAIRED)
    alice.close(channel.now)
    channel.step()
    assert PairingFailed(Failure.WITHDRAWN) in channel.told[bob]


@ways
def test_a_lost_frame_of_any_kind_is_repeated_in_silence(way: Way) -> None:
    for lost in range(12):
        bob = responder(way)
        alice = initiator(read(bob))
        numbers = iter(range(1000))

        def drop(data: bytes, to: PairingEnd, lost: int = lost) -> bytes | None:
            return None if next(numbers) == lost else data  # noqa: B023

        alice.start(0.0)
        channel = Channel(alice, bob, drop)
        channel.run(5)
        confirmed(channel)
        assert alice.state is bob.state is PairingState.PAIRED
        assert not [event for event in channel.told[bob] if isinstance(event, WrongGuess)]


# --- words: one guess a run -------------------------------------------------------------------------------------------


def test_wrong_words_end_the_run_at_once_and_cost_one_guess() -> None:
    bob, alice = responder(Way.WORDS), guess("otter panda zebra", ALICE)
    alice.start(0.0)
    channel = Channel(alice, bob)
    channel.step()
    assert channel.told[alice] == [PairingFailed(Failure.WRONG)]
    assert channel.told[bob] == [WrongGuess(left=4)]
    alice = guess(WORDS, ALICE, "again")
    alice.start(1.0)
    channel = Channel(alice, bob)
    channel.step()
    assert list(channel.events(alice, Keyed))


def test_five_wrong_guesses_lock_the_words_for_good() -> None:
    bob = responder(Way.WORDS)
    left = []
    for number in range(5):
        alice = guess("otter panda zebra", name=str(number))
        alice.start(0.0)
        channel = Channel(alice, bob)
        channel.step()
        left += [event.left for event in channel.told[bob] if isinstance(event, WrongGuess)]
    assert left == [4, 3, 2, 1, 0]
    assert bob.state is PairingState.LOCKED
    alice = guess(WORDS, ALICE)
    alice.start(0.0)
    channel = Channel(alice, bob)
    channel.step()
    assert channel.told[alice] == [PairingFailed(Failure.LOCKED)]


def test_a_guesser_who_says_nothing_about_the_answer_is_counted_too() -> None:
    """Bob's tag tells her whether she was right."""
    bob = responder(Way.WORDS)
    for number in range(7):
        mallory = guess("otter panda zebra", name=str(number))
        mallory.start(0.0)
        for data in mallory.frames_to_send(0.0):
            bob.receive_frame(data, 0.0)
        answers = [decode_frame(data) for data in bob.frames_to_send(0.0)]
        expected = Kind.SHARE_B if number < 5 else Kind.REFUSED
        assert [answer.kind for answer in answers] == [expected]
    bob.handle_timer(limits.RUN_S)
    assert [event for event in events(bob) if isinstance(event, WrongGuess)][-1].left == 0
    assert bob.state is PairingState.LOCKED


def test_a_repeated_question_is_no_other_guess_and_a_changed_one_is_not_answered() -> None:
    bob, alice = responder(Way.WORDS), guess("otter panda zebra")
    alice.start(0.0)
    (question,) = alice.frames_to_send(0.0)
    for _ in range(20):
        bob.receive_frame(question, 0.0)
    assert len(set(bob.frames_to_send(0.0))) == 1
    bob.receive_frame(question[:-1] + b"x", 0.0)
    assert bob.frames_to_send(0.0) == []
    assert bob.rejections[Rejection.IMPLAUSIBLE] == 1
    alice = guess(WORDS, ALICE, "alice")
    alice.start(1.0)
    channel = Channel(alice, bob)
    channel.step()
    assert list(channel.events(alice, Keyed)), "four guesses are left"


def test_right_words_cost_no_guess_even_where_the_pairing_is_given_up() -> None:
    bob = responder(Way.WORDS)
    for number in range(8):
        alice = guess(WORDS, ALICE, str(number))
        alice.start(0.0)
        channel = Channel(alice, bob)
        channel.step()
        assert list(channel.events(bob, Keyed))
        alice.close(channel.now)
        channel.step()
        assert Released() in channel.told[bob]


def test_who_answers_in_the_place_of_the_other_end_has_one_guess() -> None:
    mallory, alice = responder(Way.WORDS, BOB, b"otter panda zebra"), guess(WORDS, ALICE)
    alice.start(0.0)
    channel = Channel(alice, mallory)
    channel.run(5)
    assert channel.told[alice] == [PairingFailed(Failure.WRONG)]
    assert not list(channel.events(mallory, Keyed))


def test_a_code_is_not_guessed_away() -> None:
    """Whoever asks without having read it is forgotten, as often as she likes."""
    bob = responder(Way.CODE)
    for number in range(50):
        mallory = initiator(Carried(Way.CODE, BOB.identity, bytes(16)), MALLORY, str(number))
        mallory.start(0.0)
        channel = Channel(mallory, bob)
        channel.step()
        assert not list(channel.events(mallory, Keyed))
    alice = initiator(read(bob))
    alice.start(1.0)
    channel = Channel(alice, bob)
    channel.step()
    assert list(channel.events(alice, Keyed))


# --- who is meant -----------------------------------------------------------------------------------------------------


def test_who_has_seen_the_code_can_not_answer_in_the_name_of_its_owner() -> None:
    """She has R, and is not bound to Bob's share; so what Alice reads is Bob's, and she waits on for him."""
    bob = responder(Way.CODE)
    carried = read(bob)
    mallory = responder(Way.CODE, BOB, carried.secret, "mallory")
    alice = initiator(carried)
    alice.start(0.0)
    channel = Channel(alice, mallory)
    channel.run(5)
    assert alice.state is PairingState.ASKING
    assert alice.rejections[Rejection.UNAUTHENTIC] > 0
    channel = Channel(alice, bob)
    channel.run(10)
    assert list(channel.events(alice, Keyed))


@pytest.mark.parametrize("way", [Way.CODE, Way.CALL])
def test_another_device_than_the_one_whose_it_is_is_not_followed(way: Way) -> None:
    mallory = responder(way, MALLORY)
    alice = initiator(Carried(way, BOB.identity, SECRETS[way], mallory.carried.commitment))
    alice.start(0.0)
    channel = Channel(alice, mallory)
    channel.run(limits.ANSWER_S + 1)
    assert channel.told[alice][-1] == PairingFailed(Failure.NO_ANSWER)
    assert not list(channel.events(alice, Keyed))


def test_who_overheard_a_call_stands_in_the_middle_unseen_by_the_pairing_alone() -> None:
    """Therefore people compare a string after it."""
    bob = responder(Way.CALL)
    to_alice = responder(Way.CALL, BOB, bob.carried.secret, "m1")
    alice, to_bob = initiator(read(bob)), initiator(read(bob), ALICE, "m2")
    channels = [Channel(alice, to_alice), Channel(to_bob, bob)]
    keys = []
    for channel in channels:
        channel.one.start(0.0)  # type: ignore[attr-defined]
        channel.step()
        keys += [event.key for event in channel.events(channel.one, Keyed) if isinstance(event, Keyed)]
    assert len(set(keys)) == 2
    assert Way.CALL.is_overheard
    assert not Way.WORDS.is_overheard
    assert not Way.CODE.is_overheard


@ways
def test_while_one_has_the_key_another_is_told_that_it_is_too_late(way: Way) -> None:
    channel = pair(way)
    late = initiator(read(responder(way)), MALLORY, "late")
    late.start(channel.now)
    other = Channel(late, channel.other)
    other.step()
    assert other.told[late] == [PairingFailed(Failure.BUSY)]
    assert not list(other.events(channel.other, Keyed))


def test_what_is_read_of_one_way_is_nothing_in_another() -> None:
    bob = responder(Way.CODE)
    alice = initiator(Carried(Way.CALL, BOB.identity, bob.carried.secret))
    alice.start(0.0)
    channel = Channel(alice, bob)
    channel.step()
    assert channel.told[alice] == [PairingFailed(Failure.WAY)]


def test_a_reflected_question_is_not_answered() -> None:
    bob = responder(Way.WORDS)
    mirror = initiator(words(BOB.identity, WORDS), BOB)
    mirror.start(0.0)
    channel = Channel(mirror, bob)
    channel.step()
    assert bob.frames_to_send(0.0) == []
    assert bob.rejections[Rejection.IMPLAUSIBLE] == 1


@ways
def test_every_refusal_of_the_other_end_has_its_reason(way: Way) -> None:
    for why in Why:
        alice = initiator(read(responder(way)))
        alice.start(0.0)
        (question,) = alice.frames_to_send(0.0)
        alice.receive_frame(encode(Frame(Kind.REFUSED, bytes(8), why)), 0.0)
        assert alice.state is PairingState.ASKING, "it is of another run"
        alice.receive_frame(encode(Frame(Kind.REFUSED, question[1:9], why)), 0.0)
        (failed,) = [event for event in events(alice) if isinstance(event, PairingFailed)]
        assert failed.reason.name == why.name


@ways
def test_a_forged_word_changes_nothing(way: Way) -> None:
    channel = pair(way)
    number = channel.said[0][1:9]
    for end in (channel.one, channel.other):
        for phase in PairingPhase:
            end.receive_frame(encode(Frame(Kind.PROGRESS, number, phase, tag=bytes(16))), channel.now)
        assert end.rejections[Rejection.UNAUTHENTIC] == len(PairingPhase)
        assert end.state is PairingState.KEYED
    theirs = [data for data in channel.said if data[0] & 15 == Kind.PROGRESS]
    channel.other.receive_frame(theirs[0], channel.now)
    assert channel.other.rejections[Rejection.UNAUTHENTIC] == len(PairingPhase) + 1, "its own word, reflected"


@ways
def test_every_flipped_bit_of_every_frame_is_refused(way: Way) -> None:
    """Or not noticed and harmless, as of a share's highest bit, which is then bound by the tag: no other key comes."""
    whole = confirmed(pair(way)).said
    for number, data in enumerate(whole[:4]):
        for bit in range(8 * len(data)):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            bob = responder(way)
            alice = initiator(read(bob))
            sent = iter(range(1000))

            def flip(data: bytes, to: PairingEnd, number: int = number, flipped: bytes = bytes(flipped)) -> bytes:
                return flipped if next(sent) == number else data  # noqa: B023

            alice.start(0.0)
            channel = Channel(alice, bob, flip)
            channel.step()
            keys = {event.key for told in channel.told.values() for event in told if isinstance(event, Keyed)}
            assert len(keys) <= 1


# --- use against the contract, and what is read -----------------------------------------------------------------------


def test_what_the_driver_must_not_do_is_named() -> None:
    alice = initiator(read(responder(Way.CODE)))
    with pytest.raises(LocalError, match="CONFIRM is impossible in NEW"):
        alice.confirm(0.0)
    alice.start(0.0)
    with pytest.raises(LocalError, match="START is impossible"):
        alice.start(0.0)
    alice.close(0.0)
    alice.close(0.0)
    assert events(alice) == [PairingFailed(Failure.CLOSED)]


@pytest.mark.parametrize(("way", "size"), [(Way.CODE, 39), (Way.CALL, 16)])
def test_a_code_has_39_bytes_a_call_16_and_no_other_length_is_one(way: Way, size: int) -> None:
    whole = responder(way).carried.encode()
    assert len(whole) == size
    for length in [*range(size), size + 1]:
        with pytest.raises(UnreadableError, match="read it again"):
            decode(way, (whole + b"x")[:length])


def test_a_code_of_another_version_is_told_from_a_damaged_one() -> None:
    whole = responder(Way.CODE).carried.encode()
    with pytest.raises(UnreadableError, match="another version"):
        decode(Way.CODE, b"\2" + whole[1:])


def test_a_secret_is_in_no_repr() -> None:
    carried = responder(Way.WORDS).carried
    assert "otter" not in repr(carried)
