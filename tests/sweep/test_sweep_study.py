from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from zlib import crc32

import pyarrow.parquet as pq
import pytest

from bt_selfsecure.cli.main import main
from bt_selfsecure.errors import UsageError
from bt_selfsecure.stats.losses import clopper_pearson, colluding_probabilities, joint_probabilities
from bt_selfsecure.sweep import study, study_cluster

GRID = """[study]
trials = 40_000
seed = 7
bob_loss = [0.1, 0.2]
eve_loss = [0.05]
correlation = [0.0, 0.2, 0.95]
packets = [100]
eves = [1, 2]
"""


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    path = tmp_path / "grid.toml"
    path.write_text(GRID)
    return path


def silent(done: int, of: int) -> None:
    pass


def test_the_simulated_shares_agree_with_the_formula_within_their_intervals(grid: Path, tmp_path: Path) -> None:
    table = study.run(study.read_grid(grid), tmp_path / "out.parquet", None, silent)
    assert len(table) == 8  # a correlation of 0.95 is not possible here
    assert all(row.trials == 40_000 for row in table)
    for row in table:
        low, high = clopper_pearson(row.broken, row.trials, 0.9999)
        assert low <= row.broken_expected <= high
        assert row.received_mean == pytest.approx(100 * (1 - row.bob_loss), rel=0.01)
        assert row.missed_mean == pytest.approx(row.received_mean * row.e_given_b, rel=0.05)
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == [row._asdict() for row in table]
    assert not list(tmp_path.glob("*.pieces"))


def test_two_eves_are_drawn_as_two_and_found_as_one_stronger_eve() -> None:
    from random import Random

    one = joint_probabilities(0.2, 0.3, 0.3)
    together = colluding_probabilities(one, 2)
    assert sum(together) == pytest.approx(1)
    random, counts = Random(3), [0, 0]
    for _ in range(40_000):
        bob = random.random() < 0.8
        misses = one.bob_only / 0.8 if bob else one.neither / 0.2
        both_miss = random.random() < misses and random.random() < misses
        counts[0] += bob and both_miss
        counts[1] += not bob and both_miss
    assert counts[0] / 40_000 == pytest.approx(together.bob_only, abs=0.004)
    assert counts[1] / 40_000 == pytest.approx(together.neither, abs=0.004)
    assert colluding_probabilities(one, 1) == pytest.approx(one)


def test_an_interrupted_study_goes_on_and_ends_with_the_same_table(
    grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = study.run(study.read_grid(grid), tmp_path / "whole.parquet", None, silent)
    out = tmp_path / "out.parquet"
    for stop_after in (32_768, 80_000, 192_768):  # establishments of whole pieces: 1, 4, 9

        def stop(done: int, of: int, stop_after: int = stop_after) -> None:
            if done == stop_after:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            study.run(study.read_grid(grid), out, None, stop)
        with (tmp_path / "out.parquet.pieces").open("a") as kept:
            kept.write("[[3, 1, 72")  # a line cut off by the plug that was pulled
    done_before: list[int] = []
    assert study.run(study.read_grid(grid), out, None, lambda done, of: done_before.append(done)) == whole
    assert (done_before[0], done_before[-1]) == (192_768, 8 * 40_000)
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert not list(tmp_path.glob("*.pieces"))


def test_pieces_of_another_grid_are_not_taken(grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(done: int, of: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study.run(study.read_grid(grid), grid.with_suffix(".parquet"), None, stop)
    grid.write_text(GRID.replace("seed = 7", "seed = 8"))
    assert main(["sweep", "study", str(grid)]) == 2
    assert "belongs to another grid" in capsys.readouterr().err
    (tmp_path / "grid.parquet.pieces").write_text("what is this\n")
    assert main(["sweep", "study", str(grid)]) == 2
    assert "damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("trials = 40_000", "trials = 0"), r"grid\.toml:2: \[study\] trials"),
        (("bob_loss = [0.1, 0.2]", "bob_loss = [0.1, 2]"), r"grid\.toml:4: .*bob_loss"),
        (("packets = [100]", "packet = [100]"), "packet is an unknown key: do you mean packets"),
        (("packets = [100]", ""), "needs packets"),
        (("correlation = [0.0, 0.2, 0.95]", "correlation = [0.95]"), "fits none of these losses"),
        (("[study]", "[survey]"), "unknown"),
    ],
)
def test_a_grid_with_a_fault_is_refused_with_its_line(grid: Path, change: tuple[str, str], words: str) -> None:
    grid.write_text(GRID.replace(*change))
    with pytest.raises(UsageError, match=words):
        study.read_grid(grid)


@pytest.mark.parametrize("between", [", ", ",\n", ",  # m\n"])
def test_a_grid_may_name_as_many_points_as_a_study_has_each_with_all_its_digits(grid: Path, between: str) -> None:
    """Lists of programs stand on one line, those of spreadsheets and editors have a line for each value."""
    number = study.MOST_POINTS if between == ", " else study.MOST_POINTS // 10
    values = [0.1 + 0.8 * i / number for i in range(number)]
    text = f"[study]\neve_loss = [0.1]\npackets = [100]\nbob_loss = [{between.join(map(str, values))}\n]\n"
    grid.write_text(text)
    assert study.read_grid(grid).bob_loss == tuple(values)
    grid.write_text(text.replace("\n]\n", "\n]\ntrials = 0\n"))
    with pytest.raises(UsageError, match=rf"grid\.toml:{text.count(chr(10)) + 1}: \[study\] trials"):
        study.read_grid(grid)


def test_a_file_that_is_larger_than_any_grid_is_refused_with_what_a_grid_has_room_for(grid: Path) -> None:
    grid.write_text("#" * (study.MOST_BYTES + 1))
    with pytest.raises(UsageError, match=r"has more than 4096 KiB: that is no study"):
        study.read_grid(grid)


def test_the_command_shows_the_table_and_names_the_file(grid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid.write_text(GRID.replace("40_000", "1000"))
    assert main(["sweep", "study", str(grid)]) == 0
    shown = capsys.readouterr().out
    assert "4 points can't be" in shown
    assert str(grid.with_suffix(".parquet")) in shown
    assert max(map(len, shown.splitlines()[:9])) <= 80
    assert main(["sweep", "study", str(grid), "--out", "x.csv"]) == 2


def test_an_empty_address_of_a_scheduler_is_none_and_not_this_computer(
    grid: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", "study", str(grid), "--scheduler", ""]) == 2
    assert "no Dask scheduler can be used at '' (missing port" in capsys.readouterr().err


@pytest.mark.long
def test_ctrl_c_ends_a_study_that_goes_on_with_the_same_command(grid: Path, tmp_path: Path) -> None:
    grid.write_text(GRID.replace("40_000", "2_000_000"))
    command = [sys.executable, "-m", "bt_selfsecure.cli.main", "sweep", "study", str(grid)]
    pieces = tmp_path / "grid.parquet.pieces"
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as interrupted:
        while not pieces.exists() or pieces.read_text().count("\n") < 5:
            time.sleep(0.01)
        interrupted.send_signal(signal.SIGINT)
        _, errors = interrupted.communicate()
    assert (interrupted.returncode, len(errors.splitlines())) == (130, 1)
    assert "goes on where it was" in errors
    kept = sum(sum(json.loads(line)[3].values()) for line in pieces.read_text().splitlines()[1:])
    done_before: list[int] = []
    study.run(study.read_grid(grid), grid.with_suffix(".parquet"), None, lambda done, of: done_before.append(done))
    assert done_before[0] == kept > 0
    assert not pieces.exists()


def test_a_point_has_the_same_row_in_every_grid(grid: Path, tmp_path: Path) -> None:
    before = study.run(study.read_grid(grid), tmp_path / "before.parquet", None, silent)
    grid.write_text(GRID.replace("[0.1, 0.2]", "[0.05, 0.1, 0.15, 0.2]").replace("[100]", "[50, 100]"))
    after = study.run(study.read_grid(grid), tmp_path / "after.parquet", None, silent)
    assert set(before) < set(after)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("tcp://127.0.0.1:99999", "a port is a number from 1 to 65535"),
        ("tcp://[::1]:0", "a port is a number from 1 to 65535"),
        ("127.0.0.1:-1", "a port is a number from 1 to 65535"),
        ("ws://127.0.0.1:dask", "a port is a number from 1 to 65535"),
        ("tcp://127.0.0.1:8786/x", "a port is a number from 1 to 65535"),
        ("tcp://127.0.0.1:" + "9" * 5000, "a port is a number from 1 to 65535"),
        ("tcp://:8786", "it names no host"),
        ("inproc://x", "inproc is within one process"),
        ("ucx://127.0.0.1:8786", "ucx takes the package distributed-ucxx, which is not installed"),
    ],
)
def test_an_address_where_nobody_can_be_is_not_waited_for(
    grid: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, address: str, why: str
) -> None:
    if not address.startswith("ucx"):  # whether the package is there only the library knows
        monkeypatch.setattr(study_cluster, "_connected", lambda *_: pytest.fail("waited"))
    assert main(["sweep", "study", str(grid), "--scheduler", address]) == 2
    assert f"no Dask scheduler can be used at {address} ({why}): start" in capsys.readouterr().err


@pytest.mark.parametrize("first", ["1", "[]", "{}", '{"grid": 1}', "null", "[1, 2]"])
def test_pieces_whose_first_line_is_gone_are_damaged(
    grid: Path, capsys: pytest.CaptureFixture[str], first: str
) -> None:
    beside = grid.with_suffix(".parquet.pieces")
    for content in ([json.loads(first)], [json.loads(first), 0, 9, {}], []):
        line = json.dumps([*content, crc32(json.dumps(content).encode())])
        beside.write_text(f"{line}\n{line}\n")
        assert main(["sweep", "study", str(grid)]) == 2
        told = capsys.readouterr().err
        assert f"{beside} is damaged (line 1 does not say what made it): remove it" in told


def test_a_zero_has_one_row_however_it_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables, shown = [], []
    for zero in ("-0.0", "0", "0.0", "-0"):
        (tmp_path / "g.toml").write_text(
            f"[study]\ntrials = 2000\nbob_loss = [{zero}, 0.3]\neve_loss = [{zero}, 0.4]\n"
            f"correlation = [{zero}]\npackets = [20]\neves = [1, 2]\n"
        )
        assert main(["sweep", "study", str(tmp_path / "g.toml")]) == 0
        shown.append(capsys.readouterr().out)
        tables.append((tmp_path / "g.parquet").read_bytes())
    assert len(set(tables)) == len(set(shown)) == 1
    rows = pq.read_table(tmp_path / "g.parquet").to_pylist()
    assert len(rows) == 8
    assert not [row for row in rows if "-0.0" in map(str, row.values())]
    assert " -0 " not in shown[0]
    assert study.Grid((0,), (-0.0,), (20,)).digest() == study.Grid((0.0,), (0.0,), (20,)).digest()  # type: ignore[arg-type]


def test_pieces_of_which_a_digit_has_changed_are_damaged_and_make_no_other_table(grid: Path) -> None:
    def stop(done: int, of: int) -> None:
        if done > 100_000:
            raise KeyboardInterrupt

    out = grid.with_suffix(".parquet")
    with pytest.raises(KeyboardInterrupt):
        study.run(study.read_grid(grid), out, None, stop)
    pieces = out.with_name("grid.parquet.pieces")
    whole = pieces.read_bytes()
    for place in [place for place, octet in enumerate(whole) if octet in b"123456789"][::7]:
        pieces.write_bytes(whole[:place] + b"0" + whole[place + 1 :])
        with pytest.raises(UsageError, match=r"is damaged .*: remove it"):
            study.run(study.read_grid(grid), out, None, silent)
    pieces.write_bytes(whole)
    assert study.run(study.read_grid(grid), out, None, silent)


def test_pieces_of_another_version_are_not_taken(
    grid: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(done: int, of: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study.run(study.read_grid(grid), grid.with_suffix(".parquet"), None, stop)
    monkeypatch.setattr("numpy.__version__", "1.0")
    assert main(["sweep", "study", str(grid)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "of another version (bt_selfsecure" in line
    assert "numpy 1.0" in line


def test_two_studies_do_not_write_one_table(grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused: list[int] = []

    def second(done: int, of: int) -> None:
        refused.append(main(["sweep", "study", str(grid)]))

    study.run(study.read_grid(grid), grid.with_suffix(".parquet"), None, second)
    assert set(refused) == {2}
    assert "another study writes" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grid.parquet", "grid.toml"]


def test_a_study_that_can_not_be_written_leaves_nothing(grid: Path, tmp_path: Path) -> None:
    (tmp_path / "out.parquet").mkdir()
    with pytest.raises(UsageError, match="it is a folder"):
        study.run(study.read_grid(grid), tmp_path / "out.parquet", None, silent)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grid.toml", "out.parquet"]


def test_a_full_disk_is_said_and_what_is_kept_goes_on(grid: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: the same error comes of the same call."""
    whole = study.run(study.read_grid(grid), tmp_path / "whole.parquet", None, silent)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, limits[1]))
    try:
        with pytest.raises(UsageError, match=r"can't write .*grid\.parquet\.pieces \(.*\): make room"):
            study.run(study.read_grid(grid), grid.with_suffix(".parquet"), None, silent)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    done_before: list[int] = []
    again = study.run(
        study.read_grid(grid), grid.with_suffix(".parquet"), None, lambda done, of: done_before.append(done)
    )
    assert again == whole
    assert done_before[0] > 0


def test_no_piece_takes_a_core_for_long_however_many_packets() -> None:
    grid = study.Grid(bob_loss=(0.1,), eve_loss=(0.1,), packets=(1, 400, 1_000_000), trials=1_000_000)
    pieces = list(study._Sums(grid).missing())
    assert max(piece.trials * piece.packets for piece in pieces) <= study.PIECE_PACKETS
    assert sum(piece.trials for piece in pieces) == 3_000_000
    batches = study.batches(piece for piece in pieces if piece.packets < 1_000_000)
    work = [sum(piece.trials * piece.packets for piece in batch) for batch in batches]
    assert len(work) < 10
