"""Certificates and lists: one encoding alone, sizes, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cbor2
import pytest
from counted_bytes import counted
from hypothesis import given
from hypothesis import strategies as st
from iotcrypto_ends import COMPANY, CREATED, DEVICE, EXPIRES, PARTNER, initiator, member

from bt_selfsecure.curves import P256_ORDER
from bt_selfsecure.errors import LocalError, UnreadableError, UsageError
from bt_selfsecure.protocols.iotcrypto import limits
from bt_selfsecure.protocols.iotcrypto.canonical import MOST_DEPTH, MalformedError, decode, encode
from bt_selfsecure.protocols.iotcrypto.certificate import Certificate, Role, SecretKeys, SignedCertificate
from bt_selfsecure.protocols.iotcrypto.lists import ListedSignature, ListKind, TrustList

NAME_32 = "boiler in the cellar, third left"


def test_a_certificate_with_the_longest_name_has_230_bytes_of_the_papers_232() -> None:
    longest = member(NAME_32, Role.DEVICE, expires=limits.MOST_TIME).certificate
    assert len(longest.encode()) == 230 <= limits.MOST_CERTIFICATE_BYTES
    third_party = encode(COMPANY.secrets.sign(longest).content)
    assert len(third_party) == 1 + 17 + 66


def test_a_certificate_is_read_as_it_was_written() -> None:
    assert Certificate.decode(DEVICE.certificate.encode()) == DEVICE.certificate
    assert SignedCertificate.decode(DEVICE.signed.encode()) == DEVICE.signed
    assert SecretKeys.decode(DEVICE.secrets.encode()) == DEVICE.secrets


def test_a_change_of_any_byte_is_malformed_or_breaks_the_self_signature() -> None:
    data = DEVICE.certificate.encode()
    for at in range(len(data)):
        for flip in (1, 0x80):
            changed = data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :]
            try:
                read = Certificate.decode(changed)
            except MalformedError:
                continue
            assert not read.is_self_signed, at


def test_a_signature_is_of_one_certificate_and_one_signer() -> None:
    (by,) = DEVICE.signed.signatures
    assert DEVICE.certificate.signed_by(COMPANY.certificate, by.signature)
    assert not DEVICE.certificate.signed_by(PARTNER.certificate, by.signature)
    renewed = DEVICE.secrets.certificate(Role.DEVICE, "boiler", CREATED, EXPIRES + 1)
    assert renewed.id == DEVICE.certificate.id
    assert not renewed.signed_by(COMPANY.certificate, by.signature)


def test_who_signs_signs_the_role_too() -> None:
    (by,) = DEVICE.signed.signatures
    promoted = DEVICE.secrets.certificate(Role.GATEWAY, "boiler", CREATED, EXPIRES)
    assert not promoted.signed_by(COMPANY.certificate, by.signature)


def test_a_self_signature_is_no_signature_of_a_list() -> None:
    made = TrustList.make(ListKind.REVOCATIONS, (DEVICE.certificate.id,), CREATED, COMPANY.secrets)
    assert made.is_signed_by(COMPANY.certificate)
    assert not replace(made, signature=COMPANY.certificate.signature).is_signed_by(COMPANY.certificate)


def test_signatures_have_the_lower_of_their_two_s() -> None:
    for number in range(20):
        signature = SecretKeys.generate(counted(f"s {number}")).certificate(Role.DEVICE, "x", 1, 2).signature
        assert int.from_bytes(signature[32:]) <= P256_ORDER // 2


def test_nobody_makes_a_certificate_under_anothers_id() -> None:
    stolen = replace(PARTNER.certificate, id=DEVICE.certificate.id)
    with pytest.raises(MalformedError, match="not of its keys"):
        Certificate.decode(stolen.encode())


def content(**changed: Any) -> list[Any]:
    names = ("version", "id", "role", "name", "created", "expires", "ecdh_key", "ecdsa_key", "signature")
    made = dict(zip(names, cbor2.loads(DEVICE.certificate.encode()), strict=True)) | changed
    return list(made.values())


@pytest.mark.parametrize(
    "changed",
    [
        {"version": 2},
        {"version": True},
        {"version": 1.0},
        {"role": 4},
        {"name": ""},
        {"name": b"boiler"},
        {"name": "x" * 33},
        {"name": "boiler\x1b[2J"},
        {"name": "ü" * 17},
        {"created": EXPIRES},
        {"created": -1},
        {"expires": 1 << 32},
        {"expires": float(EXPIRES)},
        {"ecdh_key": bytes(31)},
        {"ecdsa_key": bytes(64)},
        {"signature": bytes(65)},
        {"signature": None},
    ],
    ids=str,
)
def test_what_is_no_certificate_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        Certificate.decode(encode(content(**changed)))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x18\x01",  # 1, longer than it need be
        b"\x9f\x01\xff",  # an array without its length
        b"\x5f\x41a\xff",
        b"\xc1\x00",  # a tag
        b"\xd8\x23\x63(a)",  # a tag whose value would be compiled
        b"\xfb\x3f\xf8\x00\x00\x00\x00\x00\x00",  # 1.5 in eight bytes
        b"\xa2\x61b\x01\x61a\x02",  # keys out of order
        b"\xa2\x61a\x01\x61a\x02",
        b"\x9b\x00\x00\x00\xff\xff\xff\xff\xff",  # an array of more than there is memory
        b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"\x62\xc3\x28",  # no UTF-8
        b"\x01\x01",
        b"\x81" * (MOST_DEPTH + 1) + b"\x01",
        b"\x81" * 500 + b"\x01",
        b"\xfc",
        b"\xf8\x18",
        b"\xf7",
        b"\xa1\x80\x01\x00",
    ],
    ids=lambda data: data.hex()[:24],
)
def test_there_is_one_encoding(data: bytes) -> None:
    with pytest.raises(MalformedError):
        decode(data, 1000)


PLAIN = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.text() | st.binary()
VALUES = st.recursive(
    PLAIN | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def depth(value: Any) -> int:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(depth, parts), default=0)


@given(VALUES.filter(lambda value: depth(value) < MOST_DEPTH))
def test_what_is_encoded_is_decoded(value: Any) -> None:
    assert decode(encode(value), 100_000) == value


@given(st.binary(max_size=60))
def test_whatever_is_decoded_has_no_other_encoding(data: bytes) -> None:
    try:
        value = decode(data, 60)
    except MalformedError:
        return
    assert encode(value) == data


@pytest.mark.parametrize(
    ("kind", "entries"),
    [
        (ListKind.PARTIES, (PARTNER.certificate,)),
        (ListKind.SIGNATURES, (ListedSignature(DEVICE.certificate.id, COMPANY.secrets.sign(DEVICE.certificate)),)),
        (ListKind.REVOCATIONS, (DEVICE.certificate.id, PARTNER.certificate.id)),
        (ListKind.REVOCATIONS, ()),
    ],
    ids=["parties", "signatures", "revocations", "empty"],
)
def test_a_list_is_read_as_it_was_written(kind: ListKind, entries: tuple[Any, ...]) -> None:
    made = TrustList.make(kind, entries, CREATED, COMPANY.secrets)
    assert TrustList.decode(made.encode()) == made
    assert made.is_signed_by(COMPANY.certificate)
    assert not made.is_signed_by(PARTNER.certificate)
    assert not replace(made, serial=CREATED + 1).is_signed_by(COMPANY.certificate)


def test_a_list_with_another_lists_entries_is_none() -> None:
    with pytest.raises(LocalError, match="another entry"):
        TrustList.make(ListKind.REVOCATIONS, (PARTNER.certificate,), CREATED, COMPANY.secrets)


def test_a_certificate_that_could_not_be_read_is_not_made() -> None:
    for name, expires in (("", EXPIRES), ("x" * 33, EXPIRES), ("boiler", CREATED), ("boiler", 1 << 40)):
        with pytest.raises(LocalError):
            DEVICE.secrets.certificate(Role.DEVICE, name, CREATED, expires)


def test_secrets_that_are_none_are_refused() -> None:
    for data in (b"", encode([1, bytes(32), bytes(32)]), encode([1, bytes(32), b"\xff" * 32]), encode([2, b"x", b"y"])):
        with pytest.raises(UnreadableError):
            SecretKeys.decode(data)


def test_an_end_with_anothers_certificate_is_refused() -> None:
    with pytest.raises(UsageError, match="other keys"):
        initiator(who=replace(DEVICE, secrets=PARTNER.secrets))
