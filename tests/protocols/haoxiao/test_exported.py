"""Keys for other programs: the chain of generations, and what an end believes of what its peer says it holds."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bt_selfsecure.errors import LocalError, UnreadableError
from bt_selfsecure.protocols.haoxiao.exported import MOST_AHEAD, Generation, Generations, KeptGenerations

X_0 = bytes(range(32))
VECTORS = json.loads((Path(__file__).parent / "vectors" / "exported.json").read_text())


def expand(prk: bytes, info: bytes, length: int = 32) -> bytes:
    """HKDF-Expand, as the specification's reader writes it."""
    blocks, block = b"", b""
    while len(blocks) < length:
        block = hmac.new(prk, block + info + bytes([len(blocks) // 32 + 1]), hashlib.sha256).digest()
        blocks += block
    return blocks[:length]


def pair() -> tuple[Generations, Generations]:
    ends = Generations(KeptGenerations()), Generations(KeptGenerations())
    for end in ends:
        end.offer(X_0, continues=True)
        end.use()
    return ends


def said(end: Generations) -> bytes:
    message, end.to_say = end.to_say, b""
    return message


def talk(*ends: Generations) -> None:
    """Until neither has anything to say."""
    for _ in range(10):
        for own, other in (ends, ends[::-1]):
            if message := said(own):
                other.receive(message)
    assert not any(end.to_say for end in ends), "they never fall silent"


def test_every_value_of_the_vectors_follows_from_the_specification_alone() -> None:
    root = expand(bytes.fromhex(VECTORS["k0"]), b"btss export")
    name = expand(root, b"btss export name", 8)
    for vector in VECTORS["generations"]:
        number = vector["number"]
        assert vector["id"] == f"{name.hex()}.{number}"
        assert vector["held"] == (b"\x01" + name + number.to_bytes(4)).hex()
        for label, key in vector["keys"].items():
            assert expand(root, b"btss export key " + label.encode(), len(key) // 2).hex() == key
        root = expand(root, b"btss export next")


def test_a_key_is_there_where_both_ends_have_said_that_they_hold_it_and_nowhere_before() -> None:
    alice, bob = pair()
    alice.want()
    assert alice.agreed is None
    message = said(alice)
    assert bob.receive(message)
    assert bob.agreed
    assert alice.agreed is None
    assert alice.receive(said(bob))
    assert alice.agreed == bob.agreed
    assert alice.agreed.key("wireguard") != alice.agreed.key("oscore")


def test_an_older_generation_is_forgotten_when_both_hold_the_next() -> None:
    alice, bob = pair()
    alice.want()
    talk(alice, bob)
    old = alice.agreed
    assert old
    assert alice.rotate()
    assert not alice.rotate(), "one after the other"
    talk(alice, bob)
    for end in (alice, bob):
        assert end.agreed
        assert end.agreed.number == 1
        assert old.root.hex() not in json.dumps(end.kept.to_fields())


def test_both_ends_that_rotate_at_once_go_on_by_one() -> None:
    alice, bob = pair()
    alice.want()
    talk(alice, bob)
    assert alice.rotate()
    assert bob.rotate()
    talk(alice, bob)
    assert [end.agreed.number for end in (alice, bob) if end.agreed] == [1, 1]


def test_an_end_that_was_restored_goes_forward_to_its_peer_and_nobody_goes_back() -> None:
    alice, bob = pair()
    alice.want()
    talk(alice, bob)
    backup = KeptGenerations.from_fields(json.loads(json.dumps(alice.kept.to_fields())))
    for _ in range(3):
        bob.rotate()
        talk(alice, bob)
    restored = Generations(backup)
    restored.say_again()
    bob.say_again()
    talk(restored, bob)
    assert restored.agreed == bob.agreed == alice.agreed
    assert bob.agreed
    assert bob.agreed.number == 3


@pytest.mark.parametrize("after_a_restart", [False, True])
def test_a_key_that_the_peer_never_got_is_in_the_way_of_none_that_the_session_uses(after_a_restart: bool) -> None:
    """An establishment fails at its last packet: one end has the K_0, and the session goes on with the one before."""
    alice, bob = pair()
    alice.offer(bytes(32), continues=True)
    if after_a_restart:
        alice = Generations(KeptGenerations.from_fields(json.loads(json.dumps(alice.kept.to_fields()))))
    alice.want()
    talk(alice, bob)
    assert alice.agreed
    assert alice.agreed == bob.agreed == Generation.first(X_0)


def test_a_key_is_wanted_of_a_chain_as_soon_as_the_session_uses_it_and_not_before() -> None:
    alice, bob = pair()
    alice.want()
    talk(alice, bob)
    for end in (alice, bob):
        end.offer(bytes(32), continues=True)
    assert not alice.to_say
    alice.use()
    talk(alice, bob)
    assert alice.agreed
    assert alice.agreed == bob.agreed == Generation.first(bytes(32))
    bob.use()
    assert not bob.to_say


def test_a_key_without_continuity_takes_the_keys_of_the_peer_before_it_away() -> None:
    alice, bob = pair()
    alice.want()
    talk(alice, bob)
    alice.offer(bytes(32), continues=False)
    assert alice.agreed is None
    alice.offer(bytes(32), continues=True)
    assert alice.agreed is None


@given(st.binary(max_size=20) | st.binary(min_size=12, max_size=12).map(lambda rest: b"\x01" + rest))
def test_what_is_no_such_message_or_of_another_chain_changes_nothing(message: bytes) -> None:
    alice, bob = pair()
    alice.want()
    talk(alice, bob)
    kept = alice.kept
    assert not alice.receive(message)
    assert alice.kept == kept
    assert not alice.to_say


@given(st.integers(1, 2 * MOST_AHEAD))
def test_a_peer_is_followed_so_far_at_once_and_no_further(ahead: int) -> None:
    alice, bob = pair()
    alice.want()
    talk(alice, bob)
    newest = alice.kept.newest
    assert newest
    jump = Generation(newest.name, newest.number + ahead, b"").held
    assert alice.receive(jump) is (ahead <= MOST_AHEAD)


@pytest.mark.parametrize("label", ["", "x" * 65, "ü" * 33])
def test_a_label_that_is_none_is_refused(label: str) -> None:
    with pytest.raises(UnreadableError):
        Generation.first(X_0).key(label)


@pytest.mark.parametrize("length", [0, 1025])
def test_a_length_that_no_key_has_is_refused(length: int) -> None:
    with pytest.raises(LocalError):
        Generation.first(X_0).key("a", length)


@pytest.mark.parametrize("damage", [{}, {"wanted": True, "newest": ["zz", 1, "00"]}, {"wanted": True, "agreed": 3}])
def test_damaged_fields_are_refused(damage: dict[str, Any]) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        KeptGenerations.from_fields(damage)
