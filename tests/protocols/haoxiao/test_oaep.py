"""EME-OAEP against the official RSA-OAEP vectors, and against OpenSSL where a vector carries no padding string."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise

import cryptography_vectors
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from hypothesis import example, given
from hypothesis import strategies as st

from bt_selfsecure.errors import LocalError
from bt_selfsecure.protocols.haoxiao import oaep

VECTORS = "asymmetric/RSA/oaep-custom/oaep-sha256-sha256.txt"
SEEDS = st.binary(min_size=32, max_size=32)
LABEL = bytes.fromhex("00112233445566778899aabbccddeeff")


@dataclass(frozen=True)
class Vector:
    modulus: int
    private_exponent: int
    message: bytes
    encryption: bytes

    @property
    def size(self) -> int:
        """Bytes of the modulus, k of the RFC."""
        return (self.modulus.bit_length() + 7) // 8

    @cached_property
    def encoded(self) -> bytes:
        """maskedSeed || maskedDB, by raw RSA decryption (RFC 8017 section 7.1.2, step 2)."""
        encoded_message = pow(int.from_bytes(self.encryption), self.private_exponent, self.modulus).to_bytes(self.size)
        assert encoded_message[0] == 0
        return encoded_message[1:]


@cache
def vectors() -> list[Vector]:
    """The 60 vectors: a heading ("# Message:"), then a line of hex; the private exponent overwrites the public one."""
    found, fields = [], {}
    with cryptography_vectors.open_vector_file(VECTORS, "r") as file:
        lines = [line.strip() for line in file]
    for heading, value in pairwise(lines):
        if heading.startswith("#") and not value.startswith("#"):
            fields[heading.strip("# :")] = value
        if heading == "# Encryption:":
            modulus, exponent = int(fields["Modulus"], 16), int(fields["Exponent"], 16)
            found.append(Vector(modulus, exponent, bytes.fromhex(fields["Message"]), bytes.fromhex(value)))
    return found


def mgf1(seed: bytes, length: int) -> bytes:
    """RFC 8017 appendix B.2.1, written apart from the code under test."""
    mask, counter = b"", 0
    while len(mask) < length:
        mask += hashlib.sha256(seed + counter.to_bytes(4, "big")).digest()
        counter += 1
    return mask[:length]


def xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def seed_of(encoded: bytes) -> bytes:
    return xor(encoded[:32], mgf1(encoded[32:], 32))


def mask(seed: bytes, db: bytes) -> bytes:
    """Encode any data block, also one that `oaep.encode` would never write."""
    masked_db = xor(db, mgf1(seed, len(db)))
    return xor(seed, mgf1(masked_db, 32)) + masked_db


def test_every_official_vector_decodes_to_its_message() -> None:
    assert len(vectors()) == 60
    for vector in vectors():
        assert oaep.decode(vector.encoded) == vector.message


def test_encode_writes_every_official_vector_but_for_the_padding_string() -> None:
    """The same seed gives the same masks, so the two data blocks differ by what the padding string displaces alone."""
    for vector in vectors():
        official = vector.encoded
        after_lhash = bytes(len(official) - 65 - len(vector.message)) + b"\x01" + vector.message
        ours = oaep.encode(after_lhash[1:], seed=seed_of(official))
        expected = xor(after_lhash, b"\x01" + after_lhash[1:])
        assert xor(ours[32:], official[32:]) == bytes(32) + expected


@pytest.fixture(scope="module")
def private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=1024)


@pytest.mark.parametrize("label", [b"", LABEL])
def test_openssl_reads_what_encode_writes(private_key: rsa.RSAPrivateKey, label: bytes) -> None:
    message = bytes(range(128 - 66))
    public = private_key.public_key().public_numbers()
    encoded = oaep.encode(message, seed=bytes(range(32)), label=label)
    ciphertext = pow(int.from_bytes(b"\x00" + encoded), public.e, public.n).to_bytes(128)
    assert private_key.decrypt(ciphertext, openssl_oaep(label)) == message


@pytest.mark.parametrize("label", [b"", LABEL])
def test_encode_repeats_what_openssl_wrote(private_key: rsa.RSAPrivateKey, label: bytes) -> None:
    """A message as long as the modulus allows leaves no room for a padding string: the encodings are equal."""
    message = bytes(range(128 - 66))
    numbers = private_key.private_numbers()
    ciphertext = private_key.public_key().encrypt(message, openssl_oaep(label))
    encoded = pow(int.from_bytes(ciphertext), numbers.d, numbers.public_numbers.n).to_bytes(127)
    assert oaep.decode(encoded, label=label) == message
    assert oaep.encode(message, seed=seed_of(encoded), label=label) == encoded


def openssl_oaep(label: bytes) -> padding.OAEP:
    return padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=label)


@given(message=st.binary(max_size=300), seed=SEEDS, label=st.binary(max_size=40))
def test_decode_undoes_encode_at_65_bytes_more(message: bytes, seed: bytes, label: bytes) -> None:
    encoded = oaep.encode(message, seed=seed, label=label)
    assert len(encoded) == len(message) + oaep.OVERHEAD_BYTES == len(message) + 65
    assert oaep.decode(encoded, label=label) == message


@given(message=st.binary(max_size=80), seed=SEEDS, padding_bytes=st.integers(0, 300))
def test_decode_reads_past_a_padding_string_of_zeros(message: bytes, seed: bytes, padding_bytes: int) -> None:
    db = hashlib.sha256().digest() + bytes(padding_bytes) + b"\x01" + message
    assert oaep.decode(mask(seed, db)) == message


@given(message=st.binary(max_size=80), seed=SEEDS, data=st.data())
def test_one_flipped_bit_anywhere_is_rejected(message: bytes, seed: bytes, data: st.DataObject) -> None:
    """A bit of the masked data block changes the seed that is read, and so the whole block; a bit of the seed also."""
    encoded = bytearray(oaep.encode(message, seed=seed))
    bit = data.draw(st.integers(0, 8 * len(encoded) - 1))
    encoded[bit // 8] ^= 1 << bit % 8
    with pytest.raises(oaep.OaepError):
        oaep.decode(bytes(encoded))


@given(message=st.binary(max_size=80), seed=SEEDS, length=st.integers(0, 200))
def test_a_cut_or_lengthened_encoding_is_rejected(message: bytes, seed: bytes, length: int) -> None:
    encoded = oaep.encode(message, seed=seed)
    resized = encoded[:length].ljust(length, b"\x00")
    if resized != encoded:
        with pytest.raises(oaep.OaepError):
            oaep.decode(resized)


@given(seed=SEEDS, label=st.binary(max_size=40), other=st.binary(max_size=40))
def test_another_label_is_rejected(seed: bytes, label: bytes, other: bytes) -> None:
    encoded = oaep.encode(b"message", seed=seed, label=label)
    if label != other:
        with pytest.raises(oaep.OaepError):
            oaep.decode(encoded, label=other)


@given(st.binary(max_size=300))
@example(b"")
@example(bytes(64))
@example(bytes(65))
def test_decode_of_any_bytes_raises_oaep_error_alone(encoded: bytes) -> None:
    """Hypothesis never finds a SHA-256 preimage, so every draw must be refused, and in that one way."""
    with pytest.raises(oaep.OaepError):
        oaep.decode(encoded)


def test_the_error_does_not_tell_which_check_failed() -> None:
    lhash, seed = hashlib.sha256().digest(), bytes(32)
    wrong_label = mask(seed, bytes(32) + b"\x01message")
    no_separator = mask(seed, lhash + bytes(20))
    wrong_separator = mask(seed, lhash + bytes(8) + b"\x02message")
    padding_not_zero = mask(seed, lhash + b"\x00\x07\x01message")
    texts = set()
    for encoded in (b"", bytes(64), wrong_label, no_separator, wrong_separator, padding_not_zero):
        with pytest.raises(oaep.OaepError) as caught:
            oaep.decode(encoded)
        texts.add(str(caught.value))
    assert len(texts) == 1


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_seed_of_another_length_is_a_value_error(length: int) -> None:
    with pytest.raises(LocalError, match=f"32 bytes, not {length}"):
        oaep.encode(b"message", seed=bytes(length))
