"""The record of a session: it survives the disk as it is, a damaged one is told, and version 1 is read for ever."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from session_pair import EVERY_W, Pair

from bt_selfsecure.protocols.haoxiao import limits
from bt_selfsecure.protocols.haoxiao.frames import Profile
from bt_selfsecure.protocols.haoxiao.keychain import Chain
from bt_selfsecure.protocols.haoxiao.record import ReceivingState, RecordError, Role, SendingState, SessionRecord
from bt_selfsecure.protocols.haoxiao.session_config import SessionConfig
from bt_selfsecure.protocols.haoxiao.suites import SUITES

FIXTURES = Path(__file__).parent / "fixtures"
KEYS = st.binary(min_size=32, max_size=32)
SEQS = st.integers(0, limits.MAX_ROUNDS)


def pair_of_the_fixture(profile: Profile) -> Pair:
    """How the fixtures were made. Alice's eighth message was accepted, the acknowledgement lost; Bob's second did not
    arrive. She was given a new K_0 that he does not have."""
    pair = Pair(profile, SessionConfig(checkpoint_rounds=4))
    for number in range(6):
        pair.round(b"message %d" % number)
    pair.round(b"answer 0", back=True)
    pair.alice.session.rekey(b"a new K_0 that only Alice has   ", pair.now)
    pair.heal()
    pair.round(b"message 6")
    pair.give(pair.bob, pair.send(b"message 7"))
    pair.send(b"answer 1", pair.bob)
    return pair


def fixture(profile: Profile) -> dict[str, Any]:
    return json.loads((FIXTURES / f"session-record-v1-{profile.label}.json").read_text(encoding="utf-8"))


def in_version_2(record: dict[str, Any]) -> dict[str, Any]:
    """A record of version 1 as it is written today: what a K_0 leaves behind beside the chains is not known of it."""
    receiving = record["receiving"]
    begun_with = receiving["checkpoints"][0] if receiving["alpha"] == 0 else ""
    new = {"version": 2, "receiving": receiving | {"begun_with": begun_with, "skipped": 0}, "continuity": ["", ""]}
    return record | new


@pytest.mark.parametrize("profile", Profile, ids=lambda profile: profile.label)
def test_a_record_of_version_1_is_read_for_ever(profile: Profile) -> None:
    stored = fixture(profile)
    alice, bob = (SessionRecord.from_json(json.dumps(stored[role.value])) for role in Role)
    assert (alice.profile, alice.role, bob.profile, bob.role) == (profile, Role.INITIATOR, profile, Role.RESPONDER)
    assert (alice.sending.chain.seq, alice.sending.messages) == (7, (b"message 7",))
    assert (bob.receiving.chain.seq, bob.receiving.previous) == (8, alice.sending.chain.key)
    assert (bob.sending.chain.seq, bob.sending.messages) == (1, (b"answer 1",))
    assert alice.receiving.chain == bob.sending.chain
    assert alice.sending.chain.checkpoints == bob.receiving.chain.checkpoints
    assert alice.sending.offer
    assert not bob.receiving.offer
    for role, record in ((Role.INITIATOR, alice), (Role.RESPONDER, bob)):
        assert json.loads(record.to_json()) == in_version_2(stored[role.value])


@pytest.mark.parametrize("profile", Profile, ids=lambda profile: profile.label)
def test_a_pair_restored_from_version_1_goes_on(profile: Profile) -> None:
    stored = fixture(profile)
    pair = Pair(profile, SessionConfig(checkpoint_rounds=4))
    for role, end in ((Role.INITIATOR, pair.alice), (Role.RESPONDER, pair.bob)):
        end.restart(SessionRecord.from_json(json.dumps(stored[role.value])))
    pair.heal()
    pair.round(b"message 8")
    pair.round(b"answer 2", back=True)
    assert pair.bob.messages() == [b"message 8"]
    assert pair.alice.messages() == [b"answer 1", b"answer 2"]
    assert pair.agree()


# --- round trip -------------------------------------------------------------------------------------------------------


@st.composite
def chains(draw: st.DrawFn, profile: Profile) -> Chain:
    rounds = draw(st.integers(1, 1000))
    checkpoints = tuple(draw(st.lists(KEYS, min_size=1, max_size=2)))
    return Chain(SUITES[profile], draw(KEYS), draw(SEQS), rounds, draw(st.integers(0, rounds - 1)), checkpoints)


@st.composite
def records(draw: st.DrawFn) -> SessionRecord:
    profile = draw(st.sampled_from(Profile))
    key_or_none = st.one_of(st.just(b""), KEYS)
    messages = draw(st.lists(st.binary(max_size=50), max_size=3))
    sending = SendingState(draw(chains(profile)), tuple(messages), draw(key_or_none))
    chain, keys = draw(chains(profile)), [draw(key_or_none) for _ in range(3)]
    receiving = ReceivingState(chain, keys[0], draw(SEQS), *keys[1:], draw(st.integers(0, chain.seq)))
    continuity = draw(key_or_none), draw(key_or_none)
    return SessionRecord(profile, draw(st.sampled_from(Role)), sending, receiving, continuity)


@given(record=records())
def test_a_record_survives_the_disk_as_it_is(record: SessionRecord) -> None:
    text = record.to_json()
    assert SessionRecord.from_json(text) == record
    assert "\n" not in text


def test_a_repr_shows_no_key_and_no_message() -> None:
    for profile in Profile:
        pair = pair_of_the_fixture(profile)
        for end, message in ((pair.alice, b"message 7"), (pair.bob, b"answer 1")):
            record = end.session.record
            assert record.sending.messages == (message,)
            for secret in (message, *record.sending.keys, *record.receiving.keys, *record.continuity_keys):
                assert secret.hex() not in repr(record)
                assert repr(secret)[2:-1] not in repr(record)


def test_a_record_stays_small() -> None:
    pair = Pair(Profile.HARDENED, SessionConfig())
    for number in range(300):
        pair.round(b"%d" % number)
    assert len(pair.alice.session.record.to_json()) < 1500


# --- damage -----------------------------------------------------------------------------------------------------------


def example() -> dict[str, Any]:
    pair = Pair(Profile.HARDENED, EVERY_W)
    for number in range(6):
        pair.round(b"%d" % number)
    pair.round(b"back", back=True)
    pair.send(b"under way")
    return json.loads(pair.alice.session.record.to_json())


EXAMPLE = example()
EVIL = [None, True, -1, 1.5, 2**64, 10**4000, "", "zz", "00", "é", [], [[]], ["00"], {}, {"seq": 1}]
EVIL += ["0" * 62, "0" * 9999]


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to every field and every element."""
    if path:
        yield path
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


def changed(path: tuple[Any, ...], value: Any, *, remove: bool = False) -> str:
    data = copy.deepcopy(EXAMPLE)
    parent = data
    for key in path[:-1]:
        parent = parent[key]
    if remove:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    return json.dumps(data)


def loads_or_tells(text: str) -> bool:
    """Whether the text is a record after all; anything but `RecordError` fails the test."""
    try:
        record = SessionRecord.from_json(text)
    except RecordError as error:
        told = str(error)
    else:
        assert SessionRecord.from_json(record.to_json()) == record
        return True
    assert len(told.splitlines()) == 1
    assert len(told) < 200
    assert not [word for word in re.findall(r"[0-9a-f]{6,}", text) if word in told], "it shows what may be a key"
    return False


@pytest.mark.parametrize("path", list(places(EXAMPLE)), ids=lambda path: ".".join(map(str, path)))
def test_damage_of_any_field_is_told(path: tuple[Any, ...]) -> None:
    if not isinstance(path[-1], int):
        assert not loads_or_tells(changed(path, None, remove=True))
    for value in EVIL:
        loads_or_tells(changed(path, value))
    assert not loads_or_tells(changed(path, {"not": "a field"}))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("sending", "alpha"), 4),
        (("sending", "checkpoint_rounds"), 0),
        (("receiving", "checkpoints"), []),
        (("receiving", "checkpoints"), ["00" * 32] * 3),
        (("receiving", "previous"), "00" * 31),
        (("receiving", "previous"), None),
        (("sending", "offer"), "00"),
        (("sending", "messages"), ["00" * (limits.MAX_MESSAGE_BYTES + 1)]),
        (("sending", "messages"), ["00"] * 10),
        (("sending", "seq"), limits.MAX_ROUNDS + 1),
        (("sending", "seq"), True),
        (("profile",), "unknown"),
        (("role",), "eve"),
    ],
)
def test_values_that_no_session_has_are_told(path: tuple[str, ...], value: Any) -> None:
    assert not loads_or_tells(changed(path, value))


@pytest.mark.parametrize("path", list(places(EXAMPLE)), ids=lambda path: ".".join(map(str, path)))
def test_what_stands_in_a_damaged_record_is_not_shown(path: tuple[Any, ...]) -> None:
    secret = "deadbeefdeadbeef zzz"
    with pytest.raises(RecordError) as told:
        SessionRecord.from_json(changed(path, secret))
    assert "deadbeef" not in str(told.value)


def test_another_version_is_told_with_the_remedy() -> None:
    with pytest.raises(RecordError, match="has version 3; this program reads versions up to 2: upgrade"):
        SessionRecord.from_json(changed(("version",), 3))


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "3", '"text"', "{}", '{"format": "another"}', "\x00", "\ud800", "NaN"]
)
def test_what_is_no_record_is_told(text: str) -> None:
    assert not loads_or_tells(text)


def test_deep_nesting_is_told() -> None:
    for text in (
        "9" * 100_000,
        "[" * 100_000,
        '{"a":' * 100_000,
        changed(("sending", "messages"), None)[:-2] + "[" * 100_000,
    ):
        assert not loads_or_tells(text)


def test_every_truncation_is_told() -> None:
    text = json.dumps(EXAMPLE)
    for length in range(len(text)):
        assert not loads_or_tells(text[:length])


@given(position=st.integers(0, 10**6), character=st.characters())
def test_one_wrong_character_is_told_or_is_a_record(position: int, character: str) -> None:
    text = json.dumps(EXAMPLE)
    position %= len(text)
    loads_or_tells(text[:position] + character + text[position + 1 :])
