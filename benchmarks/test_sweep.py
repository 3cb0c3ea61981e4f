"""Ten million rows of CSV, imported and analysed: against polars, which counts the same jointly heard packets. A report
of a thousand settings.

Each in a process of its own, in one run, so that the ratio holds on any machine. SWEEP_ROWS=100000000 takes more rows,
in longer runs: memory stays.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

ROWS = int(os.environ.get("SWEEP_ROWS", "10000000"))
LISTENERS = ("bob", "eve", "eve2")
RUNS, SETTINGS = 4000, 6
PACKETS = ROWS // len(LISTENERS) // RUNS
TIMES_POLARS, MIB, SMALLER = 2.0, 150, 10

OURS = """if True:
    import json, sys
    from pathlib import Path
    from bt_selfsecure.cli.main import main
    csv, record = sys.argv[1:]
    assert main(["sweep", "import", "--out", record, csv]) == 0
    from bt_selfsecure.sweep.analysis import analyse
    from bt_selfsecure.sweep.store import Store
    both = dict.fromkeys(("eve", "eve2"), 0)
    with Store(record) as store:
        for pair in analyse(store).pairs:
            if pair.bob == "bob":
                both[pair.eve] += pair.both
    print(json.dumps(both))
"""
POLARS = """if True:
    import json, sys
    import polars as pl
    rows = pl.scan_csv(sys.argv[1]).select("run_distance_m", "run", "seq", "receiver", "heard")
    bob = rows.filter(pl.col("receiver") == "bob").select("run", "seq", pl.col("heard").alias("b"))
    pairs = (
        rows.filter(pl.col("receiver") != "bob")
        .join(bob, on=["run", "seq"])
        .group_by("run_distance_m", "receiver")
        .agg(
            (pl.col("heard") * pl.col("b")).sum().alias("both"),
            pl.col("b").sum(),
            pl.col("heard").sum(),
            pl.len().alias("n"),
        )
        .group_by("receiver")
        .agg(pl.col("both").sum())
    )
    print(json.dumps(dict(pairs.collect(engine="streaming").rows())))
"""


REPORT = """if True:
    import sys
    from bt_selfsecure.cli.main import main
    assert main(["sweep", "report", sys.argv[1], "--out", sys.argv[2]]) == 0
"""
SECONDS = 5.0


class Cost(NamedTuple):
    """Of one process."""

    told: str
    cpu_s: float
    mib: float


def cost(program: str, *arguments: str) -> Cost:
    """Run it; polars and pyarrow use as many threads as they like, CPU seconds are those of all."""
    child = subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    told = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    assert status == 0
    return Cost(told.splitlines()[-1], usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So many rows: runs of three listeners at six distances, RSSI with noise."""
    path = tmp_path_factory.mktemp("sweep") / "rows.csv"
    generator = np.random.default_rng(1)
    losses = np.array([0.1, 0.05, 0.2])
    with path.open("w") as text:
        text.write("run,run_distance_m,seq,receiver,heard,rssi\n")
        for run in range(RUNS):
            heard = generator.random((len(LISTENERS), PACKETS)) >= losses[:, None]
            levels = generator.normal(-62, 3, heard.shape).round().astype(int)
            for name, flags, its in zip(LISTENERS, heard.tolist(), levels.tolist(), strict=True):
                text.writelines(
                    f"{run},{1 + run % SETTINGS:.2f},{seq},{name},1,{level}\n"
                    if flag
                    else f"{run},{1 + run % SETTINGS:.2f},{seq},{name},0,\n"
                    for seq, (flag, level) in enumerate(zip(flags, its, strict=True))
                )
    return path


def test_rows_are_imported_and_analysed_at_a_column_stores_speed(table: Path) -> None:
    record = table.with_name("record.db")
    ours, polars = cost(OURS, str(table), str(record)), cost(POLARS, str(table))
    smaller = table.stat().st_size / record.stat().st_size
    rows, mib = RUNS * PACKETS * len(LISTENERS), table.stat().st_size / 2**20
    print(
        f"\n{rows:,} rows, {mib:.0f} MiB of CSV, imported and analysed: {ours.cpu_s:.2f} CPU s, {ours.mib:.0f} MiB;\n"
        f"polars, which counts the same: {polars.cpu_s:.2f} CPU s, {polars.mib:.0f} MiB: ours takes "
        f"{ours.cpu_s / polars.cpu_s:.2f} times its CPU. The record is {smaller:.0f} times smaller than the CSV."
    )
    assert json.loads(ours.told) == json.loads(polars.told)
    assert ours.cpu_s < TIMES_POLARS * polars.cpu_s
    assert ours.mib < MIB
    assert smaller > SMALLER


def test_a_thousand_settings_are_reported_in_five_seconds(tmp_path: Path) -> None:
    from bt_selfsecure.sweep.packing import Reception
    from bt_selfsecure.sweep.runs import RunInfo
    from bt_selfsecure.sweep.store import Store

    generator = np.random.default_rng(1)
    with Store(tmp_path / "record.db", create=True) as store, store.together():
        store.begin({})
        for run in range(2000):
            heard = generator.random((len(LISTENERS), 100)) >= np.array([[0.1], [0.05], [0.2]])
            rows = (
                Reception(seq, name, flag, -60.0)
                for name, flags in zip(LISTENERS, heard.tolist(), strict=True)
                for seq, flag in enumerate(flags)
            )
            store.add(RunInfo(1 + run % 1000 / 100, "le_advert", 24, 30.0, 100, "alice", run // 1000), rows)
    report = cost(REPORT, str(tmp_path / "record.db"), str(tmp_path / "report.html"))
    print(f"\na report of 1000 settings of two runs each: {report.cpu_s:.2f} CPU s, {report.mib:.0f} MiB")
    assert report.cpu_s < SECONDS
