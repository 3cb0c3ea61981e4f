"""D-OTP: keys, window, exhaustion, epochs, and the readings of the paper that fail."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import pytest
from dotp_pair import SECRET, SN, End, pair, record
from fuzzing import mutated
from hypothesis import given
from hypothesis import strategies as st

from bt_selfsecure.errors import LocalError
from bt_selfsecure.protocols.dotp.endpoint import HARDENED_WINDOW, MOST_SKIPPED, Dotp, DotpConfig
from bt_selfsecure.protocols.dotp.keys import (
    EPOCH_BITS,
    MOST_NUMBERS,
    ExhaustedError,
    HardenedKeys,
    PaperKeys,
    Policy,
    Profile,
    Role,
    direction_sn,
    paper_key,
    psk,
)
from bt_selfsecure.protocols.dotp.mt19937 import Mt19937
from bt_selfsecure.protocols.dotp.record import DotpRecord, RecordError
from bt_selfsecure.protocols.dotp.window import Window
from bt_selfsecure.sansio.events import Rejection

NO_SERIAL, ONE_KEY = DotpConfig(serial=False), DotpConfig(serial=False, two_keys=False)
NR = Policy.PER_IO_NRPRNG
TEXT = b"40011234b474696d65"


def rns(policy: Policy, count: int, bits: int = 64) -> list[int]:
    keys = PaperKeys(SN, policy, bits)
    return [int.from_bytes(keys.key(number)) & (1 << bits - 32) - 1 for number in range(count)]


def test_the_papers_arithmetic_holds() -> None:
    """[1] to [5]: SN 1234 and RN 1930134286 are key 5301919777550, which libcoap's -k takes in these digits."""
    key = paper_key(1234, 1930134286, 64)
    assert key == 5301919777550
    assert psk(Profile.PAPER, key.to_bytes(8)) == b"5301919777550"
    assert psk(Profile.HARDENED, SECRET) == SECRET.hex().encode()


def test_the_generator_is_mt19937() -> None:
    """The 10 000th number of std::mt19937 is in the C++ standard; another seed against Python's own."""
    generator = Mt19937(5489)
    assert [generator.word() for _ in range(10_000)][-1] == 4123659995
    state = [SN]
    for i in range(1, 624):
        state.append((1812433253 * (state[-1] ^ state[-1] >> 30) + i) % 2**32)
    theirs = random.Random()
    theirs.setstate((3, (*state, 624), None))
    ours = Mt19937(SN)
    assert [ours.word() for _ in range(2000)] == [theirs.getrandbits(32) for _ in range(2000)]


def test_each_policy_changes_the_key_when_and_as_the_paper_says() -> None:
    drawn = rns(Policy.PER_IO_PRNG, 15)
    assert rns(Policy.PER_SESSION, 15) == [drawn[0]] * 5 + [drawn[1]] * 5 + [drawn[2]] * 5
    assert rns(Policy.PER_IO_INC1, 10) == [(drawn[number // 5] + number % 5) % 2**32 for number in range(10)]
    assert rns(NR, 15) == drawn
    few = rns(Policy.PER_IO_PRNG, 2000, 40)
    assert rns(NR, 256, 40) == list(dict.fromkeys(few))


def test_only_the_last_policy_never_repeats_a_key() -> None:
    for policy in Policy:
        assert (len(set(rns(policy, 256, 40))) == 256) == (policy is NR)


def test_tx_of_the_one_is_rx_of_the_other_under_the_ones_complement() -> None:
    client, server = record(Role.CLIENT, NR), record(Role.SERVER, NR)
    assert client.sending == server.receiving
    assert client.receiving == server.sending
    assert [int.from_bytes(each.secret) for each in (client.sending, client.receiving)] == [SN, SN ^ 0xFFFFFFFF]
    assert direction_sn(SN, Role.SERVER) == 4294966061


@given(numbers=st.lists(st.integers(0, 3 << EPOCH_BITS), unique=True, max_size=200))
def test_hardened_keys_come_in_any_order_and_none_twice(numbers: list[int]) -> None:
    keys, again = HardenedKeys(SECRET), HardenedKeys(SECRET)
    made = [keys.key(number) for number in numbers]
    assert len(set(made)) == len(made)
    assert sorted(made) == sorted(again.key(number) for number in sorted(numbers))


def test_a_whole_epoch_of_hardened_keys_and_the_next_have_no_key_twice() -> None:
    keys = HardenedKeys(SECRET)
    assert len({keys.key(number) for number in range(2 << EPOCH_BITS)}) == 2 << EPOCH_BITS


def test_the_keys_of_an_epoch_that_is_over_can_not_be_computed_again() -> None:
    keys = HardenedKeys(SECRET)
    late = keys.key((1 << EPOCH_BITS) + 5)
    keys.forget_before((1 << EPOCH_BITS) + 3)
    assert keys.key((1 << EPOCH_BITS) + 5) == late
    with pytest.raises(LocalError, match="forgotten"):
        keys.key(17)
    assert SECRET not in keys.state


@given(came=st.lists(st.tuples(st.integers(0, 120), st.integers(1, 4)), max_size=60))
def test_the_window_is_what_a_set_would_be(came: list[tuple[int, int]]) -> None:
    window, seen, following = Window(16, 40), set[int](), 0
    for number, count in came:
        numbers = set(range(number, number + count))
        assert window.is_too_far(number, count) == (number + count > following + 40)
        old = number < max(0, following - 16) or bool(numbers & seen)
        assert window.is_old(number, count) == old
        if not old and not window.is_too_far(number, count):
            window.mark(number, count)
            seen |= numbers
            following = max(following, number + count)
            assert window.following == following


@pytest.mark.parametrize(("policy", "bits"), [(None, 256), *((each, bits) for each in Policy for bits in (64, 96))])
def test_messages_come_both_ways_in_any_order_and_each_once(policy: Policy | None, bits: int) -> None:
    client, server = pair(policy, bits)
    texts = [TEXT * (1 + number % 9) for number in range(40)]
    there, back = [client.send(text) for text in texts], [server.send(text) for text in texts]
    for datagrams, end in ((there, server), (back, client)):
        mixed = list(zip(datagrams, texts, strict=True))
        random.Random(1).shuffle(mixed)
        assert all(end.take(datagram) == [text] for datagram, text in mixed)
        assert all(end.take(datagram) == [] for datagram in datagrams)
        assert set(end.rejected) == {Rejection.REPLAY}


def test_a_record_is_four_octets_and_a_tag_more_than_its_message() -> None:
    assert len(pair()[0].send(TEXT)) == len(TEXT) + 20
    assert len(pair(NR)[0].send(TEXT)) == len(TEXT) + 4


def test_an_old_number_is_refused_and_one_too_far_ahead_too() -> None:
    client, server = pair()
    first = client.send(TEXT)
    for _ in range(HARDENED_WINDOW):
        latest = client.send(TEXT)
    assert server.take(latest) == [TEXT]
    assert server.take(first) == []
    far = MOST_SKIPPED[Profile.HARDENED] + 2 * HARDENED_WINDOW
    assert server.take(far.to_bytes(4) + latest[4:]) == []
    assert server.rejected == [Rejection.REPLAY, Rejection.NOT_FOR_US]


def test_the_numbers_of_an_epoch_cross_into_the_next() -> None:
    edge = (1 << EPOCH_BITS) - 8
    client, server = pair()
    for end, at in ((client, "sending"), (server, "receiving")):
        start = DotpRecord.from_json(end.disk)
        end.disk = replace(start, **{at: replace(getattr(start, at), number=edge)}).to_json()  # type: ignore[arg-type]
        end.restart()
    datagrams = [client.send(TEXT) for _ in range(100)]
    late = datagrams.pop(20)
    assert all(server.take(datagram) == [TEXT] for datagram in [*datagrams[:50], late, *datagrams[50:]])
    for end, at in ((client, "sending"), (server, "receiving")):
        assert getattr(DotpRecord.from_json(end.disk), at).epoch == 1


def test_exhaustion_suspends_and_is_told_once() -> None:
    client, server = pair(NR, 40)
    datagrams = [client.send(b"five!") for _ in range(256)]
    assert len({datagram[4:] for datagram in datagrams}) == 256
    assert all(server.take(datagram) == [b"five!"] for datagram in datagrams)
    for _ in range(2):
        with pytest.raises(ExhaustedError, match="give both ends a new SN"):
            client.send(b"five!")
    client.write()
    assert client.suspensions == 1
    client.restart()
    with pytest.raises(ExhaustedError):
        client.send(b"five!")
    assert server.take((256).to_bytes(4) + b"forge") == []


def test_exhaustion_suspends_hardened_after_two_to_the_32() -> None:
    client, _ = pair()
    start = DotpRecord.from_json(client.disk)
    client.disk = replace(start, sending=replace(start.sending, epoch=65535, number=MOST_NUMBERS - 1)).to_json()
    client.restart()
    client.send(TEXT)
    with pytest.raises(ExhaustedError):
        client.send(TEXT)


def test_without_a_serial_number_one_loss_makes_nonsense_of_the_rest() -> None:
    """Fig. 10a, and 10b beside it."""
    for config, right in ((NO_SERIAL, False), (None, True)):
        client, server = pair(NR, config=config)
        datagrams = [client.send(TEXT[:8]) for _ in range(4)]
        assert server.take(datagrams[0]) == [TEXT[:8]]
        assert [server.take(datagram) == [TEXT[:8]] for datagram in datagrams[2:]] == [right, right]


def test_with_one_key_for_both_directions_a_crossing_makes_nonsense() -> None:
    """Fig. 11a, and 11b beside it."""
    for config, right in ((ONE_KEY, False), (NO_SERIAL, True)):
        client, server = pair(NR, config=config)
        assert server.take(client.send(TEXT[:8])) == [TEXT[:8]]
        there, back = client.send(TEXT[:8]), server.send(b"response")
        assert (server.take(there) == [TEXT[:8]]) == right
        assert (client.take(back) == [b"response"]) == right


def test_with_one_key_for_both_directions_a_crossing_uses_a_pad_twice() -> None:
    client, server = pair(NR, config=ONE_KEY)
    there, back = client.send(TEXT[:8]), server.send(b"response")
    assert bytes(a ^ b for a, b in zip(there, back, strict=True)) == bytes(
        a ^ b for a, b in zip(TEXT[:8], b"response", strict=True)
    )


def test_paper_takes_a_changed_message_for_genuine_and_hardened_does_not() -> None:
    for policy, taken in ((NR, [b"open"]), (None, [])):
        client, server = pair(policy)
        datagram = bytearray(client.send(b"shut"))
        for place, (old, new) in enumerate(zip(b"shut", b"open", strict=True), 4):
            datagram[place] ^= old ^ new
        assert server.take(bytes(datagram)) == taken


def test_two_forged_datagrams_make_paper_deaf_and_hardened_not() -> None:
    for policy, deaf in ((NR, True), (None, False)):
        client, server = pair(policy)
        for number in (1000, 2000):
            server.take(number.to_bytes(4) + bytes(30))
        assert (server.take(client.send(TEXT)) == []) == deaf


@pytest.mark.parametrize("policy", [None, NR])
@pytest.mark.parametrize("runs", [3000, pytest.param(1_000_000, marks=[pytest.mark.long, pytest.mark.timeout(3600)])])
def test_mutated_datagrams_raise_nothing_and_hardened_takes_none(policy: Policy | None, runs: int) -> None:
    """Of paper a new pair each 1500: its list of used numbers is searched from the beginning, as the paper has it."""
    dice = random.Random(runs)
    for number in range(runs):
        if number % 1500 == 0 and (policy or number == 0):
            client, server = pair(policy)
        genuine = client.send(TEXT)
        if (changed := mutated(genuine, dice)) != genuine:
            came = server.take(changed)
            assert policy is not None or came == []


def test_a_crash_skips_what_was_reserved_and_the_peer_follows() -> None:
    for policy in (None, NR):
        client, server = pair(policy)
        numbers = []
        for _ in range(3):
            datagram = client.send(TEXT[:8])
            numbers.append(int.from_bytes(datagram[:4]))
            assert server.take(datagram) == [TEXT[:8]]
            client.restart()
            server.restart()
            assert server.take(datagram) == []
        assert len(set(numbers)) == 3


def test_nothing_leaves_before_its_number_is_written_as_used() -> None:
    dotp = Dotp(record(Role.CLIENT))
    dotp.send(TEXT, 0.0)
    assert dotp.frames_to_send(0.0) == []
    dotp.persisted(1)
    assert len(dotp.frames_to_send(0.0)) == 1
    assert dotp.get_timer() is None


def test_what_a_driver_can_not_mean_is_refused() -> None:
    with pytest.raises(LocalError, match="1 to 1152 bytes"):
        End(record(Role.CLIENT)).send(b"")
    with pytest.raises(LocalError, match="readings are the paper's"):
        Dotp(record(Role.CLIENT), NO_SERIAL)
    with pytest.raises(LocalError, match="32 bytes"):
        HardenedKeys(b"short")
    with pytest.raises(LocalError, match="32 bits"):
        DotpRecord.paper(Role.CLIENT, 1 << 32, NR)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"bits": 65},
        {"role": "x"},
        {"sending": {}},
        {"receiving": None},
        {"profile": "paper"},
        {"policy": 1},
    ],
    ids=str,
)
def test_a_damaged_record_is_refused_without_showing_it(change: dict[str, Any]) -> None:
    data = json.loads(record(Role.CLIENT).to_json()) | change
    with pytest.raises(RecordError) as raised:
        DotpRecord.from_json(json.dumps(data))
    assert record(Role.CLIENT).sending.secret.hex() not in str(raised.value)


def test_a_record_shows_no_secret_unless_it_is_written() -> None:
    whole = record(Role.CLIENT)
    assert DotpRecord.from_json(whole.to_json()) == whole
    assert whole.sending.secret.hex() not in repr(whole)
    assert repr(whole.sending.secret) not in repr(whole)
