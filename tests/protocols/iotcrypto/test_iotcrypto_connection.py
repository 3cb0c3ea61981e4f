"""The connection protocol: agreement in both profiles, losses, and what each message's forger gets."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from counted_bytes import counted
from iotcrypto_ends import (
    COMPANY,
    DEVICE,
    GATEWAY,
    NOW,
    STRANGER,
    Negotiation,
    events,
    initiator,
    judge,
    member,
    responder,
)

from bt_selfsecure.crypto import sha256
from bt_selfsecure.curves import x25519, x25519_public
from bt_selfsecure.errors import LocalError
from bt_selfsecure.protocols.iotcrypto import limits
from bt_selfsecure.protocols.iotcrypto.canonical import encode
from bt_selfsecure.protocols.iotcrypto.certificate import Role
from bt_selfsecure.protocols.iotcrypto.config import NegotiationConfig
from bt_selfsecure.protocols.iotcrypto.events import Established, Failure, NegotiationFailed
from bt_selfsecure.protocols.iotcrypto.initiator import INITIATOR_TABLE, Initiator, InitiatorState
from bt_selfsecure.protocols.iotcrypto.messages import (
    Advertisement,
    Kind,
    Message,
    Profile,
    decode_message,
    encode_message,
)
from bt_selfsecure.protocols.iotcrypto.responder import RESPONDER_TABLE, Responder, ResponderState
from bt_selfsecure.protocols.iotcrypto.trust import TrustVerdict
from bt_selfsecure.sansio.context import EndpointContext
from bt_selfsecure.sansio.events import FrameRejected, Rejection
from bt_selfsecure.sansio.trace import Transition

HARDENED, PAPER = Profile.HARDENED, Profile.PAPER


def established(end: Any) -> Established:
    (event,) = [event for event in events(end) if isinstance(event, Established)]
    return event


@pytest.mark.parametrize("profile", Profile, ids=lambda profile: profile.value)
@pytest.mark.parametrize("second", [True, False], ids=["second ephemeral", "none"])
def test_both_ends_agree_and_know_each_other(profile: Profile, second: bool) -> None:
    done = Negotiation(initiator(profile, second_ephemeral=second), responder(profile)).run()
    here, there = established(done.initiator), established(done.responder)
    assert here.keys == there.keys
    assert (here.peer, there.peer) == (GATEWAY.signed, DEVICE.signed)
    assert here.judgement.signer == COMPANY.certificate.id
    assert len(done.said) == (2 if profile is PAPER else 4)


def test_two_negotiations_have_two_keys() -> None:
    for profile in Profile:
        first = Negotiation(initiator(profile, seed="1"), responder(profile, seed="1")).run()
        other = Negotiation(initiator(profile, seed="2"), responder(profile, seed="2")).run()
        assert established(first.initiator).keys.key != established(other.initiator).keys.key


def test_profiles_dont_mix() -> None:
    for profile, other in ((PAPER, HARDENED), (HARDENED, PAPER)):
        done = Negotiation(initiator(profile), responder(other)).run()
        assert isinstance(events(done.responder)[0], FrameRejected)
        assert done.initiator.state is InitiatorState.GREETING


def test_a_gateway_that_is_not_trusted_gets_no_key() -> None:
    rogue = member("rogue", Role.GATEWAY)
    done = Negotiation(initiator(), responder(who=rogue)).run()
    (failed,) = events(done.initiator)
    assert (failed.reason, failed.verdict) == (Failure.UNTRUSTED, TrustVerdict.UNTRUSTED)
    assert done.responder.state is ResponderState.ANSWERED


def test_a_device_that_is_not_trusted_is_told_so() -> None:
    done = Negotiation(initiator(who=STRANGER), responder()).run()
    (refused,) = events(done.initiator)
    assert (refused.reason, refused.verdict) == (Failure.REFUSED, TrustVerdict.UNTRUSTED)
    (failed,) = events(done.responder)
    assert (failed.reason, failed.peer) == (Failure.UNTRUSTED, STRANGER.signed)


def impersonated(profile: Profile) -> tuple[Any, Any]:
    """Whoever has the network's key alone answers with the gateway's public certificate, and a key of her own."""
    device = initiator(profile)
    device.start(0.0)
    hello = decode_message(profile, device.frames_to_send(0.0)[0])
    assert hello.signed
    eves = counted("eve")(32)
    made = Message(Kind.ANSWER, GATEWAY.signed, ephemeral=x25519_public(eves))
    if profile is HARDENED:
        made = replace(made, proof=bytes(64))
    device.receive_frame(encode_message(profile, made), 0.0)
    return events(device)[0], (eves, hello.signed.certificate.ecdh_key)


def test_in_paper_nothing_proves_the_gateways_ephemeral() -> None:
    event, (secret, share) = impersonated(PAPER)
    assert isinstance(event, Established)
    shared = x25519(secret, share)
    assert shared
    assert event.keys.key == sha256(shared)


def test_in_hardened_the_proof_does() -> None:
    event, _ = impersonated(HARDENED)
    assert event == NegotiationFailed(Failure.FORGED, peer=GATEWAY.signed)


def test_a_proof_of_another_hello_is_none() -> None:
    first = Negotiation(initiator(seed="1"), responder()).run()
    device = initiator(seed="2")
    device.start(0.0)
    device.receive_frame(first.said[1], 0.0)
    assert events(device)[0].reason is Failure.FORGED


def test_a_hello_that_is_said_again_by_a_stranger_gets_no_confirmation() -> None:
    first = Negotiation(initiator(), responder(seed="1")).run()
    gateway = responder(seed="2")
    for data in (first.said[0], first.said[2]):
        gateway.receive_frame(data, 0.0)
    assert [type(event) for event in events(gateway)] == [FrameRejected]
    assert gateway.state is ResponderState.ANSWERED


def test_shares_of_low_order_are_refused() -> None:
    device = initiator(PAPER)
    device.start(0.0)
    device.receive_frame(encode_message(PAPER, Message(Kind.ANSWER, GATEWAY.signed, ephemeral=bytes(32))), 0.0)
    assert events(device)[0].reason is Failure.FORGED
    gateway = responder()
    hello = Message(Kind.HELLO, DEVICE.signed, bytes(16), bytes(32))
    gateway.receive_frame(encode_message(HARDENED, hello), 0.0)
    assert events(gateway)[0].reason is Failure.FORGED


@pytest.mark.parametrize("profile", Profile, ids=lambda profile: profile.value)
def test_losses_at_random_end_in_one_key_or_in_none_at_the_device(profile: Profile) -> None:
    agreed = 0
    for seed in range(200):
        rng = random.Random(seed)
        device, gateway, now = initiator(profile, seed=str(seed)), responder(profile, seed=str(seed)), 0.0
        device.start(now)
        while now < 120:
            for _ in range(4):
                for data in device.frames_to_send(now):
                    for _ in range(rng.choice((0, 1, 1, 2))):
                        gateway.receive_frame(data, now)
                for data in gateway.frames_to_send(now):
                    for _ in range(rng.choice((0, 1, 1, 2))):
                        device.receive_frame(data, now)
            now += 1
            device.handle_timer(now)
            gateway.handle_timer(now)
        here = [event for event in events(device) if isinstance(event, Established)]
        there = [event for event in events(gateway) if isinstance(event, Established)]
        if here:
            assert [one.keys for one in here] == [one.keys for one in there]
            agreed += 1
        assert device.state in (InitiatorState.ESTABLISHED, InitiatorState.FAILED)
        assert gateway.get_timer() is None
    assert agreed > 190


def test_silence_ends_both() -> None:
    device, gateway = initiator(), responder()
    device.start(0.0)
    sent, now = len(device.frames_to_send(0.0)), 0.0
    while (deadline := device.get_timer()) is not None:
        device.handle_timer(deadline - 0.01)
        assert device.frames_to_send(now) == []
        device.handle_timer(now := deadline)
        sent += len(device.frames_to_send(now))
    assert (sent, now) == (5, 2.0 + 4 + 8 + 16 + 16)
    assert events(device)[0].reason is Failure.NO_ANSWER
    gateway.handle_timer(100.0)
    assert events(gateway)[0].reason is Failure.NO_ANSWER


def test_one_connection_is_one_negotiation() -> None:
    done = Negotiation(initiator(seed="1"), responder()).run()
    events(done.responder)
    other = initiator(seed="2")
    other.start(0.0)
    done.responder.receive_frame(other.frames_to_send(0.0)[0], 0.0)
    assert events(done.responder) == [FrameRejected(Rejection.REPLAY, "another hello in the same connection")]
    with pytest.raises(LocalError):
        done.initiator.start(0.0)


def test_what_is_over_keeps_no_secret_and_says_nothing() -> None:
    for end in (initiator(), responder()):
        if hasattr(end, "start"):
            end.start(0.0)
        end.close(0.0)
        assert events(end)[0].reason is Failure.CLOSED
        assert end.frames_to_send(0.0) == []
        assert end.get_timer() is None
        end.close(0.0)
        assert events(end) == []


def test_a_mac_of_the_other_end_is_no_confirmation() -> None:
    device, gateway = initiator(), responder()
    device.start(0.0)
    gateway.receive_frame(device.frames_to_send(0.0)[0], 0.0)
    device.receive_frame(gateway.frames_to_send(0.0)[0], 0.0)
    mac = decode_message(HARDENED, device.frames_to_send(0.0)[0]).mac
    device.receive_frame(encode_message(HARDENED, Message(Kind.CONFIRMED, mac=mac)), 0.0)
    assert events(device) == [FrameRejected(Rejection.UNAUTHENTIC, "confirmed")]


def test_every_row_of_the_tables_is_used() -> None:
    seen: set[tuple[str, str]] = set()

    def note(step: Transition) -> None:
        seen.add((step.state, step.input))

    def traced(profile: Profile) -> tuple[Initiator, Responder]:
        here = NegotiationConfig(DEVICE.secrets, DEVICE.signed, judge(Role.GATEWAY), profile)
        there = NegotiationConfig(GATEWAY.secrets, GATEWAY.signed, judge(Role.DEVICE), profile)
        return (
            Initiator(here, EndpointContext(counted("a"), note)),
            Responder(there, EndpointContext(counted("b"), note), 0.0),
        )

    for profile in Profile:
        Negotiation(*traced(profile)).run()
        for steps in range(4):
            device, gateway = traced(profile)
            if steps:
                device.start(0.0)
            if steps > 1:
                gateway.receive_frame(device.frames_to_send(0.0)[0], 0.0)
            if steps > 2:
                device.receive_frame(gateway.frames_to_send(0.0)[0], 0.0)
            device.close(0.0)
            gateway.close(0.0)
    assert seen == {(state.name, given.name) for state, given in (*INITIATOR_TABLE, *RESPONDER_TABLE)}


def test_an_advertisement_is_a_hint_of_24_bytes() -> None:
    made = Advertisement(GATEWAY.certificate.id, 5711, 5712)
    assert Advertisement.decode(made.encode()) == made
    assert len(made.encode()) == 24


def test_hello_and_answer_fit_one_datagram_with_all_the_signatures_there_may_be() -> None:
    signers = [member(f"signer {number}", Role.PARTY) for number in range(limits.MOST_SIGNATURES)]
    gateway = member("x" * 32, Role.GATEWAY).signed_by(*signers)
    answer = Message(Kind.ANSWER, gateway.signed, ephemeral=bytes(32), proof=bytes(64))
    assert len(encode_message(HARDENED, answer)) <= limits.MOST_MESSAGE_BYTES


def test_what_is_no_message_is_told() -> None:
    device = initiator()
    device.start(0.0)
    for data in (b"", b"\x80", encode([18]), encode([2, b"", [], b""]), encode([True, b"", []]), encode([21, 0])):
        device.receive_frame(data, NOW)
    assert {event.reason for event in events(device)} == {Rejection.MALFORMED}
