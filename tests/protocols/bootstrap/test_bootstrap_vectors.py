"""The vectors are what the code makes, and what the specification's formulas make without the code."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

from bt_selfsecure.crypto import ccm_open, ccm_seal, cmac

VECTORS = Path(__file__).parent / "vectors"
DOCUMENT = json.loads((VECTORS / "bootstrap.json").read_text(encoding="utf-8"))
GIVEN = {name: value for name, value in DOCUMENT["given"].items() if name != "ts"}
ID, ID_C, IK, SK = (bytes.fromhex(GIVEN[name]) for name in ("id", "id_c", "ik", "sk_cs"))
TS = DOCUMENT["given"]["ts"].to_bytes(8)


def read(join: dict[str, str]) -> dict[str, bytes]:
    return {name: bytes.fromhex(value) for name, value in join.items()}


def block(key: bytes, data: bytes) -> bytes:
    cipher = Cipher(AES(key), ECB()).encryptor()
    return cipher.update(data) + cipher.finalize()


def mac(key: bytes, *parts: bytes) -> bytes:
    """AES-CMAC by hand, after RFC 4493."""
    data = b"".join(parts)

    def doubled(number: bytes) -> bytes:
        value = int.from_bytes(number) << 1
        return ((value & (1 << 128) - 1) ^ (0x87 if value >> 128 else 0)).to_bytes(16)

    k1 = doubled(block(key, bytes(16)))
    cut = max(0, (len(data) - 1) // 16 * 16)
    last = data[cut:]
    padded = last if len(last) == 16 else (last + b"\x80").ljust(16, b"\0")
    final = bytes(a ^ b for a, b in zip(padded, k1 if len(last) == 16 else doubled(k1), strict=True))
    state = bytes(16)
    for at in range(0, cut, 16):
        state = block(key, bytes(a ^ b for a, b in zip(state, data[at : at + 16], strict=True)))
    return block(key, bytes(a ^ b for a, b in zip(state, final, strict=True)))


def opened(key: bytes, flight: bytes, more: bytes = b"") -> bytes:
    return AESCCM(key, tag_length=8).decrypt(flight[1:10] + bytes(4), flight[10:], flight[:10] + more)


def test_the_vectors_are_what_the_code_makes() -> None:
    """If this fails on purpose: `python tests/protocols/bootstrap/vectors/make.py`, and say so in the specification."""
    made = runpy.run_path(str(VECTORS / "make.py"))["document"]()
    assert (VECTORS / "bootstrap.json").read_text(encoding="utf-8") == made


@pytest.mark.parametrize("number", [0, 1])
def test_a_hardened_join_is_what_the_specification_says(number: int) -> None:
    join = read(DOCUMENT["hardened"][number])
    ik = bytes.fromhex(DOCUMENT["hardened"][0]["psk"]) if number else IK
    f1, f2, f3, f4, f5, f6, f7, f8 = (join[f"f{flight}"] for flight in range(1, 9))
    tid = (1 + number).to_bytes(8)
    assert f1[:10] == b"\x01\x01" + ID
    assert f1[26:] == mac(mac(ik, b"f1"), f1[:26])[:8]
    for kind, flight in enumerate((f2, f3, f4, f5, f6, f7, f8), 2):
        assert flight[:10] == bytes([1, kind]) + tid
    rn_c, psk = join["rn_c"], join["psk"]
    up, down = mac(SK, b"up"), mac(SK, b"down")
    assert opened(up, f2) == ID_C + TS + rn_c + f1
    k0 = mac(ik, f1[10:26])
    kw = mac(k0, b"wrap", ID, ID_C, tid)
    assert psk == mac(mac(k0, rn_c), b"psk", ID, ID_C, tid)
    assert opened(down, f3) == TS + ID + kw + psk
    assert opened(kw, f4, f1) == ID_C + rn_c
    assert f5[10:] == mac(mac(psk, b"confirm i"), f1, f4, f5[:10])
    assert opened(up, f6) == ID + f5
    assert opened(down, f7) == ID
    assert f8[10:] == mac(mac(psk, b"confirm c"), f8[:10], f5)
    assert join["sk_i"] == mac(psk, b"session")
    assert join["authentication_key"] == mac(psk, b"btss authentication 1") + mac(psk, b"btss authentication 2")


def test_a_paper_join_is_what_the_paper_says() -> None:
    join = read(DOCUMENT["paper"])
    f1, f2, f3, f4, f5 = (join[f"f{flight}"] for flight in range(1, 6))
    tid = (1).to_bytes(8)
    assert f1 == ID + join["rn_i"]
    sealed = [AESCCM(SK, tag_length=8).decrypt(flight[:13], flight[13:], None) for flight in (f2, f3)]
    assert sealed == [ID_C + TS + join["rn_c"] + tid + f1, IK + TS + tid]
    psk = block(IK, bytes(a ^ b for a, b in zip(join["rn_i"], join["rn_c"], strict=True)))
    assert psk == join["psk"]
    assert f4 == tid + block(IK, join["rn_i"]) + block(IK, join["rn_c"])
    assert f5 == block(psk, join["rn_c"])


def test_a_second_join_has_nothing_of_the_first() -> None:
    first, second = (read(join) for join in DOCUMENT["hardened"])
    pieces = {data[at : at + 8] for data in first.values() for at in range(len(data) - 7)}
    shown = {bytes.fromhex(GIVEN["id"]), first["f1"][:8], first["f1"][1:9]}
    for name, data in second.items():
        if name != "f1":
            assert not {data[at : at + 8] for at in range(10, len(data) - 7)} & pieces - shown


# --- the primitives ---------------------------------------------------------------------------------------------------

_WHOLE = "".join(("6bc1bee22e409f96e93d7e117393172a", "ae2d8a571e03ac9c9eb76fac45af8e51",
                  "30c81c46a35ce411e5fbc1191a0a52ef", "f69f2445df4f9b17ad2b417be66c3710"))  # fmt: skip


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ("", "bb1d6929e95937287fa37d129b756746"),
        ("6bc1bee22e409f96e93d7e117393172a", "070a16b46b4d4144f79bdd9dd04a287c"),
        (
            "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411",
            "dfa66747de9ae63030ca32611497c827",
        ),
        (
            _WHOLE,
            "51f0bebf7e3b9d92fc49741779363cfe",
        ),
    ],
)
def test_cmac_is_that_of_rfc_4493(data: str, code: str) -> None:
    key = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
    assert cmac(key, bytes.fromhex(data)).hex() == mac(key, bytes.fromhex(data)).hex() == code


def test_ccm_is_that_of_rfc_3610() -> None:
    """Packet vector 1, whose tag has 8 bytes."""
    key = bytes.fromhex("c0c1c2c3c4c5c6c7c8c9cacbcccdcecf")
    nonce, head = bytes.fromhex("00000003020100a0a1a2a3a4a5"), bytes.fromhex("0001020304050607")
    plain = bytes(range(8, 31))
    sealed = ccm_seal(key, nonce, plain, head)
    assert sealed.hex() == "588c979a61c663d2f066d0c2c0f989806d5f6b61dac38417e8d12cfdf926e0"
    assert ccm_open(key, nonce, sealed, head) == plain
    assert ccm_open(key, nonce, sealed[:7], head) is None
    assert not any(
        ccm_open(key, nonce, bytes(o ^ (n == at) for n, o in enumerate(sealed)), head) for at in range(len(sealed))
    )


def test_flights_are_of_the_sizes_that_the_specification_tells() -> None:
    sizes = [[len(read(join)[f"f{flight}"]) for flight in range(1, 9)] for join in DOCUMENT["hardened"]]
    assert sizes == [[34, 84, 66, 42, 26, 52, 26, 26]] * 2
    assert [len(read(DOCUMENT["paper"])[f"f{flight}"]) for flight in range(1, 6)] == [24, 85, 53, 40, 16]
