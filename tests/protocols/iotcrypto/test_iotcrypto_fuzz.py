"""Mutated and strange bytes at every parser, and at every input of the machines in every state: no other exception than
what is promised, one encoding of whatever is read, bounded memory, nobody let in.

pytest -m long tests/protocols/iotcrypto/test_iotcrypto_fuzz.py        a million of each
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from typing import Any

import pytest
from counted_bytes import counted
from fuzzing import mutated, weight
from iotcrypto_ends import COMPANY, CREATED, DEVICE, GATEWAY, PARTNER, Negotiation, events, initiator, responder
from test_iotcrypto_transmission import MESSAGES, RECORDS

from bt_selfsecure.protocols.iotcrypto.canonical import MalformedError
from bt_selfsecure.protocols.iotcrypto.certificate import Certificate, SignedCertificate
from bt_selfsecure.protocols.iotcrypto.events import Established
from bt_selfsecure.protocols.iotcrypto.initiator import Initiator, InitiatorState
from bt_selfsecure.protocols.iotcrypto.lists import ListedSignature, ListKind, TrustList
from bt_selfsecure.protocols.iotcrypto.messages import Advertisement, Profile, decode_message, encode_message
from bt_selfsecure.protocols.iotcrypto.records import decode_record, encode_record
from bt_selfsecure.protocols.iotcrypto.responder import Responder, ResponderState
from bt_selfsecure.protocols.iotcrypto.transmission import AskReceived, ListPieces, Transmission, TransmissionEnd
from bt_selfsecure.protocols.iotcrypto.transmission_messages import (
    Acknowledgement,
    AlertMessage,
    ListPiece,
    RecordBatch,
    decode_transmission,
    encode_transmission,
)
from bt_selfsecure.sansio.context import EndpointContext

LISTS = [
    TrustList.make(ListKind.PARTIES, (PARTNER.certificate,), CREATED, COMPANY.secrets),
    TrustList.make(ListKind.REVOCATIONS, (DEVICE.certificate.id,), CREATED, COMPANY.secrets),
    TrustList.make(
        ListKind.SIGNATURES,
        (ListedSignature(DEVICE.certificate.id, COMPANY.secrets.sign(DEVICE.certificate)),),
        CREATED,
        COMPANY.secrets,
    ),
]
HARDENED = Negotiation(initiator(), responder()).run().said
PAPER = Negotiation(initiator(Profile.PAPER), responder(Profile.PAPER)).run().said
Reader = Callable[[bytes], bytes]
"""Returns what was read, written again."""
PARSERS: dict[str, tuple[list[bytes], Reader]] = {
    "certificate": ([DEVICE.certificate.encode()], lambda data: Certificate.decode(data).encode()),
    "signed certificate": ([DEVICE.signed.encode()], lambda data: SignedCertificate.decode(data).encode()),
    "list": ([one.encode() for one in LISTS], lambda data: TrustList.decode(data).encode()),
    "advertisement": (
        [Advertisement(GATEWAY.certificate.id, 5711, 5712).encode()],
        lambda data: Advertisement.decode(data).encode(),
    ),
    "hardened": (HARDENED, lambda data: encode_message(Profile.HARDENED, decode_message(Profile.HARDENED, data))),
    "paper": (PAPER, lambda data: encode_message(Profile.PAPER, decode_message(Profile.PAPER, data))),
    "transmission": (
        [encode_transmission(7, message) for message in MESSAGES],
        lambda data: encode_transmission(*decode_transmission(data)),
    ),
    "record": ([encode_record(record) for record in RECORDS], lambda data: encode_record(decode_record(data))),
}
MOST_WEIGHT = 80_000
CHECKED_EVERY = 500


def hostile(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.1:
        return rng.randbytes(rng.randrange(120))
    return mutated(data, rng, longest=200)


def fuzz_parser(name: str, seed: int, count: int) -> None:
    samples, read = PARSERS[name]
    rng = random.Random(f"{name} {seed}")
    taken = 0
    for _ in range(count):
        data = hostile(rng.choice(samples), rng)
        try:
            assert read(data) == data
        except MalformedError:
            continue
        taken += 1
    assert taken


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_reads_one_encoding_or_says_that_it_is_malformed(name: str) -> None:
    assert all(PARSERS[name][1](sample) == sample for sample in PARSERS[name][0])
    fuzz_parser(name, 1, 3_000)


def fuzz_negotiation(profile: Profile, seed: int, count: int) -> None:
    rng = random.Random(seed)
    tape = [*HARDENED, *PAPER]
    now = 0.0
    spoken: set[bytes] = set()
    seen: set[Any] = set()
    device, gateway = initiator(profile), responder(profile)
    for number in range(count):
        if number % 40 == 0:
            device, gateway = initiator(profile, seed=f"{seed} {number}"), responder(profile, seed=f"{seed} {number}")
            device.start(now)
            genuine = [*device.frames_to_send(now)]
            if rng.random() < 0.7:  # as far as the gateway's answer
                gateway.receive_frame(genuine[0], now)
            if rng.random() < 0.5:  # or the device's confirmation
                for answer in gateway.frames_to_send(now):
                    genuine.append(answer)
                    device.receive_frame(answer, now)
            spoken |= {*genuine}
            tape = [*tape, *genuine][-24:]
            seen |= {device.state, gateway.state}
        end: Initiator | Responder = rng.choice((device, gateway))
        data = hostile(rng.choice(tape), rng) if rng.random() < 0.9 else rng.choice(tape)
        end.receive_frame(data, now)
        if any(isinstance(event, Established) for event in events(end)) and profile is Profile.HARDENED:
            assert data in spoken
        if rng.random() < 0.1:
            now += rng.random()
            device.handle_timer(now)
        if rng.random() < 0.3:
            said = [*device.frames_to_send(now), *gateway.frames_to_send(now)]
            spoken |= {*said}
            tape = [*tape, *said][-24:]
        seen |= {device.state, gateway.state}
        if number % CHECKED_EVERY == 0:
            assert weight(device) < MOST_WEIGHT
            assert weight(gateway) < MOST_WEIGHT
    states = {InitiatorState.GREETING, InitiatorState.FAILED, ResponderState.WAITING, ResponderState.FAILED}
    hardened = {InitiatorState.CONFIRMING, ResponderState.ANSWERED}
    assert states | (hardened if profile is Profile.HARDENED else set()) <= seen


@pytest.mark.parametrize("profile", Profile, ids=lambda profile: profile.value)
def test_no_message_raises_or_lets_a_stranger_in(profile: Profile) -> None:
    fuzz_negotiation(profile, 1, 3_000)


def fuzz_transmission(at: TransmissionEnd, seed: int, count: int) -> None:
    rng = random.Random(f"{at} {seed}")
    tape = [encode_transmission(number, message) for number in range(3) for message in MESSAGES]
    end = Transmission(at, EndpointContext(counted(str(seed))))
    pieces, now = ListPieces(), 0.0
    for number in range(count):
        end.receive_frame(hostile(rng.choice(tape), rng), now)
        if rng.random() < 0.2 and end.room:
            end.ask(rng.choice(MESSAGES[:1]), now)
            tape = [*tape, *end.frames_to_send(now)][-60:]
        if rng.random() < 0.5:
            for event in iter(end.next_event, None):
                if isinstance(event, AskReceived) and isinstance(event.message, AlertMessage | RecordBatch):
                    end.answer(event.n, Acknowledgement())
        with contextlib.suppress(MalformedError):
            pieces.take(ListPiece(rng.randrange(4), rng.randrange(1, 6), rng.randbytes(rng.randrange(1, 4))))
        now += rng.random() / 10
        end.handle_timer(now)
        if number % CHECKED_EVERY == 0:
            end.frames_to_send(now)
            assert weight(end) + weight(pieces) < MOST_WEIGHT


@pytest.mark.parametrize("at", TransmissionEnd, ids=lambda at: at.name.lower())
def test_no_message_of_a_transmission_raises_or_stays(at: TransmissionEnd) -> None:
    fuzz_transmission(at, 1, 2_000)


MILLION = 1_000_000
PARTS = 10


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(PARTS))
def test_a_million_of_each(part: int) -> None:
    for name in PARSERS:
        fuzz_parser(name, 100 + part, MILLION // PARTS)
    for profile in Profile:
        fuzz_negotiation(profile, 100 + part, MILLION // PARTS)
    for at in TransmissionEnd:
        fuzz_transmission(at, 100 + part, MILLION // PARTS)
