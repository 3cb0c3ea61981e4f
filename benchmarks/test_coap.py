"""Hardened Sabour over real aiocoap beside libcoap's DTLS with certificates, in one run.

On loopback time is the CPU's, and libcoap is C: what is asserted there is bytes. Over a link as slow as 6LoWPAN over
Bluetooth LE both are, of the GETs that other programs disturbed least.
"""

from __future__ import annotations

import asyncio
import shutil

import pytest

from bt_selfsecure.bench.coap.report import CoapBench, lines, ratios
from bt_selfsecure.bench.coap.table import LOOPBACK, SLOW, table

GETS = 20
MOST_TIME, MOST_BYTES = 0.5, 0.4


def test_sabours_handshake_and_get_take_at_most_two_fifths_of_the_bytes_and_half_of_the_time_of_dtls() -> None:
    if shutil.which("coap-server-openssl") is None:
        pytest.skip("libcoap3-bin is not installed")
    fast, slow = (asyncio.run(table(GETS, link)) for link in (LOOPBACK, SLOW))
    print("", *lines(CoapBench([], {LOOPBACK.name: fast, SLOW.name: slow})), sep="\n")
    assert len(ratios(fast)) == len(ratios(slow)) >= 1
    for rows in (fast, slow):
        assert all(share.size <= MOST_BYTES for share in ratios(rows))
    assert all(share.least <= MOST_TIME for share in ratios(slow))
