"""The vectors are what the code makes, and what the specification's formulas make without the code."""

from __future__ import annotations

import hashlib
import hmac
import json
import runpy
from pathlib import Path
from typing import Any

import cpace
import pytest

VECTORS = Path(__file__).parent / "vectors"
PAIRINGS = {row["way"]: row for row in json.loads((VECTORS / "pairings.json").read_text(encoding="utf-8"))["pairings"]}
WAYS = {"words": 1, "code": 2, "call": 3}


def test_the_vectors_are_what_the_code_makes() -> None:
    """If this fails on purpose: `python tests/protocols/pairing/vectors/make.py`, and say so in the specification."""
    made = runpy.run_path(str(VECTORS / "make.py"))["document"]()
    assert (VECTORS / "pairings.json").read_text(encoding="utf-8") == made


@pytest.mark.parametrize("way", WAYS)
def test_a_pairing_is_what_the_specification_says(way: str) -> None:
    """Each formula of docs/protocols/pairing.md, with CPace of others."""
    row: dict[str, Any] = PAIRINGS[way]
    secret, run = bytes.fromhex(row["secret"]), bytes.fromhex(row["run"])
    (id_a, name_a), (id_b, name_b) = (
        (bytes.fromhex(i), n.encode()) for i, n in (row["alice"].split(), row["bob"].split())
    )
    ends = {
        role: cpace.CPace(role=role, sid=b"", ad=ad, scalar=bytes.fromhex(row[scalar]), public_share=b"")
        for role, ad, scalar in (
            (cpace.CPaceRole.INITIATOR, id_a + name_a, "scalar_a"),
            (cpace.CPaceRole.RESPONDER, id_b + name_b, "scalar_b"),
        )
    }
    g = cpace._calculate_generator(secret, b"btss pairing 1 " + way.encode(), b"")
    alice, bob = ends.values()
    for end in (alice, bob):
        share = cpace._scalar_mult_vfy(end._scalar, g)
        assert share is not None
        end.public_share = share
    share_a, share_b = alice.public_share, bob.public_share
    alice.derive(share_b, id_b + name_b)
    bob.derive(share_a, id_a + name_a)
    prk = hmac.digest(b"btss pairing", alice.isk, "sha256")

    def expand(info: bytes) -> bytes:
        return hmac.digest(prk, info + b"\1", "sha256")

    def progress(side: int, phase: int) -> bytes:
        return b"\xf4" + run + bytes([phase]) + hmac.digest(expand(b"progress"), bytes([side, phase]), "sha256")[:16]

    assert row["key"] == expand(b"authentication key").hex()
    expected = [
        b"\xf0" + run + bytes([WAYS[way]]) + id_a + share_a + name_a,
        b"\xf1" + run + id_b + share_b + bob.tag()[:16] + name_b,
        b"\xf2" + run + alice.tag()[:16],
        progress(1, 1),
    ]
    said = [bytes.fromhex(frame) for frame in row["frames"]]
    assert said[:4] == expected
    assert {progress(0, 2), progress(1, 2)} <= set(said[4:])
    assert {progress(0, 3), progress(1, 3)} <= set(said[4:])
    made = hashlib.sha256(b"btss pairing commitment" + id_b + secret + share_b).digest()[:16]
    carried = {"words": secret, "code": b"\1" + id_b + secret + made, "call": id_b + secret}
    assert row["carried"] == carried[way].hex()
