"""The two suites: official vectors through our functions, and the paper's equations computed again, straight from them.

What stands here as "again" uses hashlib, hmac and AES-ECB only, and is checked by official vectors of its own.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import fields, replace

import cryptography_vectors
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from harness import DeterministicRandom
from hypothesis import given
from hypothesis import strategies as st

from bt_selfsecure import crypto
from bt_selfsecure.crypto import hkdf_expand, hkdf_extract
from bt_selfsecure.errors import LocalError
from bt_selfsecure.protocols.haoxiao import oaep
from bt_selfsecure.protocols.haoxiao.frames import Frame, Kind, Profile, decode
from bt_selfsecure.protocols.haoxiao.keychain import Chain
from bt_selfsecure.protocols.haoxiao.material import KeyShare
from bt_selfsecure.protocols.haoxiao.suites import (
    HARDENED,
    PAPER,
    SUITES,
    Attempt,
    NotAuthentic,
    PaperSuite,
    Suite,
    xor_padded,
)

PAIR = b"pair id."
KEY = bytes(range(32))
both_suites = pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.profile.label)


def official(path: str) -> list[dict[str, str]]:
    """A file of the cryptography project: lines `Name = value`; a block ends at an empty line."""
    found: list[dict[str, str]] = [{}]
    with cryptography_vectors.open_vector_file(path, "r") as file:
        for line in file:
            name, equals, value = line.partition("=")
            if equals and not line.startswith("#"):
                found[-1][name.strip()] = value.strip()
            elif not line.strip() and found[-1]:
                found.append({})
    return [block for block in found if len(block) > 1]


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def hmac_sha256(key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, hashlib.sha256).digest()


def aes_block(key: bytes, block: bytes) -> bytes:
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(block)


def aes_ctr(key: bytes, counter: bytes, data: bytes) -> bytes:
    """SP 800-38A section 6.5: the counter is a number of 128 bits that wraps."""
    start = int.from_bytes(counter)
    blocks = (aes_block(key, ((start + i) % 2**128).to_bytes(16)) for i in range(-(-len(data) // 16)))
    return bytes(a ^ b for a, b in zip(data, b"".join(blocks), strict=False))


# --- official vectors through our functions ---------------------------------------------------------------------------


@pytest.mark.parametrize("vector", official("HMAC/rfc-2202-md5.txt"), ids=lambda vector: vector["Len"])
def test_hmac_rsp_of_paper_is_hmac_md5_of_rfc_2202(vector: dict[str, str]) -> None:
    response = Frame(Profile.PAPER, Kind.RESPONSE, message=PAIR + bytes.fromhex(vector["Msg"]))
    assert PAPER.establishment_mac(bytes.fromhex(vector["Key"]), response).hex() == vector["MD"]


@pytest.mark.parametrize("vector", official("HMAC/rfc-4231-sha256.txt"), ids=lambda vector: vector["Len"])
def test_hmac_ack_of_paper_is_hmac_sha_256_of_rfc_4231(vector: dict[str, str]) -> None:
    acknowledge = Frame(Profile.PAPER, Kind.ACKNOWLEDGE, rand=bytes.fromhex(vector["Msg"]), message=PAIR)
    assert PAPER.establishment_mac(bytes.fromhex(vector["Key"]), acknowledge).hex() == vector["MD"]


@pytest.mark.parametrize("vector", official("HMAC/rfc-4231-sha256.txt"), ids=lambda vector: vector["Len"])
def test_hkdf_extract_is_hmac_sha_256_of_rfc_4231(vector: dict[str, str]) -> None:
    assert hkdf_extract(bytes.fromhex(vector["Key"]), bytes.fromhex(vector["Msg"])).hex() == vector["MD"]


def test_our_hmac_of_the_hot_path_is_hmac_sha_256_of_rfc_4231() -> None:
    """Its keys have at most 64 octets; it also gives the one-block expansion."""
    vectors = [v for v in official("HMAC/rfc-4231-sha256.txt") if len(v["Key"]) <= 2 * 64]
    assert len(vectors) >= 4
    for vector in vectors:
        key, message = bytes.fromhex(vector["Key"]), bytes.fromhex(vector["Msg"])
        assert crypto.hmac_sha256(key, message).hex() == vector["MD"]
        assert hkdf_expand(key, message, 32) == crypto.hmac_sha256(key, message + b"\x01")


def test_our_hkdf_is_that_of_rfc_5869() -> None:
    text = [block for block in official("KDF/rfc-5869-HKDF-SHA256.txt") if "IKM" in block or "OKM" in block]
    merged: list[dict[str, str]] = []
    for block in text:
        merged.append(block) if "IKM" in block else merged[-1].update(block)
    assert len(merged) == 3
    for vector in merged:
        prk = hkdf_extract(bytes.fromhex(vector["salt"]), bytes.fromhex(vector["IKM"]))
        assert prk.hex() == vector["PRK"]
        assert hkdf_expand(prk, bytes.fromhex(vector["info"]), int(vector["L"])).hex() == vector["OKM"]


def pbkdf2_once(password: bytes, salt: bytes, size: int) -> bytes:
    """RFC 8018 section 5.2 with c = 1: T_i = HMAC(P, S || INT(i))."""
    blocks = (hmac_sha256(password, salt + i.to_bytes(4)) for i in range(1, -(-size // 32) + 1))
    return b"".join(blocks)[:size]


def test_k_d_of_paper_is_pbkdf2_with_one_iteration_and_a_salt_of_one_zero_octet() -> None:
    """[8]. RFC 7914 section 11 has vectors of PBKDF2-HMAC-SHA-256; our kdf fixes the salt, so one holds the other."""
    assert pbkdf2_once(b"passwd", b"salt", 64).hex() == (
        "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"
        "49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783"
    )
    assert PAPER.derived_key(KEY) == pbkdf2_once(KEY, b"\0", 32) == PBKDF2HMAC(SHA256(), 32, b"\0", 1).derive(KEY)
    assert PAPER.derived_key(KEY).hex() == "6f5decd8f2744254e5c76e06f8b3fbf21eacd400d4867c83d815c5a34ff5e666"


SP_800_38A = (
    "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
    "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
)
F_5_5 = (
    "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
    "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6"
)


def test_the_cipher_of_paper_is_aes_256_ctr_of_sp_800_38a_with_the_hmac_as_counter() -> None:
    """F.5.5. Of the HMAC the first 16 bytes count."""
    assert isinstance(PAPER, PaperSuite)
    key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    mac = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff") + b"the other half.."
    assert PAPER._crypt(key, mac, bytes.fromhex(SP_800_38A)).hex() == F_5_5
    assert aes_ctr(key, mac[:16], bytes.fromhex(SP_800_38A)).hex() == F_5_5


def test_our_key_share_is_x25519_of_rfc_7748() -> None:
    """Section 6.1."""
    alice = KeyShare(
        lambda size: bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")[:size]
    )
    bob = KeyShare(
        lambda size: bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")[:size]
    )
    assert alice.public.hex() == "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    assert bob.public.hex() == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    shared = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
    assert alice.exchange(bob.public) == bob.exchange(alice.public) == shared


@pytest.mark.parametrize("peer", [bytes(32), b"\1" + bytes(31), b"", bytes(31), bytes(33)], ids=len)
def test_a_share_of_low_order_or_wrong_size_gives_no_secret(peer: bytes) -> None:
    assert KeyShare(DeterministicRandom(1)).exchange(peer) is None


def test_without_a_key_pair_the_shared_secret_is_empty() -> None:
    share = KeyShare(None)
    assert share.public == b""
    assert share.exchange(bytes(32)) == b""


# --- AES-SIV, once more -----------------------------------------------------------------------------------------------


def doubled(block: bytes) -> bytes:
    """dbl of RFC 5297 section 2.3, in GF(2^128)."""
    number = int.from_bytes(block) << 1
    return (number ^ (1 << 128 | 0x87) if number >> 128 else number).to_bytes(16)


def xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def cmac(key: bytes, data: bytes) -> bytes:
    """AES-CMAC, SP 800-38B; of the library, which has vectors of its own."""
    mac = CMAC(algorithms.AES(key))
    mac.update(data)
    return mac.finalize()


def siv_encrypt(key: bytes, associated: list[bytes], plaintext: bytes) -> tuple[bytes, bytes]:
    """SIV and ciphertext, RFC 5297 sections 2.4 and 2.6; two bits of the SIV are cleared before it counts."""
    half = len(key) // 2
    d = cmac(key[:half], bytes(16))
    for string in associated:
        d = xor(doubled(d), cmac(key[:half], string))
    if len(plaintext) >= 16:
        t = plaintext[:-16] + xor(plaintext[-16:], d)
    else:
        t = xor(doubled(d), (plaintext + b"\x80").ljust(16, b"\0"))
    siv = cmac(key[:half], t)
    counter = int.from_bytes(siv) & ~(1 << 63) & ~(1 << 31)
    return siv, aes_ctr(key[half:], counter.to_bytes(16), plaintext)


@pytest.mark.parametrize("vector", official("ciphers/AES/SIV/openssl.txt"), ids=lambda vector: vector["COUNT"])
def test_the_second_aes_siv_is_that_of_rfc_5297(vector: dict[str, str]) -> None:
    """COUNT 0 is A.1 of the RFC, COUNT 1 is A.2; the others have longer keys, as ours."""
    associated = [bytes.fromhex(vector[name]) for name in ("AAD", "AAD2", "AAD3") if name in vector]
    siv, ciphertext = siv_encrypt(bytes.fromhex(vector["Key"]), associated, bytes.fromhex(vector["Plaintext"]))
    assert (siv.hex(), ciphertext.hex()) == (vector["Tag"], vector["Ciphertext"])


@given(st.binary(max_size=80), st.integers(0, 2**63), st.integers(0, 15), st.binary(min_size=32, max_size=32))
def test_data_of_hardened_is_aes_siv_with_seq_and_retran_as_associated_data(
    message: bytes, seq: int, retran: int, key: bytes
) -> None:
    """Row 8. The plaintext is Rand and the message; the SIV stands in the HMAC field."""
    data, attempt = HARDENED.seal(key, seq, retran, 0, message, DeterministicRandom(5))
    rand = DeterministicRandom(5)(16)
    k_h, k_e, k_a = again_hkdf_split(key)
    siv, ciphertext = siv_encrypt(k_h + k_e, [seq.to_bytes(8) + bytes([retran])], rand + message)
    assert decode(data) == Frame(Profile.HARDENED, Kind.DATA, retran, seq % 256, b"", ciphertext, siv)
    assert attempt == Attempt(seq, retran, rand, hmac_sha256(k_a, siv)[:16])


def again_hkdf_split(key: bytes) -> tuple[bytes, bytes, bytes]:
    """Row 12: HKDF-Expand of K_i with the label, 96 bytes."""
    first = hmac_sha256(key, b"btss round\1")
    second = hmac_sha256(key, first + b"btss round\2")
    return first, second, hmac_sha256(key, second + b"btss round\3")


# --- the paper's equations, once more ---------------------------------------------------------------------------------

MESSAGES = [bytes([i]) * 32 for i in range(7)]
padded_message = st.binary(max_size=70)
round_keys = st.binary(min_size=32, max_size=32)


def test_k_0_of_paper_is_the_hash_of_the_concatenated_hashes() -> None:
    """[6] and [7] with row 3's reading of `+`."""
    digests = [sha256(m) for m in MESSAGES]  # [6]
    k0 = sha256(b"".join(digests))  # [7]
    assert PAPER.initial_key(MESSAGES, b"", b"") == k0
    assert PAPER.initial_key(MESSAGES, b"another transcript", b"another secret") == k0


def test_k_0_of_hardened_is_hkdf_with_the_transcript_as_salt() -> None:
    """Row 3: K_0 = HKDF(salt = transcript, H(H(m_0) || ...) || extra)."""
    material = sha256(b"".join(sha256(m) for m in MESSAGES)) + b"extra"
    k0 = hmac_sha256(hmac_sha256(b"transcript", material), b"btss initial key\1")
    assert HARDENED.initial_key(MESSAGES, b"transcript", b"extra") == k0
    assert HARDENED.derived_key(k0) == hmac_sha256(k0, b"btss derived key\1")


@both_suites
def test_the_order_of_the_messages_decides(suite: Suite) -> None:
    """Row 3: ascending Seq, so both ends must sort."""
    assert suite.initial_key(MESSAGES, b"", b"") != suite.initial_key(MESSAGES[::-1], b"", b"")


def test_hmac_rsp_ack_and_end_of_paper_follow_equations_9_and_10() -> None:
    """[9] is over Cpr_s alone and [10] over RandData alone; for the end the paper gives no formula."""
    cpr_s, rand_data = b"\x01\x17\x02", bytes(range(16))
    response = Frame(Profile.PAPER, Kind.RESPONSE, rand=bytes(16), message=PAIR + cpr_s)
    acknowledge = Frame(Profile.PAPER, Kind.ACKNOWLEDGE, rand=rand_data, message=PAIR)
    end = Frame(Profile.PAPER, Kind.END, message=PAIR + bytes(16))
    assert PAPER.establishment_mac(KEY, response) == hmac.new(KEY, cpr_s, hashlib.md5).digest()
    assert PAPER.establishment_mac(KEY, acknowledge) == hmac_sha256(KEY, rand_data)
    assert PAPER.establishment_mac(KEY, end) == hmac_sha256(KEY, PAIR + bytes(16))


def test_hmacs_of_hardened_cover_the_whole_frame() -> None:
    response = Frame(Profile.HARDENED, Kind.RESPONSE, 0, 3, bytes(range(16)), PAIR + b"\x01\x17\x02")
    covered = bytes.fromhex("34 000b 0003") + bytes(range(16)) + PAIR + b"\x01\x17\x02"
    assert HARDENED.establishment_mac(KEY, response) == hmac_sha256(KEY, covered)[:16]


def again_p_p(seq: int, retran: int, alpha: int, rand: bytes, message: bytes) -> bytes:
    """P_p, [1] in Fig. 2's order (row 1), alpha_s connected to the data."""
    fields = bytes([1, retran]) + len(message).to_bytes(2) + seq.to_bytes(8) + alpha.to_bytes(2)
    return fields + rand + message


@given(padded_message, st.integers(0, 2**63), st.integers(0, 15), st.integers(0, 65535), round_keys)
def test_data_of_paper_follows_equations_2_and_11_to_13(
    message: bytes, seq: int, retran: int, alpha: int, key: bytes
) -> None:
    data, attempt = PAPER.seal(key, seq, retran, alpha, message, DeterministicRandom(9))
    drawn = DeterministicRandom(9)
    rand, seed, flag = drawn(16), drawn(32), min(retran, 1)
    k_h, k_e, k_a = sha256(key + b"H"), sha256(key + b"E"), sha256(key + b"A")  # row 12
    p_m = oaep.encode(again_p_p(seq, flag, alpha, rand, message), seed=seed)  # [2]
    mac = hmac_sha256(k_h, p_m)  # [12]
    p_c = aes_ctr(k_e, mac[:16], p_m)  # [11], row 8
    exchanged = p_m[len(p_m) // 2 :] + p_m[: len(p_m) // 2]  # row 12
    assert decode(data) == Frame(Profile.PAPER, Kind.DATA, flag, seq % 256, b"", p_c, mac)
    assert attempt.ack == hmac_sha256(k_a, exchanged)  # [13]
    assert attempt.rand == rand


def xor_right_padded(*operands: bytes) -> bytes:
    """Row 11, byte by byte."""
    width = max(len(operand) for operand in operands)
    result = bytearray(width)
    for operand in operands:
        for i, byte in enumerate(operand):
            result[i] ^= byte
    return bytes(result)


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=4))
def test_unequal_operands_are_padded_with_zeros_on_the_right(operands: list[bytes]) -> None:
    assert xor_padded(*operands) == xor_right_padded(*operands)


@given(padded_message, st.integers(0, 2**63), st.integers(0, 15), round_keys, st.binary(min_size=16, max_size=16))
def test_the_key_of_paper_rolls_by_14_and_after_a_retransmission_by_15(
    message: bytes, seq: int, retran: int, key: bytes, rand: bytes
) -> None:
    following = PAPER.roll(key, Attempt(seq, retran, rand, b""), message)
    operands = (key, message, rand) if retran == 0 else (key, message, rand, seq.to_bytes(8))
    assert following == sha256(xor_right_padded(*operands))


@given(padded_message, st.integers(0, 2**63), st.integers(0, 15), round_keys, st.binary(min_size=16, max_size=16))
def test_the_key_of_hardened_rolls_by_hkdf_over_rand_message_seq_and_retran(
    message: bytes, seq: int, retran: int, key: bytes, rand: bytes
) -> None:
    """Row 11 of the reading."""
    following = HARDENED.roll(key, Attempt(seq, retran, rand, b""), message)
    fresh = rand + sha256(message) + seq.to_bytes(8) + bytes([retran])
    assert following == hmac_sha256(key, b"btss next key" + fresh + b"\1")


def test_the_two_chains_of_a_session_and_the_keys_of_a_resynchronisation_are_as_the_specification_says() -> None:
    assert PAPER.chain_key(KEY, b"label") == sha256(KEY + b"label")
    assert HARDENED.chain_key(KEY, b"label") == hmac_sha256(KEY, b"btss chain label\1")
    assert PAPER.label_mac(KEY, b"label", b"data") == hmac_sha256(sha256(KEY + b"label"), b"data")[:16]
    assert (
        HARDENED.label_mac(KEY, b"label", b"data") == hmac_sha256(hmac_sha256(KEY, b"btss mac label\1"), b"data")[:16]
    )
    assert PAPER.resync_key(KEY, b"nonces") == sha256(KEY + b"resync" + b"nonces")
    assert HARDENED.resync_key(KEY, b"nonces") == hmac_sha256(hmac_sha256(KEY, b"nonces"), b"btss resync\1")


# --- open is the inverse of seal, and of nothing else -----------------------------------------------------------------


@both_suites
@given(message=st.binary(max_size=200), seq=st.integers(0, 2**63), retran=st.integers(0, 15), key=round_keys)
def test_what_is_sealed_is_opened_with_the_same_attempt(
    suite: Suite, message: bytes, seq: int, retran: int, key: bytes
) -> None:
    data, sent = suite.seal(key, seq, retran, 0, message, DeterministicRandom(2))
    opened, received = suite.open(key, seq, decode(data))
    assert opened == message
    assert (received.rand, received.ack) == (sent.rand, sent.ack)
    assert suite.roll(key, received, opened) == suite.roll(key, sent, message)


def forgeries(frame: Frame) -> Iterator[Frame]:
    for field in ("message", "mac"):
        value = getattr(frame, field)
        for bit in (0, 8 * len(value) // 2, 8 * len(value) - 1):
            flipped = bytearray(value)
            flipped[bit // 8] ^= 1 << bit % 8
            yield replace(frame, **{field: bytes(flipped)})  # type: ignore[arg-type]
    yield replace(frame, retran=frame.retran ^ 1)
    yield replace(frame, message=frame.message[:-1])
    yield replace(frame, message=frame.message + b"\0")
    yield replace(frame, message=b"")


@both_suites
def test_a_forged_frame_another_round_and_another_key_are_not_authentic(suite: Suite) -> None:
    frame = decode(suite.seal(KEY, 300, 1, 0, b"message", DeterministicRandom(3))[0])
    for forged in forgeries(frame):
        with pytest.raises(NotAuthentic):
            suite.open(KEY, 300, forged)
    with pytest.raises(NotAuthentic):
        suite.open(KEY, 300 + 256, frame)  # the same low bits on the wire
    with pytest.raises(NotAuthentic):
        suite.open(bytes(32), 300, frame)


@both_suites
def test_every_attempt_has_its_own_acknowledgement(suite: Suite) -> None:
    """Row 10 rests on this: the acknowledgement tells which attempt was accepted."""
    random = DeterministicRandom(4)
    acks = {suite.seal(KEY, 7, retran, 0, b"message", random)[1].ack for retran in (0, 1, 1, 2, 3)}
    assert len(acks) == 5


@both_suites
def test_two_attempts_at_one_message_never_have_the_same_keystream(suite: Suite) -> None:
    """Row 8: each attempt draws a new Rand, so the synthetic IV is new, and so is the whole ciphertext."""
    random = DeterministicRandom(4)
    first, second = (decode(suite.seal(KEY, 7, retran, 0, b"message", random)[0]) for retran in (0, 1))
    assert first.mac != second.mac
    assert not any(first.message[i : i + 8] == second.message[i : i + 8] for i in range(0, len(first.message) - 8, 8))


@both_suites
def test_the_parts_of_a_round_key_are_three_and_no_object_keeps_or_shows_them(suite: Suite) -> None:
    parts = suite.split(KEY)
    assert len(parts) == 96
    k_h, k_e, k_a = parts[:32], parts[32:64], parts[64:]
    assert len({k_h, k_e, k_a}) == 3
    chain = Chain(suite, KEY, 7, 64, 0, (KEY,))
    _, attempt = chain.seal(b"message", 0, DeterministicRandom(4))
    kept = [getattr(thing, each.name) for thing in (chain, attempt) for each in fields(thing)]
    assert not any(part in kept for part in (parts, parts[:64], k_h, k_e, k_a))
    assert repr(chain) == "Chain(seq=7, checkpoint_rounds=64, alpha=0)"
    assert repr(attempt) == "Attempt(seq=7, retran=0)"


@pytest.mark.parametrize("size", [0, 1, 32, 64])
def test_our_hmac_is_that_of_the_standard_library(size: int) -> None:
    key, data = bytes(range(size)), b"data" * size
    assert crypto.hmac_sha256(key, data) == hmac.digest(key, data, "sha256")


def test_our_hmac_refuses_a_key_that_it_would_have_to_hash_first() -> None:
    with pytest.raises(LocalError, match="at most 64 bytes"):
        crypto.hmac_sha256(bytes(65), b"data")
    with pytest.raises(LocalError):
        hkdf_expand(bytes(65), b"info")


@pytest.mark.parametrize(
    ("prk", "length"),
    [(bytes(65), 31), (bytes(65), 32), (bytes(65), 33), (bytes(32), -1), (bytes(32), 8161)],
    ids=lambda value: f"{value}" if isinstance(value, int) else f"{len(value)} bytes",
)
def test_our_expansion_refuses_a_key_or_length_that_it_is_not_for(prk: bytes, length: int) -> None:
    with pytest.raises(LocalError, match=r"HKDF-Expand takes a key of at most 64 bytes and gives 0 to 8160"):
        hkdf_expand(prk, b"info", length)
