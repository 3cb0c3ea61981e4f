"""CPace by the draft's own vectors, and against a program of others."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import cpace
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bt_selfsecure.protocols.pairing.cpace import (
    Contribution,
    confirmation_tag,
    generator,
    intermediate_key,
    lv_cat,
    prepend_length,
    scalar_mult,
)

VECTORS = json.loads((Path(__file__).parent / "vectors/cpace_x25519.json").read_text(encoding="utf-8"))
ONE = {name: base64.b64decode(value) for name, value in VECTORS["G_25519"].items()}
octets = st.binary(max_size=40)
scalars = st.binary(min_size=32, max_size=32)


def test_lengths_are_prepended_as_in_the_draft() -> None:
    """A.1.2 and A.1.4."""
    assert prepend_length(b"") == b"\0"
    assert prepend_length(b"1234") == bytes.fromhex("0431323334")
    assert prepend_length(bytes(range(127)))[:2] == b"\x7f\0"
    assert prepend_length(bytes(range(128)))[:3] == b"\x80\x01\0"
    assert lv_cat(b"1234", b"5", b"", b"6789").hex() == "04313233340135000436373839"


def test_a_run_is_that_of_the_draft() -> None:
    """B.1.1 to B.1.5."""
    g = generator(ONE["PRS"], ONE["CI"], ONE["sid"])
    assert g == ONE["g"]
    assert (scalar_mult(ONE["ya"], g), scalar_mult(ONE["yb"], g)) == (ONE["Ya"], ONE["Yb"])
    assert scalar_mult(ONE["ya"], ONE["Yb"]) == ONE["K"] == scalar_mult(ONE["yb"], ONE["Ya"])
    ends = Contribution(ONE["Ya"], ONE["ADa"]), Contribution(ONE["Yb"], ONE["ADb"])
    assert intermediate_key(ONE["K"], *ends, ONE["sid"]) == ONE["ISK_IR"]


@pytest.mark.parametrize("point", VECTORS["low_order"])
def test_a_point_of_low_order_gives_no_key(point: str) -> None:
    """B.1.10."""
    assert scalar_mult(ONE["ya"], base64.b64decode(point)) is None


def test_the_highest_bit_of_a_share_is_not_looked_at() -> None:
    """RFC 7748 section 5; of the draft's points with that bit two are of low order without it."""
    points = [base64.b64decode(point) for point in VECTORS["low_order_after_the_highest_bit_is_cleared"]]
    for point in points:
        cleared = point[:-1] + bytes([point[-1] & 0x7F])
        assert scalar_mult(ONE["ya"], point) == scalar_mult(ONE["ya"], cleared)


@given(octets, octets, octets, octets, octets, scalars, scalars)
def test_both_ends_and_another_program_have_one_key(
    prs: bytes, ci: bytes, sid: bytes, ad_a: bytes, ad_b: bytes, ya: bytes, yb: bytes
) -> None:
    g = generator(prs, ci, sid)
    share_a, share_b = scalar_mult(ya, g), scalar_mult(yb, g)
    assert share_a is not None
    assert share_b is not None
    theirs = cpace.CPace.start(role=cpace.CPaceRole.RESPONDER, prs=prs, sid=sid, ci=ci, ad=ad_b)
    shared = scalar_mult(ya, theirs.public_share)
    assert shared is not None
    ends = Contribution(share_a, ad_a), Contribution(theirs.public_share, ad_b)
    key = intermediate_key(shared, *ends, sid)
    theirs.derive(share_a, ad_a)
    assert theirs.isk == key
    assert theirs.tag() == confirmation_tag(key, ends[1], sid)
    assert theirs.verify(confirmation_tag(key, ends[0], sid))


@given(octets, octets)
def test_another_secret_or_another_channel_is_another_generator(one: bytes, other: bytes) -> None:
    assert (generator(one, b"") == generator(other, b"")) is (one == other)
    assert (generator(b"", one) == generator(b"", other)) is (one == other)
