"""Analysing ten million rows takes under a minute and under 1 GiB on two cores."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bt_selfsecure.sweep.store import Reception, RunInfo, Store

ROWS = 10_000_000
LISTENERS = ("bob", "eve", "eve2")
PACKETS = 800
SECONDS, BYTES = 60, 1 << 30

ANALYSE = """if True:
    import json, resource, sys, time
    began = time.monotonic()
    from bt_selfsecure.sweep.analysis import analyse
    from bt_selfsecure.sweep.store import Store
    with Store(sys.argv[1]) as store:
        analysis = analyse(store)
    text = json.dumps(analysis.as_json())
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps([time.monotonic() - began, peak, analysis.runs, len(text)]))
"""


@pytest.fixture(scope="module")
def ten_million(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A sweep of so many rows: 800 packets a run, three listeners, six distances."""
    path = tmp_path_factory.mktemp("sweep") / "ten-million.db"
    generator = np.random.default_rng(1)
    runs = -(-ROWS // (PACKETS * len(LISTENERS)))
    losses = np.array([0.1, 0.05, 0.2])
    with Store(path, create=True) as store:
        store.begin({})
        for run in range(runs):
            heard = generator.random((len(LISTENERS), PACKETS)) >= losses[:, None]
            rows = (
                Reception(seq, name, flag, -60.0)
                for name, flags in zip(LISTENERS, heard.tolist(), strict=True)
                for seq, flag in enumerate(flags)
            )
            store.add(RunInfo(float(1 + run % 6), "le_advert", 24, 30.0, PACKETS, "alice", run // 6), rows)
    return path, runs


def test_ten_million_rows_are_analysed_in_a_minute_and_a_gibibyte(ten_million: tuple[Path, int]) -> None:
    path, runs = ten_million
    told = subprocess.run([sys.executable, "-c", ANALYSE, str(path)], capture_output=True, text=True, check=True)
    seconds, peak, analysed, size = json.loads(told.stdout)
    print(
        f"\n{analysed * PACKETS * len(LISTENERS):,} rows: {seconds:.1f} s, {peak / 2**20:.0f} MiB, {size:,} B of JSON"
    )
    assert analysed == runs
    assert seconds < SECONDS
    assert peak < BYTES
