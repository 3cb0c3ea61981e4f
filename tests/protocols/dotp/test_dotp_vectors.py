"""The vectors in the folder beside this: the code gives exactly these bytes, and so does another, shorter program.

Everything below the first test is written from docs/protocols/dotp.md with Python's own generator, hmac and the
cryptography package alone, as somebody else would: it reads nothing but the JSON.
"""

from __future__ import annotations

import hmac
import importlib.util
import json
import random
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

HERE = Path(__file__).parent / "vectors"
VECTORS: dict[str, Any] = json.loads((HERE / "dotp.json").read_text())
MESSAGES = [bytes.fromhex(message) for message in VECTORS["messages"]]


def test_the_code_gives_exactly_these_bytes() -> None:
    spec = importlib.util.spec_from_file_location("dotp_vectors", HERE / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.vectors() == VECTORS


def paper_keys(sn: int, policy: str, bits: int) -> list[int]:
    state = [sn]
    for i in range(1, 624):
        state.append((1812433253 * (state[-1] ^ state[-1] >> 30) + i) % 2**32)
    generator = random.Random()
    generator.setstate((3, (*state, 624), None))
    width = bits - 32

    def drawn() -> int:
        rn = 0
        for _ in range(width // 32):
            rn = rn << 32 | generator.getrandbits(32)
        return rn

    rns: list[int] = []
    for number in range(701):
        if policy in ("per-session", "per-io-inc1") and number % 5:
            rns.append((rns[-1] + (policy == "per-io-inc1")) % 2**width)
            continue
        rn = drawn()
        while policy == "per-io-nrprng" and rn in rns:
            rn = drawn()
        rns.append(rn)
    return [(sn << width) + rn for rn in rns]


@pytest.mark.parametrize("case", VECTORS["paper"], ids=lambda case: f"{case['policy']}-{case['bits']}-{case['sender']}")
def test_another_program_gives_the_papers(case: dict[str, Any]) -> None:
    sn, size = case["sn"], case["bits"] // 8
    assert sn == (1234 if case["sender"] == "client" else 2**32 - 1 - 1234)
    keys = paper_keys(sn, case["policy"], case["bits"])
    assert {number: keys[int(number)].to_bytes(size).hex() for number in case["keys"]} == case["keys"]
    assert case["psk"] == str(keys[0])
    number = 0
    for message, datagram in zip(MESSAGES, case["datagrams"], strict=True):
        sealed = number.to_bytes(4)
        for start in range(0, len(message), size):
            block = message[start : start + size]
            sealed += bytes(a ^ b for a, b in zip(block, keys[number].to_bytes(size), strict=False))
            number += 1
        assert datagram == sealed.hex()


def expand(key: bytes, info: bytes) -> bytes:
    return hmac.digest(key, info + b"\x01", "sha256")


@pytest.mark.parametrize("case", VECTORS["hardened"]["directions"], ids=lambda case: case["sender"])
def test_another_program_gives_the_hardened_ones(case: dict[str, Any]) -> None:
    first = expand(bytes.fromhex(VECTORS["hardened"]["secret"]), b"btss dotp " + case["sender"].encode())

    def key(number: int) -> bytes:
        secret = first
        for _ in range(number >> 16):
            secret = expand(secret, b"btss dotp next")
        blocks = Cipher(algorithms.AES(expand(secret, b"btss dotp key")), modes.ECB()).encryptor()
        c = number % 2**16
        return blocks.update((2 * c).to_bytes(16) + (2 * c + 1).to_bytes(16))

    assert {number: key(int(number)).hex() for number in case["keys"]} == case["keys"]
    assert case["psk"] == key(0).hex()
    for number, (message, datagram) in enumerate(zip(MESSAGES, case["datagrams"], strict=True)):
        serial = number.to_bytes(4)
        assert datagram == (serial + AESSIV(key(number)).encrypt(message, [serial])).hex()
