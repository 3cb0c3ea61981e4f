"""Table 1 over 6LoWPAN over Bluetooth LE between two machines, in its smallest form."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from coap_table import table_over_ipsp
from running_lab import RunningLab

from bt_selfsecure.bench.coap.report import HARDENED

pytestmark = pytest.mark.lab


def test_each_way_is_measured_over_the_interface(lab_of: Callable[..., RunningLab]) -> None:
    rows = table_over_ipsp(lab_of("alice", "bob", options=("--memory", "1024")), 1)
    assert {"CoAP", "CoAPS, DTLS-PSK", "D-OTP, layer object", "OSCORE", HARDENED} <= rows.keys()
    assert rows["CoAP"]["datagrams"] == 2
    assert rows[HARDENED]["datagrams"] > 2
    assert all(row["median_s"] > 0 for row in rows.values())
