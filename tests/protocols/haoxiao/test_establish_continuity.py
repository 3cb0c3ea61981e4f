"""Whom one called, and since when: the identity that is meant, and the continuity of one K_0 with the next."""

from __future__ import annotations

from dataclasses import replace

import pytest
from harness import ALICE, BOB, Cast, Transmission, bob_address, cast, clear, small

from bt_selfsecure.errors import UsageError
from bt_selfsecure.protocols.haoxiao.events import (
    AcceptRefused,
    Established,
    EstablishFailed,
    Failure,
    Refusal,
    RequestRefused,
)
from bt_selfsecure.protocols.haoxiao.frames import Frame, Kind, Profile, decode, encode
from bt_selfsecure.protocols.haoxiao.material import Offer, continuity_name
from bt_selfsecure.protocols.haoxiao.suites import SUITES

P, H = Profile.PAPER, Profile.HARDENED
KEY = b"shared by all devices of a group"
OLD, NEW, OTHER = (bytes([number]) * 32 for number in range(3))
CAROL = bob_address(0)
both_profiles = pytest.mark.parametrize("profile", Profile, ids=lambda profile: profile.label)


def meeting(alice: tuple[bytes, ...], bob: tuple[bytes, ...], *, required: str = "", **changes: object) -> Cast:
    """An establishment of two who have these continuity keys, `required` by "alice", "bob" or both."""
    scene = cast(
        H,
        alice={"peer": BOB, "continuity_keys": alice, "requires_continuity": "alice" in required},
        bob={"peer": ALICE, "continuity_keys": bob, "requires_continuity": "bob" in required},
        **changes,
    )
    scene.world.run()
    return scene


def reasons(scene: Cast, name: str) -> set[Failure]:
    return {event.reason for event in scene.world.events(EstablishFailed, name)}


# --- whom one called --------------------------------------------------------------------------------------------------


@both_profiles
def test_an_accept_of_another_than_who_was_called_is_refused_and_named(profile: Profile) -> None:
    """A relay leads Alice's call of Bob to Carol, who has the same authentication key and thinks it is hers."""
    key = {"authentication_key": KEY} if profile is H else {}
    scene = cast(profile, alice={"peer": b"\2bobob", "max_requests": 2}, **key)
    scene.world.run()
    assert scene.world.events(AcceptRefused, "alice")[0] == AcceptRefused(CAROL, Refusal.IDENTITY)
    assert reasons(scene, "alice") == {Failure.IDENTITY}
    assert not scene.world.events(Established)


def test_a_false_accept_does_not_keep_the_one_who_was_called_out() -> None:
    scene = cast(H, alice={"peer": BOB}, start=False)
    scene.alice.start(0.0)
    message = scene.alice.request.rand[:8] + Offer(b"\2carol").encode(H, accept=True)
    scene.world.inject(encode(Frame(H, Kind.ACCEPT, rand=bytes(16), message=message)), "alice")
    scene.world.run()
    assert scene.world.established("alice").peer == BOB
    assert scene.world.events(AcceptRefused, "alice") == [AcceptRefused(b"\2carol", Refusal.IDENTITY)]


def test_a_name_that_is_changed_on_the_way_is_no_key() -> None:
    """Mallory writes the name that Alice called into Carol's accept: it is in the transcript."""

    def channel(transmission: Transmission) -> list[tuple[float, bytes]]:
        frame = transmission.frame
        if frame.kind is not Kind.ACCEPT:
            return clear(transmission)
        renamed = frame.message[:8] + b"\2bobob" + frame.message[14:]
        return [(0.001, encode(replace(frame, message=renamed)))]

    scene = cast(H, channel=channel, alice={"peer": b"\2bobob"}, authentication_key=KEY)
    scene.world.run()
    assert not scene.world.events(Established)


def test_a_request_of_another_than_who_is_meant_is_refused_without_t_d() -> None:
    scene = cast(H, bob={"peer": b"\2carol"})
    scene.world.run(1.5)
    assert scene.world.events(RequestRefused, "bob") == [RequestRefused(ALICE, Refusal.IDENTITY)] * 2


def test_a_request_of_version_2_is_refused_with_a_sentence_and_by_its_name() -> None:
    scene = cast(H, start=False)
    old = b"\x20\x00\x2d\x00\x00" + bytes(16) + ALICE + bytes(55)
    for data in (old, b"\x23" + bytes(23)):
        scene.bob.receive_frame(data, 0.0)
    assert scene.bob.next_event() == RequestRefused(ALICE, Refusal.VERSION)
    assert "version 2" in Refusal.VERSION.value
    assert "version 2" in scene.bob.next_event().detail  # type: ignore[union-attr]
    assert scene.bob.frames_to_send(0.0) == []


# --- continuity -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alice", "bob", "common"),
    [
        ((), (), b""),
        ((OLD,), (), b""),
        ((), (OLD,), b""),
        ((OLD,), (OTHER,), b""),
        ((OLD,), (OLD,), OLD),
        ((NEW, OLD), (OLD,), OLD),
        ((OLD,), (NEW, OLD), OLD),
        ((NEW, OLD), (NEW,), NEW),
        ((NEW, OLD), (NEW, OLD), NEW),
    ],
)
def test_the_newest_common_key_is_mixed_in(alice: tuple[bytes, ...], bob: tuple[bytes, ...], common: bytes) -> None:
    scene = meeting(alice, bob)
    keys = [scene.world.established(name) for name in ("alice", "bob")]
    assert keys[0].k0 == keys[1].k0
    assert [key.continuity for key in keys] == [bool(common)] * 2
    accept = scene.world.frames(Kind.ACCEPT)[0].frame
    offer = Offer.decode(H, accept.message[8:], accept=True)
    assert offer is not None
    assert offer.names == ((continuity_name(common),) if common else ())


def test_continuity_is_proved_and_not_only_said() -> None:
    """Who knows the name alone, which is in the clear, has no key."""
    scene = meeting((OLD,), (OLD,), required="alice bob")
    without = meeting((OLD,), (OLD,), seed=1)
    assert scene.world.established("alice").k0 == without.world.established("alice").k0  # the demand is not on the wire
    name = continuity_name(OLD)
    impostor = cast(H, alice={"peer": BOB, "continuity_keys": (OLD,)}, bob={"peer": ALICE, "continuity_keys": (OTHER,)})
    taken = impostor.bob._common_continuity
    impostor.bob._common_continuity = lambda offer: OTHER if name in offer.names else taken(offer)  # type: ignore[method-assign]

    def channel(transmission: Transmission) -> list[tuple[float, bytes]]:
        data = transmission.data
        return [(0.001, encode(_named(decode(data), name)) if decode(data).kind is Kind.ACCEPT else data)]

    impostor.world.channel = channel
    impostor.world.run()
    assert not impostor.world.events(Established)


def _named(accept: Frame, name: bytes) -> Frame:
    return replace(accept, message=accept.message[: -len(name)] + name)


@pytest.mark.parametrize(("alice", "bob"), [((), ()), ((OLD,), ()), ((), (OLD,)), ((OLD,), (OTHER,))])
@pytest.mark.parametrize("required", ["alice", "bob", "alice bob"])
def test_who_requires_continuity_has_no_key_without_it(
    alice: tuple[bytes, ...], bob: tuple[bytes, ...], required: str
) -> None:
    scene = meeting(alice, bob, required=required, max_requests=2)
    assert not scene.world.events(Established)
    if "bob" in required:
        assert RequestRefused(ALICE, Refusal.CONTINUITY) in scene.world.events(RequestRefused, "bob")
        assert reasons(scene, "alice") == {Failure.NO_ACCEPT}
    else:
        assert AcceptRefused(BOB, Refusal.CONTINUITY) in scene.world.events(AcceptRefused, "alice")
        assert reasons(scene, "alice") == {Failure.NO_CONTINUITY}


@pytest.mark.parametrize("required", ["alice", "bob", "alice bob"])
def test_who_requires_continuity_has_a_key_with_it(required: str) -> None:
    scene = meeting((OLD,), (OLD,), required=required)
    assert scene.world.established("alice").continuity
    assert scene.world.established("bob").continuity


def test_a_chain_of_establishments_has_continuity_from_the_second_on() -> None:
    keys: tuple[bytes, ...] = ()
    for number in range(3):
        scene = meeting(keys, keys, seed=number + 1)
        key = scene.world.established("alice")
        assert key.continuity == bool(number)
        keys = (SUITES[H].continuity_key(key.k0),)


def test_the_request_has_continuity_names_in_the_clear_and_an_accept_may_have_one() -> None:
    for names in ((), (b"a" * 8,), (b"a" * 8, b"b" * 8)):
        offer = Offer(ALICE, burst=8, t_1=0.25, commitment=bytes(32), part=bytes(32), names=names)
        assert Offer.decode(H, offer.encode(H, accept=False), accept=False) == offer
        accept = Offer(ALICE, names=names)
        read = Offer.decode(H, accept.encode(H, accept=True), accept=True)
        assert read == (accept if len(names) < 2 else None)
    second_alone = Offer(ALICE, names=(b"a" * 8,)).encode(H, accept=True).replace(b"\x08", b"\x10", 1)
    assert Offer.decode(H, second_alone, accept=True) is None


def test_the_export_root_is_the_same_at_both_ends_and_is_not_k_0() -> None:
    scene = meeting((), ())
    alice, bob = scene.world.established("alice"), scene.world.established("bob")
    assert alice.export_root == bob.export_root
    assert len({alice.k0, alice.export_root, SUITES[H].continuity_key(alice.k0)}) == 3
    assert alice.export_root.hex() not in repr(alice)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"profile": P, "continuity_keys": (OLD,), "peer": BOB}, "has no continuity"),
        ({"profile": P, "requires_continuity": True, "peer": BOB}, "has no continuity"),
        ({"continuity_keys": (OLD,)}, "name it"),
        ({"requires_continuity": True}, "name it"),
        ({"peer": BOB[:5]}, "device address"),
        ({"peer": BOB, "responders": 2}, "responders 1"),
        ({"peer": BOB, "continuity_keys": (OLD, NEW, OTHER)}, "at most 2"),
        ({"peer": BOB, "continuity_keys": (OLD[:31],)}, "32 bytes"),
    ],
)
def test_what_can_not_be_configured_is_told(settings: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        small(**settings)  # type: ignore[arg-type]


# --- the string -------------------------------------------------------------------------------------------------------


@both_profiles
@pytest.mark.parametrize("asked", ["", "alice", "bob"])
def test_there_is_a_string_only_where_a_person_asked_for_one(profile: Profile, asked: str) -> None:
    scene = cast(profile, alice={"compare": asked == "alice"}, bob={"compare": asked == "bob"})
    scene.world.run()
    assert scene.world.established("alice").k0 == scene.world.established("bob").k0
    for name in ("alice", "bob"):
        assert (scene.world.established(name).sas is not None) == (name == asked)


@pytest.mark.parametrize("name", ["alice", "bob"])
@pytest.mark.parametrize("expects", [True, False])
def test_a_person_may_ask_for_the_string_or_leave_until_the_key_is_there(name: str, expects: bool) -> None:
    def channel(transmission: Transmission) -> list[tuple[float, bytes]]:
        if transmission.frame.kind is Kind.RESPONSE:
            (scene.alice if name == "alice" else scene.bobs[0]).expect_comparison(expects)
        return clear(transmission)

    scene = cast(H, channel=channel, alice={"compare": not expects}, bob={"compare": not expects})
    scene.world.run()
    told = {each: scene.world.established(each).sas is not None for each in ("alice", "bob")}
    assert told == {"alice": not expects, "bob": not expects} | {name: expects}
