"""Hardened Sabour beside DTLS-ECDHE over 6LoWPAN over Bluetooth LE, between two virtual Pis, in one run.

Both Pis and the air are programs of one computer: the least times are compared, and what is above them is its own.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests" / "lab"))
from coap_table import table_over_ipsp
from running_lab import RunningLab

from bt_selfsecure.bench.coap.report import CoapBench, lines, ratios
from bt_selfsecure.bench.coap.table import Row

GETS = 10
MOST_TIME, MOST_BYTES = 0.5, 0.4


def test_sabours_handshake_and_get_take_at_most_half_of_the_time_of_libcoaps_dtls(tmp_path: Path) -> None:
    lab = RunningLab(tmp_path / "lab", ("alice", "bob"), ("--memory", "1024"))
    try:
        lab.set_loss()
        measured = table_over_ipsp(lab, GETS)
    finally:
        lab.end()
    rows = [Row(name, tuple(row["seconds"]), tuple(row["sizes"]), row["datagrams"]) for name, row in measured.items()]
    print("", *lines(CoapBench([], {"6LoWPAN over Bluetooth LE, virtual Pis": rows})), sep="\n")
    shares = [share for share in ratios(rows) if "libcoap" in share.name]
    assert shares
    assert all(share.least <= MOST_TIME and share.size <= MOST_BYTES for share in shares)
