"""The wire: one table of cases for writer and reader, then bytes that nobody made, and mutations of good ones."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bt_selfsecure.errors import LocalError
from bt_selfsecure.protocols.haoxiao import limits, oaep
from bt_selfsecure.protocols.haoxiao.frames import (
    Frame,
    FrameError,
    Kind,
    Malformed,
    Profile,
    burst_encoder,
    decode,
    encode,
    encode_round,
    head,
    mac_bytes,
    peek_kind,
)

VECTORS = Path(__file__).parent / "vectors" / "frames.json"
SEED = bytes(range(100, 132))
RAND = bytes.fromhex("00112233445566778899aabbccddeeff")
ADDRESS = bytes.fromhex("02b75e000001")
MESSAGE = bytes(range(32))
MAC = bytes(range(0xA0, 0xC0))


@dataclass(frozen=True)
class Case:
    """The first fields are the frame's; `start` is what stands before Rand, in hexadecimal and by hand."""

    profile: Profile
    kind: Kind
    start: str
    retran: int = 0
    seq: int = 0
    rand: bytes = b""
    message: bytes = b""
    mac: bytes = b""
    hashed: int = 0
    """How many bytes of SHA-256 over all before it stand in the HMAC field."""

    @property
    def frame(self) -> Frame:
        return Frame(self.profile, self.kind, self.retran, self.seq, self.rand, self.message, self.mac)

    @property
    def wire(self) -> bytes:
        start = bytes.fromhex(self.start)
        body = start + self.rand + self.message
        if self.profile is Profile.PAPER and self.kind in (Kind.REQUEST, Kind.ACCEPT):
            body = start + oaep.encode(body, seed=SEED)
        return body + (hashlib.sha256(body).digest()[: self.hashed] if self.hashed else self.mac)

    def __str__(self) -> str:
        return f"{self.profile.label}-{self.kind.name.lower()}"


P, H = Profile.PAPER, Profile.HARDENED
CASES = [
    Case(P, Kind.REQUEST, "10 0006 0000", rand=RAND, message=ADDRESS, hashed=32),
    Case(P, Kind.ACCEPT, "11 000e 0000", rand=RAND, message=RAND[:8] + ADDRESS, hashed=32),
    Case(P, Kind.RAND, "12 0020 018f", seq=399, rand=RAND[:8], message=MESSAGE, hashed=16),
    Case(P, Kind.RAND_COMPACT, "13 018f", seq=399, rand=RAND[:2], message=MESSAGE[:16], hashed=3),
    Case(P, Kind.RESPONSE, "14 000b 0000", rand=RAND, message=RAND[:8] + b"\x01\x17\x02", mac=MAC[:16]),
    Case(P, Kind.ACKNOWLEDGE, "15 0008 0000", rand=RAND, message=RAND[:8], mac=MAC),
    Case(P, Kind.END, "16 0018 0000", message=RAND[:8] + RAND, mac=MAC),
    Case(P, Kind.DATA, "18 1063 ff", retran=1, seq=255, message=bytes(99), mac=MAC),
    Case(P, Kind.DATA_ACK, "19 0022 00", message=MAC + b"\x00\x07"),
    Case(P, Kind.RESYNC_CALL, "1a 0018 00", rand=RAND, message=MESSAGE[:24]),
    Case(P, Kind.RESYNC_REQUEST, "1b 0030 00", rand=RAND, message=bytes(24) + MESSAGE[:24]),
    Case(P, Kind.RESYNC_RESPONSE, "1c 0020 00", rand=RAND, message=MESSAGE, mac=MAC[:16]),
    Case(H, Kind.REQUEST, "30 004d 0000", rand=RAND, message=ADDRESS + bytes(7) + MESSAGE + MESSAGE, hashed=16),
    Case(H, Kind.ACCEPT, "31 000f 0000", rand=RAND, message=RAND[:8] + ADDRESS + b"\0", hashed=16),
    Case(H, Kind.RAND, "32 0020 7cff", seq=31_999, rand=RAND[:8], message=MESSAGE, hashed=16),
    Case(H, Kind.RAND_COMPACT, "33 7cff", seq=31_999, rand=RAND[:2], message=MESSAGE[:16], hashed=3),
    Case(H, Kind.RESPONSE, "34 000b 0002", seq=2, rand=RAND, message=RAND[:8] + b"\x01\x17\x02", mac=MAC[:16]),
    Case(H, Kind.ACKNOWLEDGE, "35 0008 0000", rand=RAND, message=RAND[:8], mac=MAC[:16]),
    Case(H, Kind.END, "36 0018 0000", message=RAND[:8] + RAND, mac=MAC[:16]),
    Case(H, Kind.RAND_LIST, "37 0020 00fa", seq=250, rand=RAND[:8], message=MESSAGE, hashed=16),
    Case(H, Kind.DATA, "38 f050 2a", retran=15, seq=42, message=bytes(80), mac=MAC[:16]),
    Case(H, Kind.DATA_ACK, "39 f010 2b", retran=15, seq=43, message=MAC[:16]),
    Case(H, Kind.RESYNC_CALL, "3a 0018 00", rand=RAND, message=MESSAGE[:24]),
    Case(H, Kind.RESYNC_REQUEST, "3b 0030 00", rand=RAND, message=bytes(24) + MESSAGE[:24]),
    Case(H, Kind.GROUP_FRAGMENT, "3d 07", seq=7, rand=b"\x25", message=MESSAGE[:21]),
    Case(H, Kind.RESYNC_RESPONSE, "3c 0020 00", rand=RAND, message=MESSAGE, mac=MAC[:16]),
]
UNKEYED = (Kind.REQUEST, Kind.ACCEPT, Kind.RAND, Kind.RAND_COMPACT, Kind.RAND_LIST)
every_case = pytest.mark.parametrize("case", CASES, ids=str)


def padded(frame: Frame) -> bool:
    """Whether the seed of OAEP is lost in reading."""
    return frame.profile is Profile.PAPER and frame.kind in (Kind.REQUEST, Kind.ACCEPT)


def without_hash(frame: Frame) -> Frame:
    return replace(frame, mac=b"") if frame.kind in UNKEYED else frame


# --- the table --------------------------------------------------------------------------------------------------------


def test_the_table_has_every_kind_in_both_profiles() -> None:
    every = {(p, k) for p in Profile for k in Kind}
    every -= {(Profile.PAPER, kind) for kind in (Kind.RAND_LIST, Kind.GROUP_FRAGMENT)}
    assert {(case.profile, case.kind) for case in CASES} == every


def test_version_2_is_refused_with_a_sentence() -> None:
    for data in (b"\x20" + bytes(100), b"\x23" + bytes(23), b"\x28"):
        with pytest.raises(FrameError, match=r"version 2 of hardened, .* upgrade the other end"):
            decode(data)


def test_paper_has_no_list() -> None:
    with pytest.raises(FrameError) as refused:
        decode(b"\x17" + bytes(60))
    assert refused.value.reason is Malformed.KIND


@every_case
def test_a_frame_is_written_as_the_table_says(case: Case) -> None:
    assert encode(case.frame, seed=SEED).hex() == case.wire.hex()


@every_case
def test_the_bytes_of_the_table_are_read_as_that_frame(case: Case) -> None:
    assert without_hash(decode(case.wire)) == case.frame


@every_case
def test_every_truncation_is_refused(case: Case) -> None:
    for size in range(len(case.wire)):
        with pytest.raises(FrameError):
            decode(case.wire[:size])


@every_case
def test_bytes_after_a_frame_are_refused(case: Case) -> None:
    for tail in (b"\0", b"\xff", bytes(16), case.wire):
        with pytest.raises(FrameError):
            decode(case.wire + tail)


@every_case
def test_a_flipped_bit_is_another_frame_or_none_at_all(case: Case) -> None:
    """The unkeyed hash of [3] finds every one; elsewhere a bit may change a field, which the keyed HMAC then finds."""
    for bit in range(8 * len(case.wire)):
        flipped = bytearray(case.wire)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            read = decode(bytes(flipped))
        except FrameError:
            continue
        assert case.kind not in UNKEYED or read.kind not in UNKEYED
        assert read != case.frame


def test_the_golden_bytes_of_another_implementation_are_read_and_written() -> None:
    """tests/protocols/haoxiao/vectors/frames.json, for whoever implements docs/protocols/haoxiao.md."""
    vectors = json.loads(VECTORS.read_text())["frames"]
    assert len(vectors) == len(CASES)
    for vector in vectors:
        fields = {name: bytes.fromhex(vector[name]) for name in ("rand", "message", "mac")}
        kind, profile = Kind[vector["kind"]], Profile[vector["profile"].upper()]
        frame = Frame(profile, kind, vector["retran"], vector["seq"], **fields)
        wire = bytes.fromhex(vector["wire"])
        assert decode(wire) == frame
        assert encode(frame, seed=bytes.fromhex(vector["oaep_seed"])) == wire


# --- sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", Profile)
def test_a_burst_packet_fits_the_papers_64_bytes_and_its_compact_form_an_advertisement(profile: Profile) -> None:
    burst = encode(Frame(profile, Kind.RAND, rand=bytes(8), message=bytes(limits.BURST_MESSAGE_BYTES)))
    compact = encode(Frame(profile, Kind.RAND_COMPACT, rand=bytes(2), message=bytes(limits.COMPACT_MESSAGE_BYTES)))
    assert len(burst) == 61
    assert len(compact) == 24


def test_data_of_hardened_is_36_bytes_longer_than_its_message_rand_included() -> None:
    ciphertext = bytes(16 + 64)  # Rand and a message of 64 bytes
    assert len(encode(Frame(H, Kind.DATA, message=ciphertext, mac=bytes(16)))) == 64 + 36


def test_no_frame_is_larger_than_the_reader_allows() -> None:
    for case in CASES:
        if case.kind in (Kind.RAND_COMPACT, Kind.GROUP_FRAGMENT):
            continue
        largest = replace(case.frame, message=bytes(limits.MAX_LEN))
        assert len(encode(largest, seed=SEED)) <= limits.MAX_FRAME_BYTES


def test_phase_is_0_while_a_key_is_established_and_1_in_the_session() -> None:
    assert [kind.phase for kind in Kind] == [0] * 8 + [1] * 6
    assert all(kind.phase == encode(case.frame, seed=SEED)[0] >> 3 & 1 for case in CASES for kind in [case.kind])


@every_case
def test_the_authenticated_head_is_what_stands_before_rand(case: Case) -> None:
    if case.kind not in (Kind.RAND_COMPACT, Kind.GROUP_FRAGMENT):
        assert head(case.frame) == bytes.fromhex(case.start)


# --- misuse and malice ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "change"),
    [
        (CASES[2], {"retran": 16}),
        (CASES[2], {"retran": -1}),
        (CASES[2], {"seq": 65536}),
        (CASES[7], {"seq": 256}),
        (CASES[7], {"message": bytes(4096)}),
        (CASES[7], {"mac": bytes(31)}),
        (CASES[7], {"rand": b"\0"}),
        (CASES[16], {"rand": RAND[:15]}),
    ],
    ids=lambda value: "" if isinstance(value, Case) else next(iter(value)),
)
def test_a_field_that_the_wire_cannot_carry_is_the_drivers_fault(case: Case, change: dict[str, int | bytes]) -> None:
    with pytest.raises(LocalError):
        encode(replace(case.frame, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Malformed.SIZE),
        (bytes(limits.MAX_FRAME_BYTES + 1), Malformed.SIZE),
        (b"\x00" + bytes(40), Malformed.VERSION),
        (b"\x40" + bytes(40), Malformed.VERSION),
        (b"\x27" + bytes(40), Malformed.RETIRED),
        (b"\x17" + bytes(40), Malformed.KIND),
        (b"\x3e" + bytes(40), Malformed.KIND),
        (b"\x3d" + bytes(40), Malformed.SIZE),
        (b"\x3d\x00\x65" + bytes(21), Malformed.LENGTH),
        (b"\x3d\x00\x00" + bytes(21), Malformed.LENGTH),
        (b"\x38" + bytes(18), Malformed.SIZE),
        (b"\x38\x00\x01\x00" + bytes(16), Malformed.LENGTH),
        (b"\x33" + bytes(23), Malformed.CHECK),
        (b"\x33" + bytes(24), Malformed.SIZE),
        (b"\x32" + bytes(60), Malformed.CHECK),
    ],
    ids=lambda value: value.name if isinstance(value, Malformed) else "",
)
def test_the_reason_why_bytes_are_no_frame_is_told(data: bytes, reason: Malformed) -> None:
    with pytest.raises(FrameError) as error:
        decode(data)
    assert error.value.reason is reason


def test_a_request_of_paper_whose_padding_hides_another_head_is_refused() -> None:
    """[2] pads the head with the rest, and the clear head must be the same."""
    clear, inner = bytes.fromhex("1000060000"), bytes.fromhex("1000060001")
    body = clear + oaep.encode(inner + RAND + ADDRESS, seed=SEED)
    with pytest.raises(FrameError) as error:
        decode(body + hashlib.sha256(body).digest())
    assert error.value.reason is Malformed.PADDING


def assert_total(data: bytes) -> None:
    try:
        frame = decode(data)
    except FrameError:
        return
    if not padded(frame):
        assert encode(frame) == data
    else:
        assert without_hash(decode(encode(frame, seed=SEED))) == without_hash(frame)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_frame_or_a_frame_error(data: bytes) -> None:
    assert_total(data)


@given(st.sampled_from(sorted({case.profile << 4 | case.kind for case in CASES})), st.binary(max_size=120))
def test_any_bytes_after_a_known_version_and_kind_are_a_frame_or_a_frame_error(first: int, rest: bytes) -> None:
    assert_total(bytes([first]) + rest)


@given(st.sampled_from(CASES), st.integers(0, 15), st.integers(0, 65535), st.data())
def test_every_frame_that_can_be_written_is_read_back(case: Case, retran: int, seq: int, data: st.DataObject) -> None:
    sized = {Kind.RAND_COMPACT: 16, Kind.GROUP_FRAGMENT: 21}.get(case.kind)
    fragment = case.kind is Kind.GROUP_FRAGMENT
    frame = Frame(
        case.profile,
        case.kind,
        0 if sized else retran,
        seq & 255 if case.kind.phase or fragment else seq,
        data.draw(st.just(case.rand) if fragment else st.binary(min_size=len(case.rand), max_size=len(case.rand))),
        data.draw(st.binary(min_size=sized, max_size=sized) if sized else st.binary(max_size=300)),
        bytes(0 if case.kind in UNKEYED else mac_bytes(case.profile, case.kind)),
    )
    assert without_hash(decode(encode(frame, seed=SEED))) == frame


@given(st.sampled_from(Profile), st.integers(0, 15), st.integers(0, 2**47), st.binary(max_size=64))
def test_what_a_round_sends_needs_no_frame_to_be_written(profile: Profile, retran: int, seq: int, body: bytes) -> None:
    for kind in (Kind.DATA, Kind.DATA_ACK):
        frame = Frame(profile, kind, retran, seq & 255, b"", body, MAC[: mac_bytes(profile, kind)])
        assert encode_round(profile << 4 | kind, retran, seq, body, frame.mac) == encode(frame)
    with pytest.raises(LocalError):
        encode_round(profile << 4 | Kind.DATA, 0, 0, bytes(limits.MAX_LEN + 1))


def mutated(rng: random.Random, pool: list[bytes]) -> bytes:
    """A frame with some of: flipped bits, bytes cut out, bytes put in, the tail of another; hashes made good again."""
    data = bytearray(rng.choice(pool))
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(5):
            case 0 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                del data[at : at + rng.randint(1, 20)]
            case 2:
                data[at:at] = rng.randbytes(rng.randint(1, 20))
            case 3:
                data[at:] = rng.choice(pool)[at:]
            case _ if data:
                data[0] = rng.choice(list(Profile)) << 4 | rng.choice(list(Kind))
    if len(data) > 33 and rng.random() < 0.5:
        size = {Kind.RAND_COMPACT: 3}.get(data[0] & 15, rng.choice((16, 32)))  # type: ignore[call-overload]
        data[-size:] = hashlib.sha256(data[:-size]).digest()[:size]
    return bytes(data)


def test_twenty_thousand_mutated_frames_raise_nothing_but_frame_errors() -> None:
    rng, pool = random.Random(61), [case.wire for case in CASES]
    for _ in range(20_000):
        assert_total(mutated(rng, pool))


def test_the_kind_of_a_frame_is_seen_in_its_first_octet_whatever_follows() -> None:
    for first in range(256):
        for rest in (b"", bytes(60)):
            kind = peek_kind(bytes([first]) + rest)
            known = first >> 4 in set(Profile) and first & 15 in set(Kind) and first not in (0x17, 0x1D)
            assert kind == (Kind(first & 15) if known else None)
    assert peek_kind(b"") is None
    assert all(peek_kind(case.wire) is case.kind for case in CASES)


@pytest.mark.parametrize("kind", [Kind.RAND, Kind.RAND_COMPACT])
@pytest.mark.parametrize("profile", Profile)
def test_the_packets_of_a_burst_are_those_of_the_encoder_of_all_frames(profile: Profile, kind: Kind) -> None:
    (case,) = [case for case in CASES if (case.profile, case.kind) == (profile, kind)]
    frame = decode(case.wire)
    packet = burst_encoder(profile, kind, frame.rand)
    for seq in (0, 1, 255, 256, limits.MAX_BURST - 1):
        assert packet(seq, frame.message) == encode(replace(frame, seq=seq))
